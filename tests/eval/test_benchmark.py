"""Evaluation from Python: a module, a checkpoint and a name give what the commands write."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers.eval_sets import CLASSES, Brightness, error_of, random_levels, write_corruptions, write_levels
from helpers.project import ROOT

import apr_dali.eval
from apr_dali import cli
from apr_dali.errors import InputError
from apr_dali.eval import (
    auroc,
    benchmark,
    evaluate_autoattack,
    evaluate_calibration,
    evaluate_clean,
    evaluate_corruption,
    evaluate_ood,
    evaluate_shift,
    fpr95,
    open_session,
)
from apr_dali.eval.evaluations import distribution_shift
from apr_dali.eval.load_model import load_model
from apr_dali.models import create_model

SEEN = {"mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25), "image_size": 40, "classes": CLASSES}
"""What a module of somebody's own does not say."""
QUICK = {"device": "cpu", "threads": 1, "batch_size": 5}
FACTORY = """
import sys
sys.path.insert(0, {tests!r})
from helpers.eval_sets import Brightness as make
"""


@pytest.fixture
def command(tmp_path):
    """Runs `apr-dali eval …` on the network that the module is, and gives the `result` that it writes."""
    (tmp_path / "net.py").write_text(FACTORY.format(tests=str(ROOT / "tests")))
    (tmp_path / "classes.txt").write_text("\n".join(CLASSES))

    def run(*given: object, record: str | None = None, network: tuple[object, ...] | None = None, status: int = 0):
        seen = ["--mean", 0.5, 0.5, 0.5, "--std", 0.25, 0.25, 0.25, "--image-size", 40]
        own = (f"{tmp_path}/net.py:make", "--classes", tmp_path / "classes.txt", *seen)
        kind, *more = given
        output = ["--output", tmp_path / "command", "--device", "cpu", "--threads", 1, "--batch-size", 5]
        assert cli.main(["eval", *map(str, [kind, *(network or own), *more, *output])]) == status
        return json.loads((tmp_path / "command" / f"{record or kind}.json").read_text())

    return run


@pytest.fixture
def sets(tmp_path):
    write_levels(tmp_path / "val", random_levels(1))
    write_levels(tmp_path / "near", {"a": list(range(60, 110, 5))})
    write_corruptions(tmp_path / "c", ("fog",))
    return tmp_path


def test_a_module_gives_what_the_commands_write(command, sets, monkeypatch):
    monkeypatch.setitem(distribution_shift.SHIFTS, "imagenet-a", ("dark", "light"))
    write_levels(sets / "a", {"dark": [100, 50], "light": [140]})
    module = Brightness()
    val, options = sets / "val", {**SEEN, **QUICK}
    found = evaluate_clean(module, val, **options)
    assert found.top1 == pytest.approx(1 - error_of(val))
    assert found.as_json() == command("clean", "--data", val)["result"]
    found = evaluate_corruption(module, sets / "c", clean=val, **options)
    assert found.as_json() == command("corruption", "--data", sets / "c", "--clean", val)["result"]
    assert found.table.clean_error == pytest.approx(error_of(val))
    found = evaluate_ood(module, val, ood={"near": sets / "near"}, **options)
    assert found.as_json() == command("ood", "--data", val, "--ood", f"near={sets}/near")["result"]
    assert list(found.pictures) == ["scores"]
    found = evaluate_calibration(module, val, **options)
    assert found.as_json() == command("calibration", "--data", val)["result"]
    found = evaluate_shift(module, sets / "a", set="imagenet-a", **options)
    assert found.as_json() == command("shift", "imagenet-a", "--data", sets / "a", record="imagenet-a")["result"]
    given = {"version": "apgd-ce", "epsilon": 0.5, "limit": 4}
    found = evaluate_autoattack(module, val, **given, **options)
    more = ["--version", "apgd-ce", "--epsilon", 0.5, "--limit", 4]
    expected = command("autoattack", "--data", val, *more)["result"]
    # The list of the files that were taken lies elsewhere, and says so.
    assert {**found.as_json(), "set": ""} == {**expected, "set": ""}
    assert found.robust < found.found.clean, "an attack that fails shows nothing"


def test_the_text_is_what_the_command_prints(command, sets, capsys):
    command("corruption", "--data", sets / "c")
    shown = capsys.readouterr().out
    assert evaluate_corruption(Brightness(), sets / "c", **SEEN, **QUICK).text() in shown
    assert capsys.readouterr().out == "", "a library prints nothing"


