"""Scores of logits, features and gradients: against pytorch-ood, and against their definitions by hand."""

import math

import numpy as np
import pytest
import torch
from pytorch_ood import detector
from torch import nn

from apr_dali.errors import InputError
from apr_dali.eval.head import Head
from apr_dali.eval.ood_fits import Fit, Fits
from apr_dali.eval.ood_kinds import DEFAULT, KINDS, checked_scores
from apr_dali.eval.ood_scores import Makings, generalized_entropy, score_functions
from apr_dali.eval.outputs import Batch
from apr_dali.eval.rows import RowsWriter
from apr_dali.runtime.distributed import Group

CLASSES, WIDTH, FITTED = 7, 24, 210


@pytest.fixture
def draws():
    return torch.Generator().manual_seed(0)


@pytest.fixture
def head(draws):
    layer = nn.Linear(WIDTH, CLASSES)
    with torch.no_grad():
        layer.weight.copy_(torch.randn(CLASSES, WIDTH, generator=draws))
        layer.bias.copy_(torch.randn(CLASSES, generator=draws))
    return Head(layer, "fc", layer.weight.detach(), layer.bias.detach())


@pytest.fixture
def labels():
    return torch.arange(FITTED) % CLASSES


@pytest.fixture
def fitted(draws, labels):
    """Features about a center of each class, which float16 holds exactly."""
    centers = torch.randn(CLASSES, WIDTH, generator=draws)
    return (centers[labels] + torch.randn(FITTED, WIDTH, generator=draws)).relu().half().float()


@pytest.fixture
def fit(tmp_path, fitted, labels):
    rows = RowsWriter(tmp_path / "features", Group(0, 1, 0, torch.device("cpu")))
    for part in fitted.split(64):
        rows.append(part)
    rows.finish("the features")
    return Fit(rows, labels.numpy())


@pytest.fixture
def features(draws):
    return torch.randn(40, WIDTH, generator=draws).mul(2).relu()


def scores_of(name, head, fit, features):
    makings = Makings(nn.Identity(), (1, 1, 1), head, Fits(fit))
    (function,) = score_functions(makings, {name: KINDS[name].default}).values()
    return function(Batch(torch.empty(0), head.logits(features), torch.empty(0), features)).numpy()


