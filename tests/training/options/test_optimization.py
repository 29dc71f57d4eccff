"""Options of the optimizer: what is refused, by name, and what auto stands for."""

from __future__ import annotations

import pytest

from apr_dali.errors import InputError
from apr_dali.training.command_line import parse
from apr_dali.training.options import CifarOptions, ImageNetOptions


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("--schedule cosine --lr-steps 3", "--lr-steps changes nothing here: it needs --schedule step"),
        ("--schedule cosine --lr-factor 0.5", "--lr-factor changes nothing here: it needs --schedule step"),
        ("--schedule cyclic --lr-steps 3", "--lr-steps changes nothing here: it needs --schedule step"),
        ("--min-lr 0.01", "--min-lr changes nothing here: it needs --schedule cosine or linear"),
        ("--schedule cyclic --min-lr 0.01", "--min-lr changes nothing here: it needs --schedule cosine"),
        (
            "--schedule cyclic --warmup-epochs 3",
            "--warmup-epochs changes nothing here: it needs --schedule step or cosine or",
        ),
        ("--warmup-lr 0.01", "--warmup-lr changes nothing here: it needs --warmup-epochs"),
        ("--warmup-epochs 2 --warmup-lr 0.2", "--warmup-lr 0.2 is above the learning rate 0.1"),
        ("--schedule cosine --min-lr 0.2", "--min-lr 0.2 is above the learning rate 0.1"),
        ("--schedule cosine --epochs 5 --warmup-epochs 5", "--warmup-epochs 5 leaves none of 5 --epochs to fall in"),
        ("--schedule poly", "--schedule: invalid choice: 'poly'"),
        ("--optimizer adamw --lr 1e-3 --momentum 0.8", "--momentum changes nothing here: it needs --optimizer sgd or"),
        ("--optimizer lamb --lr 1e-3 --momentum 0.8", "--momentum changes nothing here"),
        ("--optimizer adamw", "--lr 0.1 is a rate of SGD: with --optimizer adamw give one such as 1e-3"),
        ("--optimizer nesterov --momentum 0", "--optimizer nesterov needs a --momentum above 0"),
        ("--no-decay norms-and-biases --weight-decay 0", "--no-decay changes nothing here: it needs a --weight-decay"),
        ("--ema 0", "--ema must be between 0 and 1, got 0: leave it out for no average"),
        ("--ema 1", "--ema must be between 0 and 1, got 1"),
        ("--ema 1.5", "--ema must be at most 1"),
        ("--ema nan", "--ema must be at least 0, got nan"),
        ("--clip-grad 0", "--clip-grad must be above 0 and finite, got 0: leave it out for none"),
        ("--clip-grad inf", "--clip-grad must be above 0 and finite, got inf"),
        ("--clip-grad -1", "--clip-grad must be at least 0"),
        ("--accumulate 0", "--accumulate must be at least 1"),
        ("--compile fast", "--compile: invalid choice: 'fast'"),
    ],
)
@pytest.mark.parametrize(("kind", "start"), [(ImageNetOptions, "--data x "), (CifarOptions, "")])
def test_what_has_no_effect_is_refused(kind, start, given, message):
    with pytest.raises(InputError) as error:
        parse(kind, "", (start + given).split())
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("--adversarial fgsm --ema 0.9", "does not go with --ema"),
        ("--low-filters 0.5 --ema 0.9", "--ema does not go with --low-filters"),
        ("--adversarial fgsm --warmup-epochs 2", "--warmup-epochs changes nothing here"),
        ("--adversarial fgsm --min-lr 0.01", "--min-lr changes nothing here"),
    ],
)
def test_what_does_not_go_together_on_cifar(given, message):
    with pytest.raises(InputError) as error:
        parse(CifarOptions, "", given.split())
    assert message in str(error.value)


def test_what_is_given_arrives():
    given = "--data x --optimizer lamb --lr 5e-3 --schedule cosine --warmup-epochs 5 --warmup-lr 1e-6 --min-lr 1e-6 "
    given += "--no-decay norms-and-biases --clip-grad 1 --ema 0.999 --accumulate 4 --batch-size 64 --logger none"
    options = parse(ImageNetOptions, "", given.split())
    assert (options.chosen_optimizer, options.lr, options.chosen_schedule) == ("lamb", 5e-3, "cosine")
    assert (options.warmup_epochs, options.warmup_lr, options.min_lr) == (5.0, 1e-6, 1e-6)
    assert (options.no_decay, options.clip_grad, options.ema) == ("norms-and-biases", 1.0, 0.999)
    assert (options.images_of_a_step, options.logger) == (256, "none")


@pytest.mark.parametrize(
    ("given", "mode"), [("", "none"), ("--compile", "default"), ("--compile reduce-overhead", "reduce-overhead")]
)
def test_compile_alone_takes_the_default_mode(given, mode):
    assert parse(ImageNetOptions, "", f"--data x {given} --epochs 3".split()).compile == mode


def test_cifar_takes_a_cosine_with_adversarial_training():
    given = "--adversarial fgsm --schedule cosine --warmup-epochs 2 --optimizer nesterov"
    options = parse(CifarOptions, "", given.split())
    assert (options.chosen_schedule, options.chosen_optimizer) == ("cosine", "nesterov")
