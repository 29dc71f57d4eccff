"""The classes of ILSVRC2012's validation images: from the devkit, from a list, or from Kaggle's table."""

from __future__ import annotations

import csv
import io
import re
import tarfile
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from apr_dali.data.arrays import unreadable
from apr_dali.errors import InputError

DEVKIT = "ILSVRC2012_devkit_t12"
KAGGLE = "LOC_val_solution.csv"
_META, _TRUTH = "meta.mat", "ILSVRC2012_validation_ground_truth.txt"
_WNID = re.compile(r"\bn\d{8}\b")
_NUMBERED = re.compile(r"_(\d{8})(?:\D|$)")
_LIST_OF_NUMBERS = (
    "numbers alone do not say which class is meant: give the devkit (ILSVRC2012_devkit_t12.tar.gz), or a list of "
    "WordNet numbers such as n01440764"
)


@dataclass(frozen=True)
class Truth:
    """The class of each validation image.

    where: what it was read from. classes: their names, sorted. ordered: the class of image 1, 2, …; empty where the
    images are named. named: class by the image's name, without the extension. train_counts: how many training images
    each class has; of the devkit alone.
    """

    where: str
    classes: tuple[str, ...]
    ordered: tuple[str, ...] = ()
    named: dict[str, str] = field(default_factory=dict)
    train_counts: dict[str, int] = field(default_factory=dict)

    def of(self, names: Sequence[str], images: str) -> list[str]:
        """The class of each of the images, which have these names in `images`.

        Raises InputError where there are more or fewer of them, or one has no class.
        """
        expected = len(self.ordered or self.named)
        if expected != len(names):
            raise InputError(f"{self.where} is for {expected} images, and {images} has {len(names)}")
        if self.ordered:
            return [self.ordered[number - 1] for number in _numbers(names, images)]
        unknown = [name for name in names if _stem(name) not in self.named]
        if unknown:
            raise InputError(f"{self.where} has no class for {', '.join(unknown[:5])} of {images}")
        return [self.named[_stem(name)] for name in names]


def _numbers(names: Sequence[str], images: str) -> list[int]:
    """The numbers in names such as ILSVRC2012_val_00000293.JPEG, which must be 1 to the number of images."""
    found = [_NUMBERED.search(name) for name in names]
    numbers = [int(match[1]) for match in found if match]
    if sorted(numbers) != list(range(1, len(names) + 1)):
        raise InputError(
            f"{images}: expected the names ILSVRC2012_val_00000001.JPEG to {len(names):08d}, got {names[0]} and others"
        )
    return numbers


def read_truth(path: Path) -> Truth:
    """The truth in a devkit (archive or folder), Kaggle's table, or a list. Raises InputError where it is none."""
    if path.name == KAGGLE:
        return parse_kaggle(path.read_bytes(), str(path))
    if path.is_dir() or path.name.endswith((".tar.gz", ".tgz", ".tar")):
        return _devkit(path)
    return _list(path)


def _stem(name: str) -> str:
    return Path(name).stem


def _text(content: bytes, where: str) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{where} is not text: expected the class of one validation image a line, in UTF-8") from error


def parse_kaggle(content: bytes, where: str) -> Truth:
    """The truth in Kaggle's table, which was read from `where`. Raises InputError where it is none."""
    rows = list(csv.DictReader(io.StringIO(_text(content, where))))
    try:
        named = _once(((row["ImageId"], row["PredictionString"].split()[0]) for row in rows), where)
    except (KeyError, IndexError, AttributeError):
        raise InputError(
            f"{where} is not Kaggle's table: expected the columns ImageId and PredictionString, the latter with a class"
        ) from None
    return Truth(where, tuple(sorted(set(named.values()))), named=named)


def _once(pairs: Iterable[tuple[str, str]], where: str) -> dict[str, str]:
    """The class of each image. Raises InputError for an image with two of them."""
    named: dict[str, str] = {}
    for name, wnid in pairs:
        if named.setdefault(name, wnid) != wnid:
            raise InputError(f"{where} gives {name} two classes, {named[name]} and {wnid}: take a list that is whole")
    return named


