"""OpenOOD's measures and lists."""

import numpy as np
import pytest

from apr_dali.errors import InputError
from apr_dali.eval.openood import SUITES, lists_below, openood_metrics


def by_counting(inside, outside):
    """FPR95 with out-of-distribution as the positive class, and AUPR by straight lines, from their definitions."""
    inside, outside = np.asarray(inside, float), np.asarray(outside, float)
    thresholds = np.unique(np.concatenate([inside, outside]))
    fpr = min((inside <= t).mean() for t in thresholds if (outside <= t).mean() >= 0.95)
    found = {"openood_fpr95": fpr}
    for name, positive, negative in (("in", inside, outside), ("out", -outside, -inside)):
        points = [(0.0, 1.0)]
        for t in sorted({*positive, *negative}, reverse=True):
            hits, false = (positive >= t).sum(), (negative >= t).sum()
            points.append((hits / len(positive), hits / (hits + false)))
            if hits == len(positive):
                break
        recall, precision = np.array(points).T
        found[f"openood_aupr_{name}"] = np.trapezoid(precision, recall)
    return found


@pytest.mark.parametrize("digits", [8, 1, 0])
def test_measures_by_counting(digits):
    """digits: the fewer, the more ties."""
    rng = np.random.default_rng(digits)
    inside, outside = rng.normal(1, 1, 60).round(digits), rng.normal(0, 1, 45).round(digits)
    assert openood_metrics(inside, outside) == pytest.approx(by_counting(inside, outside), abs=1e-12)


def test_the_positive_class_is_the_other_one():
    # One of ten other images looks like the network's own: it must be found, too.
    found = openood_metrics([1.0, 2.0, 3.0, 4.0], [0.0] * 9 + [3.5])
    assert found["openood_fpr95"] == 0.75


def test_all_the_same_and_apart():
    same = openood_metrics([1.0] * 4, [1.0] * 4)
    assert same == {"openood_fpr95": 1.0, "openood_aupr_in": 0.75, "openood_aupr_out": 0.75}
    assert openood_metrics([2.0, 3.0], [0.0]) == {
        "openood_fpr95": 0.0,
        "openood_aupr_in": 1.0,
        "openood_aupr_out": 1.0,
    }


def test_bad_scores_are_named():
    with pytest.raises(InputError, match="out_scores must be a list of one score or more"):
        openood_metrics([1.0], [])
    with pytest.raises(InputError, match="1 of 2 in_scores are nan"):
        openood_metrics([1.0, float("nan")], [0.0])


def test_lists_of_a_benchmark(tmp_path):
    home = tmp_path / "benchmark_imglist" / "cifar10"
    with pytest.raises(InputError, match=r"cifar10 is not there: expected OpenOOD's folder data"):
        lists_below(tmp_path, "cifar10")
    home.mkdir(parents=True)
    suite = SUITES["cifar10"]
    for name in ("cifar10", *suite.near, *suite.far):
        (home / f"test_{name}.txt").touch()
    found = lists_below(tmp_path, "cifar10")
    assert found.data == str(home / "test_cifar10.txt")
    assert list(found.near) == ["cifar100", "tin"]
    assert list(found.far) == ["mnist", "svhn", "texture", "places365"]
    assert found.fit == str(home / "train_cifar10.txt")
    assert (found.val_data, found.ood_val) == (str(home / "val_cifar10.txt"), str(home / "val_tin.txt"))
    assert found.shifted == {}
    with pytest.raises(InputError, match=r"test_cifar10c\.txt is not there; "):
        lists_below(tmp_path, "cifar10", full_spectrum=True)
    with pytest.raises(InputError, match="no full spectrum for cifar100"):
        lists_below(tmp_path, "cifar100", full_spectrum=True)
    with pytest.raises(InputError, match="no sets for this network: expected one of imagenet, cifar10, cifar100"):
        lists_below(tmp_path, "")
