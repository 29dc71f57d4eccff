"""APR-S and APR-P on the batches of DALI's dynamic mode, where operators are called like functions.

    for encoded, labels in reader.next_epoch(batch_size=256, capture=True):
        images = ndd.resize(ndd.decoders.image_random_crop(encoded), size=(224, 224))
        images = apr_pair(apr_single(images), 0.5, in_scale=1 / 255)

The draws are given, or come from DALI's generator, `rng`, as those of DALI's own random operators. DALI captures its
own operators alone: what follows APR on a batch runs operator by operator, so APR stands last.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from apr_dali import functional
from apr_dali.draws import PairDraws, SingleDraws
from apr_dali.errors import InputError, check_choice, check_share
from apr_dali.pipelines.newer import require
from apr_dali.pipelines.operators import pair_in_views
from apr_dali.recipes import check_views

ndd = require("nvidia.dali.experimental.dynamic", "2.2")

DTYPES = ("float32", "float16")
"""What a batch of dynamic mode can be of."""

_LAYOUTS = {ndd.uint8: "HWC", ndd.float16: "CHW", ndd.float32: "CHW", ndd.float64: "CHW"}
"""How the operators take an image, by its type."""


def apr_single(images: Any, *, draws: SingleDraws | None = None, rng: Any = None, **options: Any) -> Any:
    """APR-S of a batch of dynamic mode: uint8 HWC images of one size to the same; see `apr_dali.single`.

    Args:
        images: a `Batch` on the CPU or a GPU.
        draws: for these images; None: drawn from `rng`.
        rng: an `ndd.random.RNG`; None: the thread's default one, which `ndd.random.set_seed` seeds.
        options: overflow, axes, backend and threads of `apr_dali.single`.

    Raises:
        InputError: for what is no batch of images of one size, and for draws together with rng.
    """
    height, width = _size(images)
    _check_draws(draws, rng, SingleDraws)
    if draws is None:
        draws = SingleDraws.sample(images.batch_size, height, width, _generator(rng))
    return _changed(images, "HWC", lambda batch: functional.single(batch, draws, **options))


def apr_pair(
    images: Any,
    p: float = 0.5,
    *,
    dtype: str = "float32",
    views: str = "both",
    repeat_unmixed: bool = False,
    draws: PairDraws | None = None,
    rng: Any = None,
    **options: Any,
) -> Any:
    """APR-P of a batch of dynamic mode; see `apr_dali.pair` and `apr_dali.pipelines.operators.apr_pair`.

    Args:
        images: a `Batch` of uint8 HWC or float CHW images of one size.
        p: share of batches that are mixed, 0..1; without effect on given draws.
        dtype: float32 or float16.
        views: "both" gives (2, C, H, W) per image, the clean view first, and (1, C, H, W) in a batch that the coin
            leaves unmixed; "mixed" gives (C, H, W).
        repeat_unmixed: give (2, C, H, W) in such a batch, too.
        draws: for these images; None: drawn from `rng`, see `apr_single`.
        options: scales, biases, axes, backend, threads and intermediates of `apr_dali.pair`.

    Raises:
        InputError: see `apr_single`.
    """
    check_share("p", p)
    check_choice("dtype", dtype, DTYPES)
    check_views(views, repeat_unmixed)
    _size(images)
    _check_draws(draws, rng, PairDraws)
    if taken := sorted({"memory_format", "with_clean"} & options.keys()):
        raise InputError(f"{taken[0]} is not for dynamic mode: batches are CHW, and views chooses the clean one")
    chosen = draw_pair(images.batch_size, p, rng) if draws is None else draws
    both = views == "both"
    options |= {"dtype": dtype, "memory_format": "contiguous", "with_clean": both, "repeat_unmixed": repeat_unmixed}
    function = partial(pair_in_views, partner=chosen.partner, mix=chosen.mix, **options)
    return _changed(images, "FCHW" if both else "CHW", function)


def draw_pair(batch: int, p: float = 0.5, rng: Any = None, coin: float | None = None) -> PairDraws:
    """The draws of `apr_pair` from DALI's generator; coin: in 0..1, where all ranks have one, see `coin_of`."""
    drawn = PairDraws.sample(batch, seed=_generator(rng), p=p)
    return drawn if coin is None else replace(drawn, mix=coin < p)


def _generator(rng: Any) -> np.random.Generator:
    """Two words of DALI's generator, in every call alike: a captured epoch counts on it."""
    source = ndd.random.get_default_rng() if rng is None else rng
    return np.random.default_rng([source(), source()])


def _check_draws(draws: Any, rng: Any, kind: type) -> None:
    if draws is not None and rng is not None:
        raise InputError("rng has no effect with draws: give one of the two")
    if draws is not None and not isinstance(draws, kind):
        raise InputError(f"draws must be {kind.__name__}, got {type(draws).__name__}")
    if rng is not None and not isinstance(rng, ndd.random.RNG):
        raise InputError(f"rng must be an ndd.random.RNG, got {type(rng).__name__}")


def _size(images: Any) -> tuple[int, int]:
    """Height and width of the images, once they are a batch that the operators can take."""
    if not isinstance(images, ndd.Batch):
        raise InputError(
            f"APR in dynamic mode takes a Batch of images, got {type(images).__name__}: make it one with ndd.as_batch"
        )
    shapes = sorted(set(map(tuple, images.shape)))
    if len(shapes) != 1:
        sizes = ", ".join(map(str, shapes)) or "no image"
        raise InputError(f"the images of a batch must have one size, got {sizes}")
    expected = _LAYOUTS.get(images.dtype)
    if expected is None or len(shapes[0]) != 3 or images.layout not in (expected, "", None):
        kind = f"{images.dtype} {images.layout or ''}".strip()
        raise InputError(f"APR takes uint8 images HWC or floating ones CHW, got {kind} of the shape {shapes[0]}")
    return shapes[0][expected.index("H")], shapes[0][expected.index("W")]


def _changed(images: Any, layout: str, function: Callable[[Any], Any]) -> Any:
    """function(array (N, ...)) of a batch as a batch: NumPy's on the CPU, CuPy's on DALI's stream on a GPU."""
    tensor = ndd.as_tensor(images).evaluate()
    if images.device.device_type == "cpu":
        return ndd.as_batch(function(np.asarray(tensor)), layout=layout)
    import cupy

    number = images.device.device_id
    stream = ndd.EvalContext.current().cuda_stream
    with cupy.cuda.Device(number), cupy.cuda.Stream.from_external(stream):
        return ndd.as_batch(cupy.ascontiguousarray(function(cupy.from_dlpack(tensor))), layout=layout)
