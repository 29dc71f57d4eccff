"""The random choices of PRIME, see `apr_dali.augmentations.prime`."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from apr_dali.augmentations.record import Draws, Shape, check_range
from apr_dali.errors import InputError, check_number, check_whole

PRIMITIVES = ("diffeomorphism", "color", "filter")


@dataclass(frozen=True, eq=False)
class PrimeDraws(Draws):
    """The choices for N images in M chains of up to D steps each.

    mixture: float64 (N,), m, share of the chains in the result. weight: float64 (N, M), of each chain, 1 in sum.
    depth: int64 (N, M), steps of each chain, 1..D. operation: int64 (D, N, M), at each step one of PRIMITIVES by index.

    Of each step:
    modes: float64 (2, m, m), the coefficients, temperature and all, of the displacement along columns and rows, in
        shares of the image's side; all images of a batch are displaced alike, as in the released code.
    color: float64 (N, M, C, K), the coefficients a_k. frequency: int64 (D,), the first k.
    kernel: float64 (D, N, M, 3, 3).
    """

    mixture: NDArray[np.float64]
    weight: NDArray[np.float64]
    depth: NDArray[np.int64]
    operation: NDArray[np.int64]
    modes: tuple[NDArray[np.float64], ...]
    color: tuple[NDArray[np.float64], ...]
    frequency: NDArray[np.int64]
    kernel: NDArray[np.float64]

    def __post_init__(self) -> None:
        chains = self.weight.shape
        steps = len(self.operation)
        self.check_shapes(
            mixture=chains[:1],
            depth=chains,
            operation=(steps, *chains),
            frequency=(steps,),
            kernel=(steps, *chains, 3, 3),
        )
        self.check_bounds("depth", 1, steps)
        self.check_bounds("operation", 0, len(PRIMITIVES) - 1)
        for name in ("mixture", "weight"):
            self.check_bounds(name, 0, 1)
        if (len(self.modes), len(self.color)) != (steps, steps):
            raise InputError(f"modes and color must be for {steps} steps, got {len(self.modes)} and {len(self.color)}")
        for each in self.color:
            if each.shape[:-1] != (*chains, self.channels):
                raise InputError(f"color must have the shape {(*chains, self.channels, 'K')}, got {each.shape}")

    def __len__(self) -> int:
        return len(self.weight)

    @classmethod
    def draw(
        cls,
        random: np.random.Generator,
        shape: Shape,
        *,
        cuts: tuple[int, int] = (2, 100),
        color_cut: int = 100,
        color_variance: float = 0.01,
        bandwidth: int | None = None,
        sigma: float = 4.0,
        chains: int = 3,
        steps: int = 3,
    ) -> PrimeDraws:
        """Draw as the released code does.

        Chains' weights from a flat Dirichlet distribution, the mixture from a flat Beta; depths and primitives uniform.

        cuts: the least and the greatest number of modes of a diffeomorphism. color_cut: the greatest frequency of a
        color transform; color_variance: the greatest variance of its coefficients; bandwidth: how many frequencies it
        has, None: all from 1 on. sigma: the greatest standard deviation of a filter's taps.
        """
        _check_cuts(cuts)
        for name, value in (("color_cut", color_cut), ("chains", chains), ("steps", steps)):
            check_whole(name, value, 1)
        if bandwidth is not None:
            check_whole("bandwidth", bandwidth, 1)
        check_number("color_variance", color_variance)
        check_number("sigma", sigma)
        batch, channels, height, width = shape
        of_chains = (batch, chains)
        colors = [_colors(random, (*of_chains, channels), color_cut, color_variance, bandwidth) for _ in range(steps)]
        return cls(
            height,
            width,
            channels,
            mixture=random.beta(1, 1, batch),
            weight=random.dirichlet(np.ones(chains), batch),
            depth=random.integers(1, steps + 1, of_chains),
            operation=random.integers(0, len(PRIMITIVES), (steps, *of_chains)),
            modes=tuple(_modes(random, width, cuts) for _ in range(steps)),
            color=tuple(coefficients for _, coefficients in colors),
            frequency=np.array([first for first, _ in colors]),
            kernel=np.stack([_kernels(random, of_chains, sigma) for _ in range(steps)]),
        )


def _check_cuts(cuts: tuple[int, int]) -> None:
    check_range("cuts", cuts, 2)
    for cut in cuts:
        check_whole("each of cuts", cut, 2)
    if cuts[0] == cuts[1]:
        raise InputError(f"cuts must be two different numbers, got {cuts}")


def temperatures(side: int, cut: int) -> tuple[float, float]:
    """The range of a diffeomorphism's temperature for images of `side` pixels.

    From a displacement of half a pixel in the middle to where it would fold.
    """
    logarithm = math.log(cut + 1e-6)
    return 1 / (math.pi * side**2 * logarithm), 4 / (math.pi**3 * (cut + 1e-6) ** 2 * logarithm)


def _modes(random: np.random.Generator, side: int, cuts: tuple[int, int]) -> NDArray[np.float64]:
    greatest = int(random.integers(cuts[0] + 1, cuts[1] + 1))
    # Its parameters s = r = 1: Beta(1/2, 1/2) for both.
    cut = min(int(random.beta(0.5, 0.5) * (greatest + 1 - cuts[0]) + cuts[0]), greatest)
    low, high = temperatures(side, cut)
    temperature = random.beta(0.5, 0.5) * (max(low, high) - low) + low
    k = np.arange(1, cut + 1)
    norm = np.hypot(k[:, None], k)
    return math.sqrt(temperature) * random.standard_normal((2, cut, cut)) * (norm < cut + 0.5) / norm


def _colors(
    random: np.random.Generator, shape: tuple[int, ...], cut: int, variance: float, bandwidth: int | None
) -> tuple[int, NDArray[np.float64]]:
    greatest, scale = int(random.integers(1, cut + 1)), math.sqrt(random.uniform(0, variance))
    first, last = 1, greatest
    if bandwidth is not None:
        first = int(random.integers(1, greatest + 1))
        last = min(first + bandwidth - 1, greatest)
    return first, scale * random.standard_normal((*shape, last - first + 1))


def _kernels(random: np.random.Generator, shape: tuple[int, ...], sigma: float) -> NDArray[np.float64]:
    kernels = random.uniform(0, sigma) * random.standard_normal((*shape, 3, 3))
    # Where the released code puts its one: at ⌈3 / 2⌉, the last row and column, not the middle.
    kernels[..., 2, 2] += 1
    return kernels
