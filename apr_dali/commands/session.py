"""One network under evaluation: where it runs, how it is fed, where its results go."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from apr_dali.commands.networks import Network, load_network
from apr_dali.commands.sources import Feeding
from apr_dali.data.atomic import write_whole
from apr_dali.data.small_sets import SIDE, is_image_folder
from apr_dali.errors import InputError
from apr_dali.eval.checks import check_outputs
from apr_dali.eval.passes import Source
from apr_dali.eval.state import State
from apr_dali.training.distributed import Group, on_main, start
from apr_dali.training.folder import environment
from apr_dali.training.loop import AMP_TYPES


@dataclass(frozen=True)
class Session:
    """A network in its place. model is `network.model` on the device of `group`; results go to `output`."""

    network: Network
    model: nn.Module
    group: Group
    feeding: Feeding
    output: Path

    @property
    def amp(self) -> torch.dtype | None:
        return AMP_TYPES[self.feeding.amp]

    def check(self, source: Source, model: nn.Module | None = None, classes: int | None = None) -> None:
        """Raise InputError unless the first images of `source` give sound logits; see `check_outputs`."""
        with source.open() as batches:
            images, _ = next(iter(batches))
        with torch.autocast(self.group.device.type, self.amp or torch.bfloat16, enabled=self.amp is not None):
            check_outputs(model or self.model, images.to(self.group.device), classes or len(self.network.classes))

    def takes_small(self, data: str) -> bool:
        """Whether `data` is for `open_small`: sets of 32×32 pixels, unless this network's training scaled a folder."""
        network = self.network
        return network.image_size == SIDE and not (network.scaled_whole and is_image_folder(data))

    def state(self, name: str, **settings: Any) -> State:
        """What the evaluation `name` has finished in an earlier run with the same `settings` and network."""
        return State(self.output / f"{name}.state.json", {**self.settings(), **settings})

    def settings(self) -> dict[str, Any]:
        """What every result depends on."""
        network = self.network
        return {
            "network": network.name,
            "fingerprint": network.fingerprint,
            "mean": network.mean,
            "std": network.std,
            "image_size": network.image_size,
            "scaling": "whole images" if network.scaled_whole else asdict(network.scaling),
            "amp": self.feeding.amp,
        }

    def finish(self, name: str, result: dict[str, Any], pictures: dict[str, bytes]) -> dict[str, Any]:
        """Write NAME.json and the pictures NAME-….png, and return what the file says."""
        return write_record(self.group, self.output, name, self.settings(), result, pictures)


def write_record(
    group: Group, output: Path, name: str, settings: dict[str, Any], result: dict[str, Any], pictures: dict[str, bytes]
) -> dict[str, Any]:
    """Write NAME.json and the pictures NAME-TITLE.png into the folder `output`, and return what the file says."""
    record = {"evaluation": name, "settings": settings, **environment(group), "result": result}

    def write() -> None:
        for title, png in pictures.items():
            write_whole(output / f"{name}-{title}.png", png)
        write_whole(output / f"{name}.json", (json.dumps(record, indent=2) + "\n").encode())

    on_main(group, write)
    return record


@contextmanager
def open_session(args: argparse.Namespace) -> Iterator[Session]:
    """The session that a command line asks for, on all processes."""
    with start(args.device) as group:
        if group.world > 1:
            # The first process fetches weights, the others then find them.
            on_main(group, lambda: load_network(args.model, args.weights, args.image_size).fingerprint)
        network = load_network(args.model, args.weights, args.image_size)
        output = on_main(group, lambda: make_output(args.output or default_output(args.model)))
        model = network.model.to(group.device)
        feeding = Feeding(network, group, args.batch_size, args.amp or network.amp, args.threads)
        yield Session(network, model, group, feeding, output)


def default_output(model: str) -> str:
    """The folder for what is found out about `model`."""
    return f"runs/eval-{re.sub('[^A-Za-z0-9_.-]+', '-', model).strip('-.')}"


def make_output(output: str) -> Path:
    """The folder `output`, made if it is not there."""
    path = Path(output)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot make the folder {path}: {error.strerror}; give another --output") from error
    return path


def table(titles: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    """Lines of text: the first column to the left, the others to the right, each as wide as its widest entry."""
    widths = [max(len(row[column]) for row in (titles, *rows)) for column in range(len(titles))]
    lines = []
    for row in (titles, *rows):
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)
