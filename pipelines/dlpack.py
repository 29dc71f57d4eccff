"""The samples of a DALI batch as one array and back, without an array for each sample.

`fn.python_function` makes a NumPy or CuPy array of every sample of every input and takes one for every sample of the
output: 7 ms of Python for 256 images on a GPU. `fn.dl_tensor_python_function` hands over DLPack capsules instead.
Here the capsules of a batch are read in one call of C++, and those of the result are made in another one. Where the
extension was not built, they are read as C structures from Python, and made by NumPy or CuPy.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from functools import cache
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from apr_dali.kernels.cpu import backend as native_backend

NAME = b"dltensor"
CPU, CUDA = 1, 2  # DLDeviceType
_KINDS = {"i": 0, "u": 1, "f": 2}  # DLDataTypeCode
_LETTERS = {code: letter for letter, code in _KINDS.items()}


@dataclass(frozen=True)
class Samples:
    """Where the samples of a batch lie: C-contiguous, of one shape and dtype. addresses: int64 (N,)."""

    addresses: NDArray[np.int64]
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    device_id: int

    @property
    def packed(self) -> bool:
        """Whether they lie end to end, as one array."""
        return bool(np.all(np.diff(self.addresses) == prod(self.shape) * self.dtype.itemsize))


def samples_of(capsules: list[Any]) -> Samples:
    """Read the capsules of a batch, which stay as they are: they keep the samples' memory until they die."""
    extension = native()
    read = _read_capsules if extension is None else extension.read_capsules
    addresses, shape, code, bits, device_id = read(capsules)
    if code not in _LETTERS:
        raise TypeError(f"samples must be of the types {', '.join(_KINDS)} of NumPy, got DLPack's type {code}")
    return Samples(addresses, shape, np.dtype(f"{_LETTERS[code]}{bits // 8}"), device_id)


def capsules_of(batch: Any, *, framed: bool = False) -> list[Any]:
    """Capsules of the samples of a batch (N, ...), a C-contiguous NumPy or CuPy array of numbers.

    framed: as samples (1, ...) whose first stride is not a compact sample's. On a GPU DALI copies compact samples one
    by one, 256 copies of a microsecond or two, and all others of a batch by one kernel.

    Its memory must outlive every use of them. `fn.dl_tensor_python_function` has used them when it returns, on the GPU
    when its stream has come there.
    """
    extension = native()
    if extension is None:
        samples = batch[:, None] if framed else batch
        return [samples[index, ...].__dlpack__() for index in range(len(batch))]
    on_host = isinstance(batch, np.ndarray)
    address, device = (batch.ctypes.data, (CPU, 0)) if on_host else (batch.data.ptr, (CUDA, batch.device.id))
    kind = np.dtype(batch.dtype)
    made: list[Any] = extension.make_capsules(
        address, len(batch), batch.shape[1:], _KINDS[kind.kind], 8 * kind.itemsize, *device, framed
    )
    return made


def host_bytes(capsule: Any) -> NDArray[np.uint8]:
    """uint8 (bytes,): what lies in one sample in the host's memory, a view that keeps it."""
    sample = samples_of([capsule])
    memory = (ctypes.c_uint8 * (prod(sample.shape) * sample.dtype.itemsize)).from_address(int(sample.addresses[0]))
    memory._capsule = capsule  # type: ignore[attr-defined]
    return np.ctypeslib.as_array(memory)


@cache
def native() -> Any:
    """The C++ extension, None where it was not built."""
    try:
        return native_backend.load("")
    except ImportError:
        return None


# ---- What the extension reads, from Python ----


class _Tensor(ctypes.Structure):
    """DLManagedTensor of dlpack.h, https://github.com/dmlc/dlpack."""

    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
        ("manager_ctx", ctypes.c_void_p),
        ("deleter", ctypes.c_void_p),
    )


_get_pointer = ctypes.pythonapi.PyCapsule_GetPointer
_get_pointer.restype, _get_pointer.argtypes = ctypes.c_void_p, (ctypes.py_object, ctypes.c_char_p)


def _read_capsules(capsules: list[Any]) -> tuple[Any, ...]:
    tensors = [_Tensor.from_address(_get_pointer(capsule, NAME)) for capsule in capsules]
    first = tensors[0]
    shape = tuple(first.shape[: first.ndim])
    for tensor in tensors:
        its = tuple(tensor.shape[: tensor.ndim])
        if (its, tensor.code, tensor.bits) != (shape, first.code, first.bits):
            raise ValueError(f"the images of a batch must have one size, got {shape} and {its}")
        strides = tensor.strides[: tensor.ndim] if tensor.strides else None
        if strides and any(its[k] > 1 and strides[k] != prod(its[k + 1 :]) for k in range(len(its))):
            raise ValueError(f"samples must be C-contiguous, got one of {its}")
    addresses = np.array([(tensor.data or 0) + tensor.byte_offset for tensor in tensors], np.int64)
    return addresses, shape, first.code if first.lanes == 1 else -1, first.bits, first.device_id
