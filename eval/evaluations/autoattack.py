"""How many images a network gets right when each is attacked."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from apr_dali.data.sampling import evenly
from apr_dali.errors import InputError
from apr_dali.eval.autoattack import Attack, Normalized, Robustness, check_attackable, robust_accuracy
from apr_dali.eval.bootstrap import share_interval
from apr_dali.eval.datasets import select
from apr_dali.eval.inference_only import refuse_inference_only
from apr_dali.eval.load_model import Network
from apr_dali.eval.page import Section, Table, interval_text, percent, with_interval
from apr_dali.eval.passes import Batches, Source, counted, progress, together
from apr_dali.eval.result import Result
from apr_dali.eval.session import Options, Session, Subject, session_of
from apr_dali.runtime.distributed import on_main
from apr_dali.runtime.files import npy_bytes, write_whole
from apr_dali.runtime.text_table import table

if TYPE_CHECKING:
    from typing_extensions import Unpack


@dataclass(frozen=True)
class AutoAttack(Result):
    """The share of the images of `data` that are right after attacks.

    set: 16 hex digits of what the images are. attack: what was attacked with. found: the shares.
    kept_images: the folder with the adversarial images, where they were to be kept.
    """

    data: str
    set: str
    attack: Attack
    found: Robustness
    kept_images: str | None = None

    evaluation = "autoattack"

    @property
    def robust(self) -> float:
        """Right after all attacks, 0..1."""
        return self.found.robust

    def as_json(self) -> dict[str, Any]:
        about = {"data": self.data, "set": self.set, **asdict(self.attack)}
        kept = {} if self.kept_images is None else {"kept_images": self.kept_images}
        found, images = self.found, self.found.images
        shares = {"clean": found.clean, "robust": found.robust}
        after = {name: share_interval(share, images) for name, share in found.after.items()}
        intervals = {**{key: share_interval(share, images) for key, share in shares.items()}, "after": after}
        return {**about, **asdict(self.found), "robust": self.found.robust, "intervals": intervals, **kept}

    def text(self) -> str:
        attack, found = self.attack, self.found
        rows = [("none", f"{100 * found.clean:.2f}"), *((k, f"{100 * v:.2f}") for k, v in found.after.items())]
        budget = f"{attack.norm}, epsilon {attack.epsilon:.5g} = {255 * attack.epsilon:.4g}/255"
        return f"{attack.version} attack, {budget}, {found.images} images\n" + table(("after", "right, %"), rows)


def evaluate_autoattack(
    model: Subject,
    data: str | Path,
    *,
    version: str = Attack.version,
    norm: str = Attack.norm,
    epsilon: float = Attack.epsilon,
    seed: int = Attack.seed,
    limit: int | None = None,
    keep: bool = False,
    **options: Unpack[Options],
) -> AutoAttack:
    """Attack the images of `data`, with the gradients of float32.

    Args:
        model, options: as for `evaluate_clean`.
        data: images to attack.
        version, norm, epsilon, seed: see `apr_dali.eval.autoattack.Attack`.
        limit: only so many images, evenly taken; None for all.
        keep: keep the adversarial images, .npy files in 0..1, in a folder in `output`.

    Raises:
        InputError: for an attack that would mean nothing, or images or a network that do not fit.
    """
    if options.get("amp") not in (None, "none"):
        raise InputError(f"--amp {options['amp']} does not go with autoattack: attacks need the gradients of float32")
    attack = Attack(version, norm, epsilon, seed)
    with session_of(model, options) as session:
        if keep and not session.keeps:
            raise InputError("keep needs a folder for the adversarial images: give an output")
        return _measure(session, str(data), attack, limit, keep)


def _measure(session: Session, data: str, attack: Attack, limit: int | None, keep: bool) -> AutoAttack:
    # Whatever it was trained with: rounding to 16 bits is as large as some attacks, and hides gradients.
    session = replace(session, feeding=replace(session.feeding, amp="none"))
    network, group = session.network, session.group
    refuse_inference_only(network.model, network.name, "AutoAttack needs gradients")
    model = Normalized(session.model, network.mean, network.std).to(group.device).eval()
    # The images alone need gradients: without the weights' a step costs a third less.
    model.requires_grad_(False)
    source = _source(session, data, limit)
    with source.open() as batches:
        check_attackable(
            model, next(iter(in_unit_range(network, group.device, batches)))[0], len(network.classes), attack
        )
    options = {**asdict(attack), "data": source.key, "limit": limit, "batch_size": session.feeding.batch_size}
    folder = _folder_of_kept(session, options) if keep else None
    state = session.state("autoattack", False, **options, process=(group.rank, group.world), keep=keep)
    with progress([source]) as bar, source.open() as batches:
        bar.set_description(f"{attack.version} {attack.norm}")
        unit = in_unit_range(network, group.device, counted(batches, bar))
        found = robust_accuracy(model, unit, attack, state, _keeper(session, folder) if folder else None)
    result = AutoAttack(data, together([source]), attack, found, None if folder is None else str(folder))
    return result.finished(session, {}, state)


def _source(session: Session, data: str, limit: int | None) -> Source:
    if session.takes_small(data):
        return session.feeding.small("images", data, None if limit is None else lambda count: evenly(count, limit))
    if limit is None:
        return session.feeding.folder("images", data, session.network.classes)
    path = session.output / "autoattack.files.txt"
    feeding = session.feeding
    take = lambda files: evenly(len(files), limit).tolist()  # noqa: E731
    on_main(session.group, lambda: select(data, path, take, components=feeding.components, mixed=feeding.mixed))
    return session.feeding.folder("images", str(path), session.network.classes)


def in_unit_range(network: Network, device: torch.device, batches: Batches) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches in 0..1 on `device`, from batches normalized for `network`."""
    mean, std = (torch.tensor(v, device=device).view(1, 3, 1, 1) for v in (network.mean, network.std))
    for images, targets in batches:
        # Rounding may lead out of the range by its last digit.
        yield (images.to(device).float() * std + mean).clamp(0, 1), targets.to(device)


