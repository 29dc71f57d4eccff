"""`eval all`, `compare` and `shift`: what is run, what is said about the rest, and the pages."""

import json
import os
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from helpers.eval_sets import Brightness, Ten, error_of, network, random_levels, write_corruptions, write_levels

from apr_dali import cli
from apr_dali.data.kinds import CLASSES as CIFAR
from apr_dali.eval import session
from apr_dali.eval.class_lists import IMAGENET_A, IMAGENET_O, IMAGENET_R
from apr_dali.eval.corruption import CORRUPTIONS
from apr_dali.eval.evaluations import distribution_shift, ood
from apr_dali.eval.page import Section, Table, html, markdown
from apr_dali.eval.published_numbers import PUBLISHED
from apr_dali.eval.report import compared, sections, summary

pytestmark = pytest.mark.slow


@pytest.fixture
def evaluate(monkeypatch, tmp_path):
    def run(kind: str, *arguments: object, model=None, output: str = "out") -> int:
        monkeypatch.setattr(session, "load_model", lambda *_: model or network())
        options = ["--output", tmp_path / output, "--device", "cpu", "--threads", 1, "--batch-size", 5]
        return cli.main(["eval", kind, "model", *map(str, [*arguments, *options])])

    return run


def result(tmp_path, name: str):
    return json.loads((tmp_path / "out" / f"{name}.json").read_text())["result"]


# ---- shifts ----------------------------------------------------------------------------------------------------------


def test_class_lists():
    for names in (IMAGENET_A, IMAGENET_O, IMAGENET_R):
        assert len(set(names)) == 200
        assert list(names) == sorted(names)
        assert all(len(name) == 9 and name[0] == "n" and name[1:].isdecimal() for name in names)
    # Of the authors' own list of class numbers for ImageNet-A: 6, 11, 13 first and 986, 987, 988 last.
    from apr_dali.eval.load_model import imagenet_classes

    numbers = [imagenet_classes().index(name) for name in IMAGENET_A]
    assert (numbers[:3], numbers[-3:]) == ([6, 11, 13], [986, 987, 988])


def test_a_shift_asks_only_about_its_own_classes(evaluate, tmp_path, monkeypatch):
    monkeypatch.setitem(distribution_shift.SHIFTS, "imagenet-a", ("dark", "light"))
    # 100 is nearest to gray; of the two classes that are asked about it is nearer to dark.
    write_levels(tmp_path / "a", {"dark": [100, 50, 190], "light": [140, 250]})
    assert evaluate("shift", "imagenet-a", "--data", tmp_path / "a") == 0
    found = result(tmp_path, "imagenet-a")
    assert (found["top1"], found["images"], found["classes"]) == (pytest.approx(4 / 5), 5, 2)
    assert found["name"] == "own set a, in the form of imagenet-a"
    # Among all three, both dark ones of 100 and 140 are gray; 190 is wrong in any case.
    assert (found["top1_of_all"], found["all_classes"]) == (pytest.approx(2 / 5), 3)
    # Of the whole set's size, and ImageNet's classes: the published set.
    for classes, name in ((True, "imagenet-a"), (False, "own set a, in the form of imagenet-a")):
        monkeypatch.setitem(distribution_shift.IMAGES, "imagenet-a", 5)
        monkeypatch.setattr(distribution_shift, "is_imagenet", lambda _, known=classes: known)
        assert evaluate("shift", "imagenet-a", "--data", tmp_path / "a") == 0
        assert result(tmp_path, "imagenet-a")["name"] == name


def test_imagenet_v2s_folders_are_numbers(evaluate, tmp_path):
    classes = ("light", "dark", "gray")
    model = network(model=Brightness(), classes=classes)
    # Eleven classes would sort as 0, 1, 10, 2: here the order of the outputs itself tells.
    write_levels(tmp_path / "v2", {"0": [45, 50], "1": [120], "2": [210, 30]})
    assert evaluate("shift", "imagenet-v2", "--data", tmp_path / "v2", model=model) == 0
    found = result(tmp_path, "imagenet-v2")
    assert found["top1"] == pytest.approx(4 / 5)
    assert found["labels"] == (
        "its folders have no names: the folder n is taken for the network's class n (0 light, 1 dark, 2 gray)"
    )


