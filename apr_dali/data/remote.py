"""Object storage, `s3://` and `gs://`: what lies there, and ranges of it. DALI's readers open the same addresses.

The credentials are those of the environment. AWS_ENDPOINT_URL leads to another server than Amazon's, as it does for
DALI; so do DALI_GCS_ENDPOINT_URL and DALI_GCS_ANONYMOUS for Google's.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from apr_dali.errors import InputError, first_line, install_command

SCHEMES = ("s3", "gs")
_ENVIRONMENT = ("AWS_ENDPOINT_URL", "DALI_GCS_ENDPOINT_URL", "DALI_GCS_ANONYMOUS")
_RETRIES: Any = {"max_retries": 3}
_ASKED = ("/latest/api/token", "/latest/meta-data", "/computeMetadata/")
"""Where a machine of the cloud is asked for its credentials, which is done where the environment has none."""
_CREDENTIALS = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS, or DALI_GCS_ANONYMOUS=1 for a public bucket,",
}
_BUFFER = 4 << 20
"""Bytes that a request for the members of a tar asks for: a photograph's size takes about as long to arrive."""


class State(NamedTuple):
    """Of an object: its bytes, and what changes when it is written anew."""

    size: int
    tag: str


def is_remote(path: object) -> bool:
    """Whether it is the address of something that is not on this machine's file systems."""
    return isinstance(path, str) and "://" in path


def check_address(address: str) -> None:
    """Raise InputError for the address of a server that neither this module nor DALI reads from."""
    scheme, _, rest = address.partition("://")
    if scheme not in SCHEMES or not rest.partition("/")[0]:
        raise InputError(f"{address}: expected s3://BUCKET/FOLDER or gs://BUCKET/FOLDER")


def local_path(path: str | Path) -> Path:
    """An absolute path. Raises InputError for an address, of which a folder of its letters would be made."""
    if is_remote(path):
        raise InputError(
            f"{path} is an address: expected a path on this machine; copy the files from or to there. Trainers, "
            "loaders and check-data read tars at an address as they are"
        )
    return Path(path).absolute()


def join(folder: str, name: str) -> str:
    """The address of something in a folder."""
    return f"{folder.rstrip('/')}/{name}"


def parent(address: str) -> str:
    """The address of the folder above; of a bucket, the bucket."""
    scheme, _, rest = address.rstrip("/").partition("://")
    return f"{scheme}://{rest.rpartition('/')[0] or rest}"


def listing(folder: str) -> tuple[dict[str, State], list[str]]:
    """The files in a folder with their states, and the names of the folders in it, sorted; both empty if there is none.

    Raises InputError if it cannot be listed.
    """
    with _named(folder) as (store, path):
        prefix = f"{path.rstrip('/')}/" if path else ""
        found = store.list_with_delimiter(prefix or None)
    files = {_last(entry["path"]): State(entry["size"], str(entry["e_tag"])) for entry in found["objects"]}
    return dict(sorted(files.items())), sorted(map(_last, found["common_prefixes"]))


def state(address: str) -> State | None:
    """The state of an object, None if it is not there. Raises InputError if that cannot be found out."""
    with _named(address) as (store, path):
        try:
            found = store.head(path)
        except FileNotFoundError:
            return None
    return State(found["size"], str(found["e_tag"]))


def read(address: str) -> bytes:
    """All bytes of a small object. Raises InputError if it cannot be read."""
    with _named(address) as (store, path):
        return bytes(store.get(path).bytes())


def read_ranges(address: str, places: Sequence[tuple[int, int]]) -> list[bytes]:
    """So many bytes from each offset, (offset, size), of an object. Raises InputError if they cannot be read."""
    with _named(address) as (store, path):
        # Nothing is no range.
        some = [(start, size) for start, size in places if size]
        starts, sizes = [start for start, _ in some], [size for _, size in some]
        found = iter(store.get_ranges(path, starts=starts, lengths=sizes) if some else [])
        return [bytes(next(found)) if size else b"" for _, size in places]


def open_object(address: str) -> io.BufferedReader:
    """An object as a file that is read in large pieces. Raises InputError if it is not there."""
    found = state(address)
    if found is None:
        raise InputError(f"{address} is not there")
    return io.BufferedReader(_Object(address, found.size), _BUFFER)


class _Object(io.RawIOBase):
    def __init__(self, address: str, size: int) -> None:
        self._address, self._size, self._at = address, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        return self._at

    def readinto(self, buffer: Any) -> int:
        count = max(min(len(buffer), self._size - self._at), 0)
        if count:
            buffer[:count] = read_ranges(self._address, [(self._at, count)])[0]
        self._at += count
        return count


@contextmanager
def _named(address: str) -> Iterator[tuple[Any, str]]:
    """The store and the path in it; what goes wrong with them is said of the address."""
    check_address(address)
    scheme, _, rest = address.partition("://")
    bucket, _, path = rest.partition("/")
    try:
        from obstore.exceptions import BaseError
    except ImportError:
        raise InputError(f"{address} needs obstore: {install_command('remote')}") from None
    try:
        yield _store(f"{scheme}://{bucket}", tuple(os.environ.get(name, "") for name in _ENVIRONMENT)), path
    except (BaseError, OSError) as error:
        why = first_line(error)
        if any(place in why for place in _ASKED):
            why = f"there are no credentials for it; set {_CREDENTIALS[scheme]} in the environment ({why})"
        raise InputError(f"{address} cannot be read: {why}") from error


@lru_cache
def _store(bucket: str, environment: tuple[str, ...]) -> Any:
    from obstore.store import from_url

    amazon, google, anonymous = environment
    config: Any = {}
    if bucket.startswith("gs:"):
        config = {"base_url": google} if google else {}
        config |= {"skip_signature": True} if anonymous not in ("", "0") else {}
    endpoint = google if bucket.startswith("gs:") else amazon
    plain: Any = {"allow_http": True} if endpoint.startswith("http://") else {}
    return from_url(bucket, config=config or None, client_options=plain, retry_config=_RETRIES)


def _last(path: str) -> str:
    return path.rpartition("/")[2]
