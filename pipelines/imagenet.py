"""The ImageNet graphs: JPEGs in, augmented and normalized batches out, in the order of the published code.

Training: random crop (decoded by itself where the decoder can), resize, APR-S, flip, normalize, APR-P.
Evaluation: resize of the shorter side, center crop, normalize. The geometry is torchvision's to the pixel.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from nvidia.dali import fn, math, pipeline_def, types
from nvidia.dali.data_node import DataNode
from nvidia.dali.pipeline import Pipeline, do_not_convert

from apr_dali.data import tar_reader
from apr_dali.data.folders import ImageSet, TarSet
from apr_dali.data.tar_reader import ReaderFiles
from apr_dali.draws import SEEDS
from apr_dali.pipelines import augmented, operators, policies
from apr_dali.pipelines.encoded import checked, longest_side
from apr_dali.pipelines.erasing import erased
from apr_dali.pipelines.graph import STREAM_STRIDE, coin_seed, flipped, normalize, pair_scales
from apr_dali.pipelines.graph import Graph as CommonGraph
from apr_dali.pipelines.handover import Handover
from apr_dali.recipes import (
    CROP_RATIO,
    CROP_SCALE,
    HW_DECODER_LOAD,
    STANDARD,
    Scaling,
    uses_pair,
    uses_single,
)

_FILTERS = {"bilinear": types.INTERP_LINEAR, "bicubic": types.INTERP_CUBIC}

# Samples of a tar-backed set that are shuffled among each other; tars are read in order.
_TAR_SHUFFLE_BUFFER = 4096
# DALI's fused decoders allocate for the largest image at once: ImageNet's 99.9th percentile, not its maximum.
_WIDTH_HINT, _HEIGHT_HINT = 1024, 1024


@dataclass(frozen=True, kw_only=True)
class Graph(CommonGraph):
    """The settings of an ImageNet graph, see ImageNetLoader. scaling: None takes images as they are."""

    image_size: int
    scaling: Scaling | None = STANDARD
    views: str = "both"
    scale: tuple[float, float] = CROP_SCALE
    ratio: tuple[float, float] = CROP_RATIO
    hflip: float = 0.5
    hw_decoder_load: float = HW_DECODER_LOAD


def read(source: ImageSet | ReaderFiles, shard: tuple[int, int], seed: int, shuffle: bool) -> tuple[DataNode, ...]:
    """Encoded images of one shard, and int32 (1,) their labels, or of tars (2,) their numbers and labels.

    Every epoch ends on a whole batch, filled by repetition.
    """
    common: dict[str, Any] = {
        "name": "Reader",
        "shard_id": shard[0],
        "num_shards": shard[1],
        "pad_last_batch": True,
    }
    if shuffle:
        common.update(shuffle_after_epoch=True, shuffle_after_epoch_seed=seed)
    else:
        common.update(stick_to_shard=True)
    if isinstance(source, ImageSet):
        return tuple(fn.readers.file(files=list(source.files), labels=source.labels.tolist(), **common))
    encoded, digits = fn.readers.webdataset(  # type: ignore[misc]
        paths=list(source.tars),
        index_paths=list(source.indices),
        ext=[tar_reader.IMAGE, tar_reader.LABEL],
        missing_component_behavior="error",
        random_shuffle=shuffle,
        # A small set would fill a larger buffer with the same samples several times, from afar over the network.
        initial_fill=min(_TAR_SHUFFLE_BUFFER, source.samples),
        seed=seed,
        **common,
    )
    parse = partial(_parse_labels, classes=source.classes, field=source.field)
    # DALI knows where a sample comes from: a label that is none can say so.
    origin = fn.get_property(digits, key="source_info")
    return encoded, fn.python_function(digits, origin, function=parse, batch_processing=True)


def _parse_labels(digits: list[np.ndarray], origins: list[np.ndarray], classes: int, field: str) -> list[np.ndarray]:
    labels = []
    for content, origin in zip(digits, origins, strict=True):
        name = bytes(origin).decode("utf-8", "surrogateescape")
        labels.append(np.array(tar_reader.read_label(bytes(content), name, classes, field), np.int32))
    return labels


def random_crop(encoded: DataNode, graph: Graph) -> DataNode:
    """A random part of each encoded image, uint8 HWC; only that part is decoded where the decoder can do so."""
    encoded = checked(encoded, longest_side(graph.ratio))
    return fn.decoders.image_random_crop(
        encoded, random_area=list(graph.scale), random_aspect_ratio=list(graph.ratio), **_decoder(graph)
    )


@pipeline_def(enable_checkpointing=True)
def train_pipeline(
    source: ImageSet | ReaderFiles,
    graph: Graph,
    order_seed: int | None,
    coin_seed: int | None = None,
    handover: Handover | None = None,
) -> tuple[DataNode, DataNode]:
    """Training batches: (C, H, W) per image, or for both views (2, C, H, W), the clean one first, or (1, C, H, W), see
    `apr_pair`; and what `read` says of each. A policy needs enable_conditionals.

    order_seed: None takes the images in the order of the set. coin_seed, handover: see `apr_pair`.
    """
    images, labels = _crops(source, graph, order_seed)
    images = policies.apply(images, graph.policy, graph.policy_magnitude, (graph.image_size, graph.image_size))
    return _augmented(images, graph, coin_seed, handover), labels


# DALI's conditionals rewrite the functions of a graph: those that have none stay as they are.
@do_not_convert
def _crops(source: ImageSet | ReaderFiles, graph: Graph, order_seed: int | None) -> tuple[DataNode, DataNode]:
    encoded, labels = read(source, graph.shard, order_seed or 0, shuffle=order_seed is not None)
    return in_color(resize(random_crop(encoded, graph), (graph.image_size, graph.image_size)), graph), labels


@do_not_convert
def _augmented(images: DataNode, graph: Graph, coin_seed: int | None, handover: Handover | None) -> DataNode:
    """What follows the policy: APR, flip, normalization, erasing."""
    recipe, size = graph.recipe, (graph.image_size, graph.image_size)
    if uses_single(graph.aug):
        images = operators.apr_single(images, overflow=recipe.overflow, **graph.operator_options)
    plan = graph.plan
    if plan is not None:
        images = augmented.on_levels(images, plan, graph)
    mirror = fn.random.coin_flip(probability=graph.hflip)
    if plan is None and not uses_pair(graph.aug):
        images = normalize(images, graph, mirror, handover=handover)
        return erased(images, graph.random_erasing, size)
    images = flipped(images, mirror)
    if plan is not None and not plan.pair:
        seen = augmented.normalized_views(images, plan, graph, coin_seed)
        return erased(seen.images, graph.random_erasing, size, seen.frames, seen.differ)
    draws = operators.draw_pair(coin_seed)
    images = operators.apr_pair(
        images,
        recipe.pair_probability,
        **pair_scales(recipe),
        views=graph.views,
        **graph.operator_options,
        **graph.output_options,
        repeat_unmixed=graph.repeat_unmixed,
        draws=draws,
        handover=handover,
    )
    if graph.views == "mixed":
        return erased(images, graph.random_erasing, size)
    return erased(images, graph.random_erasing, size, 2, partial(operators.mixed, draws, recipe.pair_probability))


@pipeline_def(enable_checkpointing=True)
def eval_pipeline(
    source: ImageSet | ReaderFiles, graph: Graph, handover: Handover | None = None
) -> tuple[DataNode, DataNode]:
    """Evaluation batches (C, H, W) per image, in the order of the set, and what `read` says of each.

    handover: see `apr_pair`.
    """
    encoded, labels = read(source, graph.shard, seed=0, shuffle=False)
    return normalize(in_color(middle(encoded, graph), graph), graph, handover=handover), labels


def middle(encoded: DataNode, graph: Graph) -> DataNode:
    """The middle of each encoded image, decoded and scaled as evaluation sees it: uint8 HWC."""
    encoded = checked(encoded)
    shape = fn.peek_image_shape(encoded, adjust_orientation=False)
    height, width = shape[0], shape[1]
    shorter = math.min(height, width)
    images = fn.decoders.image(encoded, **_decoder(graph))
    padding: dict[str, Any] = {}
    if graph.scaling is not None:
        height, width = _resized(height, width, shorter, graph.scaling, graph.image_size)
        images = resize(images, fn.cast(fn.stack(height, width), dtype=types.FLOAT), graph.scaling.filter)
        if graph.scaling.geometry == "border" or graph.scaling.over_crop < 1:
            border = graph.scaling.border(graph.recipe.mean)[: graph.in_chans]
            padding = {"out_of_bounds_policy": "pad", "fill_values": list(border)}
    corner = fn.stack(_center(height - graph.image_size), _center(width - graph.image_size))
    size = [graph.image_size, graph.image_size]
    return fn.slice(images, start=fn.cast(corner, dtype=types.INT32), shape=size, axes=(0, 1), **padding)


def in_color(images: DataNode, graph: Graph) -> DataNode:
    """HWC images with the three channels that all that follows works on: those of gray images are one and the same."""
    return fn.cat(images, images, images, axis=2) if graph.in_chans == 1 else images


def _resized(height: DataNode, width: DataNode, shorter: DataNode, scaling: Scaling, size: int) -> tuple[Any, Any]:
    """`scaling.resized` of images, in the graph."""
    side = round(size * scaling.over_crop)
    if scaling.geometry == "squash":
        return shorter * 0 + side, shorter * 0 + side
    if scaling.geometry == "border":
        longer = math.max(height, width)
        # length · side / longer, rounded.
        return (2 * side * height + longer) // (2 * longer), (2 * side * width + longer) // (2 * longer)
    # torchvision cuts the longer side's length down to a whole number; DALI's resize_shorter rounds.
    return height * side // shorter, width * side // shorter


def _center(margin: DataNode) -> DataNode:
    """margin / 2 rounded half to even, where torchvision's center crop begins; half the padding, if it is negative."""
    inside, outside = math.max(margin, 0), math.max(0 - margin, 0)
    half = inside // 2
    odd_margin, odd_half = inside - 2 * half, half - 2 * (half // 2)
    return half + odd_margin * odd_half - outside // 2


def _decoder(graph: Graph) -> dict[str, Any]:
    options: dict[str, Any] = {
        "device": "mixed" if graph.device == "gpu" else "cpu",
        "output_type": types.GRAY if graph.in_chans == 1 else types.RGB,
        # As torchvision's folder loader, which does not look at the EXIF orientation either.
        "adjust_orientation": False,
        # The GPU's plain upsampling of the color planes differs visibly from every CPU decoder's.
        "jpeg_fancy_upsampling": True,
    }
    if graph.device == "gpu":
        options.update(hw_decoder_load=graph.hw_decoder_load)
        options.update(preallocate_width_hint=_WIDTH_HINT, preallocate_height_hint=_HEIGHT_HINT)
    return options


def resize(images: DataNode, size: Any, kind: str = "bilinear") -> DataNode:
    """Images at `size`, (height, width), as torchvision and Pillow resize them; kind: one of config.FILTERS."""
    return fn.resize(images, size=size, interp_type=_FILTERS[kind], antialias=True)


def build(
    source: ImageSet | TarSet,
    graph: Graph,
    *,
    train: bool,
    batch_size: int,
    device_id: int | None,
    seed: int,
    stream: int = 0,
    shuffle: bool = True,
    drawn: tar_reader.Drawn = None,
    checkpoint: bytes | None = None,
    handover: Handover | None = None,
    evaluation: Callable[..., Pipeline] = eval_pipeline,
) -> Pipeline:
    """A built pipeline, at the beginning of the epoch `stream` or where a `checkpoint` of that pipeline was taken.

    shuffle: training images; False where they lie in the order in which they are to come. drawn: which samples of tars
    an epoch has, see `tar_reader.write`. handover: see `apr_pair`. evaluation: what makes the pipeline where it is not
    for training.
    """
    options = graph.pipeline_options(batch_size, device_id, seed, stream, checkpoint)
    order_seed = (seed + stream * STREAM_STRIDE) % (SEEDS + 1) if shuffle else None
    with tempfile.TemporaryDirectory(prefix="apr_dali-") as folder:
        files = tar_reader.write(source, folder, drawn) if isinstance(source, TarSet) else source
        if train:
            with policies.without_dalis_own_warnings():
                made = train_pipeline(files, graph, order_seed, coin_seed(seed, stream), handover, **options)
        else:
            made = evaluation(files, graph, handover, **options)
        made.build()  # reads the indices
    return made
