"""The choice of a backend, the kinds of arrays and what is refused."""

import numpy as np
import pytest
import torch

import apr_dali
from apr_dali import backend
from apr_dali.draws import SingleDraws


def test_auto_takes_the_first_that_is_available(monkeypatch):
    monkeypatch.setitem(backend._BY_DEVICE, "cpu", ("native", "torch"))
    states = {"native": (False, "no compiler"), "torch": (True, "torch 2")}
    monkeypatch.setattr(backend, "availability", lambda name: backend.Availability(*states[name]))
    assert backend.choose("auto", "cpu") == "torch"
    states["native"] = (True, "built")
    assert backend.choose("auto", "cpu") == "native"
    states["native"], states["torch"] = (False, "no compiler"), (False, "no torch")
    with pytest.raises(RuntimeError, match="native: no compiler; torch: no torch"):
        backend.choose("auto", "cpu")
    with pytest.raises(RuntimeError, match="'native' cannot run here: no compiler"):
        backend.choose("native", "cpu")


def test_unknown_backend_is_refused():
    with pytest.raises(ValueError, match="backend must be auto or one of reference"):
        apr_dali.recombine(np.zeros((1, 3, 4, 4)), np.zeros((1, 3, 4, 4)), backend="numba")


def test_the_result_is_of_the_kind_of_the_input(crops):
    images, partner = crops(3, 8, 9), np.array([2, 0, 1])
    for name in ("torch", "reference"):
        from_numpy = apr_dali.pair(images, partner, backend=name)
        from_torch = apr_dali.pair(torch.from_numpy(images), torch.from_numpy(partner), backend=name)
        assert isinstance(from_numpy, np.ndarray)
        assert isinstance(from_torch, torch.Tensor)
        assert from_torch.dtype == torch.float32
        np.testing.assert_array_equal(from_torch.numpy(), from_numpy)


def test_read_only_images_are_taken_without_a_warning(crops, recwarn):
    images = crops(2, 8, 8)
    images.flags.writeable = False
    apr_dali.single(images, SingleDraws.sample(2, 8, 8, 0), backend="torch")
    assert not [w for w in recwarn if "writ" in str(w.message)]


U8 = np.zeros((2, 8, 8, 3), np.uint8)
F32 = np.zeros((2, 3, 8, 8), np.float32)
DRAWS = SingleDraws.sample(2, 8, 8, 0)


@pytest.mark.parametrize(("call", "error", "message"), [
    (lambda: apr_dali.pair(U8, [0, 2]), ValueError, r"0\.\.1, got 2 at index 1"),
    (lambda: apr_dali.pair(U8, [0]), ValueError, r"shape \(2,\)"),
    (lambda: apr_dali.pair(U8, [0.0, 1.0]), TypeError, "integers"),
    (lambda: apr_dali.pair(U8[0], [0, 1]), ValueError, "four dimensions"),
    (lambda: apr_dali.pair(U8[:, :0], [0, 1]), ValueError, "must not be empty"),
    (lambda: apr_dali.pair(U8.astype(np.int16), [0, 1]), TypeError, "got dtype int16"),
    (lambda: apr_dali.pair(U8, [0, 1], dtype="float64"), ValueError, "float32, float16, bfloat16"),
    (lambda: apr_dali.pair(U8, [0, 1], dtype="bfloat16"), ValueError, "needs torch"),
    (lambda: apr_dali.pair(U8, [0, 1], axes="hwc"), ValueError, "chw, hw"),
    (lambda: apr_dali.pair(U8, [0, 1], views="clean"), ValueError, "mixed, both"),
    (lambda: apr_dali.pair(U8, [0, 1], intermediates="half"), ValueError, "float32, float16"),
    (lambda: apr_dali.pair(U8, [0, 1], intermediates="float16", backend="torch"), ValueError, "got the torch backend"),
    (lambda: apr_dali.pair(U8, [0, 1], in_scale=(1, 2)), ValueError, "one number or 3"),
    (lambda: apr_dali.pair([[1]], [0]), TypeError, "got list"),
    (lambda: apr_dali.recombine(F32, F32[:1]), ValueError, "one shape and dtype"),
    (lambda: apr_dali.recombine(F32, F32.astype(np.float64)), ValueError, "one shape and dtype"),
    (lambda: apr_dali.recombine(U8, U8), TypeError, "takes floating"),
    (lambda: apr_dali.single(F32, DRAWS), TypeError, "got float32"),
    (lambda: apr_dali.single(U8[..., :2], DRAWS), TypeError, r"\(N, H, W, 3\)"),
    (lambda: apr_dali.single(U8[:1], DRAWS), ValueError, "draws must be for 1 images, got draws for 2"),
    (lambda: apr_dali.single(U8, DRAWS, overflow="saturate"), ValueError, "wrap, clamp"),
])  # fmt: skip
def test_wrong_arguments_are_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_devices_other_than_cpu_and_cuda_are_refused():
    with pytest.raises(ValueError, match="got meta"):
        apr_dali.pair(torch.zeros((1, 3, 4, 4), device="meta"), [0])
