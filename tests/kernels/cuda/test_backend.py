"""What the GPU backend does around its kernels: buffers, streams, the choice of a backend, wrong input."""

import logging
import subprocess
import sys
from contextlib import AbstractContextManager
from types import SimpleNamespace

import numpy as np
import pytest
from simulators.host_cuda import HostCuda

import apr_dali
from apr_dali import functional, spectral
from apr_dali.draws import SingleDraws
from apr_dali.kernels import arrays, dispatch
from apr_dali.kernels.cuda import backend as cupy_backend
from apr_dali.kernels.cuda import nvrtc, paths
from apr_dali.kernels.cuda.device import Cache

pytestmark = pytest.mark.simulator

# ---- What is kept ----


def test_no_more_than_the_limit_is_kept_and_the_oldest_goes():
    kept, made = Cache(2), []

    def make(name):
        return lambda: made.append(name) or name

    for name in "aabcba":
        assert kept.shared(name, make(name)) == name
        assert len(kept) <= 2
    assert made == ["a", "b", "c", "a"]  # b was used again, so a went before it


def test_what_is_borrowed_belongs_to_one_at_a_time():
    kept = Cache(2)
    with kept.borrowed("a", object) as first, kept.borrowed("a", object) as second:
        assert first is not second
    assert len(kept) == 2
    with kept.borrowed("b", object):
        assert len(kept) == 2
    assert len(kept) == 2
    with kept.borrowed("a", object) as again:
        assert again in (first, second)
    with pytest.raises(RuntimeError), kept.borrowed("a", object) as lost:
        raise RuntimeError
    with kept.borrowed("a", object) as other:
        assert other is not lost  # what failed may still be in use


@pytest.fixture
def host(shim_folder, monkeypatch):
    device = HostCuda(shim_folder)
    monkeypatch.setattr(cupy_backend, "_device", lambda: device)
    monkeypatch.setattr(paths, "work", Cache(3))
    monkeypatch.setattr(paths, "constants", Cache(16))
    # The device's arrays are NumPy's here.
    states = {"cupy": dispatch.Availability(True, "on the CPU")}
    monkeypatch.setattr(dispatch, "availability", lambda name: states.get(name, dispatch.Availability(False, "none")))
    monkeypatch.setattr(arrays, "device_of", lambda _: "cuda")
    return device


def pair(images, partner, **options):
    return apr_dali.pair(images, partner, in_scale=1 / 255, backend="cupy", **options)


@pytest.mark.slow
def test_numbers_of_a_call_are_one_copy_and_none_where_nothing_is_mixed(host, crops):
    images, partner = crops(3, 10, 12), np.array([1, 2, 0])
    draws = SingleDraws.sample(3, 10, 12, 0)
    for call, expected in (
        (lambda: pair(images, partner), 1),
        (lambda: pair(images, partner, mix=False), 0),
        (lambda: apr_dali.single(images, draws, backend="cupy"), 1),
    ):
        call()
        copies = host.copies
        call()
        assert host.copies - copies == expected


@pytest.mark.slow
def test_a_second_call_makes_no_buffers_and_no_plans(host, crops):
    images, partner = crops(3, 10, 12), np.array([1, 2, 0])
    first = pair(images, partner)
    made, plans = len(host.made), host.plans
    second = pair(images, partner)
    np.testing.assert_array_equal(first, second)
    assert len(host.made) - made == 2  # the result and the partners
    assert host.plans == plans == 2
    pair(images[:2], partner[:2] % 2)  # another batch, another plan
    assert host.plans == 4


def test_each_stream_has_buffers_of_its_own(host, crops):
    images, partner = crops(2, 10, 12), np.array([1, 0])
    pair(images, partner)
    host.key = (0, 7)
    pair(images, partner)
    assert host.plans == 4
    for stream in range(8, 20):
        host.key = (0, stream)
        pair(images, partner)
    assert len(paths.work) == 3
    assert len(paths.constants) <= 16


# ---- What comes in ----


@pytest.mark.usefixtures("host")
@pytest.mark.parametrize("name", ["strided", "reversed", "unaligned", "channels_last", "float64", "float16"])
def test_arrays_that_the_kernels_cannot_read_are_copied(name, crops):
    levels = crops(2, 32, 32, seed=5)
    floats = levels.transpose(0, 3, 1, 2).astype(np.float32)
    odd = np.empty(levels.size + 1, np.uint8)[1:].reshape(levels.shape)
    odd[...] = levels
    given = {
        "strided": np.repeat(levels, 2, axis=2)[:, :, ::2],
        "reversed": levels[::-1][::-1],
        "unaligned": odd,
        "channels_last": levels.astype(np.float32).transpose(0, 3, 1, 2),
        "float64": floats.astype(np.float64),
        "float16": floats.astype(np.float16),
    }[name]
    np.testing.assert_array_equal(pair(given, [1, 0]), pair(levels, [1, 0]))


