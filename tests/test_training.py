"""The parts of the training loop: loss, schedule, accuracy, options, checkpoints, records, run folders."""

from __future__ import annotations

import errno
import json
import math
import os
import signal
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from apr_dali.config import CIFAR, IMAGENET, ImageNetOptions, TrainingOptions
from apr_dali.errors import InputError
from apr_dali.eval.clean import correct_within, evaluate
from apr_dali.training import checkpoint, command, folder, pictures
from apr_dali.training.checkpoint import Position, write_whole
from apr_dali.training.distributed import Group, start
from apr_dali.training.interrupts import Interrupted, Interrupts
from apr_dali.training.loop import Trainer, view_loss
from apr_dali.training.optimiser import learning_rate
from apr_dali.training.options import build_parser, parse
from apr_dali.training.records import Records

ALONE = Group(0, 1, 0, torch.device("cpu"))
DATA = ["--data", "somewhere"]


# ---- the loss --------------------------------------------------------------------------------------------------------


def test_loss_is_the_sum_of_the_views_means():
    # Two images with two views each, adjacent; two classes. -log softmax by hand: log(1 + e^(other - own)).
    logits = torch.tensor([[1.0, 0.0], [0.0, 2.0], [0.0, 0.0], [3.0, 0.0]])
    targets = torch.tensor([0, 0, 1, 1])
    clean = (math.log(1 + math.exp(-1)) + math.log(2)) / 2
    mixed = (math.log(1 + math.exp(2)) + math.log(1 + math.exp(3))) / 2
    assert float(view_loss(logits, targets, views=2)) == pytest.approx(clean + mixed, rel=1e-6)
    assert float(view_loss(logits[::2], targets[::2], views=1)) == pytest.approx(clean, rel=1e-6)


def test_loss_with_label_smoothing():
    # Half of 0.2 goes to each of two classes: 0.9 of the target's loss and 0.1 of the other's.
    loss = view_loss(torch.tensor([[1.0, 0.0]]), torch.tensor([0]), views=1, label_smoothing=0.2)
    own, other = math.log(1 + math.exp(-1)), math.log(1 + math.exp(1))
    assert float(loss) == pytest.approx(0.9 * own + 0.1 * other, rel=1e-6)


# ---- the learning rate -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("epoch", "rate"), [(0, 0.1), (29, 0.1), (30, 0.01), (59, 0.01), (60, 1e-3), (89, 1e-3), (90, 1e-4), (99, 1e-4)]
)
def test_published_schedule(epoch, rate):
    options = ImageNetOptions(data="x")
    for step in (0, 4):
        assert learning_rate(options, epoch, step, 5) == pytest.approx(rate, rel=1e-12)


def test_warm_up_rises_in_equal_parts_and_ends_at_the_peak():
    options = ImageNetOptions(data="x", warmup_epochs=2)
    rates = [learning_rate(options, epoch, step, 4) for epoch in range(3) for step in range(4)]
    assert rates == pytest.approx([0.1 * n / 8 for n in range(1, 9)] + [0.1] * 4)


def test_scaled_learning_rate():
    assert learning_rate(ImageNetOptions(data="x", scale_lr=True, batch_size=1024), 0, 0, 5) == pytest.approx(0.4)
    assert learning_rate(ImageNetOptions(data="x", batch_size=1024), 0, 0, 5) == pytest.approx(0.1)


# ---- accuracy --------------------------------------------------------------------------------------------------------


def test_ties_go_to_the_lower_class():
    logits = torch.tensor([[1.0, 1.0, 0.0]] * 3)
    assert correct_within(logits, torch.tensor([0, 1, 2]), 1).tolist() == [True, False, False]
    assert correct_within(logits, torch.tensor([0, 1, 2]), 2).tolist() == [True, True, False]


def test_a_diverged_network_is_wrong():
    logits = torch.tensor([[math.nan, math.nan], [1.0, math.nan], [1.0, 0.0]])
    assert correct_within(logits, torch.zeros(3, dtype=torch.long), 2).tolist() == [False, False, True]


class _Given(nn.Module):
    """Gives its input's first column of pixels as logits: what evaluate sums is then known."""

    def forward(self, images):
        assert not self.training
        return images[:, 0, :, 0]