def test_a_benchmark_gives_what_the_command_writes(command, sets):
    root = sets / "root"
    root.mkdir()
    for name, place in (("val", "val"), ("imagenet-c", "c"), ("imagenet-o", "near"), ("else", "near")):
        (root / name).symlink_to(sets / place)
    said = []
    results = benchmark(Brightness(), root, each=said.append, output=sets / "out", **SEEN, **QUICK)
    expected = command("all", "--data-root", root, record="report", status=1)
    assert list(results) == ["clean", "corruption", "calibration"]
    assert [results[name] for name in results] == said
    for key in ("evaluations", "missing", "skipped"):
        assert results.as_json()[key] == expected[key], key
    # The reason names the network.
    assert [name for name, _ in results.as_json()["failed"]] == [name for name, _ in expected["failed"]]
    assert results.as_json() == json.loads((sets / "out" / "report.json").read_text())
    assert results["clean"].as_json() == json.loads((sets / "out" / "clean.json").read_text())["result"]
    assert list(results.failed) == ["imagenet-o"]
    assert results.skipped["else"] == "is not among the sets that are known for this network"
    assert results.summary()["clean error, 12 images"] == f"{100 * error_of(sets / 'val'):.2f} %"
    again = benchmark(Brightness(), root, sets=["val"], output=sets / "out", **SEEN, **QUICK)
    assert list(again) == ["clean", "calibration"]
    assert len(again["clean"].record["kept"]) == 1, "the same call goes on from what is finished"
    assert again.skipped["imagenet-c"] == "is not among the sets that are asked for"
    assert again.missing == {}


def test_sets_that_are_asked_for_must_be_there(sets):
    with pytest.raises(InputError, match=r"sets must be one of .*imagenet-a"):
        benchmark(Brightness(), sets, sets=["fog"], **SEEN, **QUICK)
    with pytest.raises(InputError, match=r"asked for are not there; imagenet-a: put it in .*/imagenet-a, which should"):
        benchmark(Brightness(), sets, sets=["val", "imagenet-a"], **SEEN, **QUICK)


def test_a_checkpoint_gives_what_the_command_writes(digits_checkpoints, command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    results = benchmark(Path(digits_checkpoints[0]), sets=["test"], **QUICK)
    assert list(results) == ["clean", "calibration"]
    for name, result in results.results.items():
        written = command(name, "--data", "digits", network=(digits_checkpoints[0],))
        assert result.as_json() == written["result"]
        assert result.record["settings"] == written["settings"]


def test_a_name_gives_what_the_command_writes(sets, command, monkeypatch):
    import torchvision

    get_model = torchvision.models.get_model

    def untrained(name: str, **_):
        torch.manual_seed(0)
        return get_model(name, num_classes=len(CLASSES))

    monkeypatch.setattr(torchvision.models, "get_model", untrained)
    found = evaluate_clean("resnet18", sets / "val", image_size=40, classes=CLASSES, **QUICK)
    network = ("resnet18", "--classes", sets / "classes.txt", "--image-size", 40)
    written = command("clean", "--data", sets / "val", network=network)
    assert found.as_json() == written["result"]
    assert found.record["settings"]["network"] == "resnet18"


def test_a_module_is_left_as_it_was(sets, monkeypatch):
    # Where nobody has chosen their number, a small network has one thread.
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    module = torch.nn.Sequential(Brightness().train(), torch.nn.Dropout().eval())
    module[0].levels.requires_grad_(True)
    modes = [part.training for part in module.modules()]
    found = evaluate_autoattack(module, sets / "val", version="apgd-ce", limit=4, **SEEN, **QUICK)
    assert found.found.images == 4
    assert [part.training for part in module.modules()] == modes == [True, True, False]
    assert module[0].levels.requires_grad
    assert torch.get_num_threads() == 2
    torch.set_num_threads(before)
    with pytest.raises(InputError, match="is not there"):
        evaluate_clean(module, sets / "nowhere", **SEEN, **QUICK)
    assert [part.training for part in module.modules()] == modes


def test_without_an_output_nothing_is_left_behind(sets, tmp_path, monkeypatch):
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    monkeypatch.chdir(tmp_path / "temporary")
    found = evaluate_calibration(Brightness(), sets / "val", **SEEN, **QUICK)
    assert found.pictures["reliability"].startswith(b"\x89PNG")
    assert os.listdir(tmp_path / "temporary") == []
    with pytest.raises(InputError, match="keep needs a folder"):
        evaluate_autoattack(Brightness(), sets / "val", keep=True, **SEEN, **QUICK)


def test_one_session_for_several_evaluations(sets):
    with open_session(Brightness(), **SEEN, **QUICK) as session:
        assert evaluate_clean(session, sets / "val").images == 12
        assert evaluate_corruption(session, sets / "c").table.images == 12
        with pytest.raises(TypeError, match="an open session has its own batch_size"):
            evaluate_clean(session, sets / "val", batch_size=1)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"device": "tpu"}, "device must be one of"),
        ({"device": "cuda:7"}, "finds no GPU|there is no cuda:7"),
        ({"amp": "fp8"}, "amp must be one of"),
        ({"batch_size": 0}, "batch_size must be a whole number from 1 on, got 0"),
        ({"classes": ("a", "b")}, "classes has the names of 2 classes, the network has 3"),
        ({"classes": ("a", "b", "a")}, "classes holds 3 names, 2 of them different"),
        ({"weights": "w.pt"}, "change nothing with a module"),
    ],
)
def test_bad_keywords_are_named(sets, given, message):
    with pytest.raises(InputError, match=message):
        evaluate_clean(Brightness(), sets / "val", **{**SEEN, **QUICK, **given})


