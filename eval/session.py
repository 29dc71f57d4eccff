"""One network under evaluation: where it runs, how it is fed, where its results go."""

from __future__ import annotations

import hashlib
import json
import re
import shlex
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

import torch
from torch import nn

from apr_dali.data.arrays import SIDE, is_image_folder, is_small_set
from apr_dali.data.corruption_sets import holds_corrupted_tars
from apr_dali.data.folders import check_components, holds_tars
from apr_dali.data.tars import DEFAULT, Components
from apr_dali.errors import InputError, check_choice
from apr_dali.eval.checks import check_outputs
from apr_dali.eval.datasets import Feeding
from apr_dali.eval.inference_only import refuse_inference_only
from apr_dali.eval.load_model import Classes, Network, load_model, seen_as
from apr_dali.eval.passes import Source
from apr_dali.eval.state import State
from apr_dali.runtime import torch_threads
from apr_dali.runtime.distributed import Group, on_main, start
from apr_dali.runtime.environment import environment, versions
from apr_dali.runtime.files import make_output, sha256_of, write_whole
from apr_dali.runtime.json_text import json_text
from apr_dali.runtime.precision import AMP_TYPES

if TYPE_CHECKING:
    from apr_dali.eval.shared_pass import SharedPass


@dataclass(frozen=True)
class Session:
    """A network in its place. model is `network.model` on the device of `group`; results go to the folder `output`.

    file: that the weights were read from; None for those that were fetched by name. keeps: `output` is there after it.
    passes: over labeled images, which several evaluations share; None where each makes its own.
    """

    network: Network
    model: nn.Module
    group: Group
    feeding: Feeding
    output: Path
    file: Path | None = None
    keeps: bool = True
    passes: SharedPass | None = None

    @property
    def amp(self) -> torch.dtype | None:
        return AMP_TYPES[self.feeding.amp]

    def check(self, source: Source, model: nn.Module | None = None, classes: int | None = None) -> torch.Tensor:
        """The first images of `source`, on the device. InputError unless their logits are sound: `check_outputs`."""
        with source.open() as batches:
            images, _ = next(iter(batches))
        with torch.autocast(self.group.device.type, self.amp or torch.bfloat16, enabled=self.amp is not None):
            placed = images.to(self.group.device)
            check_outputs(model or self.model, placed, classes or len(self.network.classes))
        return placed

    def takes_small(self, data: str) -> bool:
        """Whether `data` is for `open_small`: sets of 32×32 pixels, unless this network's training scaled a folder.

        Raises InputError for such a set that is no folder where the network takes images of another size.
        """
        network = self.network
        if not network.takes_small and is_small_set(data):
            raise InputError(
                f"{data} is a set of {SIDE}×{SIDE} images, and {network.name} takes {network.image_size}×"
                f"{network.image_size}: give a set for it, or these images as files in class folders, which are scaled"
            )
        scales = network.scaled_whole or network.from_folders
        small = network.takes_small and not (scales and is_image_folder(data))
        if small and self.feeding.components != DEFAULT:
            raise InputError(f"--tar-image and --tar-label have no effect on {data}: it is read as images of 32×32")
        return small

    def labeled(self, data: str, name: str = "clean") -> Source:
        """The images of a folder with the network's classes; for a network of 32×32 images, of `open_small`."""
        if self.takes_small(data):
            return self.feeding.small(name, data)
        return self.feeding.folder(name, data, classes=self.network.classes)

    def of_several(self, sets: Iterable[str]) -> Session:
        """The same session for several sets: components of tars are of those that have any; InputError if none has."""
        if self.feeding.mixed:
            return self  # of more sets than these
        paths = list(sets)
        tars = any(holds_tars(path) or holds_corrupted_tars(path) for path in paths)
        check_components(self.feeding.components, tars, paths)
        return replace(self, feeding=replace(self.feeding, mixed=True))

    def state(self, name: str, shared: bool = True, **options: Any) -> State:
        """What the evaluation `name` has finished in an earlier run of the same network with the same `options`.

        Sets of images are no options: their parts are kept under `Source.key`.
        """
        # These may have the path of the checkpoint: what was moved is still the same.
        printed = ("network", "seen_from", "classes_from")
        network = {key: value for key, value in self.settings().items() if key not in printed}
        return kept_state(self.group, self.output, name, {**network, "built": self._built, **options}, shared)

    @cached_property
    def _built(self) -> str:
        return built_like(self.network.model, self.network.classes)

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
            "seen": network.seen,
            "seen_from": network.seen_from,
            "classes_from": network.classes_from,
            "amp": self.feeding.amp,
            **self.feeding.choices(),
        }

    def finish(self, name: str, result: dict[str, Any], pictures: dict[str, bytes], *states: State) -> dict[str, Any]:
        """Write NAME.json and the pictures NAME-….png, and return what the file says.

        states: that parts of the result were kept in.
        """
        return write_record(self.group, self.output, name, self.about(), result, pictures, *states)

    def about(self) -> dict[str, Any]:
        """The settings and where the weights came from, for people."""
        if self.file is None:
            return self.settings()
        return {**self.settings(), "file": str(self.file.absolute()), "file_sha256": self._file_sha256}

    @cached_property
    def _file_sha256(self) -> str:
        assert self.file is not None
        return sha256_of(self.file)


