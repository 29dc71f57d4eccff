"""APR's operators in any DALI graph: they are those outside, on draws of the pipeline's seed."""

from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
from nvidia.dali import fn, pipeline_def, types

import apr_dali
from apr_dali.errors import InputError
from apr_dali.kernels import dispatch
from apr_dali.kernels.cpu import backend as native_backend
from apr_dali.pipelines import operators, per_batch


@pipeline_def(batch_size=6, num_threads=2, device_id=None, prefetch_queue_depth=1)
def graph_of(source, which, options):
    images = fn.external_source(source=source, batch=True, layout="HWC", dtype=types.UINT8)
    return images, (operators.apr_single if which == "single" else operators.apr_pair)(images, **options)


def run(which, images, seed=0, batches=1, **options) -> list[tuple[np.ndarray, np.ndarray]]:
    pipeline = graph_of(lambda: list(images), which, options, seed=seed)
    return [tuple(np.array(out.as_array()) for out in pipeline.run()) for _ in range(batches)]


def test_single_in_the_graph_is_the_operator_outside(crops, calls):
    images = crops(6, 24, 40)
    outputs = run("single", images, batches=5, overflow="clamp")
    assert len(calls) >= 5
    for (passed, out), (given, draws, options, _) in zip(outputs, calls, strict=False):
        np.testing.assert_array_equal(passed, images)
        np.testing.assert_array_equal(given, images)
        assert options["overflow"] == "clamp"
        np.testing.assert_array_equal(out, apr_dali.single(images, draws, overflow="clamp"))
    assert len({draws.operation.tobytes() for _, draws, *_ in calls}) == len(calls)  # fresh draws per batch
    assert len(np.unique(np.concatenate([draws.operation for _, draws, *_ in calls]))) > 4


@pytest.mark.parametrize("views", ["both", "mixed"])
def test_pair_in_the_graph_is_the_operator_outside(views, crops, calls):
    images = crops(6, 24, 40)
    outputs = run("pair", images, batches=12, in_scale=1 / 255, p=0.5, views=views)
    mixed = 0
    for (_, out), (_, partner, mix, *_) in zip(outputs, calls, strict=False):
        expected = apr_dali.pair(images, partner, mix, in_scale=1 / 255, with_clean=views == "both" and mix)
        # Views that would be one and the same come once.
        np.testing.assert_array_equal(out, expected[:, None] if views == "both" and not mix else expected)
        assert sorted(partner) == list(range(6))
        mixed += mix
    assert 2 <= mixed <= 10


def test_draws_follow_the_seed_of_the_pipeline(crops):
    images = crops(6, 16, 16)
    first, again, other = (run("single", images, seed=seed)[0][1] for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_images_of_several_sizes_are_refused(crops):
    images = [*crops(5, 16, 16), *crops(1, 16, 17)]
    with pytest.raises(RuntimeError, match="must have one size"):
        run("single", images)


def test_a_batch_that_lies_end_to_end_is_viewed_and_another_is_copied(crops):
    packed = crops(4, 8, 9)
    view = per_batch.as_one_array(list(packed))
    assert np.shares_memory(view, packed)
    np.testing.assert_array_equal(view, packed)
    for samples in (list(packed[::-1]), [packed[0], packed[2]], [image[:, ::2] for image in packed]):
        copied = per_batch.as_one_array(samples)
        assert not np.shares_memory(copied, packed)
        np.testing.assert_array_equal(copied, np.stack(samples))


def test_two_operators_of_a_graph_draw_different_numbers(crops):
    images = crops(6, 16, 16)

    @pipeline_def(batch_size=6, num_threads=1, device_id=None, seed=1)
    def twice():
        node = fn.external_source(source=lambda: list(images), batch=True, layout="HWC", dtype=types.UINT8)
        return operators.apr_single(node), operators.apr_single(node)

    first, second = (np.array(out.as_array()) for out in twice().run())
    assert (first != second).any()


@pytest.mark.parametrize(("operator", "given", "told"), [
    ("pair", {"p": 2}, r"p must be in 0\.\.1, got 2"),
    ("pair", {"dtype": "float64"}, "dtype must be one of float32, float16, bfloat16, got 'float64'"),
    ("pair", {"views": "clean"}, "views must be one of mixed, both, got 'clean'"),
    ("pair", {"axes": "hwc"}, "axes must be one of chw, hw, got 'hwc'"),
    ("pair", {"intermediates": "half"}, "intermediates must be one of float32, float16"),
    ("pair", {"backend": "numba"}, "backend must be one of auto, .* got 'numba'"),
    ("pair", {"backend": "torch", "threads": 2}, "threads is for the native backend"),
    ("single", {"overflow": "saturate"}, "overflow must be one of wrap, clamp, got 'saturate'"),
    ("single", {"axes": "hwc"}, "axes must be one of chw, hw, got 'hwc'"),
    ("single", {"backend": "cupy", "threads": 2}, "threads is for the native backend"),
])  # fmt: skip
def test_options_that_are_none_are_refused_when_the_graph_is_made(operator, given, told):
    with pytest.raises(InputError, match=told):
        (operators.apr_pair if operator == "pair" else operators.apr_single)(SimpleNamespace(device="cpu"), **given)


@pytest.mark.parametrize(
    "make",
    [
        operators.apr_single,
        operators.apr_pair,
        partial(operators.normalized, mean=0, std=1, dtype="float32"),
        partial(operators.corrupt, name="fog", severity=1),
    ],
)
def test_a_backend_that_cannot_run_is_refused_when_the_graph_is_made(make, monkeypatch):
    def missing(_):
        raise ImportError("it was not built")

    monkeypatch.setattr(dispatch, "availability", dispatch.availability.__wrapped__)  # without what it remembers
    monkeypatch.setattr(native_backend, "load", missing)
    with pytest.raises(RuntimeError, match="backend 'native' cannot run here: it was not built"):
        make(SimpleNamespace(device="cpu"), backend="native")
