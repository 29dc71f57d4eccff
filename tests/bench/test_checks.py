"""What a row gives is checked against the reference before anything is timed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers.bench import normalized

from apr_dali import pillow_ops, spectral
from apr_dali.bench import checks, feeds
from apr_dali.bench.images import Places
from apr_dali.bench.rows import Row
from apr_dali.draws import SingleDraws
from apr_dali.recipes import CIFAR, IMAGENET

SMALL = Row("dali-cpu", "none", 32)


class TestCheckBatch:
    @pytest.fixture
    def batch(self, crops) -> tuple[torch.Tensor, torch.Tensor]:
        return normalized(crops(SMALL.batch_size, 32, 32)), torch.arange(SMALL.batch_size) % 2

    def test_a_right_batch_passes(self, batch):
        checks.check_batch(SMALL, *batch, classes=2)

    @pytest.mark.parametrize(
        ("spoil", "says"),
        [
            (lambda x, y: (x[:-1], y), "images must be float32"),
            (lambda x, y: (x.double(), y), "images must be float32"),
            (lambda x, y: (x, y.float()), "targets must be int64"),
            (lambda x, y: (x, y + 1), r"targets must be in 0\.\.1"),
            (lambda x, y: (x * torch.where(torch.arange(32) == 5, torch.nan, 1.0), y), "not finite"),
            (lambda x, y: (x * 1.1, y), "gray levels must be in"),
            (lambda x, y: (x * 0.99, y), "whole gray levels"),
            (lambda x, y: (x[:1].expand_as(x), y), "all alike"),
        ],
    )
    def test_a_wrong_batch_is_refused(self, batch, spoil, says):
        with pytest.raises(checks.WrongOutputError, match=says):
            checks.check_batch(SMALL, *spoil(*batch), classes=2)

    def test_soft_targets(self, batch):
        row, images = Row("dali-cpu", "mixup", 32), batch[0]
        soft = torch.full((len(images), 2), 0.5)
        checks.check_batch(row, images * 0.5 + images.flip(0) * 0.5, soft, classes=2)
        with pytest.raises(checks.WrongOutputError, match="sum to 1"):
            checks.check_batch(row, images, soft * 1.1, classes=2)
        with pytest.raises(checks.WrongOutputError, match="targets must be float32"):
            checks.check_batch(row, images, batch[1], classes=2)


@pytest.mark.parametrize("recipe", [IMAGENET, CIFAR], ids=["imagenet", "cifar"])
class TestCheckPair:
    def views(self, crops, recipe) -> tuple[np.ndarray, np.ndarray]:
        clean = normalized(crops(8, 32, 32), recipe).double().numpy()
        partner = np.roll(np.arange(8), 3)
        if recipe.pair_after_normalise:
            return clean, spectral.recombine(clean, clean[partner])
        mean, std = (np.array(value).reshape(3, 1, 1) for value in (recipe.mean, recipe.std))
        raw = clean * std + mean
        return clean, (spectral.recombine(raw, raw[partner]) - mean) / std

    def test_the_reference_passes(self, crops, recipe):
        checks.check_pair("row", *self.views(crops, recipe), recipe)

    def test_unmixed_views_are_refused(self, crops, recipe):
        clean, _ = self.views(crops, recipe)
        with pytest.raises(checks.WrongOutputError, match="not those of other images"):
            checks.check_pair("row", clean, clean, recipe)

    def test_the_phase_of_another_is_refused(self, crops, recipe):
        clean, mixed = self.views(crops, recipe)
        with pytest.raises(checks.WrongOutputError, match="differs from the reference"):
            checks.check_pair("row", clean, mixed[::-1].copy(), recipe)

    def test_a_small_error_is_refused(self, crops, recipe):
        clean, mixed = self.views(crops, recipe)
        with pytest.raises(checks.WrongOutputError, match="differs from the reference"):
            checks.check_pair("row", clean, mixed * 1.001, recipe)


class TestCheckSingle:
    def test_neighbors_pass_and_others_are_refused(self, crops):
        images, draws = crops(8, 32, 32), SingleDraws.sample(8, 32, 32, seed=2)
        right = pillow_ops.single(images, draws)
        checks.check_single("row", images, draws, right)
        checks.check_single("row", images, draws, right + np.uint8(1))  # 255 + 1 is 0, its neighbor
        with pytest.raises(checks.WrongOutputError, match="by 2 gray levels"):
            checks.check_single("row", images, draws, right + np.uint8(2))
        with pytest.raises(checks.WrongOutputError, match="gray levels"):
            checks.check_single("row", images, SingleDraws.sample(8, 32, 32, seed=3), right)

    @pytest.mark.parametrize("way", ["dali-cpu", "dataloader", "published"])
    def test_what_each_way_draws_and_gives_is_the_reference(self, way, crops):
        row = Row("dataloader", "published-apr-s", 32) if way == "published" else Row(way, "apr-s", 32)
        images = crops(8, 32, 32)
        draws, after = checks.run_single(row, images)
        assert len(np.unique(draws.operation)) > 3
        assert not np.array_equal(after, images)
        checks.check_single(row.name, images, draws, after)


def test_a_wrong_pipeline_is_refused(monkeypatch, crops):
    def swapped(row: Row, *_: object) -> feeds.Feed:
        # The views the wrong way round: the mixed one first.
        clean = normalized(crops(row.batch_size, 32, 32))
        mixed = torch.from_numpy(spectral.recombine(clean[:8].double(), clean[:8].double().roll(1, 0))).float()
        views = torch.stack([clean, torch.cat([mixed, clean[8:]])], 1).flip(1).flatten(0, 1)
        return feeds.Feed(iter([(views, torch.zeros(len(views), dtype=torch.int64))]), 2, 2, 1)

    monkeypatch.setattr(checks, "open_feed", swapped)
    with pytest.raises(checks.WrongOutputError, match="dali-cpu/apr-p/32"):
        checks.check_row(Row("dali-cpu", "apr-p", 32), Places("", ""), None)


@pytest.mark.parametrize("aug", ["hybrid++-ps", "prime", "fda", "vipaug", "afa+prime"])
def test_a_row_of_each_kind_of_method_is_right(aug, tmp_path, crops):
    np.save(tmp_path / "small.npy", crops(160, 32, 32))
    checks.check_row(Row("dali-cpu", aug, 32), Places("", str(tmp_path / "small.npy")), 1)
