"""WebDataset on object storage: DALI reads the tars from s3:// or gs:// by itself.

    export AWS_ACCESS_KEY_ID=... AWS_SECRET_ACCESS_KEY=... AWS_REGION=...
    export AWS_ENDPOINT_URL=http://127.0.0.1:9000        # for a server that is not Amazon's
    python examples/webdataset_s3.py s3://bucket/imagenet/train

classes.txt lies beside the tars or above them. Their indices are fetched, or made where there are none, and kept in the
cache folder. Needs the extra `remote`.
"""

from __future__ import annotations

import argparse
from typing import Any

from apr_dali import ImageNetLoader


def loader(address: str, batch_size: int, image_size: int, **options: Any) -> ImageNetLoader:
    """Training batches of the tars in a folder of object storage, or of a pattern such as s3://…/{000..146}.tar."""
    return ImageNetLoader(address, batch_size, "apr-sp", image_size=image_size, **options)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("address", help="s3://bucket/folder of the tars")
    with loader(parser.parse_args().address, 32, 64) as batches:
        for images, targets in batches:
            print(tuple(images.shape), targets[:: batches.batch_views].tolist())
