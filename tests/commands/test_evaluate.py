"""The commands `apr-dali eval …` on sets whose right numbers are known, stopped and continued, in two processes."""

import dataclasses
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.eval_sets import (
    CLASSES,
    LEVELS,
    Brightness,
    Ten,
    error_of,
    nearest,
    network,
    packed,
    random_levels,
    write_corruptions,
    write_levels,
)
from helpers.project import ROOT
from PIL import Image
from torch import nn

from apr_dali import cli
from apr_dali.data.arrays import ArraySet, load_set, open_images, open_small
from apr_dali.data.corruption_sets import MARKER, open_corruption_arrays
from apr_dali.data.kinds import CLASSES as CIFAR
from apr_dali.data.sample import tiles
from apr_dali.data.small_corruptions import CORRUPTIONS
from apr_dali.errors import InputError
from apr_dali.eval import calibration, passes, session
from apr_dali.eval import corruption as corruptions
from apr_dali.eval.checks import check_outputs
from apr_dali.eval.datasets import Feeding
from apr_dali.eval.evaluations import corruption as commands
from apr_dali.eval.evaluations import ood
from apr_dali.eval.ood import ood_metrics
from apr_dali.eval.state import State
from apr_dali.runtime.distributed import Group

NAMES = ("fog", "spatter")


@pytest.fixture
def evaluate(monkeypatch, tmp_path):
    """Runs `apr-dali eval KIND …` on a network, and gives the exit status and the record that it wrote."""

    def run(kind: str, *arguments: object, model=None, record: str | None = None):
        made = model or network()
        monkeypatch.setattr(session, "load_model", lambda *_: made)
        output = tmp_path / "out"
        options = ["--output", output, "--device", "cpu", "--threads", 1, "--batch-size", 5]
        status = cli.main(["eval", kind, "model", *map(str, [*arguments, *options])])
        path = output / f"{record or kind}.json"
        return status, json.loads(path.read_text()) if path.is_file() else None

    return run


@pytest.fixture(scope="module")
def corrupted(tmp_path_factory):
    root = tmp_path_factory.mktemp("c")
    return root, write_corruptions(root, NAMES)


def test_tars_are_read_as_the_trainer_reads_them(evaluate, tmp_path, capsys):
    write_levels(tmp_path / "val", random_levels(1))
    tars = packed(tmp_path / "val")
    assert evaluate("clean", "--data", tars)[0] == 2
    assert "has several images: own.png, other.png; say which one to take (--tar-image" in capsys.readouterr().err
    own = ["--tar-image", "own.png", "--tar-label", "id"]
    status, record = evaluate("clean", "--data", tars, *own)
    assert status == 0
    assert record["result"]["top1"] == pytest.approx(1 - error_of(tmp_path / "val"), abs=1e-12)
    assert record["settings"]["tar_label"] == "id"
    other = ["--tar-image", "other.png", "--tar-label", "id"]
    _, of_other = evaluate("clean", "--data", tars, *other)
    assert of_other["result"]["top1"] < record["result"]["top1"], "what is kept is of other images"
    assert evaluate("clean", "--data", tars, *own)[1]["result"] == record["result"]
    for kind in ("clean", "calibration", "autoattack"):
        assert evaluate(kind, "--data", tmp_path / "val", *own)[0] == 2
        assert f"have no effect on {tmp_path / 'val'}: no tars of samples there" in capsys.readouterr().err


@pytest.mark.slow
def test_components_are_of_those_sets_that_have_tars(evaluate, corrupted, tmp_path, capsys):
    write_levels(tmp_path / "val", random_levels(1))
    write_levels(tmp_path / "near", {"a": list(range(60, 110, 5))})
    tars, own = packed(tmp_path / "val"), ["--tar-image", "own.png", "--tar-label", "id"]
    status, record = evaluate("ood", "--data", tars, "--ood", f"near={tmp_path}/near", *own)
    assert status == 0
    expected = ood_metrics(scores_of(tmp_path / "val")["energy"], scores_of(tmp_path / "near")["energy"])
    found = record["result"]["scores"]["energy"]["near"]
    assert {key: found[key] for key in expected} == pytest.approx(expected, abs=1e-6)
    root, _ = corrupted
    status, record = evaluate("corruption", "--data", root, "--clean", tars, *own)
    assert status == 0
    assert record["result"]["clean_error"] == pytest.approx(error_of(tmp_path / "val"), abs=1e-12)
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "val").symlink_to(tars)
    (tmp_path / "root" / "imagenet-c").symlink_to(root)
    status, record = evaluate("all", "--data-root", tmp_path / "root", *own, record="report")
    assert (status, sorted(record["evaluations"])) == (0, ["calibration", "clean", "corruption"])
    # Where no set has tars they change nothing.
    (tmp_path / "root" / "val").unlink()
    (tmp_path / "root" / "val").symlink_to(tmp_path / "val")
    for command in (
        ("ood", "--data", tmp_path / "val", "--ood", f"near={tmp_path}/near"),
        ("corruption", "--data", root),
        ("corruption", "--data", root, "--clean", tmp_path / "val"),
        ("all", "--data-root", tmp_path / "root"),
    ):
        capsys.readouterr()
        assert evaluate(*command, *own)[0] == 2
        assert "(--tar-image, --tar-label) have no effect on" in capsys.readouterr().err


