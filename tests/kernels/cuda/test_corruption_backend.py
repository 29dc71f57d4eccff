"""What the corruptions do around their CUDA kernels: the choice of a backend, what a device keeps, what is refused."""

import subprocess
import sys

import numpy as np
import pytest
from simulators.host_cuda import HostCuda

import apr_dali
from apr_dali import CorruptionDraws
from apr_dali.corruptions import NAMES
from apr_dali.errors import InputError
from apr_dali.kernels import arrays, corruptions, dispatch
from apr_dali.kernels.cuda import corrupt_frost, launch, paths
from apr_dali.kernels.cuda import corruptions as cuda_corruptions
from apr_dali.kernels.cuda.device import Cache

pytestmark = [pytest.mark.simulator, pytest.mark.slow]
STATES = {"cupy": dispatch.Availability(True, "on the CPU")}


@pytest.fixture
def host(shim_folder, monkeypatch):
    """A device whose arrays are NumPy's."""
    device = HostCuda(shim_folder)
    monkeypatch.setattr(cuda_corruptions, "_device", lambda: device)
    monkeypatch.setattr(paths, "work", Cache(3))
    monkeypatch.setattr(paths, "constants", Cache(16))
    monkeypatch.setattr(corrupt_frost, "photographs", Cache(2))
    monkeypatch.setattr(dispatch, "availability", STATES.__getitem__)
    monkeypatch.setattr(arrays, "device_of", lambda _: "cuda")
    return device


def sampled(name, images, severity=2):
    n, height, width = images.shape[:3]
    return CorruptionDraws.sample(name, severity, n, height, width, seed=1)


def corrupt(images, name, **options):
    return apr_dali.corrupt(images, name, 2, sampled(name, images), **options)


# ---- Which backend ----


def test_auto_takes_the_device_for_what_is_there(host, crops, monkeypatch):
    images = crops(2, 32, 40)
    on_device = corrupt(images, "impulse_noise")
    assert host.launched == ["impulse_noise"]
    # Threads are the native backend's, and so is everything where the device cannot.
    for options in ({"threads": 1}, {"backend": "native"}, {"backend": "numpy"}):
        np.testing.assert_array_equal(corrupt(images, "impulse_noise", **options), on_device)
    monkeypatch.setitem(STATES, "cupy", dispatch.Availability(False, "no cuFFT"))
    np.testing.assert_array_equal(corrupt(images, "impulse_noise"), on_device)
    monkeypatch.setattr(arrays, "device_of", lambda _: "cpu")
    np.testing.assert_array_equal(corrupt(images, "impulse_noise"), on_device)
    assert host.launched == ["impulse_noise"]


@pytest.mark.usefixtures("host")
def test_what_cannot_run_on_the_device_is_refused_by_its_name(crops, monkeypatch):
    images = crops(1, 32, 32)
    monkeypatch.setitem(STATES, "cupy", dispatch.Availability(False, "the driver finds no GPU"))
    with pytest.raises(InputError, match="'cupy' cannot run here: the driver finds no GPU"):
        corrupt(images, "brightness", backend="cupy")
    monkeypatch.delitem(cuda_corruptions.LAUNCHERS, "brightness")
    with pytest.raises(InputError, match=r"brightness has no CUDA kernel, there are those of .*take .* native"):
        corrupt(images, "brightness", backend="cupy")
    corrupt(images, "brightness")  # on the CPU
    monkeypatch.setattr(arrays, "device_of", lambda _: "cpu")
    with pytest.raises(InputError, match="'cupy' is for images on a CUDA device"):
        corrupt(images, "contrast", backend="cupy")


def test_images_whose_places_do_not_fit_are_refused(host):
    class Huge:
        shape = (1, 20_000, 20_000, 3)

    with pytest.raises(InputError, match="images of 357913941 pixels at most, got 20000 × 20000"):
        cuda_corruptions.corrupt(Huge(), ("contrast", 1, "imagenet"), [], (0, 0), np.zeros(1, np.uint64))
    assert host.made == []


def test_every_kernel_is_that_of_a_corruption():
    assert set(cuda_corruptions.LAUNCHERS) <= set(NAMES)
    assert len(cuda_corruptions.LAUNCHERS) == sum(len(family.LAUNCHERS) for family in cuda_corruptions.FAMILIES)


