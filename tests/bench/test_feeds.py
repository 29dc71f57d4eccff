"""What the rows run: the published code, methods on the GPU, and loaders with their options."""

from __future__ import annotations

from unittest.mock import Mock

import numpy as np
import pytest
import torch
from helpers.bench import normalized
from PIL import Image

from apr_dali import spectral
from apr_dali.bench import checks, feeds, measure, published_code, rows
from apr_dali.bench.images import Places
from apr_dali.bench.rows import Row, select
from apr_dali.data.folders import ImageSet
from apr_dali.recipes import CIFAR


class TestPublished:
    def test_pair_is_the_reference(self, crops):
        images = torch.from_numpy(crops(4, 32, 32)).permute(0, 3, 1, 2) / 255
        partner = torch.tensor([2, 0, 3, 1])
        expected = spectral.recombine(images.numpy(), images[partner].numpy())
        for function in (published_code.pair, published_code.pair_once):
            assert np.abs(function(images, partner).numpy() - expected).max() < 1e-5

    def test_its_workers_draw_differently(self, crops):
        picture = Image.fromarray(crops(1, 32, 32)[0])
        made = []
        for seed in (1, 2, 1):
            torch.manual_seed(seed)
            single = feeds.PublishedSingle()
            made.append(np.stack([np.asarray(single(picture)[0]) for _ in range(4)]))
        assert not np.array_equal(made[0], made[1])
        np.testing.assert_array_equal(made[0], made[2])


@pytest.mark.parametrize("aug", [row.aug for row in select(["torch-gpu/*/32"], gpu=True)])
def test_what_torch_does_on_the_gpu_is_right_on_the_cpu(aug, monkeypatch, crops):
    monkeypatch.setitem(rows._BATCH["gpu"], 32, 8)
    row, images = Row("torch-gpu", aug, 32), crops(8, 32, 32)
    finish = feeds.Finish(row, 2)
    change = feeds.OnDevice(row, finish, torch.device("cpu"))
    got, targets = change(torch.from_numpy(images).permute(0, 3, 1, 2).contiguous(), torch.arange(8) % 2)
    checks.check_batch(row, got, targets, classes=2)
    clean = normalized(images)
    if row.method in ("apr-p", "apr-sp"):
        views = got.double().numpy().reshape(8, 2, 3, 32, 32)
        checks.check_pair(row.name, views[:, 0], views[:, 1], CIFAR)
    if aug in ("none", "apr-p", "published-apr-p", "augmix"):
        torch.testing.assert_close(got[:: feeds.views_of(row)], clean)
    else:
        assert not torch.allclose(got[:: feeds.views_of(row)], clean)


@pytest.mark.parametrize(("way", "given"), [("dali-gpu", {"hw_decoder_load": 0.3}), ("dali-cpu", {})])
def test_the_decoders_share_reaches_loaders_and_graphs(way, given, monkeypatch, tmp_path):
    row, places = Row(way, "apr-s", 224), Places(None, str(tmp_path))
    made = []
    for module in (feeds, measure):
        monkeypatch.setattr(module, "photographs", lambda _: ImageSet(("a.jpg",), np.zeros(1, np.int64), ("a",)))
    monkeypatch.setattr(feeds, "ImageNetLoader", lambda *_, **options: made.append(options) or [])
    monkeypatch.setattr(measure.stages, "build", lambda _, __, graph, *___: made.append(vars(graph)) or Mock())
    feeds.open_feed(row, places, 1, 0.3)
    assert {name: value for name, value in made[0].items() if name == "hw_decoder_load"} == given
    monkeypatch.setattr(measure, "timed", lambda *_, **__: {})
    measure.measure_stage("operator", row, places, measure.Settings(1, 1.0, 1, 0.3))
    assert made[1]["hw_decoder_load"] == 0.3
