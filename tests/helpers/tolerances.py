"""Every tolerance of the tests, in one place, each with its reason."""

import numpy as np

RECOMBINE_FLOAT32 = 5e-6
"""Relative to the largest value: a float32 transform of 150,000 values rounds at a few 1e-7, the ratio of two
amplitudes amplifies it on natural images about tenfold."""

RECOMBINE_ON_GPU = 1e-5
"""The same where images are drawn until one has a bin of a millionth of the largest: 6.0e-6 seen on an H100 at 32²,
5.6e-6 with the same kernel and the same images on the simulators."""

RECOMBINE_FLOAT64 = 1e-10
"""Half against full spectrum in float64 on natural images, relative to the largest value."""

HALF_INTERMEDIATES = 4e-3
"""Relative to the largest value: spectra of rows rounded to 11 bits, twice. On natural images a gray level is off by
0.1 in the root mean square and was by 0.6 at the most."""

HALF_PRECISION = {"float16": 1e-3, "bfloat16": 8e-3}
"""Relative rounding of the result's type: 2^-11 and 2^-8, with room for a neighboring float32 value."""

LEVELS = 1
"""Gray levels by which APR-S may differ: a float32 transform next to a rounding (or truncation) border."""

LEVELS_SHARE_CLAMP = 1e-3
"""Share of values that may differ by LEVELS with overflow="clamp": only those within 1e-4 of a half."""

CORRUPTED_SHARE = 2e-3
"""Share of values of a corrupted image that may be a level off: those that an error of float32 takes over a whole
number. One value in 10⁴ is usual; small images have some thousands of them."""

RESIZE_LEVELS = 2
"""Gray levels between DALI's and Pillow's antialiased resize: DALI interpolates in float, Pillow in fixed point and
rounds to uint8 between the two passes."""

LEVELS_OF_12_BITS = 1
"""Gray levels of a 12-bit TIFF between DALI, which goes by way of 16 bits, and one division."""

CORRUPTION_LEVELS_SHARE = 1e-3
"""Share of values of a native corruption that may be LEVELS off, on processors without fused multiply-adds too."""

JPEG_MEAN_LEVELS = 1.0
"""Mean difference in gray levels between two JPEG decoders' color upsampling after resizing."""

BF16_LOSS = 3e-2
"""Relative: the loss of a network in bfloat16 on images that were normalized in bfloat16 or in float32."""

ONCE_OR_TWICE = 1e-5
"""Relative to the largest of a parameter: 20 steps on batches of B rows, or of 2·B where each comes twice. The sums are
the same but for the order of their rounding, which in float32 would be of the order of small biases."""


def relative(got: object, expected: np.ndarray) -> float:
    """The largest difference, relative to the largest value expected."""
    return float(np.abs(np.asarray(got, np.float64) - expected).max() / max(np.abs(expected).max(), 1e-30))


PRINTED = 1e-3
"""Results that a command prints with four digits behind the point, and the sums of a few of them."""

WARP_FLOAT32 = 5e-5
"""OpenCV's warp of an image of 0..1: past the last whole 16 columns it rounds sources otherwise, by an ulp of 150
pixels, in both directions, times a step of 1 between neighbors."""

DISTANCE_STEPS = 5e-4
"""Pixels. OpenCV's step lengths in float32 against 16 binary digits: up to 0.4 / 65536 a step."""

AUGMENTATION_FLOAT64 = 1e-12
"""Forms in torch against definitions in float64, on images in 0..1: transforms and sums of a few thousand values."""

AUGMENTATION_FLOAT32 = 5e-6
"""The same in float32; the ratio of two amplitudes amplifies rounding as it does for RECOMBINE_FLOAT32."""

PRIME_FLOAT64 = 1e-10
PRIME_FLOAT32_MEAN = 1e-3
"""A color transform has slopes of hundreds, a filter of ten, and a chain multiplies three of them: rounding of 6e-8
becomes 3e-2 at single pixels of noise, and 1e-5 on average."""
PRIME_LEVELS_SHARE = 1e-3
"""Share of gray levels that may be more than LEVELS apart for it."""

AUGMENTATION_LEVELS = 1e-2
"""Real gray levels of an APR-S with noise, before they become whole: float32 sums of up to 255."""

HYBRID_LEVELS = 2
"""Gray levels by which HybridAugment++-S may differ: its low part is APR-S, within LEVELS, and truncation of the sum
towards zero turns around at 0."""

SCHEDULE = 1e-9
"""Relative, of a learning rate in float64 against torch's, which goes from step to step and adds up rounding."""

STEPS_FLOAT64 = {"rtol": 1e-9, "atol": 1e-12}
"""Of weights after ten steps in float64, by sums in another order: rounding of 1e-16 a step, through Adam's square
roots."""

STEPS_FP16 = {"rtol": 1e-2, "atol": 1e-4}
"""Of weights after five steps with gradients rounded to 11 bits, at another scale."""

CALIBRATION_FLOAT32 = 1e-5
"""Of calibration errors: float32 softmax of logits that other batches, or float64, round otherwise."""

FLOAT32_SUMS = 1e-5
"""Relative: sums of some hundred numbers in float32, of which a part cancels."""

RELEASED_FLOAT32 = 5e-6
"""Against what released codes made, which is kept in float32, and was made in it by HybridAugment++."""

RELEASED_LEVELS = 1e-4
"""Real gray levels of VIPAug-G, of the same kind."""

RELEASED_LEVELS_SHARES = {"amplitude-mix": 2e-3, "vipaug-g": 2e-3, "hybrid-s": 1e-2, "hybrid++-s": 5e-2}
"""Share of values off: those next to a whole number. HybridAugment-S truncates in float32, where a flat area comes out
a level less, and ++-S goes on from there."""
