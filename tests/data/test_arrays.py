"""Small images: the CIFAR archives and what can be wrong with them, digits, folders."""

import hashlib
import io
import pickle
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from apr_dali.data import arrays
from apr_dali.data.arrays import open_images
from apr_dali.errors import InputError

NAMES = {"cifar10": ["plane", "car"], "cifar100": ["apple", "bear"]}


def pickled(content) -> tuple[bytes, str]:
    raw = pickle.dumps(content)
    return raw, hashlib.md5(raw).hexdigest()


def made(dataset: str, root: Path, monkeypatch) -> np.ndarray:
    """A small archive in the published format, extracted and packed; gives the training images (N, 32, 32, 3)."""
    facts = arrays.archive(dataset)
    rng = np.random.default_rng(0)
    planes = rng.integers(0, 256, (6, 3 * 32 * 32), dtype=np.uint8)
    files, parts = {}, {}
    for split, pieces in (("train", [planes[:2], planes[2:4]]), ("val", [planes[4:]])):
        parts[split] = []
        for number, piece in enumerate(pieces):
            name = f"{split}_{number}"
            files[name], md5 = pickled({"data": piece, facts.labels_key: [1, 0], "unused": "x"})
            parts[split].append((name, md5))
    files["meta"], md5 = pickled({facts.names_key: NAMES[dataset]})
    small = replace(facts, parts=parts, meta=("meta", md5))
    published = arrays.archive
    monkeypatch.setattr(arrays, "archive", lambda name: small if name == dataset else published(name))
    (root / facts.folder).mkdir()
    with tarfile.open(root / facts.filename, "w:gz") as tar:
        for name, raw in files.items():
            (root / facts.folder / name).write_bytes(raw)
            member = tarfile.TarInfo(f"{facts.folder}/{name}")
            member.size = len(raw)
            tar.addfile(member, io.BytesIO(raw))
    return planes[:4].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)


