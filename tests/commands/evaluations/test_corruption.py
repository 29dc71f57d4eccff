"""`apr-dali eval corruption` on folders and arrays whose right numbers are known, and what is no set of corruptions."""

import dataclasses

import numpy as np
import pytest
import torch
from helpers.eval_sets import (
    CLASSES,
    Ten,
    error_of,
    nearest,
    network,
    random_levels,
    write_arrays,
    write_corruptions,
    write_levels,
)
from PIL import Image

from apr_dali.data.corruption_sets import MARKER, open_corruption_arrays
from apr_dali.data.kinds import CLASSES as CIFAR
from apr_dali.errors import InputError
from apr_dali.eval import corruption as corruptions
from apr_dali.eval import corruption_sources as commands
from apr_dali.eval import passes
from apr_dali.eval.datasets import Feeding
from apr_dali.runtime.distributed import Group


def test_corruption_folders(evaluate, corrupted, tmp_path, capsys):
    root, errors = corrupted
    write_levels(tmp_path / "val", random_levels(1))
    status, record = evaluate("corruption", "--data", root, "--clean", tmp_path / "val")
    assert status == 0
    result = record["result"]
    assert result["errors"] == {name: pytest.approx(row, abs=1e-12) for name, row in errors.items()}
    assert len({*errors["fog"], *errors["spatter"]}) > 3, "a set on which all cells agree shows nothing"
    assert result["clean_error"] == pytest.approx(error_of(tmp_path / "val"), abs=1e-12)
    assert result["mean_error"] == pytest.approx(np.mean(errors["fog"]), abs=1e-12)
    assert result["images"] == 12
    assert "mce" not in result
    assert (result["kind"], result["averaged"], result["classes"]) == ("own", ["fog"], 3)
    shown = capsys.readouterr().out
    assert "mCE" not in shown
    assert "ImageNet" not in shown
    assert f"own set {root.name}: 3 classes, 12 images per cell" in shown
    assert f"mean error over 1 of 15 corruptions (fog): {100 * np.mean(errors['fog']):.2f} %" in shown
    assert "gaussian_noise, shot_noise" in shown
    with Image.open(tmp_path / "out" / "corruption-errors.png") as picture:
        assert picture.width > 500


def test_corruption_arrays(evaluate, tmp_path):
    images, labels = write_arrays(tmp_path / "cifar")
    status, record = evaluate("corruption", "--data", tmp_path / "cifar", model=network(32))
    assert status == 0
    wrong = {
        name: np.array([nearest(image) != CLASSES[label] for image, label in zip(array, labels, strict=True)])
        for name, array in images.items()
    }
    expected = {name: values.reshape(5, -1).mean(1) for name, values in wrong.items()}
    assert record["result"]["errors"] == {name: pytest.approx(row, abs=1e-12) for name, row in expected.items()}
    assert 0 < expected["fog"].mean() < 1
    assert (record["result"]["kind"], record["result"]["name"]) == ("own", "own set cifar")


def test_corruption_arrays_are_for_networks_of_their_size(evaluate, tmp_path, capsys):
    write_arrays(tmp_path / "cifar")
    assert evaluate("corruption", "--data", tmp_path / "cifar", model=network(40)) == (2, None)
    assert "cifar has images of 32×32, and brightness takes 40×40" in capsys.readouterr().err


@pytest.mark.parametrize("world", [1, 2, 3])
def test_processes_share_the_images_of_an_array(world):
    """Each image once, to the last one, whatever the number of processes."""
    images = np.arange(11, dtype=np.uint8)[:, None, None, None] * np.ones((1, 32, 32, 3), np.uint8)
    seen = []
    for rank in range(world):
        group = Group(rank, world, rank, torch.device("cpu"))
        source = Feeding(network(32), group, 2, "none").array("levels", images, np.arange(11))
        with source.open() as batches:
            for batch, labels in batches:
                assert len(batch) == len(labels) <= 2
                levels = (batch * 0.25 + 0.5) * 255
                expected = labels[:, None, None, None].expand_as(levels).float()
                torch.testing.assert_close(levels, expected, atol=1e-4, rtol=0)
                seen += labels.tolist()
    assert seen == list(range(11))


