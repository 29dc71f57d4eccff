"""Sets of 32×32 images: labels by class name, and whose classes they are."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from helpers.eval_sets import (
    CLASSES,
    Ten,
    network,
    write_arrays,
    write_levels,
)
from PIL import Image

from apr_dali.data.arrays import ArraySet, load_set, open_images, open_small
from apr_dali.data.corruption_sets import open_corruption_arrays
from apr_dali.data.sample import tiles
from apr_dali.errors import InputError
from apr_dali.eval.ood import ood_metrics


def test_photographs_are_a_set_for_small_networks(evaluate, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    given = ["ood", "--data", "digits", "--ood", "p=photographs"]
    model = network(32, classes=tuple("0123456789"), model=Ten())
    status, record = evaluate(*given, model=model)
    assert status == 0
    inside, outside = load_set("digits", "val").images, tiles(32, 400)
    levels = [images.astype(np.float64).mean((1, 2, 3)) for images in (inside, outside)]
    # The brighter, the surer.
    expected = ood_metrics(*levels)["auroc"]
    assert record["result"]["scores"]["max-logit"]["p"]["auroc"] == pytest.approx(expected, abs=1e-3)
    (tmp_path / "val").mkdir()
    write_levels(tmp_path / "v", {"dark": [40], "gray": [120], "light": [200]})
    assert evaluate("ood", "--data", tmp_path / "v", "--ood", "p=photographs")[0] == 2
    assert "its tiles of 32×32 pixels are for networks of small images" in capsys.readouterr().err


def test_a_small_network_of_scaled_images_scales_them_out_of_distribution_too(evaluate, tmp_path):
    model = dataclasses.replace(network(32), scaled_whole=True)
    write_levels(tmp_path / "v", {"dark": [40, 50], "gray": [120, 60], "light": [200, 160]}, border=20)
    status, clean = evaluate("clean", "--data", tmp_path / "v", model=model)
    assert status == 0
    status, found = evaluate("ood", "--data", tmp_path / "v", "--ood", f"x={tmp_path}/v/dark", model=model)
    assert status == 0
    assert found["result"]["images"] == clean["result"]["images"] == 6


def test_small_sets(tmp_path, crops):
    from scipy.io import savemat

    images = crops(3, 32, 32)
    savemat(tmp_path / "test_32x32.mat", {"X": images.transpose(1, 2, 3, 0), "y": np.array([[10], [1], [9]])})
    got, labels = open_images(tmp_path / "test_32x32.mat")
    np.testing.assert_array_equal(got, images)
    assert labels.tolist() == [0, 1, 9]
    assert open_small(tmp_path / "test_32x32.mat").classes == tuple("0123456789")
    for index, image in enumerate(images):
        folder = tmp_path / "files" / "ab"[index // 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / f"{index}.png")
    got, labels = open_images(tmp_path / "files")
    np.testing.assert_array_equal(got, images)
    assert labels.tolist() == [0, 0, 1]
    assert open_small(tmp_path / "files").classes == ("a", "b")
    Image.fromarray(images[0][:31]).save(tmp_path / "files" / "small.png")
    with pytest.raises(InputError, match=r"small.png: expected 32×32 pixels, got 32×31"):
        open_images(tmp_path / "files")
    savemat(tmp_path / "bad.mat", {"X": images, "y": np.zeros(3)})
    with pytest.raises(InputError, match=r"expected X as uint8 \(32, 32, 3, N\), got uint8 \(3, 32, 32, 3\)"):
        open_images(tmp_path / "bad.mat")
    whole = (tmp_path / "test_32x32.mat").read_bytes()
    for length in (0, 1, 100, 130, 200, len(whole) // 2, len(whole) - 1):
        (tmp_path / "cut.mat").write_bytes(whole[:length])
        with pytest.raises(InputError, match=r"cut.mat is not SVHN's .mat file with X and y"):
            open_images(tmp_path / "cut.mat")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no image"):
        open_images(tmp_path / "empty")


def write_small(root: Path, levels: dict[str, list[int]]) -> None:
    for name, values in levels.items():
        (root / name).mkdir(parents=True)
        for index, level in enumerate(values):
            Image.new("RGB", (32, 32), (level,) * 3).save(root / name / f"{index}.png")


@pytest.mark.parametrize(
    ("classes", "levels", "top1"),
    [
        (CLASSES, {"gray": [128, 120, 40], "light": [215]}, 0.75),  # without the first class
        (("1", "2", "10"), {"10": [215, 210], "2": [128], "1": [40, 215]}, 0.8),  # as text 10 comes before 2
    ],
)
def test_labels_of_small_images_go_by_name(evaluate, tmp_path, classes, levels, top1):
    write_small(tmp_path / "set", levels)
    _, record = evaluate("clean", "--data", tmp_path / "set", model=network(32, classes=classes))
    assert record["result"]["top1"] == top1
    assert record["result"]["images"] == sum(map(len, levels.values()))


@pytest.mark.parametrize(
    ("kind", "more"), [("clean", ()), ("calibration", ()), ("ood", ("--ood", "x={set}")), ("autoattack", ())]
)
@pytest.mark.parametrize(
    ("folders", "message"),
    [
        (("zero", "one"), "has 2 classes (one, zero), the network 3 (dark, gray, light): labels go by name, and 2 of"),
        (("0", "1", "2"), "has 3 classes (0, 1, 2), the network 3 (dark, gray, light): labels go by name, and 3 of"),
        (("train/dark", "val/dark"), "are none of the network's; give {set}/val"),
        (
            ("dark", "grey"),
            "has 2 classes (dark, grey), the network 3 (dark, gray, light): labels go by name, and 1 of",
        ),
    ],
)
def test_small_images_of_other_classes_are_refused(evaluate, tmp_path, kind, more, folders, message, capsys):
    write_small(tmp_path / "set", {name: [40, 128] for name in folders})
    given = [item.format(set=tmp_path / "set") for item in more]
    status, record = evaluate(kind, "--data", tmp_path / "set", *given, model=network(32))
    assert (status, record) == (2, None)
    assert message.format(set=tmp_path / "set") in capsys.readouterr().err


def test_another_cifar_is_refused(evaluate, tmp_path, monkeypatch, capsys):
    ten = ArraySet(np.zeros((2, 32, 32, 3), np.uint8), np.array([0, 1]), ("airplane", "automobile"))
    monkeypatch.setattr("apr_dali.data.arrays.load_set", lambda *_: ten)
    (tmp_path / "cifar-10-batches-py").mkdir()
    hundred = tuple(f"class {n}" for n in range(100))
    status, _ = evaluate("clean", "--data", tmp_path / "cifar-10-batches-py", model=network(32, classes=hundred))
    assert status == 2
    told = capsys.readouterr().err
    assert "has 2 classes (airplane, automobile), the network 100 (class 0, class 1, " in told
    assert "class 9, … and 90 more)" in told


def test_labels_without_names_say_what_they_assume(evaluate, tmp_path, capsys):
    write_arrays(tmp_path / "cifar")
    _, record = evaluate("corruption", "--data", tmp_path / "cifar", model=network(32))
    assumed = "labels.npy has no names: its label n is taken for the network's class n (0 dark, 1 gray, 2 light)"
    assert record["result"]["labels"] == assumed
    assert assumed in capsys.readouterr().out
    with pytest.raises(InputError, match=r"has labels of 3 classes, 0\.\.2, the network has 100: give the set of"):
        open_corruption_arrays(tmp_path / "cifar", 100)
