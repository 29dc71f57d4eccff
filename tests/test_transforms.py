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
from apr_dali.transforms import AprPair, AprSingle, Corrupt


@pytest.fixture
def image(crops):
    return crops(1, 24, 30)[0]


def test_single_of_a_picture_a_tensor_and_a_tv_tensor_is_the_operator(image):
    draws = SingleDraws.sample(1, 24, 30, int(np.random.default_rng((3,)).integers(2**63)))
    expected = apr_dali.single(image[None], draws, overflow="clamp")[0]
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


def test_corrupt_of_a_picture_and_a_batch_is_the_operator(crops):
    images = crops(3, 40, 36)
    drawn = np.random.default_rng((3,))
    draws = [
        apr_dali.CorruptionDraws.sample("snow", 2, n, 40, 36, int(drawn.integers(2**63)), parameter_set="cifar")
        for n in (1, 3)
    ]
    corrupt = Corrupt("snow", 2, seed=3, parameter_set="cifar")
    picture, label = corrupt(Image.fromarray(images[0]), 7)
    assert label == 7
    np.testing.assert_array_equal(np.asarray(picture), apr_dali.corrupt(images[:1], "snow", 2, draws[0])[0])
    tensor = corrupt(tv_tensors.Image(torch.from_numpy(images).permute(0, 3, 1, 2)))
    assert isinstance(tensor, tv_tensors.Image)
    np.testing.assert_array_equal(tensor.permute(0, 2, 3, 1).numpy(), apr_dali.corrupt(images, "snow", 2, draws[1]))


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
    out, targets = AprPair(p=1, seed=5)(images, labels)
    draws = PairDraws.sample(6, seed=np.random.default_rng((5,)), p=1)
    assert targets.tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]
    assert torch.equal(out[::2], images)
    assert torch.equal(out[1::2], apr_dali.pair(images, draws.partner))
    alone, same = AprPair(p=1, views="mixed", seed=5)(images, labels)
    assert torch.equal(alone, out[1::2])
    assert same is labels


def test_pair_keeps_soft_labels_and_dtype(crops):
    images = torch.from_numpy(crops(4, 8, 8)).permute(0, 3, 1, 2).to(torch.bfloat16)
    soft = torch.rand(4, 10)
    out, targets = AprPair(seed=0, p=1)(images, soft)
    assert out.dtype == torch.bfloat16
    assert torch.equal(targets[1::2], soft)
    for p in (0, 1):
        assert AprPair(seed=0, p=p)(images.double(), soft)[0].dtype == torch.float64


def test_pair_gives_an_unmixed_batch_once(crops):
    images = torch.from_numpy(crops(4, 8, 8)).permute(0, 3, 1, 2) / 255
    labels = torch.arange(4)
    once, repeated = AprPair(seed=5), AprPair(seed=5, repeat_unmixed=True)
    rows = []
    for _ in range(12):
        (out, targets), (both, twice) = once(images, labels), repeated(images, labels)
        rows.append(len(out))
        assert len(both) == 8
        assert twice.tolist() == labels.repeat_interleave(2).tolist()
        if rows[-1] == 4:
            assert torch.equal(out, both[::2])
            assert torch.equal(both[::2], both[1::2])
            assert torch.equal(targets, labels)
        else:
            assert torch.equal(out, both)
            assert torch.equal(targets, twice)
    assert set(rows) == {4, 8}


def test_pair_has_one_coin_for_all_processes_and_goes_on_with_it(crops):
    images = torch.from_numpy(crops(8, 8, 8)).permute(0, 3, 1, 2) / 255
    labels = torch.arange(8)

    def batches(pair: AprPair, count: int) -> list[torch.Tensor]:
        return [pair(images, labels)[0] for _ in range(count)]

    first, second = (batches(AprPair(seed=rank, coin_seed=7), 16) for rank in range(2))
    assert [len(batch) for batch in first] == [len(batch) for batch in second]
    assert {len(batch) for batch in first} == {8, 16}
    mixed = [len(batch) == 16 for batch in first]
    assert not any(torch.equal(a, b) for a, b, both in zip(first, second, mixed, strict=True) if both)
    smaller = AprPair(seed=0, coin_seed=7)
    assert [len(smaller(images[:2], labels[:2])[0]) == 4 for _ in first] == mixed
    pair = AprPair(seed=0, coin_seed=7)
    batches(pair, 5)
    again = AprPair(seed=3, coin_seed=9)
    again.load_draws_state(pair.draws_state())
    assert all(map(torch.equal, batches(again, 11), first[5:]))
    with pytest.raises(InputError, match="needs a pair with a coin_seed"):
        AprPair(seed=0).load_draws_state(pair.draws_state())
    with pytest.raises(InputError, match="needs a pair with no coin_seed"):
        again.load_draws_state(AprPair(seed=0).draws_state())


