"""The commands `apr-dali eval …` on sets whose right numbers are known, stopped and continued, in two processes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from eval_sets import (
    CLASSES,
    LEVELS,
    Brightness,
    error_of,
    nearest,
    network,
    random_levels,
    write_corruptions,
    write_levels,
)
from PIL import Image
from torch import nn

from apr_dali import cli
from apr_dali.commands import session
from apr_dali.commands.sources import Feeding
from apr_dali.data.corruption_sets import open_corruption_arrays
from apr_dali.data.small_sets import open_images, open_small
from apr_dali.errors import InputError
from apr_dali.eval import calibration, passes
from apr_dali.eval.checks import check_outputs
from apr_dali.eval.ood import ood_metrics
from apr_dali.eval.state import State
from apr_dali.training.distributed import Group

ROOT = Path(__file__).resolve().parent.parent
NAMES = ("fog", "spatter")


@pytest.fixture
def evaluate(monkeypatch, tmp_path):
    """Runs `apr-dali eval KIND …` on a network, and gives the exit status and the record that it wrote."""

    def run(kind: str, *arguments: object, model=None, record: str | None = None):
        made = model or network()
        monkeypatch.setattr(session, "load_network", lambda *_: made)
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
    shown = capsys.readouterr().out
    assert "mCE" not in shown
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


def test_results_of_another_network_are_not_taken(evaluate, corrupted, capsys):
    evaluate("corruption", "--data", corrupted[0])
    other = network(model=Brightness())
    object.__setattr__(other, "fingerprint", "4567")
    status, _ = evaluate("corruption", "--data", corrupted[0], model=other)
    assert status == 2
    assert "fingerprint '0123', now '4567'" in capsys.readouterr().err


TWO_PROCESSES = """
import contextlib, json, sys
sys.path.insert(0, sys.argv[1])
from eval_sets import network
from apr_dali import cli
from apr_dali.commands import session
session.load_network = lambda *_: network()
# A process can join its group once: the second command would find the addresses of the first.
with session.start("cpu") as group:
    session.start = lambda _: contextlib.nullcontext(group)
    status = max(cli.main(arguments) for arguments in json.loads(sys.argv[2]))
sys.exit(status)
"""


def test_two_processes_give_the_numbers_of_one(evaluate, corrupted, tmp_path):
    root, _ = corrupted
    # Twelve images for one set, seven for the other: shards and batches of unlike sizes.
    write_levels(tmp_path / "other", {"a": random_levels(3)["grey"] + [99, 150, 210]})
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
    assert record["result"]["kind"] == "cifar-c"


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
        (lambda root: (root / "fog" / "2" / "grey").rename(root / "grey"), "fog/2 lacks grey"),
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


def test_images_smaller_than_the_crop_are_named(evaluate, corrupted, capsys):
    status, _ = evaluate("corruption", "--data", corrupted[0], model=network(64))
    assert status == 2
    assert "60×60 pixels: expected at least 64 a side" in capsys.readouterr().err


# ---- what networks can get wrong -------------------------------------------------------------------------------------


class Wrong(nn.Module):
    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits = Brightness()(images)
        if self.kind == "nan":
            logits = torch.where(torch.arange(len(logits))[:, None] == 1, torch.nan, logits)
        return {"nan": logits, "softmax": logits.softmax(1), "classes": logits[:, :2], "flat": logits[:, 0]}[self.kind]


@pytest.mark.parametrize(
    ("evaluation", "kind", "message"),
    [
        ("corruption", "nan", "nan or infinite for 1 of the first 5 images"),
        ("ood", "nan", "nan or infinite for 1 of the first 5 images"),
        ("calibration", "nan", "nan or infinite for 1 of the first 5 images"),
        ("clean", "nan", "nan or infinite for 1 of the first 5 images"),
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


def test_an_ood_run_goes_on(evaluate, tmp_path, monkeypatch):
    from apr_dali.commands import ood

    write_levels(tmp_path / "val", random_levels(1))
    write_levels(tmp_path / "far", {"a": [84] * 4})
    arguments = ["--data", tmp_path / "val", "--ood", f"far={tmp_path}/far"]
    _, whole = evaluate("ood", *arguments)
    (tmp_path / "out" / "ood.json").unlink()
    state = json.loads((tmp_path / "out" / "ood.state.json").read_text())
    del state["parts"]["far"]
    (tmp_path / "out" / "ood.state.json").write_text(json.dumps(state))
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
        (CLASSES, {"grey": [128, 120, 40], "light": [215]}, 0.75),  # without the first class
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
        (("zero", "one"), "has 2 classes (one, zero), the network 3 (dark, grey, light): labels go by name, and 2 of"),
        (("0", "1", "2"), "has 3 classes (0, 1, 2), the network 3 (dark, grey, light): labels go by name, and 3 of"),
        (("train/dark", "val/dark"), "are none of the network's; give {set}/val"),
        (
            ("dark", "gray"),
            "has 2 classes (dark, gray), the network 3 (dark, grey, light): labels go by name, and 1 of",
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
    class Ten:
        def __init__(self, *_: object, train: bool) -> None:
            assert not train
            self.data, self.targets, self.classes = (
                np.zeros((2, 32, 32, 3), np.uint8),
                [0, 1],
                ["airplane", "automobile"],
            )

    monkeypatch.setattr("torchvision.datasets.CIFAR10", Ten)
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
    assumed = "labels.npy has no names: its label n is taken for the network's class n (0 dark, 1 grey, 2 light)"
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


# ---- state -----------------------------------------------------------------------------------------------------------


def test_state_keeps_what_it_was_given(tmp_path):
    path = tmp_path / "state.json"
    first = State(path, {"size": (1, 2)})
    first.put("a", {"x": 0.1})
    second = State(path, {"size": [1, 2]})
    assert "a" in second
    assert second.get("a") == {"x": 0.1}
    assert "b" not in second
    with pytest.raises(InputError, match=r"size \[1, 2\], now \[1, 3\]"):
        State(path, {"size": [1, 3]})
    path.write_text('{"settings"')
    with pytest.raises(InputError, match="is not the state of an evaluation"):
        State(path, {})
