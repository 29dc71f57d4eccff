"""The numbers in the README's table of methods are those of the pages and of the study that it names."""

import json
import re

import pytest
from helpers.project import ROOT

from apr_dali.augmentations.plan import TRAINABLE

README, PAGE = ((ROOT / name).read_text() for name in ("README.md", "docs/augmentations.md"))
# Costs that are sums of two rows.
OF_TWO = {"apr-sp", "vipaug", "afa+prime"}


def rows(text: str, title: str) -> dict[str, list[str]]:
    """Cells by the names in the first one, of the table whose first line begins with `title`."""
    lines = text.partition(f"\n| {title}")[2].partition("\n\n")[0].splitlines()[2:]
    cells = [[cell.strip() for cell in line.strip("| ").split("|")] for line in lines]
    return {name: rest for first, *rest in cells for name in re.findall(r"[`]([^`]+)`", first) or [first]}


METHODS = rows(README, "`--aug` | paper")
DIGITS, PUBLISHED, COST = (rows(PAGE, title) for title in ("`--aug` | clean", "method | where", "| 32"))


def test_every_name_is_in_both_tables():
    assert {*TRAINABLE} <= {*DIGITS}
    for name in ("hybrid-p", "hybrid-s", "hybrid-ps", "hybrid++-ps", "afa", "afa+prime", "amplitude-mix", "fda"):
        assert name in METHODS
    assert {"vipaug", "prime", "randconv", "amplitude-rescale", "apr-p", "apr-s", "apr-sp"} <= {*METHODS}


def test_digits_are_those_of_the_study(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "experiments")
    import digits_methods

    record = json.loads((ROOT / "experiments/results/digits_methods.json").read_text())
    assert record["seeds"] == 3
    study = digits_methods.table(record["found"]).splitlines()[2:]
    found = {name: rest for name, *rest in ([cell.strip() for cell in line.strip("| ").split("|")] for line in study)}
    assert {name.removesuffix(", both views"): rest for name, rest in found.items()} == DIGITS
    assert set(found) == set(digits_methods.METHODS)
    for name, cells in METHODS.items():
        assert cells[-1] == DIGITS[name][1].partition(" ")[0], name


@pytest.mark.parametrize("name", [name for name in METHODS if name in PUBLISHED])
def test_published_numbers_are_those_with_a_source(name):
    _, imagenet, cifar, source = PUBLISHED[name]
    ours = METHODS[name][1].split(", ")
    assert ours[0] in imagenet.replace(";", " ").split()
    assert ours[1] == cifar.partition(",")[0]
    assert source


@pytest.mark.parametrize("name", [name for name in METHODS if name in COST and name not in OF_TWO])
def test_costs_are_those_of_the_benchmark(name):
    native, torch, *_ = COST[name]
    measured = float(torch if native == "–" else native)
    assert abs(float(METHODS[name][2]) - measured) <= 0.051
