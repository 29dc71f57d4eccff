"""Lists of files: their format, opening them as data sets, and every way in which that fails."""

from __future__ import annotations

import os

import pytest
from helpers.folder_trees import assert_fails, make_tree, relative

from apr_dali.data.file_list import FileList, read_file_list, write_file_list
from apr_dali.data.folders import open_set
from apr_dali.errors import InputError


class TestFileLists:
    @pytest.fixture
    def listing(self, tmp_path) -> FileList:
        entries = ("train/cat/1.jpg", "train/emu/a/b.jpg", "val/cat/1.jpg")
        return FileList(str(tmp_path), ("cat", "dog", "emu"), ("train", "val"), entries)

    def test_format(self, tmp_path, listing):
        write_file_list(tmp_path / "l.txt", listing)
        assert (tmp_path / "l.txt").read_text() == (
            f"# apr_dali file list\n# root: {tmp_path}\n# split: train\n# split: val\n"
            "# class: cat\n# class: dog\n# class: emu\ntrain/cat/1.jpg\ntrain/emu/a/b.jpg\nval/cat/1.jpg\n"
        )
        assert read_file_list(tmp_path / "l.txt") == listing
        assert [path.name for path in tmp_path.iterdir()] == ["l.txt"]

    def test_labels_do_not_shift_when_a_class_has_no_image_left(self, tmp_path, listing):
        write_file_list(tmp_path / "l.txt", listing)
        found = open_set(tmp_path / "l.txt", "train")
        assert relative(found, tmp_path) == [("train/cat/1.jpg", 0), ("train/emu/a/b.jpg", 2)]
        assert found.classes == ("cat", "dog", "emu")
        assert relative(open_set(tmp_path / "l.txt", "val"), tmp_path) == [("val/cat/1.jpg", 0)]

    def test_a_list_of_one_split_folder(self, tmp_path):
        make_tree(tmp_path, "train/")
        write_file_list(tmp_path / "l.txt", FileList(str(tmp_path / "train"), ("cat",), (), ("cat/1.jpg",)))
        for split in (None, "train"):
            assert relative(open_set(tmp_path / "l.txt", split), tmp_path) == [("train/cat/1.jpg", 0)]
        assert_fails("'val' among them, got a list of one folder", tmp_path / "l.txt", "val")

    def test_a_split_must_be_chosen_and_be_there(self, tmp_path, listing):
        write_file_list(tmp_path / "l.txt", listing)
        assert_fails("train, val, and none was chosen", tmp_path / "l.txt")
        assert_fails("train, val, not 'test'", tmp_path / "l.txt", "test")

    def test_joined_with_folders(self, tmp_path, listing):
        make_tree(tmp_path, "more/cat/1.jpg", "more/dog/1.jpg", "more/emu/1.jpg")
        write_file_list(tmp_path / "l.txt", listing)
        found = open_set([tmp_path / "l.txt", tmp_path / "more"], "train")
        assert found.labels.tolist() == [0, 2, 0, 1, 2]

    def test_class_names_with_blanks_and_no_ascii(self, tmp_path):
        listing = FileList(str(tmp_path), (" cat ", "Vögel"), (), (" cat /1 2.jpg", "Vögel/\udcff.jpg"))
        write_file_list(tmp_path / "l.txt", listing)
        assert read_file_list(tmp_path / "l.txt") == listing
        assert open_set(tmp_path / "l.txt").labels.tolist() == [0, 1]

    def test_no_entries(self, tmp_path):
        write_file_list(tmp_path / "l.txt", FileList(str(tmp_path), ("cat",), ("train", "val"), ("train/cat/1.jpg",)))
        assert_fails("no entries below val/", tmp_path / "l.txt", "val")

    @pytest.mark.parametrize("entry", ["emu/1.jpg", "1.jpg", "cat"])
    def test_an_entry_in_no_listed_class(self, tmp_path, entry):
        write_file_list(tmp_path / "l.txt", FileList(str(tmp_path), ("cat",), (), (entry,)))
        assert_fails(f"'{entry}' lies in no listed class", tmp_path / "l.txt")

    @pytest.mark.parametrize(
        ("text", "match"),
        [
            ("cat/1.jpg\n", "not a file list"),
            ("", "not a file list"),
            ("# apr_dali file list\n# class: cat\ncat/1.jpg\n", "# root"),
            ("# apr_dali file list\n# root: here\n# class: cat\ncat/1.jpg\n", "absolute path.*got 'here'"),
            ("# apr_dali file list\n# root: /\ncat/1.jpg\n", "# class: NAME"),
            ("# apr_dali file list\n# root: /\n# class: a\n# class: a\na/1.jpg\n", "named twice"),
            ("# apr_dali file list\n# root: /not/there\n# class: a\na/1.jpg\n", "/not/there is not there"),
        ],
    )
    def test_what_is_no_list(self, tmp_path, text, match):
        (tmp_path / "l.txt").write_text(text)
        assert_fails(match, tmp_path / "l.txt")

    def test_with_a_byte_order_mark(self, tmp_path, listing):
        write_file_list(tmp_path / "l.txt", listing)
        (tmp_path / "l.txt").write_bytes(b"\xef\xbb\xbf" + (tmp_path / "l.txt").read_bytes())
        assert read_file_list(tmp_path / "l.txt") == listing

    def test_a_photo_is_no_list(self, tmp_path):
        (tmp_path / "a.jpg").write_bytes(b"\xff\xd8\xff\xe0" + bytes(range(256)))
        assert_fails("not a file list", tmp_path / "a.jpg")

    @pytest.mark.parametrize("name", ["a\nb.jpg", "a\rb.jpg"])
    def test_names_that_a_line_cannot_hold(self, tmp_path, name):
        with pytest.raises(InputError, match="line break"):
            write_file_list(tmp_path / "l.txt", FileList(str(tmp_path), ("cat",), (), (f"cat/{name}",)))
        with pytest.raises(InputError, match="starts with '#'"):
            write_file_list(tmp_path / "l.txt", FileList(str(tmp_path), ("#cat",), (), ("#cat/1.jpg",)))
        assert list(tmp_path.iterdir()) == []

    def test_written_whole_or_not_at_all(self, tmp_path, listing, monkeypatch):
        path = tmp_path / "l.txt"
        path.write_text("old")

        def full_disk(_: int) -> None:
            raise OSError("No space left on device")

        monkeypatch.setattr(os, "fsync", full_disk)
        with pytest.raises(OSError, match="No space"):
            write_file_list(path, listing)
        assert path.read_text() == "old"
        assert list(tmp_path.iterdir()) == [path]

    def test_others_may_read_it(self, tmp_path, listing):
        old = os.umask(0o022)
        try:
            write_file_list(tmp_path / "l.txt", listing)
        finally:
            os.umask(old)
        assert (tmp_path / "l.txt").stat().st_mode & 0o777 == 0o644
