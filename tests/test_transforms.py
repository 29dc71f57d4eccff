"""The torchvision transforms: the same operators, seeded, composable, also in the workers of a DataLoader."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision import tv_tensors
from torchvision.transforms import v2

import apr_dali
from apr_dali.draws import PairDraws, SingleDraws
from apr_dali.errors import InputError
from apr_dali.transforms import AprPair, AprSingle


@pytest.fixture
def image(crops):
    return crops(1, 24, 30)[0]


def test_single_of_a_picture_a_tensor_and_a_tv_tensor_is_the_operator(image):
    draws = SingleDraws.sample(1, 24, 30, int(np.random.default_rng((3,)).integers(2**63)))
    expected = apr_dali.single(image[None], draws, "clamp")[0]
    assert (expected != image).any()
    picture = AprSingle("clamp", seed=3)(Image.fromarray(image))
    assert isinstance(picture, Image.Image)
    np.testing.assert_array_equal(np.asarray(picture), expected)
    planes = torch.from_numpy(image).permute(2, 0, 1)
    tensor = AprSingle("clamp", seed=3)(planes)
    np.testing.assert_array_equal(tensor.permute(1, 2, 0).numpy(), expected)
    wrapped = AprSingle("clamp", seed=3)(tv_tensors.Image(planes))
    assert isinstance(wrapped, tv_tensors.Image)
    assert torch.equal(wrapped.as_subclass(torch.Tensor), tensor)


def test_single_leaves_labels_alone_and_composes(image):
    chain = v2.Compose([AprSingle(seed=1), v2.PILToTensor(), v2.ToDtype(torch.float32, scale=True)])
    out, label = chain(Image.fromarray(image), 7)
    assert label == 7
    assert out.shape == (3, 24, 30)
    assert 0 <= out.min() < out.max() <= 1


def test_single_of_a_batch_draws_for_each_image(image):
    batch = torch.from_numpy(np.repeat(image[None], 16, axis=0)).permute(0, 3, 1, 2)
    out = AprSingle(seed=0)(batch)
    assert len({item.numpy().tobytes() for item in out}) > 8
    nested = AprSingle(seed=0)(batch.reshape(4, 4, 3, 24, 30))
    assert torch.equal(nested.reshape(out.shape), out)


def test_calls_differ_and_seeds_repeat(image):
    first, again, other = AprSingle(seed=1), AprSingle(seed=1), AprSingle(seed=2)
    runs = [[np.asarray(t(Image.fromarray(image))).tobytes() for _ in range(6)] for t in (first, again, other)]
    assert len(set(runs[0])) > 2
    assert runs[0] == runs[1] != runs[2]


def test_pair_gives_both_views_side_by_side(crops):
    images = torch.from_numpy(crops(6, 16, 20)).permute(0, 3, 1, 2).float() / 255
    labels = torch.arange(6)
    out, targets = AprPair(probability=1, seed=5)(images, labels)
    draws = PairDraws.sample(6, seed=np.random.default_rng((5,)), probability=1)
    assert targets.tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]
    assert torch.equal(out[::2], images)
    assert torch.equal(out[1::2], apr_dali.pair(images, draws.partner))
    alone, same = AprPair(probability=1, views="mixed", seed=5)(images, labels)
    assert torch.equal(alone, out[1::2])
    assert same is labels


def test_pair_keeps_soft_labels_and_dtype(crops):
    images = torch.from_numpy(crops(4, 8, 8)).permute(0, 3, 1, 2).to(torch.bfloat16)
    soft = torch.rand(4, 10)
    out, targets = AprPair(seed=0)(images, soft)
    assert out.dtype == torch.bfloat16
    assert torch.equal(targets[1::2], soft)
    assert AprPair(seed=0)(images.double(), soft)[0].dtype == torch.float64


def test_pair_mixes_the_share_of_batches_it_is_told(crops):
    images = torch.from_numpy(crops(3, 8, 8)).permute(0, 3, 1, 2).float()
    pair = AprPair(probability=0.25, views="mixed", seed=0)
    mixed = [not torch.equal(pair(images, torch.arange(3))[0], images) for _ in range(400)]
    # A permutation of three leaves all in place one time in six.
    assert abs(np.mean(mixed) - 0.25 * 5 / 6) < 0.06


class Repeated(Dataset):
    def __init__(self, image):
        self.image, self.transform = Image.fromarray(image), AprSingle(seed=1)

    def __len__(self):
        return 12

    def __getitem__(self, index):
        return np.asarray(self.transform(self.image)).copy()


def test_workers_and_epochs_differ_and_a_seeded_loader_repeats_itself(image):
    def epochs(seed: int) -> list[list[bytes]]:
        generator = torch.Generator().manual_seed(seed)
        loader = DataLoader(Repeated(image), 6, num_workers=2, generator=generator, multiprocessing_context="fork")
        return [[item.numpy().tobytes() for batch in loader for item in batch] for _ in range(2)]

    first, again = epochs(0), epochs(0)
    assert first == again
    assert first[0] != first[1]  # epochs differ
    assert first[0][:6] != first[0][6:]  # workers differ


@pytest.mark.parametrize(("call", "message"), [
    (lambda: AprSingle()(torch.zeros(3, 8, 8)), "before the conversion to float; got torch.float32"),
    (lambda: AprSingle()(torch.zeros(1, 8, 8, dtype=torch.uint8)), r"\(\.\.\., 3, H, W\)"),
    (lambda: AprPair()(torch.zeros(2, 3, 8, 8, dtype=torch.uint8), torch.zeros(2)), "after the conversion to float"),
    (lambda: AprPair(probability=1.5), r"0\.\.1, got 1\.5"),
    (lambda: AprPair(views="all"), "mixed, both"),
    (lambda: AprSingle(overflow="saturate"), "wrap, clamp"),
])  # fmt: skip
def test_wrong_arguments_are_refused(call, message):
    with pytest.raises((InputError, ValueError), match=message):
        call()
