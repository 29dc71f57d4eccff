"""OpenOOD's lists of images."""

import numpy as np
import pytest

from apr_dali.data.image_list import is_image_list, read_image_list
from apr_dali.errors import InputError


@pytest.fixture
def layout(tmp_path):
    """OpenOOD's folder `data`, with three images and their list."""
    for name in ("ninco/a b/1.jpg", "ninco/c/2.jpg", "ninco/c/3.jpg"):
        path = tmp_path / "images_largescale" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    lists = tmp_path / "benchmark_imglist" / "imagenet"
    lists.mkdir(parents=True)
    (lists / "test_ninco.txt").write_text("ninco/c/2.jpg 1\nninco/a b/1.jpg 0\n\nninco/c/3.jpg 2\n")
    return tmp_path


def test_a_list_in_its_order(layout):
    path = layout / "benchmark_imglist" / "imagenet" / "test_ninco.txt"
    found = read_image_list(path, ("x", "y", "z"))
    root = layout / "images_largescale" / "ninco"
    assert found.files == tuple(str(root / name) for name in ("c/2.jpg", "a b/1.jpg", "c/3.jpg"))
    np.testing.assert_array_equal(found.labels, [1, 0, 2])
    assert found.classes == ("x", "y", "z")
    of_none = read_image_list(path)
    np.testing.assert_array_equal(of_none.labels, [0, 0, 0])
    assert read_image_list(path, limit=2).files == found.files[:2]


def test_the_root_that_is_given(layout, tmp_path):
    path = tmp_path / "elsewhere.txt"
    path.write_text("c/2.jpg -1\r\n")
    assert read_image_list(path, root=layout / "images_largescale" / "ninco").files[0].endswith("/ninco/c/2.jpg")
    with pytest.raises(InputError, match=r"first image c/2.jpg is in none of .*; give --list-root the folder"):
        read_image_list(path)
    with pytest.raises(InputError, match="--list-root /nowhere is no folder"):
        read_image_list(path, root="/nowhere")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "lists no image"),
        ("c/2.jpg", "line 1: expected a path below the images and a label, got 'c/2.jpg'"),
        ("c/2.jpg 0\nc/3.jpg one\n", "line 2: expected"),
        ("/c/2.jpg 0", "line 1: expected a path below"),
        ("c/2.jpg 1_0", "line 1: expected a path below"),
        (f"c/2.jpg {10**30}", "line 1: expected a path below"),
        ("c/2.jpg 0\nc/9.jpg 0\n", "1 of its 2 images are not there, .*c/9.jpg the first"),
        ("c/2.jpg 5", "has labels 5 to 5: expected those of the network's 3 classes, 0 to 2"),
        ("c/2.jpg -1", "has labels -1 to -1"),
    ],
)
def test_bad_lists_are_named(layout, text, message):
    path = layout / "images_largescale" / "ninco" / "mine.txt"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        read_image_list(path, ("x", "y", "z"))


def test_what_is_a_list(layout, tmp_path):
    own = tmp_path / "own.txt"
    own.write_text("# apr_dali file list\n# root: /data\n")
    assert is_image_list(layout / "benchmark_imglist" / "imagenet" / "test_ninco.txt")
    assert not is_image_list(own)
    assert not is_image_list(tmp_path)
    assert not is_image_list(tmp_path / "not-there.txt")


def test_a_line_ends_where_those_of_files_do(tmp_path):
    name = "a\x0bb\x85c\u2028d.jpg"
    (tmp_path / name).touch()
    (tmp_path / "list.txt").write_text(f"{name} 0\r\n{name} 0\r\n", encoding="utf-8")
    assert read_image_list(tmp_path / "list.txt").files == (str(tmp_path / name),) * 2
