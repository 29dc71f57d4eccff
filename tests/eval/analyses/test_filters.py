"""Filters in the frequency domain against transforms written out, and what training does to them."""

import json

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from torch import nn

from apr_dali.cli import main
from apr_dali.errors import InputError
from apr_dali.eval.analyses import filters
from apr_dali.eval.load_model import load_model
from apr_dali.models import create_model
from apr_dali.models.cifar import CIFAR_MODELS
from apr_dali.models.filter_bands import (
    BANDS,
    FrequencyModulatedConv2d,
    Projection,
    band_of,
    export_plain,
    first_convolution,
    keep_proportion,
    modulate_first,
    radial_frequency,
    tap_matrices,
)
from apr_dali.runtime import checkpoint
from apr_dali.training.options import CifarOptions

BOX = torch.ones(1, 1, 3, 3)
LAPLACIAN = torch.tensor([[0.0, 1, 0], [1, -4, 1], [0, 1, 0]]).view(1, 1, 3, 3)
DELTA = torch.zeros(1, 1, 3, 3)
DELTA[..., 1, 1] = 2


def written_out(taps: np.ndarray, size: int) -> np.ndarray:
    """|DFT|² of (h, w) taps by its sum, bin by bin."""
    y, x = np.indices(taps.shape)
    return np.array(
        [
            [abs((taps * np.exp(-2j * np.pi * (v * y + u * x) / size)).sum()) ** 2 for u in range(size)]
            for v in range(size)
        ]
    )


# ---- analysis --------------------------------------------------------------------------------------------------------


def test_power_is_the_sum_over_the_channels():
    weight = torch.randn(2, 3, 3, 5, generator=torch.Generator().manual_seed(0))
    expected = sum(written_out(weight[1, c].double().numpy(), 9) for c in range(3))
    assert np.allclose(filters.power(weight, 9)[1], expected)


def test_shares_of_known_filters():
    box, laplacian, delta, zero = filters.filter_spectra(torch.cat([BOX, LAPLACIAN, DELTA, 0 * BOX])).low
    # By the integral of the box's spectrum, the product of two Dirichlet kernels, on a fine grid of its own.
    frequency = np.linspace(-0.5, 0.5, 1001)[:-1]
    line = (1 + 2 * np.cos(2 * np.pi * frequency)) ** 2
    plane, inside = np.outer(line, line), np.hypot(frequency[:, None], frequency) < 0.25
    assert box == pytest.approx(plane[inside].sum() / plane.sum(), abs=0.02)
    assert box > 0.8
    assert laplacian < 0.05
    # All frequencies alike: the share of a disc of radius ¼ in a square of side 1.
    assert delta == pytest.approx(np.pi / 16, abs=0.01)
    assert np.isnan(zero)
    found = filters.filter_spectra(torch.cat([BOX, LAPLACIAN, DELTA, BOX, 0 * BOX]))
    assert found.proportion == 0.5
    assert found.mean[0] < found.mean[2] < found.mean[1]


def test_rings_are_flat_for_a_delta_and_fall_for_a_box():
    found = filters.filter_spectra(torch.cat([BOX, DELTA]))
    assert np.allclose(found.rings[1], 1)
    assert found.rings[0, 0] > 5
    assert found.rings[0, 8] < 1


def test_a_layer_by_its_name():
    model = create_model("cifar/wrn-16-1", 10)
    assert filters.find_layer(model)[0] == "first"
    assert filters.find_layer(model, "blocks.2.conv2")[1] is model.blocks[2].conv2
    with pytest.raises(InputError, match=r"no convolution 'block'; 15 there are, the nearest: .*blocks\.0\.conv1"):
        filters.find_layer(model, "block")
    with pytest.raises(InputError, match="no convolution 'conv'; there are 0, 2"):
        filters.find_layer(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3)), "conv")
    with pytest.raises(InputError, match="has no convolution"):
        filters.find_layer(nn.Sequential(nn.Linear(3, 3)))


# ---- control ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kernel", [(3, 3), (5, 5), (3, 7)])
def test_tap_matrices_measure_energy_and_sum_to_the_identity(kernel):
    bands = np.arange(BANDS)[:, None, None] == band_of(radial_frequency())
    matrices = tap_matrices(bands, kernel)
    assert np.allclose(matrices.sum(0), np.eye(len(matrices[0])))
    taps = np.random.default_rng(0).normal(size=kernel)
    powers = np.abs(np.fft.fft2(taps, s=(32, 32))) ** 2 / 32**2
    for mask, matrix in zip(bands, matrices, strict=True):
        assert taps.ravel() @ matrix @ taps.ravel() == pytest.approx(powers[mask].sum())