@pytest.mark.parametrize(("options", "message"), [
    ({"repeat_unmixed": True, "views": "mixed"}, "repeat_unmixed has no effect with views='mixed'"),
    ({"repeat_unmixed": "yes"}, "repeat_unmixed must be one of"),
    ({"coin_seed": -1}, "coin_seed must be at least 0"),
    ({"coin_seed": 0.5}, "coin_seed must be a whole number"),
])  # fmt: skip
def test_pair_refuses(options, message):
    with pytest.raises(InputError, match=message):
        AprPair(**options)


def test_pair_mixes_the_share_of_batches_it_is_told(crops):
    images = torch.from_numpy(crops(3, 8, 8)).permute(0, 3, 1, 2).float()
    pair = AprPair(p=0.25, views="mixed", seed=0)
    mixed = [not torch.equal(pair(images, torch.arange(3))[0], images) for _ in range(400)]
    # A permutation of three leaves all in place one time in six.
    assert abs(np.mean(mixed) - 0.25 * 5 / 6) < 0.06


def test_pair_takes_an_image_tensor_of_torchvision(crops):
    images = torch.from_numpy(crops(4, 8, 8)).permute(0, 3, 1, 2).float()
    expected, _ = AprPair(1, seed=2)(images, torch.arange(4))
    out, targets = AprPair(1, seed=2)(tv_tensors.Image(images), torch.arange(4))
    assert isinstance(out, tv_tensors.Image)
    assert torch.equal(out.as_subclass(torch.Tensor), expected)
    assert targets.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]


def test_one_view_leaves_labels_of_any_kind_alone(crops):
    images = torch.from_numpy(crops(2, 8, 8)).permute(0, 3, 1, 2).float()
    for labels in (["cat", "dog"], {"label": [1, 2]}, None):
        assert AprPair(views="mixed")(images, labels)[1] is labels


def test_no_images_are_a_batch():
    none = torch.zeros(0, 3, 8, 8)
    out, labels = AprPair(1)(none, torch.zeros(0, dtype=torch.int64))
    assert (out.shape, labels.shape) == ((0, 3, 8, 8), (0,))
    assert AprSingle()(none.to(torch.uint8)).shape == (0, 3, 8, 8)


def test_a_gradient_is_refused_and_not_dropped():
    images = torch.rand(2, 3, 8, 8, requires_grad=True)
    with pytest.raises(InputError, match="not differentiable"):
        AprPair()(images, torch.arange(2))
    with torch.no_grad():
        assert AprPair(views="mixed")(images, torch.arange(2))[0].shape == images.shape


# ---- draws -----------------------------------------------------------------------------------------------------------


def results(image, batch, **options) -> list[bytes]:
    """What six calls of each transform give."""
    single, pair = AprSingle(**options), AprPair(**options)
    made = [single(torch.from_numpy(image).permute(2, 0, 1)) for _ in range(6)]
    made += [pair(batch, torch.arange(len(batch)))[0] for _ in range(6)]
    return [out.numpy().tobytes() for out in made]


def test_without_a_seed_the_draws_are_those_of_torchs_generator(image, crops):
    batch = torch.from_numpy(crops(6, 8, 8)).permute(0, 3, 1, 2).float()
    runs = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        runs.append([results(image, batch), results(image, batch)])
    assert runs[0] == runs[1]
    assert runs[0][0] != runs[0][1], "another transform goes on, it does not begin again"
    assert runs[0] != runs[2], "processes that are seeded differently draw differently"


def test_with_a_seed_torchs_generator_changes_nothing(image, crops):
    batch = torch.from_numpy(crops(6, 8, 8)).permute(0, 3, 1, 2).float()
    torch.manual_seed(0)
    first = results(image, batch, seed=4)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    assert results(image, batch, seed=4) == first
    assert torch.equal(torch.get_rng_state(), before)


class Repeated(Dataset):
    def __init__(self, image, seed):
        self.image, self.transform = Image.fromarray(image), AprSingle(seed=seed)

    def __len__(self):
        return 12

    def __getitem__(self, index):
        return np.asarray(self.transform(self.image)).copy()