# ---- corruptions -----------------------------------------------------------------------------------------------------


def test_clean(evaluate, tmp_path, capsys):
    write_levels(tmp_path / "val", random_levels(1))
    status, record = evaluate("clean", "--data", tmp_path / "val")
    assert status == 0
    assert record["result"]["top1"] == pytest.approx(1 - error_of(tmp_path / "val"), abs=1e-12)
    assert record["result"]["images"] == 12
    assert record["settings"]["fingerprint"] == "0123"
    assert "torch" in record["versions"]
    assert f"top-1 {record['result']['top1']:.2%}" in capsys.readouterr().out


def test_a_person_says_what_a_network_sees_where_it_does_not(evaluate, tmp_path, capsys):
    write_levels(tmp_path / "v", random_levels(5), border=6)
    right = network()
    _, expected = evaluate("clean", "--data", tmp_path / "v", model=right)
    assumed = dataclasses.replace(right, mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7), seen_from="assumed")
    status, before = evaluate("clean", "--data", tmp_path / "v", model=assumed)
    assert (status, before["result"] != expected["result"]) == (0, True)
    given = ["--mean", 0.5, 0.5, 0.5, "--std", 0.25, 0.25, 0.25]
    status, record = evaluate("clean", "--data", tmp_path / "v", *given, model=assumed)
    assert status == 0
    assert record["result"] == expected["result"]
    assert record["settings"]["seen_from"] == "assumed; --mean, --std as given"
    assert "values in 0..1 less (0.5, 0.5, 0.5) over (0.25, 0.25, 0.25); assumed; --mean" in capsys.readouterr().out
    more = ["--crop-pct", 0.5, "--interpolation", "bicubic"]
    _, record = evaluate("clean", "--data", tmp_path / "v", *given, *more, model=assumed)
    assert record["settings"]["scaling"] == {"over_crop": 2.0, "filter": "bicubic", "geometry": "center"}
    # What is said twice alike is no conflict.
    assert evaluate("clean", "--data", tmp_path / "v", *given, model=right)[0] == 0


@pytest.mark.parametrize(
    ("given", "seen_from", "told"),
    [
        (["--mean", "0", "0", "0"], "its training", "was trained to see images shorter side scaled"),
        (["--crop-pct", "0.5"], "its training", "leave out --crop-pct"),
        (["--std", "0", "1", "1"], "assumed", "--std must be three positive numbers, got [0.0, 1.0, 1.0]"),
        (["--mean", "nan", "0", "0"], "assumed", "--mean must be three numbers, got [nan, 0.0, 0.0]"),
        (["--crop-pct", "nan"], "assumed", "--crop-pct must be a positive number, got nan"),
    ],
)
def test_what_a_network_sees_is_not_said_against_it(evaluate, given, seen_from, told, tmp_path, capsys):
    model = dataclasses.replace(network(), seen_from=seen_from)
    assert evaluate("clean", "--data", tmp_path, *given, model=model) == (2, None)
    assert told in capsys.readouterr().err


def test_corruption_folders(evaluate, corrupted, tmp_path, capsys):
    root, errors = corrupted
    write_levels(tmp_path / "val", random_levels(1))
    status, record = evaluate("corruption", "--data", root, "--clean", tmp_path / "val")
    assert status == 0
    result = record["result"]
    assert result["errors"] == {name: pytest.approx(row, abs=1e-12) for name, row in errors.items()}
    assert len({*errors["fog"], *errors["spatter"]}) > 3, "a set on which all cells agree shows nothing"
    assert result["clean_error"] == pytest.approx(error_of(tmp_path / "val"), abs=1e-12)
    assert result["mean_error"] == pytest.approx(np.mean(errors["fog"]), abs=1e-12)
    assert result["images"] == 12
    assert "mce" not in result
    assert (result["kind"], result["averaged"], result["classes"]) == ("own", ["fog"], 3)
    shown = capsys.readouterr().out
    assert "mCE" not in shown
    assert "ImageNet" not in shown
    assert f"own set {root.name}: 3 classes, 12 images per cell" in shown
    assert f"mean error over 1 of 15 corruptions (fog): {100 * np.mean(errors['fog']):.2f} %" in shown
    assert "gaussian_noise, shot_noise" in shown
    with Image.open(tmp_path / "out" / "corruption-errors.png") as picture:
        assert picture.width > 500


