"""How a training run is asked for: options, and what a checkpoint knows of them."""

from __future__ import annotations

import ast
from dataclasses import asdict, fields, replace
from pathlib import Path

import pytest
from helpers.project import ROOT

from apr_dali.errors import InputError
from apr_dali.recipes import IMAGENET
from apr_dali.runtime import checkpoint
from apr_dali.training.command_line import build_parser, changes, parse
from apr_dali.training.options import CIFAR_RECIPES, CifarOptions, ImageNetOptions

DATA = ["--data", "somewhere"]


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
    assert (options.lr, options.lr_steps, options.compile, options.train) == (0.5, (3, 4), "default", ("a", "b"))
    assert (options.val, options.amp, options.warmup_epochs, options.data) == ("c", "bf16", 0.5, "")


def test_help_names_every_option_and_its_default():
    text = " ".join(build_parser(ImageNetOptions, "What it does: 100 %").format_help().split())
    for item in fields(ImageNetOptions):
        assert f"--{item.name.replace('_', '-')}" in text
    assert "(default 30 60 90)" in text
    assert "What it does: 100 %" in text


@pytest.mark.parametrize(("script", "kind"), [("train_imagenet.py", ImageNetOptions), ("train_cifar.py", CifarOptions)])
def test_help_fits_a_terminal(script, kind, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    description = ast.get_docstring(ast.parse((ROOT / script).read_text()))
    told = build_parser(kind, description).format_help()
    assert [line for line in told.splitlines() if len(line) > 80] == []


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("--aug apr-x", "'apr-x'"),
        ("--agu apr-s", "did you mean --aug?"),
        ("--epochs many", "--epochs"),
        ("--epochs 0", "--epochs must be at least 1, got 0"),
        ("--lr nan", "--lr must be at least 0, got nan"),
        ("--lr-steps 3 -1", "--lr-steps must be at least 0, got -1"),
        (f"--seed {2**64}", f"--seed must be at most {2**62 - 1}, got {2**64}"),
        ("--scale 0.5", "--scale must be two positive numbers, the smaller first, got (0.5,)"),
        ("--scale 0 1", "--scale must be two positive numbers, the smaller first, got (0.0, 1.0)"),
        ("--scale 0.5 1.5", "--scale must be at most 1, got 1.5"),
        ("--ratio 2 1", "--ratio must be two positive numbers, the smaller first, got (2.0, 1.0)"),
        ("--hflip 2", "--hflip must be at most 1, got 2"),
        ("--hw-decoder-load nan", "--hw-decoder-load must be at least 0, got nan"),
        ("--momentum 1.5", "--momentum must be at most 1, got 1.5"),
        ("--pair-probability 0.4", "--pair-probability changes nothing with --aug none"),
        ("--aug apr-p --overflow clamp", "--overflow changes nothing with --aug apr-p"),
        ("--axes hw", "--axes changes nothing with --aug none"),
        ("--resume auto", "--resume auto needs --output"),
        ("--resume a.pt --eval-only b.pt", "exclude each other"),
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


# ---- what a checkpoint knows -----------------------------------------------------------------------------------------


TRAINED = "--model resnet18 --image-size 48 --amp bf16 --lr 0.5 --lr-steps 3 4 --aug apr-p --pair-probability 0.25"
ELSEWHERE = "--threads 3 --device cpu --checkpoint-minutes 2 --check full --compile"


@pytest.fixture
def trained(tmp_path) -> Path:
    """A checkpoint of a run with TRAINED and ELSEWHERE."""
    options = parse(ImageNetOptions, "", [*DATA, *TRAINED.split(), *ELSEWHERE.split()])
    checkpoint.save(tmp_path, {"architecture": "resnet18", "options": asdict(options)}, best=False)
    return tmp_path / checkpoint.LATEST


@pytest.mark.parametrize("way", ["--eval-only {}", "--resume {}", "--resume auto --output {parent}"])
def test_a_checkpoints_options_are_the_defaults(trained, way):
    given = f"{way} --batch-size 8 --data here".format(trained, parent=trained.parent)
    options = parse(ImageNetOptions, "", given.split())
    expected = parse(ImageNetOptions, "", f"--data here {TRAINED}".split())
    same = {"eval_only": options.eval_only, "resume": options.resume, "output": options.output}
    assert options == replace(expected, batch_size=8, **same)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("--lr 3", "--lr changes nothing with --eval-only, which trains nothing: leave it out"),
        ("--seed 1 --aug none", "--aug, --seed change nothing with --eval-only, which trains nothing: leave them out"),
        ("--output run", "--output changes nothing"),
        ("--checkpoint-minutes 2", "--checkpoint-minutes changes nothing"),
        ("--logger tensorboard", "--logger changes nothing"),
        ("--train more", "--train changes nothing"),
        ("--train-weights 1 2", "--train-weights changes nothing"),
        ("--progressive 32:0 48:9", "--progressive changes nothing"),
        ("--sampler balanced", "--sampler changes nothing"),
        ("--validate-corrupted 9 --best-by corrupted", "--validate-corrupted, --best-by change nothing"),
        ("--sync-bn", "--sync-bn changes nothing"),
        ("--no-scale-lr --ema 0.9", "--ema changes nothing"),
    ],
)
def test_options_of_training_are_refused_in_validation(trained, given, told):
    with pytest.raises(InputError) as error:
        parse(ImageNetOptions, "", f"--data x --eval-only {trained} {given}".split())
    assert told in str(error.value)


