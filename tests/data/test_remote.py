"""Tars in object storage: an S3 server on this machine, which answers for Google's storage too."""

from __future__ import annotations

import argparse
import os
import sys
import tarfile
import warnings
from pathlib import Path

import pytest
import torch
from helpers import forked
from helpers.project import ROOT
from helpers.tar_files import folder_of, samples
from PIL import Image

from apr_dali import ImageNetLoader
from apr_dali.commands.check_data import add, run
from apr_dali.data import remote, tar_index
from apr_dali.data.check import check_tree
from apr_dali.data.folders import open_set
from apr_dali.data.tars import opened
from apr_dali.errors import InputError

BUCKET = "images"


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache/apr_dali/indices"


@pytest.fixture
def put(s3):
    """A function that copies a folder's files to below an address in the bucket."""
    s3.create_bucket(Bucket=BUCKET)

    def copy(folder: Path, key: str) -> str:
        for path in sorted(folder.iterdir()):
            s3.upload_file(str(path), BUCKET, f"{key}/{path.name}", ExtraArgs={"ACL": "public-read"})
        return f"s3://{BUCKET}/{key}"

    return copy


@pytest.fixture
def tars(tmp_path) -> Path:
    return folder_of(tmp_path / "d", samples("a", "b"), samples("c"))


def contents(found) -> list[bytes]:
    result = []
    for part in found.parts():
        with opened(part) as file:
            result.append(file.read())
    return result


def keys_of(found) -> list[str]:
    return [name.partition(".tar/")[2] for name in found.names]


@pytest.fixture
def no_scan(monkeypatch):
    def forbid() -> None:
        monkeypatch.setattr(tar_index, "scan", lambda _: pytest.fail("read the headers"))

    return forbid


class TestIndices:
    def test_a_folder_without_indices(self, put, tars, cache, no_scan):
        address = put(tars, "a/train")
        found = open_set(address)
        assert found.tars == (f"{address}/0.tar", f"{address}/1.tar")
        assert found.classes == ("cat", "dog")
        assert contents(found) == [b"a.jpg", b"b.jpg", b"c.jpg"]
        assert [label for _, label in found.read_labels()] == [1, 1, 1]
        assert len(list(cache.iterdir())) == 2
        no_scan()
        assert keys_of(open_set(f"{address}/")) == ["a", "b", "c"]

    def test_those_beside_the_tars_are_taken_and_kept(self, put, tars, cache, no_scan, monkeypatch):
        open_set(tars)  # makes them
        address = put(tars, "train")
        no_scan()
        assert keys_of(open_set(address)) == ["a", "b", "c"]
        assert len(list(cache.iterdir())) == 2
        monkeypatch.setattr(tar_index, "_fetched", lambda *_: pytest.fail("fetched an index again"))
        assert keys_of(open_set(address)) == ["a", "b", "c"]

    def test_a_tar_that_was_written_anew(self, put, tars, tmp_path):
        address = put(tars, "train")
        assert keys_of(open_set(address)) == ["a", "b", "c"]
        put(folder_of(tmp_path / "new", samples("x", "y")), "train")
        assert keys_of(open_set(address)) == ["x", "y", "c"]

    @pytest.mark.parametrize(
        ("of", "told"),
        [
            (samples(*"abcdefghijklmnop"), "reaches beyond the end of its tar"),
            ([("a.jpg", b"longer than it was"), ("a.cls", b"1")], "does not fit its tar"),
            (None, "is not an index of DALI"),
        ],
    )
    def test_one_that_does_not_fit_is_not_used(self, put, tars, tmp_path, of, told):
        if of is not None:
            open_set(folder_of(tmp_path / "other", of))
            (tars / "0.idx").write_bytes((tmp_path / "other/0.idx").read_bytes())
        else:
            (tars / "0.idx").write_text("hello")
        address = put(tars, "train")
        with pytest.warns(UserWarning, match=rf"{address}/0\.idx {told}: took another index"):
            assert keys_of(open_set(address)) == ["a", "b", "c"]
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert keys_of(open_set(address)) == ["a", "b", "c"]

    def test_members_larger_than_a_request(self, put, tmp_path, monkeypatch):
        monkeypatch.setattr(remote, "_BUFFER", 1024)
        members = [(name, content * 999) for name, content in samples("a", "b")]
        members = [(name, b"0" if name.endswith("cls") else content) for name, content in members]
        found = open_set(put(folder_of(tmp_path / "d", members), "train"))
        assert contents(found) == [b"a.jpg" * 999, b"b.jpg" * 999]

    def test_a_truncated_tar_is_named_with_the_byte_where_it_ends(self, put, tars):
        os.truncate(tars / "0.tar", 2050)
        with pytest.raises(InputError, match=r"s3://images/train/0\.tar .* cut off at byte 2050"):
            open_set(put(tars, "train"))


