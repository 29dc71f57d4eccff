"""The choice of a backend, the kinds of arrays and what is refused."""

import inspect
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.autograd import forward_ad

import apr_dali
from apr_dali.draws import SingleDraws
from apr_dali.errors import InputError
from apr_dali.kernels import dispatch
from apr_dali.kernels.protocol import Backend, PairTask


def test_auto_takes_the_first_that_is_available(monkeypatch):
    monkeypatch.setitem(dispatch._BY_DEVICE, "cpu", ("native", "torch"))
    states = {"native": (False, "no compiler"), "torch": (True, "torch 2")}
    monkeypatch.setattr(dispatch, "availability", lambda name: dispatch.Availability(*states[name]))
    assert dispatch.choose("auto", "cpu") == "torch"
    states["native"] = (True, "built")
    assert dispatch.choose("auto", "cpu") == "native"
    states["native"], states["torch"] = (False, "no compiler"), (False, "no torch")
    with pytest.raises(RuntimeError, match="native: no compiler; torch: no torch"):
        dispatch.choose("auto", "cpu")
    with pytest.raises(RuntimeError, match="'native' cannot run here: no compiler"):
        dispatch.choose("native", "cpu")


def test_unknown_backend_is_refused():
    with pytest.raises(ValueError, match="backend must be one of auto, reference"):
        apr_dali.recombine(np.zeros((1, 3, 4, 4)), np.zeros((1, 3, 4, 4)), backend="numba")


@pytest.mark.parametrize("name", dispatch.BACKENDS)
def test_every_backend_takes_what_the_protocol_says(name):
    """mypy holds it too, where it runs."""
    backend = dispatch.load(name)
    for operator in ("check", "recombine", "pair", "single"):
        asked = list(inspect.signature(getattr(Backend, operator)).parameters)[1:]
        assert list(inspect.signature(getattr(backend, operator)).parameters) == asked, operator


@pytest.mark.parametrize("name", ["reference", "torch"])
def test_threads_are_refused_by_backends_that_would_not_follow_them(name):
    for call in (
        lambda **given: apr_dali.recombine(F32, F32, **given),
        lambda **given: apr_dali.single(U8, DRAWS, **given),
    ):
        with pytest.raises(InputError, match=f"threads is for the native backend, got backend={name!r}"):
            call(backend=name, threads=2)


def test_what_is_optional_goes_by_name():
    for call in (
        lambda: apr_dali.pair(F32, [1, 0], True, 1 / 255),
        lambda: apr_dali.recombine(F32, F32, "hw"),
        lambda: apr_dali.single(U8, DRAWS, "clamp"),
    ):
        with pytest.raises(TypeError, match="positional argument"):
            call()


def test_a_task_knows_the_shape_of_its_result():
    numbers = np.ones(3)
    for images in (U8, F32, torch.from_numpy(U8)):
        task = PairTask(images, np.array([1, 0]), True, numbers, numbers, numbers, numbers)
        assert (task.planes, task.out_shape) == ((3, 8, 8), (2, 3, 8, 8))
        assert replace(task, with_clean=True).out_shape == (2, 2, 3, 8, 8)


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
    (lambda: apr_dali.pair(U8, [0, 1], with_clean="mixed"), InputError, "with_clean must be one of True"),
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
    (lambda: apr_dali.pair(F32, [0, 1], mix="no"), InputError, "one coin for the whole batch.* got 'no'"),
    (lambda: apr_dali.pair(F32, [0, 1], mix=np.array([True, False])), InputError, "one coin for the whole batch"),
    (lambda: apr_dali.pair(torch.zeros(2, 3, 8, 8).to_sparse(), [0, 1]), InputError, "dense, got torch.sparse_coo"),
])  # fmt: skip
def test_wrong_arguments_are_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_devices_other_than_cpu_and_cuda_are_refused():
    with pytest.raises(ValueError, match="got meta"):
        apr_dali.pair(torch.zeros((1, 3, 4, 4), device="meta"), [0])


