"""Results that are kept: stopped and continued, for the same question alone, and the same in two processes."""

import dataclasses
import hashlib
import json
import os
import shutil
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
from helpers.eval_sets import (
    CLASSES,
    Brightness,
    interrupted_at,
    network,
    random_levels,
    write_levels,
)
from helpers.processes import torchrun
from helpers.project import ROOT
from PIL import Image
from torch import nn

from apr_dali import cli
from apr_dali.errors import InputError
from apr_dali.eval import ood_scoring, passes, session
from apr_dali.eval.state import State


def test_a_stopped_evaluation_goes_on(evaluate, corrupted, monkeypatch, tmp_path):
    root, _ = corrupted
    _, whole = evaluate("corruption", "--data", root)
    shutil.rmtree(tmp_path / "out")
    ran = interrupted_at(monkeypatch, 4)
    status, record = evaluate("corruption", "--data", root)
    assert (status, record) == (130, None)
    status, record = evaluate("corruption", "--data", root)
    assert status == 0
    assert record["result"] == whole["result"]
    assert len(ran) == 10 + 1, "three cells were finished: only the fourth may run twice"


@pytest.fixture
def ran(monkeypatch):
    """The sets that were run over, in place of being taken from an earlier run."""
    real, names = passes.evaluate, []
    monkeypatch.setattr(passes, "evaluate", lambda *arguments: names.append(1) or real(*arguments))
    return names


def same_but(**changes):
    """The same network but for these fields."""
    return dataclasses.replace(network(), **changes)


class Indifferent(Brightness):
    """The weights of another network, and a setting that is no weight."""

    def __init__(self, sharpness: float) -> None:
        super().__init__()
        self.sharpness = sharpness

    def forward(self, images):
        return super().forward(images) * self.sharpness


@pytest.mark.parametrize(
    "other",
    [
        same_but(fingerprint="4567"),
        same_but(std=(0.26,) * 3),
        same_but(image_size=36),
        same_but(classes=("gray", "dark", "light")),
        same_but(model=Indifferent(1.0)),
    ],
    ids=["weights", "std", "size", "classes", "structure"],
)
def test_results_of_another_network_are_not_taken(evaluate, corrupted, ran, other):
    data = corrupted[0] / "fog" / "5"
    evaluate("clean", "--data", data)
    status, record = evaluate("clean", "--data", data, model=other)
    assert (status, record["kept"], len(ran)) == (0, {}, 2)
    # The first network's are there still.
    assert len(evaluate("clean", "--data", data)[1]["kept"]) == 1
    assert len(ran) == 2


def test_networks_that_differ_in_a_setting_alone_differ():
    first, same, second = (session.built_like(Indifferent(value), CLASSES) for value in (1.0, 1.0, -1.0))
    assert first == same != second
    assert session.built_like(Indifferent(1.0).train(), CLASSES) == first
    assert session.built_like(nn.ReLU(), CLASSES[::-1]) != session.built_like(nn.ReLU(), CLASSES)
    assert session.built_like(nn.ReLU(), CLASSES) != session.built_like(nn.GELU(), CLASSES)


def test_kept_results_say_so_and_from_when(evaluate, corrupted, ran, capsys):
    data, began = ["--data", corrupted[0]], datetime.now().astimezone().replace(microsecond=0)
    _, first = evaluate("corruption", *data)
    assert first["kept"] == {}
    assert "of an earlier run" not in capsys.readouterr().out
    _, second = evaluate("corruption", *data)
    assert second["result"] == first["result"]
    assert len(ran) == len(second["kept"]) == 10
    ended = datetime.fromisoformat(first["date"])
    assert all(began <= datetime.fromisoformat(date) <= ended for date in second["kept"].values())
    oldest = min(second["kept"].values())
    assert f"10 parts are of an earlier run, kept since {oldest}" in capsys.readouterr().out


