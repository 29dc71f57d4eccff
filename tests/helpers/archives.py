"""Miniatures of the archives that people have: the same structure, few and small images."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from helpers.tar_files import add, pack
from PIL import Image

from apr_dali.data.prepare.count import Published

WNIDS = ("n01440764", "n01443537", "n02124075")
# The devkit numbers the classes in an order of its own.
IDS = {"n02124075": 1, "n01440764": 2, "n01443537": 3}
MINIATURE = Published("ILSVRC2012", 3, {"train": 12, "val": 6}, {"train": (4, 4), "val": (2, 2)})
"""What ILSVRC2012 would be if these were all of it."""


def encoded(seed: int, width: int = 24, height: int = 16, form: str = "JPEG", mode: str = "RGB", **options) -> bytes:
    """A file of noise."""
    buffer = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).convert(mode).save(buffer, form, **options)
    return buffer.getvalue()


def train_images(per_class: int = 4) -> dict[str, dict[str, bytes]]:
    """Files by class and name."""
    return {
        wnid: {f"{wnid}_{n}.JPEG": encoded(100 * label + n) for n in range(per_class)}
        for label, wnid in enumerate(WNIDS)
    }


def val_images(count: int = 6) -> dict[str, bytes]:
    """Files by name. The class of image 1, 2, … is WNIDS[0], WNIDS[1], … in turns."""
    return {f"ILSVRC2012_val_{n + 1:08d}.JPEG": encoded(1000 + n) for n in range(count)}


def val_classes(count: int = 6) -> list[str]:
    return [WNIDS[n % len(WNIDS)] for n in range(count)]


def official_train(path: Path, per_class: int = 4) -> Path:
    """ILSVRC2012_img_train.tar."""
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as outer:
        for wnid in reversed(WNIDS):
            inner = io.BytesIO()
            with tarfile.open(fileobj=inner, mode="w", format=tarfile.USTAR_FORMAT) as archive:
                for name, content in train_images(per_class)[wnid].items():
                    add(archive, name, content)
            add(outer, f"{wnid}.tar", inner.getvalue())
    return path


def official_val(path: Path, count: int = 6) -> Path:
    """ILSVRC2012_img_val.tar, whose files are in no order."""
    return pack(path, list(val_images(count).items())[::-1])


def devkit(folder: Path, count: int = 6, year: int = 2012, per_class: int = 4, packed: bool = True) -> Path:
    """ILSVRC2012_devkit_t12.tar.gz, or the folder in it."""
    from scipy.io import savemat

    data = folder / f"ILSVRC{year}_devkit_t12" / "data"
    data.mkdir(parents=True)
    fields = [f"ILSVRC{year}_ID", "WNID", "words", "gloss", "num_children", "children", "wordnet_height"]
    rows = [(IDS[wnid], wnid, "words", "gloss", 0, np.zeros((1, 0)), 0, per_class) for wnid in sorted(WNIDS)]
    rows.append((1001, "n00001740", "entity", "above all", 3, np.array([[1, 2, 3]]), 1, 0))
    synsets = np.array(rows, dtype=[(name, object) for name in (*fields, "num_train_images")]).reshape(-1, 1)
    savemat(data / "meta.mat", {"synsets": synsets})
    truth = "".join(f"{IDS[wnid]}\n" for wnid in val_classes(count))
    (data / f"ILSVRC{year}_validation_ground_truth.txt").write_text(truth)
    if not packed:
        return data.parent
    path = folder / f"ILSVRC{year}_devkit_t12.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        archive.add(data.parent, data.parent.name)
    for file in data.iterdir():
        file.unlink()
    data.rmdir()
    data.parent.rmdir()
    return path


def official(folder: Path) -> Path:
    """A folder of the archives and the devkit."""
    folder.mkdir(parents=True, exist_ok=True)
    official_train(folder / "ILSVRC2012_img_train.tar")
    official_val(folder / "ILSVRC2012_img_val.tar")
    devkit(folder)
    return folder


def kaggle(folder: Path) -> Path:
    """Kaggle's folders."""
    images = folder / "ILSVRC/Data/CLS-LOC"
    class_folders(images / "train", train_images())
    (images / "val").mkdir()
    rows = ["ImageId,PredictionString"]
    for (name, content), wnid in zip(val_images().items(), val_classes(), strict=True):
        (images / "val" / name).write_bytes(content)
        rows.append(f"{Path(name).stem},{wnid} 1 2 3 4 {wnid} 5 6 7 8 ")
    (images / "test").mkdir()
    (folder / "LOC_val_solution.csv").write_text("\n".join(rows) + "\n")
    return folder


