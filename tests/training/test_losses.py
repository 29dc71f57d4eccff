"""The losses of the trainers, by hand on small cases, and which options have which."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from timm.loss import BinaryCrossEntropy, JsdCrossEntropy
from torch import nn
from torch.nn import functional as F

from apr_dali.errors import InputError
from apr_dali.models import create_model
from apr_dali.models.auxiliary import add_auxiliary
from apr_dali.models.cifar import TwoHeads
from apr_dali.recipes import CIFAR
from apr_dali.runtime.distributed import Group
from apr_dali.training import losses
from apr_dali.training.engine import view_loss
from apr_dali.training.mixing import MixDraws, soft_targets
from apr_dali.training.options import CifarOptions

CPU = torch.device("cpu")
ALONE = Group(0, 1, 0, CPU)


def cross_entropy(logits: list[float], target: int) -> float:
    return math.log(sum(math.exp(x) for x in logits)) - logits[target]


def test_two_head_loss_by_hand():
    # One image, two views, two heads, two classes; the mixed view's amplitude is of the other class.
    logits = torch.tensor([[[1.0, 0.0], [0.0, 2.0]], [[0.0, 3.0], [1.0, 0.0]]])
    targets = torch.tensor([[0, 0], [0, 1]])
    phase = cross_entropy([1, 0], 0) + cross_entropy([0, 3], 0)
    amplitude = cross_entropy([0, 2], 0) + cross_entropy([1, 0], 1)
    found = losses.two_head_loss(logits, targets, 2, 0.3)
    assert float(found) == pytest.approx(0.3 * phase + 0.7 * amplitude, rel=1e-6)


def test_phase_weight_1_is_plain_apr_p():
    torch.manual_seed(0)
    network = create_model("cifar/wrn-16-1", 3)
    images, targets = torch.randn(4, 3, 8, 8), torch.tensor([[0, 0], [0, 1], [2, 2], [2, 0]])
    plain = view_loss(network(images), targets[:, 0], 2)
    expected = torch.autograd.grad(plain, list(network.parameters()))
    both = TwoHeads(network, 1.0)
    loss = losses.two_head_loss(both(images), targets, 2, 1.0)
    assert torch.equal(loss, plain)
    for found, wanted in zip(torch.autograd.grad(loss, list(network.parameters())), expected, strict=True):
        assert torch.equal(found, wanted)


def test_augmix_loss_by_hand():
    logits = torch.tensor([[1.0, 0.0], [0.0, 0.0], [0.0, 2.0]])
    p = torch.softmax(logits.double(), 1)
    mixture = p.mean(0)
    divergence = sum(float((q * (q / mixture).log()).sum()) for q in p) / 3
    expected = cross_entropy([1, 0], 0) + 12 * divergence
    assert float(losses.augmix_loss(logits, torch.tensor([0, 0, 0]))) == pytest.approx(expected, rel=1e-5)
    # Two images: the mean of both.
    both = torch.cat([logits, torch.tensor([[2.0, 0.0]] * 3)])
    targets = torch.tensor([0, 0, 0, 1, 1, 1])
    assert float(losses.augmix_loss(both, targets)) == pytest.approx(
        (expected + cross_entropy([2, 0], 1)) / 2, rel=1e-5
    )


def two_passes(clean: torch.Tensor, views: list[torch.Tensor], targets: torch.Tensor, jsd: float | None) -> float:
    """The released code's loss of AFA: `views` are the logits of all, of the passes one after another."""
    if jsd is None:
        return float(sum(F.cross_entropy(view, targets).detach() for view in views)) / len(views)
    shares = [view.softmax(1) for view in views]
    mixture = (sum(shares) / 3).clamp(1e-7, 1).log()
    apart = sum(F.kl_div(mixture, share, reduction="batchmean") for share in shares)
    return float((F.cross_entropy(clean, targets) + jsd * apart / 3).detach())


@pytest.mark.parametrize("jsd", [None, 10.0, 0.0])
@pytest.mark.parametrize("visual", [False, True])
def test_auxiliary_loss_is_that_of_a_pass_for_each_view(jsd, visual):
    torch.manual_seed(0)
    model = create_model("cifar/wrn-16-1", 3).double()
    main, other = (copy.deepcopy(model) for _ in range(2))
    add_auxiliary(model)
    clean, prime, wave = (scale * torch.randn(4, 3, 8, 8, dtype=torch.float64) for scale in (1, 2, 3))
    targets = torch.tensor([0, 1, 2, 0])
    ways = ([clean, prime] if jsd is not None else [prime]) if visual else [clean]
    logits = [main(view).float() for view in ways] + [other(wave).float()]
    counted = logits if len(ways) == 2 or jsd is None else [logits[0], *logits]
    expected = two_passes(logits[0], counted, targets, jsd)
    views = len(logits)
    rows = torch.stack([*ways, wave], 1).flatten(0, 1)
    loss = losses.AuxiliaryLoss((False,) * len(ways) + (True,), jsd)
    found = loss(model, rows, targets.repeat_interleave(views), views, views)
    assert float(found.detach()) == pytest.approx(expected, rel=1e-5)


