"""Fourier sensitivity: what a network makes of images with a little noise of one frequency.

Yin et al., "A Fourier Perspective on Model Robustness in Computer Vision", NeurIPS 2019, section 2. The README of APR's
released code shows such maps.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from apr_dali.errors import InputError
from apr_dali.eval.state import State

Frequency = tuple[int, int]
"""(k_y, k_x) in cycles per image."""


def basis(height: int, width: int, ky: int, kx: int) -> NDArray[np.float64]:
    """The real Fourier basis image cos(2π(k_y·y/H + k_x·x/W)) over its L2 norm: (H, W), norm 1.

    ky, kx: cycles per image, whole numbers; (−k_y, −k_x), and what differs by H or W, is the same image.
    """
    y, x = np.arange(height)[:, None], np.arange(width)
    # Whole turns off before the cosine: it then is as exact for high frequencies as for low ones.
    turns = (ky * y % height) / height + (kx * x % width) / width
    wave = np.cos(2 * np.pi * turns)
    return wave / np.linalg.norm(wave)


@dataclass(frozen=True)
class HeatMap:
    """A network's answers under noise of each frequency, the zero frequency in the middle.

    ky, kx: the frequencies of rows and columns, int64 (S,), rising. error: share of wrong answers, 0..1, (S, S).
    loss: mean cross-entropy, (S, S). clean_error, clean_loss: without noise. epsilon: the L2 norm of the noise in a
    channel, for images in 0..1. images: how many.
    """

    ky: NDArray[np.int64]
    kx: NDArray[np.int64]
    error: NDArray[np.float64]
    loss: NDArray[np.float64]
    clean_error: float
    clean_loss: float
    epsilon: float
    images: int

    def radial(self, rings: int) -> list[tuple[float, float, float]]:
        """(from, to, mean error) over `rings` rings of one width about the zero frequency, which is in none.

        In cycles per image; from < |k| <= to; the corners beyond the greatest k_x belong to the last ring.
        """
        radius = np.hypot(self.ky[:, None], self.kx)
        edges = np.linspace(0, max(1, abs(self.kx).max()), rings + 1)
        upper = [*edges[1:-1], np.inf]
        inside = [(radius > low) & (radius <= high) for low, high in zip(edges[:-1], upper, strict=True)]
        means = [float(self.error[ring].mean()) if ring.any() else float("nan") for ring in inside]
        return list(zip(edges[:-1].tolist(), edges[1:].tolist(), means, strict=True))


def frequencies(size: int) -> NDArray[np.int64]:
    """The `size` frequencies about 0, rising: −⌊size/2⌋ and so on; an even size has one more below 0."""
    return np.arange(size) - size // 2


def same_basis(height: int, width: int, ky: int, kx: int) -> Frequency:
    """The one that stands for all frequencies with the basis image of (k_y, k_x): 0 ≤ k_x ≤ W/2."""
    pairs = [(sign * ky % height, sign * kx % width) for sign in (1, -1)]
    y, x = min(pairs, key=lambda pair: (pair[1], pair[0]))
    return (y if y <= height // 2 else y - height), x


@torch.no_grad()
def heatmap(
    model: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    *,
    epsilon: float,
    size: int,
    mean: Sequence[float] = (0.0, 0.0, 0.0),
    std: Sequence[float] = (1.0, 1.0, 1.0),
    device: torch.device | str = "cpu",
    amp: torch.dtype | None = None,
    seed: int = 0,
    batch_size: int = 128,
    state: State | None = None,
) -> HeatMap:
    """The Fourier heat map of a network: error and loss on clamp(x + r·ε·U, 0, 1), normalized, for each basis image U.

    r is −1 or 1, drawn for each channel, image and basis image from `seed` alone. Frequencies that share a basis image
    are computed once. Several basis images go through the network at once where the images do not fill a batch.

    Args:
        model: maps normalized images to logits (N, classes); evaluated in eval mode and left in the mode it was in.
        batches: (images, targets): images float (N, C, H, W) in 0..1, targets int64 (N,). All are held on `device`.
        epsilon: the L2 norm of the noise in each channel; the published 4.0 for 32×32 and 15.7 for 224×224 pixels.
        size: S, frequencies a side of the map; at most the image's.
        mean, std: of the normalization, one per channel.
        amp: autocast to this type, None for none.
        batch_size: images of a pass.
        state: keeps the frequencies that are done; None keeps nothing.

    Raises:
        InputError: for no image, an epsilon or a size that cannot be.
    """
    device = torch.device(device)
    parts = list(batches)
    if not parts:
        raise InputError("a heat map needs at least one image, got none")
    images, targets = (torch.cat(tensors).to(device) for tensors in zip(*parts, strict=True))
    height, width = images.shape[-2:]
    if not 1 <= size <= min(height, width):
        raise InputError(f"the size of a heat map of {width}×{height} images must be in 1..{min(height, width)}")
    if not epsilon > 0:
        raise InputError(f"epsilon must be greater than 0, got {epsilon}")
    training = model.training
    model.eval()
    score = _Scorer(model, images, targets, mean, std, epsilon, amp, seed, batch_size)
    kept = state if state is not None else State(None, {})
    ks = frequencies(size)
    of = {(ky, kx): same_basis(height, width, ky, kx) for ky in ks.tolist() for kx in ks.tolist()}
    _score_all(score, sorted(set(of.values()), key=lambda pair: (pair[1], pair[0])), kept)
    clean_error, clean_loss = (float(value) for value in score.sums(None)[0] / len(images))
    model.train(training)
    values = np.array([kept.get(_key(of[pair])) for pair in of]).reshape(size, size, 2) / len(images)
    return HeatMap(ks, ks, values[..., 0], values[..., 1], clean_error, clean_loss, epsilon, len(images))


def _key(pair: Frequency) -> str:
    return f"{pair[0]} {pair[1]}"


def _score_all(score: _Scorer, pairs: list[Frequency], state: State) -> None:
    """Put the sums of each frequency that `state` does not have into it, as many at a time as fill a batch."""
    todo = [pair for pair in pairs if _key(pair) not in state]
    at_once = max(1, score.batch_size // len(score.images))
    with tqdm(total=len(todo), unit=" frequencies", disable=None) as bar:
        for start in range(0, len(todo), at_once):
            chunk = todo[start : start + at_once]
            sums = score.sums(chunk).tolist()  # synchronizes
            state.put_all({_key(pair): value for pair, value in zip(chunk, sums, strict=True)})
            bar.update(len(chunk))


@dataclass
class _Scorer:
    """The network on the images with noise of some frequencies."""

    model: nn.Module
    images: Tensor
    targets: Tensor
    mean: Sequence[float]
    std: Sequence[float]
    epsilon: float
    amp: torch.dtype | None
    seed: int
    batch_size: int

    def sums(self, pairs: list[Frequency] | None) -> Tensor:
        """float64 (K, 2): wrong answers and summed loss over all images, for each of K frequencies; None: no noise."""
        totals = torch.zeros(1 if pairs is None else len(pairs), 2, dtype=torch.float64, device=self.images.device)
        signs, waves = (None, None) if pairs is None else self._noise(pairs)
        for start in range(0, len(self.images), self.batch_size):
            part = slice(start, start + self.batch_size)
            noisy = self.images[None, part]
            if signs is not None and waves is not None:
                noisy = noisy + signs[:, part, :, None, None] * waves[:, None, None]
            totals += self._of_batch(noisy.clamp(0, 1), self.targets[part])
        return totals

    def _of_batch(self, noisy: Tensor, targets: Tensor) -> Tensor:
        """noisy: (K, B, C, H, W) in 0..1 → (K, 2)."""
        mean, std = (noisy.new_tensor(value).view(-1, 1, 1) for value in (self.mean, self.std))
        every = targets.repeat(len(noisy))
        with torch.autocast(noisy.device.type, self.amp or torch.bfloat16, enabled=self.amp is not None):
            logits = self.model(((noisy - mean) / std).flatten(0, 1))
        logits = logits.float()
        # A row with nan counts as wrong: a network that has diverged must not look good.
        wrong = (logits.argmax(1) != every) | logits.isnan().any(1)
        loss = F.cross_entropy(logits, every, reduction="none")
        return torch.stack([wrong.double(), loss.double()], dim=1).unflatten(0, (len(noisy), -1)).sum(1)

    def _noise(self, pairs: list[Frequency]) -> tuple[Tensor, Tensor]:
        """The signs (K, N, C), and ε times the basis images (K, H, W)."""
        count, channels, height, width = self.images.shape
        signs = np.stack(list(_signs(pairs, count, channels, self.seed)))
        waves = np.stack([self.epsilon * basis(height, width, *pair) for pair in pairs])
        return self.images.new_tensor(signs), self.images.new_tensor(waves)


def _signs(pairs: list[Frequency], count: int, channels: int, seed: int) -> Iterator[NDArray[np.int64]]:
    """−1 or 1 for each image and channel, (count, channels), a function of the frequency and the seed alone."""
    for ky, kx in pairs:
        rng = np.random.default_rng([seed, int(ky < 0), abs(ky), kx])
        yield rng.integers(0, 2, (count, channels)) * 2 - 1
