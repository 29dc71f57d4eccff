"""`apr-dali eval autoattack`: how many images a network gets right when each is attacked."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from apr_dali.data.sampling import evenly
from apr_dali.eval.autoattack import Attack, Normalised, check_attackable, robust_accuracy
from apr_dali.eval.datasets import select
from apr_dali.eval.load_model import Network
from apr_dali.eval.passes import Batches, Source, counted, progress, together
from apr_dali.eval.session import Session, table
from apr_dali.runtime.distributed import on_main
from apr_dali.runtime.files import write_whole


def autoattack(
    session: Session, data: str, attack: Attack, limit: int | None, keep: bool
) -> tuple[dict[str, Any], str]:
    """Attack the images of `data`, or `limit` of them, evenly taken: the record and its text."""
    # Whatever it was trained with: rounding to 16 bits is as large as some attacks, and hides gradients.
    session = replace(session, feeding=replace(session.feeding, amp="none"))
    network, group = session.network, session.group
    model = Normalised(session.model, network.mean, network.std).to(group.device).eval()
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
    result = {"data": data, "set": together([source]), **asdict(attack), **asdict(found), "robust": found.robust}
    if folder:
        result["kept_images"] = str(folder)
    return session.finish("autoattack", result, {}, state), autoattack_text(result)


def autoattack_text(result: dict[str, Any]) -> str:
    """A row an attack: the share of images that are right after it, in percent."""
    rows = [("none", f"{100 * result['clean']:.2f}"), *((k, f"{100 * v:.2f}") for k, v in result["after"].items())]
    budget = f"{result['norm']}, epsilon {result['epsilon']:.5g} = {255 * result['epsilon']:.4g}/255"
    return f"{result['version']} attack, {budget}, {result['images']} images\n" + table(("after", "right, %"), rows)


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
    """Batches in 0..1 on `device`, from batches normalised for `network`."""
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
        write_whole(path, _npy(images.cpu().numpy()))

    return keep


def _npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()
