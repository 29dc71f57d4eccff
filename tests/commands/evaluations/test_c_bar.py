"""ImageNet-C-bar and CIFAR-10-C-bar in `eval corruption` and `make-c`: by their folders' names, or computed."""

import shutil

import numpy as np
import pytest
import torch
from helpers.eval_sets import Ten, network, random_levels, write_corruptions, write_levels

import apr_dali
from apr_dali import CorruptionDraws, cli
from apr_dali.corruptions import C_BAR, CIFAR_C_BAR, CORRUPTIONS
from apr_dali.data.arrays import open_small
from apr_dali.data.kinds import CLASSES as CIFAR
from apr_dali.eval import corruption as measures
from apr_dali.eval import corruption_sources as commands
from apr_dali.eval import evaluate_corruption_on_the_fly, open_session
from apr_dali.eval.corruption import CorruptionTable, averaged_text, c_bar_text
from apr_dali.eval.evaluations.corruption import Corruption
from apr_dali.eval.published_numbers import PUBLISHED
from apr_dali.eval.report import sections, summary

FEW = ("perlin_noise", "sparkles")


@pytest.fixture
def val(tmp_path):
    write_levels(tmp_path / "val", random_levels(1, spread=40))
    return tmp_path / "val"


def test_the_folders_names_say_what_the_set_is(evaluate, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(commands, "is_imagenet", lambda _: True)
    monkeypatch.setitem(measures.CELLS, "imagenet-c-bar", 12)
    errors = write_corruptions(tmp_path / "c", FEW)
    status, record = evaluate("corruption", "--data", tmp_path / "c")
    assert status == 0
    result = record["result"]
    assert (result["kind"], result["name"], result["averaged"]) == ("imagenet-c-bar", "ImageNet-C-bar", [*FEW])
    expected = np.mean([errors[name] for name in FEW])
    assert result["mean_error"] == result["c_bar_error"] == pytest.approx(expected, abs=1e-12)
    assert 0 < expected < 1
    assert not any("ce" in key.split("_") for key in result)
    shown = capsys.readouterr().out
    words = "2 of 10 corruptions of ImageNet-C-bar (perlin_noise, sparkles)"
    assert f"mean error over {words}: {100 * expected:.2f} %" in shown
    assert shown.count("mean error over") == 1
    assert "missing" not in shown, "none of the 15 belongs to this set"


def test_folders_may_be_named_by_the_strength(evaluate, tmp_path, capsys):
    errors = write_corruptions(tmp_path / "c", FEW)
    _, named = evaluate("corruption", "--data", tmp_path / "c")
    for severity, strength in enumerate(("4.60", "5.20", "5.80", "7.60", "8.80"), 1):
        (tmp_path / "c" / "perlin_noise" / str(severity)).rename(tmp_path / "c" / "perlin_noise" / strength)
    shutil.rmtree(tmp_path / "out")
    status, record = evaluate("corruption", "--data", tmp_path / "c")
    assert status == 0
    assert (
        record["result"]["errors"]
        == named["result"]["errors"]
        == {name: pytest.approx(row, abs=1e-12) for name, row in errors.items()}
    )
    shutil.rmtree(tmp_path / "c" / "perlin_noise" / "5.80")
    assert evaluate("corruption", "--data", tmp_path / "c")[0] == 2
    assert "perlin_noise lacks the severity 5.80: expected the folders 4.60, 5.20, 5.80" in capsys.readouterr().err


def test_beside_image_net_c_it_has_a_mean_of_its_own(evaluate, tmp_path, capsys):
    errors = write_corruptions(tmp_path / "c", ("fog", "perlin_noise", "spatter"))
    _, record = evaluate("corruption", "--data", tmp_path / "c")
    result = record["result"]
    assert result["averaged"] == ["fog"]
    assert result["mean_error"] == pytest.approx(np.mean(errors["fog"]))
    assert result["c_bar_error"] == pytest.approx(np.mean(errors["perlin_noise"]))
    shown = capsys.readouterr().out
    words = "1 of 10 corruptions of ImageNet-C-bar (perlin_noise)"
    assert f"mean error over {words}: {100 * np.mean(errors['perlin_noise']):.2f} %" in shown
    assert "mean error over 1 of 15 corruptions (fog)" in shown


@pytest.mark.parametrize(
    ("dataset", "names", "kind"),
    [
        ("cifar10", ("ripple", "sparkles"), "cifar-10-c-bar"),
        ("cifar10", ("ripple", "perlin_noise"), "own"),
        ("cifar10", ("ripple", "fog"), "cifar-10-c"),
        ("cifar100", ("ripple", "sparkles"), "own"),
        ("cifar100", ("fog",), "cifar-100-c"),
    ],
)
def test_arrays(evaluate, tmp_path, monkeypatch, dataset, names, kind):
    classes = CIFAR[dataset]
    for name in ("cifar-10-c", "cifar-100-c", "cifar-10-c-bar"):
        monkeypatch.setitem(measures.CELLS, name, len(classes))
    (tmp_path / "set").mkdir()
    np.save(tmp_path / "set" / "labels.npy", np.tile(np.arange(len(classes)), 5))
    for name in names:
        np.save(tmp_path / "set" / f"{name}.npy", np.full((5 * len(classes), 32, 32, 3), 40, np.uint8))
    of_images = Ten() if len(classes) == 10 else torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3072, 100))
    model = network(32, of_images, classes)
    _, record = evaluate("corruption", "--data", tmp_path / "set", model=model)
    assert record["result"]["kind"] == kind


