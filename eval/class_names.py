"""What the outputs of a network stand for, where no checkpoint of ours says so."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from apr_dali.data.class_names import read_classes
from apr_dali.data.listing import listing
from apr_dali.errors import InputError, install_command

_KEPT_AS = ("classes", "class_names", "label_names", "class_to_idx", "idx_to_class", "id2label")
"""Where checkpoints keep the names of their classes."""
_SYNSET = re.compile(r"(n\d{8})[\s,:].*")
"""A line of ImageNet's lists, which have words behind the name of a class folder."""


def names_of(
    outputs: int, given: str | Path | Sequence[str] | None, facts: Mapping[str, Any], config: Any = None
) -> tuple[tuple[str, ...], str]:
    """The names of a network's classes in the order of its outputs, and where they are from, in words.

    outputs: how many there are. given: the names, or what `--classes` names. facts: what is beside the network's
    weights in their file. config: timm's configuration of the network. Raises InputError where `given` names another
    number of classes.
    """
    if given is not None:
        names = read_names(given)
        if len(names) != outputs:
            source = f"--classes {given} names" if isinstance(given, (str, Path)) else "classes has the names of"
            raise InputError(f"{source} {len(names)} classes, the network has {outputs}")
        return names, str(given) if isinstance(given, (str, Path)) else "as given"
    unlike = ""
    for kept, origin in ((facts, "the file"), (config or {}, "timm's configuration")):
        for key in _KEPT_AS:
            names = _listed(kept.get(key))
            if len(names) == len(set(names)) == outputs:
                return names, origin
            if names and kept is facts:
                unlike = f" (its {key} are {len(set(names))} different names, so not these)"
    if outputs == len(imagenet_classes()):
        return imagenet_classes(), f"ImageNet's{unlike}"
    if config is not None and (subset := _subset(outputs)):
        return subset, f"those of the part of ImageNet with so many{unlike}"
    return tuple(map(str, range(outputs))), f"unknown, so their numbers{unlike}; --classes gives them names"


def read_names(given: str | Path | Sequence[str]) -> tuple[str, ...]:
    """The names of classes in their order: those of a list, or a folder's class folders, sorted; a text file's lines;
    a JSON file's list, or its table of names to numbers, or of numbers to names."""
    if not isinstance(given, (str, Path)):
        return _different(tuple(given), "classes")
    path = Path(given)
    if path.is_dir():
        names = tuple(listing(str(given))[1])
    elif path.is_file():
        names = _of_json(path) if path.suffix == ".json" else _without_words(read_classes(path))
    else:
        raise InputError(f"--classes {given} is not there: expected a folder of class folders, or a file of names")
    return _different(names, f"--classes {given}")


def _different(names: tuple[str, ...], source: str) -> tuple[str, ...]:
    if not names or len(set(names)) != len(names):
        raise InputError(f"{source} holds {len(names)} names, {len(set(names))} of them different")
    return names


def _of_json(path: Path) -> tuple[str, ...]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"--classes {path} is no JSON: {error}") from error
    if isinstance(found, dict) and isinstance(found.get("id2label"), dict):
        found = found["id2label"]
    names = _listed(found)
    if not names:
        raise InputError(
            f"--classes {path}: expected a list of names, a table from names to 0, 1, 2, …, or one from these to names"
        )
    return names


def _listed(kept: Any) -> tuple[str, ...]:
    """Names out of a list, or a table from names to numbers or back, Keras's among them; () for anything else."""
    if isinstance(kept, Mapping) and all(isinstance(value, (str, list, tuple)) and value for value in kept.values()):
        # Keras's has the name of the folder and a word for it.
        names = {str(number): value if isinstance(value, str) else value[0] for number, value in kept.items()}
        kept = [names.get(str(number)) for number in range(len(names))]
    elif isinstance(kept, Mapping) and sorted(map(str, kept.values())) == sorted(map(str, range(len(kept)))):
        kept = sorted(kept, key=lambda name: int(kept[name]))
    if isinstance(kept, (list, tuple)) and all(isinstance(name, str) for name in kept):
        return tuple(kept)
    return ()


def _without_words(lines: tuple[str, ...]) -> tuple[str, ...]:
    """The names of class folders in lines such as `n01440764 tench, Tinca tinca`; other lines as they are."""
    found = [_SYNSET.fullmatch(line) for line in lines]
    return tuple(match[1] for match in found if match) if all(found) else lines


def _subset(outputs: int) -> tuple[str, ...]:
    """The classes of the part of the whole ImageNet that timm's networks with so many outputs are trained on, or ()."""
    from timm.data import ImageNetInfo, infer_imagenet_subset

    subset = infer_imagenet_subset({"num_classes": outputs})
    return tuple(ImageNetInfo(subset).label_names()) if subset else ()


@cache
def imagenet_classes() -> tuple[str, ...]:
    """The WordNet ids of ImageNet's 1000 classes in the order of every published network, which is sorted."""
    try:
        from timm.data import ImageNetInfo
    except ImportError as error:
        raise InputError(f"the names of ImageNet's classes come from timm: {install_command('eval')}") from error
    return tuple(ImageNetInfo().label_names())


def is_imagenet(classes: Sequence[str]) -> bool:
    """Whether these are ImageNet's 1,000 classes, in any order."""
    return len(classes) == 1000 and set(classes) == set(imagenet_classes())
