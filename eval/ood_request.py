"""What out-of-distribution detection is asked for: which sets, scores and validation images, and whether they fit."""

from __future__ import annotations

import os
from dataclasses import dataclass

from apr_dali.data.arrays import cifar_at, is_digits
from apr_dali.data.image_list import is_image_list
from apr_dali.errors import InputError, check_whole
from apr_dali.eval.ood_kinds import KINDS, REACT, searched
from apr_dali.eval.ood_sources import checked_sets

FIT_IMAGES = 50_000
IMAGENET_O_NAME = "imagenet-o"
_WHERE = {"fit_data": "--fit-data", "val_data": "--val-data", "ood_val": "--ood-val"}


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What `evaluate_ood` is asked for: places of sets by name, see there. scores: of KINDS, in their order.

    Raises:
        InputError: for sets, scores or options that do not fit together.
    """

    data: str
    ood: dict[str, str]
    near: dict[str, str]
    far: dict[str, str]
    shifted: dict[str, str]
    scores: tuple[str, ...]
    fit_data: str | None
    fit_images: int | None
    val_data: str | None
    ood_val: str | None
    search: bool
    list_root: str | None
    evaluation: str

    def __post_init__(self) -> None:
        self._check_names()
        if self.imagenet_o and self.shifted:
            raise InputError("--imagenet-o has no full spectrum: leave out the shifted sets")
        if self.fit_images is not None:
            check_whole("fit_images", self.fit_images, 1)
            if self.fit_data is None:
                raise InputError(
                    "--fit-images changes nothing where no score is fitted: leave it out, or give --fit-data"
                )
        if self.ood_val is not None:
            checked_sets({_WHERE["ood_val"]: self.ood_val})
        self._check_validation()
        self._check_apart()
        if self.list_root is not None and not any(map(is_image_list, self.places)):
            raise InputError(f"--list-root {self.list_root} changes nothing: no set is an image list; leave it out")

    @property
    def imagenet_o(self) -> bool:
        """Whether of ImageNet-O's 200 classes alone."""
        return self.evaluation == IMAGENET_O_NAME

    @property
    def others(self) -> dict[str, str]:
        """All sets that the network does not know."""
        return {**self.ood, **self.near, **self.far}

    @property
    def places(self) -> list[str]:
        """Where all images are."""
        more = [path for path in (self.fit_data, self.val_data, self.ood_val) if path is not None]
        return [self.data, *self.others.values(), *self.shifted.values(), *more]

    @property
    def groups(self) -> dict[str, str]:
        """Which of them are near or far."""
        return {**dict.fromkeys(self.near, "near"), **dict.fromkeys(self.far, "far")}

    def _check_names(self) -> None:
        """Raise InputError unless there is a set that the network does not know, and each has a name of its own."""
        names = [*self.ood, *self.near, *self.far, *self.shifted]
        if twice := [name for name in names if names.count(name) > 1]:
            raise InputError(f"two sets are called {twice[0]}: give each a name of its own")
        if not self.others:
            raise InputError("ood names no set: expected at least one that the network does not know")

    def _check_validation(self) -> None:
        """Raise InputError unless validation images are there exactly where something is done with them."""
        if self.search:
            if self.imagenet_o:
                raise InputError("--search-parameters is not for --imagenet-o: leave one of them out")
            if not searched(self.scores):
                able = ", ".join(searched(KINDS))
                raise InputError(f"--search-parameters changes nothing: none of the scores is one of {able}")
            missing = [_WHERE[name] for name in ("val_data", "ood_val") if getattr(self, name) is None]
            if missing:
                raise InputError(
                    f"--search-parameters needs {' and '.join(missing)}: validation images of the network's classes "
                    "and of others, none of which is evaluated"
                )
        elif self.ood_val is not None:
            raise InputError("--ood-val changes nothing without --search-parameters: leave it out")
        elif self.val_data is not None and REACT not in self.scores:
            raise InputError(f"--val-data changes nothing without {REACT} or --search-parameters: leave it out")

    def _check_apart(self) -> None:
        """Raise InputError where two of these are the same images: evaluated, fitted to, or searched on."""
        evaluated = (self.data, *self.others.values(), *self.shifted.values())
        taken = {os.path.abspath(path): "evaluated" for path in evaluated}
        for name, option in _WHERE.items():
            path = getattr(self, name)
            # Digits and CIFAR have a training split of their own.
            if path is None or (name == "fit_data" and (is_digits(path) or cifar_at(path))):
                continue
            place = os.path.abspath(path)
            if place in taken:
                raise InputError(
                    f"{option} {path} are images that are {taken[place]}, too: give training images for --fit-data, "
                    "and a validation set of its own for --val-data and --ood-val"
                )
            taken[place] = f"those of {option}"
