"""Tars by patterns, several splits in a folder, classes by the samples' keys, labels in JSON."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from helpers.tar_files import folder_of, pack, samples

from apr_dali.data import tar_sources
from apr_dali.data.check import check_tree
from apr_dali.data.folders import open_set
from apr_dali.data.tar_sources import expand, split_of
from apr_dali.data.tars import Components, opened, parse_label
from apr_dali.errors import InputError

WNIDS = ("n01440764", "n01443537", "n02102040")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def keys_of(found) -> list[str]:
    return [name.partition(".tar/")[2] for name in found.names]


def labeled(*labels: int) -> list[tuple[str, bytes]]:
    """Samples with keys like timm's: the WordNet number of the class and a number."""
    return [
        member
        for number, label in enumerate(labels)
        for member in (
            (f"{WNIDS[label]}_{number}.jpg", b"image"),
            (f"{WNIDS[label]}_{number}.cls", b"%d" % label),
            (f"{WNIDS[label]}_{number}.json", json.dumps({"label": label, "width": 5}).encode()),
        )
    ]


@pytest.fixture
def timm(tmp_path) -> Path:
    """The tars of both splits in one folder without a classes.txt, and what timm writes beside them."""
    root = tmp_path / "timm"
    # Labels in another order than that of the numbers' names would be: 0 is not the first key.
    pack(root / "imagenet1k-train-0000.tar", labeled(2, 0))
    pack(root / "imagenet1k-train-0001.tar", labeled(1, 1, 0))
    pack(root / "imagenet1k-validation-00.tar", labeled(1, 2))
    (root / "_info.json").write_text("{}")
    return root


class TestPatterns:
    @pytest.fixture
    def tars(self, tmp_path) -> Path:
        (tmp_path / "classes.txt").write_text("cat\ndog\n")
        for name in ("a-8", "a-9", "a-10", "a-11", "b-8"):
            pack(tmp_path / "d" / f"{name}.tar", samples(name))
        return tmp_path / "d"

    @pytest.mark.parametrize(
        ("pattern", "names"),
        [
            ("a-{8..10}.tar", ["a-8", "a-9", "a-10"]),
            ("a-{08..10}.tar", None),
            ("{b,a}-8.tar", ["b-8", "a-8"]),
            ("a-{8,{10..11}}.tar", ["a-8", "a-10", "a-11"]),
            ("a-*.tar", ["a-10", "a-11", "a-8", "a-9"]),
            ("{b,a}-?.tar", ["b-8", "a-8", "a-9"]),
            ("a-1[0-1].tar", ["a-10", "a-11"]),
            ("{a-8,a-*}.tar", ["a-8", "a-10", "a-11", "a-9"]),
        ],
    )
    def test_what_they_stand_for(self, tars, pattern, names):
        if names is None:
            with pytest.raises(InputError, match=r"2 of 3 tars are not there: .*/a-08\.tar, .*/a-09\.tar"):
                expand(f"{tars}/{pattern}")
            return
        assert expand(f"{tars}/{pattern}") == tuple(f"{tars}/{name}.tar" for name in names)
        assert keys_of(open_set(f"{tars}/{pattern}")) == names

    def test_zeros_in_front_make_all_as_long(self, tmp_path):
        for number in range(8, 12):
            pack(tmp_path / f"{number:03d}.tar", samples(str(number)))
        assert [Path(tar).stem for tar in expand(f"{tmp_path}/{{008..011}}.tar")] == ["008", "009", "010", "011"]

    @pytest.mark.parametrize(
        ("pattern", "told"),
        [
            ("a-{10..8}.tar", "counts from 10 down to 8"),
            ("a-{x}.tar", r"expected \{FIRST\.\.LAST\} or \{A,B\} in the braces, got \{x\}"),
            ("c-*.tar", "must stand for .tar files, got nothing that is there"),
            ("a-{8..9}.idx", r"must stand for .tar files, got .*/a-8\.idx"),
            ("{1..40}{1..40}.tar", "stands for more than 1000 names"),
        ],
    )
    def test_what_is_refused(self, tars, pattern, told, monkeypatch):
        monkeypatch.setattr(tar_sources, "_MOST", 1000)
        with pytest.raises(InputError, match=told):
            open_set(f"{tars}/{pattern}")

    def test_a_folder_that_is_called_so(self, tmp_path):
        found = open_set(str(folder_of(tmp_path / "a{1,2}[x]", samples("0"))))
        assert keys_of(found) == ["0"]

    def test_of_several_folders_the_classes_must_be_the_same(self, tmp_path):
        folder_of(tmp_path / "a", samples("0"))
        folder_of(tmp_path / "b", samples("1"))
        assert keys_of(open_set(f"{tmp_path}/{{a,b}}/*.tar")) == ["0", "1"]
        (tmp_path / "b/classes.txt").write_text("dog\ncat\n")
        with pytest.raises(InputError, match=r"classes\.txt of .*/a, .*/b differ"):
            open_set(f"{tmp_path}/{{a,b}}/*.tar")

    def test_of_a_split(self, timm):
        pattern = f"{timm}/*-{{train,validation}}-*.tar"
        assert len(open_set(pattern, "train")) == 5
        assert len(open_set(pattern, "val")) == 2
        with pytest.raises(InputError, match="has no tars of the split 'val'"):
            open_set(f"{timm}/*-train-*.tar", "val")


