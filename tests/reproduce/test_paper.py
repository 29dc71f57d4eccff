"""The paper's numbers: what its tables say of themselves, and what stands beside evaluations."""

from statistics import fmean

import pytest

from apr_dali.eval.corruption import CORRUPTIONS
from apr_dali.eval.published_numbers import PUBLISHED
from apr_dali.reproduce import paper

# A mean of rounded numbers, itself rounded.
ROUNDED = 0.1 + 1e-9


@pytest.mark.parametrize("dataset", paper.TABLE_1)
def test_the_means_of_table_1_are_those_of_its_rows(dataset):
    rows = paper.TABLE_1[dataset]
    for method, mean in rows[paper.MEAN].items():
        assert fmean(rows[network][method] for network in paper.NETWORKS) == pytest.approx(mean, abs=ROUNDED), method


def test_the_means_of_table_2_are_those_of_its_sets():
    for method, row in paper.TABLE_2.items():
        assert fmean(row[name] for name in paper.OOD_SETS) == pytest.approx(row[paper.MEAN], abs=ROUNDED), method


def test_mce_is_the_mean_of_the_corruption_errors():
    # Of errors that are rounded to a whole percent.
    for method, row in paper.TABLE_4.items():
        assert fmean(row[name] for name in CORRUPTIONS) == pytest.approx(row[paper.MCE], abs=0.3), method


def test_they_are_those_that_reports_show():
    ours = {"standard": "standard", "AugMix": "augmix", "APR-P": "apr-p", "APR-S": "apr-s", "APR-SP": "apr-sp"}
    ours["DeepAugment + APR-SP"] = "deepaugment-apr-sp"
    seen = 0
    for entry in PUBLISHED:
        method = ours.get(entry.method)
        if method is not None:
            row = paper.TABLE_4[method]
            assert (entry.clean, entry.imagenet_c) == (row[paper.CLEAN], row[paper.MCE])
            assert entry.ce == tuple(row[name] for name in CORRUPTIONS)
            seen += 1
        if entry.cifar10_c is not None and method is not None:
            assert entry.cifar10_c == paper.TABLE_1["cifar10"]["wrn-40-2"][method]
            assert entry.cifar100_c == paper.TABLE_1["cifar100"]["wrn-40-2"][method]
    assert seen == 6