def test_what_stands_for_tensors_in_torch_func_is_refused():
    images, draws = torch.zeros((2, 4, 8, 8, 3), dtype=torch.uint8), apr_dali.SingleDraws.sample(4, 8, 8, seed=0)
    floats = images.permute(0, 1, 4, 2, 3).float()
    for function, given in (
        (lambda batch: apr_dali.single(batch, draws), images),
        (lambda batch: apr_dali.pair(batch, [1, 0, 3, 2]), floats),
    ):
        with pytest.raises(InputError, match=r"with memory of their own, which torch\.func"):
            torch.vmap(function)(given)
        with pytest.raises(InputError, match=r"with memory of their own, which torch\.func"):
            torch.func.functionalize(function)(given[0])


@pytest.mark.parametrize("name", ["reference", "torch", "native"])
def test_within_a_transform_of_torch_func_tensors_from_outside_are_refused(name, native):  # noqa: ARG001
    """NumPy could not read them, for an error of torch's that names no way out."""
    images = torch.rand(2, 3, 8, 8)
    with pytest.raises(InputError, match="call them outside"):
        torch.func.grad(lambda share: (share * apr_dali.pair(images, [1, 0], backend=name)).sum())(torch.ones(()))


# ---- gradients -------------------------------------------------------------------------------------------------------


CALLS = pytest.mark.parametrize(
    "call",
    [
        lambda images, **given: apr_dali.recombine(images, images.detach().flip(0), **given),
        lambda images, **given: apr_dali.recombine(images.detach().flip(0), images, **given),
        lambda images, **given: apr_dali.pair(images, [1, 0], **given),
        lambda images, **given: apr_dali.pair(images, [1, 0], mix=False, **given),
        lambda images, **given: apr_dali.pair(images.detach(), [1, 0], out_scale=images[0, :, 0, 0], **given),
    ],
    ids=["phase", "amplitude", "pair", "unmixed", "scale"],
)


@pytest.mark.parametrize("name", ["reference", "torch", "native", "auto"])
@CALLS
def test_a_gradient_that_would_be_left_out_is_refused(name, call, native):  # noqa: ARG001
    images = torch.rand(2, 3, 8, 8, requires_grad=True)
    with pytest.raises(InputError, match=r"not differentiable.*tensor\.detach\(\)"):
        call(images, backend=name)


@pytest.mark.parametrize("name", ["reference", "torch", "native", "auto"])
@CALLS
def test_a_tangent_that_would_be_left_out_is_refused(name, call, native):  # noqa: ARG001
    images = torch.rand(2, 3, 8, 8)
    with forward_ad.dual_level(), torch.no_grad():  # which leaves tangents
        dual = forward_ad.make_dual(images, torch.ones_like(images))
        with pytest.raises(InputError, match=r"not differentiable.*tangent.*tensor\.detach\(\)"):
            call(dual, backend=name)
        assert torch.equal(call(dual.detach(), backend=name), call(images, backend=name))


@pytest.mark.parametrize(
    "derivative",
    [
        lambda call, images: torch.func.grad(lambda images: call(images).sum())(images),
        lambda call, images: torch.func.jvp(call, (images,), (torch.ones_like(images),)),
        lambda call, images: torch.func.jacrev(lambda share: call(share * images).sum())(torch.ones(())),
        lambda call, images: torch.func.jacfwd(lambda share: call(share * images).sum())(torch.ones(())),
        torch.func.linearize,
    ],
    ids=["grad", "jvp", "jacrev", "jacfwd", "linearize"],
)
@CALLS
def test_derivatives_of_torch_func_are_refused(derivative, call):
    with pytest.raises(InputError, match="not differentiable"):
        derivative(call, torch.rand(2, 3, 8, 8))


