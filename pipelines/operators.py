"""APR-S, APR-P and ImageNet-C's corruptions as operators of a DALI graph, for any `@pipeline_def`.

Each is one call of the backend per batch. The random numbers come from DALI's own operators, so that they follow the
pipeline's seed and are part of its checkpoints; the functions themselves are pure.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from nvidia.dali import fn, types
from nvidia.dali.data_node import DataNode
from nvidia.dali.pipeline import Pipeline

from apr_dali import functional
from apr_dali.augmentations import find as find_augmentation
from apr_dali.augmentations import functional as augmenting
from apr_dali.augmentations.record import COINS
from apr_dali.corruptions import CorruptionDraws, find
from apr_dali.draws import SEEDS, UNIFORMS_PER_IMAGE, SingleDraws, coin_of
from apr_dali.errors import InputError, check_choice, check_share, check_whole
from apr_dali.functional import check_pair_options
from apr_dali.kernels import corruptions, dispatch
from apr_dali.kernels.arrays import channels_last
from apr_dali.kernels.cuda import backend as cupy_backend
from apr_dali.kernels.cuda.corrupt_job import Cell
from apr_dali.pipelines.handover import Handover
from apr_dali.pipelines.per_batch import per_batch
from apr_dali.recipes import check_views
from apr_dali.runtime.deprecation import renamed
from apr_dali.spectral import AXES, OVERFLOWS


def apr_single(
    images: DataNode,
    *,
    overflow: str = "wrap",
    axes: str = "chw",
    backend: str = "auto",
    threads: int | None = None,
    draws: DataNode | None = None,
) -> DataNode:
    """APR-S in a DALI graph: uint8 HWC images of one size to the same; see `apr_dali.single`.

    draws: of `draw_single`, on the CPU, where something else follows them too; else they are drawn here.
    """
    check_choice("overflow", overflow, OVERFLOWS)
    check_choice("axes", axes, AXES)
    chosen = dispatch.choose(backend, _home_of(images), threads)
    function = partial(_single_batch, overflow=overflow, axes=axes, backend=backend, threads=threads)
    uniform = draw_single() if draws is None else draws
    if chosen == "cupy":
        return per_batch(partial(function, decode=cupy_backend.decode), images, uniform, layout="HWC")
    return per_batch(partial(function, decode=SingleDraws.from_uniform), images, on_host=[uniform], layout="HWC")


def draw_single() -> DataNode:
    """The draws of `apr_single`, an image: float (8,) in 0..1, what `SingleDraws.from_uniform` takes."""
    return fn.random.uniform(range=(0.0, 1.0), shape=(UNIFORMS_PER_IMAGE,))


@renamed("probability", "p")
def apr_pair(
    images: DataNode,
    p: float = 0.5,
    *,
    in_scale: ArrayLike = 1.0,
    in_bias: ArrayLike = 0.0,
    out_scale: ArrayLike = 1.0,
    out_bias: ArrayLike = 0.0,
    dtype: str = "float32",
    axes: str = "chw",
    views: str = "both",
    backend: str = "auto",
    threads: int | None = None,
    intermediates: str = "float32",
    memory_format: str = "contiguous",
    repeat_unmixed: bool = False,
    coin_seed: int | None = None,
    draws: tuple[DataNode, DataNode] | None = None,
    handover: Handover | None = None,
) -> DataNode:
    """APR-P in a DALI graph: one coin and one permutation per batch; see `apr_dali.pair`.

    Args:
        images: uint8 HWC or float CHW, all of one size.
        p: share of batches that are mixed, 0..1.
        dtype: float32, float16, or bfloat16, which DALI has not: then int16, its bits.
        views: "both" gives (2, C, H, W) per image, the clean view first, and (1, C, H, W) in a batch that the coin
            leaves unmixed, whose views are one and the same; "mixed" gives (C, H, W).
        memory_format: "channels_last" gives (V, H, W, C) or (H, W, C).
        repeat_unmixed: give (2, C, H, W) in such a batch, too.
        coin_seed: of the coin, the same on all ranks so that all mix at the same steps, whatever their batch size;
            None: the coin follows the pipeline's seed.
        draws: of `draw_pair`, where something else follows them too; else they are drawn here.
        handover: gets the batches of the CPU, where nothing follows in the graph; it gives out their numbers.

    The other arguments are those of `apr_dali.pair`.
    """
    check_share("p", p)
    check_views(views, repeat_unmixed)
    if coin_seed is not None and draws is not None:
        raise InputError("coin_seed has no effect with draws: give it to draw_pair")
    check_pair_options(dtype=dtype, axes=axes, intermediates=intermediates, memory_format=memory_format)
    dispatch.choose(backend, _home_of(images), threads)  # refuses one that cannot run before the graph does
    partner, coin = draws or draw_pair(coin_seed)
    function = partial(
        _pair_batch,
        in_scale=in_scale,
        in_bias=in_bias,
        out_scale=out_scale,
        out_bias=out_bias,
        dtype=dtype,
        axes=axes,
        with_clean=views == "both",
        repeat_unmixed=repeat_unmixed,
        backend=backend,
        threads=threads,
        intermediates=intermediates,
        memory_format=memory_format,
    )
    # The coin goes by the shape, which the host knows of a batch on a GPU too: the partner twice where it mixes.
    twice = fn.stack(partner, partner)
    decided = fn.slice(twice, start=0, shape=1 + mixed((partner, coin), p), axes=[0])
    layout = layout_of(memory_format, "F" if views == "both" else "")
    return per_batch(function, images, decided, layout=layout, handover=handover)


def normalized(
    images: DataNode,
    mean: ArrayLike,
    std: ArrayLike,
    *,
    dtype: str,
    memory_format: str = "contiguous",
    layout: str = "CHW",
    backend: str = "auto",
    threads: int | None = None,
    handover: Handover | None = None,
) -> DataNode:
    """(images - mean) / std as `fn.crop_mirror_normalize` computes it, in the types of `apr_pair`.

    Args:
        images: uint8 HWC or FHWC.
        mean, std: (C,), in 0..255.
        layout: of the result.
        handover: see `apr_pair`.
    """
    dispatch.choose(backend, _home_of(images), threads)
    function = partial(
        _normalized_batch,
        # In this order each step rounds as it does there.
        in_bias=-np.asarray(mean, np.float64),
        out_scale=1 / np.asarray(std, np.float64),
        dtype=dtype,
        memory_format=memory_format,
        backend=backend,
        threads=threads,
    )
    return per_batch(function, images, layout=layout, handover=handover)


def _home_of(images: DataNode) -> str:
    """Where the images lie, in the words of `kernels.dispatch`."""
    return "cpu" if images.device == "cpu" else "cuda"


def layout_of(memory_format: str, frames: str = "") -> str:
    """DALI's letters for an image in this memory format, after `frames`."""
    return frames + ("HWC" if memory_format == "channels_last" else "CHW")


