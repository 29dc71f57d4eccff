"""`apr-dali analyze bands`: what is learned from bands of amplitude and phase, the paper's section 3.1."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from apr_dali.bands import BANDS, OUTSIDE, RADII, BandFilter
from apr_dali.commands.analyses.common import add_training, training_options
from apr_dali.commands.arguments import positive

if TYPE_CHECKING:
    from pathlib import Path

    from apr_dali.data.arrays import ArraySet
    from apr_dali.eval.state import State
    from apr_dali.runtime.distributed import Group
    from apr_dali.training.options import CifarOptions

_SIDE = 16  # of digits, which are 8×8 images made larger
_PHOTOGRAPH, _PHOTOGRAPH_SIDE = "cat", 128


def add(parser: argparse.ArgumentParser) -> None:
    add_training(parser)
    parser.add_argument("--image-size", type=positive, metavar="N", help="pixels (default: 16 for digits, else 32)")
    parser.add_argument(
        "--radii",
        type=float,
        nargs=2,
        default=RADII,
        metavar=("LOW", "HIGH"),
        help="where low and band, and band and high meet, in cycles per pixel (default: 0.125 0.25)",
    )
    parser.add_argument(
        "--outside",
        type=int,
        choices=OUTSIDE,
        default=0,
        help="the phase outside its band in radians: 0, or 1 as the paper's words have it (default: %(default)s)",
    )
    parser.add_argument("--output", default="runs/analyze-bands", metavar="DIR", help="(default: %(default)s)")


def run(args: argparse.Namespace) -> None:
    from apr_dali.runtime.distributed import start
    from apr_dali.runtime.files import make_output
    from apr_dali.training.options import CifarOptions

    radii = tuple(args.radii)
    outside = {phase: 0 if phase == "full" else args.outside for phase in BANDS}
    cells = [BandFilter(amplitude, phase, radii, outside[phase]) for amplitude in BANDS for phase in BANDS]
    options = CifarOptions(**training_options(args))
    side = args.image_size or (_SIDE if options.dataset == "digits" else 32)
    trained, validated = (_sized(options.dataset, split, args.data, side) for split in ("train", "val"))
    with start(args.device) as group:
        output = make_output(args.output)
        state = _state(_settings(options, args.recipe, cells[-1], trained), [trained, validated], group, output)
        _train_all(cells, options, args.recipe, trained, validated, group, state)
        print(_written(cells, state, options, args.recipe, side, validated, group, output))


def _sized(dataset: str, split: str, directory: str, side: int) -> ArraySet:
    """A part of a data set, its images scaled to side × side pixels."""
    import numpy as np
    from PIL import Image

    from apr_dali.data.arrays import ArraySet, load_set

    part = load_set(dataset, split, directory, side)
    if part.images.shape[1] == side:
        return part
    scaled = [np.asarray(Image.fromarray(image).resize((side, side), Image.Resampling.BOX)) for image in part.images]
    return ArraySet(np.stack(scaled), part.labels, part.classes)


def _train_all(
    cells: list[BandFilter],
    options: CifarOptions,
    recipe: str,
    trained: ArraySet,
    validated: ArraySet,
    group: Group,
    state: State,
) -> None:
    """Put into `state` the accuracy, 0..1, of a network trained and tested on each spectrum that it does not have."""
    from dataclasses import replace

    from tqdm import tqdm

    from apr_dali.commands.analyses.small_network import fit
    from apr_dali.eval.clean import evaluate
    from apr_dali.pipelines.cifar_loader import CifarLoader

    for cell in tqdm(cells, desc="trainings", disable=None):
        if str(cell) in state:
            continue
        model = fit(
            trained,
            replace(options, spectrum=str(cell), radii=cell.radii),
            group,
            as_published=recipe == "paper",
        )
        with CifarLoader(validated, 128, train=False, device=group.device) as loader:
            state.put(str(cell), evaluate(model, loader, group.device).top1)


def _state(settings: dict[str, Any], sets: list[ArraySet], group: Group, output: Path) -> State:
    from apr_dali.data.fingerprint import identity_of_arrays
    from apr_dali.eval.session import kept_state

    identities = [identity_of_arrays(part.images, part.labels) for part in sets]
    return kept_state(group, output, "bands", {**settings, "sets": identities})


def _settings(options: CifarOptions, recipe: str, cell: BandFilter, trained: ArraySet) -> dict[str, Any]:
    names = ("dataset", "model", "epochs", "batch_size", "lr", "seed")
    settings = {name: getattr(options, name) for name in names}
    settings |= {"recipe": recipe, "radii": cell.radii, "outside": cell.outside}
    return {**settings, "image_size": trained.images.shape[1], "images": len(trained)}


def _written(
    cells: list[BandFilter],
    state: State,
    options: CifarOptions,
    recipe: str,
    side: int,
    validated: ArraySet,
    group: Group,
    output: Path,
) -> str:
    """Write the record and the picture; the table of accuracies in percent."""
    import numpy as np

    from apr_dali.commands.analyses.common import photographs
    from apr_dali.eval.analyses.frequency_pictures import bands_picture, through_filters
    from apr_dali.eval.session import kept_text, write_record
    from apr_dali.runtime.text_table import table

    radii = cells[0].radii
    accuracies = {str(cell): state.get(str(cell)) for cell in cells}
    values = np.array([accuracies[str(cell)] for cell in cells]).reshape(len(BANDS), len(BANDS))
    photos, names = photographs(_PHOTOGRAPH_SIDE)
    seen = through_filters(photos[names.index(_PHOTOGRAPH)], cells)
    title = f"{options.model}, {options.dataset} of {side}×{side} pixels, {options.epochs} epochs"
    picture = bands_picture(values, seen, BANDS, radii, title)
    settings = _settings(options, recipe, cells[-1], validated)
    result = {"accuracy": accuracies, "test_images": len(validated)}
    record = write_record(group, output, "bands", settings, result, {"grid": picture}, state)
    rows = [(band, *(f"{100 * value:.1f}" for value in row)) for band, row in zip(BANDS, values, strict=True)]
    head = f"accuracy in percent on {len(validated)} test images; rows: amplitude, columns: phase; radii {radii}"
    grid = table(("amplitude", *BANDS), rows) + kept_text(record)
    return "\n".join([head, grid, f"written: {output / 'bands.json'}, bands-grid.png"])
