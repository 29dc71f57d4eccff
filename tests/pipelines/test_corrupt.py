"""The corruptions as operators of a DALI graph."""

from types import SimpleNamespace

import numpy as np
import pytest
from nvidia.dali import fn, pipeline_def, types

import apr_dali
from apr_dali import CorruptionDraws
from apr_dali.errors import InputError
from apr_dali.kernels import corruptions
from apr_dali.kernels.dispatch import Availability
from apr_dali.pipelines import operators

BATCH = 4


def run(images, numbers=None, pipeline_seed=0, **options) -> np.ndarray:
    """The corrupted images of all batches."""
    batches = range(0, len(images), BATCH)

    def batches_of(values):
        return (list(values[first : first + BATCH]) for first in batches)

    @pipeline_def(batch_size=BATCH, num_threads=1, device_id=None, prefetch_queue_depth=1)
    def graph():
        node = fn.external_source(source=batches_of(images), batch=True, layout="HWC", dtype=types.UINT8)
        given = None
        if numbers is not None:
            given = fn.external_source(source=batches_of(numbers[:, None]), batch=True, dtype=types.INT64)
        return operators.corrupt(node, numbers=given, **options)

    pipeline = graph(seed=pipeline_seed)
    return np.concatenate([np.array(pipeline.run()[0].as_array()) for _ in batches])


@pytest.mark.parametrize("name", ["gaussian_noise", "snow", "jpeg_compression"])
def test_images_have_the_draws_of_their_numbers(name, crops):
    images = crops(2 * BATCH, 40, 48)
    numbers = np.array([3, 5, 0, 7, 2, 6, 1, 4])
    got = run(images, numbers, name=name, severity=2, seed=11)
    draws = CorruptionDraws.sample(name, 2, 2 * BATCH, 40, 48, seed=11)
    expected = apr_dali.corrupt(images[np.argsort(numbers)], name, 2, draws)
    np.testing.assert_array_equal(got, expected[numbers])


def test_without_numbers_the_pipelines_seed_draws(crops):
    images = np.repeat(crops(1, 40, 48), 2 * BATCH, axis=0)
    options = {"name": "impulse_noise", "severity": 3, "parameter_set": "cifar"}

    def drawn(pipeline_seed):
        return run(images, pipeline_seed=pipeline_seed, **options)

    first = drawn(1)
    np.testing.assert_array_equal(drawn(1), first)
    assert (drawn(2) != first).any()
    # Each image of each batch has draws of its own.
    assert len(np.unique(first.reshape(2 * BATCH, -1), axis=0)) == 2 * BATCH


def test_what_cannot_be_is_refused_before_the_graph_runs():
    with pytest.raises(InputError, match="no corruption is named 'mist'"):
        operators.corrupt(None, "mist", 1)
    with pytest.raises(InputError, match="1 to 5, got 9"):
        operators.corrupt(None, "fog", 9)
    with pytest.raises(InputError, match="seed must be at least 0, got -1"):
        operators.corrupt(None, "fog", 1, seed=-1)
    with pytest.raises(InputError, match="backend must be one of auto, numpy, native, cupy, got 'cuda'"):
        operators.corrupt(None, "fog", 1, backend="cuda")


def test_each_device_has_its_backends(monkeypatch):
    cpu, gpu = SimpleNamespace(device="cpu"), SimpleNamespace(device="gpu")
    monkeypatch.setattr(corruptions.dispatch, "availability", lambda _: Availability(False, "no NVIDIA driver"))
    with pytest.raises(InputError, match="backend 'cupy' is for images on a CUDA device"):
        operators.corrupt(cpu, "contrast", 1, backend="cupy")
    with pytest.raises(InputError, match="backend='native' runs on the CPU, got images on the GPU"):
        operators.corrupt(gpu, "contrast", 1, backend="native")
    with pytest.raises(InputError, match="threads=2 runs on the CPU, got images on the GPU"):
        operators.corrupt(gpu, "contrast", 1, threads=2)
    with pytest.raises(InputError, match="'cupy' cannot run here: no NVIDIA driver"):
        operators.corrupt(gpu, "brightness", 1)
    monkeypatch.delitem(corruptions.cuda_corruptions.LAUNCHERS, "brightness")
    with pytest.raises(InputError, match=r"brightness has no CUDA kernel, there are those of .*saturate"):
        operators.corrupt(gpu, "brightness", 1)
