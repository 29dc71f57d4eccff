"""High-frequency amplitudes, and the probe that tells sets of images apart by them."""

import json

import numpy as np
import pytest
from PIL import Image

from apr_dali.cli import main
from apr_dali.errors import InputError
from apr_dali.eval import analyze_tsne
from apr_dali.eval.analyses.separability import embed, high_frequencies, probe
from apr_dali.eval.evaluations import tsne


@pytest.mark.parametrize("shape", [(8, 8), (7, 9), (8, 6), (5, 4)])
@pytest.mark.parametrize("cut", [0, 0.25])
def test_each_high_frequency_is_there_once(shape, cut):
    height, width = shape
    image = np.random.default_rng(0).integers(0, 256, (1, height, width, 3), dtype=np.uint8)
    full = np.fft.fft2(np.asarray(Image.fromarray(image[0]).convert("L"), float))
    expected = {}
    for v in range(height):
        for u in range(width):
            if np.hypot(min(v, height - v) / height, min(u, width - u) / width) >= cut:
                mirrored = (-v % height, -u % width)
                expected[min((v, u), mirrored)] = np.log1p(abs(full[v, u]))
    found = high_frequencies(image, cut)
    assert found.shape == (1, len(expected))
    assert np.allclose(np.sort(found[0]), np.sort(list(expected.values())))


def test_no_frequency_above_the_highest():
    images = np.zeros((1, 8, 8, 3), np.uint8)
    assert high_frequencies(images, 0.7).shape == (1, 1)
    with pytest.raises(InputError, match="--cut must be a frequency"):
        high_frequencies(images, 0.8)


def test_the_probe_separates_what_a_line_separates():
    rng = np.random.default_rng(0)
    inside, outside = rng.normal(size=(60, 5)), rng.normal(size=(50, 5))
    outside[:, 2] += 20
    assert probe(inside, outside, seed=0) == 1.0


def test_the_probe_is_at_chance_on_one_distribution():
    rng = np.random.default_rng(1)
    found = [probe(rng.normal(size=(100, 20)), rng.normal(size=(100, 20)), seed) for seed in range(5)]
    assert np.mean(found) == pytest.approx(0.5, abs=0.06)


def test_a_photograph_and_its_copy_stay_on_one_side():
    """Rows with a mark of their photograph: a probe that has seen the clean one's knows the copy's by it."""
    rng = np.random.default_rng(2)
    marks = np.eye(40) * 5
    inside, outside = np.c_[marks, rng.normal(size=40)], np.c_[marks[::-1], rng.normal(size=40)]
    groups = np.r_[:40, np.arange(40)[::-1]]
    apart = probe(inside, outside, 0, groups)
    assert apart == pytest.approx(0.5, abs=0.2)
    assert probe(inside, outside, 0) < apart - 0.2


def test_the_map_is_seeded_and_keeps_clusters():
    rng = np.random.default_rng(0)
    features = np.concatenate([rng.normal(size=(15, 6)), rng.normal(size=(15, 6)) + 30])
    first, again = (embed(features, seed=3) for _ in range(2))
    assert np.array_equal(first, again)
    centers = first[:15].mean(0), first[15:].mean(0)
    nearest = np.linalg.norm(first[:, None] - centers, axis=2).argmin(1)
    assert nearest.tolist() == [0] * 15 + [1] * 15


@pytest.fixture
def folders(tmp_path):
    rng = np.random.default_rng(0)
    for name, high in (("clean", 20), ("same", 20), ("noisy", 120)):
        (tmp_path / name).mkdir()
        for n in range(30):
            pixels = 128 + rng.normal(0, high, (24, 20, 3))
            Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(tmp_path / name / f"{n}.png")
    return tmp_path


def test_the_command(folders, capsys):
    given = ["--data", folders / "clean", "--corrupted", f"noisy={folders}/noisy", "--ood", f"same={folders}/same"]
    given += ["--size", 16, "--output", folders / "out"]
    assert main(["analyze", "tsne", *map(str, given)]) == 0
    result = json.loads((folders / "out" / "tsne.json").read_text())["result"]
    assert result["images"] == {"clean": 30, "noisy": 30, "same": 30}
    assert result["auroc"]["noisy"] == 1.0
    assert result["auroc"]["same"] == pytest.approx(0.5, abs=0.25)
    assert {name: len(rows) for name, rows in result["points"].items()} == result["images"]
    assert "noisy          1.000" in capsys.readouterr().out
    assert (folders / "out" / "tsne-map.png").is_file()


def test_the_middle_of_a_set_of_small_images(tmp_path, crops):
    from scipy.io import savemat

    images = crops(12, 32, 32)
    savemat(tmp_path / "svhn.mat", {"X": images.transpose(1, 2, 3, 0), "y": np.ones((12, 1))})
    np.testing.assert_array_equal(tsne._read(str(tmp_path / "svhn.mat"), 16, 12), images[:, 8:24, 8:24])
    with pytest.raises(InputError, match=r"svhn.mat has images of 32×32 pixels, --size is 40"):
        tsne._read(str(tmp_path / "svhn.mat"), 40, 12)


def test_t_sne_from_python_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = analyze_tsne(limit=20, corrupted={}, seed=1)
    assert found.images == {"clean": 20, "photographs": 20}
    assert found.auroc["photographs"] > 0.8
    assert found.pictures["map"].startswith(b"\x89PNG")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["--data", "clean", "--size", "22"], "has 20×24 pixels, --size is 22"),
        (["--data", "missing", "--size", "16"], "missing holds no image"),
        (["--size", "16"], "--size changes nothing for the digits"),
        (["--ood", "noisy"], "expects NAME=PATH"),
        (["--ood", "a=clean", "a=noisy"], "'a=noisy': another set is called a"),
        (["--corrupted", "a=clean", "--ood", "a=noisy"], "a=noisy: another set is called a"),
        (["--ood", "clean=noisy"], "another set is called clean"),
        (["--limit", "5"], "clean has 5 images: a probe needs 10 or more"),
        (["--cut", "0.9"], "--cut must be a frequency"),
    ],
)
def test_bad_input(given, told, folders, capsys, monkeypatch):
    monkeypatch.chdir(folders)
    assert main(["analyze", "tsne", *given, "--output", "out"]) == 2
    error = capsys.readouterr().err
    assert told in error
    assert error.count("\n") == 1
    assert not (folders / "out").exists()
