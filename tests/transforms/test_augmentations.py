"""The augmentations beside APR as torchvision transforms: the operators, seeded; what is silently wrong is refused."""

import pickle

import numpy as np
import pytest
import torch
from helpers.augmentations import smaller
from PIL import Image
from torch.autograd import forward_ad
from torch.utils.data import DataLoader
from torchvision import tv_tensors
from torchvision.transforms import v2

from apr_dali import transforms
from apr_dali.augmentations import NAMES, find, sample_and_apply
from apr_dali.errors import InputError
from apr_dali.transforms import (
    FDA,
    Afa,
    AmplitudeMix,
    Augment,
    HybridAugment,
    Prime,
    RandConv,
    SpectralGains,
    VipAug,
)

OF_IMAGES = [name for name in NAMES if not find(name).partner]
OF_BATCHES = [name for name in NAMES if find(name).partner]


def seeds(seed: int, count: int) -> list[int]:
    """Those that a transform of this seed draws with, call after call."""
    generator = np.random.default_rng((seed,))
    return [int(generator.integers(2**63)) for _ in range(count)]


@pytest.mark.parametrize("name", OF_IMAGES)
def test_of_a_picture_and_of_levels_it_is_the_operator(name, crops):
    image, settings = crops(1, 14, 18)[0], smaller(find(name))
    augment = Augment(name, seed=3, dataset="imagenet", **settings)
    planes = torch.from_numpy(image).permute(2, 0, 1)
    for seed in seeds(3, 4):
        expected = sample_and_apply(name, image[None], seed, dataset="imagenet", **settings)[0]
        picture, label = augment(Image.fromarray(image), 7)
        assert label == 7
        np.testing.assert_array_equal(np.asarray(picture), expected)
    again = Augment(name, seed=3, dataset="imagenet", **settings)(tv_tensors.Image(planes))
    assert isinstance(again, tv_tensors.Image)
    first = sample_and_apply(name, image[None], seeds(3, 1)[0], dataset="imagenet", **settings)[0]
    np.testing.assert_array_equal(again.permute(1, 2, 0).numpy(), first)


@pytest.mark.parametrize("name", [name for name in NAMES if find(name).takes == "planes"])
def test_of_a_floating_batch_it_is_the_operator(name, crops):
    images = torch.from_numpy(crops(4, 14, 18)).permute(0, 3, 1, 2) / 255
    settings = smaller(find(name))
    labels = torch.rand(4, 10)
    out, same = Augment(name, seed=5, **settings)(images, labels)
    assert same is labels
    assert torch.equal(out, sample_and_apply(name, images, seeds(5, 1)[0], **settings))


def test_the_overflow_is_followed_for_levels(crops):
    images = torch.from_numpy(crops(6, 14, 18)).permute(0, 3, 1, 2)
    published, rounded = (AmplitudeMix(seed=1, overflow=overflow)(images).int() for overflow in (None, "clamp"))
    assert set((rounded - published).unique().tolist()) == {0, 1}
    with pytest.raises(InputError, match="no effect on floating images"):
        AmplitudeMix(overflow="clamp")(images / 255)


@pytest.mark.parametrize("name", OF_BATCHES)
def test_one_image_has_no_partner(name, crops):
    image = crops(1, 8, 8)[0]
    for single in (Image.fromarray(image), torch.from_numpy(image).permute(2, 0, 1)):
        with pytest.raises(InputError, match=r"mixes the images of a batch: give it a tensor \(B, C, H, W\)"):
            Augment(name)(single)
    batch = torch.from_numpy(crops(4, 8, 8)).permute(0, 3, 1, 2)
    assert Augment(name, seed=0)(batch).shape == batch.shape


@pytest.mark.parametrize(
    ("made", "name"),
    [
        (AmplitudeMix(), "amplitude-mix"),
        (FDA(beta=(0, 0.1)), "fda"),
        (Afa(), "afa"),
        (VipAug(dataset="cifar100"), "vipaug-g"),
        (SpectralGains(), "spectral-gains"),
        (Prime(dataset="imagenet"), "prime"),
        (RandConv(mean=0, std=1), "randconv"),
        (HybridAugment("p"), "hybrid-p"),
        (HybridAugment("p", plus=True, dataset="imagenet"), "hybrid++-p"),
        (HybridAugment("s"), "hybrid-s"),
        (HybridAugment("s", plus=True), "hybrid++-s"),
    ],
)
def test_each_has_a_class(made, name):
    assert made.augmentation is find(name)
    assert name in repr(made)
    assert type(made).__name__ in transforms.__all__


def test_what_was_chosen_is_shown():
    assert repr(Afa(seed=1, mean=5)) == "Afa(afa, dataset=cifar10, seed=1, mean=5)"
    told = repr(AmplitudeMix(overflow="clamp", backend="torch"))
    assert told == "AmplitudeMix(amplitude-mix, dataset=cifar10, seed=None, overflow=clamp, backend=torch)"


def test_calls_differ_and_seeds_repeat(crops):
    image = Image.fromarray(crops(1, 12, 12)[0])
    runs = [[np.asarray(t(image)).tobytes() for _ in range(4)] for t in (Afa(seed=1), Afa(seed=1), Afa(seed=2))]
    assert len(set(runs[0])) == 4
    assert runs[0] == runs[1] != runs[2]
    torch.manual_seed(0)
    first = np.asarray(Afa()(image))
    torch.manual_seed(0)
    np.testing.assert_array_equal(np.asarray(Afa()(image)), first)