def test_evaluate_by_hand_with_a_partial_batch():
    # The target's rank in the seven rows: 0, 0, 1, 4, 5, 6, 0.
    targets = torch.tensor([6, 5, 5, 2, 1, 0, 6])
    rows = torch.arange(7.0).repeat(7, 1)
    rows[1, 5] = 9.0
    images = rows[:, None, :, None]
    batches = [(images[:4], targets[:4]), (images[4:], targets[4:])]
    model = _Given().train()
    result = evaluate(model, batches, "cpu")
    assert model.training
    assert (result.images, result.top1, result.top5) == (7, 3 / 7, 5 / 7)
    soft = torch.log_softmax(rows.double(), 1)
    assert result.loss == pytest.approx(-float(soft[torch.arange(7), targets].mean()), rel=1e-6)


def test_top5_of_three_classes_is_always_right_and_of_nothing_is_nan():
    images = torch.rand(4, 1, 3, 1)
    assert evaluate(_Given(), [(images, torch.tensor([0, 1, 2, 0]))], "cpu").top5 == 1.0
    assert math.isnan(evaluate(_Given(), [], "cpu").top1)


# ---- options ---------------------------------------------------------------------------------------------------------


def test_defaults_are_the_published_recipe():
    options = parse(ImageNetOptions, "", DATA)
    found = [getattr(options, n) for n in ("model", "epochs", "batch_size", "lr", "lr_steps", "lr_factor")]
    assert found == ["resnet50", 100, 256, 0.1, (30, 60, 90), 0.1]
    assert (options.momentum, options.weight_decay, options.label_smoothing) == (0.9, 1e-4, 0.0)
    assert (options.overflow, options.axes, options.pair_probability) == (
        IMAGENET.overflow,
        IMAGENET.axes,
        IMAGENET.pair_probability,
    )


def test_options_have_their_types():
    given = "--lr 0.5 --lr-steps 3 4 --compile --train a b --val c --amp bf16 --warmup-epochs 0.5"
    options = parse(ImageNetOptions, "", given.split())
    assert (options.lr, options.lr_steps, options.compile, options.train) == (0.5, (3, 4), True, ("a", "b"))
    assert (options.val, options.amp, options.warmup_epochs, options.data) == ("c", "bf16", 0.5, "")


def test_help_names_every_option_and_its_default():
    text = " ".join(build_parser(ImageNetOptions, "What it does: 100 %").format_help().split())
    for item in fields(ImageNetOptions):
        assert f"--{item.name.replace('_', '-')}" in text
    assert "(default 30 60 90)" in text
    assert "What it does: 100 %" in text


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("--aug apr-x", "'apr-x'"),
        ("--agu apr-s", "did you mean --aug?"),
        ("--epochs many", "--epochs"),
        ("--epochs 0", "--epochs must be at least 1, got 0"),
        ("--lr nan", "--lr must be at least 0, got nan"),
        ("--lr-steps 3 -1", "--lr-steps must be at least 0, got -1"),
        ("--momentum 1.5", "--momentum must be at most 1, got 1.5"),
        ("--pair-probability 0.4", "--pair-probability changes nothing with --aug none"),
        ("--aug apr-p --overflow clamp", "--overflow changes nothing with --aug apr-p"),
        ("--axes hw", "--axes changes nothing with --aug none"),
        ("--resume auto", "--resume auto needs --output"),
        ("--resume a.pt --eval-only b.pt", "exclude each other"),
        ("--eval-only b.pt --train more", "--train changes nothing"),
    ],
)
def test_bad_options_are_refused(given, told):
    with pytest.raises(InputError) as error:
        parse(ImageNetOptions, "", DATA + given.split())
    assert told in str(error.value)


@pytest.mark.parametrize("given", ["", "--train a", "--val b", "--eval-only c.pt"])
def test_missing_data_names_the_sample(given):
    with pytest.raises(InputError, match="--data sample"):
        parse(ImageNetOptions, "", given.split())


# ---- files written whole ---------------------------------------------------------------------------------------------


LOADER_STATE = {"pipeline": b"\x00\xff" * 50, "none": b"", "batch": 3, "graph": {"device": "cpu", "shard": [0, 1]}}


