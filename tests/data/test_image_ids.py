"""Lists of images by class and file."""

import hashlib

import numpy as np
import pytest

from apr_dali.data.image_ids import ROBUSTBENCH, read_image_ids
from apr_dali.errors import InputError

# Of the lines of RobustBench's imagenet_test_image_ids.txt, sorted.
SHA256 = "2f1fd0aa050d2393d0d1ff5aa3da5cf25831254f1cb59266e3162a1e2c61adc8"


def test_robustbenchs_images_are_built_in(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = read_image_ids(ROBUSTBENCH)
    assert (len(found), len(set(found.entries))) == (5000, 5000)
    assert hashlib.sha256("\n".join(sorted(found.entries)).encode()).hexdigest() == SHA256
    (tmp_path / ROBUSTBENCH).write_text("a/1.png\n")
    assert read_image_ids(ROBUSTBENCH).entries == ("a/1.png",), "a file of that name is what was meant"


def test_images_below_a_folder(tmp_path):
    entries = read_image_ids(ROBUSTBENCH).entries[:40]
    names = sorted({entry.partition("/")[0] for entry in entries})
    for entry in entries:
        (tmp_path / entry).parent.mkdir(exist_ok=True)
        (tmp_path / entry).touch()
    path = tmp_path / "ids.txt"
    path.write_text("\n".join(entries))
    found = read_image_ids(path).below(tmp_path, names)
    assert found.files == tuple(str(tmp_path / entry) for entry in entries)
    np.testing.assert_array_equal(found.labels, [names.index(entry.partition("/")[0]) for entry in entries])
    with pytest.raises(InputError, match=f"classes that the network lacks: {names[-1]}"):
        read_image_ids(path).below(tmp_path, names[:-1])
    (tmp_path / entries[3]).unlink()
    with pytest.raises(InputError, match=f"1 of its 40 images are not in .*{entries[3]} the first"):
        read_image_ids(path).below(tmp_path, names)


def test_a_list_that_cannot_be_opened(tmp_path):
    for path, told in ((tmp_path, "Is a directory"), (tmp_path / "no.txt", "No such file")):
        with pytest.raises(InputError, match=f"{told}.*expected a text file of lines <class>/<file>"):
            read_image_ids(path)


def test_a_line_ends_where_those_of_files_do(tmp_path):
    (tmp_path / "ids.txt").write_text("n01440764/a\u2028b.JPEG\r\nn01440764/c.JPEG\r\n", encoding="utf-8")
    assert read_image_ids(tmp_path / "ids.txt").entries == ("n01440764/a\u2028b.JPEG", "n01440764/c.JPEG")
