"""Amplitude-Phase Recombination inside NVIDIA DALI pipelines.

The public names are imported on first use: `import apr_dali` by itself needs NumPy alone.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HERE = os.path.dirname(os.path.abspath(__file__))
if not os.path.isdir(os.path.join(_HERE, "kernels")):
    # A clone out of a ZIP archive has no links: the parts at the root are found where they lie.
    __path__.append(os.path.dirname(_HERE))

if TYPE_CHECKING:
    from apr_dali.corruptions import CorruptionDraws as CorruptionDraws
    from apr_dali.data.tars import TarSet as TarSet
    from apr_dali.draws import PairDraws as PairDraws
    from apr_dali.draws import SingleDraws as SingleDraws
    from apr_dali.functional import pair as pair
    from apr_dali.functional import recombine as recombine
    from apr_dali.functional import single as single
    from apr_dali.kernels.corruptions import corrupt as corrupt
    from apr_dali.models.registry import create_model as create_model
    from apr_dali.pipelines.cifar_loader import CifarLoader as CifarLoader
    from apr_dali.pipelines.corrupted import CorruptedLoader as CorruptedLoader
    from apr_dali.pipelines.loader import ImageNetLoader as ImageNetLoader
    from apr_dali.transforms import AprPair as AprPair
    from apr_dali.transforms import AprSingle as AprSingle
    from apr_dali.transforms import Corrupt as Corrupt

_HOME = {
    "AprPair": "apr_dali.transforms",
    "AprSingle": "apr_dali.transforms",
    "CifarLoader": "apr_dali.pipelines.cifar_loader",
    "Corrupt": "apr_dali.transforms",
    "CorruptedLoader": "apr_dali.pipelines.corrupted",
    "CorruptionDraws": "apr_dali.corruptions",
    "ImageNetLoader": "apr_dali.pipelines.loader",
    "PairDraws": "apr_dali.draws",
    "SingleDraws": "apr_dali.draws",
    "TarSet": "apr_dali.data.tars",
    "corrupt": "apr_dali.kernels.corruptions",
    "create_model": "apr_dali.models.registry",
    "pair": "apr_dali.functional",
    "recombine": "apr_dali.functional",
    "single": "apr_dali.functional",
}
__all__ = [
    "AprPair",
    "AprSingle",
    "CifarLoader",
    "Corrupt",
    "CorruptedLoader",
    "CorruptionDraws",
    "ImageNetLoader",
    "PairDraws",
    "SingleDraws",
    "TarSet",
    "__version__",
    "corrupt",
    "create_model",
    "pair",
    "recombine",
    "single",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'apr_dali' has no attribute {name!r}")
    try:
        return getattr(importlib.import_module(_HOME[name]), name)
    except ModuleNotFoundError as error:
        from apr_dali.errors import what_is_missing

        if missing := what_is_missing(error):
            raise ModuleNotFoundError(f"apr_dali.{name} needs {missing}", name=error.name) from error
        raise


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