def _state(epoch: int = 0, **more) -> dict:
    return {
        "architecture": "net",
        "classes": ["a", "b"],
        "position": {"epoch": epoch, "step": 3, "trained": False},
        "processes": [{"loader": checkpoint.without_bytes(LOADER_STATE)}],
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
    assert checkpoint.with_bytes(found["latest.pt"]["processes"][0]["loader"]) == LOADER_STATE
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


def test_a_failure_while_writing_leaves_the_file(tmp_path):
    path = tmp_path / "f"
    path.write_bytes(b"old")

    def fail(file):
        file.write(b"new")
        raise RuntimeError("something else")

    with pytest.raises(RuntimeError, match="something else"):
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
    output, source = folder.choose(_options(aug="apr-s"), "timm/test_resnet")
    assert output.parent == Path("runs")
    assert output.name.startswith("timm-test_resnet-apr-s-20")
    assert source is None


def test_folder_of_another_run_needs_resume(tmp_path):
    used = tmp_path / "used"
    used.mkdir()
    assert folder.choose(_options(output=str(used)), "net") == (used, None)
    (used / "config.json").touch()
    with pytest.raises(InputError, match=r"already has files.*--resume auto"):
        folder.choose(_options(output=str(used)), "net")
    assert folder.choose(_options(output=str(used), resume="auto"), "net") == (used, None)
    (used / "previous.pt").touch()
    assert folder.choose(_options(output=str(used), resume="auto"), "net") == (used, used / "previous.pt")
    (used / "latest.pt").touch()
    assert folder.choose(_options(output=str(used), resume="auto"), "net") == (used, used / "latest.pt")
    with pytest.raises(InputError, match="already has files"):
        folder.choose(_options(output=str(used), resume=str(tmp_path / "elsewhere" / "latest.pt")), "net")


def test_resume_auto_leaves_foreign_folders_alone(tmp_path):
    (tmp_path / "thesis.txt").touch()
    with pytest.raises(InputError, match="is not a run folder"):
        folder.choose(_options(output=str(tmp_path), resume="auto"), "net")


def test_resume_path_continues_in_its_folder(tmp_path):
    path = tmp_path / "best.pt"
    path.touch()
    assert folder.choose(_options(resume=str(path)), "net") == (tmp_path, path)
    assert folder.choose(_options(resume=str(path), output=str(tmp_path / "new")), "net") == (tmp_path / "new", path)


def test_resuming_from_previous_gets_the_broken_latest_out_of_the_way(tmp_path):
    for epoch in (0, 1):
        checkpoint.save(tmp_path, _state(epoch), best=False)
    (tmp_path / "latest.pt").write_bytes(b"broken")
    folder.create(tmp_path, _options(), ALONE, tmp_path / "previous.pt")
    checkpoint.save(tmp_path, _state(7), best=False)
    assert [_load(tmp_path / name)["position"]["epoch"] for name in ("latest.pt", "previous.pt")] == [7, 0]
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["versions"]["torch"] == torch.__version__.partition("+")[0]
    assert config["options"]["model"] == "resnet50"


# ---- records ---------------------------------------------------------------------------------------------------------


def _recorded(path: Path) -> list[tuple]:
    rows = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    return [(row["kind"], row["epoch"], row.get("step")) for row in rows]


def _record(path: Path, position: Position, epochs: range) -> None:
    values = {"train_loss": 1.0, "val_loss": 1.0, "top1": 0.5, "top5": 1.0, "lr": 0.1, "images_per_second": 9.0}
    with Records(path, True, 3, position) as records:
        for epoch in epochs:
            records.begin_epoch(epoch, 0, 4)
            for step in (2, 4):
                records.step(epoch, step, 1.0, 0.1, 9.0)
            records.epoch(epoch, values)


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


def test_other_processes_record_nothing(tmp_path, capsys):
    with Records(tmp_path, False, 3, Position()) as records:
        records.begin_epoch(0, 0, 4)
        records.advance(1.0)
        records.step(0, 1, 1.0, 0.1, 9.0)
    assert os.listdir(tmp_path) == []
    assert capsys.readouterr() == ("", "")


# ---- signals and exit statuses ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_first_signal_is_a_request(signum, capfd):
    former = signal.getsignal(signum)
    with Interrupts(announce=True) as interrupts:
        os.kill(os.getpid(), signum)
        assert interrupts.signum == signum
        with pytest.raises(Interrupted, match="later"):
            next(interrupts.watch([1], "later"))
    assert signal.getsignal(signum) == former
    assert "stopping after this step" in capfd.readouterr().err


def test_second_ctrl_c_quits_at_once(monkeypatch):
    codes = []
    monkeypatch.setattr(os, "_exit", codes.append)
    with Interrupts(announce=False) as interrupts:
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
        assert codes == []
        os.kill(os.getpid(), signal.SIGINT)
        assert codes == [130]
        assert interrupts.signum == signal.SIGTERM, "the first one gives the exit status"


@pytest.mark.parametrize(
    ("error", "status", "told"),
    [
        (InputError("no such thing"), 2, "error: no such thing\n"),
        (Interrupted(signal.SIGTERM, "saved"), 143, "saved\n"),
        (Interrupted(signal.SIGINT, "saved"), 130, "saved\n"),
        (KeyboardInterrupt(), 130, ""),
        (OSError(errno.ENOSPC, "No space left on device", "f"), 2, "error: [Errno 28] No space left on device: 'f'"),
    ],
)
def test_exit_statuses(error, status, told, capsys):
    def main():
        raise error

    assert command.run(main) == status
    assert capsys.readouterr().err.startswith(told)


def test_programming_errors_keep_their_traceback():
    with pytest.raises(ZeroDivisionError):
        command.run(lambda: 1 / 0)


def test_gpu_that_is_not_there(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match="torch finds no GPU"), start("gpu"):
        pass
    with start("auto") as group:
        assert group == ALONE


def test_batch_is_shared_evenly():
    assert replace(ALONE, world=4).share(32) == 8
    with pytest.raises(InputError, match="divisible by the 3 processes, got 32"):
        replace(ALONE, world=3).share(32)


# ---- the trainer on a loader made by hand ----------------------------------------------------------------------------


class _Batches:
    """Three batches an epoch that come from the epoch's and the batch's number; its state is where it stands."""

    views, classes = 2, ("a", "b")

    def __init__(self, factor: float = 1.0):
        self.epoch = self.batch = 0
        self.factor = factor

    def __len__(self):
        return 3

    def __iter__(self):
        while self.batch < len(self):
            generator = torch.Generator().manual_seed(10 * self.epoch + self.batch)
            self.batch += 1
            yield self.factor * torch.randn(8, 3, 4, 4, generator=generator), torch.arange(8) // 2 % 2
        self.epoch, self.batch = self.epoch + 1, 0

    def state_dict(self):
        return {"epoch": self.epoch, "batch": self.batch}

    def load_state_dict(self, state):
        if self.factor != 1.0:
            raise InputError("other batches")
        self.epoch, self.batch = state["epoch"], state["batch"]


def _trainer(**given) -> Trainer:
    options = TrainingOptions(lr=0.1, epochs=3, **given)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Flatten(), nn.Dropout(0.5), nn.Linear(64, 2))
    return Trainer(model, options, ALONE, "net")