def remove(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()


@pytest.mark.parametrize("packed", [False, True], ids=["extracted", "packed"])
@pytest.mark.parametrize("dataset", ["cifar10", "cifar100"])
def test_cifar_is_read(dataset, packed, tmp_path, monkeypatch):
    expected = made(dataset, tmp_path, monkeypatch)
    facts = arrays.archive(dataset)
    if packed:
        remove(tmp_path / facts.folder)
    else:
        (tmp_path / facts.filename).unlink()
    train, val = (arrays.load_set(dataset, split, tmp_path) for split in ("train", "val"))
    np.testing.assert_array_equal(train.images, expected)
    assert (train.labels.tolist(), val.labels.tolist()) == ([1, 0, 1, 0], [1, 0])
    assert train.classes == tuple(NAMES[dataset])
    assert len(val) == 2


@pytest.mark.parametrize("given", ["parent", "folder", "renamed folder", ".tar.gz"])
@pytest.mark.parametrize("dataset", ["cifar10", "cifar100"])
def test_an_archive_is_found_where_it_lies(dataset, given, tmp_path, monkeypatch):
    expected = made(dataset, tmp_path, monkeypatch)
    small = arrays.archive(dataset)
    (tmp_path / small.folder).rename(tmp_path / "mine")
    path = {
        "parent": tmp_path,
        "folder": tmp_path / small.folder,
        "renamed folder": tmp_path / "mine",
        ".tar.gz": tmp_path / small.filename,
    }[given]
    if given == "folder":
        (tmp_path / "mine").rename(path)
    np.testing.assert_array_equal(arrays.load_set(dataset, "train", path).images, expected)
    images, labels = open_images(path)
    np.testing.assert_array_equal(images, arrays.load_set(dataset, "val", tmp_path).images)
    assert labels.tolist() == [1, 0]
    arrays.download(dataset, path)


def test_published_facts():
    # From the page of the data set, https://www.cs.toronto.edu/~kriz/cifar.html.
    assert arrays.archive("cifar10").md5 == "c58f30108f718f92721af3b95e74349a"
    assert arrays.archive("cifar100").md5 == "eb9058c3a382ffc7106e4002c42a8d85"
    assert arrays.archive("cifar10").filename == "cifar-10-python.tar.gz"
    assert [len(arrays.archive("cifar10").parts[split]) for split in ("train", "val")] == [5, 1]


def test_missing_archive_says_where_to_put_it(tmp_path):
    with pytest.raises(InputError, match=r"--download.*put it at .*cifar-10-python\.tar\.gz"):
        arrays.load_set("cifar10", "train", tmp_path)


class _Evil:
    def __reduce__(self):
        return (Path("evil").mkdir, ())


@pytest.mark.parametrize("change", ["truncated", "another", "evil"])
def test_a_file_that_is_not_the_published_one_is_not_unpickled(change, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made("cifar10", tmp_path, monkeypatch)
    path = tmp_path / arrays.archive("cifar10").folder / "train_1"
    raw = path.read_bytes()
    path.write_bytes({"truncated": raw[:-100], "another": raw[:-1] + b"x", "evil": pickle.dumps(_Evil())}[change])
    with pytest.raises(InputError, match=r"train_1 is not the published file or is truncated: expected the MD5"):
        arrays.load_set("cifar10", "train", tmp_path)
    assert not (tmp_path / "evil").exists()
    arrays.load_set("cifar10", "val", tmp_path)


@pytest.mark.parametrize("content", ["truncated", "foreign"])
def test_a_broken_archive_is_named(content, tmp_path, monkeypatch):
    made("cifar10", tmp_path, monkeypatch)
    facts = arrays.archive("cifar10")
    remove(tmp_path / facts.folder)
    path = tmp_path / facts.filename
    path.write_bytes(path.read_bytes()[:2000] if content == "truncated" else b"<html>")
    told = rf"tar\.gz, which ends at byte {path.stat().st_size}, cannot be read .*fetch it again"
    with pytest.raises(InputError, match=told):
        arrays.load_set("cifar10", "train", tmp_path)


def test_a_file_missing_from_the_extracted_folder_is_named(tmp_path, monkeypatch):
    made("cifar10", tmp_path, monkeypatch)
    (tmp_path / arrays.archive("cifar10").folder / "meta").unlink()
    with pytest.raises(InputError, match=r"meta cannot be read \(No such file"):
        arrays.load_set("cifar10", "val", tmp_path)


def test_two_archives_in_one_folder_are_no_set(tmp_path):
    for dataset in ("cifar10", "cifar100"):
        (tmp_path / arrays.archive(dataset).folder).mkdir()
    with pytest.raises(InputError, match=r"holds cifar10 and cifar100: give the folder or the \.tar\.gz of one"):
        open_images(tmp_path)
    # Of an empty folder nothing is passed on that another library advises.
    with pytest.raises(InputError, match=r"test_batch cannot be read \(No such file.*extract the archive again"):
        open_images(tmp_path / "cifar-10-batches-py")
    (tmp_path / "notes.txt").touch()
    with pytest.raises(InputError, match=r"notes\.txt is no set of 32×32 images: expected a folder"):
        open_images(tmp_path / "notes.txt")


def test_digits_by_their_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    images, labels = open_images("digits")
    expected = arrays.load_set("digits", "val")
    np.testing.assert_array_equal(images, expected.images)
    np.testing.assert_array_equal(labels, expected.labels)
    (tmp_path / "digits").mkdir()
    with pytest.raises(InputError, match="holds no image"):
        open_images("digits")


def test_a_refused_download_says_what_to_do(tmp_path, monkeypatch):
    from torchvision.datasets import utils

    def refuse(*_):
        raise OSError("network is unreachable")

    monkeypatch.setattr(utils, "download_url", refuse)
    with pytest.raises(InputError, match=r"network is unreachable.*put it at .*cifar-100-python\.tar\.gz"):
        arrays.download("cifar100", tmp_path)
    (tmp_path / "cifar-100-python").mkdir()
    arrays.download("cifar100", tmp_path)


def test_digits_are_split_once_and_for_all():
    train, val = (arrays.load_set("digits", split) for split in ("train", "val"))
    assert (len(train), len(val)) == (1442, 355)
    assert train.images.shape[1:] == (32, 32, 3)
    assert (train.images == train.images[..., :1]).all(), "gray"
    assert (train.images.min(), train.images.max()) == (0, 255)
    together = np.concatenate([train.images, val.images]).reshape(1797, -1)
    assert len(np.unique(together, axis=0)) == 1797, "no image in both"
    for part in (train, val):
        counts = np.bincount(part.labels)
        assert counts.min() > 0.9 * counts.max()
    # What the split is, pinned: results on digits are compared between machines and years.
    assert train.labels[:10].tolist() == list(range(10))
    assert hashlib.md5(val.labels.tobytes()).hexdigest() == "cb7c111fdbd6495a1c5dda9c5a6f11f6"


def test_a_folder_is_scaled_to_one_size(tmp_path):
    for split, name, size in (
        ("train", "a", (20, 30)),
        ("train", "b", (16, 16)),
        ("val", "a", (8, 8)),
        ("val", "b", (9, 9)),
    ):
        (tmp_path / split / name).mkdir(parents=True)
        Image.new("RGB", size, (10, 200, 30)).save(tmp_path / split / name / "x.png")
    train = arrays.load_set("folder", "train", tmp_path, image_size=16)
    assert train.images.shape == (2, 16, 16, 3)
    assert (train.images == (10, 200, 30)).all()
    assert (train.labels.tolist(), train.classes) == ([0, 1], ("a", "b"))
    with pytest.raises(InputError, match="c"):
        arrays.load_set("folder", "val", tmp_path, classes=("a", "c"))
    known = {"classes": ("0", "a", "b"), "allow_missing_classes": True}
    assert arrays.load_set("folder", "val", tmp_path, **known).labels.tolist() == [1, 2]
    (tmp_path / "train" / "a" / "bad.png").write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"bad\.png cannot be decoded"):
        arrays.load_set("folder", "train", tmp_path)


@pytest.mark.parametrize(("given", "message"), [
    (("mnist", "train"), "dataset must be one of cifar10, cifar100, digits, folder"),
    (("digits", "test"), "split must be one of train, val"),
    (("folder", "train"), "needs --data DIR"),
])  # fmt: skip
def test_wrong_arguments_are_refused(given, message):
    with pytest.raises(InputError, match=message):
        arrays.load_set(*given)


def test_an_array_set_checks_its_arrays():
    images = np.zeros((2, 4, 4, 3), np.uint8)
    for labels, message in ((np.zeros(2), "float64"), ([0, 0], "list"), (np.zeros(2, bool), "bool")):
        with pytest.raises(InputError, match=f"labels must be an array of integers, got {message}"):
            arrays.ArraySet(images, labels, ("a",))
    with pytest.raises(ValueError, match=r"uint8 \(N, H, W, 3\), got float64"):
        arrays.ArraySet(images.astype(float), np.zeros(2, np.int64), ("a",))
    with pytest.raises(ValueError, match=r"labels must have the shape \(2,\), got \(3,\)"):
        arrays.ArraySet(images, np.zeros(3, np.int64), ("a",))
    with pytest.raises(ValueError, match=r"labels must be in 0\.\.0, got 0 to 1"):
        arrays.ArraySet(images, np.array([0, 1]), ("a",))
