"""The search for parameters of scores: against each candidate by itself, and against what OpenOOD publishes."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch
from torch import nn

from apr_dali.eval.head import Head
from apr_dali.eval.kept_passes import KeptPass
from apr_dali.eval.ood_fits import Fit, Fits
from apr_dali.eval.ood_kinds import KINDS
from apr_dali.eval.ood_scores import Makings
from apr_dali.eval.ood_search import chosen_parameters, functions_to_keep, search
from apr_dali.eval.outputs import Batch
from apr_dali.eval.rows import RowsWriter
from apr_dali.runtime.distributed import Group

CLASSES, WIDTH, FITTED, INSIDE, OUTSIDE = 13, 40, 210, 70, 60
GROUP = Group(0, 1, 0, torch.device("cpu"))

PUBLISHED = {
    # configs/postprocessors of OpenOOD: postprocessor_args, then postprocessor_sweep.
    "energy": ({}, {}),
    "gen": (
        {"power": 0.1, "top": 100},
        {"power": (0.01, 0.1, 0.5, 1, 2, 5, 10), "top": (10, 50, 100, 200, 500, 1000)},
    ),
    "odin": ({"temperature": 1000, "step": 0.0014}, {"temperature": (1, 10, 100, 1000), "step": (0.0014, 0.0028)}),
    "react": ({"percentile": 90}, {"percentile": (85, 90, 95, 99)}),
    "dice": ({"percentile": 90}, {}),
    "ash": ({"percentile": 90}, {"percentile": (65, 70, 75, 80, 85, 90, 95)}),
    "scale": ({"percentile": 85}, {"percentile": (65, 70, 75, 80, 85, 90, 95)}),
    "vim": ({"dimensions": 256}, {"dimensions": (256, 1000)}),
    "knn": ({"neighbors": 50}, {"neighbors": (50, 100, 200, 500, 1000)}),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_are_those_that_openood_publishes(name):
    assert (KINDS[name].default, KINDS[name].sweep) == PUBLISHED[name]


def test_the_first_parameter_changes_first():
    """As OpenOOD's recursive_generator makes them: of equal AUROCs the first one is taken."""
    assert [tuple(one.values()) for one in KINDS["odin"].candidates] == [
        *((1, 0.0014), (10, 0.0014), (100, 0.0014), (1000, 0.0014)),
        *((1, 0.0028), (10, 0.0028), (100, 0.0028), (1000, 0.0028)),
    ]
    assert KINDS["dice"].candidates == []


class Bent(nn.Module):
    """A network whose gradients depend on the image."""

    def __init__(self, draws: torch.Generator) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(CLASSES, 48, generator=draws))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.flatten(1).tanh() @ self.weight.T


