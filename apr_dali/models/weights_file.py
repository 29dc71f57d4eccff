"""Files of weights that others wrote, in whatever form: read without running what they contain, as tensors by path."""

from __future__ import annotations

import argparse
import os
import pickle
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from apr_dali.errors import InputError, first_line
from apr_dali.models.auxiliary import without_auxiliary

_TRANSPARENT = ("_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module.")
"""What torch.compile, FSDP and activation checkpointing put before the names below a part of a network."""
_PLAIN = ("state_dict", "model_state_dict", "model", "net", "network", "module")
"""Where a checkpoint keeps the network itself, the usual place first; one without any is nothing but the network."""
_UNKNOWN_CLASS = r"Unsupported global: GLOBAL (\S+) was not an allowed global"
_FOREIGN_CLASSES = 50
_MEANS, _DEVIATIONS = ("mean", "new_mean"), ("std", "sigma", "new_std")
"""What layers that normalize call their numbers: RobustBench's, and those of the package robustness."""


class Inert(dict[str, Any]):
    """Stands for an object of a class that a file names: nothing of that class is imported, let alone run."""

    def __init__(self, *_: Any, **__: Any) -> None:
        super().__init__()

    def __setstate__(self, state: Any) -> None:
        """What the object held is of no use here."""


@dataclass(frozen=True)
class Weights:
    """What a file of weights holds.

    source: the file, for people. tensors: each tensor in it by its path, such as `state_dict.module.conv1.weight`.
    facts: the plain values at its top, such as timm's `arch` and `args`. entry: the part that was asked for, or "".
    """

    source: str
    tensors: dict[str, Tensor]
    facts: dict[str, Any] = field(default_factory=dict)
    entry: str = ""

    def fitting(self, wanted: Collection[str]) -> Fitting:
        """The tensors of the network whose parameters and buffers are called `wanted`.

        That is the part of the file with the most of these names below it. Of several such parts an average of the
        weights (EMA) is taken before the weights themselves, as timm does. Raises InputError where that leaves more
        than one, or none has any of the names.
        """
        counts = _prefixes(self.tensors, set(wanted))
        counts = Counter({prefix: n for prefix, n in counts.items() if prefix.startswith(self.entry)})
        if not counts:
            raise InputError(
                f"the weights {self.source} are not of this network: none of their {len(self.tensors)} names "
                f"({some(self.tensors)}) is one of its {len(wanted)} ({some(wanted)})"
            )
        most = max(counts.values())
        full = sorted((p for p, n in counts.items() if n == most), key=lambda prefix: (_rank(prefix), len(prefix)))
        distinct = [p for n, p in enumerate(full) if not any(self._same(p, other) for other in full[:n])]
        # Of another network a few names may be found in many places: what is amiss then is said by name.
        if 2 * most > len(wanted) and len(distinct) > 1 and _rank(distinct[0]) == _rank(distinct[1]):
            choices = ", ".join(f"{self.source.removesuffix(self.entry)}:{p.rstrip('.')}" for p in distinct)
            raise InputError(f"{self.source} holds the weights of {len(distinct)} such networks: give one of {choices}")
        return self._fitting(distinct[0], distinct[1:])

    def _same(self, first: str, second: str) -> bool:
        """Whether what lies below two prefixes is one and the same."""
        a, b = _below(self.tensors, first), _below(self.tensors, second)
        return all(
            name in b and value.shape == b[name].shape and torch.equal(value, b[name]) for name, value in a.items()
        )

    def _fitting(self, prefix: str, others: list[str]) -> Fitting:
        said = [f"its part {prefix.rstrip('.')}"] * bool(prefix)
        average = "an average of weights, " * (_rank(prefix) == 0)
        said += [f"{average}not {some(other.rstrip('.') for other in others)}"] * bool(others)
        rest = {name: value for name, value in self.tensors.items() if not name.startswith(prefix)}
        state, left_out = without_auxiliary(_below(self.tensors, prefix))
        said += [left_out] * bool(left_out)
        return Fitting(state, f" ({', '.join(said)})" if said else "", _normalization(rest))


@dataclass(frozen=True)
class Fitting:
    """The weights of one network out of a file.

    state: by the network's own names, without a second set of batch norms. said: which part of the file they are, in
    words, "" for the whole file.
    normalization: mean and std of a layer before the network that normalizes images in 0..1, where the file has one.
    """

    state: dict[str, Tensor]
    said: str
    normalization: tuple[tuple[float, ...], tuple[float, ...]] | None


