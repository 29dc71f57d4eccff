"""train_imagenet.py in two processes, as torchrun starts them."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest
import torch
from helpers.forked import in_two
from helpers.imagenet_runs import CLASSES, SCRIPT, SMALL, STEPS, VALIDATION
from helpers.processes import PATIENCE, torchrun, train_in_two
from helpers.run_files import assert_same, rows_of, state_of

from apr_dali.runtime.exit_status import run

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def pair_run(tree, tmp_path_factory) -> Path:
    """A folder with `run`, an epoch of two processes, and each process's weights as rank0.pt and rank1.pt."""
    folder = tmp_path_factory.mktemp("two")
    data = ["--data", tree, "--aug", "apr-p", "--epochs", 1, "--output", "run"]
    done = train_in_two(SCRIPT, *SMALL, *data, cwd=folder, start=torchrun)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("run folder: run") == 1
    return folder


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


# Where one process holds its error back until torchrun has ended it, however long that takes.
PATIENT = f"""
import runpy, sys
from apr_dali.runtime import exit_status
exit_status._WAIT = {PATIENCE}
script, sys.argv[1:2] = sys.argv[1], []
runpy.run_path(script, run_name="__main__")
"""


def test_an_error_is_told_once_under_torchrun(tree, tmp_path):
    (tmp_path / "patient.py").write_text(PATIENT)
    given = [SCRIPT, *SMALL, "--data", tree, "--batch-size", 9, "--output", "run"]
    done = torchrun("patient.py", *given, cwd=tmp_path)
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


def test_a_killed_worker_is_started_again_and_the_run_ends_as_another(pair_run, tree, tmp_path):
    (tmp_path / "kill.py").write_text(KILL)
    given = [*SMALL, "--data", tree, "--aug", "apr-p", "--epochs", 1, "--output", "run", "--resume", "auto"]
    given += ["--checkpoint-minutes", 0]
    fresh = {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
    done = torchrun("--max-restarts=1", "kill.py", SCRIPT, *given, cwd=tmp_path, **fresh)
    assert done.returncode == 0, done.stderr
    assert "continuing at epoch 1, step 2" in done.stdout
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
    (folders[1] / "kill.py").write_text(KILL)
    always = [SCRIPT, *SMALL, *given, "--output", "run", "--resume", "auto", "--checkpoint-minutes", 0]
    assert in_two("kill.py", *always, cwd=folders[1]).returncode != 0
    done = in_two(*always, cwd=folders[1])
    assert done.returncode == 0, done.stderr
    assert "continuing at epoch 2, step 2" in done.stdout
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
