"""train_imagenet.py from end to end, on small images, as a user runs it."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers.processes import ENVIRONMENT, PATIENCE, torchrun, train_in_two
from helpers.project import ROOT
from helpers.tar_files import folder_of
from helpers.tolerances import PRINTED
from PIL import Image

from apr_dali.augmentations.plan import TRAINABLE, form_here
from apr_dali.data.folders import open_set
from apr_dali.draws import SEEDS
from apr_dali.errors import InputError
from apr_dali.eval import evaluate_clean, evaluate_corruption_on_the_fly
from apr_dali.eval.load_model import load_model
from apr_dali.models import create_model
from apr_dali.runtime.checkpoint import Position
from apr_dali.runtime.distributed import Group
from apr_dali.runtime.exit_status import run
from apr_dali.training.command_line import parse
from apr_dali.training.corrupted import CorruptedValidation
from apr_dali.training.options import ImageNetOptions

pytestmark = pytest.mark.slow

SCRIPT = ROOT / "train_imagenet.py"
# The smallest of torchvision's networks that has batch norm.
SMALL = ["--model", "shufflenet_v2_x0_5", "--image-size", "32", "--batch-size", "8", "--lr", "0.01"]
SMALL += ["--threads", "1", "--device", "cpu"]
CLASSES = ("astronaut", "chelsea", "coffee")
TRAINING, VALIDATION = 16, 3  # images of a class
STEPS = len(CLASSES) * TRAINING // 8


@pytest.fixture(scope="module")
def tree(tmp_path_factory, photos) -> Path:
    """train/ and val/ with small crops of three photographs."""
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    for name, photo in zip(CLASSES, (photos[0], photos[2], photos[1]), strict=True):
        for split, count in (("train", TRAINING), ("val", VALIDATION)):
            (folder / split / name).mkdir(parents=True)
            for n in range(count):
                y, x = (int(rng.integers(side - 60)) for side in photo.shape[:2])
                crop = photo[y : y + int(rng.integers(40, 60)), x : x + int(rng.integers(40, 60))]
                Image.fromarray(crop).save(folder / split / name / f"{n}.jpg")
    return folder


@pytest.fixture
def copy(tree, tmp_path) -> Path:
    """The tree again, of links to its images: to be spoilt."""
    for path in tree.rglob("*.jpg"):
        link = tmp_path / "data" / path.relative_to(tree)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(path)
    return tmp_path / "data"


@pytest.fixture(scope="module")
def trainer():
    """The script as a module."""
    spec = importlib.util.spec_from_file_location("train_imagenet", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def train(trainer, monkeypatch, capfd, tmp_path):
    """Run the script in this process, in an empty folder; gives (exit status, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)

    def start(*given: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["train_imagenet.py", *SMALL, *map(str, given)])
        capfd.readouterr()
        status = run(trainer.main)
        return status, *capfd.readouterr()

    return start


def state_of(path: Path) -> dict:
    return torch.load(path, weights_only=True)


def rows_of(folder: Path, kind: str = "epoch") -> list[dict]:
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [row for row in rows if row["kind"] == kind]


def assert_same(found, expected, where: str = "") -> None:
    """Bit for bit, through nested containers."""
    if isinstance(expected, torch.Tensor):
        assert torch.equal(found, expected), where
    elif isinstance(expected, dict):
        assert found.keys() == expected.keys(), where
        for key in expected:
            assert_same(found[key], expected[key], f"{where}.{key}")
    elif isinstance(expected, list):
        assert len(found) == len(expected), where
        for n, pair in enumerate(zip(found, expected, strict=True)):
            assert_same(*pair, f"{where}[{n}]")
    else:
        assert found == expected, where


# ---- a run that is stopped ends as one that is not -------------------------------------------------------------------


# Sends itself a signal in a certain step, as others may at any time: from outside no moment is sure to be met.
_SIGNALLED = """
import os, runpy, sys
from apr_dali.training.engine import Trainer
signum, left, *sys.argv = sys.argv[1:]
left, step = int(left), Trainer.step
def signalled(self, *given):
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), int(signum))
    return step(self, *given)
Trainer.step = signalled
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def start(tree: Path, folder: Path, *given: str, signum: int = 0, step: int = 0) -> tuple[int, str]:
    """Train in a process of its own, which gets `signum` in its `step`-th step; gives its exit code and its output."""
    command = [sys.executable, "-c", _SIGNALLED, str(signum), str(step), str(SCRIPT), *SMALL, "--data", str(tree)]
    command += ["--aug", "apr-sp", "--epochs", "2", "--output", str(folder), "--resume", "auto", *given]
    output = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    done = subprocess.run(command, env=ENVIRONMENT, timeout=PATIENCE, check=False, **output)
    return done.returncode, done.stdout


@pytest.fixture(scope="module")
def whole(tree, tmp_path_factory) -> dict:
    """The last checkpoint and the epochs' results of a run that nothing stopped."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    status, told = start(tree, folder)
    assert status == 0, told
    return {"state": state_of(folder / "latest.pt"), "rows": rows_of(folder), "told": told, "folder": folder}


