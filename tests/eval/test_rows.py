"""Rows of float16 on the disk."""

import numpy as np
import pytest
import torch

from apr_dali.errors import InputError
from apr_dali.eval.rows import rows_in
from apr_dali.runtime.distributed import Group

GROUP = Group(0, 1, 0, torch.device("cpu"))


def test_rows_come_back_in_their_order(tmp_path):
    values = torch.arange(70.0).reshape(10, 7)
    with rows_in(tmp_path, "x", GROUP) as rows:
        for part in values.split(4):
            rows.append(part)
        rows.finish("x")
        assert (len(rows), rows.width) == (10, 7)
        chunks = list(rows.chunks(3))
        assert [len(chunk) for chunk in chunks] == [3, 3, 3, 1]
        np.testing.assert_array_equal(np.concatenate(chunks), values.numpy())
        (file,) = tmp_path.rglob("*.f16")
        assert file.stat().st_size == 10 * 7 * 2
    assert not list(tmp_path.iterdir()), "they go with the block"


@pytest.mark.parametrize("value", [70_000.0, float("nan"), float("-inf")])
def test_what_float16_cannot_hold_is_named(tmp_path, value):
    with rows_in(tmp_path, "x", GROUP) as rows:
        rows.append(torch.tensor([[1.0, value]]))
        with pytest.raises(InputError, match="the features has values that are not finite in float16"):
            rows.finish("the features")


def test_no_rows(tmp_path):
    with rows_in(tmp_path, "x", GROUP) as rows:
        rows.finish("x")
        assert len(rows) == 0
        assert list(rows.chunks()) == []


def test_what_a_killed_command_left_is_removed(tmp_path):
    left = tmp_path / "logits-3-abc.rows"
    left.mkdir()
    (left / "rows.0.f16").write_bytes(b"1234")
    other = tmp_path / "of.others"
    other.mkdir()
    with rows_in(tmp_path, "x", GROUP) as first:
        assert not left.exists()
        with rows_in(tmp_path, "x", GROUP) as second:
            for rows in (first, second):
                rows.append(torch.ones(2, 2))
                rows.finish("x")
            assert len(list(tmp_path.glob("*.rows"))) == 2, "those that are in use stay"
            assert next(first.chunks()).sum() == 4
    assert list(tmp_path.iterdir()) == [other]
