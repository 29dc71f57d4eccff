"""The corruptions of ImageNet-C-bar and CIFAR-10-C-bar, in the frame of ImageNet-C's.

Mintun, Kirillov and Xie, "On Interaction Between Augmentations and Corruptions in Natural Corruption Robustness"
(NeurIPS 2021): ten each, chosen to look unlike ImageNet-C's. The reference is facebookresearch/augmentation-corruption,
imagenet_c_bar/corrupt.py. It computes pixel by pixel on squares of `im_size`; here whole arrays, of any height and
width: what the reference measures by `im_size` goes by the shorter side, places by the side that they lie along.
"""

from __future__ import annotations

from apr_dali.corruptions.c_bar import caustic, cover, noise, optics, perlin, sparkles, warps, waves
from apr_dali.corruptions.record import Corruption

RECORDS: tuple[Corruption, ...] = (
    noise.BLUE_SAMPLE,
    noise.BROWNISH,
    caustic.REFRACTION,
    cover.CHECKERBOARD,
    waves.COCENTRIC,
    sparkles.INVERSE,
    perlin.PERLIN,
    waves.PLASMA,
    waves.SINGLE_FREQUENCY,
    sparkles.SPARKLES,
    optics.CIRCULAR_BLUR,
    cover.LINES,
    warps.PINCH_AND_TWIRL,
    warps.RIPPLE,
    optics.ABERRATION,
)