def test_other_clean_images_are_measured_anew(evaluate, corrupted, tmp_path, ran):
    errors = []
    for name, levels in (("a", [40, 50]), ("b", [40, 120])):
        write_levels(tmp_path / name, {"dark": levels, "gray": [128], "light": [210]})
        _, record = evaluate("corruption", "--data", corrupted[0], "--clean", tmp_path / name)
        errors.append(record["result"]["clean_error"])
    assert errors == [0, 0.25]
    assert len(ran) == 10 + 2, "the corruptions are the same"


def test_the_same_path_in_another_folder_is_another_set(evaluate, tmp_path, monkeypatch):
    found = []
    for folder, levels in (("one", [40, 50]), ("two", [40, 120])):
        write_levels(tmp_path / folder / "val", {"dark": levels, "gray": [128], "light": [210]})
        monkeypatch.chdir(tmp_path / folder)
        found.append(evaluate("clean", "--data", "val")[1]["result"]["top1"])
    assert found == [1, 0.75]


def test_a_repaired_set_is_measured_anew(evaluate, tmp_path, ran):
    write_levels(tmp_path / "val", {"dark": [120], "gray": [128], "light": [210]})
    evaluate("clean", "--data", tmp_path / "val")
    path = tmp_path / "val" / "dark" / "00.png"
    size = path.stat().st_size
    Image.new("RGB", (40, 40), (40,) * 3).save(path)
    # The name is the same: the size and the time tell, each alone.
    assert path.stat().st_size != size
    assert evaluate("clean", "--data", tmp_path / "val")[1]["result"]["top1"] == 1
    os.utime(path, ns=(1, 1))
    evaluate("clean", "--data", tmp_path / "val")
    assert len(ran) == 3


def test_what_was_moved_keeps_its_results(evaluate, tmp_path, ran):
    write_levels(tmp_path / "val", random_levels(1))
    _, first = evaluate("clean", "--data", tmp_path / "val", model=same_but(name="cifar of /runs/a/best.pt"))
    (tmp_path / "val").rename(tmp_path / "elsewhere")
    moved = same_but(name="cifar of /kept/a/best.pt")
    _, second = evaluate("clean", "--data", tmp_path / "elsewhere", model=moved)
    assert (len(second["kept"]), len(ran)) == (1, 1)
    assert second["result"] == {**first["result"], "data": str(tmp_path / "elsewhere")}
    assert second["settings"]["network"] == "cifar of /kept/a/best.pt"


def test_a_newer_checkpoint_of_the_same_name_is_another_network(digits_checkpoints, tmp_path):
    Path(tmp_path / "best.pt").write_bytes(Path(digits_checkpoints[0]).read_bytes())
    rng = np.random.default_rng(0)
    for name in map(str, range(10)):
        (tmp_path / "val" / name).mkdir(parents=True)
        Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(tmp_path / "val" / name / "0.png")
    given = ["eval", "clean", str(tmp_path / "best.pt"), "--data", str(tmp_path / "val"), "--device", "cpu"]
    records = []
    for checkpoint in (None, digits_checkpoints[1]):
        if checkpoint:
            Path(tmp_path / "best.pt").write_bytes(Path(checkpoint).read_bytes())
        assert cli.main([*given, "--output", str(tmp_path / "out")]) == 0
        records.append(json.loads((tmp_path / "out" / "clean.json").read_text()))
    first, second = records
    assert first["result"]["loss"] != second["result"]["loss"]
    assert second["kept"] == {}
    sums = [hashlib.sha256(Path(path).read_bytes()).hexdigest() for path in digits_checkpoints]
    assert [record["settings"]["file_sha256"] for record in records] == sums


TWO_PROCESSES = """
import contextlib, json, sys
sys.path.insert(0, sys.argv[1])
from helpers.eval_sets import network
from apr_dali import cli
from apr_dali.eval import session
session.load_model = lambda *_: network()
# A process can join its group once: the second command would find the addresses of the first.
with session.start("cpu") as group:
    session.start = lambda _: contextlib.nullcontext(group)
    status = max(cli.main(arguments) for arguments in json.loads(sys.argv[2]))
sys.exit(status)
"""