def test_corruption_arrays_stay_on_the_disk(tmp_path):
    write_arrays(tmp_path / "cifar")
    arrays = open_corruption_arrays(tmp_path / "cifar", 3)
    assert isinstance(arrays.images["fog"], np.memmap)
    assert isinstance(arrays.severity("fog", 3), np.memmap)


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        (
            "fog",
            np.zeros((50, 32, 32), np.uint8),
            r"expected uint8 \(50, 32, 32, 3\).*got uint8 \(50, 32, 32\)",
        ),
        ("fog", np.zeros((50, 32, 32, 3), np.float32), "got float32"),
        ("fog", np.zeros((40, 32, 32, 3), np.uint8), r"as many as labels, got uint8 \(40"),
        ("labels", np.arange(50) % 4, r"labels in 0\.\.2, got 0\.\.3"),
        ("labels", np.arange(49) % 3, r"five severities of N each, got int64 \(49,\)"),
        ("labels", np.zeros(50), "expected integers"),
        ("labels", np.arange(50) % 3, "must have the same labels"),
    ],
)
def test_bad_arrays_are_named(tmp_path, name, array, message):
    write_arrays(tmp_path / "cifar")
    np.save(tmp_path / "cifar" / f"{name}.npy", array)
    with pytest.raises(InputError, match=message):
        open_corruption_arrays(tmp_path / "cifar", 3)


def test_labels_of_one_severity_and_clean_images_beside(tmp_path):
    images, labels = write_arrays(tmp_path / "cifar")
    published = open_corruption_arrays(tmp_path / "cifar", 3)
    np.save(tmp_path / "cifar" / "labels.npy", labels[:10])
    np.save(tmp_path / "cifar" / "original.npy", images["fog"][:10])
    with pytest.warns(UserWarning, match=r"left out .*original\.npy: clean images are no corruption"):
        found = open_corruption_arrays(tmp_path / "cifar", 3)
    np.testing.assert_array_equal(found.labels, published.labels)
    assert list(found.images) == ["fog", "snow"]
    np.testing.assert_array_equal(found.severity("snow", 4), images["snow"][30:40])
    # Where the arrays do not agree, none of them says what the labels are of.
    np.save(tmp_path / "cifar" / "snow.npy", images["snow"][:10])
    with pytest.warns(UserWarning, match="left out"), pytest.raises(InputError, match="must have the same labels"):
        open_corruption_arrays(tmp_path / "cifar", 3)


def test_a_cut_off_array_is_named(tmp_path):
    write_arrays(tmp_path / "cifar")
    path = tmp_path / "cifar" / "fog.npy"
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(InputError, match=r"fog.npy is not a whole .npy file"):
        open_corruption_arrays(tmp_path / "cifar", 3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda root: (root / "fog" / "3").rename(root / "fog" / "x"), "fog lacks the severity 3"),
        (lambda root: (root / "fog" / "2" / "extra").mkdir(), "fog/2 has more than the network's classes: extra"),
        (lambda root: (root / "fog" / "2" / "gray").rename(root / "gray"), "fog/2 lacks gray"),
        (lambda root: (root / "fog").rename(root.parent / "elsewhere"), "holds no corruption"),
    ],
)
def test_broken_trees_are_named_before_anything_runs(evaluate, tmp_path, change, message, capsys, monkeypatch):
    write_corruptions(tmp_path / "c", ("fog",))
    change(tmp_path / "c")
    monkeypatch.setattr(passes, "evaluate", lambda *_: pytest.fail("it started"))
    status, _ = evaluate("corruption", "--data", tmp_path / "c")
    assert status == 2
    assert message in capsys.readouterr().err


def test_cells_of_unlike_sizes_are_refused(evaluate, tmp_path, capsys):
    write_corruptions(tmp_path / "c", ("fog", "snow"))
    for number in (1, 2):
        (tmp_path / "c" / "snow" / "4" / "dark" / f"{number:02d}.png").unlink()
    status, record = evaluate("corruption", "--data", tmp_path / "c")
    assert (status, record) == (2, None)
    assert "9 of 10 cells have 12 images, the others not: snow/4 10" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("generated", [False, True])
