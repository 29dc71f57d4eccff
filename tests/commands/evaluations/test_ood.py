"""`apr-dali eval ood` on sets whose right scores are known."""

import pytest
from helpers.eval_sets import (
    random_levels,
    scores_of,
    write_levels,
)

from apr_dali.eval.evaluations import ood
from apr_dali.eval.ood import ood_metrics


def test_ood(evaluate, tmp_path):
    write_levels(tmp_path / "val", random_levels(1, count=12, spread=15))
    write_levels(tmp_path / "near", {"a": list(range(60, 110, 5))})
    write_levels(tmp_path / "far", {"a": [75, 76, 91, 93], "b": [165, 180, 43]})
    sets = [f"{name}={tmp_path}/{name}" for name in ("near", "far")]
    status, record = evaluate("ood", "--data", tmp_path / "val", "--ood", *sets)
    assert status == 0
    inside = scores_of(tmp_path / "val")
    for score, rows in record["result"]["scores"].items():
        for name in ("near", "far"):
            expected = ood_metrics(inside[score], scores_of(tmp_path / name)[score])
            assert {key: rows[name][key] for key in expected} == pytest.approx(expected, abs=1e-6)
        assert rows["mean"]["auroc"] == pytest.approx((rows["near"]["auroc"] + rows["far"]["auroc"]) / 2)
    assert 0.5 < record["result"]["scores"]["energy"]["near"]["auroc"] < 1


def test_sets_without_class_folders_are_scored_too(evaluate, tmp_path):
    write_levels(tmp_path / "val", random_levels(1))
    write_levels(tmp_path / "far", {"a": [84, 90], "b": [150, 160, 170]})
    _, sorted_ = evaluate("ood", "--data", tmp_path / "val", "--ood", f"x={tmp_path}/far")
    for number, path in enumerate(sorted((tmp_path / "far").glob("*/*.png"))):
        path.rename(tmp_path / "far" / f"{number}.png")
    for name in "ab":
        (tmp_path / "far" / name).rmdir()
    (tmp_path / "out" / "ood.json").unlink()
    for path in (tmp_path / "out").glob("*.state.json"):
        path.unlink()
    status, flat = evaluate("ood", "--data", tmp_path / "val", "--ood", f"x={tmp_path}/far")
    assert status == 0
    # The images are as they were, the names of their files are not.
    assert flat["result"].pop("set") != sorted_["result"].pop("set")
    assert flat["result"] == sorted_["result"]


def test_sets_called_as_published_ones_have_their_images(evaluate, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(ood.PUBLISHED_IMAGES, "lsun_fix", 2)
    write_levels(tmp_path / "val", {"dark": [40], "gray": [120], "light": [200]})
    write_levels(tmp_path / "far", {"a": [10], "b": [250]})
    sets = [f"{name}={tmp_path}/far" for name in ("SVHN", "LSUN_fix", "mine")]
    status, record = evaluate("ood", "--data", tmp_path / "val", "--ood", *sets)
    assert status == 0
    (note,) = record["result"]["notes"]
    assert note == "SVHN: 2 images where the published set has 26,032, so not that set"
    assert note in capsys.readouterr().out
    assert record["result"]["set_images"] == {"SVHN": 2, "LSUN_fix": 2, "mine": 2}


@pytest.mark.parametrize(
    ("sets", "message"),
    [
        (["far"], "expects NAME=PATH, each name once, got 'far'"),
        (["far=/nowhere"], "/nowhere is not there"),
        (["mean=."], "got 'mean=.'"),
        (["far={empty}"], "nothing in it"),
    ],
)
def test_bad_ood_sets_are_named(evaluate, corrupted, tmp_path, sets, message, capsys):
    (tmp_path / "empty").mkdir()
    given = [item.format(empty=tmp_path / "empty") for item in sets]
    status, _ = evaluate("ood", "--data", corrupted[0] / "fog" / "1", "--ood", *given)
    assert status == 2
    assert message in capsys.readouterr().err
