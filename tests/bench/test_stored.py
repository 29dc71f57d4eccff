"""The benchmark's photographs in tars and re-encoded: the same images, made once, and read by their rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from apr_dali.bench import checks, feeds, images, rows, stored
from apr_dali.bench.images import Places
from apr_dali.bench.rows import Row
from apr_dali.data.folders import open_files, open_set

COUNT = 6


@pytest.fixture(scope="module")
def folder(tmp_path_factory, crops) -> Path:
    """Photographs of 600 × 300 pixels in two classes."""
    root = tmp_path_factory.mktemp("photographs")
    for number, image in enumerate(crops(COUNT, 150, 300)):
        place = root / "ab"[number % 2]
        place.mkdir(exist_ok=True)
        Image.fromarray(image).resize((600, 300)).save(place / f"{number}.jpg", quality=95)
    return root


@pytest.fixture(scope="module")
def places(folder, tmp_path_factory) -> Places:
    """All kinds, made in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stored.cpus, "usable", lambda: 1)
        made = stored.prepare_stored(tmp_path_factory.mktemp("out"), str(folder), ("tars", "500", "256"))
    return Places(str(folder), "", made)


@pytest.mark.parametrize(("kind", "size"), [("500", (500, 250)), ("256", (256, 128))])
def test_files_are_re_encoded(places, folder, kind, size):
    found = open_files(places.stored[kind], "the test")
    assert found.classes == ("a", "b")
    assert found.labels.tolist() == [0] * 3 + [1] * 3
    for file, original in zip(found.files, open_files(folder, "the test").files, strict=True):
        with Image.open(file) as image, Image.open(original) as before:
            assert image.size == size
            difference = np.asarray(image, int) - np.asarray(before.resize(size), int)
        assert np.abs(difference).mean() < 4


def test_tars_hold_the_files_as_they_are(places, folder):
    found = open_set(places.stored["tars"])
    assert (len(found), found.classes) == (COUNT, ("a", "b"))
    sizes = sorted(part.size for part in found.parts())
    assert sizes == sorted(path.stat().st_size for path in folder.rglob("*.jpg"))


def test_the_weights_are_those_of_the_files(places, folder):
    weights = stored.mean_sizes(places.folder, places.stored)
    assert list(weights) == ["", "500", "256"]
    assert weights[""] == pytest.approx(sum(path.stat().st_size for path in folder.rglob("*.jpg")) / COUNT / 1000)
    assert weights[""] > weights["500"] > weights["256"]


def test_they_are_made_once_and_anew_for_other_photographs(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(stored.cpus, "usable", lambda: 1)
    first = stored.prepare_stored(tmp_path, str(folder), ("256",))
    written = {path: path.stat().st_mtime_ns for path in Path(first["256"]).rglob("*.jpg")}
    assert stored.prepare_stored(tmp_path, str(folder), ("256",)) == first
    assert {path: path.stat().st_mtime_ns for path in Path(first["256"]).rglob("*.jpg")} == written
    other = tmp_path / "other"
    (other / "c").mkdir(parents=True)
    (other / "c/0.jpg").write_bytes((folder / "a/0.jpg").read_bytes())
    assert stored.prepare_stored(tmp_path, str(other), ("256",)) != first
    assert stored.prepare_stored(tmp_path, str(other), ()) == {}


def test_a_set_of_many_is_kept_in_part(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(stored.cpus, "usable", lambda: 1)
    monkeypatch.setattr(stored, "_LIMIT", 4)
    found = open_files(stored.prepare_stored(tmp_path, str(folder), ("256",))["256"], "the test")
    assert found.labels.tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize("kind", ["tars", "500", "256", "dynamic"])
def test_each_row_reads_its_own_and_is_right(places, kind, monkeypatch):
    if kind == "dynamic":
        pytest.importorskip("nvidia.dali.experimental.dynamic.capture", reason="needs DALI 2.3 or newer")
    monkeypatch.setitem(rows._BATCH["cpu"], 224, 16)  # enough to hold some with much color, whose phase is sure
    monkeypatch.setattr(images, "_EPOCH", 48)
    read = []

    def reading(function):
        return lambda place: read.append(place) or function(place)

    for name in ("photographs", "packed"):
        monkeypatch.setattr(feeds, name, reading(getattr(images, name)))
    checks.check_row(Row(f"dali-cpu-{kind}", "apr-sp", 224), places, 1)
    assert read == [places.stored.get(kind, places.folder)]
