"""The measures of robustness on predictions that are made up: against other libraries and against values by hand."""

import numpy as np
import pytest
import pytorch_ood.metrics.functional as reference_ood
import torch
from pytorch_ood.metrics import calibration_error
from sklearn.metrics import average_precision_score, roc_auc_score

from apr_dali.errors import InputError
from apr_dali.eval import calibration, corruption, ood
from apr_dali.eval.openood import openood_metrics


@pytest.fixture
def rng():
    return np.random.default_rng(0)


# ---- corruptions -----------------------------------------------------------------------------------------------------


def flat(error: float) -> dict[str, list[float]]:
    return {name: [error] * 5 for name in corruption.CORRUPTIONS}


def test_alexnet_has_an_mce_of_100():
    alexnet = {name: [value] * 5 for name, value in corruption.ALEXNET.items()}
    assert corruption.mce(alexnet) == pytest.approx(100, abs=1e-9)
    assert corruption.relative_mce(alexnet, corruption.ALEXNET_CLEAN) == pytest.approx(100, abs=1e-9)


def test_mce_by_hand():
    errors = flat(0.0)
    assert corruption.mce(errors) == 0
    # Severities of mean 0.5, alone among the 15.
    errors["brightness"] = [0.3, 0.4, 0.5, 0.6, 0.7]
    assert corruption.mce(errors) == pytest.approx(100 * 0.5 / 0.564592 / 15, abs=1e-9)
    assert corruption.mean_error(errors) == pytest.approx(0.5 / 15, abs=1e-12)


def test_mce_weights_each_corruption_alike(rng):
    errors = {name: rng.uniform(size=5).tolist() for name in corruption.CORRUPTIONS}
    one_by_one = [100 * np.mean(errors[name]) / corruption.ALEXNET[name] for name in errors]
    assert corruption.mce(errors) == pytest.approx(np.mean(one_by_one), abs=1e-9)
    # A corruption that is not of the benchmark changes nothing.
    assert corruption.mce({**errors, "spatter": [1.0] * 5}) == corruption.mce(errors)


def test_relative_mce_is_zero_where_corruption_does_no_harm():
    assert corruption.relative_mce(flat(0.25), 0.25) == pytest.approx(0, abs=1e-12)
    worse = {name: [corruption.ALEXNET[name] - corruption.ALEXNET_CLEAN + 0.1] * 5 for name in corruption.CORRUPTIONS}
    assert corruption.relative_mce(worse, 0.1) == pytest.approx(100, abs=1e-9)


@pytest.mark.parametrize(
    ("errors", "message"),
    [
        ({name: row for name, row in flat(0.5).items() if name != "fog"}, "missing: fog"),
        ({**flat(0.5), "fog": [0.5] * 4}, "fog: expected 5 error rates"),
        ({**flat(0.5), "fog": [50.0] * 5}, r"in 0\.\.1, got \[50"),
        ({**flat(0.5), "fog": [float("nan")] * 5}, "fog: expected 5 error rates"),
    ],
)
def test_bad_errors_are_named(errors, message):
    with pytest.raises(InputError, match=message):
        corruption.mce(errors)


def test_only_imagenet_c_has_an_mce_by_that_name():
    def table(kind, errors, clean_images=50_000):
        images = corruption.CELLS.get(kind, 48)
        return corruption.CorruptionTable(errors, images, 0.2, kind, clean_images)

    names = {kind: set(table(kind, flat(0.5)).summary()) for kind in corruption.KINDS}
    assert names == {
        "imagenet-c": {"mean_error", "ce", "mce", "relative_mce"},
        "generated": {"mean_error", "generated_ce", "generated_mce", "generated_relative_mce"},
        "cifar-10-c": {"mean_error"},
        "cifar-100-c": {"mean_error"},
        "imagenet-c-bar": {"mean_error"},
        "cifar-10-c-bar": {"mean_error"},
        "imagenet-3dcc": {"mean_error"},
        "laion-c": {"mean_error"},
        "imagenet-c-listed": {"mean_error", "listed_ce", "listed_mce"},
        "imagenet-3dcc-listed": {"mean_error"},
        "digits": {"mean_error"},
        "own": {"mean_error"},
    }
    extra = {"fog": [0.2] * 5, "spatter": [1.0] * 5}
    assert table("own", extra).summary() == {"mean_error": pytest.approx(0.2)}
    assert table("own", {"spatter": [1.0] * 5}).summary() == {"mean_error": 1.0}
    assert table("imagenet-c", extra).summary() == {
        "mean_error": pytest.approx(0.2),
        "ce": {"fog": pytest.approx(100 * 0.2 / 0.819324)},
    }
    # Relative to the error on a part of the clean images, it would be relative to chance.
    assert "relative_mce" not in table("imagenet-c", flat(0.5), clean_images=1000).summary()
    with pytest.raises(InputError, match="imagenet-c has 50,000 images per cell, got 48"):
        corruption.CorruptionTable(flat(0.5), 48, kind="imagenet-c")