def assert_ends_as(folder: Path, whole: dict) -> None:
    found, expected = state_of(folder / "latest.pt"), whole["state"]
    for key in ("model", "optimizer", "position", "scaler"):
        assert_same(found[key], expected[key], key)
    assert_same(found["processes"][0]["random"], expected["processes"][0]["random"])
    for mine, theirs in zip(rows_of(folder), whole["rows"], strict=True):
        for key in ("epoch", "train_loss", "val_loss", "top1", "top5", "lr", "global_step"):
            assert mine[key] == theirs[key], key


def test_killed_and_resumed_ends_with_the_same_weights(tree, tmp_path, whole):
    folder = tmp_path / "run"
    status, told = start(tree, folder, "--checkpoint-minutes", "0", signum=signal.SIGKILL, step=4)
    assert status == -signal.SIGKILL, told
    position = state_of(folder / "latest.pt")["position"]
    assert (position["epoch"], position["step"]) == (0, 3)
    assert state_of(folder / "previous.pt")["position"]["step"] == 2
    status, told = start(tree, folder)
    assert status == 0, told
    assert "continuing at epoch 1, step 3" in told
    assert_ends_as(folder, whole)


def test_stopped_by_sigterm_and_ctrl_c_and_resumed(tree, tmp_path, whole):
    folder = tmp_path / "run"
    # In the second step of each epoch: the first begins anew, the second after what was left of the first.
    for signum, step, epoch in ((signal.SIGTERM, 2, 0), (signal.SIGINT, STEPS - 2 + 2, 1)):
        status, told = start(tree, folder, signum=signum, step=step)
        assert status == 128 + signum, told
        assert "stopped; continue with --resume auto" in told
        position = state_of(folder / "latest.pt")["position"]
        assert (position["epoch"], position["step"]) == (epoch, 2)
    status, told = start(tree, folder)
    assert status == 0, told
    assert_ends_as(folder, whole)


# What happens to batches beside APR, images that grow from the first epoch to the second, and a validation of its own.
MIXED = ["--mixup", "0.4", "--cutmix", "1", "--label-smoothing", "0.1", "--jsd", "2", "--random-erasing", "0.5"]
MIXED += ["--policy", "randaugment", "--image-size", "64", "--progressive", "32:0", "64:1"]
MIXED += ["--val-size", "48", "--val-crop", "0.8"]


@pytest.fixture(scope="module")
def mixed(tree, tmp_path_factory) -> dict:
    """`whole`, of a run with MIXED."""
    folder = tmp_path_factory.mktemp("mixed") / "run"
    status, told = start(tree, folder, *MIXED)
    assert status == 0, told
    return {"state": state_of(folder / "latest.pt"), "rows": rows_of(folder), "folder": folder}


def test_mixed_batches_and_sizes_go_on_where_they_were(tree, tmp_path, mixed):
    folder = tmp_path / "run"
    status, told = start(tree, folder, *MIXED, "--checkpoint-minutes", "0", signum=signal.SIGKILL, step=4)
    assert status == -signal.SIGKILL, told
    # Then in the second step of the second epoch, whose images are larger.
    status, told = start(tree, folder, *MIXED, signum=signal.SIGTERM, step=STEPS - 3 + 2)
    assert status == 128 + signal.SIGTERM, told
    position = state_of(folder / "latest.pt")["position"]
    assert (position["epoch"], position["step"]) == (1, 2)
    status, told = start(tree, folder, *MIXED)
    assert status == 0, told
    assert "continuing at epoch 2, step 2" in told
    assert_ends_as(folder, mixed)