@pytest.mark.slow
def test_batches_of_none_and_of_one(host, crops):
    for size in ((32, 32), (64, 64), (9, 10)):
        one = crops(1, *size)
        got = pair(one, [0], with_clean=True)
        assert got.shape == (1, 2, 3, *size)
        assert np.abs(got[:, 1] - got[:, 0]).max() < 1e-5  # its own partner: the image itself
        single = apr_dali.single(one, SingleDraws.sample(1, *size, 0), backend="cupy")
        assert single.shape == one.shape
        host.launched.clear()
        assert pair(one[:0], np.array([], int)).shape == (0, 3, *size)
        assert apr_dali.single(one[:0], SingleDraws.sample(0, *size), backend="cupy").shape == one[:0].shape
        empty = np.zeros((0, 3, *size), np.float32)
        assert apr_dali.recombine(empty, empty, backend="cupy").shape == empty.shape
        assert len(cupy_backend.decode(np.zeros((0, 8), np.float32), *size)) == 0
        assert host.launched == []


@pytest.mark.usefixtures("host")
@pytest.mark.parametrize(("call", "error", "message"), [
    (lambda u8: pair(u8, [0, 2]), ValueError, r"0\.\.1, got 2 at index 1"),
    (lambda u8: pair(u8, [0]), ValueError, r"shape \(2,\)"),
    (lambda u8: pair(u8.astype(np.int32), [0, 1]), TypeError, "got dtype int32"),
    (lambda u8: pair(u8[0], [0, 1]), ValueError, "four dimensions"),
    (lambda u8: pair(u8[:, :0], [0, 1]), ValueError, "must not be empty"),
    (lambda u8: pair(u8, [0, 1], threads=2), ValueError, "threads is for the native backend"),
    (lambda u8: apr_dali.single(u8, SingleDraws.sample(3, 8, 8, 0), backend="cupy"), ValueError, "got draws for 3"),
    (lambda u8: apr_dali.single(u8[..., :1], SingleDraws.sample(2, 8, 8, 0), backend="cupy"), TypeError, r"H, W, 3"),
])  # fmt: skip
def test_wrong_arguments_are_refused(call, error, message):
    with pytest.raises(error, match=message):
        call(np.zeros((2, 8, 8, 3), np.uint8))


def test_a_partner_on_the_device_is_checked_by_its_shape_alone(monkeypatch):
    monkeypatch.setattr(arrays, "on_device", lambda array: array is not None)
    given = np.array([5, 6])
    assert functional._checked_partner(given, 2) is given
    with pytest.raises(ValueError, match=r"3 integers, got int64 of the shape \(2,\)"):
        functional._checked_partner(given, 3)
    with pytest.raises(ValueError, match="2 integers, got float32"):
        functional._checked_partner(given.astype(np.float32), 2)


@pytest.mark.usefixtures("host")
def test_sizes_without_kernels_of_their_own_are_told_of_once(crops, caplog):
    paths._say_once.cache_clear()
    with caplog.at_level(logging.WARNING):
        for size in ((12, 12), (12, 12), (32, 32)):
            pair(crops(2, *size), [1, 0])
    (record,) = caplog.records
    assert record.message.startswith("images of 12 × 12 × 3 are recombined with cuFFT")


@pytest.mark.usefixtures("host")
def test_recombine_keeps_the_type(crops):
    images = crops(2, 32, 32).transpose(0, 3, 1, 2) / 255
    for dtype, tolerance in (("float16", 5e-3), ("float32", 1e-5), ("float64", 1e-10)):
        given = images.astype(dtype)
        got = apr_dali.recombine(given[:1], given[1:], backend="cupy")
        assert got.dtype == dtype
        assert np.abs(got - spectral.recombine(given[:1], given[1:])).max() < tolerance


# ---- Which backend ----


def test_cupy_comes_first_on_cuda_and_torch_serves_where_it_cannot_run(monkeypatch):
    states = {"cupy": (True, "CuPy"), "torch": (True, "torch"), "native": (False, "not built")}
    monkeypatch.setattr(dispatch, "availability", lambda name: dispatch.Availability(*states[name]))
    assert dispatch.choose("auto", "cuda") == "cupy"
    assert dispatch.choose("auto", "cpu") == "torch"
    states["cupy"] = (False, "no cuFFT")
    assert dispatch.choose("auto", "cuda") == "torch"
    with pytest.raises(RuntimeError, match="'cupy' cannot run here: no cuFFT"):
        dispatch.choose("cupy", "cuda")
    states["cupy"] = (True, "CuPy")
    with pytest.raises(ValueError, match="'cupy' does not work on cpu arrays"):
        apr_dali.pair(np.zeros((1, 4, 4, 3), np.uint8), [0], backend="cupy")