def test_mce_is_the_mean_of_the_corruption_errors(rng):
    errors = {name: rng.uniform(size=5).tolist() for name in corruption.CORRUPTIONS}
    found = corruption.corruption_errors({**errors, "spatter": [1.0] * 5})
    assert list(found) == list(corruption.CORRUPTIONS)
    assert found["fog"] == pytest.approx(100 * np.sum(errors["fog"]) / (5 * 0.819324))
    assert np.mean(list(found.values())) == pytest.approx(corruption.mce(errors))


# ---- out of distribution ---------------------------------------------------------------------------------------------


def test_scores():
    logits = torch.tensor([[1.0, 2.0, 3.0], [100.0, 0.0, 0.0], [200.0, 0.0, 0.0]])
    exponentials = np.exp([1.0, 2.0, 3.0])
    assert ood.max_logit(logits).tolist() == [3, 100, 200]
    assert ood.max_softmax(logits)[0].item() == pytest.approx(exponentials[2] / exponentials.sum(), abs=1e-12)
    assert ood.energy(logits)[0].item() == pytest.approx(np.log(exponentials.sum()), abs=1e-12)


def test_confident_scores_are_not_rounded_together():
    logits = torch.tensor([[20.0, 0.0], [25.0, 0.0]])
    first, second = ood.max_softmax(logits).tolist()
    assert first < second < 1


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize(("inside", "outside"), [(500, 300), (1, 40), (40, 1), (20, 20)])
def test_against_pytorch_ood(rng, inside, outside, ties):
    in_scores, out_scores = rng.normal(1, 1, inside), rng.normal(0, 1.5, outside)
    if ties:
        in_scores, out_scores = in_scores.round(), out_scores.round()
    found = ood.ood_metrics(in_scores, out_scores)
    # There the outliers have the higher score and are the positive class: the roles are turned round to compare.
    scores = torch.from_numpy(np.concatenate([in_scores, out_scores]))
    labels = torch.cat([-torch.ones(inside), torch.ones(outside)])
    assert found["auroc"] == pytest.approx(float(reference_ood.auroc(scores, labels)), abs=1e-12)
    assert found["fpr95"] == pytest.approx(float(reference_ood.fpr_at_tpr(scores, labels)), abs=1e-12)
    truth = [1] * inside + [0] * outside
    assert found["auroc"] == pytest.approx(roc_auc_score(truth, scores), abs=1e-12)
    assert found["aupr_in"] == pytest.approx(average_precision_score(truth, scores), abs=1e-12)
    assert found["aupr_out"] == pytest.approx(average_precision_score(1 - np.array(truth), -scores), abs=1e-12)


def test_detection_accuracy_and_fpr95_by_brute_force(rng):
    in_scores, out_scores = rng.normal(1, 1, 57).round(1), rng.normal(0, 1, 43).round(1)
    thresholds = np.append(np.unique(np.concatenate([in_scores, out_scores])), np.inf)
    passed = [((in_scores >= t).mean(), (out_scores >= t).mean()) for t in thresholds]
    found = ood.ood_metrics(in_scores, out_scores)
    assert found["detection_accuracy"] == pytest.approx(max((i + 1 - o) / 2 for i, o in passed), abs=1e-12)
    assert found["fpr95"] == pytest.approx(min(o for i, o in passed if i >= 0.95), abs=1e-12)


