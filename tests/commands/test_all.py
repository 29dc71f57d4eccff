"""`eval all`: what is run, what is said about the rest, and the page."""

import json
from dataclasses import replace

import numpy as np
import pytest
from helpers.eval_sets import Ten, error_of, network
from helpers.pages import Page

from apr_dali.data.kinds import CLASSES as CIFAR

pytestmark = pytest.mark.slow


def test_all(run_eval, root, tmp_path, capsys):
    (root / "imagenet-p").mkdir()
    assert run_eval("all", "--data-root", root) == 1, "a part failed"
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert list(report["evaluations"]) == ["clean", "corruption", "imagenet-v2", "calibration"]
    assert report["skipped"] == [
        ["imagenet-p", "is not among the sets that are known for this network"],
        ["autoattack", "takes hours: give --attack N to attack N images"],
    ]
    assert report["evaluations"]["clean"]["top1"] == pytest.approx(1 - error_of(root / "val"))
    assert report["evaluations"]["corruption"]["clean_error"] == pytest.approx(error_of(root / "val"))
    assert [name for name, _ in report["missing"]] == ["imagenet-o", "imagenet-a", "imagenet-sketch", "openood"]
    assert report["missing"][0][1].endswith("data/imagenet-o, which should hold: <class>/<image> of 200 classes")
    ((failed, reason),) = report["failed"]
    assert failed == "imagenet-r"
    assert "must have 200 class folders" in reason
    page = Page((tmp_path / "out" / "report.html").read_text())
    assert page.open == []
    assert page.outside == [], "the page must be complete in itself"
    captions = ["Error by corruption and severity", "Accuracy by confidence, and how many images have which confidence"]
    assert page.images == captions
    error = f"{100 * error_of(root / 'val'):.2f} %"
    assert page.after("clean error, 33 images") == error
    assert page.after("top-1") == f"{100 - 100 * error_of(root / 'val'):.2f} %"
    assert page.after("images") == "33"
    assert page.after("data") == str(root / "val")
    assert "APR-SP" not in page.cells, "no published numbers beside these sets"
    assert "fog" not in page.cells, "no table repeats the picture"
    told = (tmp_path / "out" / "report.md").read_text()
    assert f"| clean error, 33 images | {error} |" in told
    assert "| fog | " in told, "Markdown has no picture"
    shown = capsys.readouterr()
    assert "written:" in shown.out
    assert shown.err.startswith("error: failed: imagenet-r: ")


def test_without_a_failure_all_ends_well(run_eval, root, tmp_path):
    (root / "imagenet-r").rename(tmp_path / "r")
    assert run_eval("all", "--data-root", root) == 0
    assert run_eval("all", "--data-root", root) == 0
    page = (tmp_path / "out" / "report.html").read_text()
    assert page.count("Kept from an earlier run, 20") == 3, "clean, corruption and imagenet-v2"


def test_a_report_shows_the_pictures_of_its_own_run(run_eval, root, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "clean-old.png").write_bytes(b"of another run")
    run_eval("all", "--data-root", root)
    assert len(Page((tmp_path / "out" / "report.html").read_text()).images) == 2


def test_sets_without_their_clean_images_are_not_run(run_eval, root, tmp_path):
    (root / "val").rename(root / "imagenet-o")
    run_eval("all", "--data-root", root)
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["skipped"] == [["imagenet-o", "needs the clean images of the same classes, which are missing"]]


def test_what_nobody_foresaw_costs_one_evaluation(run_eval, root, tmp_path, monkeypatch, capsys):
    def breaks(*_, **__):
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr("apr_dali.eval.suite.evaluate_autoattack", breaks)
    assert run_eval("all", "--data-root", root, "--attack", 3) in (0, 1)
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert dict(report["failed"])["autoattack"] == "ZeroDivisionError: a bug"
    assert report["evaluations"]["clean"]["top1"] == pytest.approx(1 - error_of(root / "val"))
    assert "ZeroDivisionError: a bug" in (tmp_path / "out" / "report.html").read_text()
    assert "in breaks" in capsys.readouterr().err, "the traceback is for those who repair it"


def test_all_of_nothing(run_eval, tmp_path, capsys):
    (tmp_path / "data").mkdir()
    assert run_eval("all", "--data-root", tmp_path / "data") == 2
    assert "imagenet-c: <corruption>/<1-5>/<class>/<image>" in capsys.readouterr().err
    assert run_eval("all", "--data-root", tmp_path / "nowhere") == 2
    assert "nowhere is not there" in capsys.readouterr().err


def test_small_networks_take_small_sets(run_eval, tmp_path):
    from scipy.io import savemat

    images = np.full((4, 32, 32, 3), 128, np.uint8)
    (tmp_path / "data" / "svhn").mkdir(parents=True)
    savemat(tmp_path / "data" / "svhn" / "test_32x32.mat", {"X": images.transpose(1, 2, 3, 0), "y": np.ones((4, 1))})
    for name in ("CIFAR-10-C", "CIFAR-100-C"):
        (tmp_path / "data" / name).mkdir()
        np.save(tmp_path / "data" / name / "fog.npy", np.full((50, 32, 32, 3), 40, np.uint8))
        np.save(tmp_path / "data" / name / "labels.npy", np.tile(np.arange(10), 5))
    model = network(32, Ten(), CIFAR["cifar10"])
    assert run_eval("all", "--data-root", tmp_path / "data", model=model) == 0
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["evaluations"]["corruption"]["errors"]["fog"] == [pytest.approx(9 / 10)] * 5
    assert report["evaluations"]["corruption"]["data"].endswith("CIFAR-10-C")
    assert "test" in [name for name, _ in report["missing"]]
    # Ten classes are not CIFAR's for being ten.
    other = network(32, Ten(), tuple("abcdefghij"))
    assert run_eval("all", "--data-root", tmp_path / "data", model=other, output="other") == 2


def test_all_of_a_network_of_digits(run_eval, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    model = replace(network(32, Ten(), tuple("0123456789")), trained_on="digits")
    # A folder of CIFAR's files has none for digits.
    (tmp_path / "data" / "CIFAR-10-C").mkdir(parents=True)
    assert run_eval("all", model=model) == 0
    first = json.loads((tmp_path / "out" / "report.json").read_text())
    assert list(first["evaluations"]) == ["corruption", "clean", "ood", "calibration"]
    assert first["evaluations"]["corruption"]["kind"] == "digits"
    assert list(first["evaluations"]["ood"]["sets"]) == ["photographs"]
    assert (first["missing"], first["failed"]) == ([], [])
    for page in ("report.html", "report.md"):
        told = (tmp_path / "out" / page).read_text()
        assert "CIFAR" not in told
        assert "APR-SP" not in told
        assert "digits, corrupted in ways of our own" in told
    assert run_eval("all", "--data-root", tmp_path / "data", model=model) == 0
    second = json.loads((tmp_path / "out" / "report.json").read_text())
    assert second["evaluations"] == first["evaluations"]
    assert ["CIFAR-10-C", "is not among the sets that are known for this network"] in second["skipped"]
    assert run_eval("all", model=network(32, Ten(), tuple("abcdefghij"))) == 2
    assert "--data-root is missing" in capsys.readouterr().err
    (tmp_path / "photographs").mkdir()
    assert run_eval("all", model=model) == 2
    assert "something is called photographs here" in capsys.readouterr().err
