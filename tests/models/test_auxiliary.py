"""A second set of batch norms: whose statistics a batch changes, what keeps its name, and what wraps a network."""

from __future__ import annotations

import copy
import re

import pytest
import torch
from helpers.project import ROOT
from torch import nn

from apr_dali.errors import InputError
from apr_dali.models import create_model
from apr_dali.models.auxiliary import add_auxiliary, routed, without_auxiliary


def small(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 3), nn.BatchNorm2d(2))


def images(count: int = 6, seed: int = 1) -> torch.Tensor:
    return torch.randn(count, 3, 8, 8, generator=torch.Generator().manual_seed(seed))


def test_parts_go_as_if_each_came_alone():
    """Against two networks of the same weights but for batch norm: what the released code's two passes are."""
    model = small().double()
    main, other = copy.deepcopy(model), copy.deepcopy(model)
    assert add_auxiliary(model) == 2
    with torch.no_grad():
        for norm, apart in ((model[1].auxiliary, other[1]), (model[4].auxiliary, other[4])):
            for name in ("weight", "bias"):
                getattr(norm, name).add_(0.3)
                getattr(apart, name).add_(0.3)
    clean, visual, wave = (images(6, seed).double() * seed for seed in (1, 2, 3))
    with routed(model, (False, False, True)):
        found = model(torch.cat([clean, visual, wave]))
    expected = [main(clean), main(visual), other(wave)]
    torch.testing.assert_close(found, torch.cat(expected), rtol=0, atol=1e-12)
    found.square().sum().backward()
    torch.cat(expected).square().sum().backward()
    for n in (1, 4):
        for name in ("running_mean", "running_var", "num_batches_tracked"):
            torch.testing.assert_close(getattr(model[n], name), getattr(main[n], name))
            torch.testing.assert_close(getattr(model[n].auxiliary, name), getattr(other[n], name))
        assert not torch.allclose(model[n].running_mean, model[n].auxiliary.running_mean)
        torch.testing.assert_close(model[n].weight.grad, main[n].weight.grad)
        torch.testing.assert_close(model[n].auxiliary.bias.grad, other[n].bias.grad)
    torch.testing.assert_close(model[0].weight.grad, main[0].weight.grad + other[0].weight.grad)


def test_evaluation_sees_the_main_ones_alone():
    model = small()
    plain = copy.deepcopy(model).eval()
    add_auxiliary(model)
    with torch.no_grad():
        model[1].auxiliary.weight.fill_(7)
    model.eval()
    assert torch.equal(model(images()), plain(images()))
    with routed(model, (True,)):
        assert not torch.allclose(model(images()), plain(images()))
    assert torch.equal(model(images()), plain(images())), "after the context"


def test_names_stay_and_the_second_ones_are_left_out_with_a_word():
    model = small()
    names = list(model.state_dict())
    add_auxiliary(model)
    state = model.state_dict()
    assert [name for name in state if "auxiliary" not in name] == names
    assert len(state) == len(names) + 10
    left, said = without_auxiliary(state)
    assert list(left) == names
    assert said == "without its auxiliary batch norms"
    small(3).load_state_dict(left)
    assert without_auxiliary(left) == (left, "")
    # A network of its own may have a part of this name.
    own = nn.ModuleDict({"auxiliary": nn.Linear(2, 2), "body": nn.Linear(2, 2)}).state_dict()
    assert without_auxiliary(own) == (own, "")
    assert list(without_auxiliary(nn.ModuleDict({"net": model}).state_dict())[0]) == [f"net.{name}" for name in names]


@pytest.mark.parametrize("name", ["resnet18", "cifar/wrn-16-1", "timm/resnet10t", "timm/efficientnet_b0"])
def test_any_network_takes_them_with_its_activations(name):
    """timm's batch norms have an activation in them, which the second one must have too."""
    torch.manual_seed(0)
    model = create_model(name, 5)
    plain = copy.deepcopy(model)
    count = sum(isinstance(layer, nn.BatchNorm2d) for layer in model.modules())
    assert add_auxiliary(model) == count > 5
    rows = torch.randn(2, 3, 64, 64).repeat(2, 1, 1, 1)
    with torch.no_grad(), routed(model.eval(), (False, True)):
        found = model(rows)
    torch.testing.assert_close(found[:2], plain.eval()(rows[:2]))
    torch.testing.assert_close(found[:2], found[2:])


def test_the_batch_norm_of_several_processes_keeps_its_kind():
    """torch runs it on GPUs; on the CPU in evaluation alone."""
    from timm.layers import BatchNormAct2d, SyncBatchNormAct, convert_sync_batchnorm

    plain = nn.Sequential(nn.BatchNorm2d(3), BatchNormAct2d(3))
    model = convert_sync_batchnorm(copy.deepcopy(plain))
    assert add_auxiliary(model) == 2
    for norm in (*model, *(layer.auxiliary for layer in model)):
        assert isinstance(norm, nn.SyncBatchNorm)
    assert isinstance(model[1], SyncBatchNormAct)
    with torch.no_grad(), routed(model.eval(), (False, True)):
        found = model(images())
    torch.testing.assert_close(found, plain.eval()(images()))


def test_the_order_of_memory_stays():
    model = small().to(memory_format=torch.channels_last)
    add_auxiliary(model)
    with routed(model, (False, True)):
        found = model(images().to(memory_format=torch.channels_last))
    assert found.is_contiguous(memory_format=torch.channels_last)


def test_the_pages_lines_run():
    page = (ROOT / "docs/augmentations.md").read_text()
    (code,) = (block for block in re.findall(r"```python\n(.*?)```", page, re.S) if "add_auxiliary" in block)
    names = {"torch": torch, "network": small(), "images": images(4), "waves": images(4, seed=2)}
    exec(code, names)
    assert len(names["logits"]) == 8
    assert not torch.equal(names["network"][1].running_mean, names["network"][1].auxiliary.running_mean)


def test_a_copy_has_a_route_of_its_own():
    model = small()
    add_auxiliary(model)
    other = copy.deepcopy(model)
    assert other[1].route is other[4].route is not model[1].route
    with routed(model, (True,)):
        assert other[1].route.parts is None


def test_networks_without_batch_norm_stay_as_they_are():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.GroupNorm(2, 4), nn.InstanceNorm2d(4))
    assert add_auxiliary(model) == 0
    expected = model(images())
    with routed(model, (False, True)):
        assert torch.equal(model(images()), expected)


def test_what_does_not_go_is_refused():
    model = small()
    add_auxiliary(model)
    with pytest.raises(InputError, match="already"):
        add_auxiliary(model)
    with routed(model, (False, True)), pytest.raises(ValueError, match="zip"):
        model(images(5))


@pytest.mark.slow
def test_a_compiled_network_follows_the_route():
    torch._dynamo.reset()
    model = small()
    add_auxiliary(model)
    eager = copy.deepcopy(model)
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    for parts in ((False, True), (False, False, True), (False, True)):
        with routed(compiled, parts), routed(eager, parts):
            torch.testing.assert_close(compiled(images()), eager(images()))
        torch.testing.assert_close(compiled(images()), eager(images()))
    for name, value in eager.state_dict().items():
        torch.testing.assert_close(model.state_dict()[name], value, msg=name)
    torch._dynamo.reset()