@pytest.mark.parametrize("name", ["reference", "torch", "native"])
def test_without_gradients_an_image_that_requires_one_is_like_any_other(name, native):  # noqa: ARG001
    images = torch.rand(2, 3, 8, 8, requires_grad=True)
    with torch.no_grad():
        mixed = apr_dali.pair(images, [1, 0], backend=name)
        other = apr_dali.recombine(images, images.flip(0), backend=name)
    assert not mixed.requires_grad
    assert torch.equal(mixed, apr_dali.pair(images.detach(), [1, 0], backend=name))
    assert torch.equal(other, apr_dali.recombine(images.detach(), images.detach().flip(0), backend=name))


# ---- no images, and the types of half the size -----------------------------------------------------------------------


@pytest.mark.parametrize("as_kind", [lambda array: array, torch.from_numpy], ids=["numpy", "torch"])
@pytest.mark.parametrize("axes", ["chw", "hw"])
@pytest.mark.parametrize("name", ["reference", "torch", "native"])
def test_no_images_give_no_images(name, axes, as_kind, native):  # noqa: ARG001
    for dtype in ("float16", "float32", "float64"):
        none = as_kind(np.zeros((0, 3, 6, 8), dtype))
        assert apr_dali.recombine(none, none, axes=axes, backend=name).shape == (0, 3, 6, 8)
        assert apr_dali.recombine(none, none, axes=axes, backend=name).dtype == none.dtype
        assert apr_dali.pair(none, [], axes=axes, backend=name).shape == (0, 3, 6, 8)
    levels = as_kind(np.zeros((0, 6, 8, 3), np.uint8))
    for mix in (False, True):
        both = apr_dali.pair(levels, [], mix, axes=axes, with_clean=True, dtype="float16", backend=name)
        assert both.shape == (0, 2, 3, 6, 8)
    for overflow in ("wrap", "clamp"):
        single = apr_dali.single(levels, SingleDraws.sample(0, 6, 8, 0), overflow=overflow, axes=axes, backend=name)
        assert single.shape == (0, 6, 8, 3)
        assert single.dtype == levels.dtype


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("name", ["torch", "native"])
def test_half_precision_is_recombined_in_float32(name, dtype, crops, native):  # noqa: ARG001
    images = (torch.from_numpy(crops(3, 10, 12)).permute(0, 3, 1, 2) / 255).to(getattr(torch, dtype))
    full = apr_dali.recombine(images.float(), images.float().flip(0), backend=name)
    assert torch.equal(apr_dali.recombine(images, images.flip(0), backend=name), full.to(images.dtype))


# ---- where images lie, and what is in them ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["reference", "torch", "native"])
def test_strides_of_any_kind_change_nothing(name, crops, native):  # noqa: ARG001
    images = np.moveaxis(crops(4, 16, 18), -1, 1).astype(np.float32)[:, ::-1, ::-2, 1::3]
    whole, turned = np.ascontiguousarray(images), np.arange(4)[::-1]
    mixed = apr_dali.pair(whole, turned.copy(), backend=name)
    np.testing.assert_array_equal(apr_dali.pair(images, turned, backend=name), mixed)
    recombined = apr_dali.recombine(whole, whole[::-1].copy(), backend=name)
    np.testing.assert_array_equal(apr_dali.recombine(images, images[::-1], backend=name), recombined)


@pytest.mark.parametrize("name", ["reference", "torch", "native"])
def test_what_is_no_number_stays_in_its_pair(name, crops, native):  # noqa: ARG001
    images = np.moveaxis(crops(4, 8, 8), -1, 1).astype(np.float32)
    broken = images.copy()
    broken[0, 1, 2, 3] = np.nan
    mixed = apr_dali.pair(broken, [1, 0, 3, 2], backend=name)
    assert np.isnan(mixed[:2]).all()
    np.testing.assert_array_equal(mixed[2:], apr_dali.pair(images, [1, 0, 3, 2], backend=name)[2:])


@pytest.mark.parametrize("threads", [0, 1.5, "2", True])
def test_threads_are_a_whole_number(threads, native):  # noqa: ARG001
    with pytest.raises(InputError, match="threads must be"):
        apr_dali.recombine(F32, F32, backend="native", threads=threads)
