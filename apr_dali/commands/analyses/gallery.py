"""`apr-dali analyze gallery`: the operators at work on photographs, as a page, a picture and its draws as JSON."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from apr_dali.commands.arguments import positive, seed
from apr_dali.errors import InputError

if TYPE_CHECKING:
    from apr_dali.eval.analyses.gallery import Pixels

_SUBJECTS = ("astronaut", "cat", "pagoda")
# Of the first few, the one whose operations differ most between the three photographs.
_SEED = 10


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("images", nargs="*", metavar="IMAGE", help="image files, two or more (default: built-in ones)")
    parser.add_argument(
        "--size", type=positive, default=224, metavar="N", help="pixels per side (default: %(default)s)"
    )
    parser.add_argument(
        "--aug",
        nargs="+",
        default=[],
        metavar="NAME",
        help="methods beside APR, or all, instead of APR's operators: writes methods.html and methods.png",
    )
    parser.add_argument("--seed", type=seed, default=_SEED, help="of APR-S's operations (default: %(default)s)")
    parser.add_argument("--output", default="runs/analyze-gallery", metavar="DIR", help="(default: %(default)s)")


def run(args: argparse.Namespace) -> None:
    """Write gallery.html, gallery.png and gallery.json."""
    from apr_dali.eval.analyses.gallery import gallery_page, gallery_picture, rows
    from apr_dali.runtime.files import make_output, write_whole
    from apr_dali.runtime.json_text import json_text

    images, names = _photographs(args.images, args.size)
    if args.aug:
        _write_methods(images, names, args)
        return
    found = rows(images, names, args.seed)
    record = {
        "size": args.size,
        "seed": args.seed,
        "rows": [
            {
                "photograph": row.name,
                "partner": row.partner_name,
                "phase": row.operations[0],
                "amplitude": row.operations[1],
                "wrapped": row.wrapped,
            }
            for row in found
        ],
    }
    output = make_output(args.output)
    write_whole(output / "gallery.png", gallery_picture(found))
    write_whole(output / "gallery.json", (json_text(record, indent=2) + "\n").encode())
    write_whole(output / "gallery.html", gallery_page(found).encode())
    for row in found:
        print(f"{row.name}: phase of {row.operations[0]}, amplitude of {row.operations[1]}; {row.wrapped:.1%} wrapped")
    print(f"written: {output / 'gallery.html'}")


def _write_methods(images: Pixels, names: tuple[str, ...], args: argparse.Namespace) -> None:
    from apr_dali.augmentations.registry import PARALLEL
    from apr_dali.eval.analyses.method_gallery import changed, methods_page, methods_picture, shown
    from apr_dali.runtime.files import make_output, write_whole

    asked = shown() if args.aug == ["all"] else args.aug
    chosen = dict.fromkeys(view for name in asked for view in PARALLEL.get(name, (name,)))
    columns = {name: changed(images, name, args.seed) for name in chosen}
    output = make_output(args.output)
    write_whole(output / "methods.png", methods_picture(images, names, columns))
    write_whole(output / "methods.html", methods_page(images, names, columns).encode())
    print(f"written: {output / 'methods.html'}")


def _photographs(files: list[str], size: int) -> tuple[Pixels, tuple[str, ...]]:
    import numpy as np

    from apr_dali.data.image_file import open_image
    from apr_dali.data.sample import photograph
    from apr_dali.training.plots import center_crop

    if not files:
        return np.stack([center_crop(photograph(name), size) for name in _SUBJECTS]), _SUBJECTS
    if len(files) == 1:
        raise InputError("a gallery needs two images or more, got one: each is the partner of another")
    crops = [center_crop(open_image(file), size) for file in files]
    return np.stack(crops), tuple(Path(file).stem for file in files)