def test_a_single_image_is_shown_twice():
    """As broken images that were left out may leave one: batch norm takes no single value."""
    model = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(3, 2))
    add_auxiliary(model)
    loss = losses.AuxiliaryLoss((False, True))
    assert loss(model, torch.randn(2, 3, 4, 4), torch.tensor([1, 1]), 2, 2).isfinite()


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"aug": "afa"}, ((False, True), None)),
        ({"aug": "afa", "aug_form": "jsd"}, ((False, True), 10.0)),
        ({"aug": "afa", "aug_form": "jsd", "jsd": 0.0}, ((False, True), 0.0)),
        ({"aug": "afa", "aug_form": "jsd", "dataset": "cifar100", "data": "x"}, ((False, True), 1.0)),
        ({"aug": "afa+prime"}, ((False, True), None)),
        ({"aug": "afa+prime", "aug_form": "jsd", "jsd": 3.0}, ((False, False, True), 3.0)),
    ],
)
def test_the_objective_of_afa_follows_the_options(given, expected):
    options = CifarOptions(**given, label_smoothing=0.1)
    found = losses.objective(options, nn.Linear(2, 2), 2, CIFAR, CPU)
    assert found == losses.AuxiliaryLoss(*expected, 0.1)
    assert options.has_auxiliary


@pytest.mark.parametrize("aug", ["apr-sp", "none", "hybrid-p", "fda", "vipaug"])
def test_losses_that_are_sums_over_the_views(aug):
    assert CifarOptions(aug=aug).sums_views


@pytest.mark.parametrize(
    "given", [*({"aug": aug} for aug in ("augmix", "prime", "afa", "amplitude-mix")), {"adversarial": "fgsm"}], ids=str
)
def test_losses_that_are_not(given):
    assert not CifarOptions(**given).sums_views


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"aug": "afa", "jsd": 10.0}, "--jsd does not go with --aug afa.*--aug-form jsd"),
        ({"aug": "afa", "mixup": 0.2}, "--mixup does not go with --aug afa"),
        ({"aug": "afa+prime", "aug_form": "jsd", "loss": "bce"}, "--loss does not go with --aug afa"),
        ({"aug": "amplitude-mix", "jsd": 10.0}, "--jsd does not go with --aug amplitude-mix"),
        ({"aug": "amplitude-mix", "cutmix": 1.0}, "--cutmix does not go with --aug amplitude-mix"),
        ({"aug": "prime", "aug_form": "jsd"}, "--aug-form jsd is of afa and afa.prime"),
        ({"aug": "afa+prime", "aug_form": "both"}, "--aug-form must be published or jsd with aug afa.prime"),
        ({"aug": "apr-p", "aug_form": "jsd"}, "--aug-form jsd changes nothing with aug apr-p"),
        ({"aug": "spectral-gains"}, "objective without labels"),
    ],
)
def test_what_losses_of_augmentations_do_not_go_with(given, says):
    with pytest.raises(InputError, match=says):
        CifarOptions(**given)


@pytest.mark.parametrize("views", [2, 3])
def test_divergence_is_augmixs(views):
    """The published formula, of views one after the other, in float64."""
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(views * 7, 5, generator=generator)
    split = [logits[view::views].double().softmax(1) for view in range(views)]
    mixture = (sum(split) / views).clamp(1e-7, 1).log()
    expected = sum(F.kl_div(mixture, each, reduction="batchmean") for each in split) / views
    assert float(losses.divergence(logits, views)) == pytest.approx(float(expected), rel=1e-5)
    assert float(expected) > 0.1
    # timm's has the cross-entropy of the first view beside it.
    timms = JsdCrossEntropy(num_splits=views, alpha=4.0, smoothing=0.0)
    targets = torch.arange(7) % 5
    together = timms(torch.cat([logits[view::views] for view in range(views)]), targets.repeat(views))
    own = F.cross_entropy(logits[::views], targets) + 4 * losses.divergence(logits, views)
    torch.testing.assert_close(own, together)


