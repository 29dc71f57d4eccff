"""Loaders on tar files: faults name tar and sample, and what is left out leaves all else in its order and batch."""

import itertools
import os
import re
import subprocess
import sys
import tarfile

import pytest
import torch
from helpers.loaders import numbers_of, which
from helpers.tar_files import add, folder_of, jpeg

from apr_dali import ImageNetLoader
from apr_dali.data.folders import Components, TarSet, open_set
from apr_dali.errors import InputError
from apr_dali.training.datasets import some_images

COUNT, BATCH, EACH = 20, 4, 5
SETTINGS = {"image_size": 16, "threads": 1, "seed": 3}


def members_of(index: int) -> dict[str, bytes]:
    """As ShardWriter writes them: in the order of the alphabet."""
    return {"cls": str(index % 2).encode(), "jpg": jpeg(index), "json": b'{"label": 7}', "txt": b"gray"}


def without(index: int, component: str) -> dict[str, bytes]:
    return {name: content for name, content in members_of(index).items() if name != component}


def spoilt(index: int, fault: str) -> dict[str, bytes]:
    image = jpeg(index)
    if fault.startswith("no "):
        return without(index, fault.removeprefix("no "))
    changed = {
        "within": {"jpg": image.replace(b"\xff\xc4", b"\xff\xc9", 1)},
        "header": {"jpg": image[:20] + bytes(600) + image[-2:]},
        "truncated": {"jpg": image[:-200]},
        "text": {"jpg": b"hello"},
        "empty": {"jpg": b""},
        "words": {"cls": b"cat"},
        "nothing": {"cls": b""},
        "range": {"cls": b"2\n"},
    }
    return members_of(index) | changed[fault]


REASONS = {
    "within": "cannot be decoded",
    "header": r"cannot be decoded \(broken header\)",
    "truncated": r"cannot be decoded \(truncated",
    "text": r"cannot be decoded \(not an image",
    "empty": r"cannot be decoded \(empty file\)",
    "words": "has a label that is no number: b'cat'",
    "nothing": "has a label that is no number: b''",
    "range": r"has the label 2: expected 0\.\.1",
    "no cls": r"has no label \(cls\), only jpg, json, txt",
    "no jpg": "has no image, only cls, json, txt",
}


def write(root, faults: dict[int, str]):
    """Tars of EACH samples, of which those of `faults` are spoilt."""
    contents = [spoilt(index, faults[index]) if index in faults else members_of(index) for index in range(COUNT)]
    members = [[(f"a/{n:02d}.{ext}", content) for ext, content in found.items()] for n, found in enumerate(contents)]
    tars = [itertools.chain(*members[start : start + EACH]) for start in range(0, COUNT, EACH)]
    return folder_of(root, *tars, classes="even\nodd\n")


def name(root, index: int) -> str:
    return f"{root}/{index // EACH}.tar/a/{index:02d}"


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return write(tmp_path_factory.mktemp("tars") / "whole", {})


@pytest.mark.parametrize("fault", REASONS)
def test_a_fault_is_named_by_tar_and_key(tmp_path, fault):
    root = write(tmp_path / "tars", {7: fault})
    told = rf"the sample {name(root, 7)} {REASONS[fault]}.*: pack the tar anew.*on_error='skip'"
    with pytest.raises(InputError, match=told), ImageNetLoader(root, BATCH, **SETTINGS) as loader:
        numbers_of(loader)


