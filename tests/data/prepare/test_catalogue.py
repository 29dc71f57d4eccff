"""Names that files, samples and folders get."""

import pytest

from apr_dali.data.class_names import format_classes, parse_classes
from apr_dali.data.kinds import wnid_of
from apr_dali.data.prepare.catalogue import (
    Item,
    as_files,
    as_keys,
    folder_names,
    listed_names,
    names_by_wnid,
    read_ranges,
)
from apr_dali.errors import InputError


def items(*names: str, label: int = 0) -> list[Item]:
    return [Item(label, name, "", 0, 0) for name in names]


def test_files_of_a_class_have_each_name_once():
    found = as_files([*items("a/b.jpg", "a_b.jpg", "a_b.png", ".x.jpg", "\udce4.jpg"), *items("a_b.jpg", label=1)])
    assert [item.name for item in found] == ["a_b.jpg", "a_b-2.jpg", "a_b.png", "x.jpg", "image.jpg", "a_b.jpg"]


def test_samples_of_a_split_have_each_key_once():
    given = [*items("a/b.jpg", "a.b.png", "n1_2.JPEG", "ü ü.jpg"), *items("n1_2.JPEG", "x" * 200 + ".jpg", label=1)]
    names = [item.name for item in as_keys(given)]
    assert names[:5] == ["a_b.jpg", "a_b-2.png", "n1_2.JPEG", "image.jpg", "n1_2-2.JPEG"]
    assert names[5] == "x" * 80 + ".jpg"


def test_names_that_will_do_take_no_memory():
    given = items("n01440764_1.JPEG", "b.jpg")
    assert all(new is old for made in (as_files, as_keys) for new, old in zip(made(given), given, strict=True))


@pytest.mark.parametrize(
    ("classes", "folders"),
    [
        (("cat", "dog"), ("cat", "dog")),
        (("tench", "cat"), ("0_tench", "1_cat")),
        (tuple(map(str, range(11))), tuple(f"{n:02d}" for n in range(11))),
        (("a/b", "a_b"), ("0_a_b", "1_a_b")),
        ((".a", "b"), ("0_.a", "1_b")),
        ((" a\nb", "c"), ("a b", "c")),
        (("c", "\udcff", "\udcfe"), ("0_c", "1_\ufffd", "2_\ufffd")),
    ],
)
def test_the_sorted_order_of_folders_is_that_of_the_labels(classes, folders):
    assert folder_names(classes) == folders
    assert sorted(folders) == list(folders)


@pytest.mark.parametrize(
    ("classes", "lines"),
    [
        (("dog", "cat, tabby", "a/b"), ("dog", "cat, tabby", "a/b")),
        ((" a\r\nb", "c\u2028d\x0b\x1c\x85e ", "\udcff"), ("a b", "c\u2028d\x0b\x1c\x85e", "\ufffd")),
        (("crane", "crane"), ("0_crane", "1_crane")),
        (("d", " "), ("0_d", "1_class")),
    ],
)
def test_a_classes_txt_holds_every_class(classes, lines):
    assert listed_names(classes) == lines
    assert parse_classes(format_classes(lines), "classes.txt") == lines


@pytest.mark.parametrize(
    ("name", "wnid"),
    [
        ("n01440764_10026.JPEG", "n01440764"),
        ("ILSVRC2012_val_00000293_n03000134.JPEG", "n03000134"),
        ("n01440764/a.jpg", "n01440764"),
        ("xn01440764.jpg", None),
        ("n014407640.jpg", None),
    ],
)
def test_wordnet_numbers(name, wnid):
    assert wnid_of(name) == wnid


def test_classes_by_wordnet_numbers():
    right = [(1, "n01440764_1.JPEG"), (0, "n02124075_5.JPEG"), (0, "val_1.JPEG")]
    assert names_by_wnid(right, 2) == ("n02124075", "n01440764")
    assert names_by_wnid(right, 3) is None
    assert names_by_wnid([*right, (0, "n01440764_2.JPEG")], 2) is None
    assert names_by_wnid([(0, "n01440764_1.JPEG"), (1, "n01440764_2.JPEG")], 2) is None


def test_a_file_that_has_another_size_than_before(tmp_path):
    (tmp_path / "a").write_bytes(b"0123456789")
    for size, told in ((9, "has become longer"), (11, "has become shorter")):
        with pytest.raises(InputError, match=told):
            list(read_ranges([Item(0, "a", str(tmp_path / "a"), 0, size)]))


def test_ranges_of_files(tmp_path):
    paths = [tmp_path / str(n) for n in range(70)]
    for n, path in enumerate(paths):
        path.write_bytes(b"%03d" % n)
    wanted = [Item(0, "", str(path), 1, 2) for path in paths * 2]
    assert list(read_ranges(wanted)) == [b"%02d" % n for n in range(70)] * 2
    paths[3].write_bytes(b"1")
    with pytest.raises(InputError, match="3 has become shorter"):
        list(read_ranges(wanted))
