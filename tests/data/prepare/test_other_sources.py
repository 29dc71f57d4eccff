"""Sources beside ImageNet's own archives: parquet files, WebDataset's tars and CIFAR's archives."""

import sys
from io import BytesIO

import numpy as np
import pytest
from helpers import archives
from helpers.archives import encoded
from helpers.sources import refused
from helpers.tar_files import pack
from PIL import Image

from apr_dali.data.arrays import ArraySet
from apr_dali.data.prepare import small
from apr_dali.data.prepare.sources import open_source
from apr_dali.data.tars import Components
from apr_dali.errors import InputError

# ---- parquet files ---------------------------------------------------------------------------------------------------


def test_names_of_classes(tmp_path):
    rows = [(None, encoded(n, form="PNG"), n % 3) for n in range(6)]
    path = archives.parquet(tmp_path / "train-0.parquet", rows, names=("tench", "goldfish", "cat"))
    found = open_source(path)
    assert found.classes == ("tench", "goldfish", "cat")
    assert [item.name for item in found.splits["train"]][:2] == ["train-0_000000.png", "train-0_000001.png"]
    assert list(found.read(found.splits["train"])) == [content for _, content, _ in rows]
    # In any order, too.
    assert list(found.read(found.splits["train"][::-2])) == [content for _, content, _ in rows[::-2]]
    assert open_source(archives.parquet(tmp_path / "b/train.parquet", rows)).classes == ("0", "1", "2")


def test_parquet_without_the_columns(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    for n, table in enumerate(({"text": ["a"], "label": [1]}, {"image": [b"a"], "label": [1]})):
        path = tmp_path / f"{n}/train.parquet"
        path.parent.mkdir()
        pq.write_table(pa.table(table), path)
        refused(
            path, "lacks the columns of a set of images: expected image, of bytes and path, and label, whole numbers"
        )
    refused(tmp_path / "0/train.parquet", "got text: string, label: int64")
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    images = pa.array([{"bytes": None, "path": "a.jpg"}], kind)
    pq.write_table(pa.table({"image": images, "label": [0]}), path)
    refused(path, "row 0 has no bytes of an image: save the set with them")
    # Without the counts that say so it is found when it is read.
    pq.write_table(pa.table({"image": images, "label": [0]}), path, write_statistics=False)
    found = open_source(path)
    with pytest.raises(InputError, match="row 0 has no bytes of an image"):
        list(found.read(found.splits["train"]))
    pq.write_table(pa.table({"image": images, "label": pa.array([None], pa.int64())}), path)
    refused(path, "row 0 has no label")


@pytest.mark.parametrize("whole", [{"bytes": None, "path": "a.jpg"}, None])
def test_a_row_of_many_without_an_image(tmp_path, whole):
    """Not after hours of writing those before it."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    images = [{"bytes": encoded(n), "path": f"{n}.jpg"} for n in range(9)]
    images[7] = whole
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    table = pa.table({"image": pa.array(images, kind), "label": [0] * 9})
    pq.write_table(table, tmp_path / "train.parquet", row_group_size=4)
    refused(tmp_path, "train.parquet: row 7 has no bytes of an image")


def test_labels_that_are_no_class(tmp_path):
    path = archives.parquet(tmp_path / "train.parquet", [("a.jpg", encoded(1), 0), ("b.jpg", encoded(2), -1)])
    refused(path, "row 1 has the label -1: expected 0..0")
    # So many names would take up all of the memory.
    path = archives.parquet(tmp_path / "train.parquet", [("a.jpg", encoded(1), 0), ("b.jpg", encoded(2), 10**12)])
    refused(path, "row 1 has the label 1000000000000: expected 0..999999")
    archives.parquet(tmp_path / "b/train.parquet", [("a.jpg", encoded(1), 0), ("b.jpg", encoded(2), 1)])
    archives.parquet(tmp_path / "b/validation.parquet", [("a.jpg", encoded(1), 7)])
    refused(tmp_path / "b", "row 0 has the label 7: expected 0..1")
    refused(archives.parquet(tmp_path / "a/test.parquet", [("a.jpg", encoded(1), -1)]), "test files alone")


def test_truncated_parquet(tmp_path):
    path = archives.hub(tmp_path) / "data/train-00001-of-00002.parquet"
    size = path.stat().st_size // 2
    path.write_bytes(path.read_bytes()[:size])
    refused(tmp_path, f"{path} is truncated or no parquet file: it ends at byte {size}")


def test_parquet_without_pyarrow(tmp_path, monkeypatch):
    source = archives.hub(tmp_path)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    refused(source, "parquet files need pyarrow: pip install")


# ---- WebDataset's tars -----------------------------------------------------------------------------------------------


def test_samples_without_an_image_or_a_label_are_left_out(tmp_path):
    image = encoded(1)
    members = [("a.jpg", image), ("a.cls", b"1"), ("b.jpg", image), ("c.cls", b"0"), ("d.jpg", image), ("d.cls", b"x")]
    pack(tmp_path / "train-0.tar", [*members, ("e.jpeg", image), ("e.cls", b"0")])
    found = open_source(tmp_path)
    assert [(item.label, item.name) for item in found.splits["train"]] == [(1, "a.jpg"), (0, "e.jpeg")]
    assert found.classes == ("0", "1")
    assert [name.rpartition("/")[2] for name, _ in found.left_out] == ["b", "c", "d"]
    (tmp_path / "classes.txt").write_text("cat\ndog\n")
    assert open_source(tmp_path).classes == ("cat", "dog")


def test_labels_of_tars_that_training_images_lack(tmp_path):
    pack(tmp_path / "train-0.tar", [("a.jpg", encoded(1)), ("a.cls", b"1")])
    pack(tmp_path / "val-0.tar", [("b.jpg", encoded(1)), ("b.cls", b"7")])
    refused(tmp_path, "b.jpg has the label 7, and the training images 0..1: put a classes.txt beside the tars")
    (tmp_path / "classes.txt").write_text("\n".join("abcdefgh"))
    assert open_source(tmp_path).classes == tuple("abcdefgh")


def test_components(tmp_path):
    members = [("a.0.png", encoded(1)), ("a.1.png", encoded(2)), ("a.id", b"0")]
    pack(tmp_path / "train-0.tar", members)
    refused(tmp_path, "has several images: 0.png, 1.png; say which one to take (--tar-image")
    refused(tmp_path, "no sample of its tars has an image and a label", components=Components("1.png"))
    found = open_source(tmp_path, components=Components("1.png", "id"))
    assert list(found.read(found.splits["train"])) == [encoded(2)]


def test_a_truncated_tar(tmp_path):
    path = archives.timm_shards(tmp_path) / "imagenet1k-train-0001.tar"
    path.write_bytes(path.read_bytes()[:3000])
    refused(tmp_path, f"{path} is truncated, or no tar: it ends at byte 3000")


# ---- CIFAR -----------------------------------------------------------------------------------------------------------


def test_cifar(tmp_path, monkeypatch):
    (tmp_path / "cifar-10-batches-py").mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)
    names = tuple("abcdefghij")
    monkeypatch.setattr(small, "load_set", lambda *_: ArraySet(pixels, np.array([3, 1, 1, 9]), names))
    small._load.cache_clear()
    found = open_source(tmp_path)
    assert found.classes == names
    assert [item.label for item in found.splits["val"]] == [3, 1, 1, 9]
    made = [np.asarray(Image.open(BytesIO(content))) for content in found.read(found.splits["train"][::-1])]
    assert (np.stack(made) == pixels[::-1]).all()
    small._load.cache_clear()
