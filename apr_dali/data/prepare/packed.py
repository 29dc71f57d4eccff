"""Class folders in one archive, zip or compressed tar: Kaggle's download of ImageNet, and those of smaller sets."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from apr_dali.data.class_names import check_classes, some
from apr_dali.data.listing import EXTENSIONS, UNREAD, is_hidden, is_image
from apr_dali.data.prepare import compressed, zips
from apr_dali.data.prepare.catalogue import Item, Source
from apr_dali.data.prepare.class_folders import NO_FLAT
from apr_dali.data.prepare.truth import KAGGLE, Truth, parse_kaggle
from apr_dali.data.tar_index import Member
from apr_dali.data.tar_sources import CALLED
from apr_dali.errors import InputError

ENDS = (".zip", *compressed.OPENERS)
_SPLITS = {name: split for split, names in CALLED.items() for name in names}
_KAGGLES = "CLS-LOC"


class _Place(NamedTuple):
    """Where an image lies: the folder of the splits, the split, its class or "", and its path within that."""

    root: str
    split: str
    folder: str
    name: str


def open_packed(path: Path, truth: Callable[[], Truth | None], given: bool = False) -> Source:
    """The images of `…/train/CLASS/` and `…/val/CLASS/` in an archive, or of a flat `…/val/` with their truth.

    truth: gives that of a flat folder; called where there is one, without a table in the archive. given: a person has
    named it: it goes before that table.

    Raises InputError for an archive that is damaged, or holds no such folders or several.
    """
    zipped = path.name.lower().endswith(".zip")
    found = (zips if zipped else compressed).members(str(path))
    placed, left_out = _placed(found)
    root = _root(path, {place.root for place, _ in placed}, found)
    images: defaultdict[str, list[tuple[_Place, Member]]] = defaultdict(list)
    for place, member in placed:
        if place.root == root:
            images[place.split].append((place, member))
    named = sorted({place.folder for place, _ in images.get("train", images["val"])} - {""})
    read = zips.read_zipped if zipped else compressed.read_in_order
    flat = [split for split, inside in images.items() if any(not place.folder for place, _ in inside)]
    if given and not flat:
        raise InputError(NO_FLAT)
    table = ((None if given else _table(path, found, read)) or truth()) if flat == ["val"] else None
    if flat and table is None:
        raise InputError(
            f"{path} has images right in {root}{flat[0]}/: expected {root}{flat[0]}/CLASS/IMAGE"
            + f", or {KAGGLE} in it, or --val-labels with the classes of the validation images" * (flat == ["val"])
        )
    named = named or list(table.classes if table else ())
    splits = {
        split: _items(path, images[split], named, table if split in flat else None) for split in CALLED if images[split]
    }
    if zipped:  # its list may be in any order, on which what is made of it should not depend
        splits = {split: sorted(items) for split, items in splits.items()}
    return Source(
        path.name,
        tuple(named),
        splits,
        read,
        streamed=not zipped,
        sequential=not zipped,
        left_out=tuple(left_out),
        official=_KAGGLES in root.split("/"),
    )


def _placed(found: Sequence[Member]) -> tuple[list[tuple[_Place, Member]], list[tuple[str, str]]]:
    """The images below folders of splits, and what is left out there."""
    placed, left_out = [], []
    for member in found:
        parts = member.name.removeprefix("./").split("/")
        at = next((n for n, part in enumerate(parts[:-1]) if part in _SPLITS), None)
        if at is None or any(map(is_hidden, parts)):
            continue
        if member.name.lower().endswith(UNREAD):
            left_out.append((member.name, f"of a kind that is not read ({', '.join(EXTENSIONS)} are)"))
        if is_image(member.name):
            folder, _, name = "/".join(parts[at + 1 :]).partition("/")
            place = _Place("".join(f"{part}/" for part in parts[:at]), _SPLITS[parts[at]], folder, name)
            placed.append((place if name else place._replace(folder="", name=folder), member))
    return placed, left_out


def _root(path: Path, roots: set[str], found: Sequence[Member]) -> str:
    """The folder of the splits that is meant."""
    kaggles = [root for root in roots if _KAGGLES in root.split("/")]
    chosen = kaggles or sorted(roots)
    if not chosen:
        raise InputError(
            f"{path} has no images in folders train/CLASS or val/CLASS, but "
            f"{some([member.name for member in found]) or 'nothing'}: unpack it, and give the folder, or uncompress it "
            "if the plain .tar is one of ILSVRC2012's"
        )
    if len(chosen) > 1:
        raise InputError(
            f"{path} has several folders of splits ({some(sorted(chosen))}): unpack it, and give one of them"
        )
    return chosen[0]


def _table(path: Path, found: Sequence[Member], read: Callable[[Sequence[Item]], Iterator[bytes]]) -> Truth | None:
    """Kaggle's table, if it is in the archive."""
    member = next((one for one in found if one.name.rpartition("/")[2] == KAGGLE), None)
    if member is None:
        return None
    (content,) = read([Item(0, member.name, str(path), member.offset, member.size)])
    return parse_kaggle(content, f"{path}/{member.name}")


def _items(
    path: Path, inside: Sequence[tuple[_Place, Member]], classes: Sequence[str], truth: Truth | None
) -> list[Item]:
    names = [place.name for place, _ in inside]
    of = [place.folder for place, _ in inside] if truth is None else truth.of(names, str(path))
    check_classes(f"{path}, {inside[0][0].root}{inside[0][0].split}/", set(of), classes)
    label = {name: number for number, name in enumerate(classes)}
    return [
        Item(label[folder], name, str(path), member.offset, member.size)
        for folder, name, (_, member) in zip(of, names, inside, strict=True)
    ]
