"""The sets of images that tables need: where they are looked for, what their folders hold, where they come from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from apr_dali.errors import InputError
from apr_dali.eval.corruption import CORRUPTIONS

DIGITS, SAMPLE = "digits", "sample"
"""Sets that need no files: scikit-learn's, and the photographs that `apr-dali sample` writes."""


@dataclass(frozen=True)
class Need:
    """A set below the data folder.

    places: where it is looked for, the first that is there is taken. looks: what it holds, in words. source: where it
    is published. holds: entries that it must have.
    """

    name: str
    places: tuple[str, ...]
    looks: str
    source: str
    holds: tuple[str, ...] = ()

    def find(self, root: Path) -> str | None:
        """The path of the set below `root`, None where it is not there or lacks what it must hold."""
        found = (root / place for place in self.places)
        return next((str(path) for path in found if path.exists() and not self._lacks(path)), None)

    def _lacks(self, path: Path) -> tuple[str, ...]:
        """What a folder of the set must hold and does not; nothing of an archive, which whoever reads it checks."""
        if not path.is_dir():
            return ()
        if not self.holds:
            return () if any(path.iterdir()) else ("images",)
        return tuple(name for name in self.holds if not (path / name).exists())

    def missing(self, root: Path) -> str:
        """What to do about it."""
        places = [root / place for place in self.places]
        place = next((path for path in places if path.exists()), places[0])
        lacks = self._lacks(place)
        there = f"{place} lacks {', '.join(lacks)}" if lacks else f"put it in {place}"
        return f"{there}, which should hold: {self.looks}; published: {self.source}"


def _images(name: str, source: str) -> Need:
    return Need(name, (name,), "32×32 image files, at any depth", source)


def _corrupted(name: str, record: str) -> Need:
    holds = (*(f"{corruption}.npy" for corruption in CORRUPTIONS), "labels.npy")
    return Need(name, (name,), "<corruption>.npy for each of 15, labels.npy", f"zenodo.org/record/{record}", holds)


_CIFAR = "www.cs.toronto.edu/~kriz/cifar.html, or train_cifar.py --download"
_ODIN, _CSI = "github.com/facebookresearch/odin", "github.com/alinlab/CSI"
_DEEP = "github.com/hendrycks/imagenet-r, DeepAugment"
_CLASSES = "<class>/<image> of ImageNet's training classes"
NEEDS = {
    need.name: need
    for need in (
        Need(
            "CIFAR-10",
            ("cifar-10-batches-py", "cifar-10-python.tar.gz"),
            "the python version's files, data_batch_1 to 5 and test_batch",
            _CIFAR,
            (*(f"data_batch_{n}" for n in range(1, 6)), "test_batch"),
        ),
        Need(
            "CIFAR-100",
            ("cifar-100-python", "cifar-100-python.tar.gz"),
            "the python version's files, train and test",
            _CIFAR,
            ("train", "test"),
        ),
        _corrupted("CIFAR-10-C", "2535967"),
        _corrupted("CIFAR-100-C", "3555552"),
        Need(
            "SVHN",
            ("SVHN/test_32x32.mat", "svhn/test_32x32.mat", "test_32x32.mat"),
            "the published .mat file",
            "ufldl.stanford.edu/housenumbers",
        ),
        _images("LSUN_resize", _ODIN),
        _images("Imagenet_resize", _ODIN),
        _images("LSUN_fix", _CSI),
        _images("Imagenet_fix", _CSI),
        Need(
            "ImageNet",
            ("imagenet", "ILSVRC2012", "."),
            "train/ and val/, each with <class>/<image>; `apr-dali prepare` makes it of the archives",
            "image-net.org",
            ("train", "val"),
        ),
        Need(
            "ImageNet-C",
            ("imagenet-c", "ImageNet-C"),
            "<corruption>/<1-5>/<class>/<image>",
            "zenodo.org/record/2235448",
            CORRUPTIONS,
        ),
        Need("EDSR", ("DeepAugment/EDSR", "EDSR"), _CLASSES, _DEEP),
        Need("CAE", ("DeepAugment/CAE", "CAE"), _CLASSES, _DEEP),
    )
}


def check_word(word: str) -> None:
    """Raise InputError where something of this name lies here: a word must mean the set."""
    if Path(word).exists():
        raise InputError(f"something is called {word} here, where the word must mean the set: start it elsewhere")


class Sets:
    """The sets below a data folder, and which of those asked for were not there."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.missing: dict[str, str] = {}

    def find(self, name: str) -> str | None:
        """The path of a set of NEEDS; None, and noted as missing, where it is not there."""
        found = NEEDS[name].find(self.root)
        if found is None:
            self.missing[name] = NEEDS[name].missing(self.root)
        return found

    def at(self, name: str) -> str:
        """The path of a set, or where it should be."""
        return self.find(name) or str(self.root / NEEDS[name].places[0])
