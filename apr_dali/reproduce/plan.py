"""What a table is made of: runs that train and evaluate by public commands, and cells that compare with the paper."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from apr_dali.errors import InputError
from apr_dali.reproduce.follow import Follow, Options
from apr_dali.runtime import checkpoint

Words = tuple[str, ...]
"""A command, word by word: it begins with `python` or `apr-dali`."""
Results = Mapping[str, Mapping[str, Any]]
"""The `result` of a run's evaluations, by their names."""
Measure = Callable[[Results], float | None]
"""A number of a run in percent; None where its evaluation is not there."""
TRAIN, EVALUATED = "train", "eval"
"""Folders of a run."""


@dataclass(frozen=True)
class Asked:
    """What is asked for, with the defaults of the command.

    data, output: folders. only: names of methods, () for all. networks: () for the table's. seeds: how many, from 0 on.
    epochs: None for the published number. attack: images under AutoAttack, None for all.
    """

    data: Path
    output: Path
    follow: Follow
    datasets: tuple[str, ...] = ()
    networks: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    seeds: int = 1
    epochs: int | None = None
    amp: str = "none"
    on_the_fly: bool = False
    attack: int | None = None


@dataclass(frozen=True)
class Method:
    """A row of a table: how it is trained, or why it is not.

    options: of the trainer; None for a method that is not trained here, `why` then says why. passes: rows that the
    network is trained on for each image, an attack's gradient included. needs: sets beside the training images.
    """

    name: str
    title: str
    options: Options | None = None
    passes: float = 1.0
    needs: tuple[str, ...] = ()
    why: str = ""


@dataclass(frozen=True)
class Training:
    """A run of a trainer. options: what its result depends on. places: where images lie. epochs, images, passes: its
    length, images of an epoch, rows for each image."""

    trainer: str
    options: Options
    places: Options
    epochs: int
    images: int
    passes: float

    def words(self, home: Path) -> Words:
        """The command that begins the run of the folder `home`, and goes on with it."""
        given = {**self.options, **self.places, "output": (str(home / TRAIN),), "resume": ("auto",)}
        return ("python", script_of(self.trainer), *_words(given))

    def settings(self) -> dict[str, str]:
        """What its result depends on, by option."""
        return {"trainer": self.trainer, **{name: " ".join(values) for name, values in self.options.items()}}


def _words(options: Options) -> Words:
    return tuple(word for name, values in options.items() for word in (f"--{name}", *values))


def script_of(trainer: str) -> str:
    """The trainer's script. InputError where it is not there: it lies in the clone, not in an installed package."""
    clone = Path(__file__).resolve().parents[2]
    path = clone / f"train_{trainer}.py"
    if not path.is_file():
        raise InputError(f"{path} is not there: the trainers are scripts of the clone; run `apr-dali` from a clone")
    return path.name if Path.cwd() == clone else str(path)


@dataclass(frozen=True)
class Evaluation:
    """An evaluation of a run's network.

    name: of its result's file. command: the words before MODEL. options: those after it. forwards: images through the
    network. steps: images forwards and backwards. lacks: sets that it needs and that are not there. package: of the
    extra `eval`, that it needs; "" for none.
    """

    name: str
    command: Words
    options: Options
    forwards: float = 0.0
    steps: float = 0.0
    lacks: tuple[str, ...] = ()
    package: str = ""

    def words(self, home: Path) -> Words:
        """The command that evaluates the run of the folder `home`."""
        model = str(home / TRAIN / checkpoint.LATEST)
        return ("apr-dali", *self.command, model, *_words({**self.options, "output": (str(home / EVALUATED),)}))


@dataclass(frozen=True)
class Run:
    """A network that is trained once and evaluated.

    follow, dataset, network, method, seed: which one. size, classes: of its images, pixels per side, and its outputs.
    lacks: as in Evaluation, without which it cannot be trained.
    """

    follow: str
    dataset: str
    network: str
    method: str
    seed: int
    size: int
    classes: int
    training: Training
    evaluations: tuple[Evaluation, ...]
    lacks: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """Its folder below the output."""
        return f"{self.follow}/{self.dataset}/{self.network.replace('/', '-')}/{self.method}/seed{self.seed}"

    @property
    def place(self) -> str:
        """The data set and the network, for headings."""
        return f"{self.dataset}, {self.network}"

    def home(self, output: Path) -> Path:
        """Its folder."""
        return output / self.key


@dataclass(frozen=True)
class Column:
    """What is compared, method by method. paper: the paper's numbers in percent, by method. mean: over the networks."""

    key: str
    title: str
    measure: Measure
    paper: Mapping[str, float] = field(default_factory=dict)
    mean: bool = False


@dataclass(frozen=True)
class Cell:
    """A number of the paper and those of ours that stand beside it.

    place, what: the heading of the table that it is in: data set and network, and what was measured. runs: for each
    seed the keys of runs, whose mean is the number. why: why there are none.
    """

    key: str
    place: str
    what: str
    method: str
    title: str
    paper: float | None
    runs: tuple[tuple[str, ...], ...]
    measure: Measure
    why: str = ""


@dataclass(frozen=True)
class Plan:
    """A table with all that it is made of.

    table: which one. name: of its files. prepared: commands that come before all runs. missing: sets that are not
    there, with what to do. not_trained: methods, with the reason. notes: sentences for the page.
    """

    table: str
    name: str
    title: str
    asked: Asked
    datasets: tuple[str, ...]
    runs: tuple[Run, ...]
    cells: tuple[Cell, ...]
    prepared: tuple[Words, ...]
    missing: Mapping[str, str]
    not_trained: Mapping[str, str]
    notes: tuple[str, ...]
