"""Hugging Face's parquet files as a source: the columns `image`, of bytes and path, and `label`."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from itertools import accumulate, groupby
from pathlib import Path
from typing import Any

import numpy as np

from apr_dali.data.listing import is_image
from apr_dali.data.prepare.catalogue import Item, Source, beyond, count_labels, names_by_wnid
from apr_dali.data.prepare.images import extension_of
from apr_dali.errors import InputError, install_command

_IMAGES, _LABELS = ("image", "img"), ("label", "fine_label")


def open_parquet(splits: dict[str, list[Path]]) -> Source:
    """The rows of the files of each split; of the images themselves, the first one is read.

    Classes are called by the WordNet numbers in the images' paths, as the files' ClassLabel has them, or by numbers.

    Raises InputError for files that are damaged, lack the columns, or hold labels that are no class.
    """
    found = {split: [item for path in paths for item in _rows(path)] for split, paths in splits.items()}
    empty = [split for split, items in found.items() if not items]
    if empty:
        raise InputError(f"{splits[empty[0]][0].parent} has no images for {empty[0]}: its parquet files have no rows")
    every = [item for items in found.values() for item in items]
    told = _class_names(next(iter(splits.values()))[0])
    count = len(told) or max(1, count_labels(found))
    wrong = beyond(found, count)
    if wrong is not None:
        raise InputError(f"{wrong.store}: row {wrong.at} has the label {wrong.label}: expected 0..{count - 1}")
    named = names_by_wnid(((item.label, item.name) for item in every), count)
    return Source("parquet files", named or told or tuple(map(str, range(count))), found, read_rows, streamed=True)


def read_rows(items: Sequence[Item]) -> Iterator[bytes]:
    """The images of rows, a row group in memory at a time: quick where the items are in the files' order."""
    for path, run in groupby(items, key=lambda item: item.store):
        file = _opened(path)
        ends = list(accumulate(file.metadata.row_group(n).num_rows for n in range(file.num_row_groups)))
        image, _ = _columns(path, file)
        loaded, column = -1, []
        for item in run:
            group = int(np.searchsorted(ends, item.at, side="right"))
            if group != loaded:
                loaded, column = group, _bytes(path, file, group, image)
            content = column[item.at - (ends[group] - file.metadata.row_group(group).num_rows)].as_py()
            if content is None:
                raise _without_bytes(path, item.at)
            yield content


def _without_bytes(path: str, row: int) -> InputError:
    return InputError(f"{path}: row {row} has no bytes of an image: save the set with them, or without such rows")


def _bytes(path: str, file: Any, group: int, image: str) -> Any:
    import pyarrow
    import pyarrow.compute

    try:
        table = file.read_row_group(group, columns=[f"{image}.bytes"])
    except (pyarrow.ArrowException, OSError) as error:
        raise InputError(f"{path}: its row group {group} cannot be read ({error}): fetch it again") from error
    return pyarrow.compute.struct_field(table[image], "bytes")


def _rows(path: Path) -> list[Item]:
    file = _opened(str(path))
    image, label = _columns(str(path), file)
    if not file.metadata.num_rows:
        return []
    table = file.read(columns=[f"{image}.path", label])
    paths, labels = table[image].to_pylist(), table[label].to_pylist()
    sizes = _sizes(file, image)
    missing = [row for row, number in enumerate(labels) if number is None]
    if missing:
        raise InputError(f"{path}: row {missing[0]} has no label")
    _refuse_missing(str(path), file, image)
    names = [os.path.basename(found["path"]) if found and found["path"] else "" for found in paths]
    if not all(map(is_image, names)):
        extension = extension_of(next(read_rows([Item(0, "", str(path), 0, 0)])))
        names = [
            name if is_image(name) else f"{name or f'{path.stem}_{row:06d}'}.{extension}"
            for row, name in enumerate(names)
        ]
    rows = zip(labels, names, sizes, strict=True)
    return [Item(number, name, str(path), row, size) for row, (number, name, size) in enumerate(rows)]


def _refuse_missing(path: str, file: Any, image: str) -> None:
    """Raise InputError for a row without bytes, by the counts that most files have; without, reading finds it."""
    start = 0
    for number, (group, column) in enumerate(_chunks(file, image)):
        if column.statistics is not None and column.statistics.null_count:
            content = _bytes(path, file, number, image)
            raise _without_bytes(path, start + content.is_null().to_pylist().index(True))
        start += group.num_rows


def _sizes(file: Any, image: str) -> list[int]:
    """About how many bytes each row's image has: an average of its row group."""
    sizes: list[int] = []
    for group, column in _chunks(file, image):
        sizes += [column.total_uncompressed_size // max(group.num_rows, 1)] * group.num_rows
    return sizes


def _chunks(file: Any, image: str) -> Iterator[tuple[Any, Any]]:
    """Each row group, and what the file says of the images' bytes in it."""
    for number in range(file.num_row_groups):
        group = file.metadata.row_group(number)
        columns = map(group.column, range(group.num_columns))
        yield group, next(one for one in columns if one.path_in_schema == f"{image}.bytes")


def _columns(path: str, file: Any) -> tuple[str, str]:
    """The names of the columns of images and labels."""
    import pyarrow

    schema = file.schema_arrow
    image = next((name for name in _IMAGES if name in schema.names), None)
    label = next((name for name in _LABELS if name in schema.names), None)
    kind = schema.field(image).type if image else None
    fields = {field.name for field in kind} if kind is not None and pyarrow.types.is_struct(kind) else set()
    if not {"bytes", "path"} <= fields or label is None or not pyarrow.types.is_integer(schema.field(label).type):
        told = ", ".join(f"{field.name}: {field.type}" for field in schema)
        raise InputError(
            f"{path} lacks the columns of a set of images: expected image, of bytes and path, and label, whole "
            f"numbers; got {told}"
        )
    assert image is not None
    return image, label


def _class_names(path: Path) -> tuple[str, ...]:
    """The names that the `datasets` library keeps of a ClassLabel; empty without."""
    file = _opened(str(path))
    _, label = _columns(str(path), file)
    try:
        told = json.loads((file.schema_arrow.metadata or {})[b"huggingface"])
        return tuple(told["info"]["features"][label]["names"])
    except (KeyError, TypeError, ValueError):
        return ()


def _opened(path: str) -> Any:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise InputError(f"parquet files need pyarrow: {install_command('parquet')}") from error
    try:
        return pyarrow.parquet.ParquetFile(path)
    except (pyarrow.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(
            f"{path} is truncated or no parquet file: it ends at byte {os.path.getsize(path)} ({reason}); fetch it "
            "again"
        ) from error
