"""Bands of amplitude and phase: against the definition, in training, in checkpoints, and the grid of all of them."""

import importlib.util
import json
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.project import ROOT
from PIL import Image

from apr_dali import cli
from apr_dali.bands import BANDS, RADII, BandFilter, band_pass, banded, in_band, radius_of
from apr_dali.commands.analyses import small_network
from apr_dali.data.arrays import load_set
from apr_dali.errors import InputError
from apr_dali.eval.clean import evaluate
from apr_dali.eval.load_model import load_model
from apr_dali.models import banded as in_torch
from apr_dali.models import create_model
from apr_dali.pipelines.cifar_loader import CifarLoader
from apr_dali.recipes import CIFAR
from apr_dali.runtime import checkpoint
from apr_dali.runtime.distributed import start
from apr_dali.runtime.exit_status import run
from apr_dali.training.options import CifarOptions

SCRIPT = ROOT / "train_cifar.py"
CELLS = [BandFilter(amplitude, phase) for amplitude in BANDS for phase in BANDS]
PUBLISHED = [replace(cell, outside=1) for cell in CELLS if cell.phase != "full"]


@pytest.fixture(params=[(12, 16), (7, 9), (8, 5)], ids=str)
def image(request, crops) -> np.ndarray:
    """(3, H, W) in 0..1."""
    return np.moveaxis(crops(1, *request.param)[0], -1, 0) / 255


def test_three_bands_add_up_to_the_image(image):
    parts = [band_pass(image, band, (0.1, 0.3)) for band in ("low", "band", "high")]
    np.testing.assert_allclose(sum(parts), image, atol=1e-12)
    np.testing.assert_allclose(band_pass(image, "full"), image, atol=1e-12)
    # What belongs to one band is gone from the others, and its mean is the low band's.
    for part in parts:
        assert np.abs(part).max() > 1e-3
    np.testing.assert_allclose(band_pass(parts[0], "high", (0.1, 0.3)), 0, atol=1e-12)
    np.testing.assert_allclose(parts[0].mean((1, 2)), image.mean((1, 2)))


def test_the_radii_are_in_cycles_a_pixel():
    wave = np.cos(2 * np.pi * np.arange(32) * 4 / 32)[None].repeat(32, 0)  # waves of 8 pixels: 0.125
    assert radius_of(32, 32)[0, 4] == 0.125
    for radii, band in (((0.125, 0.25), "low"), ((0.12, 0.25), "band"), ((0.05, 0.12), "high")):
        for other in ("low", "band", "high"):
            expected = wave if other == band else 0 * wave
            np.testing.assert_allclose(band_pass(wave, other, radii), expected, atol=1e-12)


def by_definition(image: np.ndarray, spectrum: BandFilter) -> np.ndarray:
    """Frequency by frequency: 1 in place of what the filters take away."""
    planes = []
    for plane in image:
        full = np.fft.fft2(plane)
        for v, u in np.ndindex(*plane.shape):
            fy, fx = np.fft.fftfreq(plane.shape[0])[v], np.fft.fftfreq(plane.shape[1])[u]
            where = np.searchsorted(spectrum.radii, np.sqrt(fy**2 + fx**2))
            band = ("low", "band", "high")[where]
            amplitude = abs(full[v, u]) if spectrum.amplitude in ("full", band) else 1.0
            phase = np.angle(full[v, u]) if spectrum.phase in ("full", band) else spectrum.outside
            full[v, u] = amplitude * np.exp(1j * phase)
        made = np.fft.ifft2(full)
        if not spectrum.outside:
            np.testing.assert_allclose(made.imag, 0, atol=1e-12)
        planes.append(made.real)
    return np.stack(planes)


@pytest.mark.parametrize("spectrum", [*CELLS, *PUBLISHED], ids=str)
def test_numpy_and_torch_do_what_the_paper_says(spectrum, image):
    spectrum = replace(spectrum, radii=(0.15, 0.32))
    expected = by_definition(image, spectrum)
    np.testing.assert_allclose(banded(image, spectrum), expected, atol=1e-10)
    np.testing.assert_allclose(in_torch.banded(torch.from_numpy(image), spectrum).numpy(), expected, atol=1e-10)
    if str(spectrum) != "amplitude=full,phase=full":
        assert np.abs(expected - image).max() > 1e-2