def class_folders(folder: Path, images: dict[str, dict[str, bytes]]) -> Path:
    for name, files in images.items():
        for file, content in files.items():
            path = folder / name / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    return folder


def parquet(
    path: Path, rows: Sequence[tuple[str | None, bytes, int]], group: int = 3, names: Sequence[str] = ()
) -> Path:
    """A file as the `datasets` library writes it, with so many rows in a row group."""
    import json

    import pyarrow as pa
    import pyarrow.parquet as pq

    path.parent.mkdir(parents=True, exist_ok=True)
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    images = pa.array([{"bytes": content, "path": name} for name, content, _ in rows], kind)
    table = pa.table({"image": images, "label": pa.array([label for *_, label in rows], pa.int64())})
    if names:
        features = {"image": {"_type": "Image"}, "label": {"names": list(names), "_type": "ClassLabel"}}
        told = json.dumps({"info": {"features": features}})
        table = table.replace_schema_metadata({"huggingface": told})
    pq.write_table(table, path, row_group_size=group)
    return path


def hub(folder: Path) -> Path:
    """Parquet files of both splits, and a test split without labels, as the hub has ImageNet."""
    rows = [
        (f"{Path(name).stem}_{wnid}.JPEG", content, WNIDS.index(wnid))
        for wnid, files in train_images().items()
        for name, content in files.items()
    ]
    for n, part in enumerate((rows[:7], rows[7:])):
        parquet(folder / f"data/train-{n:05d}-of-00002.parquet", part, names=("tench", "goldfish", "cat"))
    val = zip(val_images().items(), val_classes(), strict=True)
    last = [(f"{Path(name).stem}_{wnid}.JPEG", content, WNIDS.index(wnid)) for (name, content), wnid in val]
    parquet(folder / "data/validation-00000-of-00001.parquet", last)
    parquet(folder / "data/test-00000-of-00001.parquet", [("a.JPEG", encoded(1), -1)])
    return folder


def timm_shards(folder: Path) -> Path:
    """Tars of .jpg, .cls and .json, as timm's imagenet-1k-wds has them."""
    samples = [
        (Path(name).stem, content, WNIDS.index(wnid))
        for wnid, files in train_images().items()
        for name, content in files.items()
    ]
    val = zip(val_images().items(), val_classes(), strict=True)
    parts = {
        "imagenet1k-train-0000": samples[::2],
        "imagenet1k-train-0001": samples[1::2],
        "imagenet1k-validation-00": [(Path(n).stem, content, WNIDS.index(wnid)) for (n, content), wnid in val],
    }
    for name, found in parts.items():
        members = [
            (f"{key}.{extension}", data)
            for key, content, label in found
            for extension, data in (("cls", b"%d" % label), ("jpg", content), ("json", b'{"label": %d}' % label))
        ]
        pack(folder / f"{name}.tar", members)
    return folder


def contents(folder: Path, split: str) -> dict[bytes, int]:
    """The images of a split that was written, by their bytes, with their labels, as a trainer's reader finds them."""
    from apr_dali.data.folders import ImageSet, open_set

    found = open_set(folder, split)
    if isinstance(found, ImageSet):
        return {Path(file).read_bytes(): int(label) for file, label in zip(found.files, found.labels, strict=True)}
    labels = dict(found.read_labels())
    images = {}
    for part in found.parts():
        with open(part.tar, "rb") as file:
            file.seek(part.offset)
            images[file.read(part.size)] = int(labels[part.name])
    return images


def expected(split: str) -> dict[bytes, int]:
    """What `contents` gives for the miniatures of ImageNet."""
    if split == "train":
        return {content: label for label, files in enumerate(train_images().values()) for content in files.values()}
    return {content: WNIDS.index(wnid) for content, wnid in zip(val_images().values(), val_classes(), strict=True)}


SOURCES = {
    "official": official,
    "kaggle": kaggle,
    "hub": hub,
    "timm": timm_shards,
}
"""Makers of what `prepare` takes, by kind."""