@pytest.mark.parametrize(
    ("classes", "cell", "kind"), [(CLASSES, 12, "whole"), (CLASSES[:2], 12, "own"), (CLASSES, 13, "own")]
)
def test_imagenet_c_has_imagenets_classes_and_full_cells(
    evaluate, tmp_path, monkeypatch, classes, cell, kind, generated, capsys
):
    # In place of ImageNet's: these three classes, and so many images per cell.
    monkeypatch.setattr(commands, "is_imagenet", lambda given: tuple(given) == classes)
    monkeypatch.setitem(corruptions.CELLS, "imagenet-c", cell)
    monkeypatch.setitem(corruptions.CELLS, "generated", cell)
    write_corruptions(tmp_path / "c", corruptions.CORRUPTIONS if kind == "whole" else ("fog",))
    if generated:
        (tmp_path / "c" / MARKER).write_text('{"finished": true}')
    _, record = evaluate("corruption", "--data", tmp_path / "c")
    result = record["result"]
    wanted = "own" if kind == "own" else "generated" if generated else "imagenet-c"
    assert result["kind"] == wanted
    for measure in ("ce", "mce"):
        assert (measure in result) == (wanted == "imagenet-c")
        assert (f"generated_{measure}" in result) == (wanted == "generated")
    told = capsys.readouterr().out
    assert ("\nmCE " in told) == (wanted == "imagenet-c")
    assert ("ImageNet-C: " in told) == (wanted == "imagenet-c")
    assert ("generated set" in told or "made by apr-dali make-c" in told) == generated
    if wanted == "imagenet-c":
        assert result["mce"] == pytest.approx(np.mean(list(result["ce"].values())))
        line = next(line for line in told.splitlines() if line.startswith("fog "))
        assert float(line.split()[-1]) == pytest.approx(result["ce"]["fog"], abs=0.05)


@pytest.mark.parametrize(
    ("each", "classes", "trained_on", "kind"),
    [
        ([3] * 10, CIFAR["cifar10"], "", "cifar-10-c"),
        ([3] * 10, CIFAR["cifar10"], "folder", "cifar-10-c"),
        ([3] * 10, tuple("0123456789"), "", "cifar-10-c"),
        ([3] * 10, tuple("0123456789"), "digits", "own"),
        ([3] * 10, tuple("0123456789"), "folder", "own"),
        ([3] * 10, CIFAR["cifar10"][::-1], "", "own"),
        ([2, 4, *[3] * 8], CIFAR["cifar10"], "", "own"),
        ([2] * 10, CIFAR["cifar10"], "", "own"),
    ],
)
def test_cifar_c_has_cifars_classes_and_full_cells(evaluate, tmp_path, monkeypatch, each, classes, trained_on, kind):
    monkeypatch.setitem(corruptions.CELLS, "cifar-10-c", 30)
    labels = np.repeat(np.arange(10), each)
    model = dataclasses.replace(network(32, Ten(), classes), trained_on=trained_on)
    (tmp_path / "set").mkdir()
    np.save(tmp_path / "set" / "labels.npy", np.tile(labels, 5))
    np.save(tmp_path / "set" / "fog.npy", np.full((5 * len(labels), 32, 32, 3), 40, np.uint8))
    _, record = evaluate("corruption", "--data", tmp_path / "set", model=model)
    assert (record["result"]["kind"], record["result"]["images"]) == (kind, len(labels))
    # Those of make-c have as many images, and other draws than the published ones.
    (tmp_path / "set" / MARKER).write_text('{"finished": true}')
    _, record = evaluate("corruption", "--data", tmp_path / "set", model=model)
    assert (record["result"]["kind"], record["result"]["name"]) == ("own", "own set set, made by apr-dali make-c")


def test_only_imagenets_classes_are_imagenets():
    from apr_dali.eval.class_names import imagenet_classes, is_imagenet

    names = imagenet_classes()
    assert is_imagenet(names)
    assert is_imagenet(names[::-1])
    assert not is_imagenet(names[:16])
    assert not is_imagenet(("n00000000", *names[1:]))
