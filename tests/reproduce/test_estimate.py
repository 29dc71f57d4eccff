"""How long a plan takes: what goes through its networks, over rates."""

import shutil

import pytest
from helpers.reproduce import asked, every_set, stand_in

from apr_dali.reproduce import overview
from apr_dali.reproduce.estimate import hours, rates
from apr_dali.reproduce.runner import Runner
from apr_dali.reproduce.slots import Slot
from apr_dali.reproduce.tables import plan_of


def test_hours_are_images_over_rates(tmp_path):
    every_set(tmp_path / "data")
    given = asked(
        tmp_path, datasets=("cifar10",), networks=("wrn-40-2",), only=("standard", "apr-p", "augmix"), seeds=2
    )
    plan = plan_of("table1", given)
    known = rates(plan, {"wrn-40-2": 1000.0, "": 1.0})
    assert known["wrn-40-2"].source.startswith("given")
    left = hours(plan, known)
    # Two seeds; APR-P shows 1.6 rows for an image, AugMix three.
    assert left.training == pytest.approx(2 * 200 * 50_000 * (1 + 1.6 + 3) / 1000 / 3600)
    assert left.evaluation == pytest.approx(6 * 76 * 10_000 / 3000 / 3600)
    assert rates(plan, {"": 10.0})["wrn-40-2"].training == 10


@pytest.mark.parametrize(
    ("name", "method", "epochs", "images", "passes"),
    [
        ("table3", "fgsm-apr-sp", 90, 50_000, 4),
        ("table3", "fgsm-apr-s", 65, 50_000, 2),
        ("table4", "apr-sp", 100, 1_281_167, 1.5),
        ("table4", "deepaugment", 100, 3 * 1_281_167, 1),
        ("fig9", "lambda-0.5", 200, 50_000, 1.6),
    ],
)
def test_what_a_training_shows_its_network(tmp_path, name, method, epochs, images, passes):
    every_set(tmp_path / "data")
    (run,) = plan_of(name, asked(tmp_path, only=(method,))).runs
    assert (run.training.epochs, run.training.images, run.training.passes) == (epochs, images, passes)


def test_what_is_done_takes_no_time(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    programs = stand_in(monkeypatch, tmp_path / "programs")
    plan = plan_of("table2", asked(tmp_path, datasets=("digits",), only=("cutout",)))
    known = rates(plan, {"": 100.0})
    before = hours(plan, known)
    assert before.training == pytest.approx(12 * 1442 / 100 / 3600)
    programs.set("FAILS", "ood")
    Runner(plan, [Slot("here", {})]).run()
    after = hours(plan, known)
    assert after.training == 0
    assert 0 < after.evaluation < before.evaluation


def test_a_rate_that_is_not_given_is_measured(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    plan = plan_of("table2", asked(tmp_path, datasets=("digits",), only=("cutout",)))
    rate = rates(plan, {})["wrn-16-1"]
    assert rate.training > 0
    assert rate.forward > 0
    assert rate.source.startswith("measured now on")


def test_the_text_has_commands_what_is_missing_and_hours(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    plan = plan_of("table3", asked(tmp_path, only=("fgsm", "fgsm-cutout")))
    text = overview.text(plan, {"": 50.0}, 1)
    assert "[not run: needs CIFAR-10] python " in text
    assert "not trained here: FGSM w/ Cutout: " in text
    assert "missing: CIFAR-10: put it in " in text
    # What is missing is to be had, and then takes its time.
    missing = text.partition("hours left: ")[2]
    every_set(tmp_path / "data")
    plan = plan_of("table3", asked(tmp_path, only=("fgsm",)))
    text = overview.text(plan, {"": 50.0}, 4)
    training, evaluation = 30 * 50_000 * 2 / 50 / 3600, (5000 * 5000 / 150 + 1900 * 5000 / 50) / 3600
    total = training + evaluation
    assert (
        f"hours left: {total:.3g} (training {training:.3g}, evaluation {evaluation:.3g}), {total / 4:.3g} on 4 GPUs"
        in text
    )
    assert missing.partition(" ")[0] == f"{total:.3g}"
    assert "AutoAttack is counted as if half of the images" in text


def test_corruptions_on_the_fly_are_said_not_to_be_counted(tmp_path):
    every_set(tmp_path / "data")
    shutil.rmtree(tmp_path / "data/imagenet-c")
    for on_the_fly in (True, False):
        plan = plan_of("table4", asked(tmp_path, only=("standard",), on_the_fly=on_the_fly))
        assert ("corruptions on the fly are not counted" in overview.text(plan, {"": 50.0}, 1)) == on_the_fly
