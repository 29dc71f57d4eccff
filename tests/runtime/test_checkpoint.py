"""Checkpoint files: what is kept, what is refused, and what a full disk or a crash leaves."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from helpers.run_files import LOADER_STATE, FullDisk, load_saved, saved_state

from apr_dali.errors import InputError
from apr_dali.runtime import checkpoint, files


def test_checkpoints_round_trip_and_the_former_is_kept(tmp_path):
    for epoch in range(3):
        checkpoint.save(tmp_path, saved_state(epoch), best=epoch == 1)
    found = {name: load_saved(tmp_path / name) for name in ("latest.pt", "previous.pt", "best.pt")}
    assert {name: state["position"]["epoch"] for name, state in found.items()} == {
        "latest.pt": 2,
        "previous.pt": 1,
        "best.pt": 1,
    }
    assert found["latest.pt"]["processes"][0]["loader"] == LOADER_STATE
    assert sorted(os.listdir(tmp_path)) == ["best.pt", "latest.pt", "previous.pt"]


def test_the_optimizer_of_an_earlier_version_is_found_by_its_former_name(tmp_path):
    state = {"momentum_buffer": torch.arange(3.0)}
    torch.save({"format": 1, **saved_state(2), "optimiser": state}, tmp_path / "latest.pt")
    found = load_saved(tmp_path / "latest.pt")
    assert torch.equal(found["optimizer"]["momentum_buffer"], torch.arange(3.0))
    assert "optimiser" not in found


def test_a_full_disk_leaves_the_old_checkpoints(tmp_path, monkeypatch):
    checkpoint.save(tmp_path, saved_state(0), best=True)
    checkpoint.save(tmp_path, saved_state(1), best=False)
    monkeypatch.setattr(files, "open", FullDisk, raising=False)
    with pytest.raises(InputError, match=r"latest\.pt: No space left on device.*--resume auto"):
        checkpoint.save(tmp_path, saved_state(2), best=True)
    monkeypatch.undo()
    assert [load_saved(tmp_path / n)["position"]["epoch"] for n in ("latest.pt", "previous.pt", "best.pt")] == [1, 0, 0]
    assert sorted(os.listdir(tmp_path)) == ["best.pt", "latest.pt", "previous.pt"]


@pytest.mark.parametrize("left", [0, 10, 1000, -1], ids=["empty", "start", "middle", "all but a byte"])
def test_a_truncated_checkpoint_offers_the_one_before(tmp_path, left):
    for epoch in (4, 5):
        checkpoint.save(tmp_path, saved_state(epoch), best=False)
    path = tmp_path / "latest.pt"
    path.write_bytes(path.read_bytes()[:left])
    with pytest.raises(InputError) as error:
        load_saved(path)
    assert f"continue with --resume {tmp_path / 'previous.pt'}" in str(error.value)
    assert "epoch 5, step 3" in str(error.value)
    assert load_saved(tmp_path / "previous.pt")["position"]["epoch"] == 4


def test_a_broken_previous_one_is_not_offered(tmp_path):
    for name in ("latest.pt", "previous.pt"):
        (tmp_path / name).write_bytes(b"nothing")
    with pytest.raises(InputError) as error:
        load_saved(tmp_path / "latest.pt")
    assert "--resume" not in str(error.value)


def test_what_is_no_checkpoint_of_this_run_is_refused(tmp_path):
    torch.save({"w": torch.zeros(3)}, tmp_path / "foreign.pt")
    checkpoint.save(tmp_path, saved_state(), best=False)
    latest = tmp_path / "latest.pt"
    with pytest.raises(InputError, match="no checkpoint"):
        load_saved(tmp_path / "foreign.pt")
    with pytest.raises(InputError, match="there is no checkpoint"):
        load_saved(tmp_path / "missing.pt")
    with pytest.raises(InputError, match="'b' against 'c'"):
        checkpoint.load(latest, ("a", "c"))
    with pytest.raises(InputError, match="2 classes and the data have 3"):
        checkpoint.load(latest, ("a", "b", "c"))


class _Evil:
    def __reduce__(self):
        return (os.mkdir, ("evil",))


def test_a_checkpoint_cannot_run_code(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save(saved_state() | {"format": 1, "extra": _Evil()}, "evil.pt")
    with pytest.raises(InputError) as error:
        load_saved(Path("evil.pt"))
    assert "weights_only" not in str(error.value), "the error does not say how to run it"
    assert not Path("evil").exists()