def _train(trainer: Trainer, loader, path: Path, epochs: int) -> list[float]:
    losses = []
    with Records(path, False, 3, trainer.position) as records, Interrupts(announce=False) as interrupts:
        while trainer.position.epoch < epochs:
            losses.append(trainer.train_epoch(loader, path, records, interrupts))
            trainer.end_epoch(loader, path, top1=0.5)
    return losses


def test_a_step_is_that_of_sgd_on_the_published_loss():
    trainer = _trainer(weight_decay=0.01)
    trainer.model.eval()  # no dropout, no batch statistics: the step is then known
    weight = trainer.model[4].weight.detach().clone()
    images, targets = next(iter(_Batches()))
    logits = trainer.model(images)
    views = [nn.functional.cross_entropy(logits[view::2], targets[view::2]) for view in (0, 1)]
    (gradient,) = torch.autograd.grad(views[0] + views[1], trainer.model[4].weight)
    loss = trainer.step(images, targets, views=2)
    assert float(loss) == pytest.approx(float((views[0] + views[1]).detach()), rel=1e-6)
    expected = weight - 0.1 * (gradient + 0.01 * weight)
    torch.testing.assert_close(trainer.model[4].weight.detach(), expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("amp", ["none", "bf16", "fp16"])
def test_interrupted_training_ends_as_uninterrupted(tmp_path, amp):
    whole = _trainer(amp=amp)
    losses = _train(whole, _Batches(), tmp_path, 3)

    class Interrupting(_Batches):
        def __iter__(self):
            for number, batch in enumerate(super().__iter__()):
                if self.epoch == 1 and number == 1:
                    os.kill(os.getpid(), signal.SIGTERM)
                yield batch

    stopped = _trainer(amp=amp)
    with pytest.raises(Interrupted):
        _train(stopped, Interrupting(), tmp_path, 3)
    state = _load(tmp_path / "latest.pt")
    assert state["position"] == {"epoch": 1, "step": 2, "trained": False, "loss": 0.0, "best": 0.5, "stream": 0}

    resumed, loader = _trainer(amp=amp), _Batches()
    torch.manual_seed(99)  # dropout must continue from the checkpoint
    resumed.load(state)
    assert resumed.load_stream(state, loader) is None
    assert _train(resumed, loader, tmp_path, 3) == losses[1:]
    assert_same_weights(resumed, whole)


def test_stopped_in_validation_goes_on_with_it(tmp_path):
    whole = _trainer()
    losses = _train(whole, _Batches(), tmp_path, 3)
    stopped, loader = _trainer(), _Batches()
    with Records(tmp_path, False, 3, stopped.position) as records, Interrupts(announce=False) as interrupts:
        loss = stopped.train_epoch(loader, tmp_path, records, interrupts)
    resumed, loader = _trainer(), _Batches()
    state = _load(tmp_path / "latest.pt")
    resumed.load(state)
    assert resumed.load_stream(state, loader) is None
    assert (loss, resumed.position.trained) == (losses[0], True)
    assert _train(resumed, loader, tmp_path, 3) == losses
    assert_same_weights(resumed, whole)


def assert_same_weights(found: Trainer, expected: Trainer) -> None:
    for name, value in expected.model.state_dict().items():
        assert torch.equal(value, found.model.state_dict()[name]), name


def test_a_loader_of_another_length_than_it_says(tmp_path):
    trainer, loader = _trainer(), _Batches()
    loader.batch = 1
    with pytest.raises(RuntimeError, match="the epoch had 2 batches, the loader's length is 3"):
        _train(trainer, loader, tmp_path, 1)


def test_saved_within_the_epoch_when_time_is_up(tmp_path):
    trainer, positions = _trainer(checkpoint_minutes=0), []
    save = trainer.save
    trainer.save = lambda *given, **named: (save(*given, **named), positions.append(replace(trainer.position)))
    _train(trainer, _Batches(), tmp_path, 1)
    assert [(p.epoch, p.step, p.trained) for p in positions] == [
        (0, 1, False),
        (0, 2, False),
        (0, 3, True),
        (1, 0, False),
    ]


@pytest.mark.parametrize("processes", [1, 2], ids=["other batches", "other number of processes"])
def test_what_cannot_continue_in_mid_epoch_restarts_it(tmp_path, processes):
    trainer = _trainer(checkpoint_minutes=0)
    trainer.position = Position(epoch=2, step=2)
    trainer.save(_Batches(), tmp_path)
    state = _load(tmp_path / "latest.pt")
    state["processes"] *= processes
    other = _trainer()
    other.load(state)
    reason = other.load_stream(state, _Batches(factor=2.0))
    assert reason == ("other batches" if processes == 1 else "it was saved by 2 processes, now there are 1")
    other.restart_epoch()
    assert (other.position, other.loader_seed()) == (Position(epoch=2, step=0, stream=3), 3)


def test_restart_after_the_last_step_leaves_the_epoch_to_validation():
    trainer = _trainer()
    trainer.position = Position(epoch=2, step=3, trained=True)
    trainer.restart_epoch()
    assert trainer.position == Position(epoch=2, step=3, trained=True, stream=3)


def test_divergence_is_told_and_not_saved(tmp_path):
    trainer = _trainer()
    with pytest.raises(InputError, match="training diverged: the loss is nan in epoch 1, step 1"):
        _train(trainer, _Batches(factor=math.inf), tmp_path, 1)
    assert os.listdir(tmp_path) == []


# ---- pictures --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("aug", ["none", "apr-p", "apr-s", "apr-sp"])
@pytest.mark.parametrize("recipe", [IMAGENET, CIFAR], ids=["imagenet", "cifar"])
def test_samples_show_what_the_recipe_does(crops, aug, recipe):
    import apr_dali
    from apr_dali import spectral
    from apr_dali.draws import SingleDraws

    images = crops(3, 32, 32)
    columns = pictures.sample_columns(images, ImageNetOptions(data="d", aug=aug), recipe)
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
    pictures.draw_curves(tmp_path / "c.png", [step], views=1)
    pictures.draw_curves(tmp_path / "c.png", [step, {"kind": "epoch", "epoch": 1, "global_step": 4, **row}], views=2)
    pictures.draw_samples(
        tmp_path / "s.png", crops(2, 16, 16), ["a", "b"], ImageNetOptions(data="d", aug="apr-sp"), IMAGENET
    )
    assert sorted(os.listdir(tmp_path)) == ["c.png", "s.png"]
    for name in ("c.png", "s.png"):
        with Image.open(tmp_path / name) as image:
            assert image.format == "PNG"
            assert np.asarray(image.convert("L")).std() > 10


@pytest.mark.parametrize("size", [(40, 30), (30, 41), (300, 20)])
def test_centre_crop(size):
    image = Image.new("RGB", size)
    image.putpixel((size[0] // 2, size[1] // 2), (255, 255, 255))
    crop = pictures.centre_crop(image, 24)
    assert crop.shape == (24, 24, 3)
    assert crop.dtype == np.uint8
    assert crop[10:14, 10:14].max() > 60, "the middle of the photograph is in the middle"
    assert crop[:8].max() == 0