def draw_pair(coin_seed: int | None = None) -> tuple[DataNode, DataNode]:
    """The draws of `apr_pair` for a batch: each image's partner, and the coin; coin_seed: see `apr_pair`."""
    if coin_seed is None:
        return fn.batch_permutation(), fn.random.uniform(range=(0.0, 1.0))
    check_whole("coin_seed", coin_seed, 0, SEEDS)
    source = _Coins(coin_seed, Pipeline.current().max_batch_size)
    return fn.batch_permutation(), fn.external_source(source=source, batch=True, batch_info=True, dtype=types.FLOAT)


class _Coins:
    """Coins of a batch as a function of the seed and the batch's number, which DALI's checkpoints hold.

    DALI's own random operators draw for every sample: with other batch sizes, so in other numbers of processes, the
    first sample's would be another.
    """

    def __init__(self, seed: int, batch_size: int, shape: tuple[int, ...] = ()) -> None:
        """shape: of the coins that each sample of the batch has."""
        self._seed, self._batch_size, self._shape = seed, batch_size, shape

    def __call__(self, batch: types.BatchInfo) -> NDArray[np.float32]:
        coins = np.empty(self._shape, np.float32)
        for place in np.ndindex(self._shape):
            coins[place] = coin_of(self._seed, batch.epoch_idx, batch.iteration, *place)
        return np.tile(coins, (self._batch_size, *[1] * len(self._shape)))


