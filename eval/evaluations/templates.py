"""A frequency of an image as four template contrasts, and the phase that follows from them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from apr_dali.errors import InputError
from apr_dali.eval.analyses.frequency_pictures import templates_picture
from apr_dali.eval.analyses.templates import NAMES, Contrasts, contrasts, templates
from apr_dali.eval.result import Result


@dataclass(frozen=True)
class Templates(Result):
    """The four contrasts of an image at `frequency`, (k_y, k_x) in cycles per image; the DFT's value follows."""

    frequency: tuple[int, int]
    contrasts: Contrasts

    evaluation = "templates"

    def as_json(self) -> dict[str, Any]:
        found = self.contrasts
        value = {key: getattr(found, key) for key in ("real", "imaginary", "amplitude", "phase")}
        return {"contrasts": asdict(found), **value}

    def text(self) -> str:
        found, (ky, kx) = self.contrasts, self.frequency
        lines = [f"{name}  {value:10.3f}" for name, value in zip(NAMES, asdict(found).values(), strict=True)]
        at = f"k = ({ky}, {kx}) cycles per image"
        return "\n".join([*lines, f"amplitude {found.amplitude:.3f}, phase {found.phase:.4f} rad at {at}"])


def analyze_templates(image: NDArray[np.floating], *, frequency: tuple[int, int] = (2, 3)) -> Templates:
    """The contrasts of four templates in an image; of no network.

    Args:
        image: gray levels, floating (H, W) in 0..1.
        frequency: (k_y, k_x), down and across, in cycles per image.

    Returns:
        A result whose picture is `contrasts`; it is in no file.

    Raises:
        InputError: for a frequency that the image does not have.
    """
    ky, kx = frequency
    for name, value, side in (("KY", ky, image.shape[0]), ("KX", kx, image.shape[1])):
        if abs(value) > side // 2:
            raise InputError(f"--frequency {name} must be in -{side // 2}..{side // 2} for this image, got {value}")
    found = contrasts(image, ky, kx)
    picture = templates_picture(image, templates(image.shape[0], image.shape[1], ky, kx), found, (ky, kx))
    return Templates((ky, kx), found, pictures={"contrasts": picture})