@pytest.mark.usefixtures("forks")
@pytest.mark.parametrize("own", [1, None])
def test_workers_and_epochs_differ_and_a_seeded_loader_repeats_itself(image, own):
    def epochs(seed: int) -> list[list[bytes]]:
        generator = torch.Generator().manual_seed(seed)
        loader = DataLoader(Repeated(image, own), 6, num_workers=2, generator=generator, multiprocessing_context="fork")
        return [[item.numpy().tobytes() for batch in loader for item in batch] for _ in range(2)]

    first, again = epochs(0), epochs(0)
    assert first == again
    assert first[0] != first[1]  # epochs differ
    assert first[0][:6] != first[0][6:]  # workers differ


PICTURE = Image.new("RGB", (8, 8))
LEVELS = np.zeros((8, 8, 3), np.uint8)
FLOATS = torch.zeros(2, 3, 8, 8)


@pytest.mark.parametrize(("sample", "named"), [
    (LEVELS, "ndarray"),
    ((LEVELS, 3), "ndarray, int"),
    ({"image": LEVELS, "label": 3}, "ndarray, int"),
    ([LEVELS, LEVELS], "ndarray, ndarray"),
    ((PICTURE, LEVELS), "Image, ndarray"),
    (np.zeros((3, 8, 8), np.float32), "ndarray"),
    (tv_tensors.Video(torch.zeros(2, 3, 8, 8, dtype=torch.uint8)), "Video"),
    ((PICTURE, tv_tensors.Video(torch.zeros(2, 3, 8, 8, dtype=torch.uint8))), "Image, Video"),
    ((tv_tensors.Mask(torch.zeros(8, 8, dtype=torch.uint8)), 1), "Mask, int"),
    (2 * [torch.zeros(3, 8, 8, dtype=torch.uint8)], "Tensor, Tensor"),
    ((PICTURE, torch.zeros(3, 8, 8, dtype=torch.uint8)), "Image, Tensor"),
    ("photo.jpg", "str"),
    (None, "NoneType"),
    ([], "nothing"),
])  # fmt: skip
def test_single_passes_nothing_through_in_place_of_an_image(sample, named):
    with pytest.raises(InputError, match=rf"takes PIL images or one uint8 tensor .* got {named}; a NumPy image is"):
        AprSingle()(sample)


def test_what_stands_beside_an_image_passes_through(image):
    beside = {"soft": np.ones(4), "box": tv_tensors.BoundingBoxes([[0, 0, 4, 4]], format="XYXY", canvas_size=(24, 30))}
    beside |= {"mask": tv_tensors.Mask(torch.ones(24, 30, dtype=torch.uint8)), "name": "x", "label": torch.tensor(3)}
    out = AprSingle(seed=3)({"image": Image.fromarray(image), **beside})
    assert all(out[name] is value for name, value in beside.items())


def test_single_opens_pictures_of_any_mode_as_the_loaders_do():
    ramp = np.arange(64 * 64, dtype=np.uint16).reshape(64, 64) * 16
    for seed in range(4):
        expected = AprSingle(seed=seed)(Image.fromarray(np.rint(ramp / 257).astype(np.uint8)).convert("RGB"))
        assert np.array_equal(AprSingle(seed=seed)(Image.fromarray(ramp)), expected)
    with pytest.raises(InputError, match=r"must be in 0\.\.1, got 0\.\.255"):
        AprSingle()(Image.fromarray(np.float32([[0, 255]])))