@pytest.mark.parametrize(
    ("in_scores", "out_scores", "expected"),
    [
        ([2.0, 3.0], [0.0, 1.0], (1, 1, 1, 0, 1)),
        ([1.0, 1.0], [1.0, 1.0], (0.5, 0.5, 0.5, 1, 0.5)),
        ([0.0, 0.0], [1.0, 1.0], (0, 0.5, 0.5, 1, 0.5)),
    ],
    ids=["all right", "all equal", "all wrong"],
)
def test_extremes(in_scores, out_scores, expected):
    found = ood.ood_metrics(in_scores, out_scores)
    keys = ("auroc", "aupr_in", "aupr_out", "fpr95", "detection_accuracy")
    assert tuple(found[key] for key in keys) == pytest.approx(expected)


def test_oscr_against_pytorch_ood(rng):
    in_scores, out_scores = rng.normal(1, 1, 200), rng.normal(0, 1, 150)
    correct = rng.uniform(size=200) < 0.8
    reference = reference_ood.oscr_score(
        torch.from_numpy(-np.concatenate([in_scores, out_scores])),
        torch.from_numpy(np.concatenate([correct, np.zeros(150)])).long(),
        torch.cat([torch.ones(200), -torch.ones(150)]).long(),
    )
    assert ood.oscr(in_scores, correct, out_scores) == pytest.approx(reference, abs=1e-12)


def test_oscr_extremes():
    assert ood.oscr([3.0, 2.0], [True, True], [0.0]) == 1
    assert ood.oscr([3.0, 2.0], [True, False], [0.0, 1.0]) == 0.5
    assert ood.oscr([3.0, 2.0], [False, False], [0.0]) == 0
    # All tied: the curve is the straight line from nothing to the accuracy.
    assert ood.oscr([1.0, 1.0], [True, True], [1.0]) == 0.5


@pytest.mark.parametrize(
    ("in_scores", "out_scores", "message"),
    [
        ([], [1.0], "in_scores must be a list of one score or more"),
        ([1.0], [], "out_scores must be a list of one score or more"),
        ([1.0, float("nan")], [1.0], "1 of 2 in_scores are nan"),
        ([[1.0]], [1.0], r"got the shape \(1, 1\)"),
    ],
)
def test_bad_scores_are_named(in_scores, out_scores, message):
    with pytest.raises(InputError, match=message):
        ood.ood_metrics(in_scores, out_scores)


def test_infinite_scores_have_their_place():
    inside, outside = [1.0, np.inf, 3.0, 2.0], [-np.inf, 0.0, 2.0, np.inf]
    places = [1.0, 4.0, 3.0, 2.0], [-1.0, 0.0, 2.0, 4.0]
    for measures in (ood.ood_metrics, openood_metrics):
        assert measures(inside, outside) == measures(*places)
    assert ood.auroc(inside, outside) == (2 + 2.5 + 3 + 3.5) / 16
    right = [True, True, False, True]
    assert ood.oscr(inside, right, outside) == ood.oscr(places[0], right, places[1])


# ---- calibration -----------------------------------------------------------------------------------------------------


@pytest.fixture
def predictions(rng):
    """Probabilities (1050, 10) and labels of a network that is too sure of itself."""
    logits = torch.from_numpy(rng.normal(0, 3, (1050, 10)))
    labels = torch.multinomial((logits / 2).softmax(1), 1, generator=torch.Generator().manual_seed(0))[:, 0]
    return logits.softmax(1), labels


@pytest.mark.parametrize("bins", [1, 10, 15])
def test_ece_against_torchmetrics(predictions, bins):
    # Here: it takes more than a second, in each process that collects the tests.
    from torchmetrics.functional.classification import multiclass_calibration_error

    probabilities, labels = predictions
    reference = multiclass_calibration_error(probabilities, labels, num_classes=10, n_bins=bins, norm="l1")
    assert calibration.ece(probabilities, labels, bins) == pytest.approx(float(reference), abs=1e-6)


def test_rms_against_pytorch_ood(predictions):
    probabilities, labels = predictions
    confidence, predicted = probabilities.max(1)
    reference = calibration_error(confidence, predicted == labels, p="2", beta=100)
    assert calibration.rms(probabilities, labels) == pytest.approx(float(reference), abs=1e-9)


