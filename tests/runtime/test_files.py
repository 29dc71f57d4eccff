"""Files written whole or not at all."""

from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path

import pytest

from apr_dali.errors import InputError
from apr_dali.runtime.files import sha256_of, write_whole, writing_to


def test_new_bytes_are_on_the_disk_before_they_take_the_name(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(os, "fsync", lambda _: calls.append("fsync"))
    replace_file = os.replace
    monkeypatch.setattr(os, "replace", lambda a, b: (calls.append(f"{Path(b).name}"), replace_file(a, b)))
    write_whole(tmp_path / "f", lambda file: file.write(b"1"), alone=True)
    write_whole(tmp_path / "f", b"2", keep=tmp_path / "g", alone=True)
    assert calls == ["fsync", "f", "fsync", "fsync", "g", "f", "fsync"]
    del calls[:]
    write_whole(tmp_path / "h", b"1", alone=True, synced=False)
    assert calls == ["h"], "of a set of millions of files none is waited for"
    assert ((tmp_path / "f").read_bytes(), (tmp_path / "g").read_bytes()) == (b"2", b"1")


@pytest.mark.parametrize("alone", [True, False])
@pytest.mark.parametrize("error", [RuntimeError, ValueError, KeyboardInterrupt])
def test_a_failure_while_writing_leaves_the_file(tmp_path, error, alone):
    path = tmp_path / "f"
    path.write_bytes(b"old")

    def fail(file):
        file.write(b"new")
        raise error("something else")

    with pytest.raises(error, match="something else"):
        write_whole(path, fail, alone=alone)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["f"]


def test_an_error_of_the_disk_names_the_file(tmp_path):
    def fail(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match=r"No space left on device: '.*/f'"):
        write_whole(tmp_path / "f", fail)
    with pytest.raises(OSError, match=r"No such file or directory: '.*/none/"):
        write_whole(tmp_path / "none" / "f", b"")


def test_a_file_that_may_not_be_as_large(tmp_path):
    told = "f: File too large: the file system, or a limit .ulimit -f., allows none of that size; give another folder"
    with pytest.raises(InputError, match=told), writing_to(tmp_path / "f"):
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))


def test_what_a_crash_left_is_overwritten_by_the_only_writer(tmp_path):
    """A checkpoint has gigabytes: what is left of each would fill the disk."""

    def crash(_):
        (left,) = set(os.listdir(tmp_path)) - {"f"}
        leftovers.append(left)
        os.link(tmp_path / left, tmp_path / "kept")
        raise RuntimeError

    leftovers = []
    with pytest.raises(RuntimeError):
        write_whole(tmp_path / "f", crash, alone=True)
    (tmp_path / "kept").rename(tmp_path / leftovers[0])
    write_whole(tmp_path / "f", b"whole", alone=True)
    assert os.listdir(tmp_path) == ["f"]
    assert (tmp_path / "f").read_bytes() == b"whole"


def test_several_writers_do_not_meet(tmp_path):
    """One writes within the other: the one that ends last wins, and both files were whole."""

    def write(file):
        file.write(b"ou")
        write_whole(tmp_path / "f", b"inner")
        assert (tmp_path / "f").read_bytes() == b"inner"
        file.write(b"ter")

    write_whole(tmp_path / "f", write)
    assert (tmp_path / "f").read_bytes() == b"outer"
    assert os.listdir(tmp_path) == ["f"]


@pytest.mark.parametrize("alone", [True, False])
def test_the_mask_says_who_may_read(tmp_path, alone):
    former = os.umask(0o027)
    try:
        write_whole(tmp_path / "f", b"1", alone=alone)
    finally:
        os.umask(former)
    assert (tmp_path / "f").stat().st_mode & 0o777 == 0o640


def test_the_hash_of_a_file_of_several_blocks(tmp_path):
    content = bytes(range(251)) * 10_000
    (tmp_path / "file").write_bytes(content)
    assert sha256_of(tmp_path / "file") == hashlib.sha256(content).hexdigest()
