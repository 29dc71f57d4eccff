"""Swaps of amplitude and phase, and template contrasts, against independent computation."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from apr_dali import cli, spectral
from apr_dali.data.arrays import load_set
from apr_dali.data.sampling import evenly
from apr_dali.errors import InputError
from apr_dali.eval.analyses.swap import Followed, count_followed, follow, partners, probabilities
from apr_dali.eval.analyses.templates import contrasts, templates

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)


class Reads(nn.Module):
    """Answers with the strongest of four frequencies (its amplitude), or with a pixel's quadrant (the phase's)."""

    def __init__(self, what: str) -> None:
        super().__init__()
        self.what = what

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        gray = (images * torch.tensor(STD).view(3, 1, 1) + torch.tensor(MEAN).view(3, 1, 1)).mean(1)
        if self.what == "amplitude":
            return torch.fft.fft2(gray).abs()[:, 0, 1:5]
        # Which of four places is the brightest: that of the shift.
        return gray[:, ::4, ::4].flatten(1)[:, :4]


def shifted_waves(count: int) -> tuple[torch.Tensor, list[int], list[int]]:
    """(N, 3, 16, 16): bursts of a frequency of their own at a place of their own; the frequencies and places, 0..3."""
    rng = np.random.default_rng(5)
    frequency, place = rng.integers(0, 4, count).tolist(), rng.integers(0, 4, count).tolist()
    x = np.arange(16)
    images = []
    for k, where in zip(frequency, place, strict=True):
        row = np.cos(2 * np.pi * (k + 1) * (x - 4 * where) / 16) + 0.3 * sum(
            np.cos(2 * np.pi * other * (x - 4 * where) / 16) for other in range(1, 8)
        )
        images.append(np.broadcast_to(0.5 + row / 10, (3, 16, 16)))
    return torch.tensor(np.stack(images), dtype=torch.float32), frequency, place


@pytest.mark.parametrize("what", ["amplitude", "phase"])
def test_a_network_of_one_spectrum_follows_it(what):
    images, frequency, place = shifted_waves(40)
    partner = partners(40, seed=2)
    own = frequency if what == "amplitude" else place
    same = sum(own[n] == own[partner[n]] for n in range(40))
    found = follow(Reads(what), images, images[partner], mean=MEAN, std=STD, axes="hw", batch_size=7)
    expected = {"phase": 0, "amplitude": 0, "both": same, "neither": 0, what: 40 - same}
    assert 0 < same < 20
    assert found == Followed(**expected)
    assert found.amplitude_share == expected["amplitude"] / 40


def test_answers_are_counted_once_each():
    phase_of, amplitude_of = np.array([1, 1, 1, 1, 2, 2]), np.array([2, 2, 2, 2, 2, 2])
    found = count_followed(phase_of, amplitude_of, np.array([1, 2, 2, 3, 2, 1]))
    assert found == Followed(phase=1, amplitude=2, both=1, neither=2)
    assert (found.pairs, found.amplitude_share) == (6, 2 / 6)


@pytest.mark.parametrize("count", [2, 3, 50])
def test_partners_are_others(count):
    partner = partners(count, 0)
    assert sorted(partner) == list(range(count))
    assert (partner != np.arange(count)).all()
    np.testing.assert_array_equal(partner, partners(count, 0))
    assert count < 50 or (partner != partners(count, 1)).any()
    with pytest.raises(InputError, match="at least two images, got 1"):
        partners(1, 0)


def test_probabilities_are_of_normalized_images():
    images = torch.rand(3, 3, 4, 4)
    net = nn.Sequential(nn.Flatten(), nn.Linear(48, 5)).train()
    mean, std = (np.array(value).reshape(3, 1, 1) for value in (MEAN, STD))
    logits = net(torch.from_numpy((images.numpy() - mean) / std).float()).detach().double().numpy()
    expected = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    np.testing.assert_allclose(probabilities(net, images, MEAN, STD).numpy(), expected, rtol=1e-4)
    assert net.training


# ---- templates -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("height", "width"), [(8, 8), (7, 10), (1, 5)])
def test_the_phase_of_the_contrasts_is_that_of_the_dft(height, width):
    image = np.random.default_rng(3).random((height, width))
    full = np.fft.fft2(image)
    for ky in range(-(height // 2), height // 2 + 1):
        for kx in range(-(width // 2), width // 2 + 1):
            found, expected = contrasts(image, ky, kx), full[ky, kx]
            assert found.real == pytest.approx(expected.real, abs=1e-10)
            assert found.imaginary == pytest.approx(expected.imag, abs=1e-10)
            assert found.amplitude == pytest.approx(abs(expected), abs=1e-10)
            # As turns: an imaginary part of 0 may have either sign, a phase of π too.
            assert np.exp(1j * found.phase) == pytest.approx(expected / abs(expected), abs=1e-9)
            for value in (found.real_plus, found.real_minus, found.imaginary_plus, found.imaginary_minus):
                assert value >= 0


def test_templates_are_the_halves_of_cosine_and_sine():
    found = templates(6, 9, 2, -1)
    assert found.shape == (4, 6, 9)
    assert found.min() == 0
    assert found.max() <= 1
    for y, x in np.ndindex(6, 9):
        angle = 2 * np.pi * (2 * y / 6 - x / 9)
        real_plus, real_minus, imaginary_plus, imaginary_minus = found[:, y, x]
        assert real_plus - real_minus == pytest.approx(np.cos(angle), abs=1e-12)
        assert imaginary_plus - imaginary_minus == pytest.approx(-np.sin(angle), abs=1e-12)
        assert min(real_plus, real_minus) == min(imaginary_plus, imaginary_minus) == 0


def test_a_brighter_image_has_the_same_phase(photos):
    image = photos[0][:20, :30, 0] / 255
    plain, brighter = contrasts(image, 1, 2), contrasts(3 * image + 0.2, 1, 2)
    assert brighter.phase == pytest.approx(plain.phase, abs=1e-9)
    assert brighter.amplitude == pytest.approx(3 * plain.amplitude)
    assert brighter.real_plus > plain.real_plus


# ---- the commands ----------------------------------------------------------------------------------------------------


@pytest.fixture
def analyze(tmp_path, capsys):
    """Run `apr-dali analyze …`; gives (exit status, stdout, stderr) and where the output is."""

    def start(*given: object) -> tuple[int, str, str]:
        status = cli.main(["analyze", *map(str, given), "--output", str(tmp_path / "out")])
        return status, *capsys.readouterr()

    return start


def test_templates_command(analyze, tmp_path, photos):
    gray = photos[0][:40, :30, 0]
    Image.fromarray(gray).save(tmp_path / "gray.png")
    status, message, errors = analyze("templates", "--image", tmp_path / "gray.png", "--frequency", 3, -4)
    assert status == 0, errors
    result = json.loads((tmp_path / "out" / "templates.json").read_text())["result"]
    expected = np.fft.fft2(gray / 255)[3, -4]
    assert result["amplitude"] == pytest.approx(abs(expected))
    assert result["phase"] == pytest.approx(np.angle(expected))
    assert f"phase {np.angle(expected):.4f} rad at k = (3, -4)" in message
    assert (tmp_path / "out" / "templates-contrasts.png").is_file()


def test_templates_command_has_an_image_of_its_own(analyze):
    status, message, _ = analyze("templates")
    assert status == 0
    assert "at k = (2, 3)" in message


def test_swap_command_on_a_set(analyze, tmp_path, digits_checkpoints):
    status, message, errors = analyze("swap", digits_checkpoints[0], "--limit", 24, "--device", "cpu", "--axes", "hw")
    assert status == 0, errors
    record = json.loads((tmp_path / "out" / "swap.json").read_text())["result"]
    assert record["pairs"] == sum(record["followed"].values()) == 24
    assert record["amplitude_share"] == record["followed"]["amplitude"] / 24
    assert "24 pairs of digits, test images" in message
    assert len(record["panels"]) == 3
    assert all(len(row) == 4 for row in record["panels"])
    with Image.open(tmp_path / "out" / "swap-panels.png") as picture:
        assert picture.size[0] > 1000


def test_swap_command_across_two_sets(analyze, tmp_path, digits_checkpoints, crops):
    from apr_dali.eval.load_model import load_model

    photographs = crops(6, 32, 32)
    for n, image in enumerate(photographs):
        (tmp_path / "photos" / str(n)).mkdir(parents=True)
        Image.fromarray(image).save(tmp_path / "photos" / str(n) / "0.png")
    sets = ["--data", "digits", "--other-data", tmp_path / "photos"]
    status, message, errors = analyze("swap", digits_checkpoints[0], *sets, "--device", "cpu", "--seed", 3)
    assert status == 0, errors
    record = json.loads((tmp_path / "out" / "swap.json").read_text())["result"]
    # As many pairs as the smaller set has images.
    chosen = evenly(len(load_set("digits", "val")), 6)
    order = np.random.default_rng(3).permutation(6)
    digits = np.moveaxis(load_set("digits", "val").images[chosen], -1, 1) / 255
    others = np.moveaxis(photographs[order], -1, 1) / 255
    network = load_model(digits_checkpoints[0])
    mean, std = (np.array(value).reshape(3, 1, 1) for value in (network.mean, network.std))

    def answers(images: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return network.model(torch.from_numpy((images - mean) / std).float()).argmax(1).numpy()

    for key, (phase_of, amplitude_of) in {"": (digits, others), "_other_way": (others, digits)}.items():
        mixed = answers(spectral.recombine(phase_of, amplitude_of))
        expected = count_followed(answers(phase_of), answers(amplitude_of), mixed)
        assert record[f"followed{key}"] == vars(expected)
        assert record[f"amplitude_share{key}"] == expected.amplitude_share
    assert record["pairs"] == 6
    assert f"6 pairs of the phase of digits with the amplitude of {tmp_path / 'photos'}" in message
    assert len(record["panels"]) == 3


def test_swap_command_on_two_files(analyze, tmp_path, digits_checkpoints, crops):
    from apr_dali.eval.load_model import load_model

    paths = [tmp_path / "a.png", tmp_path / "b.png"]
    pair = crops(2, 32, 32, seed=4)
    for path, image in zip(paths, pair, strict=True):
        Image.fromarray(image).save(path)
    status, message, errors = analyze("swap", digits_checkpoints[0], "--images", *paths, "--device", "cpu")
    assert status == 0, errors
    (panels,) = json.loads((tmp_path / "out" / "swap.json").read_text())["result"]["panels"]
    network = load_model(digits_checkpoints[0])
    planes = np.moveaxis(pair, -1, 1) / 255
    mixes = np.concatenate([planes, spectral.recombine(planes, planes[::-1])])
    mean, std = (np.array(value).reshape(3, 1, 1) for value in (network.mean, network.std))
    with torch.no_grad():
        best = network.model(torch.from_numpy((mixes - mean) / std).float()).softmax(1).max(1)
    for (title, answer, share), index, value in zip(panels, best.indices, best.values, strict=True):
        assert answer == network.classes[index]
        assert share == pytest.approx(float(value), abs=1e-3)
        assert f"{title}: {answer}".replace("\n", ", ") in message
    assert [panel[0] for panel in panels[2:]] == [
        f"phase of {paths[0]}\namplitude of {paths[1]}",
        f"phase of {paths[1]}\namplitude of {paths[0]}",
    ]


def test_bad_input(analyze, tmp_path, digits_checkpoints):
    for name, size in (("small.png", (8, 8)), ("large.png", (9, 8))):
        Image.new("RGB", size).save(tmp_path / name)
    (tmp_path / "broken.png").write_text("no image")
    for given, message in (
        (["swap", "--images", tmp_path / "small.png", tmp_path / "large.png"], "of one size"),
        (["swap", "--images", tmp_path / "small.png", tmp_path / "broken.png"], "broken.png cannot be decoded"),
        (["swap", "--images", "a", "b", "--other-data", "c"], "--other-data changes nothing with --images"),
        (["swap", digits_checkpoints[0], "--limit", 1], "at least two images"),
        (["swap", "--weights", "x"], "change nothing without MODEL"),
        (["swap", "--axes", "wh"], "invalid choice: 'wh'"),
        (["templates", "--image", tmp_path / "missing.png"], "missing.png cannot be decoded"),
        (["templates", "--image", tmp_path / "large.png", "--frequency", 5, 0], "KY must be in -4..4"),
        (["templates", "--image", tmp_path / "large.png", "--frequency", 0, -5], "KX must be in -4..4"),
    ):
        status, _, error = analyze(*given)
        assert status == 2, given
        assert message in error
        assert error.count("\n") == 1