def table(names, kind="own", severities=(1, 2, 3, 4, 5)):
    errors = {name: tuple([0.01 * k] * len(severities)) for k, name in enumerate(names, 1)}
    return CorruptionTable(errors, measures.CELLS.get(kind, 12), kind=kind, severities=severities)


def test_means_say_what_they_are_over():
    whole = table(C_BAR, "imagenet-c-bar").as_json()
    assert whole["mean_error"] == whole["c_bar_error"] == pytest.approx(0.055)
    assert averaged_text(whole) == "all 10 corruptions of ImageNet-C-bar"
    assert c_bar_text(whole) is None, "said already"
    assert averaged_text(table(CIFAR_C_BAR).as_json()) == "all 10 corruptions of CIFAR-10-C-bar"
    part = table(("fog", *CIFAR_C_BAR), severities=(1, 3)).as_json()
    assert c_bar_text(part) == "all 10 corruptions of CIFAR-10-C-bar at severity 1, 3"
    assert averaged_text(part) == "1 of 15 corruptions (fog) at severity 1, 3"
    shared = "1 of 10 corruptions of ImageNet-C-bar or CIFAR-10-C-bar (sparkles)"
    assert averaged_text(table(("sparkles",)).as_json()) == shared
    both = table(("ripple", "perlin_noise")).as_json()
    assert averaged_text(both) == "2 of 10 corruptions of ImageNet-C-bar or CIFAR-10-C-bar (ripple, perlin_noise)"
    assert "c_bar_error" not in table(("sparkles",), "digits").as_json()
    assert "c_bar_error" not in table(("fog",)).as_json()
    everything = table((*CORRUPTIONS, *C_BAR), "imagenet-c").as_json()
    assert set(everything) >= {"mce", "c_bar_error"}
    assert everything["c_bar_error"] == pytest.approx(np.mean([0.01 * k for k in range(16, 26)]))
    generated = table(C_BAR, "generated").as_json()
    assert not any(key.startswith("generated") for key in generated), "AlexNet has no errors on C-bar"


@pytest.mark.parametrize(("kind", "standard"), [("imagenet-c-bar", "57.7"), ("cifar-10-c-bar", "27.1")])
def test_published_numbers_stand_beside_it(kind, standard):
    result = Corruption("d", "0" * 16, "the set", 10, table(C_BAR if kind[0] == "i" else CIFAR_C_BAR, kind))
    report = {
        **dict.fromkeys(("date", "command", "device", "processes"), "x"),
        **{"settings": {"network": "n"}, "versions": {}, "evaluations": {"corruption": result.as_json()}},
        **{"kept": {}, "missing": [], "skipped": [], "failed": []},
    }
    (published,) = [part for part in sections(report, {}) if "Published" in part.title]
    assert ("standard", standard) in published.tables[0].rows
    assert "Mintun" in published.notes[0]
    assert list(summary(report)) == [
        f"the set (10 classes, {measures.CELLS[kind]:,} images per cell): mean error over all 10 corruptions of "
        f"{'ImageNet' if kind[0] == 'i' else 'CIFAR-10'}-C-bar"
    ]


