"""Opening folders of tar files: their indices, their classes, and what is refused."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from helpers.folder_trees import assert_fails, make_tree
from helpers.tar_files import folder_of, samples

from apr_dali.data.file_list import FileList, write_file_list
from apr_dali.data.folders import TarSet, open_set
from apr_dali.data.tars import Components


class TestTars:
    def test_tars_with_their_indices_and_classes(self, tmp_path):
        folder_of(tmp_path / "train", samples("0", "1", "2"), samples("3"), classes="dog\ncat\n")
        found = open_set(tmp_path, "train")
        assert isinstance(found, TarSet)
        assert [Path(t).name for t in found.tars] == ["0.tar", "1.tar"]
        assert [Path(i).name for i in found.indices] == ["0.idx", "1.idx"]
        assert found.counts == (3, 1)
        assert len(found) == 4
        assert found.classes == ("dog", "cat")  # the order of the labels, not of the alphabet

    @pytest.mark.parametrize("split", [None, "val"])
    def test_classes_above_the_folder(self, tmp_path, split):
        folder = folder_of(tmp_path / "val", samples("0"))
        (folder / "classes.txt").unlink()
        (tmp_path / "classes.txt").write_text("cat\n\n dog \n")
        assert open_set(tmp_path if split else folder, split).classes == ("cat", "dog")

    def test_no_classes(self, tmp_path):
        (folder_of(tmp_path / "deep/train", samples("0")) / "classes.txt").unlink()
        assert_fails(
            r"no classes\.txt: write .*train/classes\.txt.*unpack each to a folder", tmp_path / "deep", "train"
        )

    @pytest.mark.parametrize("text", ["\n", "cat\ncat\n"])
    def test_classes_must_be_named_once(self, tmp_path, text):
        assert_fails("must name each class once", folder_of(tmp_path / "t", samples("0"), classes=text))

    def test_classes_as_editors_write_them(self, tmp_path):
        folder = folder_of(tmp_path / "t", samples("0"))
        (folder / "classes.txt").write_bytes(b"\xef\xbb\xbfcat\r\nbig dog\r\n")
        assert open_set(folder, classes=("cat", "big dog")).classes == ("cat", "big dog")
        (folder / "classes.txt").write_bytes("Vögel".encode("latin-1"))
        assert_fails(r"classes\.txt is not UTF-8 text: .*at byte 1", folder)

    def test_no_samples(self, tmp_path):
        assert_fails("no samples", folder_of(tmp_path / "t", [], [("README.md", b"")]))

    def test_samples_without_any_label(self, tmp_path):
        """As ImageNet's own tars, one for each class."""
        folder = folder_of(tmp_path / "t", [("a.jpg", b""), ("b.jpg", b"")])
        assert_fails(r"of 2 samples .*none has both.*0\.tar/a has no label.*--tar-label.*unpack", folder)

    def test_compressed_tars(self, tmp_path):
        make_tree(tmp_path, "0.tar.gz", "1.tgz")
        assert_fails(r"compressed tars \(0\.tar\.gz, 1\.tgz\).*unpack", tmp_path)

    def test_other_classes_and_another_order(self, tmp_path):
        folder = folder_of(tmp_path / "t", samples("0"), classes="dog\ncat\n")
        assert open_set(folder, classes=("dog", "cat")).classes == ("dog", "cat")
        assert_fails("in the order of the training set", folder, classes=("cat", "dog"))
        assert_fails("missing: emu", folder, classes=("cat", "dog", "emu"))
        # Labels in a tar are numbers: without the names of all classes their meaning is not known.
        assert_fails("missing: emu", folder, classes=("dog", "cat", "emu"), allow_missing_classes=True)

    def test_components_of_what_has_none(self, tmp_path):
        make_tree(tmp_path, "d/cat/1.jpg")
        write_file_list(tmp_path / "l.txt", FileList(str(tmp_path / "d"), ("cat",), (), ("cat/1.jpg",)))
        for source in (tmp_path / "d", tmp_path / "l.txt"):
            assert_fails("have no effect on .*no tars", source, components=Components(image="png"))

    def test_a_name_that_is_no_text(self, tmp_path):
        folder = folder_of(tmp_path / "t", samples("0"))
        os.rename(folder / "0.tar", os.fsdecode(os.fsencode(folder) + b"/\xff.tar"))
        assert_fails(r"\.tar has a name that is not UTF-8.*rename", folder)