class Sets:
    """Features of training images and of both validation sets, which float16 holds exactly; and their images."""

    def __init__(self, folder) -> None:
        draws = torch.Generator().manual_seed(3)
        layer = nn.Linear(WIDTH, CLASSES)
        with torch.no_grad():
            layer.weight.copy_(torch.randn(CLASSES, WIDTH, generator=draws))
        self.head = Head(layer, "fc", layer.weight.detach(), torch.randn(CLASSES, generator=draws))
        centers = torch.randn(CLASSES, WIDTH, generator=draws) * 2
        self.labels = torch.arange(FITTED) % CLASSES

        def features(count: int, spread: float, shift: float) -> torch.Tensor:
            near = centers[torch.arange(count) % CLASSES] + shift
            return (near + spread * torch.randn(count, WIDTH, generator=draws)).relu().half().float()

        self.fitted, self.inside, self.outside = (
            features(FITTED, 1, 0),
            features(INSIDE, 1.3, 0),
            features(OUTSIDE, 2, 0.3),
        )
        self.images = {
            "inside": torch.randn(INSIDE, 3, 4, 4, generator=draws),
            "outside": 0.7 * torch.randn(OUTSIDE, 3, 4, 4, generator=draws) + 0.1,
        }
        self.model, self.std = Bent(draws), (0.2, 0.3, 0.4)
        self.folder = folder

    def rows(self, name: str, features: torch.Tensor) -> RowsWriter:
        written = RowsWriter(self.folder / name, GROUP)
        for part in features.split(32):
            written.append(part)
        written.finish(name)
        return written

    def found(self, *names: str, react_to_training: bool = False):
        inside, outside = self.rows("inside", self.inside), self.rows("outside", self.outside)
        fit = Fit(self.rows("fitted", self.fitted), self.labels.numpy())
        validation = None if react_to_training else Fit(inside, np.zeros(INSIDE, np.int64))
        makings = Makings(self.model, self.std, self.head, Fits(fit, validation))
        keep = functions_to_keep(names, makings)
        passes = []
        for kind, rows in (("inside", inside), ("outside", outside)):
            images = self.images[kind]
            with torch.no_grad():
                batch = Batch(images, self.model(images), torch.empty(0))
                passes.append(KeptPass(rows, {name: function(batch).numpy() for name, function in keep.items()}))
        return search(names, makings, *passes)

    # Each candidate by itself, without the code under test.

    def scores(self, name: str, kind: str, *values: float) -> np.ndarray:
        with torch.no_grad():
            return getattr(self, f"_{name}")(kind, *values)

    def _energy(self, features: torch.Tensor) -> np.ndarray:
        return (features.double() @ self.head.weight.double().T + self.head.bias.double()).logsumexp(1).numpy()

    def _react(self, kind: str, percentile: float, to: str = "inside") -> np.ndarray:
        limit = np.percentile(getattr(self, to).numpy(), percentile)
        return self._energy(getattr(self, kind).clamp(max=float(limit)))

    def _scale(self, kind: str, percentile: float) -> np.ndarray:
        features = getattr(self, kind)
        kept = WIDTH - int(np.round(WIDTH * percentile / 100))
        ratio = features.sum(1) / features.topk(kept).values.sum(1)
        return self._energy(features * ratio.exp()[:, None])

    def _ash(self, kind: str, percentile: float) -> np.ndarray:
        features = getattr(self, kind)
        kept = WIDTH - int(np.round(WIDTH * percentile / 100))
        shaped = torch.zeros_like(features)
        for row, of in zip(shaped, features, strict=True):
            row[of.topk(kept).indices] = of.sum() / kept
        return self._energy(shaped)

    def _vim(self, kind: str, dimensions: int) -> np.ndarray:
        weight, bias = self.head.weight.double().numpy(), self.head.bias.double().numpy()
        origin = -np.linalg.pinv(weight) @ bias
        fitted = self.fitted.double().numpy()
        _, _, axes = np.linalg.svd(fitted - origin)  # those of the greatest variance first
        unit = (fitted @ weight.T + bias).max(1).mean()
        unit /= np.linalg.norm((fitted - origin) @ axes[dimensions:].T, axis=1).mean()
        features = getattr(self, kind)
        beyond = np.linalg.norm((features.double().numpy() - origin) @ axes[dimensions:].T, axis=1)
        return self._energy(features) - unit * beyond

    def _knn(self, kind: str, neighbors: int) -> np.ndarray:
        own, bank = (nn.functional.normalize(f.double(), dim=1) for f in (getattr(self, kind), self.fitted))
        return -(own[:, None] - bank).norm(dim=2).sort(1).values[:, neighbors - 1].numpy()

    def _gen(self, kind: str, power: float, top: int) -> np.ndarray:
        logits = self.model(self.images[kind]).double().numpy()
        shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        shares = np.sort(shares, 1)[:, -int(top) :]
        return -(shares**power * (1 - shares) ** power).sum(1)

    def _odin(self, kind: str, temperature: float, step: float) -> np.ndarray:
        images = self.images[kind].clone().requires_grad_()
        with torch.enable_grad():
            logits = self.model(images) / temperature
            nn.functional.cross_entropy(logits, logits.argmax(1), reduction="sum").backward()
        moved = images.detach() - step * images.grad.sign() / torch.tensor(self.std)[:, None, None]
        return (self.model(moved).double() / temperature).softmax(1).amax(1).numpy()

    def by_brute_force(self, name: str, *lists: tuple[float, ...]) -> tuple[tuple[float, ...], float, list[float]]:
        """The first combination with the greatest AUROC, in OpenOOD's order; that AUROC; and all of them."""
        combinations = [tuple(reversed(one)) for one in product(*reversed(lists))]
        rates = []
        for values in combinations:
            own, other = (self.scores(name, kind, *values) for kind in ("inside", "outside"))
            rates.append(((own[:, None] > other) + 0.5 * (own[:, None] == other)).mean())
        return combinations[int(np.argmax(rates))], max(rates), rates


