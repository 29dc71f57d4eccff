"""Class folders in a zip archive or a compressed tar: read as they are, and named where they are damaged."""

import gzip
import os
import re
import shutil
import struct
import tarfile
import zipfile
from pathlib import Path

import pytest
from helpers import archives
from helpers.archives import WNIDS, class_folders, contents, encoded, expected, train_images
from helpers.folder_trees import files_in
from helpers.tar_files import add

from apr_dali.data.prepare import compressed, job, zips
from apr_dali.data.prepare.job import Options, prepare
from apr_dali.data.prepare.sources import open_source
from apr_dali.errors import InputError

pytestmark = pytest.mark.usefixtures("miniature")


@pytest.fixture(autouse=True)
def small_units(monkeypatch):
    """Units of a few images."""
    monkeypatch.setattr(job, "_FILES", 4)
    monkeypatch.setattr(job, "_FILES_OF_ROWS", 4)


def packed(folder: Path, archive: Path, method: int = zipfile.ZIP_DEFLATED) -> Path:
    """A zip archive, or a tar of any compression, of what lies in a folder."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    archive.parent.mkdir(parents=True, exist_ok=True)
    if archive.suffix != ".zip":
        mode = {".tgz": "w:gz", ".gz": "w:gz", ".bz2": "w:bz2", ".xz": "w:xz", ".tar": "w"}[archive.suffix]
        with tarfile.open(archive, mode, format=tarfile.USTAR_FORMAT) as made:
            for file in files:
                add(made, str(file.relative_to(folder)), file.read_bytes())
        return archive
    with zipfile.ZipFile(archive, "w", method) as made:
        for file in files:
            made.write(file, file.relative_to(folder))
    return archive


def kaggles(tmp_path: Path, name: str = "imagenet-object-localization-challenge.zip") -> Path:
    folder = archives.kaggle(tmp_path / "unpacked")
    (folder / "ILSVRC/Annotations/train").mkdir(parents=True)
    (folder / "ILSVRC/Annotations/train/a.xml").write_text("<a/>")
    (folder / "ILSVRC/Data/CLS-LOC/test/ILSVRC2012_test_00000001.JPEG").write_bytes(encoded(5))
    return packed(folder, tmp_path / name)


def refused(source: Path, told: str, **options: object) -> None:
    with pytest.raises(InputError, match=re.escape(told)):
        open_source(source, **options)


@pytest.mark.parametrize("image_format", ["folder", "webdataset"])
@pytest.mark.parametrize("name", ["a.zip", "a.tar.gz", "a.tgz", "a.tar.bz2", "a.tar.xz"])
def test_kaggles_download(tmp_path, name, image_format):
    source = kaggles(tmp_path, name)
    options = Options(image_format, shards=3 if image_format == "webdataset" else None)
    found = prepare(source, tmp_path / "out", options)
    assert (found.images, found.differences, found.odd) == ({"train": 12, "val": 6}, (), ())
    for split in ("train", "val"):
        assert contents(tmp_path / "out", split) == expected(split)
    assert not (tmp_path / "out" / job.journal.STATE).exists()


@pytest.mark.parametrize("name", ["a.zip", "a.tgz"])
def test_class_folders_of_a_folder_in_an_archive(tmp_path, name):
    """As imagenette2.tgz has them; found where the archive lies."""
    images = train_images()
    class_folders(tmp_path / "in/imagenette2/train", images)
    class_folders(tmp_path / "in/imagenette2/val", {wnid: dict(list(images[wnid].items())[:1]) for wnid in WNIDS})
    class_folders(tmp_path / "in/__MACOSX/imagenette2/train", {"x": {"._a.JPEG": b"x"}})
    (tmp_path / "in/imagenette2/train" / WNIDS[0] / "odd.gif").write_bytes(b"GIF8")
    packed(tmp_path / "in", tmp_path / name)
    shutil.rmtree(tmp_path / "in")
    found = open_source(tmp_path)
    assert found.classes == WNIDS
    assert {split: len(items) for split, items in found.splits.items()} == {"train": 12, "val": 3}
    assert [path for path, _ in found.left_out] == [f"imagenette2/train/{WNIDS[0]}/odd.gif"]
    assert set(found.read(found.splits["train"])) == expected("train").keys()


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("streamed", [False, True])
def test_zip_archives_of_every_kind(tmp_path, method, streamed):
    """One that was written to a pipe has sizes and checksums behind the files."""

    class Pipe:
        def __init__(self, file):
            self.write, self.flush = file.write, file.flush

    with open(tmp_path / "a.zip", "wb") as file, zipfile.ZipFile(Pipe(file) if streamed else file, "w", method) as made:
        for name, content in (("val/a/1.jpg", encoded(1)), ("val/b/2.jpg", encoded(2)), ("val/b/0.jpg", b"")):
            made.writestr(name, content)
    (tmp_path / "a.zip").write_bytes((tmp_path / "a.zip").read_bytes())
    found = open_source(tmp_path / "a.zip")
    items = found.splits["val"]
    assert [item.name for item in items] == ["1.jpg", "0.jpg", "2.jpg"]
    assert list(found.read(items[::-1])) == [encoded(2), b"", encoded(1)]


def test_labels_that_are_given_go_before_the_table(tmp_path):
    source = kaggles(tmp_path)
    (tmp_path / "list.txt").write_text("\n".join([*WNIDS[::-1]] * 2))
    found = open_source(source, val_labels=tmp_path / "list.txt")
    assert [found.classes[item.label] for item in sorted(found.splits["val"], key=lambda item: item.name)][:3] == list(
        WNIDS[::-1]
    )
    class_folders(tmp_path / "in/train", train_images())
    none = packed(tmp_path / "in", tmp_path / "b.zip")
    refused(none, "--val-labels has no effect", val_labels=tmp_path / "list.txt")


# ---- stopped ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("image_format", ["folder", "webdataset"])
@pytest.mark.parametrize("name", ["a.zip", "a.tgz"])
@pytest.mark.parametrize("after", [3, 11, 20])
def test_a_stopped_run_goes_on_to_the_same(tmp_path, monkeypatch, name, image_format, after):
    source = kaggles(tmp_path, name)
    options = Options(image_format, shards=3 if image_format == "webdataset" else None)
    monkeypatch.setattr(job, "_RUN", 4)
    module, function = (zips, "_content") if name == "a.zip" else (compressed, "_kept")
    right, calls = getattr(module, function), []

    def stopping(*given):
        calls.append(given)
        if len(calls) == after:
            raise KeyboardInterrupt
        return right(*given)

    with monkeypatch.context() as patch:
        patch.setattr(module, function, stopping)
        if after == 20:  # more than there are images: while the units are written
            patch.setattr(job, "write_unit", lambda *_: stopping())
            calls += [()] * (after - len(calls) - 1)
        with pytest.raises(KeyboardInterrupt):
            prepare(source, tmp_path / "out", options)
    prepare(source, tmp_path / "out", options)
    prepare(source, tmp_path / "whole", options)
    assert files_in(tmp_path / "out") == files_in(tmp_path / "whole")


def test_a_compressed_tar_is_read_once_in_its_order(tmp_path):
    """Whatever the units: each rewinding would unpack all of it."""
    source = open_source(kaggles(tmp_path, "a.tgz"))
    at = [item.at for items in source.splits.values() for item in items]
    assert at == sorted(at)
    assert source.sequential
    assert not open_source(kaggles(tmp_path / "b")).sequential


def test_an_archive_that_is_replaced(tmp_path):
    for seed in (1, 2):
        class_folders(tmp_path / "in/train", {"x": {"1.jpg": encoded(seed)}})
        source = open_source(packed(tmp_path / "in", tmp_path / "a.tgz"))
        os.utime(tmp_path / "a.tgz", (seed, seed))
        assert list(source.read(source.splits["train"])) == [encoded(seed)]


# ---- bad archives ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.2, 0.9, 1.0])
@pytest.mark.parametrize("name", ["a.zip", "a.tgz", "a.tar.xz"])
def test_a_truncated_archive_is_named_with_the_byte_where_it_ends(tmp_path, name, share):
    source = kaggles(tmp_path, name)
    size = int(source.stat().st_size * share) - 3
    os.truncate(source, size)
    refused(source, f"{source} is truncated, ")
    refused(source, f"it ends at byte {size}")


@pytest.mark.parametrize("number", [1, 3])
@pytest.mark.parametrize("beyond", [-5, 0, 100, 512, 700])
def test_a_compressed_tar_that_was_cut_before_it_was_compressed(tmp_path, number, beyond):
    whole = packed(archives.kaggle(tmp_path / "unpacked"), tmp_path / "a.tar")
    with tarfile.open(whole) as archive:
        end = archive.getmembers()[number].offset + beyond
    (tmp_path / "b.tgz").write_bytes(gzip.compress(whole.read_bytes()[:end]))
    refused(tmp_path / "b.tgz", "b.tgz is truncated, damaged or no compressed tar")


def test_a_compressed_tar_that_was_damaged_before_it_was_compressed(tmp_path):
    path = packed(archives.kaggle(tmp_path / "unpacked"), tmp_path / "a.tar")
    with tarfile.open(path) as archive:
        at = archive.getmembers()[2].offset
    content = bytearray(path.read_bytes())
    content[at : at + 512] = b"x" * 512
    (tmp_path / "b.tgz").write_bytes(gzip.compress(content))
    refused(tmp_path / "b.tgz", f"what stands at byte {at} of the tar in it is neither a file nor the end")


def test_what_is_no_archive(tmp_path):
    for name in ("a.zip", "a.tgz"):
        (tmp_path / name).write_bytes(b"<html>not found</html>")
        refused(tmp_path / name, "it ends at byte 22")


@pytest.mark.parametrize("name", ["a.zip", "a.tgz"])
def test_archives_of_something_else(tmp_path, name):
    class_folders(tmp_path / "in/pictures", {"x": {"1.jpg": encoded(1)}})
    refused(packed(tmp_path / "in", tmp_path / name), "has no images in folders train/CLASS or val/CLASS")
    class_folders(tmp_path / "in/a/train", {"x": {"1.jpg": encoded(1)}})
    class_folders(tmp_path / "in/b/train", {"x": {"1.jpg": encoded(1)}})
    refused(packed(tmp_path / "in", tmp_path / name), "has several folders of splits (a/, b/)")
    class_folders(tmp_path / "in2/train", {".": {"1.jpg": encoded(1)}})
    refused(packed(tmp_path / "in2", tmp_path / name), "has images right in train/: expected train/CLASS/IMAGE")
    (tmp_path / "in2/train").rename(tmp_path / "in2/val")
    refused(packed(tmp_path / "in2", tmp_path / name), "or LOC_val_solution.csv in it, or --val-labels")
    class_folders(tmp_path / "in3/train", {"x": {"1.jpg": encoded(1)}, "y": {"1.jpg": encoded(1)}})
    class_folders(tmp_path / "in3/val", {"x": {"1.jpg": encoded(1)}})
    refused(
        packed(tmp_path / "in3", tmp_path / name), "val/ must have the training set's 2 classes, got 1 (1 missing: y)"
    )


def test_several_archives(tmp_path):
    for name in ("a.zip", "b.tgz"):
        (tmp_path / name).write_bytes(b"")
    refused(tmp_path, "holds a.zip and b.tgz: give one of them")


def test_files_of_a_zip_archive_that_cannot_be_read(tmp_path):
    class_folders(tmp_path / "in/train", {"x": {"1.jpg": encoded(1)}})
    source = packed(tmp_path / "in", tmp_path / "a.zip", zipfile.ZIP_BZIP2)
    refused(source, "train/x/1.jpg is packed by the method 12: unpack the archive")
    source = packed(tmp_path / "in", tmp_path / "a.zip", zipfile.ZIP_STORED)
    content = bytearray(source.read_bytes())
    at = content.rindex(b"PK\1\2") + 8
    content[at : at + 2] = struct.pack("<H", 1)
    source.write_bytes(content)
    refused(source, "train/x/1.jpg is encrypted")


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("at", [0, 200])
def test_other_bytes_in_a_zip_archive(tmp_path, method, at):
    class_folders(tmp_path / "in/train", {"x": {"1.jpg": encoded(1)}})
    source = packed(tmp_path / "in", tmp_path / "a.zip", method)
    content = bytearray(source.read_bytes())
    content[at] ^= 0xFF
    source.write_bytes(content)
    with pytest.raises(InputError, match=r"1\.jpg, from byte 0 on, is damaged .*: fetch the archive again"):
        prepare(source, tmp_path / "out", Options())


def test_an_archive_that_changes_between_runs(tmp_path, monkeypatch):
    source = kaggles(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(job, "_finish", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            prepare(source, tmp_path / "out", Options())
    with zipfile.ZipFile(source, "a") as made:
        made.writestr(f"ILSVRC/Data/CLS-LOC/train/{WNIDS[0]}/more.JPEG", encoded(77))
    with pytest.raises(InputError, match="was begun with other settings or another source"):
        prepare(source, tmp_path / "out", Options())


def test_links_in_a_compressed_tar(tmp_path):
    with tarfile.open(tmp_path / "a.tgz", "w:gz") as archive:
        link = tarfile.TarInfo("train/x/2.jpg")
        link.type, link.linkname = tarfile.LNKTYPE, "train/x/1.jpg"
        archive.addfile(link)
    refused(tmp_path / "a.tgz", "train/x/2.jpg is a link: unpack it, and give the folder")