def test_published_means_are_those_of_their_table():
    # By corruption, of the standard networks, in the order of the paper's table.
    imagenet = (68.6, 71.7, 49.4, 84.7, 79.0, 37.5, 34.3, 32.4, 76.7, 42.8)
    cifar = (42.9, 27.2, 23.3, 11.8, 43.3, 26.2, 11.3, 21.6, 21.0, 42.9)
    standard = PUBLISHED[0]
    assert standard.imagenet_c_bar == pytest.approx(np.mean(imagenet), abs=0.06)
    assert standard.cifar10_c_bar == pytest.approx(np.mean(cifar), abs=0.06)


@pytest.mark.slow
def test_on_the_fly_it_is_the_set_of_make_c(evaluate, tmp_path, capsys):
    val = tmp_path / "val"
    write_levels(val, random_levels(1, count=3, spread=40))
    status, computed = evaluate("corruption", "--val", val, "--set", "c-bar")
    assert status == 0
    shown = capsys.readouterr().out
    assert "mean error over all 10 corruptions of ImageNet-C-bar:" in shown
    assert "missing" not in shown
    assert (
        cli.main(["make-c", str(val), str(tmp_path / "c"), "--set", "c-bar", "--image-size", "40", "--processes", "1"])
        == 0
    )
    shutil.rmtree(tmp_path / "out")
    _, disk = evaluate("corruption", "--data", tmp_path / "c")
    assert list(computed["result"]["errors"]) == sorted(C_BAR)
    assert computed["result"]["errors"] == disk["result"]["errors"]
    assert len(set(map(tuple, disk["result"]["errors"].values()))) > 3, "a set without differences"
    assert disk["result"]["name"] == "own set c, made by apr-dali make-c"


def test_small_images_get_cifars():
    torch.manual_seed(0)
    seen = {"mean": (0.5,) * 3, "std": (0.25,) * 3, "image_size": 32, "classes": tuple(map(str, range(10)))}
    model = apr_dali.create_model("cifar/wrn-16-1", 10)
    with open_session(model, **seen, device="cpu", threads=1, batch_size=5) as session:
        found = evaluate_corruption_on_the_fly(session, "digits", set="c-bar", severities=[2], limit=5)
    assert list(found.table.errors) == sorted(CIFAR_C_BAR)
    assert found.computed["parameter_set"] == "cifar"


def test_make_cifar_c_bar(tmp_path, monkeypatch):
    made = []
    monkeypatch.setattr("apr_dali.data.make_c.make_cifar_c", lambda *given: made.append(given))
    assert cli.main(["make-c", "digits", str(tmp_path / "c"), "--cifar", "--set", "c-bar"]) == 0
    assert made[0][2] == CIFAR_C_BAR
    monkeypatch.undo()
    assert cli.main(["make-c", "digits", str(tmp_path / "c"), "--cifar", "--corruptions", "ripple"]) == 0
    pixels = open_small("digits").images[:1]
    draws = CorruptionDraws.sample("ripple", 1, 1, 32, 32, 0, parameter_set="cifar")
    expected = apr_dali.corrupt(pixels, "ripple", 1, draws)
    np.testing.assert_array_equal(np.load(tmp_path / "c" / "ripple.npy")[:1], expected)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["--set", "c-bar", "--corruptions", "fog"], "has no effect"),
        (["--set", "c-bar", "--extra"], "extra adds four corruptions to the 15"),
        (["--set", "d"], "invalid choice: 'd'"),
        (["--corruptions", "ripple"], "ripple has parameters of the set cifar, none of imagenet"),
        (["--corruptions", "ripple", "perlin_noise"], "ripple has parameters of the set cifar, none of imagenet"),
    ],
)
def test_what_has_no_effect_is_refused(evaluate, val, given, told, capsys):
    assert evaluate("corruption", "--val", val, *given) == (2, None)
    assert told in capsys.readouterr().err


def test_other_commands_refuse_it(evaluate, val, tmp_path, capsys):
    assert evaluate("corruption", "--data", val, "--set", "c-bar") == (2, None)
    assert f"--set has no effect on --data {val}" in capsys.readouterr().err
    both = ["--set", "c-bar", "--corruptions", "fog"]
    assert cli.main(["make-c", str(val), str(tmp_path / "c"), *both]) == 2
    assert "--set c-bar has no effect with --corruptions" in capsys.readouterr().err
    assert cli.main(["make-c", str(val), str(tmp_path / "c"), "--corruptions", "ripple"]) == 2
    assert "unknown corruption ripple: expected some of gaussian_noise" in capsys.readouterr().err
    assert not (tmp_path / "c").exists()