def test_numbered_folders_are_sorted_by_number():
    class Stub:
        network = network(classes=tuple("abcdefghijkl"))

    names = tuple(sorted(map(str, range(12))))
    assert names[2] == "10"
    assert distribution_shift._meant(Stub, "imagenet-v2", names)[:4] == ("a", "b", "k", "l")


@pytest.mark.parametrize(
    ("kind", "folders", "message"),
    [
        ("imagenet-sketch", ("dark", "gray"), "must have 3 class folders, got 2; missing: light"),
        ("imagenet-sketch", ("dark", "gray", "light", "x"), "got 4; not among them: x"),
        ("imagenet-v2", ("0", "3"), "the class folder 3 is beyond the network's 3 classes"),
        ("imagenet-r", ("dark",), "must have 200 class folders, got 1"),
    ],
)
def test_wrong_class_folders_are_named(evaluate, tmp_path, kind, folders, message, capsys):
    write_levels(tmp_path / "set", {name: [50] for name in folders})
    assert evaluate("shift", kind, "--data", tmp_path / "set") == 2
    assert message in capsys.readouterr().err


def test_imagenet_o_takes_its_classes_alone(evaluate, tmp_path, monkeypatch):
    monkeypatch.setattr(ood, "IMAGENET_O", ("dark", "light"))
    write_levels(tmp_path / "val", {"dark": [40, 60, 70], "gray": [128, 128], "light": [215, 190]})
    write_levels(tmp_path / "o", {"dark": [120, 130]})
    assert evaluate("ood", "--data", tmp_path / "val", "--ood", f"o={tmp_path}/o", "--imagenet-o") == 0
    found = result(tmp_path, "imagenet-o")
    assert found["images"] == 5, "the gray images are not of the 200 classes"
    # With the class gray the others would be sure of being gray; without it they are the least sure.
    assert found["scores"]["max-softmax"]["o"]["auroc"] == 1
    # All are classified right, if the labels are in the order of the 200 classes.
    assert found["scores"]["max-softmax"]["o"]["oscr"] == 1
    assert evaluate("ood", "--data", tmp_path / "o", "--ood", f"o={tmp_path}/o", "--imagenet-o", output="x") == 2


# ---- all -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def root(tmp_path):
    write_levels(tmp_path / "data" / "val", random_levels(1, count=12, spread=60))
    write_corruptions(tmp_path / "data" / "imagenet-c", ("fog",))
    write_levels(tmp_path / "data" / "imagenet-v2", {"0": [45], "1": [120]})
    write_levels(tmp_path / "data" / "imagenet-r", {"dark": [45]})
    return tmp_path / "data"


