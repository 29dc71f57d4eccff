"""What is put down while a target is written, also when the process ends in the middle of that."""

import pytest
from helpers.archives import encoded

from apr_dali.data.prepare import journal, spool
from apr_dali.data.prepare.catalogue import Item
from apr_dali.data.prepare.write import Done
from apr_dali.errors import InputError

UNITS = [Done("train", n, 5, 100 + n, (("train/a.jpg", "CMYK"),) * n) for n in range(3)]


@pytest.mark.parametrize("cut", [1, 10, 60])
def test_half_a_line_is_passed_over_and_not_built_upon(tmp_path, cut):
    for unit in UNITS[:2]:
        journal.record(tmp_path, unit)
    (lines,) = tmp_path.iterdir()
    lines.write_bytes(lines.read_bytes()[:-cut])
    assert list(journal.recorded(tmp_path)) == UNITS[:1]
    journal.record(tmp_path, UNITS[2])
    assert list(journal.recorded(tmp_path)) == [UNITS[0], UNITS[2]]


def test_nothing_put_down(tmp_path):
    assert list(journal.recorded(tmp_path)) == []
    assert journal.recorded_spool(tmp_path) == (0, {})
    journal.record_spool(tmp_path, 7, {"train-0": 5})
    assert journal.recorded_spool(tmp_path) == (7, {"train-0": 5})


# ---- files of images on their way ------------------------------------------------------------------------------------

ITEMS = [Item(n, f"{n}.jpg", "", n, 0) for n in range(3)]


@pytest.fixture
def bucket(tmp_path):
    """The file of the first two items, and its length."""
    path = spool.bucket(tmp_path, "train", 0)
    return path, sum(spool.append(path, item, encoded(item.label)) for item in ITEMS[:2])


def test_what_is_put_in_comes_out(bucket):
    path, length = bucket
    assert path.stat().st_size == length
    found = spool.located(path, ITEMS[1::-1])
    content = path.read_bytes()
    assert [content[item.at : item.at + item.size] for item in found] == [encoded(1), encoded(0)]
    assert [item.name for item in found] == ["1.jpg", "0.jpg"]


def test_half_an_image_is_cut_off(bucket):
    path, length = bucket
    spool.append(path, ITEMS[2], encoded(2))
    path.write_bytes(path.read_bytes()[:-5])
    spool.cut(path, length)
    spool.append(path, ITEMS[2], encoded(2))
    assert [item.size for item in spool.located(path, ITEMS)] == [len(encoded(n)) for n in range(3)]


def test_damage_is_noticed(bucket):
    path, length = bucket
    with pytest.raises(InputError, match="is damaged or lost, as by a machine that went down"):
        spool.cut(path, length + 1)
    with pytest.raises(InputError, match="is damaged"):
        spool.located(path, ITEMS)
    content = path.read_bytes()
    for at in (3, 30, length - 1):
        path.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
        with pytest.raises(InputError, match="is damaged"):
            spool.located(path, ITEMS[:2])
    path.unlink()
    with pytest.raises(InputError, match="is damaged or lost"):
        spool.located(path, ITEMS[:2])