def test_a_stopped_evaluation_goes_on(evaluate, corrupted, monkeypatch, tmp_path):
    root, _ = corrupted
    _, whole = evaluate("corruption", "--data", root)
    for path in (tmp_path / "out").iterdir():
        path.unlink()
    real, ran = passes.evaluate, []

    def stops_at_the_fourth(*arguments):
        ran.append(1)
        if len(ran) == 4:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(passes, "evaluate", stops_at_the_fourth)
    status, record = evaluate("corruption", "--data", root)
    assert (status, record) == (130, None)
    status, record = evaluate("corruption", "--data", root)
    assert status == 0
    assert record["result"] == whole["result"]
    assert len(ran) == 10 + 1, "three cells were finished: only the fourth may run twice"


# ---- kept results ----------------------------------------------------------------------------------------------------


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
    data = ["--data", corrupted[0]]
    _, first = evaluate("corruption", *data)
    assert first["kept"] == {}
    assert "of an earlier run" not in capsys.readouterr().out
    _, second = evaluate("corruption", *data)
    assert second["result"] == first["result"]
    assert len(ran) == len(second["kept"]) == 10
    assert {date[:10] for date in second["kept"].values()} == {first["date"][:10]}
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
    }
    one = {kind: evaluate(kind, *arguments)[1] for kind, arguments in runs.items()}
    options = ["--output", str(tmp_path / "two"), "--device", "cpu", "--threads", "1", "--batch-size", "2"]
    commands = [["eval", kind, "model", *arguments, *options] for kind, arguments in runs.items()]
    script = tmp_path / "two.py"
    script.write_text(TWO_PROCESSES)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command = [*torchrun, str(script), str(ROOT / "tests"), json.dumps(commands)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    ran = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert ran.returncode == 0, ran.stderr
    for kind, expected in one.items():
        two = json.loads((tmp_path / "two" / f"{kind}.json").read_text())
        assert two["processes"] == 2
        assert two["result"] == expected["result"]


def write_arrays(root: Path, count: int = 10) -> tuple[dict[str, np.ndarray], np.ndarray]:
    rng = np.random.default_rng(0)
    root.mkdir()
    labels = np.tile(rng.integers(0, 3, count), 5)
    levels = np.array(LEVELS)[labels] + np.repeat([10, 20, 40, 60, 80], count) * rng.normal(size=5 * count)
    noise = rng.integers(-5, 6, (5 * count, 32, 32, 3))
    images = {"fog": np.clip(levels[:, None, None, None] + noise, 0, 255).astype(np.uint8)}
    images["snow"] = images["fog"][::-1].copy()
    for name, array in images.items():
        np.save(root / f"{name}.npy", array)
    np.save(root / "labels.npy", labels)
    return images, labels


def test_corruption_arrays(evaluate, tmp_path):
    images, labels = write_arrays(tmp_path / "cifar")
    status, record = evaluate("corruption", "--data", tmp_path / "cifar", model=network(32))
    assert status == 0
    wrong = {
        name: np.array([nearest(image) != CLASSES[label] for image, label in zip(array, labels, strict=True)])
        for name, array in images.items()
    }
    expected = {name: values.reshape(5, -1).mean(1) for name, values in wrong.items()}
    assert record["result"]["errors"] == {name: pytest.approx(row, abs=1e-12) for name, row in expected.items()}
    assert 0 < expected["fog"].mean() < 1
    assert (record["result"]["kind"], record["result"]["name"]) == ("own", "own set cifar")


def test_corruption_arrays_are_for_networks_of_their_size(evaluate, tmp_path, capsys):
    write_arrays(tmp_path / "cifar")
    assert evaluate("corruption", "--data", tmp_path / "cifar", model=network(40)) == (2, None)
    assert "cifar has images of 32×32, and brightness takes 40×40" in capsys.readouterr().err


@pytest.mark.parametrize("world", [1, 2, 3])
def test_processes_share_the_images_of_an_array(world):
    """Each image once, to the last one, whatever the number of processes."""
    images = np.arange(11, dtype=np.uint8)[:, None, None, None] * np.ones((1, 32, 32, 3), np.uint8)
    seen = []
    for rank in range(world):
        group = Group(rank, world, rank, torch.device("cpu"))
        source = Feeding(network(32), group, 2, "none").array("levels", images, np.arange(11))
        with source.open() as batches:
            for batch, labels in batches:
                assert len(batch) == len(labels) <= 2
                levels = (batch * 0.25 + 0.5) * 255
                expected = labels[:, None, None, None].expand_as(levels).float()
                torch.testing.assert_close(levels, expected, atol=1e-4, rtol=0)
                seen += labels.tolist()
    assert seen == list(range(11))


def test_corruption_arrays_stay_on_the_disk(tmp_path):
    write_arrays(tmp_path / "cifar")
    arrays = open_corruption_arrays(tmp_path / "cifar", 3)
    assert isinstance(arrays.images["fog"], np.memmap)
    assert isinstance(arrays.severity("fog", 3), np.memmap)


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        (
            "fog",
            np.zeros((50, 32, 32), np.uint8),
            r"expected uint8 \(50, 32, 32, 3\).*got uint8 \(50, 32, 32\)",
        ),
        ("fog", np.zeros((50, 32, 32, 3), np.float32), "got float32"),
        ("fog", np.zeros((40, 32, 32, 3), np.uint8), r"as many as labels, got uint8 \(40"),
        ("labels", np.arange(50) % 4, r"labels in 0\.\.2, got 0\.\.3"),
        ("labels", np.arange(49) % 3, r"five severities of N each, got int64 \(49,\)"),
        ("labels", np.zeros(50), "expected integers"),
        ("labels", np.arange(50) % 3, "must have the same labels"),
    ],
)
def test_bad_arrays_are_named(tmp_path, name, array, message):
    write_arrays(tmp_path / "cifar")
    np.save(tmp_path / "cifar" / f"{name}.npy", array)
    with pytest.raises(InputError, match=message):
        open_corruption_arrays(tmp_path / "cifar", 3)