def read_weights(given: str | os.PathLike[str]) -> Weights:
    """What is in a file of weights, `FILE` or `FILE:ENTRY` for the part ENTRY of it: safetensors, or by `torch.save`.

    Read without running what the file contains. Raises InputError where it holds no tensor.
    """
    path, entry = split_entry(os.fspath(given))
    if not path.is_file():
        raise InputError(f"there are no weights {path}")
    try:
        found: Any = _read(path)
    # What a broken file raises depends on where it is broken.
    except Exception as error:
        # Only its first line: torch goes on with advice on how to run what the file contains.
        reason = first_line(error).partition(". ")[0]
        raise InputError(
            f"{path} cannot be read as weights ({reason}): save the network's state_dict() alone"
        ) from error
    tensors = dict(_flat(found)) if isinstance(found, Mapping) else {}
    if not tensors:
        raise InputError(
            f"{path} holds no weights: expected a state dict, or a checkpoint with one in it. A module that was saved "
            "whole is not read, since that runs code of the file: save its state_dict()"
        )
    if entry and not any(name.startswith(f"{entry}.") for name in tensors):
        raise InputError(f"{path} has no part {entry}; it has {some({name.partition('.')[0] for name in tensors})}")
    facts = {name: value for name, value in found.items() if not isinstance(value, Tensor)}
    return Weights(os.fspath(given), tensors, facts, f"{entry}." if entry else "")


def split_entry(given: str) -> tuple[Path, str]:
    """FILE and ENTRY of `FILE:ENTRY`, "" where there is none."""
    path, colon, entry = given.rpartition(":")
    return (Path(path), entry) if colon and os.path.isfile(path) else (Path(given), "")


def some(names: Iterable[str]) -> str:
    """The first few of some names, and how many more there are."""
    found = sorted(names)
    return ", ".join(found[:3]) + (f" and {len(found) - 3} more" if len(found) > 3 else "")


def _read(path: Path) -> Any:
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(path)
    foreign = _foreign(path)
    for _ in range(_FOREIGN_CLASSES):
        # A class each: torch keeps them by the name that they stand for.
        stand_ins = [(type("Inert", (Inert,), {}), name) for name in sorted(foreign)]
        try:
            with torch.serialization.safe_globals([argparse.Namespace, *stand_ins]):
                return torch.load(path, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as error:
            unknown = re.search(_UNKNOWN_CLASS, str(error))
            if unknown is None or unknown[1] in foreign:
                raise
            foreign.add(unknown[1])
    raise InputError(f"it names more than {_FOREIGN_CLASSES} classes that are not torch's")


def _foreign(path: Path) -> set[str]:
    """The classes that the file names and torch does not know: those of options, metrics, configurations."""
    try:
        # A Namespace is plain values: the options of torchvision's and timm's scripts.
        return set(torch.serialization.get_unsafe_globals_in_checkpoint(path)) - {"argparse.Namespace"}
    except ValueError:  # the form before torch 1.6, which names them one by one when it is read
        return set()


def _flat(found: Any, above: str = "") -> Iterator[tuple[str, Tensor]]:
    """Each tensor below `found` with its path."""
    if isinstance(found, Tensor):
        name = above.rstrip(".")
        for wrapper in _TRANSPARENT:
            name = name.replace(wrapper, "")
        yield name, found
    elif isinstance(found, Mapping):
        for name, value in found.items():
            yield from _flat(value, f"{above}{name}.")


def _prefixes(names: Iterable[str], wanted: Collection[str]) -> Counter[str]:
    """Each prefix of `names` below which some of `wanted` are, with how many are."""
    counts: Counter[str] = Counter()
    for name in names:
        start = 0
        while True:
            if name[start:] in wanted:
                counts[name[:start]] += 1
            start = name.find(".", start) + 1
            if not start:
                break
    return counts


def _below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _rank(prefix: str) -> int:
    """0 for an average of weights, then by the usual place of the network, the unusual ones last."""
    parts = prefix.rstrip(".").split(".")
    if any("ema" in part.split("_") for part in parts):
        return 0
    return 1 + (_PLAIN.index(parts[0]) if parts[0] in _PLAIN else len(_PLAIN) * (prefix != ""))


def _normalization(rest: Mapping[str, Tensor]) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """Mean and std of the one normalization among the tensors `rest`, None where there is none, or two that differ."""
    found = []
    for names in (_MEANS, _DEVIATIONS):
        values = {
            tuple(value.flatten().tolist())
            for name, value in rest.items()
            if name.rpartition(".")[2] in names and value.numel() == 3
        }
        if len(values) != 1:
            return None
        found.append(values.pop())
    return found[0], found[1]
