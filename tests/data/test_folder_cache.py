"""Listings of large sets that are kept for the next start: taken while nothing has changed, and never afterwards."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from apr_dali.commands.check_data import add, run
from apr_dali.data import folder_cache
from apr_dali.data.folders import open_set
from apr_dali.errors import InputError


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(folder_cache, "LEAST", 3)
    return tmp_path / "cache/apr_dali/listings"


@pytest.fixture
def root(tmp_path) -> Path:
    root = tmp_path / "d"
    for name in ("cat/1.jpg", "cat/deep/2.jpg", "dog/\udcff3.jpg", "dog/4\n.png", "dog/5.jp2"):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    settle(root)
    return root


def settle(root: Path) -> None:
    """As if nothing had been changed for a while; each folder has a time of its own."""
    for number, folder in enumerate([root, *filter(Path.is_dir, sorted(root.rglob("*")))]):
        os.utime(folder, (1e9 + number, 1e9 + number))


@pytest.fixture
def no_walk(monkeypatch):
    def forbid() -> None:
        monkeypatch.setattr(folder_cache, "walk", lambda _: pytest.fail("listed the folder again"))

    return forbid


pytestmark = pytest.mark.filterwarnings("ignore:left out 1 image files")


def test_a_second_start_finds_the_same(root, cache, no_walk):
    first = open_set(root)
    assert len(first) == 4
    assert len(list(cache.iterdir())) == 1
    no_walk()
    with pytest.warns(UserWarning, match=r"left out 1 image files of kinds that are not read .*dog/5\.jp2"):
        second = open_set(root)
    assert second.files == first.files
    assert second.classes == first.classes
    np.testing.assert_array_equal(second.labels, first.labels)
    with pytest.raises(pytest.fail.Exception, match="listed the folder again"):
        open_set(root, cached=False)


@pytest.mark.parametrize(
    "change",
    [
        lambda root: (root / "cat/9.jpg").touch(),
        lambda root: (root / "cat/deep/9.jpg").touch(),
        lambda root: (root / "cat/1.jpg").unlink(),
        lambda root: (root / "dog/4\n.png").rename(root / "dog/4.png"),
        lambda root: (root / "emu").mkdir() or (root / "emu/1.jpg").touch(),
        lambda root: (root / "cat").rename(root / "bat"),
        lambda root: (root / "dog").rename(root / "was") or (root / "cat").rename(root / "dog"),
    ],
)
def test_a_change_is_noticed(root, change):
    open_set(root)
    change(root)
    assert list(open_set(root).files) == list(open_set(root, cached=False).files)


def test_a_folder_in_the_place_of_another_with_its_time(root):
    open_set(root)
    (root / "cat").rename(root.parent / "away")
    (root / "cat").mkdir()
    (root / "cat/other.jpg").touch()
    settle(root)
    assert Path(open_set(root).files[0]).name == "other.jpg"


def test_what_has_just_changed_is_not_kept(root, cache, monkeypatch):
    monkeypatch.setattr(folder_cache, "_UNSETTLED", 3600.0)  # longer than a busy machine takes from here to there
    (root / "cat/9.jpg").touch()
    assert len(open_set(root)) == 5
    assert not cache.exists()


def test_a_small_set_is_not_kept(root, cache, monkeypatch):
    monkeypatch.setattr(folder_cache, "LEAST", 5)
    open_set(root)
    assert not cache.exists()


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff\0", b'{"version": 1, "directories": ["cat", "dog"]}\0a'])
def test_a_damaged_one_is_made_anew(root, cache, content):
    first = open_set(root)
    [kept] = cache.iterdir()
    whole = kept.read_bytes()
    for damaged in (content, whole[:-9]):
        kept.write_bytes(damaged)
        found = open_set(root)
        assert len(found) == len(first)
    assert kept.read_bytes() == whole


def test_no_place_to_write_is_no_fault(root, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert len(open_set(root)) == len(open_set(root)) == 4


def test_check_data_lists_anew_when_told(root, capsys, no_walk):
    (root / "dog/\udcff3.jpg").unlink()
    settle(root)
    parser = argparse.ArgumentParser()
    add(parser)
    open_set(root)
    no_walk()
    assert run(parser.parse_args([str(root), "--processes", "1"])) == 1
    with pytest.raises(pytest.fail.Exception, match="listed the folder again"):
        run(parser.parse_args([str(root), "--processes", "1", "--no-cache"]))
    assert "empty file" in capsys.readouterr().out


def test_kinds_that_are_not_read_are_named(tmp_path):
    for name in ("cat/1.jpg", "cat/2.JP2", "cat/deep/3.avif", "dog/1.png", "dog/readme.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    with pytest.warns(UserWarning, match=r"left out 2 image files .*: .*cat/2\.JP2, .*cat/deep/3\.avif; save them"):
        assert len(open_set(tmp_path)) == 2
    (tmp_path / "cat/1.jpg").unlink()
    with pytest.warns(UserWarning, match="left out 2"), pytest.raises(InputError, match="folders without an image"):
        open_set(tmp_path)


@pytest.mark.slow
def test_many_files_take_little_memory(tmp_path):
    """A tenth of ImageNet's images in a tenth of the memory that its listing may take."""
    for number in range(100):
        folder = tmp_path / f"d/n{number:08d}"
        folder.mkdir(parents=True)
        (folder / "0.JPEG").touch()
        for image in range(1, 1300):
            os.link(folder / "0.JPEG", folder / f"n{number:08d}_{image}.JPEG")
    settle(tmp_path / "d")
    code = (
        "import sys; from apr_dali.data.folders import open_set; import numpy\n"
        # Not getrusage: that knows the peak of the process which started this one, too.
        "def peak(): return int(open('/proc/self/status').read().split('VmHWM:')[1].split()[0])\n"
        "before = peak()\n"
        "found = open_set(sys.argv[1])\n"
        "print(len(found), peak() - before)"
    )
    for _ in range(2):  # listed, then as it was kept
        done = subprocess.run([sys.executable, "-c", code, tmp_path / "d"], check=True, capture_output=True, text=True)
        count, kilobytes = map(int, done.stdout.split())
        assert count == 130_000
        assert kilobytes < 100 * 1024
    assert len(list((tmp_path / "cache/apr_dali/listings").iterdir())) == 1