def test_labels_of_one_severity_and_clean_images_beside(tmp_path):
    images, labels = write_arrays(tmp_path / "cifar")
    published = open_corruption_arrays(tmp_path / "cifar", 3)
    np.save(tmp_path / "cifar" / "labels.npy", labels[:10])
    np.save(tmp_path / "cifar" / "original.npy", images["fog"][:10])
    with pytest.warns(UserWarning, match=r"left out .*original\.npy: clean images are no corruption"):
        found = open_corruption_arrays(tmp_path / "cifar", 3)
    np.testing.assert_array_equal(found.labels, published.labels)
    assert list(found.images) == ["fog", "snow"]
    np.testing.assert_array_equal(found.severity("snow", 4), images["snow"][30:40])
    # Where the arrays do not agree, none of them says what the labels are of.
    np.save(tmp_path / "cifar" / "snow.npy", images["snow"][:10])
    with pytest.warns(UserWarning, match="left out"), pytest.raises(InputError, match="must have the same labels"):
        open_corruption_arrays(tmp_path / "cifar", 3)


def test_a_cut_off_array_is_named(tmp_path):
    write_arrays(tmp_path / "cifar")
    path = tmp_path / "cifar" / "fog.npy"
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(InputError, match=r"fog.npy is not a whole .npy file"):
        open_corruption_arrays(tmp_path / "cifar", 3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda root: (root / "fog" / "3").rename(root / "fog" / "x"), "fog lacks the severity 3"),
        (lambda root: (root / "fog" / "2" / "extra").mkdir(), "fog/2 has more than the network's classes: extra"),
        (lambda root: (root / "fog" / "2" / "gray").rename(root / "gray"), "fog/2 lacks gray"),
        (lambda root: (root / "fog").rename(root.parent / "elsewhere"), "holds no corruption"),
    ],
)
def test_broken_trees_are_named_before_anything_runs(evaluate, tmp_path, change, message, capsys, monkeypatch):
    write_corruptions(tmp_path / "c", ("fog",))
    change(tmp_path / "c")
    monkeypatch.setattr(passes, "evaluate", lambda *_: pytest.fail("it started"))
    status, _ = evaluate("corruption", "--data", tmp_path / "c")
    assert status == 2
    assert message in capsys.readouterr().err


def test_cells_of_unlike_sizes_are_refused(evaluate, tmp_path, capsys):
    write_corruptions(tmp_path / "c", ("fog", "snow"))
    for number in (1, 2):
        (tmp_path / "c" / "snow" / "4" / "dark" / f"{number:02d}.png").unlink()
    status, record = evaluate("corruption", "--data", tmp_path / "c")
    assert (status, record) == (2, None)
    assert "9 of 10 cells have 12 images, the others not: snow/4 10" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("generated", [False, True])
@pytest.mark.parametrize(
    ("classes", "cell", "kind"), [(CLASSES, 12, "whole"), (CLASSES[:2], 12, "own"), (CLASSES, 13, "own")]
)
def test_imagenet_c_has_imagenets_classes_and_full_cells(
    evaluate, tmp_path, monkeypatch, classes, cell, kind, generated, capsys
):
    # In place of ImageNet's: these three classes, and so many images per cell.
    monkeypatch.setattr(commands, "is_imagenet", lambda given: tuple(given) == classes)
    monkeypatch.setitem(corruptions.CELLS, "imagenet-c", cell)
    monkeypatch.setitem(corruptions.CELLS, "generated", cell)
    write_corruptions(tmp_path / "c", corruptions.CORRUPTIONS if kind == "whole" else ("fog",))
    if generated:
        (tmp_path / "c" / MARKER).write_text('{"finished": true}')
    _, record = evaluate("corruption", "--data", tmp_path / "c")
    result = record["result"]
    wanted = "own" if kind == "own" else "generated" if generated else "imagenet-c"
    assert result["kind"] == wanted
    for measure in ("ce", "mce"):
        assert (measure in result) == (wanted == "imagenet-c")
        assert (f"generated_{measure}" in result) == (wanted == "generated")
    told = capsys.readouterr().out
    assert ("\nmCE " in told) == (wanted == "imagenet-c")
    assert ("ImageNet-C: " in told) == (wanted == "imagenet-c")
    assert ("generated set" in told or "made by apr-dali make-c" in told) == generated
    if wanted == "imagenet-c":
        assert result["mce"] == pytest.approx(np.mean(list(result["ce"].values())))
        line = next(line for line in told.splitlines() if line.startswith("fog "))
        assert float(line.split()[-1]) == pytest.approx(result["ce"]["fog"], abs=0.05)


