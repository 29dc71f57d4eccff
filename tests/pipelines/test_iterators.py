"""DALI's own ways to PyTorch around graphs with our operators: its iterators with their policies, and its proxy."""

from __future__ import annotations

from math import ceil

import numpy as np
import pytest
import torch
from helpers.loaders import STEP, write_flat
from nvidia.dali import fn, pipeline_def
from nvidia.dali.plugin.base_iterator import LastBatchPolicy
from nvidia.dali.plugin.pytorch import DALIClassificationIterator
from torch.utils.data import Dataset

from apr_dali.pipelines.operators import apr_pair, apr_single

BATCH, COUNT, SIZE, EPOCHS = 4, 10, 16, 3


@pytest.fixture
def folder(tmp_path):
    return write_flat(tmp_path, COUNT)


def augmented(encoded, views: str):
    images = apr_single(fn.resize(fn.decoders.image(encoded), size=(SIZE, SIZE)))
    return apr_pair(images, views=views, in_scale=1 / 255)


@pipeline_def(batch_size=BATCH, num_threads=1, device_id=None, seed=4)
def read_by_dali(folder, views: str, pad: bool):
    encoded, labels = fn.readers.file(file_root=str(folder), name="Reader", pad_last_batch=pad)
    return augmented(encoded, views), labels


# Of 10 images in batches of 4.
ROWS = {LastBatchPolicy.PARTIAL: [4, 4, 2], LastBatchPolicy.FILL: [4, 4, 4], LastBatchPolicy.DROP: [4, 4]}


@pytest.mark.parametrize("policy", ROWS, ids=lambda policy: policy.name)
@pytest.mark.parametrize("views", ["both", "mixed"])
def test_each_policy_gives_the_operators_images(folder, calls, views, policy):
    made = read_by_dali(folder, views, pad=True)
    iterator = DALIClassificationIterator(made, reader_name="Reader", last_batch_policy=policy, auto_reset=True)
    assert iterator.size == COUNT
    seen = []
    for _ in range(EPOCHS):
        seen += [(out["data"], out["label"]) for (out,) in iterator]
    assert [len(images) for images, _ in seen] == EPOCHS * ROWS[policy]
    assert [len(labels) for _, labels in seen] == EPOCHS * ROWS[policy]
    results = [call[-1] for call in calls if call[-1].dtype == np.float32]
    # The pipeline is ahead of the iterator; one that drops the last batch has run it.
    results = [result for n, result in enumerate(results) if policy is not LastBatchPolicy.DROP or n % 3 < 2]
    views_seen = set()
    for (images, _), result in zip(seen, results, strict=False):
        given = images if views == "mixed" else images.squeeze(1)
        views_seen.add(given.ndim)
        np.testing.assert_array_equal(given.numpy(), result[: len(images)])
    assert views_seen == ({4} if views == "mixed" else {4, 5}), "both batches with two views and with one"
    expected = [label for label in (0, 1) for _ in range(COUNT // 2)]  # in the order of the folders
    first = torch.cat([labels for _, labels in seen[: len(ROWS[policy])]]).flatten().tolist()
    assert first[:COUNT] == expected[: len(first)]


def test_checkpoints_of_the_iterator_go_on_with_the_draws(folder):
    def iterator_of(**options):
        made = read_by_dali(folder, "mixed", pad=True, enable_checkpointing=True, **options)
        return DALIClassificationIterator(made, reader_name="Reader", last_batch_policy=LastBatchPolicy.PARTIAL)

    iterator = iterator_of()
    first = next(iterator)[0]["data"]
    (checkpoint,) = iterator.checkpoints()
    expected = [out["data"] for (out,) in iterator]
    found = [out["data"] for (out,) in iterator_of(checkpoint=checkpoint)]
    assert len(found) == 2
    assert all(torch.equal(*pair) for pair in zip(found, expected, strict=True))
    assert not torch.equal(found[0], first)


class Files(Dataset):
    """The bytes of files and their numbers, as a torch Dataset gives them to DALI's proxy."""

    def __init__(self, paths, change) -> None:
        self.paths, self.change = paths, change

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int):
        return self.change(np.fromfile(self.paths[index], np.uint8)), index


@pipeline_def(batch_size=BATCH, num_threads=1, device_id=None, seed=1, prefetch_queue_depth=2)
def fed():
    return augmented(fn.external_source(name="encoded", no_copy=True), "mixed")


@pytest.mark.slow  # DALI's server looks every five seconds whether it should stop
@pytest.mark.usefixtures("forks")
def test_the_proxy_gives_the_operators_images_to_the_right_rows(folder, calls):
    proxy = pytest.importorskip("nvidia.dali.plugin.pytorch.experimental.proxy")
    paths = sorted(folder.rglob("*.jpg"), key=lambda path: path.stem)
    with proxy.DALIServer(fed(), deterministic=True) as server:
        # Its callable cannot be pickled, and another test may have left another way to start processes.
        files = Files(paths, server.proxy)
        loader = proxy.DataLoader(server, files, BATCH, num_workers=1, multiprocessing_context="fork")
        seen = list(loader)
    assert [numbers.tolist() for _, numbers in seen] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    before = [call[0] for call in calls if call[0].dtype == np.uint8 and call[-1].dtype == np.uint8]
    after = [call[-1] for call in calls if call[-1].dtype == np.float32]
    assert len(before) == len(after) == len(seen) == ceil(COUNT / BATCH)
    for (images, numbers), levels, result in zip(seen, before, after, strict=True):
        assert np.round(levels.mean((1, 2, 3)) / STEP).tolist() == numbers.tolist()
        np.testing.assert_array_equal(images.numpy(), result)
