"""The augmentations of the registry in both loaders: their views, their values, and where they go on."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

fn = pytest.importorskip("nvidia.dali.fn")

from nvidia.dali import pipeline_def, types  # noqa: E402

from apr_dali import CifarLoader, ImageNetLoader  # noqa: E402
from apr_dali.augmentations import functional, sample_and_apply  # noqa: E402
from apr_dali.augmentations.plan import TRAINABLE, form_here  # noqa: E402
from apr_dali.data.arrays import load_set  # noqa: E402
from apr_dali.errors import InputError  # noqa: E402
from apr_dali.pipelines import operators  # noqa: E402
from apr_dali.recipes import CIFAR  # noqa: E402

_SINGLE = {"threads": 1, "seed": 3, "drop_last": True}


@pytest.fixture(scope="module")
def digits():
    return load_set("digits", "train")


def cifar(digits, name: str, **options) -> CifarLoader:
    return CifarLoader(digits, 8, name, flip=False, **{"aug_form": form_here(name, "cifar10")} | _SINGLE | options)


def first(loader, count: int = 2) -> list[torch.Tensor]:
    with loader:
        return [images for (images, _), _ in zip(loader, range(count), strict=False)]


@pytest.mark.parametrize("name", TRAINABLE)
def test_each_goes_on_where_it_was_left(digits, name):
    expected = first(cifar(digits, name), 3)
    loader = cifar(digits, name)
    iterator = iter(loader)
    next(iterator)
    state = loader.state_dict()
    loader.close()
    again = cifar(digits, name)
    again.load_state_dict(state)
    for found, wanted in zip(first(again, 2), expected[1:], strict=True):
        torch.testing.assert_close(found, wanted, rtol=0, atol=0)
    assert torch.isfinite(expected[0]).all()


@pytest.mark.parametrize("name", ["prime", "afa", "amplitude-mix", "spectral-gains", "hybrid-p"])
def test_the_clean_view_is_the_image_and_the_other_is_not(digits, name):
    both = first(cifar(digits, name, aug_form="both"), 3)
    # Whole levels: what nothing but a crop has changed.
    shares = torch.cat(both)[::2] * torch.tensor(CIFAR.std).view(3, 1, 1) + torch.tensor(CIFAR.mean).view(3, 1, 1)
    levels = 255 * shares
    assert (levels - levels.round()).abs().max() < 1e-2
    assert any(not torch.equal(images[::2], images[1::2]) for images in both)


@pytest.mark.parametrize("name", ["hybrid-p", "afa", "vipaug", "hybrid-s"])
def test_types_and_orders_of_memory_are_of_the_same_images(digits, name):
    (expected,) = first(cifar(digits, name), 1)
    for dtype in ("float32", "bfloat16", "float16"):
        (found,) = first(cifar(digits, name, dtype=dtype, memory_format="channels_last"), 1)
        assert found.is_contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(found.float(), expected, rtol=2**-7, atol=2**-6)


def test_views_are_those_of_the_plan(digits):
    published = {"hybrid-p": 2, "prime": 3, "randconv": 3, "fda": 1, "vipaug": 2, "hybrid++-ps": 2, "afa+prime": 2}
    for name, views in (published | {"afa": 2, "amplitude-mix": 2}).items():
        with cifar(digits, name) as loader:
            assert loader.views == views
            images, targets = next(iter(loader))
            assert len(images) == len(targets) == 8 * loader.batch_views
    (images,) = first(cifar(digits, "prime"), 1)
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert not torch.equal(images[one::3], images[other::3])


@pytest.mark.parametrize("name", ["hybrid-ps", "vipaug", "prime", "afa"])
def test_photographs_get_them_too(sample, name):
    options = {"image_size": 32, "aug_form": form_here(name, "imagenet"), **_SINGLE}
    runs = [first(ImageNetLoader(f"{sample}/train", 4, name, **options)) for _ in range(2)]
    for one, other in zip(*runs, strict=True):
        assert torch.equal(one, other)
        assert one.shape[1:] == (3, 32, 32)
        assert torch.isfinite(one).all()
    assert not np.array_equal(runs[0][0][:4], runs[0][1][:4])


@pytest.mark.parametrize(("name", "layout"), [("afa", "HWC"), ("afa", "CHW"), ("fda", "CHW"), ("hybrid-s", "HWC")])
def test_the_operator_is_the_function_of_its_number(digits, name, layout):
    images = digits.images[:6]
    planes = np.ascontiguousarray(images.transpose(0, 3, 1, 2)) / np.float32(255)
    given = images if layout == "HWC" else planes

    @pipeline_def(batch_size=6, num_threads=1, device_id=None, seed=4, exec_dynamic=True)
    def graph():
        source = fn.external_source(lambda: list(given), batch=True, ndim=3, layout=layout)
        numbers = fn.random.uniform(range=(0.0, 2.0**31 - 1), dtype=types.INT64)
        return operators.augment(source, name, dataset="imagenet", layout=layout, numbers=numbers), numbers

    made = graph()
    made.build()
    found, numbers = (np.stack([np.asarray(sample) for sample in output]) for output in made.run())
    expected = sample_and_apply(name, given, int(numbers.reshape(-1)[0]), dataset="imagenet")
    np.testing.assert_array_equal(found, expected)


def test_the_operator_refuses_before_a_graph_runs():
    for options, says in (
        ({"layout": "CHW"}, "HWC"),
        ({"nosuch": 1}, "no such setting"),
        ({"channels": 1}, "no such setting: channels"),
        ({"dataset": "mnist"}, "cifar10"),
        ({"backend": "cupy"}, "torch"),
    ):
        with pytest.raises(InputError, match=says):
            operators.augment(SimpleNamespace(device="cpu"), "hybrid-s", **options)


def test_the_loaders_threads_and_backend_hold_for_them(digits, monkeypatch):
    asked = []
    apply = functional.apply

    def noted(*given, **options):
        asked.append((options["backend"], options["threads"]))
        return apply(*given, **options)

    monkeypatch.setattr(functional, "apply", noted)
    first(cifar(digits, "fda", threads=3), 1)
    first(cifar(digits, "fda", threads=3, backend="torch"), 1)
    assert set(asked) == {("auto", 3), ("torch", None)}


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        ("gaussian-mask", {"aug_form": "published"}, "objective without labels"),
        ("afa+prime", {"aug_form": "both"}, "published or jsd"),
        ("amplitude-mix", {"aug_form": "jsd"}, "is of afa"),
        ("amplitude-mix", {"repeat_unmixed": True}, "repeat_unmixed"),
        ("hybrid-p", {"repeat_unmixed": True, "aug_form": "replaced"}, "repeat_unmixed"),
        ("vipaug", {"aug_form": "both"}, "changes nothing"),
        ("apr-p", {"aug_form": "both"}, "changes nothing"),
        ("primes", {"aug_form": "published"}, "hybrid-p.*prime"),
        ("prime", {"aug_form": "wrong"}, "replaced"),
        ("prime", {"aug_dataset": "pacs"}, "cifar100"),
        ("prime", {"repeat_unmixed": True}, "repeat_unmixed"),
        ("randconv", {"backend": "native"}, "no form in C"),
        ("prime", {"backend": "cupy"}, "images on a CUDA device, got cpu"),
    ],
)
def test_what_does_not_go_is_refused_by_name(digits, name, options, says):
    with pytest.raises(InputError, match=says):
        CifarLoader(digits, 8, name, **_SINGLE | options)