class TestSeveralSplitsInAFolder:
    def test_they_are_told_apart_by_their_names(self, timm):
        trained = open_set(timm, "train")
        assert [Path(tar).name for tar in trained.tars] == ["imagenet1k-train-0000.tar", "imagenet1k-train-0001.tar"]
        assert [label for _, label in trained.read_labels()] == [2, 0, 1, 1, 0]
        validated = open_set(timm, "val", trained.classes)
        assert [label for _, label in validated.read_labels()] == [1, 2]

    def test_the_classes_are_those_that_the_keys_of_the_training_images_name(self, timm):
        assert open_set(timm, "train").classes == WNIDS
        # Its own tars lack a class.
        assert open_set(timm, "val").classes == WNIDS

    def test_a_classes_txt_is_followed(self, timm):
        (timm / "classes.txt").write_text("fish\ngoldfish\ndog\n")
        assert open_set(timm, "train").classes == ("fish", "goldfish", "dog")

    def test_a_name_that_says_no_split(self, timm):
        pack(timm / "more.tar", labeled(0))
        with pytest.raises(InputError, match=r"the name of .*/more\.tar says none of train, val"):
            open_set(timm, "train")

    @pytest.mark.parametrize(
        "members",
        [
            labeled(0, 2),
            [*labeled(0, 1), *samples("0001")],
            [*labeled(0), (f"{WNIDS[1]}_9.jpg", b""), (f"{WNIDS[1]}_9.cls", b"0")],
        ],
        ids=["a label is missing", "a key without a number", "two numbers of a label"],
    )
    def test_keys_that_do_not_tell_the_classes(self, tmp_path, members):
        root = tmp_path / "d"
        pack(root / "train-0.tar", members)
        with pytest.raises(InputError, match=r"has tar files but no classes\.txt"):
            open_set(root, "train")

    def test_they_are_checked(self, timm):
        checked = check_tree(timm, 1)
        assert [(name, len(images)) for name, images in checked.splits] == [("train", 5), ("val", 2)]
        assert len(checked.bad) == 7  # none of them is an image
        assert [len(images) for _, images in check_tree(f"{timm}/*-train-*.tar", 1).splits] == [5]

    @pytest.mark.parametrize(
        ("name", "split"),
        [
            ("imagenet1k-train-0000.tar", "train"),
            ("Validation_1.tar", "val"),
            ("strain.tar", ""),
            ("x-test.tar", "test"),
        ],
    )
    def test_words(self, name, split):
        assert split_of(name) == split


class TestLabels:
    def test_in_json(self, tmp_path):
        members = [
            ("0.jpg", b""),
            ("0.json", b'{"label": 1, "x": 0}'),
            ("1.jpg", b""),
            ("1.json", b'{"label": 0, "x": 1}'),
        ]
        root = folder_of(tmp_path, members)
        with pytest.raises(InputError, match=r"has no label \(cls\), only jpg, json; name the components"):
            open_set(root)
        for label, expected in (("json", [1, 0]), ("json:x", [0, 1]), ("cls;JSON:label", [1, 0])):
            found = open_set(root, components=Components(label=label))
            assert [value for _, value in found.read_labels()] == expected

    @pytest.mark.parametrize("content", [b'{"x": 1}', b'{"label": 1', b'{"label": "cat"}', b'{"label": -1}'])
    def test_in_json_that_has_none(self, content):
        with pytest.raises(ValueError, match="has a label that"):
            parse_label(content, 5)

    def test_compressed(self):
        assert parse_label(gzip.compress(b"3\n"), 5) == 3
        assert parse_label(gzip.compress(b'{"label": 3}'), 5) == 3
        with pytest.raises(ValueError, match="has a label that cannot be read"):
            parse_label(gzip.compress(b"3" * 99)[:-9], 5)


def test_several_sets_of_tars_are_one(tmp_path):
    first = folder_of(tmp_path / "a", [("0.jpg", b"A"), ("0.cls", b"0")])
    second = folder_of(tmp_path / "b", [("0.jpg", b"B"), ("0.cls", b"1")], [("1.jpg", b"C"), ("1.cls", b"0")])
    found = open_set([first, second])
    contents = []
    for part in found.parts():
        with opened(part) as file:
            contents.append(file.read())
    assert contents == [b"A", b"B", b"C"]
    assert [label for _, label in found.read_labels()] == [0, 1, 0]
    (second / "classes.txt").write_text("dog\ncat\n")
    with pytest.raises(InputError, match="in the order of the training set's"):
        open_set([first, second])
