"""APR in DALI's dynamic mode: the numbers of the plain functions and of a pipeline, the draws, what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from nvidia.dali import fn, pipeline_def, types

import apr_dali
from apr_dali.errors import InputError
from apr_dali.pipelines import operators, stages
from apr_dali.pipelines.dynamic import apr_pair, apr_single, ndd
from apr_dali.pipelines.newer import require
from apr_dali.recipes import IMAGENET

COUNT, SIZE = 4, 16
MIXED, UNMIXED = (apr_dali.PairDraws(np.array([2, 0, 3, 1]), mix) for mix in (True, False))


@pytest.fixture
def images(crops) -> np.ndarray:
    return crops(COUNT, SIZE, SIZE)


def batch_of(images: np.ndarray):
    return ndd.as_batch(images, layout="HWC" if images.dtype == np.uint8 else "CHW")


def test_single_is_that_of_a_pipeline(images):
    draws, expected = stages.run_single(images, IMAGENET, "cpu", None)
    found = apr_single(batch_of(images), draws=draws)
    assert found.layout == "HWC"
    np.testing.assert_array_equal(found.torch(), expected)
    np.testing.assert_array_equal(found.torch(), apr_dali.single(images, draws))


@pipeline_def(batch_size=COUNT, num_threads=1, device_id=None)
def pair_pipeline(images: np.ndarray, draws: apr_dali.PairDraws, options: dict):
    given = fn.external_source(source=lambda: images, batch=True)
    partner = fn.external_source(source=lambda: draws.partner.astype(np.int32), batch=True)
    coin = fn.external_source(source=lambda: np.full(COUNT, not draws.mix, np.float32), batch=True, dtype=types.FLOAT)
    return operators.apr_pair(given, 0.5, draws=(partner, coin), **options)


@pytest.mark.parametrize("draws", [MIXED, UNMIXED], ids=["mixed", "unmixed"])
@pytest.mark.parametrize("views", [("both", False), ("both", True), ("mixed", False)])
def test_pair_is_that_of_a_pipeline(images, draws, views):
    options = {"views": views[0], "repeat_unmixed": views[1], "in_scale": 1 / 255, "dtype": "float16"}
    made = pair_pipeline(images, draws, options)
    expected = np.asarray(made.run()[0].as_tensor())
    found = apr_pair(batch_of(images), draws=draws, **options)
    assert found.layout == ("FCHW" if views[0] == "both" else "CHW")
    np.testing.assert_array_equal(found.torch(), expected)


def test_images_that_lie_apart_are_one_batch(images):
    apart = ndd.as_batch([batch_of(images).tensors[n] for n in (3, 1)])
    draws = apr_dali.SingleDraws.sample(2, SIZE, SIZE, seed=0)
    np.testing.assert_array_equal(apr_single(apart, draws=draws).torch(), apr_dali.single(images[[3, 1]], draws))


def test_floating_images_are_chw(images):
    floating = images.transpose(0, 3, 1, 2).astype(np.float32)
    found = apr_pair(batch_of(np.ascontiguousarray(floating)), draws=MIXED, views="mixed").torch()
    np.testing.assert_array_equal(found, apr_dali.pair(floating, MIXED.partner))


def test_draws_follow_the_generator(images):
    def drawn(rng):
        made = apr_single(batch_of(images), rng=rng)
        return apr_pair(made, 1.0, rng=rng, views="mixed").torch()

    first, again, other = (drawn(ndd.random.RNG(seed=seed)) for seed in (1, 1, 2))
    ndd.random.set_seed(1)
    assert torch.equal(first, again)
    assert torch.equal(first, drawn(None))
    assert not torch.equal(first, other)


def test_the_coin_mixes_its_share(images):
    rng = ndd.random.RNG(seed=0)
    views = [apr_pair(batch_of(images), 0.25, rng=rng).shape[0][0] for _ in range(200)]
    assert 0.15 < sum(count == 2 for count in views) / len(views) < 0.35


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (lambda images: images, "takes a Batch of images, got ndarray: make it one with ndd.as_batch"),
        (
            lambda images: ndd.as_batch([images[0], images[1][:5]]),
            r"must have one size, got \(5, 16, 3\), \(16, 16, 3\)",
        ),
        (
            lambda images: ndd.as_batch(images.transpose(0, 3, 1, 2).copy(), layout="CHW"),
            r"HWC or floating ones CHW, got",
        ),
        (lambda images: ndd.as_batch(images.astype(np.float32), layout="HWC"), r"got f32 HWC of the shape"),
        (lambda images: ndd.as_batch(images.astype(np.int32)), "got i32"),
        (lambda images: ndd.as_batch(images[..., 0].copy()), r"of the shape \(16, 16\)"),
    ],
)
@pytest.mark.parametrize("operator", [apr_single, apr_pair])
def test_what_is_no_batch_of_images_is_refused(images, operator, made, words):
    with pytest.raises(InputError, match=words):
        operator(made(images))


@pytest.mark.parametrize(
    ("operator", "options", "words"),
    [
        (apr_pair, {"p": 1.5}, "p must be in 0..1"),
        (apr_pair, {"dtype": "bfloat16"}, "dtype must be one of float32, float16"),
        (apr_pair, {"views": "clean"}, "views must be one of"),
        (apr_pair, {"views": "mixed", "repeat_unmixed": True}, "repeat_unmixed has no effect"),
        (apr_pair, {"draws": MIXED, "rng": ndd.random.RNG(seed=1)}, "rng has no effect with draws"),
        (
            apr_pair,
            {"draws": apr_dali.SingleDraws.sample(1, SIZE, SIZE, 0)},
            "draws must be PairDraws, got SingleDraws",
        ),
        (apr_pair, {"rng": np.random.default_rng(1)}, r"rng must be an ndd\.random\.RNG, got Generator"),
        (apr_pair, {"memory_format": "channels_last"}, "memory_format is not for dynamic mode"),
        (apr_pair, {"with_clean": True}, "with_clean is not for dynamic mode"),
        (apr_single, {"draws": MIXED}, "draws must be SingleDraws, got PairDraws"),
        (apr_single, {"rng": 3}, r"rng must be an ndd\.random\.RNG, got int"),
        (apr_single, {"overflow": "cut"}, "overflow must be one of"),
    ],
)
def test_options_that_are_none_are_refused(images, operator, options, words):
    with pytest.raises(InputError, match=words):
        operator(batch_of(images), **options)


def test_what_an_older_dali_lacks_is_named():
    with pytest.raises(ImportError, match=r"nvidia\.dali\.absent needs DALI 9\.1 or newer, found \d+\.\d+"):
        require("nvidia.dali.absent", "9.1")
