"""Named recipes: what they set, that options given win, and that the run knows which it had."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, fields

import pytest
from helpers.tolerances import PRINTED, SCHEDULE

from apr_dali.errors import InputError
from apr_dali.training.command_line import parse
from apr_dali.training.options import CIFAR_RECIPES, IMAGENET_RECIPES, CifarOptions, ImageNetOptions
from apr_dali.training.schedule import learning_rate

KINDS = {"imagenet": (ImageNetOptions, IMAGENET_RECIPES, "--data x "), "cifar": (CifarOptions, CIFAR_RECIPES, "")}
ALL = [(kind, name) for kind, (_, recipes, _) in KINDS.items() for name in recipes]


def parsed(kind: str, given: str):
    made, recipes, start = KINDS[kind]
    return parse(made, "", (start + given).split(), recipes)


@pytest.mark.parametrize(("kind", "name"), ALL)
def test_a_recipe_is_its_command_line(kind, name):
    """It sets what it says, can be followed, and is the same as the options that --recipe help prints for it."""
    made, recipes, _ = KINDS[kind]
    options = parsed(kind, f"--recipe {name}")
    assert options.recipe == name
    by_hand = parsed(kind, recipes[name].command_line())
    differing = {item.name for item in fields(made) if getattr(options, item.name) != getattr(by_hand, item.name)}
    assert differing <= {"recipe"}
    for option, value in recipes[name].values.items():
        assert getattr(options, option) == value
    with pytest.raises(FrozenInstanceError):
        recipes[name].source = ""


@pytest.mark.parametrize("kind", KINDS)
def test_help_prints_what_each_sets(kind, capsys):
    with pytest.raises(SystemExit) as end:
        parsed(kind, "--recipe help")
    assert end.value.code == 0
    told = " ".join(capsys.readouterr().out.split())
    for name, recipe in KINDS[kind][1].items():
        assert f"{name} {recipe.source}" in told
        assert (recipe.command_line() or "the defaults") in told
        assert recipe.left_out in told


@pytest.mark.parametrize("kind", KINDS)
def test_the_first_recipe_is_the_defaults(kind):
    assert parsed(kind, f"--recipe {next(iter(KINDS[kind][1]))}") == parsed(kind, "")


def test_options_that_are_given_win():
    options = parsed("imagenet", "--recipe rsb-a2 --epochs 5 --warmup-epochs 1 --aug apr-sp --batch-size 64")
    assert (options.epochs, options.batch_size, options.aug) == (5, 64, "apr-sp")
    assert (options.chosen_optimizer, options.loss) == ("lamb", "bce")


def test_what_a_given_option_leaves_without_effect_is_refused():
    with pytest.raises(InputError, match=r"--min-lr changes nothing here.*is taken from --recipe rsb-a2"):
        parsed("imagenet", "--recipe rsb-a2 --schedule step")
    with pytest.raises(InputError, match=r"--recipe: invalid choice: 'rsb-a9'"):
        parsed("imagenet", "--recipe rsb-a9")


def test_ffcv_grows_and_falls_as_its_file_says():
    options = parsed("imagenet", "--recipe ffcv-88")
    sizes = [options.sizes.at(epoch) for epoch in (0, 65, 69, 70, 71, 76, 87)]
    # get_resolution of ffcv-imagenet: 160 up to epoch 65, 192 from 76 on, rounded to 32 in between.
    assert sizes == [160, 160, 160, 160, 192, 192, 192]
    rates = [learning_rate(options, epoch, 0, 10) for epoch in (0, 1, 2, 45, 87)]
    assert rates == pytest.approx([1.7e-4, (1.7e-4 + 1.7) / 2, 1.7, 1.7 / 2, 1.7 / 86])


def test_rsb_has_the_papers_numbers():
    options = parsed("imagenet", "--recipe rsb-a2")
    assert (options.epochs, options.images_of_a_step, options.lr, options.weight_decay) == (300, 2048, 5e-3, 0.02)
    assert (options.mixup, options.cutmix, options.label_smoothing, options.image_size) == (0.1, 1.0, 0.0, 224)


def airbench_factor(step: int, steps: int) -> float:
    """get_lr of airbench96.py."""
    warming = int(steps * 0.1)
    if step < warming:
        return 0.2 + 0.8 * step / warming
    return (steps - step) / (steps - warming)


@pytest.mark.parametrize(("updates", "within"), [(10, SCHEDULE), (48, 1 / 148)])
def test_airbench_warms_up_and_falls_as_its_file_says(updates, within):
    """48 steps are CIFAR-10's epoch, of whose run a tenth is no whole number, which its file cuts off."""
    options = parsed("cifar", "--recipe airbench")
    steps = options.epochs * updates
    rates = [learning_rate(options, *divmod(step, updates), updates) / options.lr for step in range(steps)]
    assert rates == pytest.approx([airbench_factor(step, steps) for step in range(steps)], rel=0, abs=within)


def test_airbench_has_the_numbers_of_its_file():
    options = parsed("cifar", "--recipe airbench")
    # It multiplies the gradient of the sum over 1024 images by lr / kilostep, and decays by wd · 1024 / kilostep.
    kilostep = 1024 * (1 + 1 / (1 - options.momentum))
    assert options.lr == pytest.approx(1024 * 9.0 / kilostep, rel=PRINTED)
    assert options.lr * options.weight_decay == pytest.approx(0.012 * 1024 / kilostep, rel=PRINTED)
    assert (options.epochs, options.images_of_a_step, options.momentum) == (31, 1024, 0.85)
    assert (options.chosen_optimizer, options.label_smoothing, options.aug) == ("nesterov", 0.2, "apr-sp")


def test_options_that_are_given_win_over_airbench():
    options = parsed("cifar", "--recipe airbench --aug apr-s --epochs 8 --warmup-epochs 0.8 --label-smoothing 0")
    assert (options.aug, options.epochs, options.label_smoothing, options.lr) == ("apr-s", 8, 0.0, 1.174)
    with pytest.raises(InputError, match=r"--warmup-epochs 3.1 leaves none.*is taken from --recipe airbench"):
        parsed("cifar", "--recipe airbench --epochs 3")
