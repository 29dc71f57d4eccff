"""train_imagenet.py stopped at any time: a run that is continued ends as one that nothing stopped."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import pytest
from helpers.imagenet_runs import STEPS, start
from helpers.run_files import assert_same, rows_of, state_of

from apr_dali.eval import evaluate_clean
from apr_dali.eval.load_model import load_model
from apr_dali.runtime.exit_status import run

pytestmark = pytest.mark.slow


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


def test_checkpoint_of_another_architecture(tree, train, whole):
    latest = whole["folder"] / "latest.pt"
    status, _, errors = train("--data", tree, "--model", "squeezenet1_1", "--resume", latest, "--output", "run")
    assert status == 2
    assert "is a checkpoint of shufflenet_v2_x0_5, not of squeezenet1_1" in errors
    assert not Path("run").exists()


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
