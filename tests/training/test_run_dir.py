"""What a training run writes: checkpoints, run folders, the log, plots."""

from __future__ import annotations

import errno
import json
import math
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.project import ROOT
from PIL import Image

from apr_dali.errors import InputError
from apr_dali.recipes import CIFAR, IMAGENET
from apr_dali.runtime import checkpoint, lock
from apr_dali.runtime.checkpoint import Position, write_whole
from apr_dali.runtime.distributed import Group
from apr_dali.training import logger, plots, run_dir
from apr_dali.training.logger import Logger
from apr_dali.training.options import ImageNetOptions

ALONE = Group(0, 1, 0, torch.device("cpu"))


# ---- files written whole ---------------------------------------------------------------------------------------------


LOADER_STATE = {"pipeline": "AP8A/w==", "none": "", "batch": 3, "graph": {"device": "cpu", "shard": [0, 1]}}


def _state(epoch: int = 0, **more) -> dict:
    return {
        "architecture": "net",
        "classes": ["a", "b"],
        "position": {"epoch": epoch, "step": 3, "trained": False},
        "processes": [{"loader": LOADER_STATE}],
        "model": {"w": torch.full((1000,), float(epoch))},
    } | more


def _load(path: Path) -> dict:
    return checkpoint.load(path, "net", ("a", "b"))


def test_checkpoints_round_trip_and_the_former_is_kept(tmp_path):
    for epoch in range(3):
        checkpoint.save(tmp_path, _state(epoch), best=epoch == 1)
    found = {name: _load(tmp_path / name) for name in ("latest.pt", "previous.pt", "best.pt")}
    assert {name: state["position"]["epoch"] for name, state in found.items()} == {
        "latest.pt": 2,
        "previous.pt": 1,
        "best.pt": 1,
    }
    assert found["latest.pt"]["processes"][0]["loader"] == LOADER_STATE
    assert sorted(os.listdir(tmp_path)) == ["best.pt", "latest.pt", "previous.pt"]


class _FullDisk:
    """A file on a disk with room for 2,000 bytes more."""

    def __init__(self, path, mode):
        self._file, self._room = path.open(mode), 2000

    def write(self, data):
        self._room -= len(data)
        if self._room < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return self._file.write(data)

    def __getattr__(self, name):
        return getattr(self._file, name)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._file.close()


def test_the_optimizer_of_an_earlier_version_is_found_by_its_former_name(tmp_path):
    state = {"momentum_buffer": torch.arange(3.0)}
    torch.save({"format": 1, **_state(2), "optimiser": state}, tmp_path / "latest.pt")
    found = _load(tmp_path / "latest.pt")
    assert torch.equal(found["optimizer"]["momentum_buffer"], torch.arange(3.0))
    assert "optimiser" not in found


def test_a_full_disk_leaves_the_old_checkpoints(tmp_path, monkeypatch):
    checkpoint.save(tmp_path, _state(0), best=True)
    checkpoint.save(tmp_path, _state(1), best=False)
    monkeypatch.setattr(checkpoint, "open", _FullDisk, raising=False)
    with pytest.raises(InputError, match=r"latest\.pt: No space left on device.*--resume auto"):
        checkpoint.save(tmp_path, _state(2), best=True)
    monkeypatch.undo()
    assert [_load(tmp_path / n)["position"]["epoch"] for n in ("latest.pt", "previous.pt", "best.pt")] == [1, 0, 0]
    assert sorted(os.listdir(tmp_path)) == ["best.pt", "latest.pt", "previous.pt"]


