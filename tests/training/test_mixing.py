"""MixUp and CutMix against timm's, value by value, of one view and of two."""

from __future__ import annotations

import numpy as np
import pytest
import timm.data.mixup
import torch
from timm.data import Mixup
from torch import nn
from torch.nn import functional as F

from apr_dali.errors import InputError
from apr_dali.recipes import IMAGENET
from apr_dali.runtime.distributed import Group
from apr_dali.training import losses, mixing
from apr_dali.training.engine import Trainer
from apr_dali.training.mixing import MixDraws, cut_box, mix, soft_targets
from apr_dali.training.options import CifarOptions, ImageNetOptions
from apr_dali.training.start import check_batch

CPU = torch.device("cpu")
COUNT, CLASSES, SIZE = 6, 5, 8
FLIPPED = torch.arange(COUNT).flip(0)
"""timm's partners."""
BOX = (1, 5, 2, 8)


def batch(views: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return (
        torch.randn(views * COUNT, 3, SIZE, SIZE, generator=generator),
        torch.randint(CLASSES, (COUNT,), generator=generator).repeat_interleave(views),
    )


def draws(cuts: bool) -> MixDraws:
    share = 1 - 4 * 6 / SIZE**2 if cuts else 0.3
    return MixDraws(FLIPPED, share, BOX if cuts else None)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("cuts", [False, True])
def test_images_and_targets_are_timms(cuts, smoothing, monkeypatch):
    images, targets = batch()
    given = draws(cuts)
    top, bottom, left, right = BOX
    monkeypatch.setattr(Mixup, "_params_per_batch", lambda _: (given.share, cuts))
    monkeypatch.setattr(
        timm.data.mixup, "cutmix_bbox_and_lam", lambda *_, **__: ((top, bottom, left, right), given.share)
    )
    theirs = Mixup(1.0, 1.0, label_smoothing=smoothing, num_classes=CLASSES)(images.clone(), targets)
    assert torch.equal(soft_targets(targets, CLASSES, smoothing, given), theirs[1])
    torch.testing.assert_close(mix(images, given), theirs[0], rtol=1e-6, atol=1e-6)
    assert not torch.equal(theirs[0], images)


def test_targets_that_are_not_mixed_are_smoothed_as_timm_does():
    targets = batch()[1]
    expected = timm.data.mixup.mixup_target(targets, CLASSES, 1.0, 0.1)
    assert torch.equal(soft_targets(targets, CLASSES, 0.1), expected)
    logits = torch.randn(COUNT, CLASSES)
    expected = F.cross_entropy(logits, targets, label_smoothing=0.1)
    torch.testing.assert_close(F.cross_entropy(logits, soft_targets(targets, CLASSES, 0.1)), expected)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.83, 1.0])
def test_boxes_are_timms(share, monkeypatch):
    if tuple(map(int, timm.__version__.split(".")[:3])) < (1, 0, 29):
        pytest.skip("older versions of timm make boxes of odd sizes a pixel smaller")
    height, width = 7, 10
    for row in range(height):
        for column in range(width):
            places = iter((row, column))
            monkeypatch.setattr(np.random, "randint", lambda *_, **__: next(places))  # noqa: B023
            top, bottom, left, right = timm.data.mixup.rand_bbox((3, height, width), share)
            assert cut_box(height, width, share, row, column) == (top, bottom, left, right)


