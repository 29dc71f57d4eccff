"""Data sets as sources of batches for a network: folders through DALI, arrays through NumPy."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from apr_dali.data.arrays import open_scaled, open_small
from apr_dali.data.file_list import FileList, write_file_list
from apr_dali.data.fingerprint import identity, identity_of_arrays
from apr_dali.data.folders import SPLITS, ImageSet, TarSet, open_set
from apr_dali.data.tars import DEFAULT, Components
from apr_dali.errors import InputError
from apr_dali.eval.load_model import Network
from apr_dali.eval.passes import Batches, Source
from apr_dali.pipelines.base import normalized
from apr_dali.pipelines.loader import ImageNetLoader
from apr_dali.runtime.distributed import Group, on_main
from apr_dali.runtime.precision import LOADER_TYPES

_NAMED = 10
"""Names of a list that a message shows."""


@dataclass(frozen=True)
class Feeding:
    """How batches reach a network: for which one, to which process, how many images at a time, in which arithmetic.

    components: which members of a tar's samples are images and labels. mixed: sets without tars pass over them.
    """

    network: Network
    group: Group
    batch_size: int
    amp: str
    threads: int | None = None
    components: Components = DEFAULT
    mixed: bool = False

    def choices(self) -> dict[str, str | None]:
        """What results depend on beside the network: the components that are not the usual ones."""
        return {
            f"tar_{name}": value
            for name, value in asdict(self.components).items()
            if value != getattr(Components, name)
        }

    def folder(
        self,
        name: str,
        path: str | ImageSet,
        classes: tuple[str, ...] | None = None,
        as_it_is: bool = False,
    ) -> Source:
        """The images of a folder, decoded by DALI, or where the network wants them scaled whole, by Pillow.

        path: or the images found in it. classes: names of the labels in their order; None for those of the folder.
        as_it_is: cropped, but not scaled.
        """
        if self.network.scaled_whole and not as_it_is:
            found = self._found(path, classes)
            if not isinstance(found, ImageSet):
                raise InputError(f"{path} has tar files: expected a folder of class folders of image files")
            scaled = open_scaled(found.files, self.network.image_size)
            return self.array(name, scaled, found.labels, lambda: identity(found))

        def open_images() -> ImageSet | TarSet:
            return self._found(path, classes)

        # One process asks the file system, however many there are.
        count, known = on_main(self.group, lambda: _count_and_identity(open_images()))

        def open_loader() -> AbstractContextManager[Batches]:
            return ImageNetLoader(
                open_images(),
                self.batch_size,
                train=False,
                device=self.group.device,
                shard=(self.group.rank, self.group.world),
                dtype=LOADER_TYPES[self.amp],
                image_size=self.network.image_size,
                scaling=None if as_it_is else self.network.scaling,
                threads=self.threads,
                recipe=self.network.recipe,
            )

        return Source(name, count, open_loader, lambda: known)

    def _found(self, path: str | ImageSet, classes: tuple[str, ...] | None) -> ImageSet | TarSet:
        if isinstance(path, ImageSet):
            return path
        return open_set(path, classes=classes, components=self.components, mixed=self.mixed)

    def small(self, name: str, path: str, choose: Callable[[int], NDArray[np.int64]] | None = None) -> Source:
        """The images of `open_small`, with labels by the names of their classes.

        choose: is given how many there are and gives the numbers of those to take; None for all.
        """
        found = open_small(path)
        labels = outputs_by_name(self.network.classes, found.classes, path)[found.labels]
        chosen = slice(None) if choose is None else choose(len(found))
        return self.array(name, found.images[chosen], labels[chosen])

    def array(
        self,
        name: str,
        images: NDArray[np.uint8],
        labels: NDArray[np.int64],
        identified: Callable[[], str] | None = None,
    ) -> Source:
        """Images uint8 (N, H, W, 3), 0..255, and labels (N,): read batch by batch, so they may lie on the disk.

        identified: the identity of the set where its files tell it; without it, that of the pixels.
        """
        known = identified or (lambda: identity_of_arrays(images, labels))
        batches = lambda: nullcontext(self._batches(images, labels))  # noqa: E731
        return Source(name, len(images), batches, lambda: on_main(self.group, known))

    def _batches(self, images: NDArray[np.uint8], labels: NDArray[np.int64]) -> Iterator[tuple[Tensor, Tensor]]:
        for part in self.parts(len(images)):
            yield self.normalized(images[part]), torch.from_numpy(np.array(labels[part]))

    def parts(self, count: int) -> list[slice]:
        """This process's batches of `count` images: each process has the next part of them."""
        rank, world = self.group.rank, self.group.world
        end = count * (rank + 1) // world
        starts = range(count * rank // world, end, self.batch_size)
        return [slice(start, min(start + self.batch_size, end)) for start in starts]

    def normalized(self, images: NDArray[np.uint8]) -> Tensor:
        """Uint8 (N, H, W, 3), 0..255, as the network takes them: float32 (N, 3, H, W), on its device."""
        pixels = torch.from_numpy(np.require(images, requirements="W")).to(self.group.device)
        return normalized(pixels, self.network.mean, self.network.std)


def _count_and_identity(found: ImageSet | TarSet) -> tuple[int, str]:
    return len(found), identity(found)


def outputs_by_name(outputs: Sequence[str], names: Sequence[str], where: str) -> NDArray[np.int64]:
    """The number of the output, int64 (classes,), that stands for each of the classes `names` of the set `where`.

    Raises InputError, with both lists, if one of them is none of the `outputs`.
    """
    number = {name: index for index, name in enumerate(outputs)}
    unknown = [name for name in names if name not in number]
    if unknown:
        splits = [name for name in names if name in (*SPLITS, "test")]
        remedy = f"give {where}/{splits[-1]}" if splits else "give a set of those classes, or rename its folders"
        raise InputError(
            f"{where} has {len(names)} classes ({listed(names)}), the network {len(outputs)} ({listed(outputs)}): "
            f"labels go by name, and {len(unknown)} of the set's classes are none of the network's; {remedy}"
        )
    return np.array([number[name] for name in names], np.int64)


def listed(names: Sequence[str]) -> str:
    """The first of some names for a message."""
    more = f", … and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


def numbered(classes: Sequence[str], what: str) -> str:
    """What is assumed of labels without names, in words: `what` n is taken for the network's class n."""
    shown = ", ".join(f"{index} {name}" for index, name in enumerate(classes[:3]))
    return f"{what} n is taken for the network's class n ({shown}{', …' if len(classes) > 3 else ''})"


def select(
    data: str,
    path: Path,
    choose: Callable[[Sequence[str]], Iterable[int]],
    classes: Sequence[str] = (),
    components: Components = DEFAULT,
    mixed: bool = False,
) -> None:
    """Write a file list of some images of a folder to `path`.

    choose: is given the absolute paths of all and gives the numbers of those to take. classes: names that the list
    has, which must be among the folder's; () for all of the folder's. components, mixed: as in `Feeding`; tars are
    refused.
    """
    found = open_set(data, components=components, mixed=mixed)
    if not isinstance(found, ImageSet):
        raise InputError(f"{data} has tar files: a part of the images can only be taken from a folder of class folders")
    root = os.path.abspath(data)
    entries = tuple(os.path.relpath(found.files[index], root) for index in choose(found.files))
    write_file_list(path, FileList(root, tuple(classes) or found.classes, (), entries))
