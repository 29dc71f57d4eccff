"""Which kind of source lies at a path."""

from __future__ import annotations

import os
import re
import tarfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from apr_dali.data.arrays import cifar_at
from apr_dali.data.folders import SPLITS
from apr_dali.data.listing import images_below, listing
from apr_dali.data.prepare import archives, class_folders, packed, parquet, samples, small
from apr_dali.data.prepare.catalogue import Source
from apr_dali.data.prepare.class_folders import NO_FLAT
from apr_dali.data.prepare.truth import DEVKIT, KAGGLE, Truth, check_even, read_truth
from apr_dali.data.remote import local_path
from apr_dali.data.tar_sources import CALLED, split_of
from apr_dali.data.tars import DEFAULT, Components
from apr_dali.errors import InputError

_OFFICIAL = re.compile(r"\.tar$|(?:^|/)ILSVRC2012_val_\d+\.JPEG$")
_WITHOUT_LABELS = ("ILSVRC2012's archives", "Kaggle's folders", "class folders", "a packed set")
_KAGGLE = ("ILSVRC/Data/CLS-LOC", "Data/CLS-LOC", "CLS-LOC", ".")
_EXPECTED = (
    f"expected {archives.TRAIN} and {archives.VAL} with the devkit, Kaggle's ILSVRC/Data/CLS-LOC, parquet files, "
    "WebDataset's tars, CIFAR's archive, or train/ and val/ of class folders, as they are or in a .zip or .tar.gz"
)


def open_source(
    source: str | Path, val_labels: str | Path | None = None, components: Components = DEFAULT, mapped: Any = map
) -> Source:
    """What an archive, or a folder of one or several, holds; reads no image.

    Args:
        val_labels: the classes of ILSVRC2012's validation images: a devkit, Kaggle's table, or a list. Without it the
            devkit or the table is looked for beside the images.
        components: which members of WebDataset's samples are image and label.
        mapped: a `map`, of several processes if need be, that archives are looked through with.

    Raises:
        InputError: for what is none of the known kinds or several of them, and for what is damaged or incomplete.
    """
    path = local_path(source)
    if not path.exists():
        raise InputError(f"{path} is not there: give an archive, or the folder that one lies in")
    found = [kind for kind, there in _kinds(path) if there]
    if len(found) != 1:
        raise InputError(
            f"{path} holds {' and '.join(found)}: give one of them" if found else f"{path} is no known set: {_EXPECTED}"
        )
    kind = found[0]
    if val_labels is not None and kind not in _WITHOUT_LABELS:
        raise InputError(f"--val-labels has no effect on {kind}, which have labels of their own")
    if components != DEFAULT and kind != "WebDataset's tars":
        raise InputError(f"--tar-image and --tar-label have no effect on {kind}: no tars of samples there")
    return _open(kind, path, val_labels, components, mapped)


def is_packed(path: str | Path) -> bool:
    """Whether a path is an archive, or a folder of some, that no trainer reads as it is and `open_source` does."""
    place = Path(path)
    if not place.exists():
        return False
    found = [kind for kind, there in _kinds(place.absolute()) if there]
    if place.is_file() or found == ["Kaggle's folders"]:
        return bool(found)
    if not found or {"class folders", "WebDataset's tars"} & set(found):
        return False
    # Beside class folders there may be a table or an archive that is not meant.
    return not any(images_below(str(place / name)) for name in listing(str(place))[1])


def _kinds(path: Path) -> Iterable[tuple[str, bool]]:
    """(kind, whether it lies there) of all kinds."""
    names = [path.name] if path.is_file() else listing(str(path))[0]
    official = {archives.TRAIN, archives.VAL} & set(names)
    parquets, tars = _files(path, ".parquet"), _files(path, ".tar")
    cifar = cifar_at(path)
    kaggle = path.is_dir() and _kaggle_folder(path) is not None
    yield "ILSVRC2012's archives", bool(official) or _is_official(path)
    yield "parquet files", bool(parquets)
    yield "CIFAR's archives", bool(cifar)
    yield "Kaggle's folders", kaggle
    others = official or parquets or cifar or kaggle
    split_folders = path.is_dir() and not (others or tars) and bool(_split_folders(path))
    yield "WebDataset's tars", bool(tars) and not (others or _is_official(path))
    yield "class folders", split_folders
    yield "a packed set", bool(_packed(path)) and not (others or tars or split_folders)


def _open(kind: str, path: Path, val_labels: str | Path | None, components: Components, mapped: Any) -> Source:
    if kind == "ILSVRC2012's archives":
        return _archives(path, val_labels, mapped)
    if kind == "parquet files":
        return parquet.open_parquet(_by_split(path, _files(path, ".parquet")))
    if kind == "CIFAR's archives":
        sets = cifar_at(path)
        if len(sets) > 1:
            raise InputError(f"{path} holds {' and '.join(sets)}: give one of them")
        return small.open_cifar(sets[0], path)
    if kind == "WebDataset's tars":
        return _samples(path, components, mapped)
    if kind == "a packed set":
        return _open_packed(path, val_labels)
    inner = _kaggle_folder(path) or path if kind == "Kaggle's folders" else path
    splits = _split_folders(inner)
    _refuse_twice(inner)
    flat = "val" in splits and class_folders.is_flat(splits["val"])
    if val_labels is not None and not flat:
        raise InputError(NO_FLAT)
    truth = _truth(inner, val_labels) if flat else None
    return class_folders.open_folders(kind, splits, truth, official=kind == "Kaggle's folders")


