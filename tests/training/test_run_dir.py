"""Which run folder a run takes, and what describes the run in it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from helpers.run_files import ALONE, image_options, load_saved, saved_state

from apr_dali.errors import InputError
from apr_dali.runtime import checkpoint
from apr_dali.training import run_dir


def test_default_run_folder_names_model_and_augmentation():
    output, source = run_dir.choose(image_options(aug="apr-s"), "timm/test_resnet")
    assert output.parent == Path("runs")
    assert output.name.startswith("timm-test_resnet-apr-s-20")
    assert source is None


def test_folder_of_another_run_needs_resume(tmp_path):
    used = tmp_path / "used"
    used.mkdir()
    assert run_dir.choose(image_options(output=str(used)), "net") == (used, None)
    (used / "config.json").touch()
    with pytest.raises(InputError, match=r"already has files.*--resume auto"):
        run_dir.choose(image_options(output=str(used)), "net")
    assert run_dir.choose(image_options(output=str(used), resume="auto"), "net") == (used, None)
    (used / "previous.pt").touch()
    assert run_dir.choose(image_options(output=str(used), resume="auto"), "net") == (used, used / "previous.pt")
    (used / "latest.pt").touch()
    assert run_dir.choose(image_options(output=str(used), resume="auto"), "net") == (used, used / "latest.pt")
    with pytest.raises(InputError, match="already has files"):
        run_dir.choose(image_options(output=str(used), resume=str(tmp_path / "elsewhere" / "latest.pt")), "net")


def test_resume_auto_leaves_foreign_folders_alone(tmp_path):
    (tmp_path / "thesis.txt").touch()
    with pytest.raises(InputError, match="is not a run folder"):
        run_dir.choose(image_options(output=str(tmp_path), resume="auto"), "net")


def test_resume_path_continues_in_its_folder(tmp_path):
    path = tmp_path / "best.pt"
    path.touch()
    assert run_dir.choose(image_options(resume=str(path)), "net") == (tmp_path, path)
    new = tmp_path / "new"
    assert run_dir.choose(image_options(resume=str(path), output=str(new)), "net") == (new, path)


def test_resuming_from_previous_gets_the_broken_latest_out_of_the_way(tmp_path):
    for epoch in (0, 1):
        checkpoint.save(tmp_path, saved_state(epoch), best=False)
    (tmp_path / "latest.pt").write_bytes(b"broken")
    with run_dir.occupied(tmp_path, image_options(), ALONE, tmp_path / "previous.pt"):
        checkpoint.save(tmp_path, saved_state(7), best=False)
    assert [load_saved(tmp_path / name)["position"]["epoch"] for name in ("latest.pt", "previous.pt")] == [7, 0]
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["versions"]["torch"] == torch.__version__.partition("+")[0]
    assert config["options"]["model"] == "resnet50"
