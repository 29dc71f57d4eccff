"""What both loaders ask of their arguments, and what of these a state depends on."""

from __future__ import annotations

import zlib
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from apr_dali.data.arrays import ArraySet
from apr_dali.data.folders import ImageSet, TarSet
from apr_dali.data.sampling import Sampler, weights_of
from apr_dali.errors import InputError
from apr_dali.pipelines import cifar, imagenet


def check_train(aug: str, train: bool) -> None:
    """Raise InputError for an augmentation of evaluation images."""
    if not train and aug != "none":
        raise InputError(f"aug={aug!r} has no effect with train=False: evaluation takes aug='none'")


def weights_for(sampler: Sampler, train: bool, data: ImageSet | TarSet | ArraySet) -> NDArray[np.float64] | None:
    """The weight of each image; None where each is to come once an epoch."""
    if isinstance(sampler, str) and sampler == "shuffle":
        return None
    if not train:
        raise InputError("sampler has no effect with train=False: evaluation takes each image once")
    if isinstance(data, TarSet):
        raise InputError("sampler needs image files: tars are read from their beginning to their end")
    return weights_of(sampler, data.labels, data.classes)


def checksum(weights: NDArray[np.float64] | None) -> int | None:
    """What distinguishes weights from others in a state."""
    return None if weights is None else zlib.crc32(weights.tobytes())


def graph_settings(graph: imagenet.Graph | cifar.Graph) -> dict[str, Any]:
    """What of a graph must be the same for a state to mean the same batches."""
    settings = asdict(graph) | {"recipe": repr(graph.recipe)}
    if (settings.get("scaling") or {}).get("geometry") == "center":
        # The only one when older states were written.
        del settings["scaling"]["geometry"]
    # How it is computed may change: on another machine, say.
    return {key: value for key, value in settings.items() if key not in ("backend", "threads", "hw_decoder_load")}
