"""How the high-frequency amplitudes of sets of images differ: t-SNE for the eye, a linear probe's AUROC as a number.

The paper's Fig. 5 shows such maps: 1000 images of CIFAR-10 with the same under Gaussian noise, and with 1000 of
CIFAR-100. It does not say which frequencies are high, nor what it does with colors and magnitudes; the cut, the
luminance and the logarithm are ours. Distances and gaps in t-SNE mean little; the probe, ours too, says what a linear
function of the same amplitudes can tell apart on images that it has not seen.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from apr_dali.errors import InputError
from apr_dali.runtime.figures import new_figure, png_of
from apr_dali.spectral import amplitude

FOLDS = 5
FEWEST = 2 * FOLDS
"""Images of a set, so that each fold has two."""
_COMPONENTS = 50  # that t-SNE sees, as its authors advise
_COLORS = ("#000000", "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
_MARKERS = "os^Dv<>"


def high_frequencies(images: NDArray[np.uint8], cut: float) -> NDArray[np.float64]:
    """log(1 + |F|) of the luminance at radial frequencies of at least `cut` cycles per pixel, each frequency once.

    Args:
        images: uint8 (N, H, W, 3), 0..255.
        cut: 0..√½; at 0 zero frequency is in it too.

    Returns:
        (N, number of frequencies)

    Raises:
        InputError: if there is no frequency as high as that.
    """
    gray = np.stack([np.asarray(Image.fromarray(image).convert("L")) for image in images])
    height, width = gray.shape[1:]
    half = width // 2 + 1
    high = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)) >= cut
    # The columns that are their own mirror image: half of their rows are the conjugates of the other half.
    for column in {0, width // 2} if width % 2 == 0 else {0}:
        high[height // 2 + 1 :, column] = False
    if not high.any():
        raise InputError(f"--cut must be a frequency that images of {height}×{width} have, up to 0.707, got {cut}")
    return np.log1p(amplitude(gray, "hw")[:, :, :half][:, high])


def probe(
    inside: NDArray[np.float64], outside: NDArray[np.float64], seed: int, groups: NDArray[np.integer] | None = None
) -> float:
    """AUROC of telling `outside` from `inside` by a linear function of their features, 0..1; 0.5 is chance.

    Logistic regression on standardised features, trained on four fifths and measured on the fifth, five times; the
    mean of the five. seed: of the folds.

    Args:
        inside, outside: (N, F), (M, F), ten rows or more each.
        groups: integers (N + M,): rows of one group, such as a photograph and its corrupted copy, stay on one side.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedGroupKFold, cross_val_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    features = np.concatenate([inside, outside])
    labels = np.repeat([0, 1], [len(inside), len(outside)])
    folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed)
    classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    numbers = np.arange(len(labels)) if groups is None else groups
    return float(cross_val_score(classifier, features, labels, groups=numbers, cv=folds, scoring="roc_auc").mean())


def embed(features: NDArray[np.float64], seed: int) -> NDArray[np.float64]:
    """t-SNE of standardised features (N, F), from at most 50 principal components: (N, 2)."""
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE
    from sklearn.preprocessing import StandardScaler

    scaled = StandardScaler().fit_transform(features)
    reduced = PCA(min(_COMPONENTS, *scaled.shape), random_state=seed).fit_transform(scaled)
    # A perplexity that its authors advise, less where there are few images.
    perplexity = min(30.0, (len(features) - 1) / 3)
    return TSNE(perplexity=perplexity, init="pca", random_state=seed).fit_transform(reduced)


def tsne_picture(points: Mapping[str, NDArray[np.float64]], aurocs: Mapping[str, float], cut: float) -> bytes:
    """The points (N, 2) of each set in a color and a marker, with the probe's AUROC against the first set."""
    figure = new_figure(7.6, 5)
    axes = figure.subplots()
    for n, (name, place) in enumerate(points.items()):
        label = f"{name} ({aurocs[name]:.3f})" if name in aurocs else name
        color, marker = _COLORS[n % len(_COLORS)], _MARKERS[n % len(_MARKERS)]
        axes.scatter(*place.T, s=14, color=color, marker=marker, alpha=0.6, linewidths=0, label=label)
    axes.set(xticks=[], yticks=[], xlabel="t-SNE 1", ylabel="t-SNE 2")
    axes.set_title(f"log amplitude at {cut:g} cycles per pixel and above", fontsize=10)
    first = next(iter(points))
    figure.legend(loc="outside right upper", fontsize=8, title=f"(probe's AUROC\nagainst {first})", title_fontsize=8)
    return png_of(figure)