def test_a_checkpoint_is_seen_as_it_was_validated(mixed, tree, trainer, monkeypatch, capfd):
    latest = mixed["folder"] / "latest.pt"
    monkeypatch.setattr(sys, "argv", ["train_imagenet.py", "--data", str(tree), "--eval-only", str(latest)])
    assert run(trainer.main) == 0
    row = mixed["rows"][-1]
    told = capfd.readouterr().out
    assert told.startswith(f"top-1 {row['top1']:.2%}, "), told
    assert float(told.split()[5]) == pytest.approx(row["val_loss"], abs=1e-4)
    network = load_model(latest)
    # timm's floor(48 / 0.8).
    assert (network.image_size, network.scaling.resized(100, 100, 48)) == (48, (60, 60))
    found = evaluate_clean(latest, tree / "val", device="cpu", threads=1)
    assert found.top1 == pytest.approx(row["top1"])
    assert found.loss == pytest.approx(row["val_loss"], rel=1e-4)


def test_other_sizes_in_mid_epoch_begin_the_epoch_anew(tree, train, tmp_path):
    status, told = start(tree, tmp_path / "run", *MIXED, signum=signal.SIGTERM, step=2)
    assert status == 128 + signal.SIGTERM, told
    given = ["--data", tree, "--resume", "auto", "--output", "run", "--image-size", 64, "--epochs", 2]
    status, told, errors = train(*given, "--progressive", "64:0", "64:1")
    assert status == 0, errors
    assert "changed since then: --progressive 32:0 64:1 → 64:0 64:1\n" in told
    assert "image_size 32, now 64" in told
    assert "epoch 1 starts from its beginning" in told


