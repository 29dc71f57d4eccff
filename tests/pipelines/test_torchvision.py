"""APR in DALI's torchvision-compatible API: the numbers of a pipeline of one's own, layouts, what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from nvidia.dali import fn, pipeline_def
from PIL import Image

import apr_dali
from apr_dali.errors import InputError
from apr_dali.pipelines import operators

pytest.importorskip("nvidia.dali.experimental.torchvision")

from nvidia.dali.experimental import torchvision as tv

from apr_dali.pipelines.torchvision import AprPair, AprSingle

COUNT, SIZE, SEED = 4, 16, 5
HOW = {"batch_size": COUNT, "num_threads": 1, "device_id": None, "seed": SEED}


pytestmark = pytest.mark.usefixtures("no_driver")


@pytest.fixture
def images(crops) -> torch.Tensor:
    """uint8 (N, C, H, W)."""
    return torch.from_numpy(crops(COUNT, SIZE, SIZE)).permute(0, 3, 1, 2).contiguous()


@pipeline_def(**HOW, exec_dynamic=True, prefetch_queue_depth=1)
def own(images: np.ndarray, single: bool, pair: dict | None):
    given = fn.external_source(source=lambda: images, batch=True, layout="HWC")
    if single:
        given = operators.apr_single(given)
    return given if pair is None else operators.apr_pair(given, **pair)


def numbers_of(single: bool, pair: dict | None, images: torch.Tensor, batches: int) -> list[np.ndarray]:
    pipeline = own(images.permute(0, 2, 3, 1).contiguous().numpy(), single, pair)
    return [np.array(pipeline.run()[0].as_tensor()) for _ in range(batches)]


def test_single_is_that_of_a_pipeline(images):
    made = tv.Compose([AprSingle()], **HOW)
    for expected in numbers_of(True, None, images, 2):
        found = made(images)
        assert found.dtype == torch.uint8
        np.testing.assert_array_equal(found.permute(0, 2, 3, 1), expected)
        assert not torch.equal(found, images)


@pytest.mark.parametrize("views", ["both", "mixed"])
@pytest.mark.parametrize("kind", [torch.uint8, torch.float32])
def test_pair_is_that_of_a_pipeline(images, views, kind):
    options = {"p": 0.5, "views": views, "in_scale": 1 / 255, "dtype": "float16"}
    made = tv.Compose([AprPair(**options)], **HOW)
    shapes = set()
    for expected in numbers_of(False, options, images, 6):
        found = made(images.to(kind))
        shapes.add(tuple(found.shape))
        np.testing.assert_array_equal(found, expected)
    one, two = (COUNT, 1, 3, SIZE, SIZE), (COUNT, 2, 3, SIZE, SIZE)
    assert shapes == ({one, two} if views == "both" else {(COUNT, 3, SIZE, SIZE)})


def test_both_stand_among_operators_of_dali(images, calls):
    """What they get is what stands before them gave, and what comes is what they gave."""
    made = tv.Compose([tv.RandomHorizontalFlip(p=1.0), AprSingle(), AprPair(1.0, views="mixed")], **HOW)
    found = made(images)
    (single_in, draws, *_, single_out), (pair_in, *_, pair_out) = calls
    np.testing.assert_array_equal(single_in, images.flip(3).permute(0, 2, 3, 1))
    np.testing.assert_array_equal(single_out, apr_dali.single(single_in, draws))
    np.testing.assert_array_equal(pair_in, single_out.transpose(0, 3, 1, 2))
    np.testing.assert_array_equal(found, pair_out)


def test_single_takes_a_picture(images, calls):
    picture = Image.fromarray(images[0].permute(1, 2, 0).numpy())
    found = tv.Compose([AprSingle()], **HOW | {"batch_size": 1})(picture)
    as_tensor = tv.Compose([AprSingle(), tv.PILToTensor()], **HOW | {"batch_size": 1})(picture)
    assert isinstance(found, Image.Image)
    np.testing.assert_array_equal(np.asarray(found), calls[0][-1][0])
    np.testing.assert_array_equal(as_tensor.permute(1, 2, 0), np.asarray(found))


def test_pair_refuses_a_picture(images):
    made = tv.Compose([AprPair(), tv.PILToTensor()], **HOW | {"batch_size": 1})
    with pytest.raises(RuntimeError, match="a PIL image comes alone, and has no partner"):
        made(Image.fromarray(images[0].permute(1, 2, 0).numpy()))


def test_pair_takes_tensors_after_an_operator_that_keeps_their_layout(images):
    found = tv.Compose([tv.Resize((8, 8)), AprPair(1.0, views="mixed")], **HOW)(images)
    assert found.shape == (COUNT, 3, 8, 8)


@pytest.mark.parametrize(
    ("operator", "given", "message"),
    [
        (AprSingle, {"overflow": "wrapped"}, "overflow must be one of"),
        (AprSingle, {"axes": "hw c"}, "axes must be one of"),
        (AprSingle, {"backend": "fast"}, "backend must be one of"),
        (AprSingle, {"device": "cuda"}, "device must be one of cpu, gpu, got 'cuda'"),
        (AprPair, {"device": "cuda"}, "device must be one of cpu, gpu, got 'cuda'"),
        (AprPair, {"p": 2}, r"p must be in 0\.\.1, got 2"),
        (AprPair, {"dtype": "bfloat16"}, "dtype must be one of float32, float16"),
        (AprPair, {"views": "two"}, "views must be one of"),
        (AprPair, {"views": "mixed", "repeat_unmixed": True}, "repeat_unmixed"),
    ],
)
def test_what_is_refused(operator, given, message):
    with pytest.raises(InputError, match=message):
        operator(**given)