@pytest.fixture
def sets(tmp_path):
    return Sets(tmp_path)


def swept(monkeypatch, name: str, **lists: tuple[float, ...]) -> None:
    monkeypatch.setitem(KINDS, name, replace(KINDS[name], sweep=lists))


@pytest.mark.parametrize("name", ["gen", "odin", "react", "ash", "scale"])
def test_the_best_of_all_candidates(sets, name):
    lists = PUBLISHED[name][1].values()
    best, rate, rates = sets.by_brute_force(name, *lists)
    assert max(rates) - min(rates) > 1e-3, "the parameters must matter"
    found = sets.found(name)[name]
    assert tuple(found["parameters"].values()) == best
    assert list(found["parameters"]) == list(PUBLISHED[name][1])
    assert found["auroc"] == pytest.approx(rate, abs=1e-9)
    assert found["candidates"] == len(rates)


@pytest.mark.parametrize(
    ("name", "parameter", "able", "beyond"),
    [("vim", "dimensions", (3, 8, 20, 39), (WIDTH, 1000)), ("knn", "neighbors", (3, 50, 209, 210), (211, 1000))],
)
def test_candidates_that_cannot_be_had_are_left_out(sets, monkeypatch, name, parameter, able, beyond):
    swept(monkeypatch, name, **{parameter: (*able, *beyond)})
    best, rate, _ = sets.by_brute_force(name, able)
    found = sets.found(name)[name]
    assert tuple(found["parameters"].values()) == best
    assert found["auroc"] == pytest.approx(rate, abs=1e-9)
    assert found["candidates"] == len(able)


def test_without_a_candidate_a_score_keeps_its_default(sets):
    """ViM's smallest is 256 dimensions; DICE has one value."""
    found = sets.found("vim", "dice", "energy", "scale")
    assert list(found) == ["scale"]
    chosen = chosen_parameters(["vim", "dice", "energy", "scale"], found)
    assert chosen["vim"] == {"dimensions": 256}
    assert (chosen["dice"], chosen["energy"]) == ({"percentile": 90}, {})
    assert chosen["scale"] == found["scale"]["parameters"]


def test_the_first_of_equal_ones(sets):
    """With 13 classes the 50, 100, … greatest probabilities are all of them."""
    _, _, rates = sets.by_brute_force("gen", (2, 5), (50, 100))
    assert rates[:2] == rates[2:]
    assert sets.found("gen")["gen"]["parameters"]["top"] in (10, 50)


def test_a_candidate_whose_scores_are_no_numbers_is_left_out(sets, monkeypatch):
    """Where all features are left out, SCALE's factor is infinite."""
    swept(monkeypatch, "scale", percentile=(100, 80, 99.9))
    assert sets.found("scale")["scale"]["parameters"] == {"percentile": 80}
    swept(monkeypatch, "scale", percentile=(100,))
    assert sets.found("scale") == {}


def test_react_is_fitted_to_the_validation_images(sets, monkeypatch):
    """As OpenOOD does; without any, to the training images, as its paper does."""
    swept(monkeypatch, "react", percentile=(60,))
    for to in ("inside", "fitted"):
        own, other = (sets.scores("react", kind, 60, to) for kind in ("inside", "outside"))
        found = sets.found("react", react_to_training=to == "fitted")["react"]
        assert found["auroc"] == pytest.approx((own[:, None] > other).mean(), abs=1e-9)
