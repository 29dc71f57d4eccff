"""`apr-dali analyze tsne`: high-frequency amplitudes of clean, corrupted and out-of-distribution images."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from apr_dali.commands.arguments import named_paths, positive, seed
from apr_dali.errors import InputError

if TYPE_CHECKING:
    from apr_dali.data.small_corruptions import Images

_SHOWN = ("gaussian noise", "blur", "jpeg")
_CLEAN, _TILES = "clean", "photographs"
_DIGIT_SIZE = 32


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("--data", metavar="DIR", help="clean images: a folder, or SVHN or CIFAR (default: digits)")
    parser.add_argument(
        "--corrupted", nargs="+", metavar="NAME=PATH", help="corrupted ones (default: made of the clean ones)"
    )
    parser.add_argument("--ood", nargs="+", metavar="NAME=PATH", help="others (default: the built-in photographs)")
    parser.add_argument(
        "--size", type=positive, default=_DIGIT_SIZE, metavar="N", help="the middle N×N pixels, unscaled (%(default)s)"
    )
    parser.add_argument("--limit", type=positive, default=200, metavar="N", help="images of a set (%(default)s)")
    parser.add_argument("--cut", type=float, default=0.25, metavar="F", help="in cycles a pixel (%(default)s)")
    parser.add_argument("--seed", type=seed, default=0, help="of folds and t-SNE (%(default)s)")
    parser.add_argument("--output", default="runs/analyze-tsne", metavar="DIR", help="(default: %(default)s)")


def run(args: argparse.Namespace) -> None:
    """Write tsne.json and tsne-map.png."""
    import numpy as np

    from apr_dali.eval.analyses import separability
    from apr_dali.eval.session import write_record
    from apr_dali.runtime.distributed import start
    from apr_dali.runtime.files import make_output
    from apr_dali.runtime.text_table import table

    sets = _sets(args)
    for name, images in sets.items():
        if len(images) < separability.FEWEST:
            raise InputError(f"{name} has {len(images)} images: a probe needs {separability.FEWEST} or more")
    features = {name: separability.high_frequencies(images, args.cut) for name, images in sets.items()}
    clean = features[_CLEAN]
    aurocs = {
        # The n-th image of a corrupted set is, as a rule, the n-th clean one.
        name: separability.probe(clean, rows, args.seed, np.r_[: len(clean), : len(rows)])
        for name, rows in features.items()
        if name != _CLEAN
    }
    embedded = separability.embed(np.concatenate(list(features.values())), args.seed)
    ends = np.cumsum([len(rows) for rows in features.values()])
    points = dict(zip(features, np.split(embedded, ends[:-1]), strict=True))
    settings = {key: value for key, value in vars(args).items() if key not in ("run", "output")}
    result = {
        "images": {name: len(rows) for name, rows in features.items()},
        "frequencies": clean.shape[1],
        "auroc": aurocs,
        "points": {name: place.tolist() for name, place in points.items()},
    }
    picture = separability.tsne_picture(points, aurocs, args.cut)
    with start("cpu") as group:
        output = make_output(args.output)
        write_record(group, output, "tsne", settings, result, {"map": picture})
    print(table((f"against {_CLEAN}", "AUROC"), [(name, f"{auroc:.3f}") for name, auroc in aurocs.items()]))
    print(f"written: {output / 'tsne.json'}")


def _sets(args: argparse.Namespace) -> dict[str, Images]:
    """Name → uint8 (N, size, size, 3); the clean ones first."""
    from apr_dali.data.arrays import load_set
    from apr_dali.data.sample import tiles
    from apr_dali.data.sampling import evenly
    from apr_dali.data.small_corruptions import CORRUPTIONS

    if args.data is None and args.size != _DIGIT_SIZE:
        raise InputError(f"--size changes nothing for the digits, which have {_DIGIT_SIZE}×{_DIGIT_SIZE}: give --data")
    if args.data is None:
        digits = load_set("digits", "val").images
        clean = digits[evenly(len(digits), args.limit)]
    else:
        clean = _read(args.data, args.size, args.limit)
    sets = {_CLEAN: clean}
    if args.corrupted is None:
        sets |= {name: CORRUPTIONS[name][0](clean, CORRUPTIONS[name][1][1]) for name in _SHOWN}
    given = named_paths("--corrupted", args.corrupted or (), {*sets, _TILES})
    given |= named_paths("--ood", args.ood or (), {*sets, *given, _TILES})
    sets |= {name: _read(path, args.size, args.limit) for name, path in given.items()}
    if args.ood is None:
        sets[_TILES] = tiles(args.size, args.limit)
    return sets


def _read(path: str, size: int, limit: int) -> Images:
    """The middle of at most `limit` images, evenly taken and not scaled: that would change what is looked at."""
    import os

    import numpy as np

    from apr_dali.data.arrays import is_small_set, open_images
    from apr_dali.data.folders import images_below
    from apr_dali.data.image_file import open_image
    from apr_dali.data.sampling import evenly

    if is_small_set(path):
        images, _ = open_images(path)
        chosen = images[evenly(len(images), limit)]
        if size > chosen.shape[1]:
            raise InputError(f"{path} has images of {chosen.shape[1]}×{chosen.shape[2]} pixels, --size is {size}")
        start = (chosen.shape[1] - size) // 2
        return chosen[:, start : start + size, start : start + size]
    files = images_below(path) if os.path.isdir(path) else []
    if not files:
        raise InputError(f"{path} holds no image")
    found = []
    for n in evenly(len(files), limit):
        image = open_image(files[n])
        if min(image.size) < size:
            raise InputError(f"{files[n]} has {image.size[0]}×{image.size[1]} pixels, --size is {size}")
        left, top = ((side - size) // 2 for side in image.size)
        found.append(np.asarray(image.crop((left, top, left + size, top + size))))
    return np.stack(found)
