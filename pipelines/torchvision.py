"""APR-S and APR-P as operators of DALI's torchvision-compatible API, `nvidia.dali.experimental.torchvision`.

    Compose([RandomHorizontalFlip(), AprSingle(), AprPair(in_scale=1 / 255)], batch_size=256)

A batch comes as one tensor, uint8 (N, C, H, W); a PIL image comes by itself. The draws are DALI's, by Compose's seed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from nvidia.dali import fn, types
from nvidia.dali.data_node import DataNode

from apr_dali.errors import InputError, check_choice, check_share
from apr_dali.functional import check_pair_options
from apr_dali.kernels import dispatch
from apr_dali.pipelines import operators
from apr_dali.pipelines.newer import require
from apr_dali.recipes import check_views
from apr_dali.spectral import AXES, OVERFLOWS

Operator = require("nvidia.dali.experimental.torchvision.v2.operator", "2.2").Operator

DEVICES = ("cpu", "gpu")
DTYPES = ("float32", "float16")
"""What APR-P gives: torch takes from DALI no bfloat16."""
_CHANNELS = ord("C")


class AprSingle(Operator):  # type: ignore[misc, valid-type]
    """APR-S for `Compose`: uint8 images of one size to the same, tensors CHW or PIL images; see `apr_dali.single`.

    Args:
        overflow, axes, backend, threads: see `apr_dali.single`.
        device: "cpu" or "gpu", of this operator, as DALI's own have it.
    """

    def __init__(
        self,
        *,
        overflow: str = "wrap",
        axes: str = "chw",
        backend: str = "auto",
        threads: int | None = None,
        device: str = "cpu",
    ) -> None:
        check_choice("overflow", overflow, OVERFLOWS)
        check_choice("axes", axes, AXES)
        check_choice("device", device, DEVICES)
        dispatch.check_backend(backend, threads)
        super().__init__(device=device)
        self._options: dict[str, Any] = {"overflow": overflow, "axes": axes, "backend": backend, "threads": threads}

    def _kernel(self, data_input: DataNode) -> DataNode:
        draws = operators.draw_single()
        if data_input.property("layout")[-1] == _CHANNELS:
            output = operators.apr_single(data_input, draws=draws, **self._options)
        else:
            changed = operators.apr_single(fn.transpose(data_input, perm=[1, 2, 0]), draws=draws, **self._options)
            output = fn.transpose(changed, perm=[2, 0, 1])
        return output


class AprPair(Operator):  # type: ignore[misc, valid-type]
    """APR-P for `Compose`: a batch as a tensor, uint8 or float (N, C, H, W); see `apr_dali.pair`.

    PIL images are refused: they come one by one, and have no partner.

    Args:
        p: share of batches that are mixed, 0..1.
        dtype: float32 or float16, of what comes.
        views: "both" gives (N, 2, C, H, W), the clean view first, and (N, 1, C, H, W) where the coin leaves the batch
            unmixed; "mixed" gives (N, C, H, W).
        repeat_unmixed: give two views in such a batch, too.
        in_scale, in_bias, out_scale, out_bias, axes, backend, threads: see `apr_dali.pair`.
        device: "cpu" or "gpu", of this operator, as DALI's own have it.
    """

    def __init__(
        self,
        p: float = 0.5,
        *,
        in_scale: ArrayLike = 1.0,
        in_bias: ArrayLike = 0.0,
        out_scale: ArrayLike = 1.0,
        out_bias: ArrayLike = 0.0,
        dtype: str = "float32",
        axes: str = "chw",
        views: str = "both",
        repeat_unmixed: bool = False,
        backend: str = "auto",
        threads: int | None = None,
        device: str = "cpu",
    ) -> None:
        check_share("p", p)
        check_choice("dtype", dtype, DTYPES)
        check_views(views, repeat_unmixed)
        check_pair_options(dtype=dtype, axes=axes, intermediates="float32", memory_format="contiguous")
        check_choice("device", device, DEVICES)
        dispatch.check_backend(backend, threads)
        super().__init__(device=device)
        scales = {"in_scale": in_scale, "in_bias": in_bias, "out_scale": out_scale, "out_bias": out_bias}
        how = {"views": views, "repeat_unmixed": repeat_unmixed, "backend": backend, "threads": threads}
        self._options: dict[str, Any] = {"p": p, "dtype": dtype, "axes": axes, **scales, **how}

    def _kernel(self, data_input: DataNode) -> DataNode:
        partner, coin = operators.draw_pair()
        # What nothing depends on may fail unheard.
        layout = data_input.property("layout")
        partner = fn.python_function(partner, layout, function=_refuse_pictures, batch_processing=True)
        # Whole numbers of 8 bits are the same as floats, in the order of the axes that floats have.
        images = fn.cast(data_input, dtype=types.FLOAT)
        return operators.apr_pair(images, draws=(partner, coin), **self._options)


def _refuse_pictures(partner: Sequence[Any], layouts: Sequence[NDArray[np.uint8]]) -> Sequence[Any]:
    """The same partners, of images whose layout is not HWC."""
    if layouts[0][-1] == _CHANNELS:
        raise InputError("AprPair takes a batch as a tensor (N, C, H, W): a PIL image comes alone, and has no partner")
    return partner
