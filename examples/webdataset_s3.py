"""WebDataset on object storage: DALI reads the tars from s3:// by itself.

    export AWS_ACCESS_KEY_ID=... AWS_SECRET_ACCESS_KEY=... AWS_REGION=...
    export AWS_ENDPOINT_URL=http://127.0.0.1:9000        # for a server that is not Amazon's
    python examples/webdataset_s3.py s3://bucket/imagenet/train --indices /path/indices

The folder of indices is small and local: one NAME.idx per tar, made with `wds2idx`, and classes.txt.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from apr_dali import ImageNetLoader
from apr_dali.data.folders import TarSet, read_classes


def open_s3(prefix: str, indices: Path) -> TarSet:
    """The tars below `prefix` that have an index in the folder."""
    found = sorted(indices.glob("*.idx"))
    return TarSet(
        tars=tuple(f"{prefix.rstrip('/')}/{path.stem}.tar" for path in found),
        indices=tuple(str(path.absolute()) for path in found),
        classes=read_classes(indices / "classes.txt"),
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("prefix", help="s3://bucket/folder of the tars")
    parser.add_argument("--indices", type=Path, required=True, help="local folder of the indices and classes.txt")
    options = parser.parse_args()
    with ImageNetLoader(open_s3(options.prefix, options.indices), 32, "apr-sp", image_size=64) as loader:
        for images, targets in loader:
            print(tuple(images.shape), targets[:: loader.views].tolist())