@pytest.mark.parametrize(
    ("each", "classes", "trained_on", "kind"),
    [
        ([3] * 10, CIFAR["cifar10"], "", "cifar-10-c"),
        ([3] * 10, CIFAR["cifar10"], "folder", "cifar-10-c"),
        ([3] * 10, tuple("0123456789"), "", "cifar-10-c"),
        ([3] * 10, tuple("0123456789"), "digits", "own"),
        ([3] * 10, tuple("0123456789"), "folder", "own"),
        ([3] * 10, CIFAR["cifar10"][::-1], "", "own"),
        ([2, 4, *[3] * 8], CIFAR["cifar10"], "", "own"),
        ([2] * 10, CIFAR["cifar10"], "", "own"),
    ],
)
def test_cifar_c_has_cifars_classes_and_full_cells(evaluate, tmp_path, monkeypatch, each, classes, trained_on, kind):
    monkeypatch.setitem(corruptions.CELLS, "cifar-10-c", 30)
    labels = np.repeat(np.arange(10), each)
    model = dataclasses.replace(network(32, Ten(), classes), trained_on=trained_on)
    (tmp_path / "set").mkdir()
    np.save(tmp_path / "set" / "labels.npy", np.tile(labels, 5))
    np.save(tmp_path / "set" / "fog.npy", np.full((5 * len(labels), 32, 32, 3), 40, np.uint8))
    _, record = evaluate("corruption", "--data", tmp_path / "set", model=model)
    assert (record["result"]["kind"], record["result"]["images"]) == (kind, len(labels))
    # Those of make-c have as many images, and other draws than the published ones.
    (tmp_path / "set" / MARKER).write_text('{"finished": true}')
    _, record = evaluate("corruption", "--data", tmp_path / "set", model=model)
    assert (record["result"]["kind"], record["result"]["name"]) == ("own", "own set set, made by apr-dali make-c")


def test_only_imagenets_classes_are_imagenets():
    from apr_dali.eval.class_names import imagenet_classes, is_imagenet

    names = imagenet_classes()
    assert is_imagenet(names)
    assert is_imagenet(names[::-1])
    assert not is_imagenet(names[:16])
    assert not is_imagenet(("n00000000", *names[1:]))


def test_images_smaller_than_the_crop_are_named(evaluate, corrupted, capsys):
    status, _ = evaluate("corruption", "--data", corrupted[0], model=network(64))
    assert status == 2
    assert "60×60 pixels: expected at least 64 per side" in capsys.readouterr().err


# ---- what networks can get wrong -------------------------------------------------------------------------------------


class Wrong(nn.Module):
    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits = Brightness()(images)
        if self.kind == "nan":
            logits = torch.where(torch.arange(len(logits))[:, None] == 1, torch.nan, logits)
        if self.kind == "later":
            logits = torch.where(images.mean((1, 2, 3))[:, None] > 0.5, torch.nan, logits)
        if self.kind == "fails":
            raise AssertionError("Wrong image height! Expected 224 but got 40!")
        return {
            "later": logits,
            "nan": logits,
            "softmax": logits.softmax(1),
            "classes": logits[:, :2],
            "flat": logits[:, 0],
        }[self.kind]


