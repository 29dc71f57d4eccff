"""The kinds of arrays that operators take: NumPy's, torch's and CuPy's, and how each becomes another."""

from __future__ import annotations

from contextlib import AbstractContextManager, ExitStack, nullcontext
from functools import cache
from typing import Any

from numpy.typing import NDArray

from apr_dali.errors import InputError


def library_of(array: Any) -> str:
    """The library of `array`: numpy, torch or cupy. Raises TypeError for anything else."""
    root = type(array).__module__.partition(".")[0]
    if root not in ("numpy", "torch", "cupy"):
        raise TypeError(f"images must be a NumPy array, a torch tensor or a CuPy array, got {type(array).__name__}")
    return root


def device_of(array: Any) -> str:
    """The kind of device that `array` is on: cpu or cuda. Raises ValueError for another one, or for no memory there."""
    library = library_of(array)
    if library == "torch":
        if array.device.type not in ("cpu", "cuda"):
            raise ValueError(f"images must be on the CPU or a CUDA device, got {array.device}")
        if str(array.layout) != "torch.strided":
            raise InputError(f"images must be dense, got {array.layout}: give them tensor.to_dense()")
        _check_memory(array)
        return str(array.device.type)
    return "cuda" if library == "cupy" else "cpu"


def _check_memory(tensor: Any) -> None:
    """Raise InputError for what torch.func hands to a function in place of a tensor, and for any within one of its
    transforms."""
    import torch

    why = "this call is within one"
    try:
        tensor.data_ptr()
    except RuntimeError as error:
        why = str(error)
    else:
        # There what is made of any tensor is one of theirs, and functionalize's has a pointer, but not to its values.
        if torch._C._functorch.peek_interpreter_stack() is None:
            return
    raise InputError(
        "APR's operators are not differentiable, and take tensors with memory of their own, which torch.func's "
        f"transforms, such as grad, jvp and vmap, do not give: call them outside, a batch at once ({why})"
    )


def on_device(array: Any) -> bool:
    """Whether `array` is one, and on a CUDA device."""
    return type(array).__module__.startswith(("torch", "cupy")) and device_of(array) == "cuda"


def as_input(array: Any, backend: str) -> Any:
    """`array` as the kind that `backend` works on, without a copy."""
    library = library_of(array)
    if backend == "torch" and library != "torch":
        import torch

        return torch.from_dlpack(array) if library == "cupy" else torch.from_numpy(_writeable(array))
    if backend in ("reference", "native") and library != "numpy":
        return array.get() if library == "cupy" else _host_view(array)
    if backend == "cupy" and library == "torch":
        import cupy

        # CuPy has no bfloat16, and bool does not pass DLPack in every version.
        passing = {"bfloat16": "float32", "bool": "uint8"}.get(dtype_name(array.dtype))
        return cupy.from_dlpack(array.detach() if passing is None else array.detach().to(torch_dtype(passing)))
    return array


def torch_dtype(name: str) -> Any:
    """torch's dtype of this name."""
    import torch

    return getattr(torch, name)


def _host_view(tensor: Any) -> NDArray[Any]:
    host = tensor.detach().cpu()
    # NumPy has no bfloat16, and float32 holds every value of it.
    return (host.float() if dtype_name(host.dtype) == "bfloat16" else host).numpy()


def _writeable(array: NDArray[Any]) -> NDArray[Any]:
    # torch warns about read-only arrays, which DALI's and Pillow's views are; negative strides it cannot take.
    return array if array.flags.writeable and min(array.strides, default=0) >= 0 else array.copy()


def as_output(result: Any, like: Any, dtype: str) -> Any:
    """`result` as the library and on the device of `like`, in `dtype`; bfloat16, where it lacks that, as its bits."""
    library = library_of(like)
    if library_of(result) == "torch" and library == "torch":
        return result
    if dtype == "bfloat16" and library != "torch":
        result, dtype = _bits(result), "int16"
    if library == "torch":
        import torch

        tensor = torch.from_numpy(result) if library_of(result) == "numpy" else torch.from_dlpack(result)
        if dtype == "bfloat16" and dtype_name(result.dtype) in ("uint16", "int16"):
            return tensor.view(torch.bfloat16)  # the native and the cupy backend write its bits
        return tensor.to(like.device, torch_dtype(dtype))
    if library == "numpy":
        return (result.numpy() if library_of(result) == "torch" else result).astype(dtype, copy=False)
    import cupy

    return cupy.asarray(result).astype(dtype, copy=False)


def _bits(result: Any) -> Any:
    """bfloat16, or what is to become that, as the int16 of its bits."""
    if dtype_name(result.dtype) in ("uint16", "int16"):
        return result.view("int16")
    import torch

    tensor = result if library_of(result) == "torch" else torch.from_numpy(result)
    return tensor.to(torch.bfloat16).view(torch.int16)


def channels_first(array: Any) -> Any:
    """(..., H, W, C) as the view (..., C, H, W), of every library's arrays."""
    return array.swapaxes(-1, -3).swapaxes(-1, -2)


def channels_last(array: Any) -> Any:
    """(..., C, H, W) as the view (..., H, W, C)."""
    return array.swapaxes(-1, -2).swapaxes(-1, -3)


def on_the_stream_of(images: Any, chosen: str) -> AbstractContextManager[Any]:
    """Lets backend `chosen` work on the device and the stream that are current for the library of `images`."""
    library = library_of(images)
    if not on_device(images) or chosen not in ("cupy", "torch") or (library, chosen) == ("torch", "torch"):
        return nullcontext()
    import cupy

    if chosen == "cupy":
        contexts = ExitStack()
        if library == "cupy":
            contexts.enter_context(images.device)
            return contexts
        import torch

        device = images.device.index
        contexts.enter_context(cupy.cuda.Device(device))
        contexts.enter_context(cupy.cuda.Stream.from_external(torch.cuda.current_stream(device)))
        return contexts
    import torch

    pointer, device = cupy.cuda.get_current_stream().ptr, images.device.id
    # torch takes 0, the default stream, for a wish to have a new one.
    stream = torch.cuda.ExternalStream(pointer, device) if pointer else torch.cuda.default_stream(device)
    return torch.cuda.stream(stream)


@cache
def dtype_name(dtype: Any) -> str:
    """The name of a dtype, alike for all libraries."""
    return str(dtype).removeprefix("torch.")