def test_a_phase_of_1_outside_is_an_amplitude_of_its_cosine(image):
    """What docs say of the paper's words, with all amplitudes kept: no other phase, and less of what is outside."""
    ours, theirs = (banded(image, BandFilter(phase="low", outside=outside)) for outside in (0, 1))
    inside = band_pass(ours, "low")
    np.testing.assert_allclose(theirs, inside + np.cos(1) * (ours - inside), atol=1e-12)
    assert np.abs(theirs - ours).max() > 1e-2


def test_nothing_has_the_phase_0():
    flat = np.zeros((3, 4, 6))
    expected = np.zeros((3, 4, 6))
    np.testing.assert_allclose(banded(flat, BandFilter("full", "full")), expected)
    np.testing.assert_allclose(in_torch.banded(torch.from_numpy(flat), BandFilter("full", "full")).numpy(), expected)


@pytest.mark.parametrize(
    ("text", "radii", "told"),
    [
        ("amplitude=blue", RADII, "amplitude must be one of full, low, band, high, got 'blue'"),
        ("phase=low,phase=low", RADII, "each name once"),
        ("color=low", RADII, "given as amplitude=low,phase=full"),
        ("phase=low,outside=2", RADII, "outside must be the phase 0 or 1, got '2'"),
        ("phase=full,outside=1", RADII, "outside=1 changes nothing with phase=full"),
        ("low", RADII, "given as amplitude=low,phase=full"),
        ("phase=low", (0.3, 0.2), "two rising numbers .* got 0.3, 0.2"),
        ("phase=low", (0.3,), "two rising numbers"),
        ("phase=low", (-0.1, 0.2), "two rising numbers"),
        ("phase=low", (0.1, float("nan")), "two rising numbers"),
    ],
)
def test_bad_spectra(text, radii, told):
    with pytest.raises(InputError, match=told):
        BandFilter.parse(text, radii)


def test_a_spectrum_is_what_is_written():
    assert BandFilter.parse("phase=low") == BandFilter("full", "low")
    assert [BandFilter.parse(str(cell)) for cell in (*CELLS, *PUBLISHED)] == [*CELLS, *PUBLISHED]
    assert [str(cell) for cell in PUBLISHED[:1]] == ["amplitude=full,phase=low,outside=1"]
    assert BandFilter.parse("phase=low,outside=0") == BandFilter("full", "low")
    assert in_band(np.array([0.125, 0.126, 0.25, 0.251]), "band").tolist() == [False, True, True, False]


# ---- in training -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tree(tmp_path_factory) -> Path:
    """A slice of the digits as folders of images of 8×8."""
    folder = tmp_path_factory.mktemp("digits")
    for split, count in (("train", 16), ("val", 4)):
        part = load_set("digits", split)
        for label in range(3):
            (folder / split / str(label)).mkdir(parents=True)
            for n, image in enumerate(part.images[part.labels == label][:count]):
                Image.fromarray(image).resize((8, 8)).save(folder / split / str(label) / f"{n:02d}.png")
    return folder