@pytest.mark.parametrize(("call", "message"), [
    (lambda: AprSingle()(torch.zeros(3, 8, 8)), "before the conversion to float; got torch.float32"),
    (lambda: AprSingle()(torch.zeros(1, 8, 8, dtype=torch.uint8)), r"\(\.\.\., 3, H, W\)"),
    (lambda: AprPair()(torch.zeros(2, 3, 8, 8, dtype=torch.uint8), torch.zeros(2)), "after the conversion to float"),
    (lambda: AprPair(p=1.5), r"p must be in 0\.\.1, got 1\.5"),
    (lambda: AprPair(views="all"), "mixed, both"),
    (lambda: AprSingle(overflow="saturate"), "wrap, clamp"),
    (lambda: AprSingle(seed=1.5), r"seed must be a whole number .* got 1\.5"),
    (lambda: AprPair(seed=-1), "seed must be a whole number .* got -1"),
    (lambda: AprPair()(FLOATS, [0, 1]), r"expected a tensor \(2, \.\.\.\), got list"),
    (lambda: AprPair()(FLOATS, {"label": torch.arange(2)}), "got dict"),
    (lambda: AprPair()(FLOATS, np.arange(2)), "got ndarray"),
    (lambda: AprPair()(FLOATS, torch.arange(3)), r"got a tensor \(3,\)"),
    (lambda: AprPair()(FLOATS, torch.tensor(1)), r"got a tensor \(\)"),
    (lambda: AprPair()(FLOATS.numpy(), torch.arange(2)), "batch of floating images .* got ndarray"),
    (lambda: Corrupt("mist", 1), "no corruption is named 'mist'"),
    (lambda: Corrupt("fog", 0), "1 to 5, got 0"),
    (lambda: Corrupt("fog", 1, backend="cuda"), "backend must be .*got 'cuda'"),
    (lambda: Corrupt("fog", 1)(FLOATS), r"Corrupt takes PIL images or uint8 tensors .* got torch.float32"),
    (lambda: Corrupt("fog", 1)(FLOATS.byte()), "at least 32 pixels per side, got 8 × 8"),
    (lambda: AprPair()([FLOATS], torch.arange(1)), "batch of floating images .* got list"),
    (lambda: AprPair()(tv_tensors.Video(FLOATS), torch.arange(2)), "batch of floating images .* got Video"),
    (lambda: AprPair(p="0.5"), r"p must be in 0\.\.1, got '0\.5'"),
    (lambda: AprPair(backend="cuda"), "backend must be one of auto, .*, got 'cuda'"),
    (lambda: AprSingle(backend="cuda"), "backend must be one of auto, .*, got 'cuda'"),
    (lambda: AprSingle()(torch.zeros(3, 0, 8, dtype=torch.uint8)), "at least one pixel, got height 0 and width 8"),
    (lambda: AprSingle()(torch.zeros(2, 3, 8, 0, dtype=torch.uint8)), "at least one pixel, got height 8 and width 0"),
    (lambda: AprSingle()(Image.new("RGB", (0, 5))), "at least one pixel, got height 5 and width 0"),
    (lambda: AprSingle()(Image.new("La", (5, 5))), "mode La cannot be made RGB"),
    (lambda: AprSingle()(torch.zeros(3, 8, 8, dtype=torch.int64)), "got torch.int64"),
    (lambda: AprPair()(FLOATS[:, :, :0], torch.arange(2)), r"must not be empty, got the shape \(2, 3, 0, "),
    (lambda: AprPair()(FLOATS.bool(), torch.arange(2)), "got torch.bool"),
    (lambda: AprPair()(FLOATS[0], torch.arange(3)), r"got torch.float32 with the shape \(3, 8, 8\)"),
])  # fmt: skip
def test_wrong_arguments_are_refused(call, message):
    with pytest.raises((InputError, ValueError), match=message):
        call()


def test_an_image_of_a_pixel_and_none_at_all_are_images():
    pixel = torch.tensor([[[7]], [[8]], [[9]]], dtype=torch.uint8)
    for seed in range(8):
        assert AprSingle("clamp", seed=seed)(pixel).shape == (3, 1, 1)
    assert AprSingle()(torch.zeros(0, 3, 8, 8, dtype=torch.uint8)).shape == (0, 3, 8, 8)
    # One pixel has an amplitude and a sign for its phase.
    images = torch.tensor([1.0, -2.0]).reshape(2, 1, 1, 1)
    mixed, _ = AprPair(1.0, views="mixed", seed=2)(images, None)
    assert mixed.flatten().abs().sort().values.tolist() == [1, 2]
    assert mixed.sign().equal(images.sign())


def test_how_an_image_lies_in_memory_changes_nothing(crops):
    batch = torch.from_numpy(crops(4, 16, 16)).permute(0, 3, 1, 2)[:, :, ::2, 1::3]
    assert torch.equal(AprSingle(seed=5)(batch), AprSingle(seed=5)(batch.contiguous()))
    floats, labels = batch / 255, torch.arange(4)
    lying = floats.transpose(2, 3).contiguous().transpose(2, 3)
    assert torch.equal(AprPair(1.0, seed=5)(lying, labels)[0], AprPair(1.0, seed=5)(floats.contiguous(), labels)[0])


@pytest.mark.parametrize("seed", [None, 1])
def test_a_transform_that_refuses_takes_no_draws(seed):
    images = torch.zeros((2, 4, 3, 8, 8), dtype=torch.uint8)
    pair, single = AprPair(seed=seed, views="mixed"), AprSingle(seed=seed)
    before = torch.get_rng_state(), pair.draws_state()
    for given in (images[0].float().requires_grad_(), images[0, 0].float()):
        with pytest.raises(InputError, match=r"not differentiable|a batch of floating images"):
            pair(given, None)
    for function, given in ((single, images), (lambda batch: pair(batch, None)[0], images.float())):
        with pytest.raises(InputError, match=r"with memory of their own, which torch\.func"):
            torch.vmap(function, randomness="different")(given)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert pair.draws_state() == before[1]
