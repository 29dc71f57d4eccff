"""`apr-dali analyze templates`: a frequency of an image as four template contrasts, the paper's section 3.2."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

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
    from apr_dali.eval import analyze_templates
    from apr_dali.eval.session import write_record
    from apr_dali.runtime.distributed import start
    from apr_dali.runtime.files import make_output

    image = _gray(args.image)
    result = analyze_templates(image, frequency=tuple(args.frequency))
    settings = {"image": args.image or _PHOTOGRAPH, "size": list(image.shape), "frequency": list(args.frequency)}
    output = make_output(args.output)
    with start("cpu") as group:
        write_record(group, output, result.evaluation, settings, result.as_json(), result.pictures)
    print(result.text())
    print(f"written: {output / 'templates.json'}, templates-contrasts.png")


def _gray(path: str | None) -> NDArray[np.float64]:
    """The gray levels of an image file, or of a photograph, (H, W) in 0..1."""
    import numpy as np
    from PIL import Image

    from apr_dali.data.image_file import open_image
    from apr_dali.data.sample import photograph
    from apr_dali.training.plots import center_crop

    color = Image.fromarray(center_crop(photograph(_PHOTOGRAPH), _SIZE)) if path is None else open_image(path)
    return np.asarray(color.convert("L"), np.float64) / 255