class Fifty(torch.utils.data.Dataset):
    chain = v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32, scale=True), Prime(seed=0)])

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> torch.Tensor:
        return self.chain(Image.new("RGB", (8, 8), (60, 120, 180)))


@pytest.mark.slow
@pytest.mark.usefixtures("forks")
def test_workers_differ():
    images = torch.cat(list(DataLoader(Fifty(), batch_size=4, num_workers=2, multiprocessing_context="fork")))
    assert len({image.numpy().tobytes() for image in images}) > 4


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Augment("afaa"), "no augmentation is named"),
        (lambda: Augment("hybrid-ps"), "has the stages"),
        (lambda: HybridAugment("ps"), "variant must be one of p, s"),
        (lambda: HybridAugment("p", plus=2), "plus must be one of"),
        (lambda: Afa(strength=2), "no such setting"),
        (lambda: Afa(channels=1), "no such setting: channels; it has mean, least, angles"),
        (lambda: AmplitudeMix(batch=2), "no such setting: batch"),
        (lambda: AmplitudeMix(generator=2), "no such setting: generator"),
        (lambda: SpectralGains(random=2), "no such setting: random"),
        (lambda: Afa(mean="5"), "mean must be a positive number, got '5'"),
        (lambda: Afa(least=float("nan")), "least must be a number of at least 0, got nan"),
        (lambda: AmplitudeMix(ratio="a"), "ratio must be in 0..1"),
        (lambda: FDA(beta=0.1), "beta must be two numbers in 0..0.5, the smaller first, got 0.1"),
        (lambda: FDA(beta=(0, 0.1, 0.2)), "beta must be two numbers"),
        (lambda: FDA(beta=None), "beta must be two numbers"),
        (lambda: HybridAugment("p", sigma="1"), "sigma must be a positive number"),
        (lambda: HybridAugment("p", plus=True, low_p=3), "low_p must be in 0..1"),
        (lambda: VipAug(vital="a"), "vital must be a number of at least 0"),
        (lambda: VipAug(nonvital=-1), "nonvital must be"),
        (lambda: SpectralGains(p=0.5), "p must have a share for each of amplitude, .* got 0.5"),
        (lambda: SpectralGains(phase=(0, float("inf"))), "phase must be two numbers"),
        (lambda: Prime(cuts=(1, 2)), "cuts must be"),
        (lambda: Prime(cuts=(2.5, 10)), "each of cuts must be a whole number, got 2.5"),
        (lambda: Prime(color_variance="a"), "color_variance must be a number of at least 0"),
        (lambda: Prime(sigma=-1), "sigma must be a number of at least 0, got -1"),
        (lambda: RandConv(sizes=()), r"sizes must be a list of odd numbers, .* got \(\)"),
        (lambda: RandConv(sizes=3), "sizes must be a list of odd numbers"),
        (lambda: RandConv(mean=(1, 2)), "mean must be a number, or one for each of 3 channels"),
        (lambda: RandConv(mean=float("nan")), "mean must be a number"),
        (lambda: RandConv(std="a"), "std must be a number"),
        (lambda: Augment(None), "an augmentation is a name or an Augmentation, got None"),
        (lambda: Afa(overflow="round"), "overflow must be one of"),
        (lambda: Afa(backend="numpy"), "backend must be one of"),
        (lambda: Afa(seed=-1), "seed must be"),
    ],
)
def test_what_is_wrong_is_refused_when_it_is_made(make, message):
    with pytest.raises(InputError, match=message):
        make()


FLOATS = torch.rand(2, 3, 8, 8)


@pytest.mark.parametrize(
    ("augment", "sample", "message"),
    [
        (Afa(), (FLOATS * 4,), "in 0..1, before they are normalized"),
        (Afa(), (FLOATS.long(),), "uint8 or floating tensors"),
        (Afa(), (FLOATS[0, 0],), "uint8 or floating tensors"),
        (Afa(), (FLOATS, FLOATS), "several tensors .* are stacked in one"),
        (Afa(), (tv_tensors.Image(FLOATS), FLOATS), "are stacked in one"),
        (Afa(), (np.zeros((8, 8, 3), np.uint8),), "a NumPy image is torch"),
        (Afa(), (7,), "takes PIL images or one tensor"),
        (VipAug(), (FLOATS,), "before the conversion to float"),
        (Afa(), (torch.empty(3, 0, 8),), "at least one pixel"),
    ],
)
def test_what_would_be_silently_wrong_is_refused(augment, sample, message):
    with pytest.raises(InputError, match=message):
        augment(*sample)


@pytest.mark.parametrize("name", NAMES)
def test_it_goes_to_the_workers_of_any_start_method(name, crops):
    augment = Augment(name, seed=1, **smaller(find(name)))
    images = torch.from_numpy(crops(4, 8, 8)).permute(0, 3, 1, 2)
    assert torch.equal(pickle.loads(pickle.dumps(augment))(images), augment(images))


@pytest.mark.parametrize("name", [name for name in NAMES if find(name).takes == "planes"])
def test_what_wants_a_derivative_is_refused_and_takes_no_draws(name):
    augment, images = Augment(name, seed=3, **smaller(find(name))), torch.rand(2, 3, 8, 8)
    with pytest.raises(InputError, match="not differentiable"):
        augment(images.clone().requires_grad_())
    with forward_ad.dual_level(), pytest.raises(InputError, match="not differentiable"):
        augment(forward_ad.make_dual(images, images))
    with pytest.raises(InputError, match="not differentiable"):
        torch.func.grad(lambda images: augment(images).sum())(images)
    assert torch.equal(augment(images), Augment(name, seed=3, **smaller(find(name)))(images))
