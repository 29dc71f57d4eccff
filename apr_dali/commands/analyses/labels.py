"""`apr-dali analyze labels`: amplitude's label or phase's, the paper's section 5.3 and Fig. 9."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from apr_dali.commands.analyses.common import add_training, training_options
from apr_dali.commands.arguments import named_paths

if TYPE_CHECKING:
    from pathlib import Path

    from apr_dali.data.arrays import ArraySet
    from apr_dali.eval.passes import Source
    from apr_dali.eval.session import Session
    from apr_dali.eval.state import State
    from apr_dali.runtime.distributed import Group
    from apr_dali.training.options import CifarOptions

_WEIGHTS = tuple(n / 10 for n in range(11))
_BATCH = 128


def add(parser: argparse.ArgumentParser) -> None:
    add_training(parser)
    parser.add_argument(
        "--weights",
        type=_weight,
        nargs="+",
        default=_WEIGHTS,
        metavar="λ",
        help="of the phase's label, 0 to 1; a training each (default: 0 0.1 … 1)",
    )
    parser.add_argument(
        "--corrupted", metavar="DIR", help="as `eval corruption --data` (default: for digits, digits; else none)"
    )
    parser.add_argument(
        "--ood",
        nargs="+",
        metavar="NAME=PATH",
        help="as for `eval ood` (default: for digits, photographs=photographs; else none)",
    )
    parser.add_argument("--output", default="runs/analyze-labels", metavar="DIR", help="(default: %(default)s)")


def _weight(text: str) -> float:
    try:
        weight = float(text)
    except ValueError:
        weight = -1.0
    if not 0 <= weight <= 1:
        raise argparse.ArgumentTypeError(f"must be a number from 0 to 1, got {text!r}")
    return weight


@dataclass(frozen=True)
class Sets:
    """What each network is tested on.

    clean: the test images. cells: of them corrupted, one per corruption and severity, or none; called `corrupted`.
    inside: the clean images again, by a name that scores are kept under. others: sets that the network does not know.
    """

    clean: Source
    cells: list[Source]
    corrupted: str
    inside: Source
    others: dict[str, Source]


def run(args: argparse.Namespace) -> None:
    """Write labels.json and labels-curves.png; each network is kept, and so is what is known of it."""
    from apr_dali.data.arrays import load_set
    from apr_dali.errors import InputError
    from apr_dali.eval.analyses.frequency_pictures import labels_picture
    from apr_dali.eval.session import kept_text, write_record
    from apr_dali.runtime.distributed import start
    from apr_dali.runtime.files import make_output
    from apr_dali.runtime.text_table import table
    from apr_dali.training.options import CifarOptions

    options = CifarOptions(**training_options(args), data=args.data, aug="apr-p")
    with start(args.device) as group:
        if group.world > 1:
            raise InputError("an analysis runs in one process: start it without torchrun")
        trained = load_set(options.dataset, "train", options.data, options.image_size)
        session = _session(options, trained, group, make_output(args.output))
        # Sets that are not right are named before days of training.
        sets = _sets(session, args, options)
        rows, states = _measure_all(session, options, sorted(set(args.weights)), args.recipe, trained, sets)
        result = {
            "images": sets.clean.images,
            "corrupted": sets.corrupted or None,
            "sets": {name: source.images for name, source in sets.others.items()},
            "rows": rows,
        }
        settings = {key: getattr(options, key) for key in ("dataset", "model", "epochs", "batch_size", "lr", "seed")}
        title = f"{options.model}, {options.dataset}, {options.epochs} epochs, {sets.clean.images:,} test images"
        picture = labels_picture(rows, title, sets.corrupted)
        record = write_record(
            group, session.output, "labels", {**settings, "recipe": args.recipe}, result, {"curves": picture}, *states
        )
        print(table(*_table(rows, sets)) + (f"\ncorrupted: {sets.corrupted}" if sets.cells else "") + kept_text(record))
        print(f"written: {session.output / 'labels.json'}, labels-curves.png")


def _session(options: CifarOptions, trained: ArraySet, group: Group, output: Path) -> Session:
    """A session with an untrained network, which sees images as those that are trained will."""
    from apr_dali.eval.datasets import Feeding
    from apr_dali.eval.load_model import Network
    from apr_dali.eval.session import Session
    from apr_dali.models import cifar_first, create_model
    from apr_dali.recipes import CIFAR

    model = create_model(cifar_first(options.model), len(trained.classes))
    network = Network(
        options.model,
        model,
        trained.classes,
        CIFAR.mean,
        CIFAR.std,
        options.image_size,
        fingerprint="",
        scaled_whole=options.dataset == "folder",
        trained_on=options.dataset,
    )
    feeding = Feeding(network, group, _BATCH, "none", options.threads or None)
    return Session(network, model, group, feeding, output)


def _sets(session: Session, args: argparse.Namespace, options: CifarOptions) -> Sets:
    from apr_dali.data.arrays import DIGITS
    from apr_dali.eval.evaluations.corruption import corruption_cells
    from apr_dali.eval.ood_sources import PHOTOGRAPHS, TAKEN, checked_sets, out_source

    digits = options.dataset == DIGITS
    data = DIGITS if digits else f"{options.data}/val" if options.dataset == "folder" else options.data
    corrupted = args.corrupted or (DIGITS if digits else None)
    given = named_paths("--ood", args.ood, TAKEN) if args.ood else {PHOTOGRAPHS: PHOTOGRAPHS} if digits else {}
    others = checked_sets(given)
    cells, _, name = corruption_cells(session, corrupted) if corrupted else ([], "", "")
    return Sets(
        session.labeled(data),
        cells,
        name,
        session.labeled(data, "in-distribution"),
        {key: out_source(session, key, path) for key, path in others.items()},
    )


def _measure_all(
    session: Session, options: CifarOptions, weights: list[float], recipe: str, trained: ArraySet, sets: Sets
) -> tuple[list[dict[str, Any]], list[State]]:
    """One row per weight, and the states that they are kept in."""
    from dataclasses import replace

    from tqdm import tqdm

    from apr_dali.eval.load_model import load_model

    rows, states = [], []
    for weight in tqdm(weights, desc="trainings", disable=None):
        path = _trained(session, replace(options, phase_weight=weight), recipe, trained)
        network = load_model(str(path))
        own = replace(session, network=network, model=network.model.to(session.group.device), file=path)
        states.append(own.state("labels"))
        rows.append({"weight": weight, **_measured(own, sets, states[-1])})
    return rows, states


def _trained(session: Session, options: CifarOptions, recipe: str, trained: ArraySet) -> Path:
    """The checkpoint of the network that `options` train, trained now if there is none."""
    import hashlib
    import json
    from dataclasses import asdict

    import torch

    from apr_dali.commands.analyses.small_network import fit
    from apr_dali.data.fingerprint import identity_of_arrays
    from apr_dali.runtime import checkpoint

    group = session.group
    asked = {name: value for name, value in asdict(options).items() if name not in ("threads", "data")}
    identity = identity_of_arrays(trained.images, trained.labels)
    about = json.dumps([asked, recipe, identity, torch.__version__, group.device.type], sort_keys=True)
    digest = hashlib.sha256(about.encode()).hexdigest()[:8]
    home = session.output / f"{options.model}-weight{options.phase_weight:g}-{digest}"
    path = home / checkpoint.LATEST
    if not path.is_file():
        home.mkdir(parents=True, exist_ok=True)
        fit(trained, options, group, home=home, as_published=recipe == "paper")
    return path


def _measured(session: Session, sets: Sets, state: State) -> dict[str, Any]:
    """Of one network: errors, 0..1, and by score the AUROC of each set that it does not know."""
    from apr_dali.eval.ood import SCORES, ood_metrics
    from apr_dali.eval.ood_scoring import scored
    from apr_dali.eval.passes import evaluate_each

    sources = [sets.clean, *sets.cells]
    found = evaluate_each(session.model, sources, session.group.device, state, session.amp)
    errors: dict[str, list[float]] = {}
    for cell in sets.cells:
        errors.setdefault(cell.name.partition("/")[0], []).append(1 - found[cell.name].top1)
    every = [error for row in errors.values() for error in row]
    row: dict[str, Any] = {
        "network": str(session.file),
        "clean_error": 1 - found[sets.clean.name].top1,
        "corrupted_error": sum(every) / len(every) if every else None,
        "errors": errors,
        "auroc": {},
    }
    if sets.others:
        own, *others = scored(session, session.model, [sets.inside, *sets.others.values()], state)
        row["auroc"] = {
            score: {
                name: ood_metrics(own[score], other[score])["auroc"]
                for name, other in zip(sets.others, others, strict=True)
            }
            for score in SCORES
        }
    return row


def _table(rows: list[dict[str, Any]], sets: Sets) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Titles and rows in percent, the AUROC by the score that the paper names."""
    from apr_dali.eval.ood import SCORES

    score = next(iter(SCORES))
    titles = ["λ", "clean error, %", *(["corrupted error, %"] if sets.cells else [])]
    titles += [f"AUROC ({score}), {name}, %" for name in sets.others]
    cells = []
    for row in rows:
        values = [row["clean_error"], *([row["corrupted_error"]] if sets.cells else [])]
        values += [row["auroc"][score][name] for name in sets.others]
        cells.append((f"{row['weight']:g}", *(f"{100 * value:.2f}" for value in values)))
    return tuple(titles), cells
