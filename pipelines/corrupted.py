"""A validation set under ImageNet-C's corruptions in DALI: each image is decoded once, and given under all of them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from nvidia.dali import fn, math, pipeline_def
from nvidia.dali.data_node import DataNode
from torch import Tensor

from apr_dali.corruptions import CORRUPTIONS
from apr_dali.corruptions.parameters import SEVERITIES
from apr_dali.data.folders import ImageSet, TarSet
from apr_dali.data.imagenet_c import check_cells, through_jpeg
from apr_dali.data.tar_reader import ReaderFiles
from apr_dali.errors import InputError, check_names
from apr_dali.kernels.corruptions import check_options
from apr_dali.pipelines import imagenet, operators
from apr_dali.pipelines.base import normalized
from apr_dali.pipelines.batch_options import MEMORY_FORMATS
from apr_dali.pipelines.handover import Handover
from apr_dali.pipelines.loader import ImageNetLoader
from apr_dali.pipelines.per_batch import per_batch
from apr_dali.recipes import IMAGENET, STANDARD, AprRecipe, Scaling

Cell = tuple[str, int]
"""A corruption and a severity."""

Self = TypeVar("Self", bound="CorruptedLoader")


class CorruptedLoader:
    """Evaluation batches under many corruptions, from a DALI pipeline that decodes each image once.

    Iterating gives one pass of (cell, images, targets) on `device`: of the first images of the set those of every cell,
    in the order of `cells`, then of the next ones. cell: (corruption, severity). images: (B, 3, S, S) in `dtype`,
    normalized. targets: int64 (B,). Each image comes once under each cell; the last batch may be smaller.

    An image has the draws of its number in the set, as in `apr_dali.eval` and `apr-dali make-c`: the same for a seed
    whatever the batch size, the number of threads or the shard. Its pixels are those that DALI decodes and scales,
    within a few levels of Pillow's, of which `make-c` and `apr-dali eval corruption --val` take theirs.

    The pipeline holds a few batches of all cells: 75 of them take 11 MB for an image of 224×224, so 32 images 0.4 GB.

    Args:
        path, classes, allow_missing_classes, on_error, scaling: as for `ImageNetLoader`: class folders, tars or a list.
        batch_size: images that are decoded at once, B.
        corruptions: some of `apr_dali.corruptions.NAMES` or `C_BAR`; by default the 15 of the benchmark.
        severities: some of 1 to 5.
        seed: of the draws, 0..2⁶⁴ - 1.
        in_memory: leave out the JPEG file (quality 85, 4:2:0) that ImageNet-C's images went through.
        backend: of the corruptions, see `apr_dali.corrupt`.
        image_size: S in pixels, at least 32.
        recipe: whose mean and std the images are normalized with.
        device, device_id, shard, dtype, memory_format, threads: as for `BatchOptions`. On a GPU, a corruption that has
            no CUDA kernel is refused by name.

    Raises:
        InputError: for anything that a person can correct, before work starts; an image that cannot be decoded is
            named by its path when its batch is reached.
    """

    def __init__(
        self,
        path: str | Path | Sequence[str | Path] | ImageSet | TarSet,
        batch_size: int,
        corruptions: Sequence[str] = CORRUPTIONS,
        severities: Sequence[int] = SEVERITIES,
        *,
        seed: int = 0,
        in_memory: bool = False,
        backend: str = "auto",
        image_size: int = 224,
        scaling: Scaling | None = STANDARD,
        recipe: AprRecipe = IMAGENET,
        classes: Sequence[str] | None = None,
        allow_missing_classes: bool = False,
        on_error: str = "raise",
        device: str | torch.device = "cpu",
        device_id: int | None = None,
        shard: tuple[int, int] = (0, 1),
        dtype: str = "float32",
        memory_format: str = "contiguous",
        threads: int | None = None,
    ) -> None:
        check_names("corruptions", corruptions)
        if isinstance(severities, str) or not isinstance(severities, Collection):
            raise InputError(f"severities must be a list of whole numbers, got {severities!r}")
        self.cells: tuple[Cell, ...] = tuple((name, severity) for name in corruptions for severity in severities)
        given = {"seed": seed, "in_memory": in_memory, "backend": backend}
        self._decoded = _Decoded(
            path,
            batch_size,
            partial(_pipeline, cells=self.cells, given=given),
            image_size=image_size,
            scaling=scaling,
            recipe=recipe,
            classes=classes,
            allow_missing_classes=allow_missing_classes,
            on_error=on_error,
            device=device,
            device_id=device_id,
            shard=shard,
            dtype=dtype,
            memory_format=memory_format,
            threads=threads,
        )
        check_cells(tuple(corruptions), tuple(severities), image_size, seed)
        check_options(backend)
        self._recipe, self._dtype = recipe, getattr(torch, dtype)
        self._memory_format = MEMORY_FORMATS[memory_format]

    @property
    def classes(self) -> tuple[str, ...]:
        """Names, in the order of the labels."""
        return self._decoded.classes

    @property
    def num_images(self) -> int:
        """Of the set, over all shards."""
        return self._decoded.num_images

    @property
    def skipped(self) -> tuple[str, ...]:
        """What this rank has left out so far because it is broken."""
        return self._decoded.skipped

    def __len__(self) -> int:
        """Batches of one pass on this rank."""
        return len(self._decoded) * len(self.cells)

    def __iter__(self) -> Iterator[tuple[Cell, Tensor, Tensor]]:
        for images, targets in self._decoded:
            for number, cell in enumerate(self.cells):
                levels = normalized(images[:, number], self._recipe.mean, self._recipe.std)
                yield cell, levels.to(self._dtype).contiguous(memory_format=self._memory_format), targets

    def close(self) -> None:
        """Free the pipeline: its threads, buffers and device memory. Iterating is an error from here on."""
        self._decoded.close()

    def __enter__(self: Self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Decoded(ImageNetLoader):
    """The batches before they are normalized: uint8 (B, cells, S, S, 3), and their targets."""

    def __init__(self, path: Any, batch_size: int, evaluation: Any, **options: Any) -> None:
        super().__init__(path, batch_size, train=False, **options)
        self._evaluation = evaluation

    def _next(self) -> tuple[Tensor, ...]:
        images, numbers = self._rows()
        return images, self._sent(self._targets(self._labels_of(numbers), 1))


@pipeline_def(enable_checkpointing=True)
def _pipeline(
    source: ImageSet | ReaderFiles,
    graph: imagenet.Graph,
    handover: Handover | None,
    cells: Sequence[Cell],
    given: dict[str, Any],
) -> tuple[DataNode, DataNode]:
    """given: the keywords of `corrupted`; a pipeline has a seed of its own. handover: for normalized batches alone."""
    del handover
    encoded, numbers = imagenet.read(source, graph.shard, seed=0, shuffle=False)
    own = fn.slice(numbers, start=0, shape=1, axes=[0])
    # What stands in for a broken image has the number -1 - its own.
    own = math.max(own, -1 - own)
    threads = graph.threads if graph.device == "cpu" else None
    return corrupted(imagenet.middle(encoded, graph), own, cells, threads=threads, **given), numbers


def corrupted(
    images: DataNode,
    numbers: DataNode,
    cells: Sequence[Cell],
    *,
    seed: int = 0,
    in_memory: bool = False,
    backend: str = "auto",
    threads: int | None = None,
) -> DataNode:
    """Images under every cell in a DALI graph: uint8 HWC of one size to (cells, H, W, 3).

    Args:
        images, numbers, seed, backend: as for `apr_dali.pipelines.operators.corrupt`.
        threads: of the native operators and the JPEG files; None for every processor, and for images on a GPU.
        cells: (corruption, severity) each.
        in_memory: leave out the JPEG file (quality 85, 4:2:0) that ImageNet-C's images went through.

    Raises InputError for an unknown corruption, severity or backend, or where one cannot run on the images' device.
    """
    own = threads if backend in ("auto", "native") else None
    given = {"numbers": numbers, "seed": seed, "backend": backend, "threads": own}
    made = [operators.corrupt(images, *cell, **given) for cell in cells]
    if not in_memory:
        function = partial(through_jpeg, threads=threads)
        made = [per_batch(function, each, layout="HWC") for each in made]
    return fn.stack(*made)