# ---- two processes ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pair_run(tree, tmp_path_factory) -> Path:
    """A folder with `run`, an epoch of two processes, and each process's weights as rank0.pt and rank1.pt."""
    folder = tmp_path_factory.mktemp("two")
    data = ["--data", tree, "--aug", "apr-p", "--epochs", 1, "--output", "run"]
    done = train_in_two(SCRIPT, *SMALL, *data, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("run folder: run") == 1
    return folder


@pytest.mark.parametrize("name", [name for name in TRAINABLE if name != "afa+prime"])
def test_each_augmentation_trains_and_says_whose_settings_it_has(name, tree, train):
    form = form_here(name, "imagenet")
    status, told, errors = train("--data", tree, "--aug", name, "--aug-form", form, "--epochs", 1, "--output", "run")
    assert status == 0, errors
    assert 0.1 < rows_of(Path("run"))[0]["train_loss"] < 50
    assert ("has no published settings" in told) == (name in ("amplitude-mix", "fda", "randconv"))


def test_two_processes_agree(pair_run):
    first, second = (torch.load(pair_run / f"rank{rank}.pt") for rank in (0, 1))
    assert_same(second, first)
    state = state_of(pair_run / "run" / "latest.pt")
    assert_same(state["model"], first)
    assert len(state["processes"]) == 2
    assert any(name.endswith("running_mean") for name in first), "buffers are part of it"


def test_two_processes_validate_as_one(pair_run, tree, train):
    status, told, errors = train("--data", tree, "--eval-only", pair_run / "run" / "latest.pt")
    assert status == 0, errors
    row = rows_of(pair_run / "run")[0]
    found = re.fullmatch(r"top-1 ([\d.]+)%, top-5 ([\d.]+)%, loss ([\d.]+) on (\d+) images\n", told)
    assert found is not None, told
    assert (float(found[1]), float(found[2])) == (round(100 * row["top1"], 2), round(100 * row["top5"], 2))
    assert float(found[3]) == pytest.approx(row["val_loss"], abs=1e-4)
    assert int(found[4]) == len(CLASSES) * VALIDATION


def test_a_checkpoint_is_validated_as_it_was_trained(pair_run, tree, trainer, monkeypatch, capfd):
    """Neither the network nor the size of its images is said; the classes may lie in another order."""
    latest = pair_run / "run" / "latest.pt"
    monkeypatch.setattr(sys, "argv", ["train_imagenet.py", "--data", str(tree), "--eval-only", str(latest)])
    assert run(trainer.main) == 0
    row = rows_of(pair_run / "run")[0]
    told = capfd.readouterr().out
    assert told.startswith(f"top-1 {row['top1']:.2%}, top-5 {row['top5']:.2%}, loss "), told
    assert float(told.split()[5]) == pytest.approx(row["val_loss"], abs=1e-4)


def test_options_given_on_resume_hold_and_are_named(pair_run, tree, train):
    given = ["--resume", pair_run / "run" / "latest.pt", "--output", "more", "--epochs", 2, "--weight-decay", 0.25]
    status, told, errors = train("--data", tree, *given)
    assert status == 0, errors
    assert "changed since then: --epochs 1 → 2, --weight-decay 0.0001 → 0.25\n" in told
    (group,) = state_of(Path("more/latest.pt"))["optimizer"]["param_groups"]
    options = json.loads(Path("more/config.json").read_text())["options"]
    assert group["weight_decay"] == options["weight_decay"] == 0.25
    assert (group["momentum"], options["momentum"], options["aug"]) == (0.9, 0.9, "apr-p")


def test_another_number_of_processes_restarts_the_epoch(pair_run, tree, train, tmp_path):
    state = state_of(pair_run / "run" / "latest.pt")
    state["position"] |= {"epoch": 0, "step": 2}
    torch.save(state, tmp_path / "two.pt")
    status, told, errors = train("--data", tree, "--aug", "apr-p", "--epochs", 1, "--resume", tmp_path / "two.pt")
    assert status == 0, errors
    assert "it was saved by 2 processes, now there are 1" in told
    assert "epoch 1 starts from its beginning" in told
    assert [row["step"] for row in rows_of(tmp_path, "step")] == list(range(1, STEPS + 1))


def test_an_error_is_told_once_under_torchrun(tree, tmp_path):
    done = torchrun(SCRIPT, *SMALL, "--data", tree, "--batch-size", 9, "--output", "run", cwd=tmp_path)
    assert done.returncode != 0
    assert done.stderr.count("error: ") == 1, done.stderr
    assert "error: --batch-size must be divisible by the 2 processes, got 9" in done.stderr
    assert not (tmp_path / "run").exists()


# A worker dies of nothing it could have caught, in the third step of the last epoch, at the run's first start.
KILL = """
import os, runpy, signal, sys
from apr_dali.training.engine import Trainer
step = Trainer.step
def dying(self, *given):
    place = self.position.epoch, self.position.step, self.group.rank
    if os.environ["TORCHELASTIC_RESTART_COUNT"] == "0" and place == (self.options.epochs - 1, 2, 1):
        os.kill(os.getpid(), signal.SIGKILL)
    return step(self, *given)
Trainer.step = dying
script, sys.argv[1:2] = sys.argv[1], []
runpy.run_path(script, run_name="__main__")
"""


def killed_and_started_again(folder: Path, *given: object) -> str:
    """What two processes print, one of which dies, in a folder that then has their `run`."""
    (folder / "kill.py").write_text(KILL)
    always = ["--output", "run", "--resume", "auto", "--checkpoint-minutes", 0]
    fresh = {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
    done = torchrun("--max-restarts=1", "kill.py", SCRIPT, *SMALL, *given, *always, cwd=folder, **fresh)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_killed_worker_is_started_again_and_the_run_ends_as_another(pair_run, tree, tmp_path):
    told = killed_and_started_again(tmp_path, "--data", tree, "--aug", "apr-p", "--epochs", 1)
    assert "continuing at epoch 1, step 2" in told
    assert_same(state_of(tmp_path / "run" / "latest.pt")["model"], state_of(pair_run / "run" / "latest.pt")["model"])


def test_two_processes_mix_each_its_own_batches_and_go_on_with_them(tree, tmp_path):
    given = ["--data", tree, "--aug", "apr-p", "--mixup", "0.4", "--mix-views", "clean", "--loss", "bce"]
    given += ["--random-erasing", "0.5", "--image-size", "64", "--progressive", "32:0", "64:1", "--epochs", 2]
    folders = [tmp_path / name for name in ("whole", "killed")]
    for folder in folders:
        folder.mkdir()
    done = train_in_two(SCRIPT, *SMALL, *given, "--output", "run", cwd=folders[0])
    assert done.returncode == 0, done.stderr
    first, second = (torch.load(folders[0] / f"rank{rank}.pt") for rank in (0, 1))
    assert_same(second, first)
    told = killed_and_started_again(folders[1], *given)
    assert "continuing at epoch 2, step 2" in told
    states = [state_of(folder / "run" / "latest.pt") for folder in folders]
    assert_same(states[1]["model"], first)
    randoms = [[process["random"] for process in state["processes"]] for state in states]
    assert_same(randoms[1], randoms[0])
    assert not torch.equal(*randoms[0])


def test_a_restart_in_a_store_that_holds_the_dead_is_refused(tree, train, monkeypatch):
    for name, value in {"WORLD_SIZE": "2", "RANK": "0", "TORCHELASTIC_RESTART_COUNT": "1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("TORCHELASTIC_USE_AGENT_STORE", "True")
    status, _, errors = train("--data", tree, "--output", "run")
    assert status == 2
    assert "set TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1" in errors


# ---- bad input -------------------------------------------------------------------------------------------------------


def spoil(name: str, data: Path) -> None:
    """Make one thing wrong in the folder `data`."""
    image = data / "train" / "chelsea" / "3.jpg"
    content = image.read_bytes()
    if name == "empty class":
        for path in (data / "val" / "coffee").iterdir():
            path.unlink()
    elif name == "classes differ":
        (data / "val" / "coffee").rename(data / "val" / "tea")
    else:
        image.unlink()
        image.write_bytes({"truncated": content[: len(content) // 2], "no image": b"<html>", "empty": b""}[name])


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ("empty class", "coffee"),
        ("classes differ", "tea"),
        ("truncated", "train/chelsea/3.jpg: truncated"),
        ("no image", "train/chelsea/3.jpg: not an image"),
        ("empty", "train/chelsea/3.jpg: empty file"),
    ],
)
def test_spoilt_data(wrong, told, copy, train):
    spoil(wrong, copy)
    status, _, errors = train("--data", copy, "--output", "run")
    assert status == 2
    assert errors.startswith("error: ")
    assert told in errors
    assert not Path("run").exists()


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["--data", "missing"], "--data sample"),
        (["--data", "."], "no folder 'train'"),
        (["--model", "resnet5O"], "resnet50"),
        (["--batch-size", "64"], "gives no batch"),
        (["--model", "alexnet"], "cannot take images of 32×32"),
        (["--resume", "missing.pt"], "no checkpoint missing.pt"),
        (["--aug", "apr-x"], "'apr-x'"),
        (["--data", "a.jpg"], "not a file list"),
        (["--on-error", "skip", "--check", "full"], "choose one"),
        (["--batch-size", "1"], "one image is too small a batch for this network's batch norm"),
        (["--train-weights", "1", "2"], "for each of several sources, --data and every --train: got 2 for 1"),
        (["--train", "x", "--train-weights", "0", "0"], "--train-weights must not all be 0"),
        (["--train", "x", "--train-weights", "1", "2", "--sampler", "balanced"], "does not go with --sampler balanced"),
        (["--seed", str(2**64)], f"--seed must be at most {SEEDS // 2}, got {2**64}"),
    ],
)
def test_bad_input(given, told, tree, train):
    Path("a.jpg").write_bytes(b"\xff\xd8\xff")
    status, _, errors = train("--data", tree, "--output", "run", *given)
    assert status == 2
    assert re.match(r"error: .*\n$", errors, re.DOTALL)
    assert told in errors
    assert not Path("run").exists()


def test_the_loaders_follow_the_options(tree, trainer):
    given = ["--data", str(tree), *map(str, SMALL), "--scale", "0.3", "0.9", "--ratio", "1", "2", "--hflip", "0"]
    given += ["--sampler", "balanced"]
    options, group = parse(ImageNetOptions, "", given), Group(0, 1, 0, torch.device("cpu"))
    beginning = SimpleNamespace(position=Position())
    with trainer.train_loader(options, group, open_set(tree / "train"), 0, beginning) as loader:
        assert (loader._graph.scale, loader._graph.ratio, loader._graph.hflip) == ((0.3, 0.9), (1.0, 2.0), 0.0)
        np.testing.assert_allclose(loader._weights, 1 / TRAINING)
    with trainer.validation_loader(options, group, open_set(tree / "val")) as loader:
        assert len(loader) > 0
    options = parse(ImageNetOptions, "", [*given, "--hw-decoder-load", "0.9"])
    with pytest.raises(InputError, match="hw_decoder_load has no effect"):
        trainer.train_loader(options, group, open_set(tree / "train"), 0, beginning)


def test_sources_with_weights(tree, trainer, tmp_path):
    (tmp_path / "more").mkdir()
    for name in (path.name for path in (tree / "train").iterdir()):
        (tmp_path / "more" / name).symlink_to(tree / "val" / name)
    given = ["--data", str(tree), *map(str, SMALL), "--train", str(tmp_path / "more"), "--train-weights", "1", "3"]
    options, group = parse(ImageNetOptions, "", given), Group(0, 1, 0, torch.device("cpu"))
    part, _ = trainer.datasets.open_parts(options, group)
    first = len(open_set(tree / "train"))
    assert part.sources == (first, len(part) - first)
    weights = trainer.datasets.sampler(options, part)
    np.testing.assert_allclose([weights[:first].sum(), weights[first:].sum()], [1, 3])


def test_a_gray_network_is_trained_and_evaluated(tree, train):
    status, told, errors = train("--data", tree, "--in-chans", 1, "--epochs", 1, "--aug", "apr-sp", "--output", "run")
    assert status == 0, errors
    assert "shufflenet_v2_x0_5 of gray images: 48 training images" in told
    result = told[told.index("\ntop-1") :].split()[1]
    status, told, errors = train("--data", tree, "--in-chans", 1, "--eval-only", "run/latest.pt")
    assert status == 0, errors
    assert f"top-1 {result}" in told
    network = load_model("run/latest.pt")
    assert network.mean == (network.mean[0],) * 3
    images = torch.randn(4, 1, 32, 32)
    weights = state_of(Path("run/latest.pt"))["model"]
    model = create_model("shufflenet_v2_x0_5", 3, in_chans=1).eval()
    model.load_state_dict(weights)
    torch.testing.assert_close(network.model(images.expand(-1, 3, -1, -1)), model(images), rtol=1e-4, atol=1e-4)
    status, _, errors = train("--data", tree, "--in-chans", 3, "--resume", "run/latest.pt", "--epochs", 2)
    assert status == 2
    assert "is a checkpoint of shufflenet_v2_x0_5 of gray images, not of shufflenet_v2_x0_5" in errors
    # Not given, it is the checkpoint's.
    status, told, errors = train("--data", tree, "--resume", "run/latest.pt", "--epochs", 2)
    assert status == 0, errors
    assert "epoch 2/2" in told


def test_folder_of_another_run_stays_as_it_is(tree, train):
    Path("run").mkdir()
    Path("run/config.json").write_text("theirs")
    status, _, errors = train("--data", tree, "--output", "run")
    assert status == 2
    assert "already has files" in errors
    assert os.listdir("run") == ["config.json"]
    assert Path("run/config.json").read_text() == "theirs"


def test_checkpoint_of_another_architecture(tree, train, whole):
    latest = whole["folder"] / "latest.pt"
    status, _, errors = train("--data", tree, "--model", "squeezenet1_1", "--resume", latest, "--output", "run")
    assert status == 2
    assert "is a checkpoint of shufflenet_v2_x0_5, not of squeezenet1_1" in errors
    assert not Path("run").exists()


def test_an_image_that_breaks_in_mid_epoch_is_named(copy, train):
    """The quick look sees both ends of a file; what is wrong between them shows when its batch comes."""
    image = copy / "train" / "chelsea" / "3.jpg"
    content = bytearray(image.read_bytes())
    image.unlink()
    content[2:-2] = bytes(len(content) - 4)
    image.write_bytes(content)
    for given, told in (
        (["--check", "off"], f"the image {image} cannot be decoded"),
        (["--check", "full"], f"{image}: "),
    ):
        status, _, errors = train("--data", copy, "--output", f"run{given[1]}", "--epochs", 1, *given)
        assert status == 2
        assert told in errors
    with pytest.warns(UserWarning, match=f"left out {image}"):
        status, told, errors = train("--data", copy, "--output", "runskip", "--epochs", 1, "--on-error", "skip")
    assert status == 0, errors
    assert "1 images were left out because they cannot be decoded" in told


def test_decorations_do_not_end_a_run(copy, train):
    """A broken image among those of samples.png, a record that is garbage, curves that cannot be drawn."""
    broken = copy / "train" / "astronaut" / "0.jpg"
    broken.unlink()
    broken.write_bytes(b"\xff\xd8\xff\xe0 no more than a beginning")
    given = ["--data", copy, "--epochs", 2, "--on-error", "skip", "--output", "run"]
    with pytest.warns(UserWarning, match="left out"):
        status, _, errors = train(*given, "--epochs", 1)
    assert status == 0, errors
    assert f"warning: showing {broken} failed" in errors
    assert Path("run/samples.png").is_file(), "the other images are shown"
    with open("run/metrics.jsonl", "a") as file:
        file.write("garbage\n")
    Path("run/curves.png").unlink()
    Path("run/curves.png").mkdir()
    status, _, errors = train(*given, "--resume", "auto")
    assert status == 0, errors
    assert "warning: drawing curves.png failed" in errors
    assert "metrics.jsonl has no row in line" in errors
    assert [row["epoch"] for row in rows_of(Path("run"))] == [1, 2]


# ---- weights of others -----------------------------------------------------------------------------------------------


def test_a_run_starts_from_pretrained_weights_and_goes_on_from_its_own(tree, train, monkeypatch):
    import torchvision

    get_model, made = torchvision.models.get_model, []

    def fetch(name, weights=None, **given):
        model = get_model(name, weights=None, **given)
        if weights is not None:
            made.append(model)
        return model

    monkeypatch.setattr(torchvision.models, "get_model", fetch)
    given = ["--data", tree, "--lr", 0, "--weights", "pretrained", "--output", "run", "--resume", "auto"]
    status, told, errors = train(*given, "--epochs", 1)
    assert status == 0, errors
    expected = (
        "starting from the pretrained shufflenet_v2_x0_5; the head (fc.bias, fc.weight) is new, for 3 classes, "
        "there it has 1000\n"
    )
    assert expected in told
    found, theirs = state_of(Path("run/latest.pt"))["model"], made[0].state_dict()
    for name in (name for name, _ in made[0].named_parameters() if not name.startswith("fc.")):
        assert torch.equal(found[name], theirs[name]), name
    assert found["fc.weight"].shape == (3, 1024)
    status, told, errors = train(*given, "--epochs", 2)
    assert status == 0, errors
    assert "starting from" not in told
    assert len(made) == 1
    status, _, errors = train(*given[:-4], "--weights", "other.pt", "--resume", "run/latest.pt")
    assert status == 2
    assert "began with --weights pretrained: --weights other.pt needs a new run" in errors


# ---- where the images come from --------------------------------------------------------------------------------------


def test_several_training_folders_and_a_validation_folder(tree, train, tmp_path):
    more = tmp_path / "more"
    for name in CLASSES:
        (more / name).mkdir(parents=True)
        (more / name / "x.jpg").symlink_to(tree / "val" / name / "0.jpg")
    options = ["--epochs", 1, "--data", tree, "--train", more, tree, "--val", tree / "train"]
    status, told, errors = train(*options, "--output", "run")
    assert status == 0, errors
    count = len(CLASSES) * TRAINING
    assert f"{2 * count + 3} training images, {count} for validation, in run" in told
    assert f" on {count} validation images\n" in told


@pytest.mark.parametrize("given", [["--data", "DATA"], ["--train", "DATA", "--val", "DATA/val"]])
def test_a_validation_set_that_lacks_a_class(given, copy, train):
    """Labels stay those of the training set: the right ones, as the whole set's result shows."""
    given = [text.replace("DATA", str(copy)) for text in given]
    assert train(*given, "--epochs", 1, "--output", "whole")[0] == 0
    shutil.move(copy / "val" / CLASSES[0], copy / "lacking" / CLASSES[0])
    status, _, errors = train(*given, "--output", "run")
    assert (status, Path("run").exists()) == (2, False)
    assert f"1 missing: {CLASSES[0]}); of a validation set that is meant to lack some: --allow-missing" in errors
    status, _, errors = train(*given, "--epochs", 1, "--allow-missing-classes", "--output", "run")
    assert status == 0, errors
    told = train("--eval-only", "run/latest.pt", "--data", copy, "--val", copy / "lacking")[1]
    assert " on 3 images" in told
    whole, some = (rows_of(Path(folder))[-1]["val_loss"] for folder in ("whole", "run"))
    assert float(re.search("loss (.*?) ", told)[1]) == pytest.approx(3 * whole - 2 * some, abs=PRINTED)
    (copy / "val" / "zebra").symlink_to(copy / "val" / CLASSES[1])
    status, _, errors = train(*given, "--allow-missing-classes", "--output", "other")
    assert status == 2
    assert "1 extra: zebra" in errors
    assert "--allow-missing" not in errors


def test_file_list_in_place_of_the_folder(tree, train):
    from apr_dali.data.file_list import FileList, write_file_list

    entries = sorted(str(path.relative_to(tree)) for path in tree.rglob("*.jpg"))[1:]
    write_file_list("list.txt", FileList(str(tree), CLASSES, ("train", "val"), tuple(entries)))
    status, told, errors = train("--data", "list.txt", "--epochs", 1, "--output", "run")
    assert status == 0, errors
    assert f"{len(CLASSES) * TRAINING - 1} training images, {len(CLASSES) * VALIDATION} for validation" in told


def test_tars_in_place_of_the_folder(tree, train):
    """With two images and a description a sample, one of which is broken."""
    for split in ("train", "val"):
        members = []
        for number, path in enumerate(sorted(tree.glob(f"{split}/*/*.jpg"))):
            content = path.read_bytes()[: -300 if (split, number) == ("train", 7) else None]
            label = str(CLASSES.index(path.parent.name)).encode()
            members += [
                (f"{number}.{ext}", content) for ext, content in (("cls", label), ("json", b"{}"), ("x.jpg", content))
            ]
            members.append((f"{number}.mask.png", b"no image at all"))
        folder_of(Path("tars") / split, members, classes="\n".join(CLASSES))
    options = ["--data", "tars", "--epochs", 1, "--output", "run"]
    for given, told in (
        ([], "the sample 0 of .*/train/0.tar has several images: x.jpg, mask.png; .*--tar-image"),
        (["--tar-image", "x.jpg"], "1 of 57 images cannot be read:\n.*/train/0.tar/7: truncated"),
    ):
        status, _, errors = train(*options, *given)
        assert status == 2
        assert re.search(told, errors), errors
    with pytest.warns(UserWarning, match=r"left out .*/train/0\.tar/7, which cannot be decoded"):
        status, told, errors = train(*options, "--tar-image", "x.jpg", "--on-error", "skip")
    assert status == 0, errors
    assert f"{len(CLASSES) * TRAINING} training images, {len(CLASSES) * VALIDATION} for validation" in told
    assert "1 images were left out" in told
    assert Path("run/samples.png").is_file()


def test_a_finished_run_started_again_only_validates(tree, train, whole):
    folder = whole["folder"]
    before = state_of(folder / "latest.pt")
    status, told, errors = train(
        "--data", tree, "--aug", "apr-sp", "--epochs", 2, "--resume", "auto", "--output", folder
    )
    assert status == 0, errors
    assert f"top-1 {whole['rows'][-1]['top1']:.2%} on 9 validation images" in told
    assert_same(state_of(folder / "latest.pt")["model"], before["model"])
    assert rows_of(folder) == whole["rows"]


def test_sample_is_written_unless_something_else_is_there(train, monkeypatch):
    from apr_dali.data import sample

    written = []
    monkeypatch.setattr(sample, "write_sample", written.append)
    status, _, errors = train("--data", "sample")
    assert (status, written) == (2, ["sample"])
    assert "sample is not there" in errors
    Path("sample").mkdir()
    assert train("--data", "sample")[0] == 2
    assert written == ["sample"]


# ---- accuracy under corruptions --------------------------------------------------------------------------------------


def test_accuracy_under_corruptions_is_that_of_the_evaluation(train, tree, tmp_path):
    given = ("--data", tree, "--epochs", 2, "--output")
    assert train(*given, "plain")[0] == 0
    status, _, err = train(*given, "run", "--validate-corrupted", 5)
    assert status == 0, err
    rows = rows_of(tmp_path / "run")
    assert [0 <= row["corrupted_top1"] <= 1 for row in rows] == [True, True]
    found = evaluate_corruption_on_the_fly(
        tmp_path / "run" / "latest.pt", tree / "val", images=5, device="cpu", threads=1
    )
    assert rows[-1]["corrupted_top1"] == pytest.approx(1 - found.mean_error, abs=1e-9)
    # It only looks.
    assert_same(state_of(tmp_path / "run" / "latest.pt")["model"], state_of(tmp_path / "plain" / "latest.pt")["model"])
    assert "corrupted_top1" not in rows_of(tmp_path / "plain")[0]


def test_the_best_checkpoint_may_be_the_best_under_corruptions(train, tree, tmp_path, monkeypatch):
    scores = iter((0.9, 0.5, 0.7))
    monkeypatch.setattr(CorruptedValidation, "top1", lambda *_: next(scores))
    given = ("--data", tree, "--output", "run", "--validate-corrupted", 5)
    best = ("--best-by", "corrupted")
    assert train(*given, *best, "--epochs", 2)[0] == 0
    assert state_of(tmp_path / "run" / "best.pt")["position"]["epoch"] == 1
    assert state_of(tmp_path / "run" / "best.pt")["position"]["best"] == 0.9
    status, _, err = train(*given, "--epochs", 3, "--resume", "auto")
    assert status == 2
    assert "is the best by corrupted, and cannot be compared by top1: continue with --best-by corrupted" in err
    assert train(*given, *best, "--epochs", 3, "--resume", "auto")[0] == 0
    assert state_of(tmp_path / "run" / "best.pt")["position"]["epoch"] == 1


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["--in-chans", "1"], "--validate-corrupted does not go with --in-chans 1"),
        (["--image-size", "24"], "images must have at least 32 pixels per side, got 24 × 24"),
        (["--on-error", "skip"], "--validate-corrupted does not go with --on-error skip"),
        (["--validate-corrupted", "0", "--best-by", "corrupted"], "--best-by corrupted needs --validate-corrupted N"),
        (["--eval-only", "x.pt"], "--validate-corrupted changes nothing with --eval-only"),
    ],
)
def test_what_cannot_be_corrupted_is_named_before_training(train, tree, tmp_path, given, told):
    status, _, err = train("--data", tree, "--output", "run", "--validate-corrupted", 5, *given)
    assert status == 2
    assert told in err
    assert not (tmp_path / "run" / "latest.pt").exists()
