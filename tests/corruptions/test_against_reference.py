"""The definition of truth next to what ImageNet-C's code made of photographs, with the same draws."""

import numpy as np
import pytest
from helpers.reference_cells import KINDS, SHOWN, is_the_reference, photograph, piece_of, seed_of

import apr_dali
from apr_dali.corruptions import NAMES
from apr_dali.corruptions.parameters import SEVERITIES

# Of five severities: 86 of 95 in all. These pass through an exponential or another library's code, whose last bit may
# be another elsewhere; the rest is additions, multiplications and divisions in one order.
LEAST_EQUAL = dict.fromkeys(
    (
        "defocus_blur",
        "elastic_transform",
        "gaussian_blur",
        "glass_blur",
        "jpeg_compression",
        "motion_blur",
        "snow",
        "spatter",
        "zoom_blur",
    ),
    4,
)


@pytest.mark.parametrize("image", KINDS)
@pytest.mark.parametrize("name", NAMES)
def test_with_the_references_draws(image, name):
    parameter_set, side = KINDS[image]
    pixels = photograph(image, side)
    equal = 0
    for severity in SEVERITIES:
        seed = seed_of(image, name, severity)
        random = np.random.default_rng(seed) if name == "impulse_noise" else np.random.RandomState(seed)
        draws = apr_dali.CorruptionDraws.from_reference(name, severity, side, side, random, parameter_set)
        got = apr_dali.corrupt(pixels[None], name, severity, draws, backend="numpy")[0]
        apart = np.abs(got[SHOWN].astype(int) - piece_of(image, name, severity))
        assert apart.max() <= 1, f"severity {severity}"
        equal += is_the_reference(got, image, name, severity)
    assert equal >= LEAST_EQUAL.get(name, 5)