class TestPlaces:
    def test_splits_and_the_classes_above_them(self, put, tars, tmp_path):
        put(tars, "set/train")
        put(folder_of(tmp_path / "v", samples("v")), "set/val")
        address = f"s3://{BUCKET}/set"
        assert keys_of(open_set(address, "train")) == ["a", "b", "c"]
        assert keys_of(open_set(address, "val", ("cat", "dog"))) == ["v"]
        with pytest.raises(InputError, match=r"s3://images/set has no tar files: expected .*, got train, val"):
            open_set(address)

    def test_patterns(self, put, tars):
        address = put(tars, "train")
        assert keys_of(open_set(f"{address}/{{0..1}}.tar")) == ["a", "b", "c"]
        assert keys_of(open_set(f"{address}/[1-9].tar")) == ["c"]
        with pytest.raises(InputError, match=r"train/2\.tar is not there"):
            open_set(f"{address}/{{0..2}}.tar")
        with pytest.raises(InputError, match="got nothing that is there"):
            open_set(f"{address}/x*.tar")

    def test_splits_in_one_folder(self, put, tmp_path):
        folder = folder_of(tmp_path / "d", samples("a"), samples("v"))
        for number, name in enumerate(("x-train-0.tar", "x-validation-0.tar")):
            (folder / f"{number}.tar").rename(folder / name)
        address = put(folder, "flat")
        assert keys_of(open_set(address, "train")) == ["a"]
        assert keys_of(open_set(address, "val")) == ["v"]
        assert [name for name, _ in check_tree(address, 1).splits] == ["train", "val"]

    def test_google(self, put, tars, s3_server, monkeypatch):
        monkeypatch.setenv("DALI_GCS_ENDPOINT_URL", s3_server["AWS_ENDPOINT_URL"])
        monkeypatch.setenv("DALI_GCS_ANONYMOUS", "1")
        address = put(tars, "train").replace("s3:", "gs:")
        assert contents(open_set(address)) == [b"a.jpg", b"b.jpg", b"c.jpg"]

    @pytest.mark.parametrize("address", ["http://a/b", "s3://", "s3:///a", "az://x/y"])
    def test_other_servers(self, address):
        with pytest.raises(InputError, match="expected s3://BUCKET/FOLDER or gs://BUCKET/FOLDER"):
            open_set(address)

    def test_nothing_there(self, put, tars):
        put(tars, "train")
        with pytest.raises(InputError, match=r"s3://images/gone is not there, or nothing is in it"):
            open_set("s3://images/gone")
        with pytest.raises(InputError, match=r"s3://nobody cannot be read: .*s3://nobody|s3://nobody/x cannot be read"):
            open_set("s3://nobody/x")

    def test_without_the_library(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "obstore.exceptions", None)
        with pytest.raises(InputError, match=r"s3://images/train needs obstore: pip install .*\[remote\]"):
            open_set("s3://images/train")

    def test_no_credentials(self, monkeypatch):
        """The machine is asked for them, which says nothing to a person."""
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setattr(remote, "_RETRIES", {"max_retries": 0})
        monkeypatch.setenv("AWS_METADATA_ENDPOINT", "http://127.0.0.1:9")
        with pytest.raises(
            InputError, match="s3://theirs/train cannot be read: there are no credentials for it; set AWS_"
        ):
            open_set("s3://theirs/train")

    def test_a_server_that_is_not_there(self, monkeypatch):
        monkeypatch.setattr(remote, "_RETRIES", {"max_retries": 0})
        monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "none")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "none")
        with pytest.raises(InputError, match=r"s3://away/train cannot be read: "):
            open_set("s3://away/train")