def _archives(path: Path, val_labels: str | Path | None, mapped: Any) -> Source:
    if path.is_file():
        is_train = path.name == archives.TRAIN or _first(path).endswith(".tar")
        train, val = (path, None) if is_train else (None, path)
    else:
        train, val = ((path / name if (path / name).is_file() else None) for name in (archives.TRAIN, archives.VAL))
    if val is None and val_labels is not None:
        raise InputError(f"--val-labels has no effect without {archives.VAL}")
    truth = _truth(path if path.is_dir() else path.parent, val_labels)
    if val is not None and truth is None:
        raise InputError(
            f"the classes of the images in {val} are told by the devkit alone: put {DEVKIT}.tar.gz beside it, or give "
            "--val-labels with a list of a class such as n01440764 a line"
        )
    return archives.open_archives(train, val, truth, mapped)


def _samples(path: Path, components: Components, mapped: Any) -> Source:
    tars = _files(path, ".tar")
    if _is_official(tars[0]):
        raise InputError(
            f"{tars[0]} is one of ILSVRC2012's archives by what is in it: give it by itself, or call them "
            f"{archives.TRAIN} and {archives.VAL}"
        )
    return samples.open_samples(_by_split(path, tars), components, mapped)


def _packed(path: Path) -> list[Path]:
    """The archives of whole sets that a path is or holds."""
    files = [path] if path.is_file() else [path / name for name in listing(str(path))[0]]
    return [file for file in files if file.name.lower().endswith(packed.ENDS) and "_devkit" not in file.name]


def _open_packed(path: Path, val_labels: str | Path | None) -> Source:
    found = _packed(path)
    official = [file for file in found if file.name.startswith("ILSVRC2012_img_")]
    if official:
        raise InputError(
            f"{official[0]} is compressed: ILSVRC2012's archives are read as plain .tar; uncompress it first"
        )
    if len(found) > 1:
        raise InputError(f"{path} holds {' and '.join(file.name for file in found)}: give one of them")
    return packed.open_packed(found[0], lambda: _truth(found[0].parent, val_labels), val_labels is not None)


def _truth(folder: Path, given: str | Path | None) -> Truth | None:
    """The validation images' classes as given, or as they lie in or above `folder`."""
    if given is not None:
        if not Path(given).exists():
            raise InputError(f"--val-labels {given} is not there")
        truth = read_truth(Path(given))
        odd = check_even(truth)
        if odd is not None:
            raise InputError(f"{odd}: every class has as many; take a list that is whole")
        return truth
    for place in (folder, *list(folder.parents)[:3]):
        for name in (KAGGLE, f"{DEVKIT}.tar.gz", DEVKIT):
            if (place / name).exists():
                return read_truth(place / name)
        others = [found for found in _names(place) if re.match(r"ILSVRC20\d\d_devkit", found)]
        if others and place == folder:
            raise InputError(
                f"{place / others[0]} is the devkit of another year or task, with other numbers for the classes: "
                f"fetch {DEVKIT}.tar.gz"
            )
    return None


def _names(folder: Path) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []


def _kaggle_folder(path: Path) -> Path | None:
    """The folder of train/ and val/ in Kaggle's layout, if `path` is or holds it."""
    for below in _KAGGLE:
        folder = path / below
        if (folder.resolve().name == "CLS-LOC" or below != ".") and folder.is_dir() and _split_folders(folder):
            return folder
    return None


def _split_folders(path: Path) -> dict[str, Path]:
    """The folders of the splits in a folder; the first of several names of one."""
    return {split: found[0] for split in SPLITS if (found := _called(path, split))}


def _called(path: Path, split: str) -> list[Path]:
    """The folders of all names of a split that hold something."""
    folders = [path / name for name in CALLED[split] if (path / name).is_dir()]
    return [folder for folder in folders if any(not entry.name.startswith(".") for entry in folder.iterdir())]


def _refuse_twice(path: Path) -> None:
    for split in SPLITS:
        found = {folder.resolve(): str(folder) for folder in _called(path, split)}
        if len(found) > 1:
            raise InputError(f"{' and '.join(found.values())} are both for {split}: move one of them elsewhere")


def _files(path: Path, extension: str) -> list[Path]:
    """The files of that extension at a path, in a folder, or in the folders of its splits or `data` in it."""
    if path.is_file():
        return [path] if path.name.endswith(extension) else []
    folders = [path, path / "data", *_split_folders(path).values(), *_split_folders(path / "data").values()]
    return [
        folder / name
        for folder in folders
        if folder.is_dir()
        for name in listing(str(folder))[0]
        if name.endswith(extension)
    ]


def _by_split(path: Path, files: Sequence[Path]) -> dict[str, list[Path]]:
    """The files of each split, told by the words in their names or else in their folders'.

    Files of a test split are left out. Raises InputError for one that says nothing, but where it is the only kind, and
    for a split with two folders.
    """
    for folder in (path, path / "data"):
        _refuse_twice(folder)
    found: dict[str, list[Path]] = {split: [] for split in (*SPLITS, "test", "")}
    for file in files:
        found[split_of(file.name) or (split_of(file.parent.name) if file.parent != path else "")].append(file)
    if found[""] and any(found[split] for split in SPLITS):
        raise InputError(f"{found[''][0]}: its name says neither train nor validation, which those beside it do")
    splits = {split: found[split] for split in SPLITS if found[split]}
    if not splits and not found[""]:
        raise InputError(f"{path} has test files alone ({files[0].name}), which have no labels")
    return splits or {"train": found[""]}


def _is_official(path: Path) -> bool:
    """Whether a tar of any name is one of ILSVRC2012's, by its first file."""
    return path.is_file() and bool(_OFFICIAL.search(_first(path)))


def _first(path: Path) -> str:
    """The name of a tar's first file; empty where it cannot be read, which is said when it has to be."""
    try:
        with tarfile.open(path, "r:") as archive:
            return next((member.name for member in archive if member.isreg()), "")
    except (tarfile.TarError, OSError):
        return ""