@pytest.mark.parametrize(
    ("evaluation", "kind", "message"),
    [
        ("corruption", "nan", "nan or infinite for 1 of the first 5 images"),
        ("ood", "nan", "nan or infinite for 1 of the first 5 images"),
        ("calibration", "nan", "nan or infinite for 1 of the first 5 images"),
        ("clean", "nan", "nan or infinite for 1 of the first 5 images"),
        ("clean", "fails", "fails on 5 images of the shape (3, 40, 40) (AssertionError: Wrong image height!"),
        ("clean", "softmax", "gives probabilities: expected logits"),
        ("clean", "classes", "shape (5, 3), got (5, 2)"),
        ("clean", "flat", "shape (5, 3), got (5,)"),
    ],
)
def test_wrong_outputs_are_named_before_anything_runs(evaluate, corrupted, kind, message, evaluation, capsys):
    data = corrupted[0] if evaluation == "corruption" else corrupted[0] / "fog" / "1"
    more = ["--ood", f"x={corrupted[0]}/fog/2"] if evaluation == "ood" else []
    status, record = evaluate(evaluation, "--data", data, *more, model=network(model=Wrong(kind)))
    assert (status, record) == (2, None)
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("evaluation", "message"),
    [
        ("corruption", "nan or infinite for some of the 12 images of fog/1"),
        ("clean", "nan or infinite for some of the 12 images of clean"),
        ("ood", "nan or infinite for 3 of 12 images"),
        ("calibration", "nan or infinite for 3 of 12 images"),
        ("autoattack", "nan or infinite for 1 of 5 images"),
    ],
)
def test_outputs_that_break_later_are_no_result(evaluate, tmp_path, evaluation, message, capsys):
    """The last three images are light: the first batch of five, which is looked at beforehand, is sound."""
    levels = {"dark": [40] * 5, "gray": [128] * 4, "light": [215] * 3}
    for name in ("val", "c/fog/1", "c/fog/2", "c/fog/3", "c/fog/4", "c/fog/5"):
        write_levels(tmp_path / name, levels)
    data = tmp_path / ("c" if evaluation == "corruption" else "val")
    more = {"ood": ["--ood", f"x={tmp_path}/val"], "autoattack": ["--version", "apgd-ce"]}
    model = network(model=Wrong("later"), classes=CLASSES)
    status, record = evaluate(evaluation, "--data", data, *more.get(evaluation, []), model=model)
    assert (status, record) == (2, None)
    assert message in capsys.readouterr().err
    # What is kept for the next time is no result either.
    assert not any('"images"' in path.read_text() for path in (tmp_path / "out").glob("*.state.json"))


def test_checking_leaves_the_mode_as_it_was():
    model = Brightness().train()
    check_outputs(model, torch.zeros(2, 3, 8, 8), 3)
    assert model.training


# ---- out of distribution, calibration --------------------------------------------------------------------------------


def scores_of(folder: Path) -> dict[str, np.ndarray]:
    levels = [np.asarray(Image.open(path)).astype(np.float64).mean() for path in sorted(folder.glob("*/*.png"))]
    logits = -np.abs(np.array(levels)[:, None] - LEVELS) / 10
    exponentials = np.exp(logits)
    return {
        "max-softmax": (exponentials / exponentials.sum(1, keepdims=True)).max(1),
        "max-logit": logits.max(1),
        "energy": np.log(exponentials.sum(1)),
    }


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