@pytest.fixture
def photographs(tmp_path) -> Path:
    """Two splits of two tars with images, each of one gray level."""
    for split, levels in (("train", range(0, 240, 20)), ("val", range(10, 90, 20))):
        for number in range(2):
            (tmp_path / split).mkdir(exist_ok=True)
            with tarfile.open(tmp_path / f"{split}/{number}.tar", "w") as archive:
                for level in list(levels)[number::2]:
                    Image.new("RGB", (20, 20), (level,) * 3).save(tmp_path / "image.png")
                    (tmp_path / "label").write_text(str(level // 20 % 2))
                    archive.add(tmp_path / "image.png", f"{level:03d}.png")
                    archive.add(tmp_path / "label", f"{level:03d}.cls")
        (tmp_path / split / "classes.txt").write_text("even\nodd\n")
    return tmp_path


@pytest.mark.parametrize("train", [True, False])
def test_the_same_batches_as_from_the_disk_and_after_a_state_was_loaded(put, photographs, train):
    address = put(photographs / "train", "set/train")
    options = {"train": train, "image_size": 16, "threads": 1, "seed": 3, "aug": "apr-sp" if train else "none"}
    with ImageNetLoader(photographs / "train", 4, **options) as loader:
        expected = [[*loader], [*loader]]
    with ImageNetLoader(address, 4, **options) as loader:
        epoch = iter(loader)
        first = next(epoch)
        state = loader.state_dict()
    # The places differ, and so do their fingerprints: another start of the same address goes on.
    with ImageNetLoader(address, 4, **options) as loader:
        loader.load_state_dict(state)
        found = [[first, *loader], [*loader]]
    for batches, wanted in zip(found, expected, strict=True):
        for (images, targets), (same, labels) in zip(batches, wanted, strict=True):
            assert torch.equal(images, same)
            assert torch.equal(targets, labels)


def test_check_data(put, photographs, capsys):
    with tarfile.open(photographs / "val/0.tar", "a") as archive:
        (photographs / "x").write_text("no image")
        archive.add(photographs / "x", "x.png")
        archive.add(photographs / "label", "x.cls")
        archive.add(photographs / "label", "y.cls")
    for split in ("train", "val"):
        put(photographs / split, f"set/{split}")
    parser = argparse.ArgumentParser()
    add(parser)
    assert run(parser.parse_args([f"s3://{BUCKET}/set", "--processes", "1"])) == 1
    told = capsys.readouterr().out
    assert f"s3://{BUCKET}/set/val/0.tar/x: not an image: it starts with b'no image'" in told
    assert f"s3://{BUCKET}/set/val/0.tar/y: has no image, only cls" in told
    assert told.splitlines()[-1].split() == ["total", "12", "0", "4", "2"]


@pytest.mark.slow
def test_the_trainer(put, photographs, tmp_path):
    for split in ("train", "val"):
        put(photographs / split, f"set/{split}")
    options = ["--model", "resnet18", "--image-size", "32", "--epochs", "1", "--batch-size", "4", "--threads", "1"]
    given = ["--data", f"s3://{BUCKET}/set", "--output", tmp_path / "run", "--device", "cpu", "--aug", "apr-sp"]
    done = forked.run(ROOT / "train_imagenet.py", *given, *options)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run/best.pt").is_file()
    assert (tmp_path / "run/samples.png").is_file()