def mixed(draws: tuple[DataNode, DataNode], p: float) -> DataNode:
    """Whether the batch is mixed: int32 () per image, 0 or 1. draws, p: those that `apr_pair` was given."""
    partner, coin = draws
    # DALI draws a coin an image; the first is the batch's.
    return fn.cast(fn.permute_batch(coin, indices=0 * partner) < p, dtype=types.INT32)


def corrupt(
    images: DataNode,
    name: str,
    severity: int,
    *,
    seed: int = 0,
    numbers: DataNode | None = None,
    parameter_set: str = "imagenet",
    backend: str = "auto",
    threads: int | None = None,
) -> DataNode:
    """A corruption of ImageNet-C or C-bar in a DALI graph, of uint8 HWC images of one size; see `apr_dali.corrupt`.

    Args:
        images: on the CPU, or on a GPU for those that have a CUDA kernel.
        name, severity, parameter_set: see `apr_dali.CorruptionDraws.sample`.
        seed: the draws of an image depend on it, on the image's number, the name and the severity.
        numbers: int32 or int64 (1,) per image, from 0 on (on a GPU taken on trust): whatever tells the images apart, so
            that each has the same draws in every batch and epoch. None: DALI draws them, by the pipeline's seed.
        backend: see `apr_dali.corrupt`: that of the images' device, or "auto".
    """
    record, _ = find(name, severity, parameter_set)
    corruptions.check_options(backend, threads)
    check_whole("seed", seed, 0, 2**64 - 1)
    if images.device == "cpu":
        corruptions.choose(record, backend, "cpu")
    else:
        _check_on_device(name, backend, threads)
    if numbers is None:
        numbers = fn.random.uniform(range=(0.0, 2.0**31 - 1), dtype=types.INT64)
    function = partial(
        _corrupted_batch,
        name=name,
        severity=severity,
        seed=seed,
        parameter_set=parameter_set,
        backend=backend,
        threads=threads,
    )
    return per_batch(function, images, numbers, layout="HWC")


def _check_on_device(name: str, backend: str, threads: int | None) -> None:
    if backend not in ("auto", "cupy") or threads is not None:
        chosen = f"backend={backend!r}" if threads is None else f"threads={threads}"
        raise InputError(f"{chosen} runs on the CPU, got images on the GPU: corrupt them before they go there")
    corruptions.check_device(name)


def augment(
    images: DataNode,
    name: str,
    *,
    dataset: str = "cifar10",
    layout: str = "HWC",
    backend: str = "auto",
    threads: int | None = None,
    numbers: DataNode | None = None,
    coins: DataNode | None = None,
    **changes: Any,
) -> DataNode:
    """An augmentation of `apr_dali.augmentations` in a DALI graph; see `apr_dali.augmentations.functional.apply`.

    One call a batch, whose draws follow the pipeline's seed and its checkpoints.

    Args:
        images: uint8 HWC, or float CHW, in 0..1 where the augmentation is `unit`; all of one size. The same comes back.
        name: one of `apr_dali.augmentations.NAMES`, or a registered one; the stages of a combination one by one.
        dataset: whose published settings are taken, see `Augmentation.recipe`.
        layout: of the images, "HWC" or "CHW".
        backend, threads: see `apr_dali.augmentations.apply`; backends that cannot run are refused here.
        numbers: int64 () or (1,) per image, on the CPU, of which the first of a batch seeds its draws; None: DALI draws
            them.
        coins: float (2,) per image, on the CPU, of which the first of a batch decides over it, where the augmentation
            has a `coin`; None: it follows the number.
        changes: of the settings.
    """
    record = find_augmentation(name)
    if coins is not None and not record.coin:
        raise InputError(f"coins have no effect with {name}: no coin decides over its batches")
    record.recipe(dataset)
    augmenting.check_options(None, backend, threads)
    check_choice("layout", layout, ("HWC",) if record.takes == "levels" else ("HWC", "CHW"))
    record.check_settings(changes)  # here and not in the graph
    record.sample(0, 8, 8, 0, dataset=dataset, **changes)
    augmenting.choose(record, _home_of(images), "float32", backend)
    if numbers is None:
        numbers = fn.random.uniform(range=(0.0, 2.0**31 - 1), dtype=types.INT64)
    options = {"backend": backend, "threads": threads, "dataset": dataset, **changes}
    function = partial(augmenting.apply_in_graph, augmentation=record, **options)
    return per_batch(function, images, on_host=[numbers] if coins is None else [numbers, coins], layout=layout)