def _folder_of_kept(session: Session, options: dict[str, Any]) -> Path:
    # One for each attack and network: those that a finished attack has kept must stay its own.
    asked = json.dumps([session.network.fingerprint, options], sort_keys=True)
    return session.output / f"adversarial-{hashlib.sha256(asked.encode()).hexdigest()[:8]}"


def _keeper(session: Session, folder: Path) -> Any:
    folder.mkdir(exist_ok=True)

    def keep(number: int, images: Tensor) -> None:
        path = Path(folder, f"{session.group.rank}-{number:05d}.npy")
        write_whole(path, npy_bytes(images.cpu().numpy()))

    return keep


# ---- on the page of a benchmark --------------------------------------------------------------------------------------


def summary(result: Mapping[str, Any]) -> dict[str, str]:
    """The numbers that matter, with their units."""
    return {_label(result): percent(result["robust"])}


def bounds(result: Mapping[str, Any]) -> dict[str, str]:
    """The intervals of numbers of `summary`, by the same names."""
    return {_label(result): interval_text(result["intervals"]["robust"], 100)} if "intervals" in result else {}


def _label(result: Mapping[str, Any]) -> str:
    budget = f"{result['norm']} {255 * result['epsilon']:.3g}/255"
    return f"right under {result['version']} attack, {budget}, {result['images']:,} images"


def section(result: Mapping[str, Any]) -> Section:
    """The part of the page."""
    ends = result.get("intervals", {})
    after = ends.get("after", {})
    rows = (
        ("no attack", with_interval(percent(result["clean"]), ends.get("clean"), 100)),
        *((name, with_interval(percent(share), after.get(name), 100)) for name, share in result["after"].items()),
    )
    budget = f"{result['norm']}, epsilon {255 * result['epsilon']:.3g}/255"
    note = f"{result['version']}: {budget}, {result['images']} images, seed {result['seed']}."
    return Section("Adversarial attacks", (note,), (Table(("right after", "share"), rows),))