@pytest.fixture
def train(monkeypatch, capfd, tmp_path, tree):
    """Run train_cifar.py in this process on the tree; gives (exit status, stdout, stderr)."""
    spec = importlib.util.spec_from_file_location("train_cifar", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.chdir(tmp_path)
    small = ["--model", "wrn-16-1", "--image-size", "8", "--batch-size", "16", "--threads", "1", "--device", "cpu"]

    def run_script(*given: str) -> tuple[int, str, str]:
        argv = ["train_cifar.py", *small, "--dataset", "folder", "--data", str(tree), "--epochs", "1", *given]
        monkeypatch.setattr(sys, "argv", argv)
        capfd.readouterr()
        return run(module.main), *capfd.readouterr()

    return run_script


@pytest.mark.slow
@pytest.mark.parametrize("aug", ["none", "apr-sp"])
def test_a_checkpoint_sees_what_it_was_trained_on(aug, train, tree):
    seen = ["--aug", aug, "--spectrum", "phase=full,amplitude=low", "--radii", "0.2", "0.4"]
    status, _, errors = train(*seen, "--output", "run")
    assert status == 0, errors
    network = load_model("run/latest.pt")
    assert network.name.startswith("cifar/wrn-16-1 seeing amplitude=low,phase=full about 0.2 and 0.4 of")
    part = load_set("folder", "val", tree, 8)
    plain = np.moveaxis(part.images, -1, 1) / 255
    mean, std = (np.array(value).reshape(3, 1, 1) for value in (CIFAR.mean, CIFAR.std))
    filtered = banded(plain, BandFilter("low", "full", (0.2, 0.4)))
    with torch.no_grad():
        answers = network.model(torch.from_numpy((plain - mean) / std).float())
        expected = network.model.network(torch.from_numpy((filtered - mean) / std).float())
        unfiltered = network.model.network(torch.from_numpy((plain - mean) / std).float())
    torch.testing.assert_close(answers, expected, atol=1e-3, rtol=1e-3)
    assert (unfiltered - expected).abs().max() > 1e-2
    # Validation sees the same: its result is that of the whole model.
    row = [json.loads(line) for line in Path("run/metrics.jsonl").read_text().splitlines()][-1]
    assert row["top1"] == pytest.approx(float((answers.argmax(1).numpy() == part.labels).mean()))
    for other in (["--spectrum", "amplitude=high"], ["--spectrum", "phase=low", "--radii", "0.2", "0.4"]):
        status, _, errors = train("--aug", aug, *other, "--eval-only", "run/latest.pt")
        assert status == 2
        assert "is a checkpoint of cifar/wrn-16-1 seeing" in errors
    # What is not given is the checkpoint's.
    for given in (seen, []):
        status, told, errors = train(*given, "--eval-only", "run/latest.pt")
        assert status == 0, errors
        assert f"top-1 {row['top1']:.2%}" in told


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["--spectrum", "amplitude=blue"], "amplitude must be one of full, low, band, high, got 'blue'"),
        (["--spectrum", "phase=low", "--radii", "0.3", "0.2"], "radii must be two rising numbers"),
        (["--radii", "0.1", "0.2"], "--radii changes nothing here: it needs --spectrum"),
        (["--spectrum", "phase=low", "--adversarial", "fgsm"], "leave one of them out"),
    ],
)
def test_bad_options(given, told, train):
    status, _, errors = train(*given, "--output", "run")
    assert status == 2
    assert told in errors
    assert errors.count("\n") == 1
    assert not Path("run").exists()


def test_two_heads_see_bands_too(tmp_path):
    options = CifarOptions(aug="apr-p", phase_weight=0.75, spectrum="phase=band")
    torch.manual_seed(0)
    model = create_model("cifar/wrn-16-1", 3)
    from apr_dali.models.cifar import TwoHeads

    spectrum = BandFilter.parse(options.spectrum, options.radii)
    model = in_torch.Banded(TwoHeads(model, 0.75), spectrum, CIFAR).eval()
    state = {
        "architecture": "cifar/wrn-16-1",
        "classes": ["a", "b", "c"],
        "options": asdict(options),
        "model": model.state_dict(),
    }
    checkpoint.save(tmp_path, state, best=False)
    images = torch.rand(2, 3, 32, 32)
    assert torch.equal(load_model(str(tmp_path / checkpoint.LATEST)).model(images), model(images))