def test_an_attack_is_not_rounded(sets):
    with pytest.raises(InputError, match="bf16 does not go with autoattack"):
        evaluate_autoattack(Brightness(), sets / "val", amp="bf16", **SEEN, **QUICK)


def test_sets_have_names_of_their_own(sets):
    for ood, message in (({"mean": sets / "near"}, "cannot be called mean"), ({}, "ood names no set")):
        with pytest.raises(InputError, match=message):
            evaluate_ood(Brightness(), sets / "val", ood=ood, **SEEN, **QUICK)


def test_names_of_evaluations_are_those_of_a_report(sets):
    for evaluate, place, more in (
        (evaluate_corruption, sets / "c", {}),
        (evaluate_ood, sets / "val", {"ood": {"near": sets / "near"}}),
    ):
        with pytest.raises(InputError, match="evaluation must be one of"):
            evaluate(Brightness(), place, evaluation="clean", **more, **SEEN, **QUICK)


def test_a_table_needs_a_place(sets):
    with pytest.raises(InputError, match="latex writes a file: give an output"):
        benchmark(Brightness(), sets, latex=True, **SEEN, **QUICK)


def test_the_kind_of_a_set_does_not_depend_on_its_size():
    from apr_dali.data.kinds import CLASSES as CIFAR

    torch.manual_seed(0)
    model = create_model("cifar/wrn-16-1", 10)
    for size in (32, 64):
        assert load_model(model, image_size=size, classes=CIFAR["cifar10"]).kind == "cifar10"
    # Numbers for names say what they are of by the size alone.
    assert load_model(model, image_size=32).kind == "cifar10"
    assert load_model(model, image_size=64).kind == ""


# ---- what is exported ------------------------------------------------------------------------------------------------


def test_public_names_are_there_and_documented():
    assert {"benchmark", "auroc", "fpr95", "ece", "rms", "mce", "aurra"} <= set(apr_dali.eval.__all__)
    for name in apr_dali.eval.__all__:
        assert getattr(apr_dali.eval, name).__doc__, name
    with pytest.raises(AttributeError, match="no attribute 'evaluate_nothing'"):
        _ = apr_dali.eval.evaluate_nothing


@pytest.mark.parametrize(("code", "absent"), [
    ("import apr_dali.eval; dir(apr_dali.eval)", ("torch", "nvidia.dali", "sklearn", "scipy")),
    ("from apr_dali.eval import auroc, ece, mce, evaluate", ("nvidia.dali", "timm", "matplotlib")),
])  # fmt: skip
def test_an_import_brings_what_it_needs_alone(code, absent):
    checked = f"{code}; import sys; print([name for name in {absent} if name in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", checked], capture_output=True, text=True, check=True, cwd=ROOT)
    assert ran.stdout == "[]\n"


def test_single_measures_are_those_of_the_tables():
    # Of four pairs of images three are in order, one is a tie.
    assert auroc([2, 3], [1, 2]) == 3.5 / 4
    assert fpr95([2, 3], [1, 2]) == 0.5