def test_draws_follow_the_seed_and_their_distributions():
    def sample(seed, mixup, cutmix):
        return MixDraws.sample(COUNT, 40, 30, mixup, cutmix, seed)

    one, same, other = sample(1, 0.2, 1.0), sample(1, 0.2, 1.0), sample(2, 0.2, 1.0)
    assert (one.share, one.box, one.partner.tolist()) == (same.share, same.box, same.partner.tolist())
    assert (one.share, one.partner.tolist()) != (other.share, other.partner.tolist())
    both = [sample(seed, 0.2, 1.0) for seed in range(2000)]
    assert all(sorted(draw.partner.tolist()) == list(range(COUNT)) for draw in both)
    cut = [draw for draw in both if draw.box is not None]
    assert abs(len(cut) / len(both) - 0.5) < 4 * 0.5 / len(both) ** 0.5
    for draw in cut:
        top, bottom, left, right = draw.box
        assert draw.share == 1 - (bottom - top) * (right - left) / (40 * 30)
    # Beta(α, α) has the mean 1/2 and the variance 1 / (4 (2α + 1)).
    for alpha in (0.2, 1.0):
        shares = np.array([sample(seed, alpha, 0.0).share for seed in range(4000)])
        assert abs(shares.mean() - 0.5) < 0.04
        assert abs(shares.var() - 1 / (4 * (2 * alpha + 1))) < 0.01
    assert all(sample(seed, 0.5, 0.0).box is None for seed in range(20))
    assert all(sample(seed, 0.0, 0.5).box is not None for seed in range(20))


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("cuts", [False, True])
def test_both_views_are_mixed_with_the_same_partner_or_the_clean_one_alone(cuts, channels_last):
    images, targets = batch(2)
    images = images.contiguous(memory_format=torch.channels_last) if channels_last else images
    given, before = draws(cuts), images.clone()
    alone = [mix(images[view::2], given) for view in (0, 1)]
    soft = soft_targets(targets[::2], CLASSES, 0.1, given)
    both, clean = (mix(images, given, 2, mixed) for mixed in (2, 1))
    for view in (0, 1):
        assert torch.equal(both[view::2], alone[view])
        assert torch.equal(soft_targets(targets, CLASSES, 0.1, given, 2, 2)[view::2], soft)
    assert torch.equal(clean[::2], alone[0])
    assert torch.equal(clean[1::2], images[1::2])
    found = soft_targets(targets, CLASSES, 0.1, given, 2, 1)
    assert torch.equal(found[::2], soft)
    assert torch.equal(found[1::2], soft_targets(targets[1::2], CLASSES, 0.1))
    for result in (both, clean):
        assert result.is_contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)
    assert torch.equal(images, before), "the loader's batch stays as it is"


# ---- the loss over them ----------------------------------------------------------------------------------------------


class Network(nn.Module):
    """Keeps what it saw; its logits are pixels."""

    def forward(self, images):
        self.seen = images
        return images[:, 0, 0, :CLASSES]


def loss_of(**given):
    return losses.objective(ImageNetOptions(data="x", **given), Network(), CLASSES, IMAGENET, CPU)


def test_plain_training_keeps_the_trainers_own_loss():
    assert loss_of() is loss_of(aug="apr-p", label_smoothing=0.1) is None
    for given in ({"mixup": 0.2}, {"cutmix": 1.0}, {"loss": "bce"}, {"aug": "apr-p", "jsd": 1.0}):
        assert isinstance(loss_of(**given), losses.BatchLoss)


@pytest.mark.parametrize(("mixed", "name"), [(2, "both"), (1, "clean")])
def test_the_loss_is_that_of_the_soft_targets_of_what_the_network_sees(mixed, name, monkeypatch):
    given = draws(True)
    monkeypatch.setattr(mixing.MixDraws, "sample", lambda *_: given)
    images, targets = batch(2)
    network = Network()
    found = loss_of(aug="apr-p", cutmix=1.0, mix_views=name, label_smoothing=0.1)(network, images, targets, 2, 2)
    assert torch.equal(network.seen, mix(images, given, 2, mixed))
    soft = soft_targets(targets, CLASSES, 0.1, given, 2, mixed)
    logits = Network()(network.seen)
    expected = sum((-soft[view::2] * logits[view::2].log_softmax(1)).sum(1).mean() for view in (0, 1))
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("extra", [{}, {"loss": "bce"}, {"jsd": 5.0}])
def test_an_unmixed_batch_once_has_the_loss_of_both_its_views(extra):
    images, targets = batch()
    twice = (images.repeat_interleave(2, 0), targets.repeat_interleave(2, 0))
    objective = loss_of(aug="apr-p", mixup=0.8, cutmix=1.0, label_smoothing=0.1, **extra)
    for seed in range(4):  # of both kinds
        torch.manual_seed(seed)
        once = objective(Network(), images, targets, 2, 1)
        torch.manual_seed(seed)
        torch.testing.assert_close(once, objective(Network(), *twice, 2, 2))