@pytest.mark.parametrize(
    ("given", "taken"), [("float32", "float32"), ("uint8", "uint8"), ("bfloat16", "float32"), ("bool", "uint8")]
)
def test_tensors_go_to_cupy_as_a_type_that_it_has(given, taken, monkeypatch):
    cupy, torch = pytest.importorskip("cupy"), pytest.importorskip("torch")
    monkeypatch.setattr(cupy, "from_dlpack", lambda tensor: tensor)
    tensor = torch.ones(3, requires_grad=True).to(getattr(torch, given))
    got = arrays.as_input(tensor, "cupy")
    assert got.dtype == getattr(torch, taken)
    assert not got.requires_grad
    assert got.tolist() == [1, 1, 1]
    if given == taken and given != "uint8":
        assert got.data_ptr() == tensor.data_ptr()


def test_bits_of_bfloat16_come_back_as_such(monkeypatch):
    torch = pytest.importorskip("torch")
    bits = torch.tensor([1.5, -2.0]).bfloat16().view(torch.int16).numpy()
    images = torch.zeros(1)
    monkeypatch.setattr(arrays, "library_of", lambda array: "torch" if array is images else "cupy")
    got = arrays.as_output(bits, images, "bfloat16")
    assert got.dtype == torch.bfloat16
    assert got.tolist() == [1.5, -2.0]


class Entered(AbstractContextManager):
    """Notes its name while it is entered."""

    def __init__(self, name, notes):
        self.name, self.notes = name, notes

    def __enter__(self):
        self.notes.append(self.name)

    def __exit__(self, *_):
        self.notes.remove(self.name)


def test_cupy_works_on_torchs_current_stream(monkeypatch):
    cupy, torch = pytest.importorskip("cupy"), pytest.importorskip("torch")
    notes: list[str] = []
    monkeypatch.setattr(cupy.cuda, "Device", lambda number: Entered(f"device {number}", notes))
    monkeypatch.setattr(cupy.cuda.Stream, "from_external", lambda given: Entered(f"stream {given}", notes))
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: 76 + device)
    monkeypatch.setattr(arrays, "library_of", lambda _: "torch")
    monkeypatch.setattr(arrays, "on_device", lambda _: True)
    with arrays.on_the_stream_of(SimpleNamespace(device=SimpleNamespace(index=1)), "cupy"):
        assert notes == ["device 1", "stream 77"]
    assert notes == []


@pytest.mark.parametrize("pointer", [0, 99])
def test_torch_works_on_cupys_current_stream(pointer, monkeypatch):
    cupy, torch = pytest.importorskip("cupy"), pytest.importorskip("torch")
    monkeypatch.setattr(cupy.cuda, "get_current_stream", lambda: SimpleNamespace(ptr=pointer))
    monkeypatch.setattr(torch.cuda, "ExternalStream", lambda given, device: (given, device))
    monkeypatch.setattr(torch.cuda, "default_stream", lambda device: (0, device))
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: stream)
    monkeypatch.setattr(arrays, "library_of", lambda _: "cupy")
    monkeypatch.setattr(arrays, "on_device", lambda _: True)
    images = SimpleNamespace(device=SimpleNamespace(id=1))
    assert arrays.on_the_stream_of(images, "torch") == (pointer, 1)


def test_importing_the_backend_needs_neither_cupy_nor_torch():
    code = (
        "import sys, apr_dali.kernels.cuda.backend, apr_dali.functional;"
        "print({'cupy', 'torch', 'cuda.bindings'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


# ---- In a DALI graph ----


def test_draws_on_the_device_are_decoded_there(host, monkeypatch):
    class Uniform:
        """Numbers that only the device reads."""

        values = np.random.default_rng(0).random((6, 8), dtype=np.float32)

        def __len__(self):
            return len(self.values)

    monkeypatch.setattr(host, "contiguous", lambda array, _: getattr(array, "values", array))
    got = cupy_backend.decode(Uniform(), 32, 32)
    expected = SingleDraws.from_uniform(Uniform.values, 32, 32)
    np.testing.assert_array_equal(got.parameters, expected.parameters)


def test_one_program_for_each_device_and_set_of_definitions(monkeypatch):
    cupy = pytest.importorskip("cupy")
    made: list[tuple] = []

    class Module:
        def __init__(self, code, options):
            made.append((code, options))

        def compile(self):
            pass

    monkeypatch.setattr(cupy, "RawModule", Module)
    nvrtc.load.cache_clear()
    try:
        first = nvrtc.load(nvrtc.fused(224), 0)
        assert nvrtc.load(nvrtc.fused(224), 0) is first
        assert nvrtc.load(nvrtc.fused(224), 1) is not first
        other = nvrtc.load(nvrtc.fused(64), 0)
        assert nvrtc.load(nvrtc.fused(64, across_channels=False), 0) is not other
    finally:
        nvrtc.load.cache_clear()
    assert [options[1] for _, options in made] == ["-DSIZE=224", "-DSIZE=224", "-DSIZE=64", "-DSIZE=64"]
    assert '#include "' not in made[0][0]  # CuPy's cache knows a program by its text