def kept_state(group: Group, output: Path, name: str, settings: Mapping[str, Any], shared: bool = True) -> State:
    """What `name` has kept in the folder `output` from an earlier run in which all that went in was the same.

    settings: what results depend on; the kind of device and the versions of packages are added here. Other settings
    have another file, NAME.HASH.state.json, so that none of their results can be taken for these.
    """
    packages = {package: version for package, version in versions().items() if package != "python"}
    key = {**settings, "device": group.device.type, "versions": packages}
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:12]
    return State(output / f"{name}.{digest}.state.json", key, shared)


def built_like(model: nn.Module, classes: Sequence[str]) -> str:
    """16 hex digits of what a network does with its weights: its modules with their settings, its classes."""
    parts = [f"{model} {list(classes)}"]
    for name, module in model.named_modules():
        for key, value in sorted(vars(module).items()):
            plain = isinstance(value, (bool, int, float, str, tuple))
            if plain and key != "training" and not key.startswith("_"):
                parts.append(f"{name}.{key} {value!r}")
    # Where an object lies in memory is no setting.
    return hashlib.sha256(re.sub(r" at 0x[0-9a-f]+", "", "\n".join(parts)).encode()).hexdigest()[:16]


def write_record(
    group: Group,
    output: Path,
    name: str,
    settings: dict[str, Any],
    result: dict[str, Any],
    pictures: dict[str, bytes],
    *states: State,
) -> dict[str, Any]:
    """Write NAME.json and the pictures NAME-TITLE.png into the folder `output`, and return what the file says."""
    record = {
        "evaluation": name,
        **about_run(group, settings),
        "kept": {
            # Two networks have parts of one name.
            (part if len(states) == 1 else f"{number}: {part}"): date
            for number, state in enumerate(states, 1)
            for part, date in state.kept().items()
        },
        "pictures": list(pictures),
        "result": result,
    }

    text = json_text(record, indent=2) + "\n"

    def write() -> None:
        for title, png in pictures.items():
            write_whole(output / f"{name}-{title}.png", png)
        write_whole(output / f"{name}.json", text.encode())

    on_main(group, write)
    # As the file says it: a tuple is a list there.
    found: dict[str, Any] = json.loads(text)
    return found


def about_run(group: Group, settings: dict[str, Any]) -> dict[str, Any]:
    """What a record says of how its results were made: when, by which command, with which settings, on what."""
    return {
        "date": datetime.now().astimezone().isoformat(timespec="seconds"),
        "command": shlex.join(["apr-dali", *sys.argv[1:]]),
        "settings": settings,
        **environment(group),
    }


class Options(TypedDict, total=False):
    """How a network is loaded, fed and where results go: the keywords of every evaluation, all of them optional.

    weights, classes, image_size: as for `load_model`. mean, std, crop_pct, interpolation: as for `seen_as`.
    output: the folder for results and pictures, and for what is finished, from which the same call goes on; None
        writes nothing.
    batch_size: images per process, 128. device: "auto", "cpu", "cuda", "cuda:1", … or a torch.device; auto.
    amp: one of AMP_MODES; None for what the network was trained with. threads: of the data pipeline; None to choose.
    tar_image, tar_label: which members of a tar's samples are image and label, see `Components`.
    """

    weights: str | None
    classes: Classes
    image_size: int | None
    mean: Sequence[float] | None
    std: Sequence[float] | None
    crop_pct: float | None
    interpolation: str | None
    output: str | Path | None
    batch_size: int
    device: str | torch.device
    amp: str | None
    threads: int | None
    tar_image: str | None
    tar_label: str | None


Subject = str | Path | nn.Module | Session
"""What is evaluated: a module; what `load_model` takes, a checkpoint or a name; or a session that is open already."""


@contextmanager
def session_of(model: Subject, options: Options) -> Iterator[Session]:
    """The session that `model` is, or one for it, which ends with the block.

    Raises TypeError for `options` beside a session, which has its own.
    """
    if not isinstance(model, Session):
        with open_session(model, **options) as session:
            yield session
    elif options:
        raise TypeError(f"an open session has its own {', '.join(options)}: give them to open_session")
    else:
        yield model


