"""Opening data sets: folders, several at once, and every way in which that fails."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from helpers.folder_trees import assert_fails, make_tree, relative
from helpers.tar_files import folder_of, pack, samples

from apr_dali.data.file_list import FileList, write_file_list
from apr_dali.data.folders import ImageSet, TarSet, open_set
from apr_dali.errors import InputError


class TestFolders:
    def test_labels_follow_the_sorted_class_names(self, tmp_path):
        make_tree(
            tmp_path, "train/dog/2.jpg", "train/dog/10.jpg", "train/Zebra/a.jpg", "train/cat/a.jpg", "val/dog/x.jpg"
        )
        found = open_set(tmp_path, "train")
        expected = [("train/Zebra/a.jpg", 0), ("train/cat/a.jpg", 1), ("train/dog/10.jpg", 2), ("train/dog/2.jpg", 2)]
        assert relative(found, tmp_path) == expected
        assert found.classes == ("Zebra", "cat", "dog")
        assert found.labels.dtype == np.int64
        assert len(found) == 4
        assert all(os.path.isabs(file) for file in found.files)

    def test_the_folder_itself_without_split(self, tmp_path):
        make_tree(tmp_path, "cat/1.png", "dog/1.png")
        assert relative(open_set(str(tmp_path)), tmp_path) == [("cat/1.png", 0), ("dog/1.png", 1)]

    @pytest.mark.filterwarnings("ignore:left out 1 image files")
    def test_every_extension_in_either_case_and_no_other(self, tmp_path):
        kept = ["a.jpg", "b.JPEG", "c.png", "d.Bmp", "e.webp", "f.tif", "g.TIFF", "h.ppm"]
        make_tree(tmp_path, *(f"cat/{name}" for name in [*kept, "i.txt", "j.gif", "jpg", "k.jpg.part"]))
        assert [Path(file).name for file in open_set(tmp_path).files] == kept

    def test_images_below_a_class_folder_belong_to_the_class(self, tmp_path):
        make_tree(tmp_path, "cat/deep/er/1.jpg", "cat/2.jpg", "dog/dog/3.jpg")
        expected = [("cat/2.jpg", 0), ("cat/deep/er/1.jpg", 0), ("dog/dog/3.jpg", 1)]
        assert relative(open_set(tmp_path), tmp_path) == expected

    def test_hidden_files_and_folders_are_left_out(self, tmp_path):
        make_tree(tmp_path, "cat/1.jpg", "cat/._1.jpg", "cat/.trash/2.jpg", ".ipynb_checkpoints/3.jpg")
        found = open_set(tmp_path)
        assert relative(found, tmp_path) == [("cat/1.jpg", 0)]
        assert found.classes == ("cat",)

    def test_a_linked_class_folder(self, tmp_path):
        make_tree(tmp_path, "elsewhere/1.jpg", "data/dog/1.jpg")
        (tmp_path / "data/cat").symlink_to(tmp_path / "elsewhere")
        assert relative(open_set(tmp_path / "data"), tmp_path / "data") == [("cat/1.jpg", 0), ("dog/1.jpg", 1)]

    def test_a_relative_source_gives_absolute_files(self, tmp_path, monkeypatch):
        make_tree(tmp_path, "data/cat/1.jpg")
        monkeypatch.chdir(tmp_path)
        assert open_set("data").files == (str(tmp_path / "data/cat/1.jpg"),)

    def test_missing_folder(self, tmp_path):
        message = assert_fails("is not there", tmp_path / "none", "train")
        assert str(tmp_path / "none") in message
        assert "sample" not in message, "only a trainer's --data takes that word"

    def test_missing_split_names_what_is_there(self, tmp_path):
        make_tree(tmp_path, "training/cat/1.jpg")
        assert_fails("no folder 'train'.*got training", tmp_path, "train")

    def test_missing_split_beside_archives(self, tmp_path):
        (tmp_path / "train.parquet").touch()
        assert_fails("got train.parquet; of archives, `apr-dali prepare` makes what is read", tmp_path, "train")

    def test_empty_folder(self, tmp_path):
        assert_fails("has nothing in it.*CLASS/IMAGE", tmp_path)

    def test_files_without_class_folders(self, tmp_path):
        make_tree(tmp_path, "train/1.jpg", "train/2.jpg")
        assert_fails("2 files but no class folders", tmp_path, "train")

    def test_empty_class_folder_is_named(self, tmp_path):
        make_tree(tmp_path, "cat/1.jpg", "dog/readme.txt", "emu/")
        assert_fails("2 class folders without an image.*: dog, emu;", tmp_path)

    def test_the_splits_are_no_classes(self, tmp_path):
        make_tree(tmp_path, "train/cat/1.jpg", "val/cat/1.jpg")
        assert_fails(f"holds the splits train, val, .* give {tmp_path}/train or {tmp_path}/val", tmp_path)

    def test_nor_are_those_of_other_names(self, tmp_path):
        make_tree(tmp_path, "training/cat/1.jpg", "validation/cat/1.jpg")
        assert_fails("holds the splits training, validation", tmp_path)

    def test_a_class_may_be_called_train(self, tmp_path):
        make_tree(tmp_path, "bus/1.jpg", "train/1.jpg")
        assert open_set(tmp_path).classes == ("bus", "train")


class TestClasses:
    def test_labels_take_the_order_of_the_training_set(self, tmp_path):
        make_tree(tmp_path, "cat/1.jpg", "dog/1.jpg")
        found = open_set(tmp_path, classes=["dog", "cat"])
        assert relative(found, tmp_path) == [("cat/1.jpg", 1), ("dog/1.jpg", 0)]
        assert found.classes == ("dog", "cat")

    def test_missing_and_extra_classes_are_named(self, tmp_path):
        make_tree(tmp_path, "cat/1.jpg", "emu/1.jpg")
        message = assert_fails("2 classes, got 2", tmp_path, classes=["cat", "dog"])
        assert "1 missing: dog; 1 extra: emu" in message

    def test_a_set_that_lacks_classes_is_taken_when_asked_for(self, tmp_path):
        make_tree(tmp_path, "val/bee/1.jpg", "val/cow/1.jpg", "one/bee/1.jpg")
        classes = ("ant", "bee", "cow")
        assert_fails("1 missing: ant", tmp_path, "val", classes=classes)
        found = open_set(tmp_path, "val", classes, allow_missing_classes=True)
        assert (found.classes, found.labels.tolist()) == (classes, [1, 2])
        both = open_set([tmp_path / "val", tmp_path / "one"], None, classes, allow_missing_classes=True)
        assert (both.classes, both.labels.tolist()) == (classes, [1, 2, 1])

    def test_a_list_that_lacks_classes_is_taken_when_asked_for(self, tmp_path):
        make_tree(tmp_path, "cow/1.jpg")
        write_file_list(tmp_path / "list.txt", FileList(str(tmp_path), ("cow",), (), ("cow/1.jpg",)))
        assert_fails("1 missing: bee", tmp_path / "list.txt", classes=("bee", "cow"))
        found = open_set(tmp_path / "list.txt", None, ("bee", "cow"), allow_missing_classes=True)
        assert found.labels.tolist() == [1]

    def test_unknown_classes_are_refused_though_others_may_be_missing(self, tmp_path):
        make_tree(tmp_path, "bee/1.jpg", "emu/1.jpg")
        options = {"classes": ("ant", "bee"), "allow_missing_classes": True}
        assert "1 extra: emu" in assert_fails("2 classes, got 2", tmp_path, **options)
        assert_fails("no effect without classes", tmp_path, allow_missing_classes=True)

    @pytest.mark.parametrize("source", [None, 5, b"folder", [None]])
    def test_what_is_no_path_is_refused(self, source):
        with pytest.raises(InputError, match="expected the path of a folder or file list of images, or several, got"):
            open_set(source)

    def test_only_the_first_of_many_are_named(self, tmp_path):
        make_tree(tmp_path, "c0/1.jpg")
        message = assert_fails("8 missing", tmp_path, classes=[f"c{i}" for i in range(9)])
        assert "8 missing: c1, c2, c3, c4, c5 and 3 more)" in message


class TestSeveral:
    def test_extra_folders_come_after_the_first(self, tmp_path):
        make_tree(tmp_path, "a/train/cat/1.jpg", "a/train/dog/1.jpg", "b/train/cat/2.jpg", "b/train/dog/2.jpg")
        make_tree(tmp_path, "c/cat/3.jpg", "c/dog/3.jpg")
        found = open_set([tmp_path / "a", str(tmp_path / "b"), tmp_path / "c"], "train")
        assert relative(found, tmp_path) == [
            ("a/train/cat/1.jpg", 0),
            ("a/train/dog/1.jpg", 1),
            ("b/train/cat/2.jpg", 0),
            ("b/train/dog/2.jpg", 1),
            ("c/cat/3.jpg", 0),
            ("c/dog/3.jpg", 1),
        ]
        assert found.labels.dtype == np.int64

    def test_the_first_must_have_the_split(self, tmp_path):
        make_tree(tmp_path, "a/cat/1.jpg", "b/train/cat/1.jpg")
        assert_fails("no folder 'train'", [tmp_path / "a", tmp_path / "b"], "train")

    def test_other_classes_in_an_extra_folder(self, tmp_path):
        make_tree(tmp_path, "a/cat/1.jpg", "b/dog/1.jpg")
        assert_fails("b must have.*missing: cat; 1 extra: dog", [tmp_path / "a", tmp_path / "b"])

    def test_tars_and_files_cannot_be_joined(self, tmp_path):
        make_tree(tmp_path, "a/cat/1.jpg", "a/dog/1.jpg")
        folder_of(tmp_path / "b", samples("0"))
        assert_fails("must all be image files or all be tars, got both: 1 and 1", [tmp_path / "a", tmp_path / "b"])

    def test_a_list_of_one_is_that_one(self, tmp_path):
        folder_of(tmp_path / "b", samples("0", "1", "2", "3"))
        assert len(open_set([tmp_path / "b"])) == 4

    def test_none(self):
        assert_fails("at least one", [])


class TestOddContents:
    """What lies in people's folders beside their images."""

    def test_a_tar_beside_the_class_folder_it_was_unpacked_to(self, tmp_path):
        make_tree(tmp_path, "n01/1.jpg", "n02/1.jpg")
        pack(tmp_path / "n01.tar", [("1.jpg", b"")])
        assert relative(open_set(tmp_path), tmp_path) == [("n01/1.jpg", 0), ("n02/1.jpg", 1)]

    def test_a_tar_that_was_not_unpacked(self, tmp_path):
        make_tree(tmp_path, "n01/1.jpg", "n02/1.jpg", "classes.txt")
        pack(tmp_path / "n03.tar", [("1.jpg", b"")])
        assert_fails(r"class folders \(n01, n02\) and also tar files \(n03\.tar\): unpack", tmp_path)

    def test_folders_without_images_beside_tars(self, tmp_path):
        folder_of(tmp_path, samples("0"))
        make_tree(tmp_path, "logs/1.txt", "empty/")
        assert isinstance(open_set(tmp_path), TarSet)

    def test_tars_beside_the_splits(self, tmp_path):
        make_tree(tmp_path, "train/cat/1.jpg", "val/cat/1.jpg", "devkit.tar")
        assert relative(open_set(tmp_path, "val"), tmp_path) == [("val/cat/1.jpg", 0)]
        assert_fails("holds the splits train, val", tmp_path)

    def test_what_operating_systems_leave_behind(self, tmp_path):
        clutter = ["Thumbs.db", ".DS_Store", "desktop.ini", "@eaDir/SYNOPHOTO_THUMB_M.jpg", "__MACOSX/a.jpg"]
        make_tree(tmp_path, "cat/1.jpg", *clutter, *(f"cat/{name}" for name in clutter), "lost+found/1.jpg")
        found = open_set(tmp_path)
        assert relative(found, tmp_path) == [("cat/1.jpg", 0)]
        assert found.classes == ("cat",)

    def test_what_has_an_images_name_and_is_none(self, tmp_path):
        """A folder is looked into, what would be waited for when it is opened is refused."""
        make_tree(tmp_path, "cat/1.jpg", "cat/more.jpg/2.png")
        assert relative(open_set(tmp_path), tmp_path) == [("cat/1.jpg", 0), ("cat/more.jpg/2.png", 0)]
        os.mkfifo(tmp_path / "cat" / "pipe.jpg")
        assert_fails(r"cat/pipe\.jpg is no file but a pipe, a socket or a device: remove it", tmp_path)

    def test_names_that_are_no_text(self, tmp_path):
        make_tree(tmp_path, "cat/1.jpg")
        (tmp_path / "cat" / os.fsdecode(b"\xe4.jpg")).touch()
        found = open_set(tmp_path)
        assert isinstance(found, ImageSet)
        assert len(found) == 2
        assert found.faults() == [
            (
                str(tmp_path / "cat" / os.fsdecode(b"\xe4.jpg")),
                "has a name that is not UTF-8, which DALI cannot open (rename it)",
            )
        ]

    @pytest.mark.parametrize("place", ["cat", "."])
    @pytest.mark.parametrize(("target", "why"), [("loop", "Too many levels"), ("gone", "No such file")])
    def test_links_that_lead_nowhere(self, tmp_path, place, target, why):
        make_tree(tmp_path, "cat/1.jpg")
        link = tmp_path / place / "loop"
        link.symlink_to(link.parent / target)
        assert_fails(rf"{link} is a link that cannot be followed \({why}", tmp_path)

    @pytest.mark.parametrize("target", ["..", ".", "../.."])
    def test_links_that_lead_back(self, tmp_path, target):
        make_tree(tmp_path, "d/cat/deep/1.jpg")
        link = tmp_path / "d/cat/deep/again"
        link.symlink_to(target)
        assert_fails(rf"{link} is a link to a folder above it", tmp_path / "d")

    def test_links_that_lead_to_each_other(self, tmp_path):
        make_tree(tmp_path, "cat/1.jpg", "dog/1.jpg")
        (tmp_path / "cat/other").symlink_to(tmp_path / "dog")
        (tmp_path / "dog/other").symlink_to(tmp_path / "cat")
        assert_fails("other is a link", tmp_path)

    def test_a_folder_that_cannot_be_listed(self, tmp_path, monkeypatch):
        make_tree(tmp_path, "cat/1.jpg", "dog/1.jpg")
        scandir = os.scandir

        def refuse(path: str) -> object:
            if str(path).endswith("dog"):
                raise PermissionError(13, "Permission denied")
            return scandir(path)

        monkeypatch.setattr(os, "scandir", refuse)
        assert_fails(f"{tmp_path}/dog cannot be listed: Permission denied", tmp_path)