@pytest.mark.slow
def test_two_processes_give_the_numbers_of_one(evaluate, corrupted, tmp_path):
    root, _ = corrupted
    # Twelve images for one set, seven for the other: shards and batches of unlike sizes.
    write_levels(tmp_path / "other", {"a": random_levels(3)["gray"] + [99, 150, 210]})
    runs = {
        "corruption": ["--data", str(root)],
        "ood": ["--data", str(root / "fog" / "1"), "--ood", f"other={tmp_path}/other"],
        "calibration": ["--data", str(root / "fog" / "1")],
    }
    one = {kind: evaluate(kind, *arguments)[1] for kind, arguments in runs.items()}
    options = ["--output", str(tmp_path / "two"), "--device", "cpu", "--threads", "1", "--batch-size", "2"]
    commands = [["eval", kind, "model", *arguments, *options] for kind, arguments in runs.items()]
    script = tmp_path / "two.py"
    script.write_text(TWO_PROCESSES)
    ran = torchrun(script, ROOT / "tests", json.dumps(commands), cwd=tmp_path, PYTHONPATH=str(ROOT))
    assert ran.returncode == 0, ran.stderr
    for kind, expected in one.items():
        two = json.loads((tmp_path / "two" / f"{kind}.json").read_text())
        assert two["processes"] == 2
        assert two["result"] == expected["result"]


def test_an_ood_run_goes_on(evaluate, tmp_path, monkeypatch):

    write_levels(tmp_path / "val", random_levels(1))
    write_levels(tmp_path / "far", {"a": [84] * 4})
    arguments = ["--data", tmp_path / "val", "--ood", f"far={tmp_path}/far"]
    _, whole = evaluate("ood", *arguments)
    (tmp_path / "out" / "ood.json").unlink()
    (path,) = (tmp_path / "out").glob("ood.*.state.json")
    state = json.loads(path.read_text())
    (far,) = (key for key in state["parts"] if key.startswith("far "))
    del state["parts"][far]
    path.write_text(json.dumps(state))
    real, ran = ood_scoring.collect, []
    monkeypatch.setattr(ood_scoring, "collect", lambda *given, **more: ran.append(1) or real(*given, **more))
    _, record = evaluate("ood", *arguments)
    assert record["result"] == whole["result"]
    assert len(ran) == 1


def test_state_keeps_what_it_was_given(tmp_path):
    path = tmp_path / "state.json"
    first = State(path, {"size": (1, 2)})
    first.put("a", {"x": 0.1})
    second = State(path, {"size": [1, 2]})
    assert "a" in second
    assert second.get("a") == {"x": 0.1}
    assert first.kept() == {}
    assert list(second.kept()) == ["a"]
    assert "b" not in second
    with pytest.raises(InputError, match=r"size \[1, 2\], now \[1, 3\]"):
        State(path, {"size": [1, 3]})
    path.write_text('{"settings"')
    with pytest.raises(InputError, match="is not the state of an evaluation"):
        State(path, {})


def test_numbers_of_images_belong_to_their_part(tmp_path):
    path = tmp_path / "x.1.state.json"
    first = State(path, {})
    first.put("a/1 ☃", {"x": 1}, np.arange(3.0))
    first.put("b", {"x": 2}, np.arange(4.0))
    second = State(path, {})
    assert second.rows("a/1 ☃").tolist() == [0, 1, 2]
    assert second.get("b") == {"x": 2}
    second.put("c", {})
    files = sorted((tmp_path / "x.1.images").iterdir(), key=lambda file: file.stat().st_size)
    assert len(files) == 2
    files[0].write_bytes(files[0].read_bytes()[:-5])
    third = State(path, {})
    assert "a/1 ☃" not in third, "it is run again"
    assert "b" in third
    assert "c" in third
    files[1].unlink()
    assert "b" not in State(path, {})
