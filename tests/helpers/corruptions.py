"""Single images under a corruption."""

import numpy as np

import apr_dali


def corrupted(pixels: np.ndarray, name: str, severity: int, seed: int) -> np.ndarray:
    """One image, uint8 (H, W, 3), with sampled draws."""
    draws = apr_dali.CorruptionDraws.sample(name, severity, 1, *pixels.shape[:2], seed)
    return apr_dali.corrupt(pixels[None], name, severity, draws)[0]