# ---- the grid --------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_grid_trains_each_pair_of_bands(tree, tmp_path, monkeypatch, capsys):
    given = ["analyze", "bands", "--dataset", "folder", "--data", str(tree), "--image-size", "8", "--epochs", "2"]
    given += ["--batch-size", "16", "--threads", "1", "--device", "cpu", "--output", str(tmp_path / "out")]
    assert cli.main(given) == 0
    told = capsys.readouterr().out
    record = json.loads((tmp_path / "out" / "bands.json").read_text())
    accuracies = record["result"]["accuracy"]
    assert list(accuracies) == list(map(str, CELLS))
    assert record["settings"]["radii"] == list(RADII)
    assert len(set(accuracies.values())) > 1
    row = next(line for line in told.splitlines() if line.startswith("low "))
    assert [float(value) for value in row.split()[1:]] == [
        round(100 * accuracies[f"amplitude=low,phase={phase}"], 1) for phase in BANDS
    ]
    # A cell is the training of a network that sees its bands, and nothing else.
    cell = "amplitude=band,phase=low"
    options = CifarOptions(
        dataset="folder", model="wrn-16-1", epochs=2, batch_size=16, lr=0.05, threads=1, spectrum=cell
    )
    trained, validated = (load_set("folder", split, tree, 8) for split in ("train", "val"))
    with start("cpu") as group:
        model = small_network.fit(trained, options, group)
    with CifarLoader(validated, 128, train=False) as loader:
        assert evaluate(model, loader, "cpu").top1 == accuracies[cell]
    with Image.open(tmp_path / "out" / "bands-grid.png") as picture:
        assert picture.size[0] > 1000

    # What is there is not trained again; another setting, or another set, is another grid.
    monkeypatch.setattr(small_network, "fit", None)
    assert cli.main(given) == 0
    assert json.loads((tmp_path / "out" / "bands.json").read_text())["result"] == record["result"]
    assert "16 parts are of an earlier run" in capsys.readouterr().out
    monkeypatch.setattr(small_network, "fit", lambda *_, **__: pytest.fail("trained"))
    with pytest.raises(pytest.fail.Exception):
        cli.main([*given, "--seed", "1"])
    next((tree / "val").glob("*/*.png")).unlink()
    with pytest.raises(pytest.fail.Exception):
        cli.main(given)


@pytest.mark.slow
def test_the_papers_recipe_for_the_grid(tree, tmp_path, monkeypatch):
    asked = []

    def fit(trained, options, _, **more):
        asked.append((options, more))
        return create_model("cifar/wrn-16-1", len(trained.classes)).eval()

    monkeypatch.setattr(small_network, "fit", fit)
    given = ["analyze", "bands", "--recipe", "paper", "--outside", "1", "--dataset", "folder", "--data", str(tree)]
    given += ["--threads", "1", "--device", "cpu", "--output", str(tmp_path / "out")]
    assert cli.main(given) == 0
    assert all(more == {"as_published": True} for _, more in asked)
    # What is asked for holds, the rest is the paper's.
    expected = CifarOptions(dataset="folder", model="resnet18", epochs=200, batch_size=128, lr=0.1, threads=1)
    assert asked[0][0] == replace(expected, spectrum="amplitude=full,phase=full")
    assert [options.spectrum for options, _ in asked[1:3]] == [
        "amplitude=full,phase=low,outside=1",
        "amplitude=full,phase=band,outside=1",
    ]
    settings = json.loads((tmp_path / "out" / "bands.json").read_text())["settings"]
    assert (settings["recipe"], settings["outside"]) == ("paper", 1)


@pytest.mark.slow
@pytest.mark.parametrize("as_published", [False, True])
@pytest.mark.parametrize("dataset", ["folder", "digits"])
def test_flips_and_steps_of_the_learning_rate(dataset, as_published, tree, monkeypatch):
    rates, flips = [], []
    rate, loader = small_network.set_learning_rate, small_network.CifarLoader
    monkeypatch.setattr(small_network, "set_learning_rate", lambda o, value: rates.append(value) or rate(o, value))
    monkeypatch.setattr(small_network, "CifarLoader", lambda *a, **k: flips.append(k["flip"]) or loader(*a, **k))
    given = {"dataset": dataset, "model": "wrn-16-1", "epochs": 2, "batch_size": 16, "lr": 0.04, "threads": 1}
    options = CifarOptions(**given, lr_steps=(1,), lr_factor=0.5)
    with start("cpu") as group:
        small_network.fit(load_set("folder", "train", tree, 8), options, group, as_published=as_published)
    assert flips == [as_published and dataset != "digits"]
    if as_published:
        assert rates == [0.04] * 3 + [0.02] * 3
    else:
        assert rates == pytest.approx([0.04 * (n + 1) / 10 * (1 - n / 6) for n in range(6)])


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["--radii", "0.3", "0.2"], "radii must be two rising numbers"),
        (["--dataset", "mnist"], "--dataset must be one of cifar10"),
        (["--model", "wrn-40"], "unknown model 'wrn-40'"),
        (["--image-size", "4", "--model", "allconv"], "cannot take images of 4×4"),
    ],
)
def test_bad_input(given, told, tmp_path, capsys):
    assert cli.main(["analyze", "bands", "--output", str(tmp_path / "out"), *given]) == 2
    error = capsys.readouterr().err
    assert told in error
    assert error.count("\n") == 1