@pytest.mark.parametrize("proportion", [0, 0.25, 0.5, 0.75, 1])
@pytest.mark.parametrize("kernel", [3, 7])
def test_projection_yields_the_asked_proportion(proportion, kernel):
    weight = torch.randn(16, 3, kernel, kernel, generator=torch.Generator().manual_seed(1))
    weight[:8] += 1
    projection = Projection((kernel, kernel), 16, proportion)
    found = projection(weight)
    low = filters.filter_spectra(found).low > 0.5
    assert low.tolist() == [n < 16 * proportion for n in range(16)]
    assert torch.allclose(projection(found), found, atol=1e-6)
    # Those on their side already are not touched.
    right = (filters.filter_spectra(weight).low > 0.52) == (np.arange(16) < 16 * proportion)
    right &= np.abs(filters.filter_spectra(weight).low - 0.5) > 0.02
    assert torch.equal(found[right], weight[right])


def test_projection_finds_the_nearest_filter():
    weight = torch.randn(1, 2, 3, 3, generator=torch.Generator().manual_seed(2))
    found = Projection((3, 3), 1, 1.0)(weight).numpy().ravel()
    start = weight.numpy().ravel().astype(float)
    (matrix,) = tap_matrices(radial_frequency()[None] < 0.25, (3, 3))
    both = np.kron(np.eye(2), matrix - 0.51 * np.eye(9))
    constraint = {"type": "ineq", "fun": lambda v: v @ both @ v, "jac": lambda v: 2 * both @ v}
    best = minimize(
        lambda v: ((v - start) ** 2).sum(),
        start + 0.1,
        jac=lambda v: 2 * (v - start),
        constraints=constraint,
        options={"ftol": 1e-14},
    )
    assert best.success
    assert np.allclose(found, best.x, atol=1e-4)
    assert not np.allclose(found, start, atol=0.05)


def test_filters_of_one_pixel_cannot_be_low():
    assert torch.equal(Projection((1, 1), 4, 0.0)(DELTA[..., 1:2, 1:2].repeat(4, 1, 1, 1)), torch.full((4, 1, 1, 1), 2))
    with pytest.raises(InputError, match="no filter of 1×1 pixels is low-frequency"):
        Projection((1, 1), 4, 0.5)


def test_the_proportion_is_kept_after_each_step():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 2, 3))
    other = model[2].weight.detach().clone()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    keep_proportion(model, optimizer, 0.5)
    for _ in range(3):
        assert (filters.filter_spectra(model[0].weight).low > 0.5).tolist() == [True] * 4 + [False] * 4
        assert not torch.equal(model[0].weight, other)
        optimizer.zero_grad()
        model(torch.randn(4, 3, 8, 8)).square().mean().backward()
        optimizer.step()


# ---- modulation ------------------------------------------------------------------------------------------------------


def modulated(noise: float = 0.0, kernel: int = 3, seed: int = 0) -> FrequencyModulatedConv2d:
    torch.manual_seed(3)
    return FrequencyModulatedConv2d(nn.Conv2d(3, 4, kernel, stride=2, padding=1, bias=False), noise, seed)


def test_the_start_is_the_plain_convolution_bit_for_bit():
    torch.manual_seed(3)
    plain = nn.Conv2d(3, 4, 3, stride=2, padding=1, bias=False)
    layer, images = modulated(), torch.randn(2, 3, 9, 9)
    assert torch.equal(layer.modulated(), plain.weight)
    assert torch.equal(layer(images), plain(images))


@pytest.mark.parametrize("kernel", [3, 4, 7])
def test_modulation_is_the_formula(kernel):
    """W' = iDFT(|Ŵ|·√(g·(1 + ε))·e^{i∠Ŵ}), step by step, with g and ε looked up bin by bin."""
    layer = modulated(kernel=kernel)
    gain, epsilon = torch.rand(BANDS, dtype=torch.double) * 3, torch.rand(BANDS, dtype=torch.double) - 0.5
    layer.double().root.data = -gain.sqrt()  # either root is the same gain
    spectrum = np.fft.fft2(layer.weight.detach().numpy(), s=(32, 32))
    ring = np.minimum(np.floor(radial_frequency() / (np.sqrt(0.5) / BANDS)), BANDS - 1).astype(int)
    factor = np.sqrt((gain * (1 + epsilon)).numpy()[ring])
    expected = np.fft.ifft2(np.abs(spectrum) * factor * np.exp(1j * np.angle(spectrum)))[..., :kernel, :kernel].real
    assert np.allclose(layer.modulated(epsilon).detach().numpy(), expected, atol=1e-7)


def test_gradients():
    layer = modulated().double()
    layer.root.data += torch.linspace(-0.3, 0.5, BANDS)
    epsilon, images = torch.linspace(-0.2, 0.3, BANDS).double(), torch.randn(1, 3, 7, 7).double()

    def run(weight, root):
        given = {"weight": weight, "root": root}
        filters_of = torch.func.functional_call(_Modulated(layer), {f"layer.{k}": v for k, v in given.items()}, epsilon)
        return layer._conv_forward(images, filters_of, None)

    assert torch.autograd.gradcheck(run, (layer.weight, layer.root))


