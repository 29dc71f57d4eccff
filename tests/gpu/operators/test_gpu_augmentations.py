"""The augmentations beside APR on a CUDA device, where there is one: `make gpu-check`.

Nothing here needs DALI, an installed package or the native operators: see benchmarks/gpu_check.sh.
"""

import numpy as np
import pytest
import torch
from helpers.augmentations import always, drawn, noisy_planes, planes
from helpers.forms import assert_close, assert_levels_close
from helpers.singles import levels_apart

from apr_dali.augmentations import NAMES, apply, find
from apr_dali.augmentations.functional import choose
from apr_dali.kernels.cuda import augment_prime, launch

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
PLANES = [name for name in NAMES if find(name).takes == "planes"]
KERNELS = [name for name in NAMES if find(name).cuda_form is not None]
CASES = [(name, backend) for name in NAMES for backend in (("cupy", "torch") if name in KERNELS else ("torch",))]
SPECTRAL = ("amplitude-mix", "fda", "spectral-gains", "hybrid++-p")
SQUARES = [(size, size) for size in (*launch.WHOLE_SIZES, *launch.FUSED_SIZES)]


def check_floating(name, backend, images, draws):
    got = apply(name, torch.from_numpy(images).cuda(), draws, backend=backend)
    assert got.is_cuda
    assert_close(name, got.cpu(), find(name).define(images.astype(np.float64), draws))


@pytest.mark.parametrize("name", KERNELS)
def test_the_kernels_are_what_runs(name):
    assert choose(find(name), "cuda", "float32", "auto") == "cupy"
    assert choose(find(name), "cuda", "float64", "auto") == "torch"


@pytest.mark.parametrize("size", [(1, 7), (20, 33), (32, 32)], ids=str)
@pytest.mark.parametrize(("name", "backend"), [case for case in CASES if case[0] in PLANES])
def test_floating_images_are_the_definitions(name, backend, size, crops):
    images = noisy_planes(crops, 5, size)
    for seed in range(3):
        draws = drawn(find(name), 5, size, seed, **always(name))
        check_floating(name, backend, images.astype(np.float32), draws)
        if backend == "torch":
            check_floating(name, backend, images, draws)


@pytest.mark.parametrize("size", SQUARES, ids=str)
@pytest.mark.parametrize("name", SPECTRAL)
def test_every_size_that_has_kernels(name, size, crops):
    images = noisy_planes(crops, 3, size).astype(np.float32)
    for settings in ({}, {"ratio": 0.4}) if name == "amplitude-mix" else ({},):
        check_floating(name, "cupy", images, drawn(find(name), 3, size, 1, **always(name), **settings))


@pytest.mark.parametrize("name", [name for name in KERNELS if name not in SPECTRAL])
def test_images_of_224(name, crops):
    images, record = crops(2, 224, 224), find(name)
    draws = record.sample(2, 224, 224, 0, dataset="imagenet", **always(name))
    got = apply(name, torch.from_numpy(images).cuda(), draws, backend="cupy").cpu().numpy()
    expected = apply(name, images, draws, backend="reference")
    assert_levels_close(name, levels_apart(got, expected, record.overflow))


@pytest.mark.parametrize("library", ["torch", "cupy"])
@pytest.mark.parametrize(("name", "backend"), CASES)
def test_levels_are_the_definitions(name, backend, library, crops):
    record, images = find(name), crops(8, 20, 15)
    draws = drawn(record, 8, (20, 15), **always(name))
    expected = apply(name, images, draws, backend="reference")
    if library == "torch":
        got = apply(name, torch.from_numpy(images).cuda(), draws, backend=backend).cpu().numpy()
    else:
        cupy = pytest.importorskip("cupy")
        got = apply(name, cupy.asarray(images), draws, backend=backend).get()
    assert_levels_close(name, levels_apart(got, expected, record.overflow))


@pytest.mark.parametrize("size", [(32, 32), (64, 64), (50, 37)], ids=str)
@pytest.mark.parametrize("name", KERNELS)
def test_runs_change_no_bit(name, size, crops):
    images = torch.from_numpy(crops(40, *size)).cuda()
    draws = drawn(find(name), 40, size, **always(name))
    results = {apply(name, images, draws, backend="cupy").cpu().numpy().tobytes() for _ in range(4)}
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        results.add(apply(name, images, draws, backend="cupy").cpu().numpy().tobytes())
    assert len(results) == 1


# hybrid++-s in torch launches more kernels than a device's queue takes before the host has to wait: 1024.
@pytest.mark.parametrize(("name", "backend"), [case for case in CASES if case[0] != "hybrid++-s"])
def test_the_host_waits_for_nothing(name, backend, crops):
    images = torch.from_numpy(crops(8, 20, 16)).cuda()
    draws = drawn(find(name), 8, (20, 16), **always(name))
    apply(name, images, draws, backend=backend)
    for _ in range(5):  # the first may fill a pool of pinned memory; a busy host may take longer than the device sleeps
        torch.cuda.synchronize()
        torch.cuda._sleep(1_000_000_000)  # cycles, about half a second
        before = torch.cuda.Event()
        before.record()
        apply(name, images, draws, backend=backend)
        if not before.query():
            return
    pytest.fail("each call ended after what the device had to do before it")


def test_chains_in_parts_change_no_bit(crops, monkeypatch):
    images, draws = torch.from_numpy(crops(40, 32, 32)).cuda(), drawn(find("prime"), 40, (32, 32))
    whole = apply("prime", images, draws, backend="cupy")
    monkeypatch.setattr(augment_prime, "ROOM", 1 << 19)
    assert torch.equal(apply("prime", images, draws, backend="cupy"), whole)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype, crops):
    images = torch.from_numpy(planes(crops(4, 32, 32))).to("cuda", dtype)
    draws = drawn(find("afa"), 4, (32, 32))
    got = apply("afa", images, draws, backend="cupy")
    assert got.dtype == dtype
    assert torch.equal(got, apply("afa", images.float(), draws, backend="cupy").to(dtype))