def binary(confidence: list[float], correct: list[bool]) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities of two classes with these confidences, and labels that make them right or wrong."""
    column = np.array(confidence)
    return np.stack([column, 1 - column], 1), np.where(correct, 0, 1)


def test_ece_by_hand():
    # Two bins of two: gaps |0.55 - 0.5| and |0.95 - 1|.
    found = calibration.ece(*binary([0.55, 0.55, 0.95, 0.95], [True, False, True, True]), bins=10)
    assert found == pytest.approx(0.05, abs=1e-12)
    certain = np.eye(3)[[0, 1, 2, 0]]
    assert calibration.ece(certain, [0, 1, 2, 0]) == 0
    assert calibration.ece(certain, [1, 2, 0, 1]) == 1


def test_a_bin_has_its_upper_end():
    diagram = calibration.reliability([0.5, 0.50001, 1.0], [True, True, False], bins=2)
    assert diagram.count.tolist() == [1, 2]
    assert diagram.accuracy.tolist() == [1, 0.5]
    empty = calibration.reliability([0.9], [True], bins=2)
    assert empty.count.tolist() == [0, 1]
    assert np.isnan(empty.confidence[0])


def test_rms_as_published_leaves_out_the_last_bin():
    probabilities, labels = binary([0.6] * 100 + [0.7] * 100 + [0.8] * 50, [True] * 250)
    # Sizes 100 and 150; the second has mean confidence (0.7·100 + 0.8·50) / 150.
    first, second = 0.4**2, (1 - (70 + 40) / 150) ** 2
    assert calibration.rms(probabilities, labels) == pytest.approx(np.sqrt(0.4 * first + 0.6 * second), abs=1e-9)
    assert calibration.rms(probabilities, labels, as_published=True) == pytest.approx(np.sqrt(0.4 * first), abs=1e-9)
    with pytest.raises(InputError, match="needs 100 images a bin, got 99"):
        calibration.rms(probabilities[:99], labels[:99])


def test_aurra(predictions):
    probabilities, labels = predictions
    confidence, predicted = probabilities.max(1)
    reference = reference_ood.aurra(confidence, predicted == labels)
    assert calibration.aurra(probabilities, labels) == pytest.approx(float(reference), abs=1e-9)
    # By hand: sure and right first: 1, 1/2. Tied: each counts as half right, in whatever order they come.
    assert calibration.aurra(*binary([0.9, 0.6], [True, False])) == pytest.approx(0.75)
    assert calibration.aurra(*binary([0.6, 0.6], [True, False])) == pytest.approx(0.5)
    assert calibration.aurra(*binary([0.6, 0.6], [False, True])) == pytest.approx(0.5)


def test_temperature_is_found():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(20000, 5, generator=generator) * 2
    labels = torch.multinomial(logits.softmax(1), 1, generator=generator)[:, 0]
    found = calibration.fit_temperature(3 * logits, labels)
    assert found == pytest.approx(3, rel=0.03)
    # Beside it the loss is greater.
    losses = [
        torch.nn.functional.cross_entropy(3 * logits / t, labels).item() for t in (found - 0.05, found, found + 0.05)
    ]
    assert losses[1] == min(losses)


def test_temperature_stays_in_its_range():
    always = torch.eye(3) * 0.5
    assert calibration.fit_temperature(always, torch.arange(3)) == pytest.approx(0.05, rel=1e-2)
    assert calibration.fit_temperature(always, (torch.arange(3) + 1) % 3) == pytest.approx(20, rel=1e-2)


@pytest.mark.parametrize(
    ("probabilities", "labels", "message"),
    [
        ([[2.0, -1.0]], [0], "apply softmax to logits first"),
        ([[0.5, 0.4]], [0], "rows of sum 1"),
        ([[0.5, float("nan")], [0.5, 0.5]], [0, 0], "1 of 2 images are nan or infinite"),
        ([[0.5, 0.5]], [2], r"labels must be in 0\.\.1, got 2"),
        ([[0.5, 0.5]], [0, 1], r"got \(1, 2\) and \(2,\)"),
        (np.empty((0, 2)), [], "expected probabilities"),
        ([[0.5, 0.5]], [0.5], "labels must be whole numbers of classes, got float64"),
    ],
)
def test_bad_probabilities_are_named(probabilities, labels, message):
    with pytest.raises(InputError, match=message):
        calibration.ece(np.array(probabilities), np.array(labels))


@pytest.mark.parametrize(
    ("logits", "labels", "message"),
    [
        ([[1.0, 2.0]], [2], r"labels must be in 0\.\.1, got 2"),
        ([[1.0, 2.0]], [0, 1], r"expected logits \(N, classes\) and labels \(N,\), got \(1, 2\) and \(2,\)"),
        (np.empty((0, 2)), np.empty(0, int), "expected logits"),
        ([1.0, 2.0], [0, 1], "expected logits"),
        ([[1.0, np.nan]], [0], "nan or infinite for 1 of 1 images"),
    ],
)
def test_bad_logits_are_named(logits, labels, message):
    with pytest.raises(InputError, match=message):
        calibration.fit_temperature(logits, labels)


def test_logits_that_torch_would_not_take_as_they_are(recwarn):
    logits, labels = np.array([[2.0, 1.0, 0.0], [0.0, 2.0, 1.0], [2.0, 0.0, 1.0]]), np.array([0, 1, 2])
    expected = calibration.fit_temperature(logits, labels)
    always = torch.is_warn_always_enabled()
    torch.set_warn_always(True)  # not only the first time in this process
    try:
        assert calibration.fit_temperature(np.broadcast_to(logits, logits.shape), labels) == expected
        assert calibration.fit_temperature(logits[::-1], labels[::-1]) == pytest.approx(expected)
    finally:
        torch.set_warn_always(always)
    # Not what Python says of other tests' garbage, which it may collect just now.
    assert not [warning for warning in recwarn if issubclass(warning.category, UserWarning)]


def test_bad_bins_are_named():
    rows, labels = [[0.5, 0.5]] * 3, [0, 1, 0]
    for measure in (calibration.ece, calibration.classwise_ece):
        for bins in (0, -1, 2.5):
            with pytest.raises(InputError, match="bins must be"):
                measure(rows, labels, bins)
    for size in (0, -5):
        with pytest.raises(InputError, match="bin_size must be at least 1"):
            calibration.rms(rows, labels, size)


@pytest.mark.parametrize(("confidence", "correct"), [([1.5], [True]), ([np.nan], [True]), ([0.5, 0.5], [True])])
def test_bad_confidences_are_named(confidence, correct):
    with pytest.raises(InputError, match="confidence"):
        calibration.reliability(confidence, correct)


def test_bfloat16():
    values = torch.tensor([[0.75, 0.25], [0.5, 0.5], [0.125, 0.875]])
    labels = torch.tensor([0, 1, 1])
    for measure in (calibration.ece, calibration.brier, calibration.classwise_ece, calibration.fit_temperature):
        assert measure(values.bfloat16(), labels) == measure(values, labels)
    assert ood.auroc(values[:, 0].bfloat16(), values[:, 1].bfloat16()) == ood.auroc(values[:, 0], values[:, 1])


def test_brier_and_classwise_ece_by_their_definitions(rng):
    rows = rng.dirichlet(np.ones(4), 200)
    labels = rng.integers(0, 4, 200)
    wanted = np.eye(4)[labels]
    assert calibration.brier(rows, labels) == pytest.approx(np.mean(np.sum((rows - wanted) ** 2, 1)), abs=1e-12)
    gaps = 0.0
    for number in range(4):
        for low in range(10):
            inside = (rows[:, number] > low / 10) & (rows[:, number] <= (low + 1) / 10)
            if inside.any():
                gap = rows[inside, number].mean() - wanted[inside, number].mean()
                gaps += abs(gap) * inside.sum() / len(rows)
    assert calibration.classwise_ece(rows, labels, 10) == pytest.approx(gaps / 4, abs=1e-12)


def test_brier_and_classwise_ece_of_certainty():
    certain = np.eye(3)
    assert calibration.brier(certain, [0, 1, 2]) == 0
    assert calibration.brier(certain, [1, 2, 0]) == 2
    assert calibration.classwise_ece(certain, [0, 1, 2]) == 0
    assert calibration.classwise_ece(certain, [1, 2, 0]) == pytest.approx(2 / 3)
