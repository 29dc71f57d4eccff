"""Transforms within torch.compile: one graph, the numbers and draws that they have without it."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn.functional import cross_entropy

from apr_dali.errors import InputError
from apr_dali.runtime import torch_operators
from apr_dali.transforms import AprPair, AprSingle, Augment, Corrupt

WAYS = [{}, {"repeat_unmixed": True}, {"views": "mixed"}, {"p": 1.0}, {"p": 0.0}, {"coin_seed": 3}]


@pytest.fixture(autouse=True)
def _anew():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.fixture
def batch(crops) -> tuple[Tensor, Tensor]:
    images = torch.from_numpy(crops(6, 12, 12)).permute(0, 3, 1, 2).float() / 255
    return images, torch.arange(6) % 4


def compiled(function):
    """In one graph, or an error; without the seconds of a compiler."""
    return torch.compile(function, fullgraph=True, backend="aot_eager")


@pytest.mark.parametrize("options", WAYS, ids=str)
def test_a_training_step_with_pair_is_one_graph(batch, options):
    network = nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())

    def step(pair, images, labels):
        images, labels = pair(images, labels)
        return cross_entropy(network(images), labels), images, labels

    plain, whole = (AprPair(seed=1, **options) for _ in range(2))
    fast = compiled(step)
    shapes = set()
    for _ in range(8):
        expected, found = step(plain, *batch), fast(whole, *batch)
        for ours, theirs in zip(found, expected, strict=True):
            torch.testing.assert_close(ours, theirs)
        found[0].backward()
        assert network[0].weight.grad.abs().sum() > 0
        shapes.add(len(found[1]))
    assert shapes == ({6, 12} if options in ({}, {"coin_seed": 3}) else {6 * (whole.views_known() or 0)})
    assert whole.draws_state() == plain.draws_state()


@pytest.mark.parametrize("made", [lambda: AprSingle(seed=1), lambda: Corrupt("fog", 3, seed=1)])
def test_a_transform_of_levels_is_one_graph(crops, made):
    images = torch.from_numpy(crops(4, 32, 32)).permute(0, 3, 1, 2)
    plain, whole = made(), made()
    fast = compiled(lambda images: whole(images).flip(3).float() / 255)
    for _ in range(2):
        assert torch.equal(fast(images), plain(images).flip(3).float() / 255)


def test_two_pairs_of_the_same_images_draw_twice(batch):
    pair = AprPair(1.0, seed=1, views="mixed")
    fast = compiled(lambda images, labels: pair(images, labels)[0] - pair(images, labels)[0])
    assert fast(*batch).abs().max() > 0.01


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda pair: pickle.loads(pickle.dumps(pair))])
def test_a_copy_has_draws_of_its_own(batch, copied):
    pair = AprPair(1.0, seed=1, views="mixed")
    other = copied(pair)
    fast = compiled(lambda images, labels: other(images, labels)[0])
    first = fast(*batch)
    assert torch.equal(first, pair(*batch)[0])
    del pair
    assert not torch.equal(first, fast(*batch))


def test_torch_finds_what_the_operators_say_of_themselves_true(batch):
    pair, single = AprPair(1.0, seed=1), AprSingle(seed=1)
    # Not that they give the same again: they draw.
    checks = ("test_schema", "test_faketensor")
    torch.library.opcheck(torch_operators.pair, (batch[0], pair._number, 2), test_utils=checks)
    levels = (255 * batch[0]).to(torch.uint8)
    torch.library.opcheck(torch_operators.change, (levels, single._number), test_utils=checks)


@pytest.mark.parametrize("call", [lambda function: function, compiled])
def test_a_gradient_is_refused(batch, call):
    with pytest.raises((InputError, torch._dynamo.exc.TorchDynamoException), match="not differentiable"):
        call(AprPair(seed=1))(batch[0].requires_grad_(), batch[1])


@pytest.mark.parametrize("call", [lambda function: function, compiled])
@pytest.mark.parametrize("made", [lambda: AprPair(seed=1), lambda: Augment("afa", seed=1)])
def test_a_tangent_is_refused(batch, made, call):
    transform = made()
    labels, function = [batch[1]] * isinstance(transform, AprPair), call(transform)
    function(batch[0], *labels)
    refused = (InputError, torch._dynamo.exc.TorchDynamoException)  # newer torch compiles nothing for tangents
    with forward_ad.dual_level(), pytest.raises(refused, match="tangent"):
        function(forward_ad.make_dual(batch[0], torch.ones_like(batch[0])), *labels)


@pytest.mark.parametrize("transformed", [
    lambda step: torch.func.grad(lambda images: step(images).sum()),
    lambda step: lambda images: torch.func.jvp(step, (images,), (torch.ones_like(images),)),
    lambda step: lambda images: torch.vmap(step, randomness="different")(images[None]),
])  # fmt: skip
def test_no_transform_of_torch_func_reaches_into_the_operators(batch, transformed):
    """It would take their tangents for zeros."""
    pair, single = AprPair(1.0, seed=1, views="mixed"), Augment("afa", seed=1)
    steps = [
        lambda images: torch.ops.apr_dali.pair(images, pair._number, 1)[0],
        lambda images: torch.ops.apr_dali.change(images, single._number),
    ]
    for step in steps:
        with pytest.raises(InputError, match=r"outside of torch\.func"):
            transformed(step)(batch[0])
        with pytest.raises(torch._dynamo.exc.TorchDynamoException, match=r"outside of torch\.func"):
            compiled(transformed(step))(batch[0])


def test_options_may_change_between_steps(batch):
    """Such as the share of batches by a schedule: the compiled step then counts on other rows."""
    plain, whole = (AprPair(1.0, seed=1) for _ in range(2))

    def step(pair):
        images, labels = pair(*batch)
        return images, labels, torch.full((), len(images))

    fast = torch.compile(step, backend="aot_eager")
    for p, rows in ((1.0, 12), (0.0, 6), (1.0, 12)):
        plain.p = whole.p = p
        images, labels, counted = fast(whole)
        assert counted == rows
        for ours, theirs in zip((images, labels), plain(*batch), strict=True):
            assert torch.equal(ours, theirs)


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("made", [AprPair, AprSingle])
def test_an_exported_program_holds_no_draws(batch, made, strict):
    """Its number would be of another transform where the program runs."""
    images, labels = batch
    given = (images, labels) if made is AprPair else ((255 * images).to(torch.uint8),)
    with pytest.raises((InputError, torch._dynamo.exc.TorchDynamoException), match="no part of an exported program"):
        torch.export.export(made(), given, strict=strict)