def test_what_validation_follows_is_taken(trained):
    given = "--image-size 64 --val-size 32 --val-crop 0.5 --batch-size 8 --amp none --threads 1 --device cpu"
    # A run's own command with --eval-only behind it, too.
    options = parse(ImageNetOptions, "", f"--data x {TRAINED} --eval-only {trained} {given}".split())
    assert (options.image_size, options.val_size, options.val_crop, options.amp) == (64, 32, 0.5, "none")


@pytest.mark.parametrize(
    "run", ["--train more --train-weights 1 2", "--progressive 32:0 224:50", "--amp fp16 --skip-limit 5"]
)
def test_a_run_of_any_options_of_training_is_validated(tmp_path, run):
    options = parse(ImageNetOptions, "", [*DATA, *run.split()])
    checkpoint.save(tmp_path, {"options": asdict(options)}, best=False)
    given = f"--data here --image-size 160 --amp none --eval-only {tmp_path / checkpoint.LATEST}"
    assert parse(ImageNetOptions, "", given.split()).image_size == 160


def test_an_older_run_had_the_defaults_of_newer_options(tmp_path):
    options = asdict(parse(ImageNetOptions, "", DATA))
    del options["hflip"]
    checkpoint.save(tmp_path, {"options": options}, best=False)
    given = ["--data", "here", "--eval-only", str(tmp_path / checkpoint.LATEST), "--hflip"]
    assert parse(ImageNetOptions, "", [*given, "0.5"]).hflip == 0.5
    with pytest.raises(InputError, match="--hflip changes nothing"):
        parse(ImageNetOptions, "", [*given, "0.25"])


def test_options_of_small_networks_training_are_refused_in_validation(tmp_path):
    checkpoint.save(tmp_path, {"options": asdict(CifarOptions(low_filters=0.25))}, best=False)
    path = str(tmp_path / checkpoint.LATEST)
    given = "--low-filters 0.5 --epsilon 4 --single-probability 0.5 --on-overfitting stop"
    with pytest.raises(InputError, match="--low-filters, --single-probability, --epsilon, --on-overfitting change"):
        parse(CifarOptions, "", ["--eval-only", path, *given.split()])
    assert parse(CifarOptions, "", ["--eval-only", path, "--low-filters", "0.25"]).low_filters == 0.25


def test_a_switch_can_be_put_back(tmp_path):
    checkpoint.save(tmp_path, {"options": asdict(ImageNetOptions(data="x", scale_lr=True))}, best=False)
    given = [*DATA, "--resume", str(tmp_path / checkpoint.LATEST)]
    assert parse(ImageNetOptions, "", given).scale_lr is True
    assert parse(ImageNetOptions, "", [*given, "--no-scale-lr"]).scale_lr is False


def test_changes_are_named(trained):
    before = checkpoint.load_options(trained)
    given = f"--resume {trained} --data there --threads 1 --weight-decay 0.5 --lr-steps 3"
    options = parse(ImageNetOptions, "", given.split())
    assert changes(before, options) == ["--lr-steps 3 4 → 3", "--weight-decay 0.0001 → 0.5"]
    assert changes(before, replace(options, weight_decay=1e-4, lr_steps=(3, 4))) == []


def test_what_does_not_go_with_a_checkpoints_options_names_it(trained):
    with pytest.raises(InputError, match=r"--pair-probability changes nothing.*taken from the checkpoint .*latest\.pt"):
        parse(ImageNetOptions, "", [*DATA, "--resume", str(trained), "--aug", "none"])


def test_a_checkpoint_of_the_other_trainer_is_refused(trained):
    with pytest.raises(InputError, match=r"was not written by this trainer.*--check.*--on-error"):
        parse(CifarOptions, "", ["--eval-only", str(trained)])


def test_a_recipe_is_for_the_beginning(tmp_path):
    first = parse(CifarOptions, "", ["--recipe", "fgsm", "--epochs", "3"], CIFAR_RECIPES)  # which says 30
    checkpoint.save(tmp_path, {"options": asdict(first)}, best=False)
    given = ["--resume", "auto", "--output", str(tmp_path)]
    assert parse(CifarOptions, "", given, CIFAR_RECIPES) == replace(first, resume="auto", output=str(tmp_path))
    assert parse(CifarOptions, "", [*given, "--recipe", "fgsm"], CIFAR_RECIPES).epochs == 3
    with pytest.raises(InputError, match="began with --recipe fgsm: --recipe standard needs a new run"):
        parse(CifarOptions, "", [*given, "--recipe", "standard"], CIFAR_RECIPES)
