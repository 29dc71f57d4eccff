"""Tar files as people have them: members in any order, indices missing or stale, damage, several images per sample."""

from __future__ import annotations

import gzip
import os
import random
import shutil
import subprocess
import tarfile
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.tar_files import folder_of, pack, samples
from PIL import Image

from apr_dali.bench.images import photographs
from apr_dali.data import tar_index
from apr_dali.data.arrays import load_set
from apr_dali.data.check import check_tree
from apr_dali.data.folders import open_set
from apr_dali.data.make_c import make_c
from apr_dali.data.tar_index import Member, format_index, members_of, read_index, scan, split_name
from apr_dali.data.tars import Components, TarSet, opened, parse_label
from apr_dali.errors import InputError
from apr_dali.runtime import cache as cache_module
from apr_dali.runtime.distributed import Group
from apr_dali.training.datasets import open_parts
from apr_dali.training.options import ImageNetOptions


def images(found: TarSet) -> list[bytes]:
    contents = []
    for part in found.parts():
        with opened(part) as file:
            contents.append(file.read())
    return contents


def only(root: Path, **components: str) -> TarSet:
    found = open_set(root, components=Components(**components))
    assert isinstance(found, TarSet)
    return found


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache/apr_dali/indices"


class TestMembers:
    @pytest.mark.parametrize(
        ("path", "expected"),
        [
            ("0001.jpg", ("0001", "jpg")),
            ("./a/0001.seg.png", ("a/0001", "seg.png")),
            ("v1.0/a.cls", ("v1.0/a", "cls")),
            ("LICENSE", ("", "")),
            ("a/LICENSE.", ("", "")),
            ("a/._1.jpg", ("", "")),
            ("a/.trash/1.jpg", ("", "")),
            ("__MACOSX/1.jpg", ("", "")),
            ("__meta__/1.jpg", ("", "")),
            ("__info__", ("", "")),
            ("__init.jpg", ("__init", "jpg")),
        ],
    )
    def test_keys_as_webdataset_has_them(self, path, expected):
        assert split_name(path) == expected

    def test_members_in_any_order_and_apart(self, tmp_path):
        members = [*samples("a/0", "a/1", "a/2"), ("a/1.json", b"{}"), ("README.txt", b"hello"), ("a/2.seg.png", b"no")]
        expected = {f"a/{n}": f"a/{n}.jpg".encode() for n in range(3)}
        for seed in range(6):
            random.Random(seed).shuffle(members)
            found = only(folder_of(tmp_path / str(seed), members))
            keys = [part.name.partition(".tar/")[2] for part in found.parts()]
            assert dict(zip(keys, images(found), strict=True)) == expected
            assert [label for _, label in found.read_labels()] == [1, 1, 1]
            assert found.faults() == []

    def test_the_order_is_that_of_the_first_members(self, tmp_path):
        members = [("b.cls", b"1"), ("a.jpg", b"A"), ("a.cls", b"0"), ("b.jpg", b"B")]
        found = only(folder_of(tmp_path, members))
        assert found.names == (f"{tmp_path}/0.tar/b", f"{tmp_path}/0.tar/a")
        assert images(found) == [b"B", b"A"]
        assert list(found.read_labels()) == [(found.names[0], 1), (found.names[1], 0)]

    def test_every_format_of_long_and_foreign_names(self, tmp_path):
        keys = ("x" * 120 + "/" + "y" * 90, "Vögel/ü b", "\udcff/1")
        for form in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
            root = tmp_path / str(form)
            pack(root / "0.tar", samples(*keys), form)
            (root / "classes.txt").write_text("a\nb")
            for _ in range(2):  # by the tar, then by the index that was made
                found = only(root)
                assert [name.partition(".tar/")[2] for name in found.names] == list(keys)
                assert images(found) == [f"{key}.jpg".encode("utf-8", "surrogateescape") for key in keys]

    def test_hard_links_are_what_they_lead_to(self, tmp_path):
        root = folder_of(tmp_path, samples("0"))
        with tarfile.open(root / "0.tar", "a") as archive:
            for name in ("1.jpg", "1.cls"):
                link = tarfile.TarInfo(name)
                link.type, link.linkname = tarfile.LNKTYPE, name.replace("1", "0")
                archive.addfile(link)
        found = only(root)
        assert images(found) == [b"0.jpg", b"0.jpg"]
        assert [label for _, label in found.read_labels()] == [1, 1]

    @pytest.mark.parametrize("name", ["image.jpg", "JPG", "Jpeg", "png", "webp", "a.b.tiff"])
    def test_the_only_image_is_taken_whatever_its_name(self, tmp_path, name):
        found = only(folder_of(tmp_path, [*samples("0", "1", ext=name), ("0.json", b""), ("1.txt", b"")]))
        assert images(found) == [f"{n}.{name}".encode() for n in range(2)]

    def test_a_plain_image_is_taken_before_one_with_a_longer_name(self, tmp_path):
        assert images(only(folder_of(tmp_path, [*samples("0"), ("0.seg.png", b"mask")]))) == [b"0.jpg"]

    def test_several_images_are_refused_by_name_and_chosen_by_the_option(self, tmp_path):
        root = folder_of(tmp_path, [*samples("0", "1"), ("1.png", b"PNG"), ("0.png", b"PNG")])
        with pytest.raises(InputError, match=r"the sample 0 of .*/0\.tar has several images: jpg, png; .*--tar-image"):
            open_set(root)
        assert images(only(root, image="PNG")) == [b"PNG"] * 2
        assert images(only(root, image="jpg;png")) == [b"0.jpg", b"1.jpg"]
        assert images(only(root, image="gif;png;jpg")) == [b"PNG"] * 2

    def test_the_label_by_the_option(self, tmp_path):
        root = folder_of(tmp_path, [*samples("0"), ("0.y", b"0")])
        assert [label for _, label in only(root, label="y").read_labels()] == [0]
        assert [label for _, label in only(root, label="z;CLS").read_labels()] == [1]

    def test_what_is_missing_is_named(self, tmp_path):
        members = [*samples("0", "1"), ("2.jpg", b""), ("2.txt", b""), ("3.cls", b"0"), ("4.txt", b"about nothing")]
        found = only(folder_of(tmp_path, members))
        assert len(found) == 4
        assert found.faults() == [
            (f"{tmp_path}/0.tar/2", "has no label (cls), only jpg, txt"),
            (f"{tmp_path}/0.tar/3", "has no image, only cls"),
        ]
        assert images(found) == [b"0.jpg", b"1.jpg"]

    def test_a_member_that_is_there_twice(self, tmp_path):
        root = folder_of(tmp_path, [*samples("0"), ("./0.JPG", b"other")])
        with pytest.raises(InputError, match=r"0\.tar has the component jpg of the sample 0 twice"):
            open_set(root)

    @pytest.mark.parametrize(("content", "label"), [(b"1", 1), (b"0\n", 0), (b" 001 \r\n", 1)])
    def test_labels(self, content, label):
        assert parse_label(content, 2) == label

    @pytest.mark.parametrize("content", [b"", b"cat", b"-1", b"1.0", b"1 0", b"1_0", "١".encode()])
    def test_labels_that_are_no_numbers(self, content):
        with pytest.raises(ValueError, match="has a label that is no number: b'"):
            parse_label(content, 100)

    def test_labels_out_of_range(self):
        with pytest.raises(ValueError, match=r"has the label 2: expected 0\.\.1"):
            parse_label(b"2", 2)


