"""The third output: the number of each image."""

from pathlib import Path

import pytest
import torch
from helpers.gray_sets import BATCH, COUNT, numbers, small_set

from apr_dali import CifarLoader, ImageNetLoader


@pytest.mark.parametrize("aug", ["none", "apr-p"])
def test_the_number_of_each_image_comes_with_it(folder, aug):
    with ImageNetLoader(folder, BATCH, aug, threads=1, image_size=16, seed=5, with_index=True) as loader:
        for images, targets, index in loader:
            assert index.dtype == torch.int64
            assert len(images) == len(targets) == len(index)
            named = [int(Path(loader.files[number]).stem) for number in index]
            assert named[:: loader.batch_views] == numbers(images[:: loader.batch_views], loader)
            assert targets.tolist() == [number % 2 for number in named]
            assert all(
                len(set(named[n : n + loader.batch_views])) == 1 for n in range(0, len(named), loader.batch_views)
            )


@pytest.mark.parametrize("options", [{}, {"aug": "apr-p", "amplitude_labels": True}, {"aug": "augmix"}])
def test_the_number_of_each_small_image_comes_with_it(options):
    data = small_set()
    with CifarLoader(data, BATCH, threads=1, seed=5, with_index=True, **options) as loader:
        seen = []
        for images, targets, index in loader:
            assert index[:: loader.batch_views].tolist() == numbers(images[:: loader.batch_views], loader)
            own = targets if targets.ndim == 1 else targets[:, 0]
            assert own.tolist() == data.labels[index.numpy()].tolist()
            seen += index[:: loader.batch_views].tolist()
        assert sorted(seen) == list(range(COUNT))


@pytest.mark.filterwarnings("ignore:left out")
def test_the_number_is_that_of_what_stands_in_for_a_broken_image(folder, tmp_path):
    for path in folder.rglob("*.png"):
        (tmp_path / path.parent.name).mkdir(exist_ok=True)
        broken = path.stem in ("04", "06")
        (tmp_path / path.parent.name / path.name).write_bytes(b"broken" if broken else path.read_bytes())
    options = {"threads": 1, "image_size": 16, "on_error": "skip", "with_index": True}
    with ImageNetLoader(tmp_path, 1, **options) as loader:
        for images, targets, index in loader:
            named = [int(Path(loader.files[number]).stem) for number in index]
            assert named == numbers(images, loader)
            assert named[0] not in (4, 6)
            assert targets.tolist() == [named[0] % 2]
        assert len(loader.skipped) == 2
