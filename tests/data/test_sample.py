"""The built-in sample: the same bytes every time, parts that share nothing, tar files that DALI reads."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from apr_dali.data import sample
from apr_dali.data.folders import ImageSet, TarSet, open_set
from apr_dali.data.sample import SUBJECTS, cuts, photograph, write_sample
from apr_dali.errors import InputError


def digests(root: Path) -> dict[str, str]:
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return write_sample(tmp_path_factory.mktemp("sample") / "folder")


@pytest.fixture(scope="module")
def tars(tmp_path_factory) -> Path:
    return write_sample(tmp_path_factory.mktemp("sample") / "tars", "webdataset")


@pytest.fixture
def quick(monkeypatch):
    """Two images per class, where the content does not matter."""
    monkeypatch.setattr(sample, "IMAGES_PER_CLASS", {"train": 2, "val": 2})


def open_images(source: Path, split: str) -> ImageSet:
    found = open_set(source, split)
    assert isinstance(found, ImageSet)
    return found


class TestImages:
    def test_classes_and_counts(self, folder):
        for split, count in (("train", 48), ("val", 16)):
            found = open_images(folder, split)
            assert found.classes == tuple(sorted(SUBJECTS))
            assert len(found.classes) >= 12
            assert np.bincount(found.labels).tolist() == [count] * len(SUBJECTS)

    def test_sizes_vary_within_their_limits_and_all_are_color_jpegs(self, folder):
        sizes = []
        for split in ("train", "val"):
            for file in open_images(folder, split).files:
                with Image.open(file) as image:
                    assert (image.format, image.mode) == ("JPEG", "RGB")
                    sizes.append(image.size)
        array = np.array(sizes)
        assert array.min() >= 96
        assert array.max() <= 400
        assert array.max() > 350
        assert len(set(sizes)) > 900
        ratio = array[:, 0] / array[:, 1]
        assert ratio.min() < 0.5
        assert ratio.max() > 2

    def test_no_image_is_blank(self, folder):
        for split in ("train", "val"):
            for file in open_images(folder, split).files:
                with Image.open(file) as image:
                    # The moon's plains have 3, all other images more than 6.
                    assert np.asarray(image.convert("L")).std() > 2.5, file

    @pytest.mark.parametrize("name", SUBJECTS)
    def test_parts_lie_within_the_photograph_and_apart(self, name):
        subject, (width, height) = SUBJECTS[name], photograph(name).size
        owner = np.zeros((height, width), int)
        for left, top, right, bottom in (subject.train, subject.val):
            assert 0 <= left <= right - 96 <= width - 96
            assert 0 <= top <= bottom - 96 <= height - 96
            owner[top:bottom, left:right] += 1
        assert owner.max() == 1

    @pytest.mark.parametrize("seed", [0, 7])
    @pytest.mark.parametrize("name", SUBJECTS)
    def test_no_pixel_is_in_both_splits(self, name, seed):
        width, height = photograph(name).size
        seen = {split: np.zeros((height, width), bool) for split in ("train", "val")}
        for split, mask in seen.items():
            for left, top, right, bottom in cuts(name, split, seed):
                mask[top:bottom, left:right] = True
        assert seen["train"].sum() > 96 * 96
        assert seen["val"].sum() > 96 * 96
        assert not (seen["train"] & seen["val"]).any()

    def test_each_image_comes_from_its_part(self, tmp_path, monkeypatch):
        """By the pixels written: photographs painted red where training images may come from, blue for validation."""
        sizes = {name: photograph(name).size for name in SUBJECTS}

        def painted(name: str) -> Image.Image:
            image = Image.new("RGB", sizes[name], (0, 255, 0))
            image.paste((255, 0, 0), SUBJECTS[name].train)
            image.paste((0, 0, 255), SUBJECTS[name].val)
            return image

        monkeypatch.setattr(sample, "photograph", painted)
        monkeypatch.setattr(sample, "IMAGES_PER_CLASS", {"train": 12, "val": 12})
        root = write_sample(tmp_path / "painted")
        for split, color in (("train", (255, 0, 0)), ("val", (0, 0, 255))):
            for file in open_images(root, split).files:
                with Image.open(file) as image:
                    assert np.abs(np.asarray(image).astype(int) - color).max() <= 3, file

    def test_gray_photographs_become_color_with_equal_channels(self):
        pixels = np.asarray(photograph("brick"))
        assert pixels.shape == (512, 512, 3)
        assert (pixels == pixels[..., :1]).all()

    def test_large_photographs_are_halved(self):
        assert photograph("galaxies").size == (500, 436)
        assert photograph("cat").size == (451, 300)


class TestDeterminism:
    @pytest.mark.parametrize("image_format", sample.FORMATS)
    def test_the_same_bytes_every_time(self, tmp_path, folder, tars, image_format):
        again = write_sample(tmp_path / "again", image_format)
        expected = folder if image_format == "folder" else tars
        assert digests(again) == digests(expected)

    @pytest.mark.usefixtures("quick")
    def test_another_seed_gives_other_images(self, tmp_path):
        first, second = (digests(write_sample(tmp_path / str(seed), seed=seed)) for seed in (0, 1))
        assert first.keys() == second.keys()
        assert not set(first.values()) & set(second.values())


class TestTars:
    @pytest.mark.parametrize("split", ["train", "val"])
    def test_dali_reads_the_images_and_labels_of_the_folders(self, folder, tars, split):
        from nvidia.dali import Pipeline, fn

        packed, images = open_set(tars, split), open_images(folder, split)
        assert isinstance(packed, TarSet)
        assert len(packed.tars) > 1
        assert packed.classes == images.classes
        pipeline = Pipeline(batch_size=len(images), num_threads=1, device_id=None, prefetch_queue_depth=1)
        with pipeline:
            paths, indices = list(packed.tars), list(packed.indices)
            jpeg, label = fn.readers.webdataset(
                paths=paths, index_paths=indices, ext=["jpg", "cls"], missing_component_behavior="error", name="reader"
            )
            pipeline.set_outputs(jpeg, label)
        pipeline.build()
        assert pipeline.epoch_size("reader") == len(images) == len(packed)
        read = [
            (bytes(np.array(one)), int(bytes(np.array(digits)).decode()))
            for one, digits in zip(*pipeline.run(), strict=True)
        ]
        expected = [(Path(f).read_bytes(), int(n)) for f, n in zip(images.files, images.labels, strict=True)]
        assert sorted(read) == sorted(expected)
        # Every tar holds most of the classes: a reader shuffles only within a small buffer.
        assert len({label for _, label in read[: len(read) // len(paths)]}) >= 12

    def test_indices_are_those_of_dalis_tool(self, tmp_path, tars):
        tool = Path(sys.executable).with_name("wds2idx")
        for tar in sorted(tars.rglob("*.tar")):
            theirs = tmp_path / "their.idx"
            subprocess.run([str(tool), str(tar), str(theirs)], check=True, capture_output=True)
            assert tar.with_suffix(".idx").read_text() == theirs.read_text()


class TestWriting:
    @pytest.mark.usefixtures("quick")
    def test_a_finished_sample_is_left_as_it_is(self, tmp_path, monkeypatch):
        root = write_sample(tmp_path / "s")
        image = next(root.rglob("*.jpg"))
        image.write_bytes(b"changed")
        monkeypatch.setattr(sample, "_write_folders", lambda *_: pytest.fail("written again"))
        assert write_sample(tmp_path / "s") == root
        assert image.read_bytes() == b"changed"

    @pytest.mark.usefixtures("quick")
    @pytest.mark.parametrize("other", [{"image_format": "webdataset"}, {"seed": 1}])
    def test_another_sample_is_refused(self, tmp_path, other):
        write_sample(tmp_path / "s")
        before = digests(tmp_path / "s")
        with pytest.raises(InputError, match=r"holds another sample: expected .*, got .*new folder"):
            write_sample(tmp_path / "s", **other)
        assert digests(tmp_path / "s") == before

    @pytest.mark.usefixtures("quick")
    def test_a_sample_of_an_older_version_is_refused(self, tmp_path, monkeypatch):
        write_sample(tmp_path / "s")
        monkeypatch.setattr(sample, "_VERSION", sample._VERSION + 1)
        with pytest.raises(InputError, match="holds another sample"):
            write_sample(tmp_path / "s")

    def test_what_is_no_sample_is_refused(self, tmp_path):
        (tmp_path / "s").mkdir()
        (tmp_path / "s/thesis.txt").touch()
        (tmp_path / "file").touch()
        for name in ("s", "file"):
            with pytest.raises(InputError, match="not a sample: give a new folder"):
                write_sample(tmp_path / name)
        assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "s", "thesis.txt"]

    @pytest.mark.usefixtures("quick")
    def test_an_empty_folder_and_missing_parents(self, tmp_path):
        (tmp_path / "empty").mkdir()
        for path in (tmp_path / "empty", tmp_path / "a/b/c"):
            assert write_sample(path) == path
            assert json.loads((path / ".apr_dali_sample.json").read_text())["format"] == "folder"
            assert len(list(path.rglob("*.jpg"))) == 4 * len(SUBJECTS)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "empty"]

    def test_nothing_is_left_of_an_interrupted_one(self, tmp_path, monkeypatch):
        original = sample.photograph

        def stop_at_coins(name: str) -> Image.Image:
            if name == "coins":
                raise KeyboardInterrupt
            return original(name)

        monkeypatch.setattr(sample, "photograph", stop_at_coins)
        with pytest.raises(KeyboardInterrupt):
            write_sample(tmp_path / "s")
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.usefixtures("quick")
    def test_another_process_was_quicker(self, tmp_path, monkeypatch):
        original = sample._write_folders

        def slowly(root: Path, seed: int) -> None:
            original(root, seed)
            monkeypatch.setattr(sample, "_write_folders", original)
            write_sample(tmp_path / "s")

        monkeypatch.setattr(sample, "_write_folders", slowly)
        write_sample(tmp_path / "s")
        assert [path.name for path in tmp_path.iterdir()] == ["s"]
        assert len(open_images(tmp_path / "s", "val")) == 2 * len(SUBJECTS)

    def test_unknown_format(self, tmp_path):
        with pytest.raises(InputError, match="image_format must be one of folder, webdataset, got 'zip'"):
            write_sample(tmp_path / "s", "zip")

    def test_a_missing_photograph_says_what_to_install(self, monkeypatch):
        subject = SUBJECTS["cat"]
        monkeypatch.setitem(SUBJECTS, "cat", sample.Subject("skimage", "data/gone.png", subject.train, subject.val))
        with pytest.raises(InputError, match=r"needs data/gone.png of skimage: pip install 'scikit-image>=0.24'"):
            photograph("cat")
