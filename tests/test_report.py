"""`eval all`, `compare` and `shift`: what is run, what is said about the rest, and the pages."""

import json
from html.parser import HTMLParser

import numpy as np
import pytest
from eval_sets import Brightness, error_of, network, random_levels, write_corruptions, write_levels

from apr_dali import cli
from apr_dali.commands import ood, session, shifts
from apr_dali.eval.class_lists import IMAGENET_A, IMAGENET_O, IMAGENET_R
from apr_dali.eval.report import Section, Table, compared, html, markdown, summary


@pytest.fixture
def evaluate(monkeypatch, tmp_path):
    def run(kind: str, *arguments: object, model=None, output: str = "out") -> int:
        monkeypatch.setattr(session, "load_network", lambda *_: model or network())
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
    from apr_dali.commands.networks import imagenet_classes

    numbers = [imagenet_classes().index(name) for name in IMAGENET_A]
    assert (numbers[:3], numbers[-3:]) == ([6, 11, 13], [986, 987, 988])


def test_a_shift_asks_only_about_its_own_classes(evaluate, tmp_path, monkeypatch):
    monkeypatch.setitem(shifts.SHIFTS, "imagenet-a", ("dark", "light"))
    # 100 is nearest to grey; of the two classes that are asked about it is nearer to dark.
    write_levels(tmp_path / "a", {"dark": [100, 50, 190], "light": [140, 250]})
    assert evaluate("shift", "imagenet-a", "--data", tmp_path / "a") == 0
    found = result(tmp_path, "imagenet-a")
    assert (found["top1"], found["images"], found["classes"]) == (pytest.approx(4 / 5), 5, 2)


def test_imagenet_v2s_folders_are_numbers(evaluate, tmp_path):
    classes = ("light", "dark", "grey")
    model = network(model=Brightness(), classes=classes)
    # Eleven classes would sort as 0, 1, 10, 2: here the order of the outputs itself tells.
    write_levels(tmp_path / "v2", {"0": [45, 50], "1": [120], "2": [210, 30]})
    assert evaluate("shift", "imagenet-v2", "--data", tmp_path / "v2", model=model) == 0
    found = result(tmp_path, "imagenet-v2")
    assert found["top1"] == pytest.approx(4 / 5)
    assert found["labels"] == (
        "its folders have no names: the folder n is taken for the network's class n (0 light, 1 dark, 2 grey)"
    )


def test_numbered_folders_are_sorted_by_number():
    class Stub:
        network = network(classes=tuple("abcdefghijkl"))

    names = tuple(sorted(map(str, range(12))))
    assert names[2] == "10"
    assert shifts._meant(Stub, "imagenet-v2", names)[:4] == ("a", "b", "k", "l")


@pytest.mark.parametrize(
    ("kind", "folders", "message"),
    [
        ("imagenet-sketch", ("dark", "grey"), "must have 3 class folders, got 2; missing: light"),
        ("imagenet-sketch", ("dark", "grey", "light", "x"), "got 4; not among them: x"),
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
    write_levels(tmp_path / "val", {"dark": [40, 60, 70], "grey": [128, 128], "light": [215, 190]})
    write_levels(tmp_path / "o", {"dark": [120, 130]})
    assert evaluate("ood", "--data", tmp_path / "val", "--ood", f"o={tmp_path}/o", "--imagenet-o") == 0
    found = result(tmp_path, "imagenet-o")
    assert found["images"] == 5, "the grey images are not of the 200 classes"
    # With the class grey the others would be sure of being grey; without it they are the least sure.
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
    assert evaluate("all", "--data-root", root) == 0
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert list(report["evaluations"]) == ["clean", "corruption", "imagenet-v2", "calibration"]
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
    assert page.images == ["corruption: errors", "calibration: reliability"]
    error = f"{100 * error_of(root / 'val'):.2f} %"
    assert page.cells[page.cells.index("clean error") + 1] == error
    assert "APR-SP" in page.cells
    assert f"| clean error | {error} |" in (tmp_path / "out" / "report.md").read_text()
    assert "written:" in capsys.readouterr().out


def test_all_of_nothing(evaluate, tmp_path, capsys):
    (tmp_path / "data").mkdir()
    assert evaluate("all", "--data-root", tmp_path / "data") == 2
    assert "imagenet-c: <corruption>/<1-5>/<class>/<image>" in capsys.readouterr().err
    assert evaluate("all", "--data-root", tmp_path / "nowhere") == 2
    assert "nowhere is not there" in capsys.readouterr().err


def test_compare(evaluate, root, tmp_path, capsys):
    (root / "imagenet-c").rename(root / "elsewhere")
    assert evaluate("all", "--data-root", root) == 0
    assert evaluate("all", "--data-root", root, output="other") == 0
    assert cli.main(["eval", "compare", *[str(tmp_path / n) for n in ("out", "other")], "--output", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert "brightness (other)" in shown
    page = Page((tmp_path / "compare.html").read_text())
    row = page.cells.index("clean error")
    assert page.cells[row + 1] == page.cells[row + 2] == f"{100 * error_of(root / 'val'):.2f} %"
    (tmp_path / "report.json").write_text("{}")
    assert cli.main(["eval", "compare", str(tmp_path)]) == 2
    assert "is not the report.json that" in capsys.readouterr().err


def report_of(**evaluations) -> dict:
    settings = {"network": "n"}
    return {"evaluations": evaluations, "settings": settings, "versions": {}, "missing": [], "failed": []}


def test_generated_sets_are_labelled_wherever_they_are_shown():
    common = {"errors": {"fog": [0.5] * 5}, "images": 1, "clean_error": None, "mean_error": 0.5}
    generated = summary(report_of(corruption={**common, "kind": "generated", "generated_mce": 60.0}))
    assert generated == {
        "generated set: mean error": "50.00 %",
        "generated set: AlexNet-normalised error (not mCE of ImageNet-C)": "60.00 %",
    }
    real = summary(report_of(corruption={**common, "kind": "imagenet-c", "mce": 60.0}))
    assert real == {"ImageNet-C: mean error": "50.00 %", "mCE": "60.00 %"}


def test_reports_with_other_measures_stand_side_by_side():
    one, two = report_of(clean={"top1": 0.75}), report_of(**{"imagenet-a": {"top1": 0.1}})
    assert compared({"a": one, "b": two}) == Table(
        ("measure", "a", "b"), (("clean error", "25.00 %", "–"), ("imagenet-a error", "–", "90.00 %"))
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
    cifar = tmp_path / "data" / "CIFAR-100-C"
    cifar.mkdir()
    np.save(cifar / "fog.npy", np.full((15, 32, 32, 3), 40, np.uint8))
    np.save(cifar / "labels.npy", np.tile([0, 2, 1], 5))
    assert evaluate("all", "--data-root", tmp_path / "data", model=network(32)) == 0
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["evaluations"]["corruption"]["errors"]["fog"] == [pytest.approx(2 / 3)] * 5
    assert "test" in [name for name, _ in report["missing"]]
