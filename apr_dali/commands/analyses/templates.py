"""`apr-dali analyze templates`: a frequency of an image as four template contrasts, the paper's section 3.2."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from apr_dali.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_SIZE = 128
_PHOTOGRAPH = "cat"


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--image", metavar="FILE", help="an image file, in its own size (default: a photograph, 128×128)"
    )
    parser.add_argument(
        "--frequency",
        type=int,
        nargs=2,
        default=(2, 3),
        metavar=("KY", "KX"),
        help="down and across, in cycles per image (default: 2 3)",
    )
    parser.add_argument("--output", default="runs/analyze-templates", metavar="DIR", help="(default: %(default)s)")


def run(args: argparse.Namespace) -> None:
    from apr_dali.eval.analyses.frequency_pictures import templates_picture
    from apr_dali.eval.analyses.templates import NAMES, contrasts, templates
    from apr_dali.eval.session import write_record
    from apr_dali.runtime.distributed import start
    from apr_dali.runtime.files import make_output

    image = _gray(args.image)
    ky, kx = args.frequency
    for name, value, side in (("KY", ky, image.shape[0]), ("KX", kx, image.shape[1])):
        if abs(value) > side // 2:
            raise InputError(f"--frequency {name} must be in -{side // 2}..{side // 2} for this image, got {value}")
    output = make_output(args.output)
    found = contrasts(image, ky, kx)
    picture = templates_picture(image, templates(image.shape[0], image.shape[1], ky, kx), found, (ky, kx))
    settings = {"image": args.image or _PHOTOGRAPH, "size": list(image.shape), "frequency": [ky, kx]}
    result = {"contrasts": asdict(found), "real": found.real, "imaginary": found.imaginary}
    result |= {"amplitude": found.amplitude, "phase": found.phase}
    with start("cpu") as group:
        write_record(group, output, "templates", settings, result, {"contrasts": picture})
    for name, value in zip(NAMES, asdict(found).values(), strict=True):
        print(f"{name}  {value:10.3f}")
    print(f"amplitude {found.amplitude:.3f}, phase {found.phase:.4f} rad at k = ({ky}, {kx}) cycles per image")
    print(f"written: {Path(output) / 'templates.json'}, templates-contrasts.png")


def _gray(path: str | None) -> NDArray[np.float64]:
    """The gray levels of an image file, or of a photograph, (H, W) in 0..1."""
    import numpy as np
    from PIL import Image

    from apr_dali.data.image_file import open_image
    from apr_dali.data.sample import photograph
    from apr_dali.training.plots import center_crop

    color = Image.fromarray(center_crop(photograph(_PHOTOGRAPH), _SIZE)) if path is None else open_image(path)
    return np.asarray(color.convert("L"), np.float64) / 255
