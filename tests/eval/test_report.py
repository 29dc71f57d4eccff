"""What reports and their pages say: names, measures and published numbers."""

import numpy as np
import pytest
from helpers.pages import Page

from apr_dali.eval.corruption import CORRUPTIONS
from apr_dali.eval.page import Section, Table, html, markdown
from apr_dali.eval.published_numbers import PUBLISHED
from apr_dali.eval.report import compared, sections, summary


def report_of(**evaluations) -> dict:
    about = {
        "settings": {"network": "n"},
        "versions": {},
        "date": "today",
        "command": "c",
        "device": "d",
        "processes": 1,
    }
    return {"evaluations": evaluations, "kept": {}, "missing": [], "skipped": [], "failed": [], **about}


def test_generated_sets_are_labeled_wherever_they_are_shown():
    common = {"classes": 1000, "images": 50_000, "clean_error": None, "mean_error": 0.5, "averaged": [*CORRUPTIONS]}
    counts = "(1,000 classes, 50,000 images per cell)"
    generated = summary(report_of(corruption={**common, "name": "generated set", "generated_mce": 60.0}))
    assert generated == {
        f"generated set {counts}: mean error over all 15 corruptions": "50.00 %",
        "generated set: AlexNet-normalized error (not mCE of ImageNet-C)": "60.00 %",
    }
    real = summary(report_of(corruption={**common, "name": "ImageNet-C", "mce": 60.0}))
    assert real == {f"ImageNet-C {counts}: mean error over all 15 corruptions": "50.00 %", "mCE": "60.00 %"}


@pytest.mark.parametrize(
    ("averaged", "words"),
    [
        (["fog", "snow"], "2 of 15 corruptions (fog, snow)"),
        ([name for name in CORRUPTIONS if name != "fog"], "14 of 15 corruptions (without fog)"),
        (["spatter"], "spatter (none of the benchmark's 15)"),
    ],
)
def test_a_part_of_the_corruptions_is_not_the_mean_over_all(averaged, words):
    common = {"name": "ImageNet-C", "kind": "imagenet-c", "classes": 1000, "images": 50_000, "clean_error": None}
    result = {**common, "mean_error": 0.5, "averaged": averaged, "errors": {name: [0.5] * 5 for name in averaged}}
    result["severities"] = [1, 2, 3, 4, 5]
    report = report_of(corruption={**result, "data": "d"})
    (measure,) = summary(report)
    assert measure == f"ImageNet-C (1,000 classes, 50,000 images per cell): mean error over {words}"
    notes = " ".join(sections(report, {})[1].notes)
    assert f"Mean error over {words}: 50.00 %." in notes
    assert "its 15 corruptions" not in notes


def of_kind(kind: str) -> dict:
    result = {"name": kind, "kind": kind, "classes": 2, "images": 3, "clean_error": None, "averaged": [*CORRUPTIONS]}
    errors = {"severities": [1, 2, 3, 4, 5], "errors": {"fog": [0.5] * 5}}
    return report_of(corruption={**result, "data": "d", "mean_error": 0.5, **errors})


def test_published_numbers_stand_beside_what_they_are_of():
    def shown(kind: str) -> list:
        return [
            (part.tables[0].titles, part.tables[0].rows) for part in sections(of_kind(kind), {}) if "Publ" in part.title
        ]

    assert shown("own") == shown("generated") == []
    ((titles, rows),) = shown("imagenet-c")
    assert titles == ("method", "clean error", "mCE")
    assert {("APR-S", "24.5", "70.5"), ("APR-P", "24.4", "69.3"), ("APR-SP", "24.4", "65.0")} <= set(rows)
    ((titles, rows),) = shown("cifar-100-c")
    assert titles == ("method", "mean error")
    assert ("APR-SP", "32.9") in rows


def test_published_corruption_errors_have_the_published_mean():
    named = [entry for entry in PUBLISHED if entry.ce]
    assert len(named) == 6
    for entry in named:
        # Each of the 15 is rounded to a whole number.
        assert len(entry.ce) == 15
        assert np.mean(entry.ce) == pytest.approx(entry.imagenet_c, abs=0.5), entry.method