def _list(path: Path) -> Truth:
    """One class per line in the order of the images, or an image and its class, as in the commands of valprep.sh."""
    pairs: list[tuple[str, str]] = []
    ordered: list[str] = []
    lines = [line for line in _text(path.read_bytes(), str(path)).splitlines() if line.strip()]
    for line in lines:
        wnids = _WNID.findall(line)
        images = [word for word in line.split() if _NUMBERED.search(word)]
        if images and wnids:
            pairs.append((_stem(images[0]), wnids[-1]))
        elif wnids and len(line.split()) == 1:
            ordered.append(wnids[0])
        elif line.split()[-1].isdecimal():
            raise InputError(f"{path}: {_LIST_OF_NUMBERS}")
        # Others are the mkdir lines and comments of such scripts.
    named = _once(pairs, str(path))
    if bool(named) == bool(ordered) or (ordered and len(ordered) < len(lines)):
        raise InputError(
            f"{path}: expected a class such as n01440764 on each line, or an image and its class, got "
            f"{lines[0][:60] if lines else 'nothing'!r}"
        )
    return Truth(str(path), tuple(sorted({*named.values(), *ordered})), tuple(ordered), named)


def _devkit(path: Path) -> Truth:
    meta, lines = _devkit_files(path)
    wnids, counts = _synsets(meta, path)
    numbers = [int(line) for line in lines.split() if line.isdigit()]
    unknown = sorted(set(numbers) - set(wnids))
    if not numbers or unknown:
        raise InputError(
            f"{path}: {_TRUTH} has {len(numbers)} numbers of classes"
            + (f", of which {unknown[0]} is none of {_META}'s" if unknown else "")
            + ": it is damaged or not of ILSVRC2012; fetch ILSVRC2012_devkit_t12.tar.gz"
        )
    ordered = tuple(wnids[number] for number in numbers)
    return Truth(str(path), tuple(sorted(wnids.values())), ordered, train_counts=counts)


def _devkit_files(path: Path) -> tuple[bytes, str]:
    """meta.mat and the ground truth of a devkit."""
    files: dict[str, bytes] = {}
    try:
        if path.is_dir():
            names = sorted(str(file) for file in path.rglob("*") if file.is_file())
            files = {Path(name).name: Path(name).read_bytes() for name in names if Path(name).name in (_META, _TRUTH)}
        else:
            with tarfile.open(path) as archive:
                entries = [member for member in archive if member.isreg()]
                names = [member.name for member in entries]
                for member in entries:
                    content = archive.extractfile(member)
                    if Path(member.name).name in (_META, _TRUTH) and content is not None:
                        files[Path(member.name).name] = content.read()
    # What a cut archive raises depends on where it is cut: EOFError, zlib.error, tarfile.ReadError.
    except Exception as error:
        raise unreadable(path, error) from error
    if len(files) < 2:
        told = ", ".join(Path(name).name for name in names if "ground_truth" in name or name.endswith(".mat"))
        raise InputError(
            f"{path} is not the devkit of ILSVRC2012: expected {_META} and {_TRUTH} in it, got {told or 'neither'}; "
            "that of another year has other numbers for the classes"
        )
    return files[_META], files[_TRUTH].decode("utf-8", "replace")


def _synsets(meta: bytes, path: Path) -> tuple[dict[int, str], dict[str, int]]:
    """The WordNet number of each class without children by its ILSVRC2012_ID, and the count of its training images."""
    from scipy.io import loadmat

    wanted = ("ILSVRC2012_ID", "WNID", "num_children", "num_train_images")
    try:
        synsets: Any = loadmat(io.BytesIO(meta), squeeze_me=True, struct_as_record=True)["synsets"]
    # A cut or foreign file may raise anything.
    except Exception as error:
        raise InputError(f"{path}: {_META} cannot be read ({error!r}); fetch the devkit again") from error
    fields = synsets.dtype.names or ()
    lacking = [name for name in wanted if name not in fields]
    if lacking:
        raise InputError(
            f"{path}: {_META} has no {', '.join(lacking)} but {', '.join(fields) or 'no fields'}: it is of another "
            "year than ILSVRC2012; fetch ILSVRC2012_devkit_t12.tar.gz"
        )
    leaves = [row for row in synsets.ravel() if int(row["num_children"]) == 0]
    wnids = {int(row["ILSVRC2012_ID"]): str(row["WNID"]) for row in leaves}
    return wnids, {str(row["WNID"]): int(row["num_train_images"]) for row in leaves}


def check_even(truth: Truth) -> str | None:
    """What is odd about a list by itself: every class has as many validation images as any other."""
    counts = Counter(truth.ordered or truth.named.values())
    most = Counter(counts.values()).most_common(1)[0][0]
    odd = [f"{name} {count}" for name, count in sorted(counts.items()) if count != most]
    if not odd:
        return None
    return f"{truth.where} is for {counts.total()} images: most classes have {most}, others {', '.join(odd[:5])}"