# ---- What is kept, what is waited for ----


@pytest.mark.parametrize("name", cuda_corruptions.LAUNCHERS)
def test_a_second_call_uploads_nothing_but_the_numbers(name, host, crops):
    images = crops(3, 33, 40)
    first = corrupt(images, name)
    made, launched, copies = len(host.made), len(host.launched), host.copies
    np.testing.assert_array_equal(corrupt(images, name), first)
    assert len(host.made) - made == 2  # the result and the numbers
    assert host.copies - copies == 1
    # As many launches whatever the batch.
    assert len(host.launched) == 2 * launched
    corrupt(np.concatenate([images, images]), name)
    assert len(host.launched) == 3 * launched


def test_numbers_on_the_device_stay_there(host, crops, monkeypatch):
    images = crops(3, 32, 32)
    cell = cuda_corruptions.Cell("gaussian_noise", 3, "cifar")
    numbers = np.array([4, 0, 9])

    class OnDevice:
        """Not an array of the host."""

        values, shape = numbers.astype(np.int32), numbers.shape

    take = host.contiguous
    monkeypatch.setattr(host, "contiguous", lambda array, kind: take(getattr(array, "values", array), kind))
    got = corruptions.corrupt_on_device(images, cell, 7, OnDevice())
    draws = CorruptionDraws.of_images("gaussian_noise", 3, numbers, 32, 32, 7, "cifar")
    expected = apr_dali.corrupt(images, "gaussian_noise", 3, draws, backend="native")
    np.testing.assert_array_equal(got, expected)


def test_photographs_are_uploaded_once_for_a_scale_and_a_size(host, crops):
    for severity in (1, 3, 5):
        images = crops(1, 64, 48)
        apr_dali.corrupt(images, "frost", severity, sampled("frost", images, severity))
    assert len(corrupt_frost.photographs) == 1
    host.key = (0, 7)  # another stream
    corrupt(images, "frost")
    assert len(corrupt_frost.photographs) == 2


def test_in_a_graph_nothing_comes_to_the_host(host, crops, monkeypatch):
    operators = pytest.importorskip("apr_dali.pipelines.operators")
    images, numbers = crops(2, 32, 32), np.array([[5], [8]], np.int32)

    class OnDevice:
        """An array that only the device reads."""

        def __init__(self, values):
            self.values, self.shape, self.dtype = values, values.shape, values.dtype

        def reshape(self, *shape):
            return OnDevice(self.values.reshape(*shape))

        def __len__(self):
            return len(self.values)

    take = host.contiguous
    monkeypatch.setattr(host, "contiguous", lambda array, kind: take(getattr(array, "values", array), kind))
    monkeypatch.setattr(arrays, "on_device", lambda _: False)
    monkeypatch.setattr(arrays, "library_of", lambda _: "cupy")
    monkeypatch.setattr(arrays, "as_output", lambda result, *_: result)
    options = {"name": "shot_noise", "severity": 4, "seed": 3, "parameter_set": "tiny-imagenet"}
    got = operators._corrupted_batch(OnDevice(images), OnDevice(numbers), **options, backend="auto", threads=None)
    assert host.launched == ["shot_noise"]
    with pytest.raises(InputError, match=r"uint8 \(N, H, W, 3\), at least 32 pixels per side, got float32"):
        operators._corrupted_batch(OnDevice(images.astype("f4")), OnDevice(numbers), **options)
    with pytest.raises(InputError, match=r"numbers must be of 2 images, got the shape \(4,\)"):
        operators._corrupted_batch(OnDevice(images), OnDevice(np.zeros((2, 2), int)), **options)
    monkeypatch.undo()
    expected = operators._corrupted_batch(images, numbers, **options, backend="native", threads=1)
    np.testing.assert_array_equal(got, expected)


def test_importing_the_kernels_needs_neither_cupy_nor_torch():
    code = "import sys, apr_dali.kernels.corruptions; print({'cupy', 'torch', 'cuda.bindings'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


# ---- How the kernels go about memory ----


def test_shares_of_an_image():
    assert launch.shares(3, 1) == (launch.Launch(3, 256), 1)
    assert launch.shares(2, 12544) == (launch.Launch(2 * 13, 256), 13)
    assert launch.shares(1, 10**8) == (launch.Launch(64, 256), 64)