def test_new_bytes_are_on_the_disk_before_they_take_the_name(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(os, "fsync", lambda _: calls.append("fsync"))
    replace_file = os.replace
    monkeypatch.setattr(os, "replace", lambda a, b: (calls.append(f"{Path(b).name}"), replace_file(a, b)))
    write_whole(tmp_path / "f", lambda file: file.write(b"1"))
    write_whole(tmp_path / "f", lambda file: file.write(b"2"), keep=tmp_path / "g")
    assert calls == ["fsync", "f", "fsync", "fsync", "g", "f", "fsync"]
    assert ((tmp_path / "f").read_bytes(), (tmp_path / "g").read_bytes()) == (b"2", b"1")


@pytest.mark.parametrize("error", [RuntimeError, ValueError])
def test_a_failure_while_writing_leaves_the_file(tmp_path, error):
    path = tmp_path / "f"
    path.write_bytes(b"old")

    def fail(file):
        file.write(b"new")
        raise error("something else")

    with pytest.raises(error, match="something else"):
        write_whole(path, fail)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["f"]


@pytest.mark.parametrize("left", [0, 10, 1000, -1], ids=["empty", "start", "middle", "all but a byte"])
def test_a_truncated_checkpoint_offers_the_one_before(tmp_path, left):
    for epoch in (4, 5):
        checkpoint.save(tmp_path, _state(epoch), best=False)
    path = tmp_path / "latest.pt"
    path.write_bytes(path.read_bytes()[:left])
    with pytest.raises(InputError) as error:
        _load(path)
    assert f"continue with --resume {tmp_path / 'previous.pt'}" in str(error.value)
    assert "epoch 5, step 3" in str(error.value)
    assert _load(tmp_path / "previous.pt")["position"]["epoch"] == 4


def test_a_broken_previous_one_is_not_offered(tmp_path):
    for name in ("latest.pt", "previous.pt"):
        (tmp_path / name).write_bytes(b"nothing")
    with pytest.raises(InputError) as error:
        _load(tmp_path / "latest.pt")
    assert "--resume" not in str(error.value)


def test_what_is_no_checkpoint_of_this_run_is_refused(tmp_path):
    torch.save({"w": torch.zeros(3)}, tmp_path / "foreign.pt")
    checkpoint.save(tmp_path, _state(), best=False)
    latest = tmp_path / "latest.pt"
    with pytest.raises(InputError, match="no checkpoint"):
        _load(tmp_path / "foreign.pt")
    with pytest.raises(InputError, match="there is no checkpoint"):
        _load(tmp_path / "missing.pt")
    with pytest.raises(InputError, match=r"checkpoint of net, not of other: use --model net"):
        checkpoint.load(latest, "other", ("a", "b"))
    with pytest.raises(InputError, match="'b' against 'c'"):
        checkpoint.load(latest, "net", ("a", "c"))
    with pytest.raises(InputError, match="2 classes and the data have 3"):
        checkpoint.load(latest, "net", ("a", "b", "c"))


class _Evil:
    def __reduce__(self):
        return (os.mkdir, ("evil",))


def test_a_checkpoint_cannot_run_code(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save(_state() | {"format": 1, "extra": _Evil()}, "evil.pt")
    with pytest.raises(InputError) as error:
        _load(Path("evil.pt"))
    assert "weights_only" not in str(error.value), "nobody is told how to run it"
    assert not Path("evil").exists()


# ---- run folders -----------------------------------------------------------------------------------------------------


def _options(**given) -> ImageNetOptions:
    return ImageNetOptions(data="d", **given)


def test_default_run_folder_names_model_and_augmentation():
    output, source = run_dir.choose(_options(aug="apr-s"), "timm/test_resnet")
    assert output.parent == Path("runs")
    assert output.name.startswith("timm-test_resnet-apr-s-20")
    assert source is None


def test_folder_of_another_run_needs_resume(tmp_path):
    used = tmp_path / "used"
    used.mkdir()
    assert run_dir.choose(_options(output=str(used)), "net") == (used, None)
    (used / "config.json").touch()
    with pytest.raises(InputError, match=r"already has files.*--resume auto"):
        run_dir.choose(_options(output=str(used)), "net")
    assert run_dir.choose(_options(output=str(used), resume="auto"), "net") == (used, None)
    (used / "previous.pt").touch()
    assert run_dir.choose(_options(output=str(used), resume="auto"), "net") == (used, used / "previous.pt")
    (used / "latest.pt").touch()
    assert run_dir.choose(_options(output=str(used), resume="auto"), "net") == (used, used / "latest.pt")
    with pytest.raises(InputError, match="already has files"):
        run_dir.choose(_options(output=str(used), resume=str(tmp_path / "elsewhere" / "latest.pt")), "net")


def test_resume_auto_leaves_foreign_folders_alone(tmp_path):
    (tmp_path / "thesis.txt").touch()
    with pytest.raises(InputError, match="is not a run folder"):
        run_dir.choose(_options(output=str(tmp_path), resume="auto"), "net")


def test_resume_path_continues_in_its_folder(tmp_path):
    path = tmp_path / "best.pt"
    path.touch()
    assert run_dir.choose(_options(resume=str(path)), "net") == (tmp_path, path)
    assert run_dir.choose(_options(resume=str(path), output=str(tmp_path / "new")), "net") == (tmp_path / "new", path)


def test_resuming_from_previous_gets_the_broken_latest_out_of_the_way(tmp_path):
    for epoch in (0, 1):
        checkpoint.save(tmp_path, _state(epoch), best=False)
    (tmp_path / "latest.pt").write_bytes(b"broken")
    with run_dir.occupied(tmp_path, _options(), ALONE, tmp_path / "previous.pt"):
        checkpoint.save(tmp_path, _state(7), best=False)
    assert [_load(tmp_path / name)["position"]["epoch"] for name in ("latest.pt", "previous.pt")] == [7, 0]
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["versions"]["torch"] == torch.__version__.partition("+")[0]
    assert config["options"]["model"] == "resnet50"


# ---- one process a folder --------------------------------------------------------------------------------------------


_HOLDER = """
import sys, time
from pathlib import Path
from apr_dali.runtime import lock
with lock.hold(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def holder(tmp_path):
    """A process that holds the lock of tmp_path."""
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", _HOLDER, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_folder_that_a_living_process_writes_to_is_refused_until_it_dies(tmp_path, holder):
    (tmp_path / "config.json").touch()
    told = f"process {holder.pid} on {socket.gethostname()}, since 20.* writes to {tmp_path}"
    before = (tmp_path / "run.lock").read_bytes()
    with pytest.raises(InputError, match=told):
        run_dir.choose(_options(output=str(tmp_path), resume="auto"), "net")
    with pytest.raises(InputError, match=told), run_dir.occupied(tmp_path, _options(), ALONE, None):
        pass
    assert (tmp_path / "config.json").read_bytes() == b""
    assert (tmp_path / "run.lock").read_bytes() == before
    holder.kill()
    holder.wait()
    assert run_dir.choose(_options(output=str(tmp_path), resume="auto"), "net") == (tmp_path, None)
    with run_dir.occupied(tmp_path, _options(), ALONE, None):
        owner = json.loads((tmp_path / "run.lock").read_text())
        assert (owner["host"], owner["pid"]) == (socket.gethostname(), os.getpid())
        with pytest.raises(InputError, match=f"process {os.getpid()} on"):
            lock.check_free(tmp_path)
    assert os.listdir(tmp_path) == ["config.json"]


def test_a_lock_goes_with_the_run_however_it_ends(tmp_path):
    with pytest.raises(ZeroDivisionError), lock.hold(tmp_path):
        raise ZeroDivisionError
    assert os.listdir(tmp_path) == []


def _of_another_host(tmp_path) -> Path:
    path = tmp_path / "run.lock"
    path.write_text(json.dumps({"host": "elsewhere", "pid": 1, "since": "then"}))
    return path


def test_a_lock_of_another_host_is_taken_over_once_nobody_touches_it(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(lock, "_WATCH", 0.2)
    path = _of_another_host(tmp_path)
    with lock.hold(tmp_path):
        assert json.loads(path.read_text())["pid"] == os.getpid()
    assert "process 1 on elsewhere, since then, left" in capsys.readouterr().out


def test_a_lock_of_another_host_that_is_touched_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "_WATCH", 60.0)
    monkeypatch.setattr(lock, "_BEAT", 0.05)
    path = _of_another_host(tmp_path)
    with (
        lock._beating(path),
        pytest.raises(InputError, match="process 1 on elsewhere, since then, writes to"),
        lock.hold(tmp_path),
    ):
        pass
    assert json.loads(path.read_text())["host"] == "elsewhere"


@pytest.mark.parametrize("content", ["", "{", "[]", '{"host": 3}'])
def test_a_lock_that_is_garbage_is_taken_over(tmp_path, content):
    (tmp_path / "run.lock").write_text(content)
    with lock.hold(tmp_path):
        assert json.loads((tmp_path / "run.lock").read_text())["pid"] == os.getpid()


def test_a_run_that_left_only_its_lock_can_be_started_again(tmp_path):
    (tmp_path / "run.lock").touch()
    assert run_dir.choose(_options(output=str(tmp_path), resume="auto"), "net") == (tmp_path, None)
    assert run_dir.choose(_options(output=str(tmp_path)), "net") == (tmp_path, None)


# ---- logger ----------------------------------------------------------------------------------------------------------


def _recorded(path: Path) -> list[tuple]:
    rows = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    return [(row["kind"], row["epoch"], row.get("step")) for row in rows]


def _record(path: Path, position: Position, epochs: range) -> None:
    values = {"train_loss": 1.0, "val_loss": 1.0, "top1": 0.5, "top5": 1.0, "lr": 0.1, "images_per_second": 9.0}
    with Logger(path, True, 3, position) as logger:
        for epoch in epochs:
            logger.begin_epoch(epoch, 0, 4)
            for step in (2, 4):
                logger.step(epoch, step, 1.0, 0.1, 9.0)
            logger.epoch(epoch, values)


def test_resuming_drops_what_will_come_again(tmp_path):
    _record(tmp_path, Position(), range(2))
    full = [(kind, e, s) for e in (1, 2) for kind, s in (("step", 2), ("step", 4), ("epoch", None))]
    assert _recorded(tmp_path) == full
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write('{"kind": "st')
    _record(tmp_path, Position(epoch=1, step=4, trained=True), range(0))
    assert _recorded(tmp_path) == full[:5]
    _record(tmp_path, Position(epoch=1, step=3), range(0))
    assert _recorded(tmp_path) == full[:4]
    _record(tmp_path, Position(epoch=1), range(0))
    assert _recorded(tmp_path) == full[:3]
    _record(tmp_path, Position(epoch=1), range(1, 2))
    _record(tmp_path, Position(), range(1))
    assert _recorded(tmp_path) == full[:3]


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x00\xff\xfe",
        b"[1, 2]",
        b"3",
        b'{"kind": "epoch", "epoch": 1}',
        b'{"kind": "step", "epoch": "one"}',
        b'{"kind": "step", "epoch": null, "step": 1, "global_step": 1, "train_loss": 1.0, "lr": 0.1}',
        b"",
    ],
    ids=["bytes", "list", "number", "half a row", "no numbers", "no epoch", "empty"],
)
def test_a_line_that_is_no_row_is_left_out_and_kept(tmp_path, garbage, capsys):
    _record(tmp_path, Position(), range(2))
    path = tmp_path / "metrics.jsonl"
    lines = path.read_bytes().splitlines()
    path.write_bytes(b"\n".join([*lines[:2], garbage, *lines[2:], b""]))
    before = path.read_bytes()
    _record(tmp_path, Position(epoch=2), range(2, 3))
    assert [(e, s) for _, e, s in _recorded(tmp_path)] == [(e, s) for e in (1, 2, 3) for s in (2, 4, None)]
    assert "has no row in line 3" in capsys.readouterr().err
    assert (tmp_path / "metrics.jsonl.unreadable").read_bytes() == before


def test_a_loss_that_is_not_finite_is_json_and_is_read_again(tmp_path, capsys):
    with Logger(tmp_path, True, 3, Position()) as logger:
        logger.begin_epoch(0, 0, 4)
        logger.step(0, 2, math.nan, 0.1, 9.0)
    (line,) = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert json.loads(line, parse_constant=pytest.fail)["train_loss"] is None
    with Logger(tmp_path, True, 3, Position(epoch=1)) as logger:
        (row,) = logger.rows
    assert math.isnan(row["train_loss"])
    assert (row["epoch"], row["step"]) == (1, 2)
    assert "has no row" not in capsys.readouterr().err


def test_records_that_cannot_be_written_do_not_end_the_run(tmp_path, monkeypatch, capsys):
    """The row that failed is written with the next one."""
    values = {"train_loss": 1.0, "val_loss": 1.0, "top1": 0.5, "top5": 1.0, "lr": 0.1, "images_per_second": 9.0}
    with Logger(tmp_path, True, 3, Position()) as run:
        run.begin_epoch(0, 0, 4)
        monkeypatch.setattr(logger, "open", _FullDisk, raising=False)
        monkeypatch.setattr(run._board, "add_scalar", lambda *_: 1 / 0)
        monkeypatch.setattr(
            _FullDisk, "write", lambda *_: (_ for _ in ()).throw(OSError(errno.EIO, "Input/output error"))
        )
        run.step(0, 2, 1.0, 0.1, 9.0)
        monkeypatch.undo()
        run.epoch(0, values)
    assert _recorded(tmp_path) == [("step", 1, 2), ("epoch", 1, None)]
    told = capsys.readouterr().err
    assert "metrics.jsonl failed ([Errno 5] Input/output error); the run goes on" in told
    assert "TensorBoard's files failed (division by zero)" in told


def test_nobody_need_listen(tmp_path, monkeypatch):
    """A terminal that has gone: neither the progress nor the warning about it can be printed."""

    class Gone:
        def write(self, *_):
            raise OSError(errno.EIO, "Input/output error")

        flush = isatty = write

    monkeypatch.setattr(sys, "stdout", Gone())
    monkeypatch.setattr(sys, "stderr", Gone())
    monkeypatch.setattr(logger, "_LINE_EVERY", 0.0)
    with Logger(tmp_path, True, 3, Position()) as run:
        run.begin_epoch(0, 0, 4)
        run.advance(9.0)
        run.epoch(
            0, {"train_loss": 1.0, "val_loss": 1.0, "top1": 0.5, "top5": 1.0, "lr": 0.1, "images_per_second": 9.0}
        )
    assert _recorded(tmp_path) == [("epoch", 1, None)]


def test_other_processes_record_nothing(tmp_path, capsys):
    with Logger(tmp_path, False, 3, Position()) as logger:
        logger.begin_epoch(0, 0, 4)
        logger.advance(1.0)
        logger.step(0, 1, 1.0, 0.1, 9.0)
    assert os.listdir(tmp_path) == []
    assert capsys.readouterr() == ("", "")


# ---- plots -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("aug", ["none", "apr-p", "apr-s", "apr-sp"])
@pytest.mark.parametrize("recipe", [IMAGENET, CIFAR], ids=["imagenet", "cifar"])
def test_samples_show_what_the_recipe_does(crops, aug, recipe):
    import apr_dali
    from apr_dali import spectral
    from apr_dali.draws import SingleDraws

    images = crops(3, 32, 32)
    columns = plots.sample_columns(images, ImageNetOptions(data="d", aug=aug), recipe)
    expected = images
    assert np.array_equal(columns[0][1], images)
    assert len(columns) == {"none": 1, "apr-s": 2, "apr-p": 3, "apr-sp": 4}[aug]
    if "s" in aug.removeprefix("apr-"):
        expected = apr_dali.single(images, SingleDraws.sample(3, 32, 32, 0), backend="reference")
        assert np.abs(columns[1][1].astype(int) - expected).max() <= 1
        expected = columns[1][1]
    if aug in ("apr-p", "apr-sp"):
        partner, mixed = columns[-2][1], columns[-1][1]
        assert np.array_equal(partner, expected[[1, 2, 0]])
        mean, std = (np.reshape(v, (3, 1, 1)) for v in (recipe.mean, recipe.std))
        if not recipe.pair_after_normalise:
            mean, std = np.zeros_like(mean), np.ones_like(std)
        normal = [(spectral.to_planes(x) / 255 - mean) / std for x in (expected, partner)]
        levels = 255 * (spectral.recombine(*normal) * std + mean)
        assert np.abs(np.moveaxis(levels, 1, -1).clip(0, 255) - mixed).max() <= 0.51


def test_pictures_are_written_as_they_are_named(tmp_path, crops):
    row = {"train_loss": 2.0, "val_loss": 2.0, "top1": 0.5, "top5": 1.0, "lr": 0.1, "images_per_second": 9.0}
    step = {"kind": "step", "epoch": 1, "step": 2, "global_step": 2, "train_loss": 2.0, "lr": 0.1}
    plots.draw_curves(tmp_path / "c.png", [step], views=1)
    plots.draw_curves(tmp_path / "c.png", [step, {"kind": "epoch", "epoch": 1, "global_step": 4, **row}], views=2)
    plots.draw_samples(
        tmp_path / "s.png", crops(2, 16, 16), ["a", "b"], ImageNetOptions(data="d", aug="apr-sp"), IMAGENET
    )
    assert sorted(os.listdir(tmp_path)) == ["c.png", "s.png"]
    for name in ("c.png", "s.png"):
        with Image.open(tmp_path / name) as image:
            assert image.format == "PNG"
            assert np.asarray(image.convert("L")).std() > 10


@pytest.mark.parametrize("name", ["$\\frac$", "a$b$c^", "\udcff\udcfe", "a\x00b\nc", "犬" * 300, ""])
def test_samples_show_any_name_of_a_class(tmp_path, crops, name):
    plots.draw_samples(tmp_path / "s.png", crops(2, 16, 16), [name, "b"], ImageNetOptions(data="d"), IMAGENET)
    assert os.listdir(tmp_path) == ["s.png"]


@pytest.mark.parametrize("size", [(40, 30), (30, 41), (300, 20)])
def test_center_crop(size):
    image = Image.new("RGB", size)
    image.putpixel((size[0] // 2, size[1] // 2), (255, 255, 255))
    crop = plots.center_crop(image, 24)
    assert crop.shape == (24, 24, 3)
    assert crop.dtype == np.uint8
    assert crop[10:14, 10:14].max() > 60, "the middle of the photograph is in the middle"
    assert crop[:8].max() == 0