def test_draws_come_from_torchs_generator_one_batch_after_the_other():
    """Checkpoints hold its state, and each process has its own."""
    images, targets = batch()
    objective, network = loss_of(mixup=1.0), Network()

    def seen() -> torch.Tensor:
        objective(network, images, targets, 1, 1)
        return network.seen

    torch.manual_seed(4)
    first = seen()
    state = torch.get_rng_state()
    second = seen()
    assert not torch.equal(first, second)
    torch.set_rng_state(state)
    assert torch.equal(seen(), second)


def test_half_precision_images_are_mixed_and_the_loss_is_in_float32():
    images, targets = batch()
    network = Network()
    loss = loss_of(mixup=1.0, loss="bce")(network, images.bfloat16(), targets, 1, 1)
    assert (network.seen.dtype, loss.dtype) == (torch.bfloat16, torch.float32)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"mixup": -0.1}, "--mixup must be at least 0"),
        ({"mixup": 0.2, "mix_views": "clean"}, "--mix-views changes nothing here: it needs --mixup or --cutmix, and"),
        ({"aug": "apr-p", "mix_views": "clean"}, "--mix-views changes nothing here"),
        ({"bce_threshold": 0.2}, "--bce-threshold changes nothing here: it needs --loss bce"),
        ({"jsd": 12.0}, "--jsd changes nothing here: it needs several views"),
        ({"jsd": 12.0, "aug": "apr-s"}, "--jsd changes nothing here"),
        ({"jsd": 1.0, "aug": "apr-p", "loss": "bce"}, "it does not go with --loss bce"),
        ({"jsd": 1.0, "aug": "apr-p", "cutmix": 1.0, "mix_views": "clean"}, "--jsd compares views of one image"),
        (
            {"aug": "apr-p", "mixup": 1.0, "mix_views": "clean", "repeat_unmixed": True},
            "--repeat-unmixed changes nothing with --mix-views clean",
        ),
        ({"loss": "mse"}, "--loss must be one of cross-entropy, bce"),
    ],
)
def test_senseless_options_are_refused(given, told):
    with pytest.raises(InputError) as error:
        ImageNetOptions(data="x", **given)
    assert told in str(error.value)


@pytest.mark.parametrize(
    "method", [{"adversarial": "fgsm"}, {"aug": "apr-p", "phase_weight": 0.5}, {"aug": "mixup"}, {"aug": "augmix"}]
)
@pytest.mark.parametrize("given", [{"mixup": 0.2}, {"cutmix": 0.2}, {"loss": "bce"}])
def test_methods_with_losses_of_their_own_refuse_others(method, given):
    with pytest.raises(InputError, match=r"--(mixup|cutmix|loss) does not go with --"):
        CifarOptions(**method, **given)


def test_clean_views_that_alone_are_mixed_are_shown_beside_the_others_in_every_batch():
    given = {"aug": "apr-p", "mixup": 0.2}
    for kind, more in ((ImageNetOptions, {"data": "x"}), (CifarOptions, {})):
        assert not kind(**given, **more).repeats_unmixed
        assert kind(**given, **more, mix_views="clean").repeats_unmixed


def test_a_batch_of_one_image_cannot_be_mixed():
    options = CifarOptions(mixup=1.0, batch_size=2)
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 2))
    check_batch(Trainer(network, options, Group(0, 1, 0, CPU), "net"), 1, 2)
    with pytest.raises(InputError, match="a batch of one has no other"):
        check_batch(Trainer(network, options, Group(0, 2, 0, CPU), "net"), 1, 2)