def draw_coins(coin_seed: int, count: int) -> DataNode:
    """The coins of a batch for `count` calls of `augment`: float (count, 2) per image; coin_seed: see `apr_pair`."""
    check_whole("coin_seed", coin_seed, 0, SEEDS)
    source = _Coins(coin_seed, Pipeline.current().max_batch_size, (count, COINS))
    return fn.external_source(source=source, batch=True, batch_info=True, dtype=types.FLOAT)


def any_heads(coins: DataNode, p: float) -> DataNode:
    """Whether one of the coins of `draw_coins` falls on heads, whose share is p: int32 () per image, 0 or 1."""
    return fn.reductions.max(fn.cast(coins[:, 0] < p, dtype=types.INT32))


def amplitudes_of(numbers: DataNode, draws: tuple[DataNode, DataNode], p: float) -> DataNode:
    """Number of the image that each mixed view has its amplitude from; its own where the batch is not mixed.

    numbers: int32 (1,) per image, on the CPU. draws, p: those that `apr_pair` was given.
    """
    chosen = mixed(draws, p)
    return chosen * fn.permute_batch(numbers, indices=draws[0]) + (1 - chosen) * numbers


def _single_batch(images: Any, uniform: Any, decode: Callable[..., Any], **options: Any) -> Any:
    return functional.single(images, decode(uniform, *images.shape[1:3]), **options)


def _pair_batch(images: Any, draws: Any, with_clean: bool, repeat_unmixed: bool, **options: Any) -> Any:
    """draws: integers (N, 1), each image's partner; (N, 2), the same twice, to mix."""
    return pair_in_views(
        images, draws[:, 0].astype(np.int32), draws.shape[1] == 2, with_clean, repeat_unmixed, **options
    )


def pair_in_views(images: Any, partner: Any, mix: bool, with_clean: bool, repeat_unmixed: bool, **options: Any) -> Any:
    """`apr_dali.pair` of a batch in its views, see `apr_pair`: (N, 2, C, H, W), (N, 1, C, H, W), or (N, C, H, W)."""
    once = with_clean and not (mix or repeat_unmixed)
    result = _stored_pair(images, partner, mix, with_clean=with_clean and not once, **options)
    return result[:, None] if once else result


def _normalized_batch(images: Any, **options: Any) -> Any:
    """images: uint8 (N, H, W, C) or (N, V, H, W, C)."""
    given = images.reshape(-1, *images.shape[-3:])
    result = _stored_pair(given, np.arange(len(given), dtype=np.int32), False, **options)
    return result.reshape(*images.shape[:-3], *result.shape[-3:])


def _stored_pair(*given: Any, dtype: str, memory_format: str, **options: Any) -> Any:
    """`apr_dali.pair` as DALI takes it: arrays in the order of their axes, and bfloat16 as its bits."""
    result = functional.pair(*given, dtype=dtype, memory_format=memory_format, bits=dtype == "bfloat16", **options)
    return channels_last(result) if memory_format == "channels_last" else result


def _corrupted_batch(
    images: Any, numbers: Any, name: str, severity: int, seed: int, parameter_set: str, **options: Any
) -> Any:
    if not isinstance(images, np.ndarray):
        return corruptions.corrupt_on_device(images, Cell(name, severity, parameter_set), seed, numbers.reshape(-1))
    height, width = images.shape[1:3]
    draws = CorruptionDraws.of_images(name, severity, numbers.reshape(-1), height, width, seed, parameter_set)
    return corruptions.corrupt(images, name, severity, draws, **options)