class Page(HTMLParser):
    """The text of a page's cells, its pictures, and whether its tags close."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.cells, self.images, self.open, self.outside = [], [], [], []
        self.feed(text)

    def after(self, cell: str) -> str:
        return self.cells[self.cells.index(cell) + 1]

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        if tag not in ("meta", "img"):
            self.open.append(tag)
        if tag == "img":
            self.images.append(values["alt"])
        if tag in ("td", "th"):
            self.cells.append("")
        self.outside += [v for k, v in attrs if k in ("src", "href") and not v.startswith("data:")]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] in ("td", "th"):
            self.cells[-1] += data


def test_all(evaluate, root, tmp_path, capsys):
    (root / "imagenet-p").mkdir()
    assert evaluate("all", "--data-root", root) == 1, "a part failed"
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert list(report["evaluations"]) == ["clean", "corruption", "imagenet-v2", "calibration"]
    assert report["skipped"] == [
        ["imagenet-p", "is not among the sets that are known for this network"],
        ["autoattack", "takes hours: give --attack N to attack N images"],
    ]
    assert report["evaluations"]["clean"]["top1"] == pytest.approx(1 - error_of(root / "val"))
    assert report["evaluations"]["corruption"]["clean_error"] == pytest.approx(error_of(root / "val"))
    assert [name for name, _ in report["missing"]] == ["imagenet-o", "imagenet-a", "imagenet-sketch"]
    assert report["missing"][0][1].endswith("data/imagenet-o, which should hold: <class>/<image> of 200 classes")
    ((failed, reason),) = report["failed"]
    assert failed == "imagenet-r"
    assert "must have 200 class folders" in reason
    page = Page((tmp_path / "out" / "report.html").read_text())
    assert page.open == []
    assert page.outside == [], "the page must be complete in itself"
    captions = ["Error by corruption and severity", "Accuracy by confidence, and how many images have which confidence"]
    assert page.images == captions
    error = f"{100 * error_of(root / 'val'):.2f} %"
    assert page.after("clean error, 33 images") == error
    assert page.after("top-1") == f"{100 - 100 * error_of(root / 'val'):.2f} %"
    assert page.after("images") == "33"
    assert page.after("data") == str(root / "val")
    assert "APR-SP" not in page.cells, "no published numbers beside these sets"
    assert "fog" not in page.cells, "no table repeats the picture"
    told = (tmp_path / "out" / "report.md").read_text()
    assert f"| clean error, 33 images | {error} |" in told
    assert "| fog | " in told, "Markdown has no picture"
    shown = capsys.readouterr()
    assert "written:" in shown.out
    assert shown.err.startswith("error: failed: imagenet-r: ")


def test_without_a_failure_all_ends_well(evaluate, root, tmp_path):
    (root / "imagenet-r").rename(tmp_path / "r")
    assert evaluate("all", "--data-root", root) == 0
    assert evaluate("all", "--data-root", root) == 0
    page = (tmp_path / "out" / "report.html").read_text()
    assert page.count("Kept from an earlier run, 20") == 3, "clean, corruption and imagenet-v2"


def test_a_report_shows_the_pictures_of_its_own_run(evaluate, root, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "clean-old.png").write_bytes(b"of another run")
    evaluate("all", "--data-root", root)
    assert len(Page((tmp_path / "out" / "report.html").read_text()).images) == 2


def test_sets_without_their_clean_images_are_not_run(evaluate, root, tmp_path):
    (root / "val").rename(root / "imagenet-o")
    evaluate("all", "--data-root", root)
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["skipped"] == [["imagenet-o", "needs the clean images of the same classes, which are missing"]]


def test_what_nobody_foresaw_costs_one_evaluation(evaluate, root, tmp_path, monkeypatch, capsys):
    def breaks(*_, **__):
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr("apr_dali.eval.suite.evaluate_autoattack", breaks)
    assert evaluate("all", "--data-root", root, "--attack", 3) in (0, 1)
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert dict(report["failed"])["autoattack"] == "ZeroDivisionError: a bug"
    assert report["evaluations"]["clean"]["top1"] == pytest.approx(1 - error_of(root / "val"))
    assert "ZeroDivisionError: a bug" in (tmp_path / "out" / "report.html").read_text()
    assert "in breaks" in capsys.readouterr().err, "the traceback is for those who repair it"


def test_all_of_nothing(evaluate, tmp_path, capsys):
    (tmp_path / "data").mkdir()
    assert evaluate("all", "--data-root", tmp_path / "data") == 2
    assert "imagenet-c: <corruption>/<1-5>/<class>/<image>" in capsys.readouterr().err
    assert evaluate("all", "--data-root", tmp_path / "nowhere") == 2
    assert "nowhere is not there" in capsys.readouterr().err


def test_compare(evaluate, root, tmp_path, capsys):
    (root / "imagenet-c").rename(root / "elsewhere")
    (root / "imagenet-r").rename(tmp_path / "r")
    outputs = ["a/report", "b/report", "c/report"]
    for output in outputs:
        assert evaluate("all", "--data-root", root, output=output) == 0
    runs = [str(tmp_path / output) for output in outputs]
    assert cli.main(["eval", "compare", *runs, "--output", str(tmp_path / "side" / "by")]) == 0
    shown = capsys.readouterr().out
    page = Page((tmp_path / "side" / "by" / "compare.html").read_text())
    assert page.cells[:4] == ["measure", *(f"brightness ({output})" for output in outputs)]
    assert all(f"brightness ({output})" in shown for output in outputs)
    row = page.cells.index("clean error, 33 images")
    assert page.cells[row + 1 : row + 4] == [f"{100 * error_of(root / 'val'):.2f} %"] * 3
    assert cli.main(["eval", "compare", runs[0], runs[0], "--output", str(tmp_path)]) == 2
    assert "a/report/report.json is given twice" in capsys.readouterr().err
    (tmp_path / "report.json").write_text("{}")
    assert cli.main(["eval", "compare", str(tmp_path)]) == 2
    assert "is not the report.json that" in capsys.readouterr().err


def test_runs_on_other_images_are_not_side_by_side(evaluate, root, tmp_path):
    def run(output: str) -> None:
        evaluate("all", "--data-root", root, output=output)

    def rows_of(*outputs: str) -> list[list[str]]:
        given = [str(tmp_path / output) for output in outputs]
        assert cli.main(["eval", "compare", *given, "--output", str(tmp_path)]) == 0
        lines = (tmp_path / "compare.md").read_text().splitlines()
        return [line.split(" | ") for line in lines if line.startswith("| clean error, 33 images")]

    (root / "imagenet-c").rename(root / "elsewhere")
    run("a")
    # A copy is the same set, whenever it was made.
    for path in (root / "val").rglob("*.png"):
        os.utime(path, (1, 1))
    run("b")
    (row,) = rows_of("a", "b")
    assert "–" not in " ".join(row)
    # Another set of as many images is another set.
    for path in (root / "val" / "dark").glob("*.png"):
        path.write_bytes(next((root / "val" / "light").glob("*.png")).read_bytes())
    run("c")
    first, second = rows_of("a", "b", "c")
    assert [value.strip(" |") == "–" for value in first[1:]] == [False, False, True]
    assert [value.strip(" |") == "–" for value in second[1:]] == [True, True, False]
    assert first[0].partition("(set ")[2] != second[0].partition("(set ")[2] != ""


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
    assert "| <b> | x\\|y |\n| --- | ---: |\n| <u>& | line break |" in markdown("t", parts)


def test_small_networks_take_small_sets(evaluate, tmp_path):
    from scipy.io import savemat

    images = np.full((4, 32, 32, 3), 128, np.uint8)
    (tmp_path / "data" / "svhn").mkdir(parents=True)
    savemat(tmp_path / "data" / "svhn" / "test_32x32.mat", {"X": images.transpose(1, 2, 3, 0), "y": np.ones((4, 1))})
    for name in ("CIFAR-10-C", "CIFAR-100-C"):
        (tmp_path / "data" / name).mkdir()
        np.save(tmp_path / "data" / name / "fog.npy", np.full((50, 32, 32, 3), 40, np.uint8))
        np.save(tmp_path / "data" / name / "labels.npy", np.tile(np.arange(10), 5))
    model = network(32, Ten(), CIFAR["cifar10"])
    assert evaluate("all", "--data-root", tmp_path / "data", model=model) == 0
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["evaluations"]["corruption"]["errors"]["fog"] == [pytest.approx(9 / 10)] * 5
    assert report["evaluations"]["corruption"]["data"].endswith("CIFAR-10-C")
    assert "test" in [name for name, _ in report["missing"]]
    # Ten classes are not CIFAR's for being ten.
    other = network(32, Ten(), tuple("abcdefghij"))
    assert evaluate("all", "--data-root", tmp_path / "data", model=other, output="other") == 2


def test_all_of_a_network_of_digits(evaluate, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    model = replace(network(32, Ten(), tuple("0123456789")), trained_on="digits")
    # A folder of CIFAR's files has none for digits.
    (tmp_path / "data" / "CIFAR-10-C").mkdir(parents=True)
    assert evaluate("all", model=model) == 0
    first = json.loads((tmp_path / "out" / "report.json").read_text())
    assert list(first["evaluations"]) == ["corruption", "clean", "ood", "calibration"]
    assert first["evaluations"]["corruption"]["kind"] == "digits"
    assert list(first["evaluations"]["ood"]["sets"]) == ["photographs"]
    assert (first["missing"], first["failed"]) == ([], [])
    for page in ("report.html", "report.md"):
        told = (tmp_path / "out" / page).read_text()
        assert "CIFAR" not in told
        assert "APR-SP" not in told
        assert "digits, corrupted in ways of our own" in told
    assert evaluate("all", "--data-root", tmp_path / "data", model=model) == 0
    second = json.loads((tmp_path / "out" / "report.json").read_text())
    assert second["evaluations"] == first["evaluations"]
    assert ["CIFAR-10-C", "is not among the sets that are known for this network"] in second["skipped"]
    assert evaluate("all", model=network(32, Ten(), tuple("abcdefghij"))) == 2
    assert "--data-root is missing" in capsys.readouterr().err
    (tmp_path / "photographs").mkdir()
    assert evaluate("all", model=model) == 2
    assert "something is called photographs here" in capsys.readouterr().err
