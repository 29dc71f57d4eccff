"""Noise: gaussian, shot, impulse and speckle. Every level by itself, so that any image size goes."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import pdtr

from apr_dali.corruptions.counter import CounterRandom
from apr_dali.corruptions.record import Corruption, Draws, Image, Parameters, to_bytes

_LEVELS = np.arange(256) / 255.0


def _draw_normal(random: Any, height: int, width: int, scale: Parameters) -> dict[str, NDArray[Any]]:
    return {"noise": random.normal(loc=0.0, scale=scale, size=(height, width, 3))}


def _add(image: Image, draws: Draws, scale: Parameters) -> Image:  # noqa: ARG001
    return to_bytes(image / 255.0 + draws["noise"])


def _add_times_level(image: Image, draws: Draws, scale: Parameters) -> Image:  # noqa: ARG001
    unit = image / 255.0
    return to_bytes(unit + unit * draws["noise"])


# Shot noise counts photons: a level is a Poisson number with mean level · photons, over photons.


def _draw_shot(random: Any, height: int, width: int, photons: Parameters) -> dict[str, NDArray[Any]]:  # noqa: ARG001
    if isinstance(random, CounterRandom):
        return {"uniform": random.random((height, width, 3))}
    # How many numbers a Poisson number takes depends on its mean, and that on the image.
    _, key, position, *_ = random.get_state()
    return {"state": np.append(key, np.uint32(position))}


def _count_photons(image: Image, draws: Draws, photons: Parameters) -> Draws:
    if "state" in draws:
        random = np.random.RandomState()
        *key, position = draws["state"]
        random.set_state(("MT19937", np.array(key), int(position), 0, 0.0))
        return {"photons": random.poisson(image / 255.0 * photons)}
    # The quantile: as many as there are probabilities of "at most k" below the uniform number.
    at_most = photons_at_most(photons)
    counts = np.empty(image.shape, np.int64)
    for level in np.unique(image):
        here = image == level
        counts[here] = np.searchsorted(at_most[level], draws["uniform"][here])
    return {"photons": counts}


@cache
def photons_at_most(photons: int) -> NDArray[np.float64]:
    """(256, photons): the probability that level v has at most k. What is more than `photons` is white in any case."""
    return pdtr(np.arange(photons), _LEVELS[:, None] * photons)


def _shot(image: Image, draws: Draws, photons: Parameters) -> Image:  # noqa: ARG001
    return to_bytes(draws["photons"] / photons)


def _shot_constants(photons: Parameters, height: int, width: int) -> Sequence[NDArray[np.float64]]:  # noqa: ARG001
    return [to_bytes(np.arange(photons + 1) / photons).astype(np.float64), photons_at_most(photons)]


# Impulse noise: salt and pepper.


def _draw_impulses(random: Any, height: int, width: int, share: Parameters) -> dict[str, NDArray[Any]]:
    shape = (height, width, 3)
    return {"flipped": random.random(shape) <= share, "salted": random.random(shape) <= 0.5}


def _flip(image: Image, draws: Draws, share: Parameters) -> Image:  # noqa: ARG001
    # Every level is itself again on its way to 0..1 and back.
    return np.where(draws["flipped"], np.where(draws["salted"], np.uint8(255), np.uint8(0)), image)


GAUSSIAN = Corruption("gaussian_noise", _draw_normal, _add, native=True)
SHOT = Corruption("shot_noise", _draw_shot, _shot, _shot_constants, _count_photons, native=True)
IMPULSE = Corruption("impulse_noise", _draw_impulses, _flip, native=True)
SPECKLE = Corruption("speckle_noise", _draw_normal, _add_times_level, native=True)