@pytest.mark.filterwarnings("ignore:left out")
@pytest.mark.parametrize("train", [True, False])
def test_the_others_keep_their_batches(whole, tmp_path, train):
    faults = dict(zip((1, 2, 4, 7, 8, 10, 13, 14, 18, 19), REASONS, strict=True))
    root = write(tmp_path / "tars", faults)
    with ImageNetLoader(whole, BATCH, train=train, **SETTINGS) as loader:
        expected = [numbers_of(loader) for _ in range(3)]
    kept = [[[i for i in batch if i not in faults] for batch in epoch] for epoch in expected]
    assert all(batch for epoch in kept for batch in epoch), "in training a batch would be made of others"
    with ImageNetLoader(root, BATCH, train=train, on_error="skip", **SETTINGS) as loader:
        assert [numbers_of(loader) for _ in range(3)] == kept
        assert sorted(loader.skipped) == [name(root, index) for index in faults]
        assert (len(loader), loader.num_images) == (COUNT // BATCH, COUNT)


@pytest.mark.filterwarnings("ignore:left out")
@pytest.mark.parametrize("bad", [(0, 1, 2, 3, 4), (15, 16, 17, 18, 19), (0, 1, 2, 3, 4, 5, 6, 7, 8, 9)])
def test_tars_of_which_nothing_is_left(whole, tmp_path, bad):
    root = write(tmp_path / "tars", {index: "no jpg" if index % 2 else "header" for index in bad})
    for train in (True, False):
        with ImageNetLoader(whole, 10, train=train, **SETTINGS) as loader:
            expected = [numbers_of(loader) for _ in range(2)]
        kept = [[[i for i in batch if i not in bad] for batch in epoch] for epoch in expected]
        with ImageNetLoader(root, 10, train=train, on_error="skip", **SETTINGS) as loader:
            assert [numbers_of(loader) for _ in range(2)] == [[batch for batch in epoch if batch] for epoch in kept]


@pytest.mark.filterwarnings("ignore:left out")
@pytest.mark.parametrize(("train", "aug", "batch"), [(True, "apr-p", BATCH), (True, "none", 1), (False, "none", 3)])
def test_the_number_of_each_sample_comes_with_it(tmp_path, train, aug, batch):
    """Where a batch of one is left out, another sample stands in for it, with its own number and label."""
    bad = {2: "no cls", 7: "within", 12: "range"} | dict.fromkeys(range(15, 20), "header")
    root = write(tmp_path / "tars", bad)
    with ImageNetLoader(root, batch, aug, train=train, with_index=True, on_error="skip", **SETTINGS) as loader:
        assert loader.files == tuple(name(root, index) for index in range(COUNT))
        seen = []
        for images, targets, index in loader:
            assert index.dtype == torch.int64
            assert index[:: loader.batch_views].tolist() == which(images[:: loader.batch_views], 12)
            assert index.tolist() == index[:: loader.batch_views].repeat_interleave(loader.batch_views).tolist()
            assert targets.tolist() == [number % 2 for number in index.tolist()]
            seen += index[:: loader.batch_views].tolist()
        assert set(seen) == set(range(COUNT)) - set(bad)


@pytest.mark.filterwarnings("ignore:left out")
def test_a_sample_that_is_smaller_than_its_crop_is_named(tmp_path):
    """Its batch comes after a sample that is left out."""
    root = write(tmp_path / "tars", {2: "no jpg"})
    told = rf"the image {name(root, 11)} has 51×49 pixels: scaling=None cuts 50×50 out"
    options = SETTINGS | {"image_size": 50}
    with (
        pytest.raises(InputError, match=told),
        ImageNetLoader(root, 1, train=False, scaling=None, on_error="skip", shard=(1, 2), **options) as loader,
    ):
        list(loader)


@pytest.mark.filterwarnings("ignore:left out")
def test_nothing_is_left_at_all(tmp_path):
    root = write(tmp_path / "tars", dict.fromkeys(range(COUNT), "words"))
    with (
        pytest.raises(InputError, match="none of the 20 samples of the tars can be used"),
        ImageNetLoader(root, BATCH, on_error="skip", **SETTINGS) as loader,
    ):
        list(loader)


@pytest.mark.filterwarnings("ignore:left out")
@pytest.mark.parametrize("stop", [0, 2, 4])
def test_state_continues_with_the_same_batches(tmp_path, stop):
    root = write(tmp_path / "tars", {2: "no cls", 7: "within", 12: "range"})

    def skipping():
        return ImageNetLoader(root, BATCH, "apr-sp", on_error="skip", with_index=True, **SETTINGS)

    with skipping() as loader:
        expected = [(images, set(index.tolist())) for _ in range(2) for images, _, index in loader]
    assert sum(len(index) for _, index in expected) == 2 * (COUNT - 3)
    expected = [images for images, _ in expected]
    with skipping() as loader:
        list(itertools.islice(loader, stop))
        state = loader.state_dict()
    with skipping() as loader:
        loader.load_state_dict(state)
        rest = [images for _ in range(2) for images, *_ in loader]
        assert sorted(loader.skipped) == [name(root, index) for index in (2, 7, 12)]
    assert all(torch.equal(a, b) for a, b in zip(rest, expected[stop:], strict=True))


def test_a_warning_names_sample_and_reason(tmp_path):
    root = write(tmp_path / "tars", {6: "range"})
    with (
        ImageNetLoader(root, BATCH, on_error="skip", **SETTINGS) as loader,
        pytest.warns(UserWarning, match=f"left out {name(root, 6)}, which has the label 2"),
    ):
        list(loader)


def test_the_components_that_are_asked_for(tmp_path):
    root = write(tmp_path / "tars", {})
    for tar in root.glob("*.tar"):
        with tarfile.open(tar, "a") as archive:
            for key in [member.removesuffix(".jpg") for member in archive.getnames() if member.endswith(".jpg")]:
                other = 19 - int(key[2:])
                add(archive, f"{key}.png", jpeg(other))
                add(archive, f"{key}.y", str(other % 2).encode())
    with pytest.raises(InputError, match="several images: jpg, png"):
        ImageNetLoader(root, BATCH, train=False, **SETTINGS)
    opened = open_set(root, components=Components("png", "y"))
    with ImageNetLoader(opened, BATCH, train=False, **SETTINGS) as loader:
        assert list(itertools.chain(*numbers_of(loader))) == list(range(19, -1, -1))


@pytest.mark.filterwarnings("ignore:left out")
def test_a_broken_header_where_only_dali_can_read(tmp_path, monkeypatch):
    """As in object storage: no file can be opened to look for it."""
    root = write(tmp_path / "tars", {7: "header", 12: "text", 13: "words"})
    for module in ("apr_dali.data.check", "apr_dali.pipelines.loader"):
        monkeypatch.setattr(f"{module}.opened", lambda _: pytest.fail("opened a file"))
    with (
        pytest.raises(InputError, match=rf"{name(root, 7)} cannot be decoded \(broken header\)"),
        ImageNetLoader(root, BATCH, train=False, **SETTINGS) as loader,
    ):
        list(loader)
    with ImageNetLoader(root, BATCH, train=False, on_error="skip", **SETTINGS) as loader:
        assert list(itertools.chain(*numbers_of(loader))) == [
            index for index in range(COUNT) if index not in (7, 12, 13)
        ]


def test_samples_are_shown_with_their_own_labels(whole):
    shown = some_images(open_set(whole), 7)
    assert [name for _, name in shown] == ["even", "odd"] * 3 + ["even"]
    assert [round(image.getpixel((5, 5))[0] / 12) for image, _ in shown] == list(range(7))


def test_a_broken_sample_is_left_out_of_those_that_are_shown(tmp_path, capfd):
    shown = some_images(open_set(write(tmp_path / "tars", {1: "header", 2: "words"})), 4)
    assert [round(image.getpixel((5, 5))[0] / 12) for image, _ in shown] == [0, 2, 3]
    assert [name for _, name in shown] == ["even", "has a label that is no number: b'cat'", "odd"]
    assert f"warning: showing {name(tmp_path / 'tars', 1)} failed" in capfd.readouterr().err


def test_a_tar_that_changes_or_goes_is_named(tmp_path):
    root = write(tmp_path / "tars", {})
    opened = open_set(root)
    os.truncate(root / "2.tar", 1024)
    told = rf"{root}/2\.tar does not fit its index {root}/2\.idx: the sample a/10 lies beyond its end"
    with pytest.raises(InputError, match=told), ImageNetLoader(opened, BATCH, **SETTINGS) as loader:
        list(loader)
    (root / "2.tar").unlink()
    with pytest.raises(InputError, match=rf"the tars cannot be read: .*{root}/2\.tar"):
        list(ImageNetLoader(opened, BATCH, on_error="skip", **SETTINGS))


@pytest.mark.slow
def test_object_storage_that_is_not_there_is_named(whole):
    assert isinstance(open_set(whole), TarSet)
    code = (
        "from apr_dali import ImageNetLoader; from apr_dali.data.folders import TarSet\n"
        f"source = TarSet(('s3://away/0.tar',), ({str(whole / '0.idx')!r},), ('even', 'odd'))\n"
        "list(ImageNetLoader(source, 4, image_size=16, threads=1))"
    )
    nobody = {
        "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
        "AWS_EC2_METADATA_DISABLED": "true",
        **dict.fromkeys(("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"), "none"),
        "AWS_REGION": "us-east-1",
    }
    result = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | nobody, capture_output=True, text=True, check=False
    )
    assert re.search(r"InputError: the tars cannot be read: .*away", result.stderr), result.stderr