def test_one_view_has_no_divergence_and_no_gradient_of_it():
    logits = torch.randn(6, 4, requires_grad=True)
    found = losses.divergence(logits, 1)
    assert float(found.detach()) == pytest.approx(0, abs=1e-6)
    (gradient,) = torch.autograd.grad(found, logits)
    assert gradient.abs().max() < 1e-6
    assert torch.isfinite(losses.divergence(torch.tensor([[200.0, 0.0], [0.0, 200.0]]), 2))


def test_the_weight_of_the_divergence_is_the_options():
    def of(**given):
        found = losses.objective(CifarOptions(**given), _Pixels(), 2, CIFAR, CPU)
        return float(found(_Pixels(), images, targets, views, views))

    images, targets, views = torch.rand(6, 3, 8, 8), torch.tensor([0, 0, 0, 1, 1, 1]), 3
    plain, apart = F.cross_entropy(_Pixels()(images[::3]), targets[::3]), losses.divergence(_Pixels()(images), 3)
    for given, weight in (({}, 12), ({"jsd": 0.0}, 0), ({"jsd": 3.0}, 3)):
        assert of(aug="augmix", **given) == pytest.approx(float(plain + weight * apart), rel=1e-5)
    images, targets, views = images[:4], torch.tensor([0, 0, 1, 1]), 2
    logits = _Pixels()(images)
    expected = view_loss(logits, targets, 2) + 3 * losses.divergence(logits, 2)
    assert of(aug="apr-p", jsd=3.0) == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize("threshold", [None, 0.2])
def test_bce_is_timms(threshold):
    logits, targets = torch.randn(6, 4), torch.tensor([0, 3, 1, 1, 2, 0])
    theirs = BinaryCrossEntropy(smoothing=0.1, target_threshold=threshold)(logits, targets)
    torch.testing.assert_close(losses.bce_loss(logits, soft_targets(targets, 4, 0.1), threshold), theirs)
    mixed = soft_targets(targets, 4, 0.1, MixDraws(torch.arange(6).flip(0), 0.7))
    torch.testing.assert_close(
        losses.bce_loss(logits, mixed, threshold), BinaryCrossEntropy(target_threshold=threshold)(logits, mixed)
    )


class _Pixels(nn.Module):
    """The first two pixels of the first channel as logits."""

    def forward(self, images):
        return images[:, 0, 0, :2]


@pytest.mark.parametrize("aug", ["mixup", "cutmix"])
def test_mixed_loss_has_the_soft_targets_of_what_was_mixed(aug, monkeypatch):
    monkeypatch.setattr(losses, "_CUTMIX_SHARE", 1.0)
    images = torch.zeros(2, 3, 8, 8)
    images[1] = 1.0
    mixer = losses._mixer(aug, 2)
    seen = []

    class Network(nn.Module):
        def forward(self, mixed):
            seen.append(mixed)
            return _Pixels()(mixed)

    torch.manual_seed(3)
    loss = losses.mixed_loss(mixer, 0.0, Network(), images, torch.tensor([0, 1]), 1, 1)
    share = seen[0].mean((1, 2, 3))  # of the second image in each, so of the class 1
    assert 0.02 < float(share[0]) < 0.98
    expected = 0.0
    for row, own in zip(_Pixels()(seen[0]).tolist(), share.tolist(), strict=True):
        expected += ((1 - own) * cross_entropy(row, 0) + own * cross_entropy(row, 1)) / 2
    assert float(loss) == pytest.approx(expected, rel=1e-5)


def test_each_method_has_its_objective():
    def of(**given):
        return losses.objective(CifarOptions(**given), _Pixels(), 2, CIFAR, CPU)

    for aug in ("none", "apr-p", "apr-s", "apr-sp", "cutout", "autoaugment"):
        assert of(aug=aug) is None
    images, targets = torch.rand(6, 3, 8, 8), torch.tensor([0, 0, 0, 1, 1, 1])
    expected = losses.augmix_loss(_Pixels()(images), targets)
    assert torch.equal(of(aug="augmix")(_Pixels(), images, targets, 3, 3), expected)
    assert of(aug="mixup").func is losses.mixed_loss
    assert of(adversarial="fgsm").func is losses.adversarial_loss
    # fgsm's α is 1.25 ε, n-fgsm's is ε.
    assert of(adversarial="fgsm").args[2] == 10.0
    assert of(adversarial="n-fgsm", epsilon=4.0).args[2] == 4.0
    assert of(adversarial="fgsm", alpha=3.0).args[2] == 3.0
