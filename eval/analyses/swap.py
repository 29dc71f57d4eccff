"""Whether a network follows the amplitude or the phase: the paper's Fig. 2 and 3, and its assumption A1 measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from apr_dali.errors import InputError
from apr_dali.eval.checks import check_finite
from apr_dali.functional import recombine


@dataclass(frozen=True)
class Followed:
    """What a network answers to the phase of one image with the amplitude of another, in numbers of pairs.

    phase, amplitude: the answer that it gives to that image, and not to the other one. both: it answers the same to
    the two images and to their mix. neither: something that it answers to neither image.
    """

    phase: int
    amplitude: int
    both: int
    neither: int

    @property
    def pairs(self) -> int:
        return self.phase + self.amplitude + self.both + self.neither

    @property
    def amplitude_share(self) -> float:
        """The share, 0..1, of all pairs in which the network follows the amplitude alone."""
        return self.amplitude / self.pairs


def partners(count: int, seed: int) -> NDArray[np.int64]:
    """Whose amplitude each of `count` images gets: a seeded permutation that leaves none in its place.

    Raises:
        InputError: for fewer than two images.
    """
    if count < 2:
        raise InputError(f"a swap needs at least two images, got {count}")
    # One cycle through all, in random order.
    order = np.random.default_rng(seed).permutation(count)
    partner = np.empty(count, np.int64)
    partner[order] = np.roll(order, -1)
    return partner


def count_followed(
    phase_of: NDArray[np.integer], amplitude_of: NDArray[np.integer], mixed: NDArray[np.integer]
) -> Followed:
    """From the answers, class numbers (N,), to the images that give phase and amplitude and to their mixes."""
    of_phase, of_amplitude = mixed == phase_of, mixed == amplitude_of
    counts = (of_phase & ~of_amplitude, of_amplitude & ~of_phase, of_phase & of_amplitude, ~(of_phase | of_amplitude))
    return Followed(*(int(which.sum()) for which in counts))


def follow(
    model: nn.Module,
    phase_of: Tensor,
    amplitude_of: Tensor,
    *,
    mean: Sequence[float] = (0.0, 0.0, 0.0),
    std: Sequence[float] = (1.0, 1.0, 1.0),
    device: torch.device | str = "cpu",
    amp: torch.dtype | None = None,
    axes: str = "chw",
    batch_size: int = 128,
) -> Followed:
    """What a network follows in pairs of images, of one set or across two as in Fig. 3.

    Images are mixed in 0..1 and not clipped, as APR-P gives them to a network in training. Each image's own answer, not
    its label, is what a mix is compared with: a network that is wrong about an image can still follow it.

    Args:
        model, mean, std, device, amp, batch_size: as for `apr_dali.eval.analyses.fourier.heatmap`.
        phase_of, amplitude_of: float (N, C, H, W) in 0..1 each; image n of the one is mixed with image n of the other.
        axes: what is transformed together, see `apr_dali.recombine`.
    """
    answers: list[list[Tensor]] = [[], [], []]
    for start in range(0, len(phase_of), batch_size):
        first, second = (images[start : start + batch_size].to(device) for images in (phase_of, amplitude_of))
        for images, found in zip((first, second, recombine(first, second, axes=axes)), answers, strict=True):
            found.append(probabilities(model, images, mean, std, device, amp).argmax(1))
    return count_followed(*(torch.cat(found).cpu().numpy() for found in answers))


@torch.no_grad()
def probabilities(
    model: nn.Module,
    images: Tensor,
    mean: Sequence[float],
    std: Sequence[float],
    device: torch.device | str = "cpu",
    amp: torch.dtype | None = None,
) -> Tensor:
    """What a network in eval mode says of images float (N, C, H, W) in 0..1: float32 (N, classes) of sum 1."""
    training = model.training
    model.eval()
    images = images.to(device)
    center, spread = (images.new_tensor(value).view(-1, 1, 1) for value in (mean, std))
    with torch.autocast(images.device.type, amp or torch.bfloat16, enabled=amp is not None):
        logits = model((images - center) / spread)
    model.train(training)
    check_finite(logits)
    return logits.float().softmax(1)