class _Modulated(nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, epsilon):
        return self.layer.modulated(epsilon)


def test_noise_is_of_training_alone_and_goes_on_after_a_state():
    images = torch.randn(2, 3, 9, 9)
    layer = modulated(noise=0.5)
    quiet = layer.eval()(images)
    assert torch.equal(quiet, modulated()(images))
    first, second = (layer.train()(images) for _ in range(2))
    assert not torch.allclose(first, second)
    assert not torch.allclose(first, quiet)
    state = layer.state_dict()
    third = layer(images)
    resumed, again = modulated(noise=0.5), modulated(noise=0.5)
    resumed.load_state_dict(state)
    torch.manual_seed(77)
    assert torch.equal(resumed(images), third)
    assert torch.equal(again(images), first)
    assert not torch.equal(modulated(noise=0.5, seed=1)(images), first)


def test_noise_is_uniform_in_its_range():
    layer = modulated(noise=0.25)
    drawn = torch.cat([layer._draw() for _ in range(2000)])
    assert drawn.abs().max() <= 0.25
    assert drawn.mean() == pytest.approx(0, abs=0.005)
    assert drawn.std() == pytest.approx(0.25 / np.sqrt(3), rel=0.02)


@pytest.mark.parametrize("name", CIFAR_MODELS)
def test_a_drop_in_for_every_network_and_exported_as_plain(name):
    torch.manual_seed(0)
    model = create_model(f"cifar/{name}", 10).eval()
    images = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        before = model(images)
        modulate_first(model, noise=0.3)
        assert torch.equal(model.eval()(images), before)
        layer = first_convolution(model)[1]
        assert isinstance(layer, FrequencyModulatedConv2d)
        layer.root.copy_(torch.linspace(0, 2, BANDS))
        changed = model(images)
        assert not torch.allclose(changed, before)
        export_plain(model)
        assert type(first_convolution(model)[1]) is nn.Conv2d
        assert torch.allclose(model(images), changed, atol=1e-5)


def test_a_checkpoint_with_a_modulated_layer_is_evaluated_as_a_plain_network(tmp_path):
    model = create_model("cifar/wrn-16-1", 3)
    modulate_first(model, noise=0.2)
    first_convolution(model)[1].root.data.fill_(0.5)
    options = vars(CifarOptions(first_layer="modulated"))
    state = {
        "architecture": "cifar/wrn-16-1",
        "classes": ["a", "b", "c"],
        "options": options,
        "model": model.state_dict(),
    }
    checkpoint.save(tmp_path, state, best=False)
    network = load_model(str(tmp_path / checkpoint.LATEST))
    images = torch.randn(2, 3, 32, 32)
    assert torch.allclose(network.model(images), model.eval()(images), atol=1e-6)
    assert not any(isinstance(layer, FrequencyModulatedConv2d) for layer in network.model.modules())


# ---- command ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("network")
    torch.manual_seed(0)
    model = create_model("cifar/wrn-16-1", 3)
    model.first.weight.data[:4] = 1.0
    model.first.weight.data[4] = 0.0
    state = {"architecture": "cifar/wrn-16-1", "classes": ["a", "b", "c"], "model": model.state_dict()}
    checkpoint.save(folder, {**state, "options": vars(CifarOptions())}, best=False)
    return str(folder / checkpoint.LATEST)


def test_the_command(saved, tmp_path, capsys):
    assert main(["analyze", "filters", saved, "--output", str(tmp_path)]) == 0
    told = capsys.readouterr().out
    assert "first: 16 filters of 3×3, 3 channels" in told
    assert "26.7% are low-frequency" in told
    assert "1911.12044" in told
    result = json.loads((tmp_path / "filters.json").read_text())["result"]
    assert result["low_frequency"] == pytest.approx(4 / 15)
    assert result["zero_filters"] == 1
    assert result["shares"][4] is None
    assert result["shares"][0] == pytest.approx(filters.filter_spectra(BOX).low[0])
    assert {path.name for path in tmp_path.glob("*.png")} == {"filters-gallery.png", "filters-spectra.png"}


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["--layer", "conv1"], "no convolution 'conv1'; 15 there are, the nearest: "),
        (["--pad", "2"], "--pad must be at least 3"),
    ],
)
def test_bad_input(given, told, saved, tmp_path, capsys):
    assert main(["analyze", "filters", saved, "--output", str(tmp_path / "out"), *given]) == 2
    error = capsys.readouterr().err
    assert told in error
    assert error.count("\n") == 1
