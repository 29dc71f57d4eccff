"""Pictures that are hard on JPEG files."""

import numpy as np


def pictures(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Noise, black and white at random, one color, a gradient that begins anew where it ends, and a checkerboard."""
    rng = np.random.default_rng(seed)
    shape = (height, width, 3)
    slopes = np.add.outer(np.arange(height) * rng.uniform(1, 9), np.arange(width) * rng.uniform(1, 9))
    blocks = rng.integers(0, 2, (height // 8 + 1, width // 8 + 1, 3)).repeat(8, 0).repeat(8, 1)
    return np.stack(
        [
            rng.integers(0, 256, shape),
            rng.integers(0, 2, shape) * 255,
            np.broadcast_to(rng.integers(0, 256, 3), shape),
            (slopes[..., None] * [1.0, 0.7, 0.3]) % 256,
            blocks[:height, :width] * 255,
        ]
    ).astype(np.uint8)
