"""Fourier heat maps against the formula, and against a loop that adds one wave to one image at a time."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from apr_dali import cli
from apr_dali.commands.analyses import common
from apr_dali.errors import InputError
from apr_dali.eval import session as commands_session
from apr_dali.eval.analyses import fourier
from apr_dali.eval.analyses.fourier import basis, heatmap, same_basis
from apr_dali.eval.analyses.samples import load_samples
from apr_dali.eval.state import State

SIDE, EPSILON, MEAN, STD = 8, 1.5, (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)


def cosines(height: int, width: int, ky: int, kx: int) -> np.ndarray:
    """The definition, pixel by pixel."""
    values = [[math.cos(2 * math.pi * (ky * y / height + kx * x / width)) for x in range(width)] for y in range(height)]
    return np.array(values) / math.sqrt(math.fsum(value**2 for row in values for value in row))


def test_every_basis_image_of_a_32_by_32_grid():
    for ky in range(-16, 16):
        for kx in range(17):
            found = basis(32, 32, ky, kx)
            assert found.shape == (32, 32)
            assert np.linalg.norm(found) == pytest.approx(1, abs=1e-12)
            np.testing.assert_allclose(found, cosines(32, 32, ky, kx), atol=1e-12)
            # The mirrored frequency, and one a whole turn away, are the same image.
            np.testing.assert_allclose(basis(32, 32, -ky, -kx), found, atol=1e-12)
            np.testing.assert_allclose(basis(32, 32, ky + 32, kx - 32), found, atol=1e-12)
            # Its spectrum has this frequency and the mirrored one alone.
            (rows, columns) = np.nonzero(np.abs(np.fft.fft2(found)) > 1e-9)
            assert set(zip(rows, columns, strict=True)) == {(ky % 32, kx % 32), (-ky % 32, -kx % 32)}


@pytest.mark.parametrize(("height", "width"), [(5, 8), (6, 4), (7, 7)])
def test_one_frequency_stands_for_all_with_its_basis_image(height, width):
    reached = set()
    for ky in range(-height, height):
        for kx in range(-width, width):
            own = same_basis(height, width, ky, kx)
            assert 0 <= own[1] <= width // 2
            np.testing.assert_allclose(basis(height, width, *own), cosines(height, width, ky, kx), atol=1e-12)
            reached.add(own)
    # As many as there are different images.
    images = {tuple(np.round(basis(height, width, *own), 9).ravel()) for own in reached}
    assert len(images) == len(reached)


# ---- heat maps -------------------------------------------------------------------------------------------------------


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(0)
    # The greater weights make it answer differently under noise.
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * (SIDE - 2) ** 2, 5)).double()
    for weights in net.parameters():
        weights.data *= 2
    return net.eval().requires_grad_(False)


@pytest.fixture
def samples(network) -> tuple[torch.Tensor, torch.Tensor]:
    """Six images, four of which the network gets right."""
    images = torch.rand(6, 3, SIDE, SIDE, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    targets = network(normalized(images)).argmax(1)
    targets[4:] = (targets[4:] + 1) % 5
    return images, targets


def normalized(images: torch.Tensor) -> torch.Tensor:
    mean, std = (torch.tensor(value, dtype=images.dtype).view(3, 1, 1) for value in (MEAN, STD))
    return (images - mean) / std


def mapped(network, samples, **changed):
    given = {"epsilon": EPSILON, "size": 7, "mean": MEAN, "std": STD, "seed": 3, "batch_size": 16} | changed
    return heatmap(network, [samples], **given)


def test_a_heat_map_is_what_the_definition_says(network, samples):
    images, targets = samples
    found = mapped(network, samples)
    assert found.ky.tolist() == found.kx.tolist() == [-3, -2, -1, 0, 1, 2, 3]
    assert found.images == 6
    assert found.clean_error == pytest.approx(2 / 6)
    assert found.clean_loss == pytest.approx(float(F.cross_entropy(network(normalized(images)), targets)), rel=1e-6)
    for row, ky in enumerate(found.ky):
        for column, kx in enumerate(found.kx):
            signs = next(fourier._signs([same_basis(SIDE, SIDE, ky, kx)], 6, 3, seed=3))
            assert set(np.unique(signs)) <= {-1, 1}
            wave = torch.from_numpy(cosines(SIDE, SIDE, ky, kx))
            noisy = [
                torch.stack([plane + int(r) * EPSILON * wave for plane, r in zip(image, of, strict=True)]).clamp(0, 1)
                for image, of in zip(images, signs, strict=True)
            ]
            logits = network(normalized(torch.stack(noisy)))
            assert found.error[row, column] == pytest.approx(float((logits.argmax(1) != targets).double().mean()))
            assert found.loss[row, column] == pytest.approx(float(F.cross_entropy(logits, targets)), rel=1e-5)
    # The test would prove little on a network that nothing disturbs.
    assert len(np.unique(found.error)) > 2
    np.testing.assert_array_equal(found.error, found.error[::-1, ::-1])


def test_signs_are_half_each_and_their_own_for_every_frequency():
    one, other, again = (next(fourier._signs([pair], 2000, 3, 0)) for pair in ((1, 2), (-1, 2), (1, 2)))
    assert abs(one.mean(0)).max() < 0.08
    assert abs((one * other).mean()) < 0.08
    assert abs((one[:, 0] * one[:, 1]).mean()) < 0.08
    np.testing.assert_array_equal(one, again)


@pytest.mark.parametrize("size", [1, 4, 8])
def test_batches_do_not_change_the_map(network, samples, size):
    images, targets = samples
    parts = [(images[:1], targets[:1]), (images[1:], targets[1:])]
    given = {"epsilon": EPSILON, "size": size, "seed": 3}
    one = heatmap(network, parts, batch_size=4, **given)
    other = heatmap(network, [samples], batch_size=100, **given)
    np.testing.assert_array_equal(one.error, other.error)
    np.testing.assert_allclose(one.loss, other.loss, rtol=1e-6)
    assert one.ky[0] == -(size // 2)


def test_a_resumed_map_equals_an_uninterrupted_one(network, samples, tmp_path, monkeypatch):
    path, settings = tmp_path / "map.state.json", {"size": 7}
    whole = mapped(network, samples)
    sums, calls = fourier._Scorer.sums, 0

    def stopped(self, pairs):
        nonlocal calls
        calls += 1
        if calls == 6:
            raise KeyboardInterrupt
        return sums(self, pairs)

    monkeypatch.setattr(fourier._Scorer, "sums", stopped)
    with pytest.raises(KeyboardInterrupt):
        mapped(network, samples, state=State(path, settings))
    assert len(json.loads(path.read_text())["parts"]) == 5 * (16 // 6)
    resumed = mapped(network, samples, state=State(path, settings))
    np.testing.assert_array_equal(resumed.error, whole.error)
    np.testing.assert_array_equal(resumed.loss, whole.loss)
    # 25 basis images, two at a time; the stopped call and the one without noise count too.
    assert calls == 6 + math.ceil((25 - 10) / 2) + 1


def test_a_network_that_has_diverged_is_always_wrong(samples):
    class Broken(nn.Module):
        def forward(self, images):
            return torch.full((len(images), 5), torch.nan)

    # torch's argmax of nothing but nan is the first class.
    found = mapped(Broken(), (samples[0], torch.zeros_like(samples[1])))
    assert (found.error == 1).all()


def test_rings_leave_no_frequency_out():
    ks = fourier.frequencies(7)
    error = np.hypot(ks[:, None], ks) / 10
    found = fourier.HeatMap(ks, ks, error, error, 0.0, 0.0, 1.0, 1)
    (_, first, inner), (second, last, outer) = found.radial(2)
    assert (first, second, last) == (1.5, 1.5, 3)
    radius = np.hypot(ks[:, None], ks)
    assert inner == pytest.approx(error[(radius > 0) & (radius <= 1.5)].mean())
    assert outer == pytest.approx(error[radius > 1.5].mean())


@pytest.mark.parametrize(
    ("changed", "told"),
    [({"size": 9}, "in 1..8"), ({"size": 0}, "in 1..8"), ({"epsilon": 0.0}, "epsilon"), ({"epsilon": math.nan}, "nan")],
)
def test_what_cannot_be_is_refused(network, samples, changed, told):
    with pytest.raises(InputError, match=told):
        mapped(network, samples, **changed)
    with pytest.raises(InputError, match="at least one image"):
        heatmap(network, [], epsilon=1.0, size=3)


# ---- the command -----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_two_networks_side_by_side(digits_checkpoints, tmp_path, capsys):
    first, second = digits_checkpoints
    given = ["analyze", "heatmap", first, "--compare", second, "--device", "cpu", "--output", str(tmp_path / "out")]
    given += ["--limit", "8", "--size", "3", "--epsilon", "2"]
    assert cli.main(given) == 0
    told = capsys.readouterr().out
    assert "8 images: digits, test images; labels: the set" in told
    assert "nan" not in told
    record = json.loads((tmp_path / "out" / "heatmap.json").read_text())
    assert [one["epsilon"] for one in record["result"]["maps"]] == [2.0, 2.0]
    ours, theirs = (np.array(one["loss"]) for one in record["result"]["maps"])
    assert ours.shape == (3, 3)
    assert not np.array_equal(ours, theirs)
    with common.open_subject(cli.build_parser(given).parse_args(given)) as session:
        samples = load_samples(session, None, 8)
        images = torch.from_numpy(samples.images).permute(0, 3, 1, 2).contiguous() / 255
        found = heatmap(
            session.model,
            [(images, torch.from_numpy(samples.labels))],
            epsilon=2.0,
            size=3,
            mean=session.network.mean,
            std=session.network.std,
        )
    np.testing.assert_array_equal(ours, found.loss)
    assert (tmp_path / "out" / "heatmap-maps.png").read_bytes().startswith(b"\x89PNG")
    # Another epsilon is another map: the state of the first is not taken for it.
    assert "parts are of an earlier run" not in told
    assert cli.main(given) == 0
    assert "parts are of an earlier run" in capsys.readouterr().out
    assert json.loads((tmp_path / "out" / "heatmap.json").read_text())["result"] == record["result"]
    assert cli.main([*given[:-1], "3"]) == 0
    assert "parts are of an earlier run" not in capsys.readouterr().out
    other = json.loads((tmp_path / "out" / "heatmap.json").read_text())["result"]["maps"][0]
    assert other["epsilon"] == 3
    assert not np.array_equal(other["loss"], ours)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["--size", "33"], "must be in 1..32"),
        (["--epsilon", "-1"], "epsilon must be greater than 0"),
        (["--compare", "wrn-40"], "unknown model 'wrn-40'"),
        (["--data", "missing"], "missing is not there"),
    ],
)
def test_bad_input(given, told, digits_checkpoints, tmp_path, capsys):
    status = cli.main(
        ["analyze", "heatmap", digits_checkpoints[0], "--output", str(tmp_path), "--device", "cpu", *given]
    )
    error = capsys.readouterr().err
    assert status == 2
    assert told in error
    assert error.startswith("error: ")
    assert error.count("\n") == 1


@pytest.mark.parametrize(("where", "told"), [("clean", "8 of 8 images"), ("noisy", "some of the 8 images under noise")])
def test_logits_that_are_not_finite_are_no_map(where, told, digits_checkpoints, tmp_path, monkeypatch, capsys):
    """Of clean digits the first pixel is black; noise lights it up."""

    class Breaks(nn.Module):
        def forward(self, images):
            lit = images[:, 0, 0, 0] > images.amin()
            broken = torch.ones_like(lit) if where == "clean" else lit
            return torch.where(broken[:, None], torch.nan, torch.eye(10)[0])

    real = commands_session.load_model
    monkeypatch.setattr(commands_session, "load_model", lambda *a: replace(real(*a), model=Breaks().eval()))
    given = ["analyze", "heatmap", digits_checkpoints[0], "--device", "cpu", "--output", str(tmp_path / "out")]
    assert cli.main([*given, "--limit", "8", "--size", "3"]) == 2
    assert f"nan or infinite for {told}" in capsys.readouterr().err
    assert not (tmp_path / "out" / "heatmap.json").exists()