class TestIndices:
    def test_a_missing_one_is_made_beside_the_tar_and_then_read(self, tmp_path, cache, monkeypatch):
        root = folder_of(tmp_path / "d", samples("a/0", "a/1"), samples("b/2"))
        found = only(root)
        assert found.counts == (2, 1)
        assert (root / "0.idx").read_text().splitlines()[0] == "v1.2 2"
        assert not cache.exists()
        monkeypatch.setattr(tar_index, "scan", lambda _: pytest.fail("read the headers again"))
        again = only(root)
        assert images(again) == images(found) == [b"a/0.jpg", b"a/1.jpg", b"b/2.jpg"]

    def test_in_the_cache_folder_where_the_set_is_read_only(self, tmp_path, cache, monkeypatch):
        root = folder_of(tmp_path / "d", samples("0", "1"))
        write = cache_module.write_whole

        def refuse(path: str, content: bytes) -> None:
            if str(path).startswith(str(root)):
                raise OSError(30, "Read-only file system")
            write(path, content)

        monkeypatch.setattr(cache_module, "write_whole", refuse)
        before = only(root)
        assert len(list(cache.iterdir())) == 1
        assert not (root / "0.idx").exists()
        monkeypatch.setattr(tar_index, "scan", lambda _: pytest.fail("read the headers again"))
        assert images(only(root)) == images(before) == [b"0.jpg", b"1.jpg"]
        monkeypatch.undo()
        os.utime(root / "0.tar", (1, 1))
        assert only(root).counts == (2,)
        assert (root / "0.idx").exists()

    def test_no_place_to_write_is_no_fault(self, tmp_path, monkeypatch):
        root = folder_of(tmp_path / "d", samples("0"))

        def refuse(*_: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(cache_module, "write_whole", refuse)
        for _ in range(2):
            assert images(only(root)) == [b"0.jpg"]

    @pytest.mark.parametrize("change", ["time", "size", "content"])
    def test_a_stale_one_is_noticed_and_left_as_it_is(self, tmp_path, cache, change):
        root = folder_of(tmp_path / "d", samples("0", "1", "2"))
        only(root)
        old = (root / "0.idx").read_bytes()
        new = {
            "time": samples("3", "4", "5", "6"),
            "size": samples("3"),
            "content": [("x.json", bytes(600)), *samples("3", "4")],
        }
        pack(root / "0.tar", new[change])
        os.utime(root / "0.tar", (1, 1) if change != "time" else None)
        if change == "time":
            os.utime(root / "0.idx", (1, 1))
        for _ in range(2):
            with pytest.warns(UserWarning, match=rf"{root}/0\.idx .*: took another index, made of {root}/0\.tar"):
                found = only(root)
            assert images(found) == [content for name, content in new[change] if name.endswith("jpg")]
        assert (root / "0.idx").read_bytes() == old
        assert len(list(cache.iterdir())) == 1

    def test_a_copied_set_is_not_taken_for_stale(self, tmp_path):
        root = folder_of(tmp_path / "d", [*samples("0", "1"), ("LICENSE", b"free")])
        only(root)
        os.utime(root / "0.idx", (1, 1))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert images(only(root)) == [b"0.jpg", b"1.jpg"]

    def test_an_index_of_some_of_the_samples_is_followed(self, tmp_path):
        root = folder_of(tmp_path / "d", samples("0", "1", "2"))
        members = scan(str(root / "0.tar"))
        (root / "0.idx").write_bytes(format_index([member for member in members if not member.name.startswith("1")]))
        assert images(only(root)) == [b"0.jpg", b"2.jpg"]

    @pytest.mark.parametrize(
        "text",
        [
            *("", "hello", "v1.2 many", "v9.9 1\njpg 512 5 0.jpg", "v1.2 1\njpg 512\n"),
            *("v1.2 2\njpg 512 5 0.jpg\n", "v1.2 1\njpg 511 5 0.jpg", "v1.2 1\njpg 512 5 0 a.jpg"),
        ],
    )
    def test_what_is_no_index(self, tmp_path, text):
        root = folder_of(tmp_path / "d", samples("0"))
        (root / "0.idx").write_text(text)
        with pytest.raises(InputError, match=r"0\.idx is not an index of DALI.*'v1\.2 N'"):
            read_index(str(root / "0.idx"))
        with pytest.warns(UserWarning, match=r"0\.idx is not an index of DALI: took another index"):
            assert images(only(root)) == [b"0.jpg"]

    def test_older_versions_without_paths(self, tmp_path):
        (tmp_path / "a.idx").write_text("v1.1 2\njpg 512 5 cls 1536 1\ncls 2560 1 jpg 3584 6\n")
        expected = [
            Member("0.jpg", 512, 5),
            Member("0.cls", 1536, 1),
            Member("1.cls", 2560, 1),
            Member("1.jpg", 3584, 6),
        ]
        assert read_index(str(tmp_path / "a.idx")) == expected

    def test_of_a_remote_tar_the_index_must_be_there(self, tmp_path):
        with pytest.raises(InputError, match=r"s3://bucket/0\.tar needs its index .*none\.idx is not there.*wds2idx"):
            len(TarSet(("s3://bucket/0.tar",), (str(tmp_path / "none.idx"),), ("a",)))
        (tmp_path / "0.idx").write_bytes(format_index(scan(str(pack(tmp_path / "0.tar", samples("0"))))))
        found = TarSet(("s3://bucket/0.tar",), (str(tmp_path / "0.idx"),), ("a",))
        assert found.names == ("s3://bucket/0.tar/0",)
        assert [str(part) for part in found.parts()] == ["s3://bucket/0.tar/0"]


class TestDamage:
    def test_a_damaged_tar_is_named(self, tmp_path):
        whole = pack(tmp_path / "whole.tar", samples("0", "1", "2")).read_bytes()
        spoilt = bytearray(whole)
        spoilt[2048:2080] = b"\xff" * 32  # the header of the third member
        bad = {
            "cut off": whole[:1900],
            "cut in a header": whole[:2100],
            "damaged": bytes(spoilt),
            "text": b"hello" * 300,
            "empty": b"",
            "compressed": gzip.compress(whole),
        }
        for name, content in bad.items():
            tar = tmp_path / f"{name}.tar"
            tar.write_bytes(content)
            with pytest.raises(InputError, match=rf"{name}\.tar is (damaged|cut off)") as raised:
                members_of(str(tar), str(tmp_path / "none.idx"))
            if name.startswith("cut"):
                assert f"at byte {len(content)}" in str(raised.value)
        assert not (tmp_path / "none.idx").exists()

    @pytest.mark.skipif(shutil.which("tar") is None, reason="needs tar")
    def test_members_with_holes(self, tmp_path):
        with open(tmp_path / "a.jpg", "wb") as file:
            file.write(b"begin")
            file.truncate(2**20)
            file.seek(2**20)
            file.write(b"end")
        tar = tmp_path / "0.tar"
        for form in ("gnu", "pax"):
            subprocess.run(["tar", "--sparse", f"--format={form}", "-cf", tar, "a.jpg"], cwd=tmp_path, check=True)
            if tar.stat().st_size < 2**20:  # not every file system keeps holes
                with pytest.raises(InputError, match=r"a\.jpg is stored with holes"):
                    scan(str(tar))

    def test_a_tar_that_is_not_there(self, tmp_path):
        with pytest.raises(InputError, match=r"gone\.tar is not there"):
            members_of(str(tmp_path / "gone.tar"), str(tmp_path / "gone.idx"))

    def test_without_the_blocks_at_the_end(self, tmp_path):
        tar = pack(tmp_path / "0.tar", samples("0"))
        tar.write_bytes(tar.read_bytes()[:2048])
        assert [member.name for member in scan(str(tar))] == ["0.jpg", "0.cls"]

    def test_empty_tars_among_others(self, tmp_path):
        found = only(folder_of(tmp_path, [], samples("0"), [("README.md", b"")]))
        assert found.counts == (0, 1, 0)

    def test_left_out_samples_keep_what_was_read(self, tmp_path):
        found = only(folder_of(tmp_path / "d", samples("0", "1")))
        shutil.rmtree(tmp_path / "d")
        assert len(found.without([found.names[0]])) == 2

    def test_places_are_bytes_of_the_tar(self, tmp_path):
        found = only(folder_of(tmp_path, samples("0", "1")))
        np.testing.assert_array_equal(found.samples[0].images, [[512, 5], [2560, 5]])
        np.testing.assert_array_equal(found.samples[0].labels, [[1536, 2], [3584, 2]])


@pytest.mark.parametrize("open_it", [
    lambda root: make_c(root / "val", root / "c"),
    lambda root: photographs(str(root / "val")),
    lambda root: load_set("folder", "val", root),
], ids=["make-c", "bench", "train_cifar"])  # fmt: skip
def test_what_takes_image_files_alone_refuses_tars_unread(open_it, tmp_path):
    """A remedy for tars of several images would be none."""
    several = [*samples("0", "1"), ("1.png", b"PNG"), ("0.png", b"PNG")]
    folder_of(tmp_path / "val", several)
    with pytest.raises(InputError, match=r"/val has tar files: .* takes class folders of image files; unpack them"):
        open_it(tmp_path)
    assert sorted(path.name for path in (tmp_path / "val").iterdir()) == ["0.tar", "classes.txt"]


def test_components_pass_over_the_part_without_tars(tmp_path):
    folder_of(tmp_path / "train", [*samples("0", "1"), ("1.png", b"PNG"), ("0.png", b"PNG")])
    for name in ("cat", "dog"):
        (tmp_path / "val" / name).mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(tmp_path / "val" / name / "x.png")
    given = ImageNetOptions(data=str(tmp_path), tar_image="png")
    trained, validated = open_parts(given, Group(0, 1, 0, torch.device("cpu")))
    assert images(trained) == [b"PNG"] * 2
    assert [Path(file).name for file in validated.files] == ["x.png"] * 2
    checked = check_tree(tmp_path, 1, Components("png"))
    assert [reason for _, reason in checked.bad] == ["not an image: it starts with b'PNG'"] * 2
    for path in (tmp_path / "train").iterdir():
        path.unlink()
    for name in ("cat", "dog"):
        (tmp_path / "train" / name).symlink_to(tmp_path / "val" / name)
    with pytest.raises(InputError, match=f"have no effect on {tmp_path}: no tars of samples there"):
        open_parts(given, Group(0, 1, 0, torch.device("cpu")))
    with pytest.raises(InputError, match=f"have no effect on {tmp_path}: no tars of samples there"):
        check_tree(tmp_path, 1, Components("png"))


class TestBehindTheEnd:
    def joined(self, tmp_path, more: bytes):
        tar = tmp_path / "0.tar"
        folder_of(tmp_path, samples("0", "1"))
        tar.write_bytes(tar.read_bytes() + more)
        return only(tmp_path)

    def test_tars_joined_by_cat_are_refused(self, tmp_path):
        """Readers stop at the end of the first: half of the images would be missing."""
        (tmp_path / "more").mkdir()
        folder_of(tmp_path / "more", samples("2", "3"))
        with pytest.raises(InputError, match=r"0\.tar has members behind its end \(2\.jpg is the first\): .*concat"):
            self.joined(tmp_path, (tmp_path / "more" / "0.tar").read_bytes())

    @pytest.mark.parametrize("more", [bytes(30000), bytes(1000) + b"what lay on the tape before" * 50])
    def test_what_is_no_member_is_passed_over(self, tmp_path, more):
        assert len(self.joined(tmp_path, more)) == 2
