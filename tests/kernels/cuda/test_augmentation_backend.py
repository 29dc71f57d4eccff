"""What the augmentations do around their CUDA kernels: the backend that is chosen, what is kept, what is refused."""

import subprocess
import sys
from contextlib import nullcontext
from typing import ClassVar

import numpy as np
import pytest
from helpers import tolerances
from helpers.augmentations import always, drawn, smaller
from helpers.forms import assert_levels_close
from helpers.singles import levels_apart
from simulators.host_cuda import HostCuda

from apr_dali.augmentations import NAMES, apply, find, sample_and_apply
from apr_dali.augmentations.functional import apply_in_graph, choose
from apr_dali.errors import InputError
from apr_dali.kernels import arrays, dispatch
from apr_dali.kernels.cuda import augmentations as cuda_augmentations
from apr_dali.kernels.cuda import paths

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.simulator

KERNELS = [name for name in NAMES if find(name).cuda_form is not None]
STATES = {"cupy": dispatch.Availability(True, "on the CPU"), "native": dispatch.Availability(True, "v3")}


@pytest.fixture
def host(shim_folder, install, monkeypatch):
    """A device whose arrays are NumPy's."""
    monkeypatch.setattr(dispatch, "availability", STATES.__getitem__)
    monkeypatch.setattr(arrays, "device_of", lambda _: "cuda")
    return install(cuda_augmentations, HostCuda(shim_folder))


def test_every_kernel_is_that_of_an_augmentation():
    used = {"waves", "amplitudes", "gains", "hybrid", "prime", "noisy_views"}
    assert set(cuda_augmentations.LAUNCHERS) == used
    assert len(used) == sum(len(family.LAUNCHERS) for family in cuda_augmentations.FAMILIES)
    assert set(NAMES) - set(KERNELS) == {"hybrid-s", "hybrid++-s", "randconv"}


def test_auto_takes_the_device_for_what_is_there(host, crops, monkeypatch):
    images = crops(2, 10, 12)
    draws = drawn(find("afa"), 2, (10, 12))
    on_device = apply("afa", images, draws)
    assert host.launched == ["add_waves"]
    np.testing.assert_array_equal(apply("afa", images, draws, backend="cupy"), on_device)
    assert len(host.launched) == 2
    # Half precision is computed in float32, float64 is torch's.
    halves = (images.transpose(0, 3, 1, 2) / 255).astype(np.float16)
    assert apply("afa", halves, draws).dtype == np.float16
    assert len(host.launched) == 3
    assert apply("afa", halves.astype(np.float64), draws).dtype == np.float64
    monkeypatch.setitem(STATES, "cupy", dispatch.Availability(False, "no cuFFT"))
    assert np.abs(apply("afa", images, draws).astype(int) - on_device).max() <= tolerances.LEVELS
    assert len(host.launched) == 3


@pytest.mark.usefixtures("host")
@pytest.mark.parametrize(
    ("name", "device", "dtype", "backend", "reason"),
    [
        ("randconv", "cuda", "uint8", "cupy", "it has no CUDA kernel"),
        ("randconv", "cpu", "uint8", "native", "it has no form in C"),
        ("afa", "cpu", "uint8", "cupy", "it is for images on a CUDA device, got cpu"),
        ("afa", "cuda", "uint8", "native", "it is for images on the CPU, got cuda"),
        ("fda", "cuda", "float64", "cupy", "it computes in float32, got float64 images"),
    ],
)
def test_what_cannot_run_is_refused_by_its_name(name, device, dtype, backend, reason):
    with pytest.raises(InputError, match=f"backend '{backend}' cannot run {name}: {reason}.*Take backend='torch'"):
        choose(find(name), device, dtype, backend)
    assert choose(find(name), device, dtype, "torch") == "torch"


@pytest.mark.usefixtures("host")
def test_a_device_that_is_not_there_is_named(monkeypatch):
    monkeypatch.setitem(STATES, "cupy", dispatch.Availability(False, "the driver finds no GPU"))
    with pytest.raises(InputError, match="'cupy' cannot run prime: the driver finds no GPU"):
        choose(find("prime"), "cuda", "uint8", "cupy")
    assert choose(find("prime"), "cuda", "uint8", "auto") == "torch"
    assert choose(find("prime"), "cpu", "uint8", "auto") == "native"


def test_images_whose_places_do_not_fit_are_refused(host):
    huge = np.broadcast_to(np.zeros(1, np.uint8), (1, 20_000, 20_000, 3))
    with pytest.raises(InputError, match=r"1073741824 values at most, got 20000 × 20000 × 3: take torch"):
        cuda_augmentations.CudaBatch(huge, "clamp").run("waves")
    assert host.made == []


@pytest.mark.slow
@pytest.mark.parametrize("name", KERNELS)
def test_a_second_call_makes_no_buffers_and_no_plans(name, host, crops):
    record, images = find(name), crops(4, 12, 10)
    draws = drawn(record, 4, (12, 10), 2, **always(name))
    first = apply(name, images, draws)
    plans, kept, copies = host.plans, len(paths.work), host.copies
    np.testing.assert_array_equal(apply(name, images, draws), first)
    assert (host.plans, len(paths.work)) == (plans, kept)
    assert host.copies - copies == 1  # all numbers in one


def test_importing_the_kernels_needs_neither_cupy_nor_torch():
    others = "{'cupy', 'torch', 'cuda.bindings'} & set(sys.modules)"
    code = f"import sys, apr_dali.kernels.cuda.augmentations; print({others})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


class OnDevice(np.ndarray):
    """An array of the device; `looks` has what the host asked for that it would wait for."""

    looks: ClassVar[list[str]] = []


def _looking(name):
    def look(array, *given):
        OnDevice.looks.append(name)
        return getattr(np.asarray(array), name)(*given)

    return look


for _name in ("__int__", "__float__", "__bool__", "__index__", "__iter__", "item", "tolist", "tobytes"):
    setattr(OnDevice, _name, _looking(_name))


@pytest.mark.slow
@pytest.mark.parametrize("name", KERNELS)
def test_the_host_looks_at_nothing_on_the_device(name, host, crops, monkeypatch):
    for change, value in {
        "library_of": lambda _: "cupy",
        "on_device": lambda _: True,
        "as_output": lambda result, *_: result,
        "on_the_stream_of": lambda *_: nullcontext(),
    }.items():
        monkeypatch.setattr(arrays, change, value)
    empty = host.empty
    monkeypatch.setattr(host, "empty", lambda *kind: empty(*kind).view(OnDevice))
    OnDevice.looks.clear()
    images, settings = crops(4, 12, 10), {**smaller(find(name)), **always(name)}
    got = apply_in_graph(images.view(OnDevice), np.array([[5]] * 4), augmentation=name, **settings)
    assert OnDevice.looks == []
    monkeypatch.undo()
    expected = sample_and_apply(name, images, 5, backend="reference", **settings)
    assert_levels_close(name, levels_apart(np.asarray(got), expected, find(name).overflow))
    assert got[:1, :1, :1, :1].item() == np.asarray(got)[0, 0, 0, 0]
    assert OnDevice.looks == ["item"]


def test_a_step_of_a_graph_runs_on_the_device(host, crops):
    images, numbers = crops(2, 10, 12), np.array([[5], [8]])
    got = apply_in_graph(images, numbers, augmentation="afa", dataset="imagenet")
    assert host.launched == ["add_waves"]
    expected = sample_and_apply("afa", images, 5, dataset="imagenet", backend="reference")
    assert np.abs(got.astype(int) - expected).max() <= tolerances.LEVELS