def test_corruption_errors_stand_beside_the_published_ones():
    report = of_kind("imagenet-c")
    report["evaluations"]["corruption"] |= {"ce": {"gaussian_noise": 55.04, "fog": 50.0}}
    (table,) = sections(report, {})[1].tables
    names = ("standard", "AugMix", "APR-S", "APR-P", "APR-SP", "DeepAugment + APR-SP")
    assert table.titles == ("CE, AlexNet = 100", "this network", *names)
    assert table.rows == (
        ("gaussian noise", "55.0", "79", "65", "61", "64", "55", "44"),
        ("fog", "50.0", "75", "67", "62", "55", "49", "50"),
    )


def test_reports_with_other_measures_stand_side_by_side():
    one = report_of(clean={"top1": 0.75, "images": 50_000})
    two = report_of(
        clean={"top1": 0.5, "images": 100},
        **{"imagenet-a": {"name": "imagenet-a", "top1": 0.1, "images": 7500, "classes": 200}},
    )
    # Errors on other numbers of images are not side by side.
    assert compared({"a": one, "b": two}) == Table(
        ("measure", "a", "b"),
        (
            ("clean error, 50,000 images", "25.00 %", "–"),
            ("clean error, 100 images", "–", "50.00 %"),
            ("imagenet-a: error, 7,500 images of 200 classes", "–", "90.00 %"),
        ),
    )


def test_what_files_are_called_cannot_break_the_page():
    parts = [Section("<i>", ("a & b",), (Table(("<b>", "x|y"), (("<u>&", "line\nbreak"),)),))]
    page = Page(html("</title><script>", parts))
    assert page.open == []
    assert page.cells == ["<b>", "x|y", "<u>&", "line\nbreak"]
    text = markdown("a*b*", parts)
    assert text.startswith("# a\\*b\\*\n\n## \\<i>\n\na & b\n")
    assert "| \\<b> | x\\|y |\n| --- | ---: |\n| \\<u>& | line break |" in text


def test_markdown_shows_the_letters_of_names():
    table = Table(("set", "path"), (("_a_ of b_c", "`x` &lt; *y* \\z ~~q~~"),), words=True)
    text = markdown("t", [Section("s", ("<script>",), (table,))])
    assert "| set | path |\n| --- | --- |\n| \\_a\\_ of b_c | \\`x\\` \\&lt; \\*y\\* \\\\z \\~\\~q\\~\\~ |" in text
    assert "\n\\<script>\n" in text


def test_options_of_commands_stay_in_one_piece():
    table = Table(("command",), (("a --output x--y --b",),), words=True)
    page = html("t", [Section("s", tables=(table,))])
    assert 'a <span class="whole">--output</span> x--y <span class="whole">--b</span></td>' in page


def test_paths_in_headings_break_behind_a_slash():
    """Else the column of a network with a long path leaves none of a small screen to the others."""
    page = html("of a/b&.pt", [Section("s", tables=(Table(("measure", "n of a/b&.pt"), (("x/y", "1/2"),)),))])
    assert "<title>of a/b&amp;.pt</title>" in page
    assert "<h1>of a/<wbr>b&amp;.pt</h1>" in page
    assert '<th scope="col">n of a/<wbr>b&amp;.pt</th>' in page
    assert "<td>x/y</td><td>1/2</td>" in page


def test_intervals_stand_with_their_numbers():
    one = report_of(clean={"top1": 0.75, "images": 100, "intervals": {"top1": [0.66, 0.83]}})
    two = report_of(clean={"top1": 0.5, "images": 100})
    found = compared({"a": one, "b": two})
    assert found.rows == (("clean error, 100 images", "25.00 % (17.00 to 34.00)", "50.00 %"),)
    page = html("t", [Section("s", tables=(found,))])
    assert '<td>25.00 %<span class="ends"> (17.00 to 34.00)</span></td><td>50.00 %</td>' in page
    assert "| 25.00 % (17.00 to 34.00) | 50.00 % |" in markdown("t", [Section("s", tables=(found,))])