def reference(name, head, fitted, labels):
    """pytorch-ood's detector, fitted to the same features."""
    w, b = head.weight, head.bias
    if name == "react":
        made = detector.ReAct(None, lambda maps: maps.flatten(1) @ w.T + b, percentile=0.9)
        return lambda z: made.fit_feature_maps(fitted[:, :, None, None], labels).predict_feature_maps(z)
    made = {
        "dice": lambda: detector.DICE(None, w, b, p=0.9),
        "vim": lambda: detector.ViM(None, WIDTH // 2, w, b),
        "knn": lambda: detector.KNN(None, k=50),
        "mahalanobis": lambda: detector.Mahalanobis(None),
    }[name]()
    made.fit_features(fitted, labels)
    return made.predict_features


@pytest.mark.parametrize("name", [name for name, kind in KINDS.items() if kind.fitted])
def test_fitted_scores_are_those_of_pytorch_ood(name, head, fit, fitted, labels, features):
    expected = -reference(name, head, fitted, labels)(features).numpy()
    if name == "mahalanobis":
        # There half the distance, of a covariance that is no mean but a sum.
        expected = 2 * expected * FITTED
    np.testing.assert_allclose(scores_of(name, head, fit, features), expected, rtol=2e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["ash", "scale"])
def test_shaped_features_by_hand(name, head, features):
    kept = WIDTH - round(WIDTH * (0.90 if name == "ash" else 0.85))
    rows = []
    for row in features.double().numpy():
        top = np.argsort(-row)[:kept]
        if name == "ash":  # ASH-B: the kept ones share the sum
            shaped = np.zeros(WIDTH)
            shaped[top] = row.sum() / kept
        else:
            shaped = row * math.exp(row.sum() / row[top].sum())
        logits = head.weight.double().numpy() @ shaped + head.bias.double().numpy()
        rows.append(np.log(np.exp(logits - logits.max()).sum()) + logits.max())
    np.testing.assert_allclose(scores_of(name, head, None, features), rows, rtol=1e-4)


def test_gen_by_hand_and_by_pytorch_ood(draws):
    logits = torch.randn(50, 130, generator=draws, dtype=torch.float64)
    probabilities = np.sort(logits.softmax(1).numpy(), 1)[:, -100:]
    expected = -(probabilities**0.1 * (1 - probabilities) ** 0.1).sum(1)
    np.testing.assert_allclose(generalized_entropy(logits, 0.1, 100), expected, rtol=1e-12)
    theirs = detector.GEN.score(logits, gamma=0.1, M=100) * 100
    np.testing.assert_allclose(generalized_entropy(logits, 0.1, 100), -theirs, rtol=1e-9)


def test_gen_orders_images_that_are_surer_than_a_clamp_allows():
    logits = torch.tensor([[40.0, 0, 0], [30.0, 0, 0], [20.0, 0, 0]])
    surest, second, third = generalized_entropy(logits, 0.1, 100).tolist()
    assert surest > second > third


def test_odin_by_hand(draws):
    class Net(nn.Module):
        def forward(self, images):
            return torch.stack([images.square().sum((1, 2, 3)), images.sum((1, 2, 3))], 1)

    images, std = torch.randn(6, 3, 4, 4, generator=draws), (0.2, 0.3, 0.4)
    (function,) = score_functions(Makings(Net(), std), {"odin": KINDS["odin"].default}).values()
    found = function(Batch(images, Net()(images), torch.empty(0)))
    for image, score in zip(images, found, strict=True):
        first = Net()(image[None])[0]
        # Towards a greater logit of the answer, and a smaller one of the other.
        sign = (2 * image - 1).sign() if first[0] > first[1] else (1 - 2 * image).sign()
        moved = image + 0.0014 * sign / torch.tensor(std)[:, None, None]
        assert float(score) == pytest.approx(float((Net()(moved[None]).double()[0] / 1000).softmax(0).max()), abs=1e-9)


def test_mahalanobis_without_variance_in_some_directions(tmp_path, head, fitted, labels, features):
    fitted = fitted.clone()
    fitted[:, 3] = 0.5
    rows = RowsWriter(tmp_path / "flat", Group(0, 1, 0, torch.device("cpu")))
    rows.append(fitted)
    rows.finish("the features")
    found = scores_of("mahalanobis", head, Fit(rows, labels.numpy()), features)
    rest = [n for n in range(WIDTH) if n != 3]
    means = np.stack([fitted[labels == label].numpy().mean(0) for label in range(CLASSES)])
    apart = fitted.numpy() - means[labels]
    precision = np.linalg.inv((apart.T @ apart / FITTED)[np.ix_(rest, rest)])
    differences = (features.numpy()[:, None] - means)[:, :, rest]
    expected = -np.einsum("ncd,de,nce->nc", differences, precision, differences).min(1)
    np.testing.assert_allclose(found, expected, rtol=1e-4)


@pytest.mark.parametrize("share", [0.0, 0.5, 0.9, 0.987, 1.0])
def test_a_percentile_of_many_numbers(fit, fitted, share):
    # NumPy 2.0 interpolates in the type of the numbers.
    expected = np.percentile(fitted.numpy().astype(np.float64), 100 * share)
    assert fit.percentile(share) == pytest.approx(expected, abs=1e-6)


def test_too_few_images_to_fit_to_are_named(tmp_path, head, fitted):
    rows = RowsWriter(tmp_path / "few", Group(0, 1, 0, torch.device("cpu")))
    rows.append(fitted[:6])
    rows.finish("the features")
    few = Fit(rows, np.arange(6))
    with pytest.raises(InputError, match="knn needs 50 fitted images or more, got 6"):
        scores_of("knn", head, few, fitted)
    with pytest.raises(InputError, match=r"none of 1 of 7 \(number 6 the first\)"):
        scores_of("mahalanobis", head, few, fitted)


@pytest.mark.parametrize(
    ("names", "fit_data", "message"),
    [
        (["msp"], None, "scores must be one of all, max-softmax"),
        ([], None, "scores names none"),
        (["knn", "energy", "vim"], None, "vim, knn are fitted to training images: give --fit-data"),
        (["all"], None, "react, dice, vim, knn, mahalanobis are fitted"),
        (["ash"], "train", "--fit-data changes nothing for ash"),
        (None, "train", "--fit-data changes nothing for max-softmax, max-logit, energy"),
    ],
)
def test_scores_that_cannot_be_computed_are_named(names, fit_data, message):
    with pytest.raises(InputError, match=message):
        checked_scores(names, fit_data)


def test_scores_come_in_one_order():
    assert checked_scores(["knn", "energy"], "train") == ("energy", "knn")
    assert checked_scores(["all"], "train") == tuple(KINDS)
    with pytest.raises(InputError, match="ash are of all classes' features"):
        checked_scores(["ash", "gen"], None, logits_only=True)


def test_a_missing_library_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pytorch_ood", None)
    assert checked_scores(["gen", "energy"], None) == ("energy", "gen")
    with pytest.raises(InputError, match=r"need pytorch-ood: pip install"):
        checked_scores(["scale"], None)
    assert DEFAULT == ("max-softmax", "max-logit", "energy")