def test_digits_by_their_name_in_every_evaluation(evaluate, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = network(32, classes=tuple("0123456789"), model=Ten())
    expected = load_set("digits", "val")
    for kind, more in (
        ("clean", []),
        ("calibration", []),
        ("ood", ["--ood", "same=digits"]),
        ("autoattack", ["--limit", 4, "--version", "apgd-ce"]),
    ):
        status, record = evaluate(kind, "--data", "digits", *more, model=model)
        assert status == 0
        if kind == "clean":
            assert record["result"]["images"] == len(expected)
            assert record["result"]["top1"] == pytest.approx((expected.labels == 3).mean())
        if kind == "ood":
            assert record["result"]["scores"]["energy"]["same"]["auroc"] == pytest.approx(0.5)


class Bright(nn.Module):
    """The digit 0 for images below a mean level, else 3."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        bright = images.mean((1, 2, 3))[:, None] * 0.25 + 0.5 > 80.5 / 255
        return 5 * torch.where(bright, torch.eye(10)[3], torch.eye(10)[0])


def test_digits_are_corrupted_on_the_fly(evaluate, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    model = network(32, classes=tuple("0123456789"), model=Bright())
    status, record = evaluate("corruption", "--data", "digits", "--clean", "digits", model=model)
    assert status == 0
    digits, result = load_set("digits", "val"), record["result"]
    for name, (corrupt, strengths) in CORRUPTIONS.items():
        for strength, error in zip(strengths, result["errors"][name], strict=True):
            bright = corrupt(digits.images, strength).mean((1, 2, 3)) > 80.5
            assert error == pytest.approx((np.where(bright, 3, 0) != digits.labels).mean()), name
    assert len({error for row in result["errors"].values() for error in row}) > 3
    assert result["mean_error"] == pytest.approx(np.mean(list(result["errors"].values())))
    assert result["kind"] == "digits"
    assert not {"ce", "mce", "generated_mce"} & set(result)
    told = capsys.readouterr().out
    assert "corrupted digits (made here, no published set): 10 classes, 355 images per cell" in told
    assert "missing" not in told
    assert "CIFAR" not in told
    assert f"mean error over 7 corruptions made here: {100 * result['mean_error']:.2f} %" in told


@pytest.mark.parametrize(
    ("size", "classes", "given", "message"),
    [
        (40, "0123456789", ["corruption", "--data", "digits"], "digits is a set of 32×32 images, and brightness takes"),
        (40, "0123456789", ["ood", "--data", "digits", "--ood", "x=digits"], "digits is a set of 32×32 images"),
        (40, "0123456789", ["clean", "--data", "digits"], "digits is a set of 32×32 images"),
        (40, "0123456789", ["shift", "imagenet-a", "--data", "digits"], "digits has none of ImageNet's classes"),
        (32, "abcdefghij", ["corruption", "--data", "digits"], "digits has 10 classes"),
    ],
)
def test_where_digits_make_no_sense(evaluate, tmp_path, monkeypatch, size, classes, given, message, capsys):
    monkeypatch.chdir(tmp_path)
    kind, *more = given
    status, record = evaluate(kind, *more, model=network(size, classes=tuple(classes), model=Ten()), record="x")
    assert (status, record) == (2, None)
    assert message in capsys.readouterr().err


def test_photographs_are_a_set_for_small_networks(evaluate, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    given = ["ood", "--data", "digits", "--ood", "p=photographs"]
    model = network(32, classes=tuple("0123456789"), model=Ten())
    status, record = evaluate(*given, model=model)
    assert status == 0
    inside, outside = load_set("digits", "val").images, tiles(32, 400)
    levels = [images.astype(np.float64).mean((1, 2, 3)) for images in (inside, outside)]
    # The brighter, the surer.
    expected = ood_metrics(*levels)["auroc"]
    assert record["result"]["scores"]["max-logit"]["p"]["auroc"] == pytest.approx(expected, abs=1e-3)
    (tmp_path / "val").mkdir()
    write_levels(tmp_path / "v", {"dark": [40], "gray": [120], "light": [200]})
    assert evaluate("ood", "--data", tmp_path / "v", "--ood", "p=photographs")[0] == 2
    assert "its tiles of 32×32 pixels are for networks of small images" in capsys.readouterr().err


def test_a_small_network_of_scaled_images_scales_them_out_of_distribution_too(evaluate, tmp_path):
    model = dataclasses.replace(network(32), scaled_whole=True)
    write_levels(tmp_path / "v", {"dark": [40, 50], "gray": [120, 60], "light": [200, 160]}, border=20)
    status, clean = evaluate("clean", "--data", tmp_path / "v", model=model)
    assert status == 0
    status, found = evaluate("ood", "--data", tmp_path / "v", "--ood", f"x={tmp_path}/v/dark", model=model)
    assert status == 0
    assert found["result"]["images"] == clean["result"]["images"] == 6


def test_an_ood_run_goes_on(evaluate, tmp_path, monkeypatch):
    from apr_dali.eval.evaluations import ood

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
    real, ran = ood.collect, []
    monkeypatch.setattr(ood, "collect", lambda *arguments: ran.append(1) or real(*arguments))
    _, record = evaluate("ood", *arguments)
    assert record["result"] == whole["result"]
    assert len(ran) == 1


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


def test_small_sets(tmp_path, crops):
    from scipy.io import savemat

    images = crops(3, 32, 32)
    savemat(tmp_path / "test_32x32.mat", {"X": images.transpose(1, 2, 3, 0), "y": np.array([[10], [1], [9]])})
    got, labels = open_images(tmp_path / "test_32x32.mat")
    np.testing.assert_array_equal(got, images)
    assert labels.tolist() == [0, 1, 9]
    assert open_small(tmp_path / "test_32x32.mat").classes == tuple("0123456789")
    for index, image in enumerate(images):
        folder = tmp_path / "files" / "ab"[index // 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / f"{index}.png")
    got, labels = open_images(tmp_path / "files")
    np.testing.assert_array_equal(got, images)
    assert labels.tolist() == [0, 0, 1]
    assert open_small(tmp_path / "files").classes == ("a", "b")
    Image.fromarray(images[0][:31]).save(tmp_path / "files" / "small.png")
    with pytest.raises(InputError, match=r"small.png: expected 32×32 pixels, got 32×31"):
        open_images(tmp_path / "files")
    savemat(tmp_path / "bad.mat", {"X": images, "y": np.zeros(3)})
    with pytest.raises(InputError, match=r"expected X as uint8 \(32, 32, 3, N\), got uint8 \(3, 32, 32, 3\)"):
        open_images(tmp_path / "bad.mat")
    whole = (tmp_path / "test_32x32.mat").read_bytes()
    for length in (0, 1, 100, 130, 200, len(whole) // 2, len(whole) - 1):
        (tmp_path / "cut.mat").write_bytes(whole[:length])
        with pytest.raises(InputError, match=r"cut.mat is not SVHN's .mat file with X and y"):
            open_images(tmp_path / "cut.mat")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no image"):
        open_images(tmp_path / "empty")


def write_small(root: Path, levels: dict[str, list[int]]) -> None:
    for name, values in levels.items():
        (root / name).mkdir(parents=True)
        for index, level in enumerate(values):
            Image.new("RGB", (32, 32), (level,) * 3).save(root / name / f"{index}.png")


@pytest.mark.parametrize(
    ("classes", "levels", "top1"),
    [
        (CLASSES, {"gray": [128, 120, 40], "light": [215]}, 0.75),  # without the first class
        (("1", "2", "10"), {"10": [215, 210], "2": [128], "1": [40, 215]}, 0.8),  # as text 10 comes before 2
    ],
)
def test_labels_of_small_images_go_by_name(evaluate, tmp_path, classes, levels, top1):
    write_small(tmp_path / "set", levels)
    _, record = evaluate("clean", "--data", tmp_path / "set", model=network(32, classes=classes))
    assert record["result"]["top1"] == top1
    assert record["result"]["images"] == sum(map(len, levels.values()))


@pytest.mark.parametrize(
    ("kind", "more"), [("clean", ()), ("calibration", ()), ("ood", ("--ood", "x={set}")), ("autoattack", ())]
)
@pytest.mark.parametrize(
    ("folders", "message"),
    [
        (("zero", "one"), "has 2 classes (one, zero), the network 3 (dark, gray, light): labels go by name, and 2 of"),
        (("0", "1", "2"), "has 3 classes (0, 1, 2), the network 3 (dark, gray, light): labels go by name, and 3 of"),
        (("train/dark", "val/dark"), "are none of the network's; give {set}/val"),
        (
            ("dark", "grey"),
            "has 2 classes (dark, grey), the network 3 (dark, gray, light): labels go by name, and 1 of",
        ),
    ],
)
def test_small_images_of_other_classes_are_refused(evaluate, tmp_path, kind, more, folders, message, capsys):
    write_small(tmp_path / "set", {name: [40, 128] for name in folders})
    given = [item.format(set=tmp_path / "set") for item in more]
    status, record = evaluate(kind, "--data", tmp_path / "set", *given, model=network(32))
    assert (status, record) == (2, None)
    assert message.format(set=tmp_path / "set") in capsys.readouterr().err


def test_another_cifar_is_refused(evaluate, tmp_path, monkeypatch, capsys):
    ten = ArraySet(np.zeros((2, 32, 32, 3), np.uint8), np.array([0, 1]), ("airplane", "automobile"))
    monkeypatch.setattr("apr_dali.data.arrays.load_set", lambda *_: ten)
    (tmp_path / "cifar-10-batches-py").mkdir()
    hundred = tuple(f"class {n}" for n in range(100))
    status, _ = evaluate("clean", "--data", tmp_path / "cifar-10-batches-py", model=network(32, classes=hundred))
    assert status == 2
    told = capsys.readouterr().err
    assert "has 2 classes (airplane, automobile), the network 100 (class 0, class 1, " in told
    assert "class 9, … and 90 more)" in told


def test_labels_without_names_say_what_they_assume(evaluate, tmp_path, capsys):
    write_arrays(tmp_path / "cifar")
    _, record = evaluate("corruption", "--data", tmp_path / "cifar", model=network(32))
    assumed = "labels.npy has no names: its label n is taken for the network's class n (0 dark, 1 gray, 2 light)"
    assert record["result"]["labels"] == assumed
    assert assumed in capsys.readouterr().out
    with pytest.raises(InputError, match=r"has labels of 3 classes, 0\.\.2, the network has 100: give the set of"):
        open_corruption_arrays(tmp_path / "cifar", 100)


def test_calibration(evaluate, tmp_path):
    write_levels(tmp_path / "val", random_levels(2, count=9, spread=70))
    status, record = evaluate("calibration", "--data", tmp_path / "val")
    assert status == 0
    paths = sorted((tmp_path / "val").glob("*/*.png"))
    levels = [np.asarray(Image.open(path)).astype(np.float64).mean() for path in paths]
    labels = np.array([CLASSES.index(path.parent.name) for path in paths])
    # The network sees them resized, which moves their means by a fraction of a level.
    logits = torch.tensor(-np.abs(np.array(levels)[:, None] - LEVELS) / 10)
    tuned = np.arange(len(paths)) % 5 == 0
    temperature = calibration.fit_temperature(logits[tuned], labels[tuned])
    assert record["result"]["temperature"] == pytest.approx(temperature, rel=1e-2)
    before, after = record["result"]["rows"].values()
    assert before["ece"] == pytest.approx(calibration.ece(logits[~tuned].softmax(1), labels[~tuned]), abs=3e-3)
    scaled = (logits[~tuned] / temperature).softmax(1)
    assert after["ece"] == pytest.approx(calibration.ece(scaled, labels[~tuned]), abs=1e-2)
    assert before["accuracy"] == after["accuracy"]


@pytest.mark.parametrize("count", [1, 2])
def test_calibration_of_few_images(evaluate, tmp_path, count, capsys):
    write_levels(tmp_path / "val", {"dark": [40], "gray": [128][: count - 1], "light": []})
    (tmp_path / "val" / "list.txt").touch()
    model = network(32)
    for path in list((tmp_path / "val").glob("*/*.png")):
        Image.open(path).resize((32, 32)).save(path)
    status, record = evaluate("calibration", "--data", tmp_path / "val", model=model)
    if count == 1:
        assert (status, record) == (2, None)
        assert "calibration needs two images or more, got 1" in capsys.readouterr().err
    else:
        assert status == 0
        assert next(iter(record["result"]["rows"].values()))["images"] == 1


# ---- state -----------------------------------------------------------------------------------------------------------


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
