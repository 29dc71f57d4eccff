"""The names of classes in files."""

import pytest

from apr_dali.errors import InputError
from apr_dali.eval.class_names import read_names


@pytest.mark.parametrize(
    "text",
    [
        '["c", "a", "b"]',
        '{"c": 0, "b": 2, "a": 1}',
        '{"2": "b", "0": "c", "1": "a"}',
        '{"0": ["c", "a word"], "1": ["a", "another"], "2": ["b", "a third"]}',
        '{"architectures": ["R"], "id2label": {"0": "c", "1": "a", "2": "b"}}',
    ],
)
def test_names_in_json(tmp_path, text):
    (tmp_path / "names.json").write_text(text)
    assert read_names(str(tmp_path / "names.json")) == ("c", "a", "b")


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("n01440764 tench, Tinca tinca\nn01443537 goldfish\n", ("n01440764", "n01443537")),
        ("n01440764\ttench\nn01443537\tgoldfish\n", ("n01440764", "n01443537")),
        ("n01440764\nn01443537\n", ("n01440764", "n01443537")),
        ("n01440764 tench\nhot dog\n", ("n01440764 tench", "hot dog")),
    ],
)
def test_words_behind_the_names_of_class_folders(tmp_path, text, names):
    (tmp_path / "words.txt").write_text(text)
    assert read_names(str(tmp_path / "words.txt")) == names


@pytest.mark.parametrize(
    "text", ['{"1": "a", "2": "b"}', '{"0": "a", "1": []}', '{"0": [1], "1": ["b"]}', '{"a": "b"}']
)
def test_tables_that_say_no_order(tmp_path, text):
    (tmp_path / "names.json").write_text(text)
    with pytest.raises(InputError, match="expected a list of names, a table from names to 0, 1, 2"):
        read_names(str(tmp_path / "names.json"))
