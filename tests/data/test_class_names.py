"""The names in a classes.txt."""

import pytest

from apr_dali.data.class_names import format_classes, parse_classes
from apr_dali.errors import InputError

ODD = "a\x0bb\x0cc\x1cd\x1de\x1ef\x85g\u2028h\u2029i"
"""What str.splitlines takes for the ends of lines, and no editor and no file does."""


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_where_lines_end(end):
    assert parse_classes(end.join(["cat", "", f" {ODD} "]).encode(), "classes.txt") == ("cat", ODD)


def test_what_is_written_is_read():
    assert parse_classes(format_classes(("cat, tabby", ODD)), "classes.txt") == ("cat, tabby", ODD)


@pytest.mark.parametrize("name", ["a\nb", "a\rb", " a", "a\u2028", "", "\udcff"])
def test_what_would_be_read_as_another_name_is_refused(name):
    with pytest.raises(InputError, match=r"a line of classes\.txt cannot hold .*: expected names in UTF-8"):
        format_classes(("cat", name))