@contextmanager
def open_session(
    model: str | Path | nn.Module,
    *,
    weights: str | None = None,
    classes: Classes = None,
    image_size: int | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    crop_pct: float | None = None,
    interpolation: str | None = None,
    output: str | Path | None = None,
    batch_size: int = 128,
    device: str | torch.device = "auto",
    amp: str | None = None,
    threads: int | None = None,
    tar_image: str | None = None,
    tar_label: str | None = None,
) -> Iterator[Session]:
    """A session with a network, on all processes; see `Options`.

    A module is evaluated in eval mode on the session's device, and left in the mode and place that it was in.
    """
    _check_choices(batch_size, amp)
    with ExitStack() as stack:
        group = stack.enter_context(_started(device))
        if isinstance(model, nn.Module):
            stack.enter_context(left_as_it_was(model))
        elif group.world > 1:
            # The first process fetches weights, the others then find them.
            on_main(group, lambda: load_model(model, weights, image_size, classes).fingerprint)
        network = seen_as(load_model(model, weights, image_size, classes), mean, std, crop_pct, interpolation)
        if amp not in (None, "none"):
            refuse_inference_only(network.model, network.name, f"--amp {amp} changes layers")
        folder = stack.enter_context(_folder(group, output))
        stack.callback(torch.set_num_threads, torch.get_num_threads())
        torch_threads.choose(network.model, network.image_size, 3, group.device)
        placed = network.model.to(group.device)
        components = Components(tar_image, tar_label or Components.label)
        feeding = Feeding(network, group, batch_size, amp or network.amp, threads, components)
        file = None if isinstance(model, nn.Module) else _weights_file(str(weights or model))
        yield Session(network, placed, group, feeding, folder, file, output is not None)


def _check_choices(batch_size: int, amp: str | None) -> None:
    if batch_size < 1:
        raise InputError(f"batch_size must be a whole number from 1 on, got {batch_size}")
    if amp is not None:
        check_choice("amp", amp, tuple(AMP_TYPES))


@contextmanager
def _started(device: str | torch.device) -> Iterator[Group]:
    """The group on a device by any of its names; only a single process has a GPU by its number."""
    name = {"cuda": "gpu"}.get(str(device), str(device))
    number = re.fullmatch(r"cuda:(\d+)", name)
    if number is None:
        check_choice("device", name, ("auto", "cpu", "gpu"))
    with start("gpu" if number else name) as group:
        yield group if number is None else _on(group, int(number[1]))


def _on(group: Group, number: int) -> Group:
    """The group of a single process, on the GPU of that number."""
    if group.world > 1:
        raise InputError(f"each of {group.world} processes has its own GPU: give the device cuda, not cuda:{number}")
    if number >= torch.cuda.device_count():
        raise InputError(f"there is no cuda:{number}: torch finds {torch.cuda.device_count()} GPUs")
    torch.cuda.set_device(number)
    return replace(group, device=torch.device("cuda", number))


@contextmanager
def left_as_it_was(model: nn.Module) -> Iterator[None]:
    """Give a caller's module back in its modes, with its gradients and on its device."""
    modes = {module: module.training for module in model.modules()}
    wanted = {parameter: (parameter.requires_grad, parameter.grad) for parameter in model.parameters()}
    device = next((parameter.device for parameter in model.parameters()), None)
    # What an attack or Grad-CAM leaves there must not be added to the caller's.
    for parameter in wanted:
        parameter.grad = None
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training
        if device is not None:
            model.to(device)
        for parameter, (needed, grad) in wanted.items():
            parameter.requires_grad_(needed)
            parameter.grad = grad


@contextmanager
def _folder(group: Group, output: str | Path | None) -> Iterator[Path]:
    """The folder `output`, or one that goes again."""
    if output is not None:
        yield on_main(group, lambda: make_output(output))
        return
    temporary = on_main(group, lambda: tempfile.mkdtemp(prefix="apr_dali-"))
    try:
        yield Path(temporary)
    finally:
        if group.main:
            shutil.rmtree(temporary, ignore_errors=True)


def _weights_file(named: str) -> Path | None:
    return Path(named) if Path(named).is_file() else None


def kept_text(record: Mapping[str, Any]) -> str:
    """A line that says which parts of a record are of an earlier run, and from when; empty if none are."""
    dates = sorted(record["kept"].values())
    if not dates:
        return ""
    when = dates[0] if dates[0] == dates[-1] else f"{dates[0]} to {dates[-1]}"
    parts = "1 part is" if len(dates) == 1 else f"{len(dates)} parts are"
    return f"\n{parts} of an earlier run, kept since {when}; to measure again, give another --output"


def default_output(model: str) -> str:
    """The folder for what is found out about `model`."""
    return f"runs/eval-{re.sub('[^A-Za-z0-9_.-]+', '-', model).strip('-.')}"
