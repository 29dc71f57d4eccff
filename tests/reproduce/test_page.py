"""The page of a table: the paper's numbers, ours, what is missing, and the commands that ran."""

import csv
import json
import shutil

import pytest
from helpers.pages import Page
from helpers.reproduce import RESULTS, asked, every_set, stand_in

from apr_dali.reproduce.follow import CODE, PAPER, differences
from apr_dali.reproduce.page import latex, write_page
from apr_dali.reproduce.results import Found, found, outcomes
from apr_dali.reproduce.runner import Runner
from apr_dali.reproduce.slots import Slot
from apr_dali.reproduce.tables import TABLES, plan_of


@pytest.fixture
def programs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    every_set(tmp_path / "data")
    return stand_in(monkeypatch, tmp_path / "programs")


def written(made):
    """The plan run by stand-ins, and its page, its JSON and the rows of its CSV."""
    runner = Runner(made, [Slot("here", {})])
    runner.run()
    write_page(made, runner.failures)
    path = made.asked.output / f"{made.name}.html"
    page = Page(path.read_text())
    assert page.open == []
    assert page.outside == []
    with open(path.with_suffix(".csv"), newline="") as file:
        rows = {row["key"]: row for row in csv.DictReader(file)}
    return page, json.loads(path.with_suffix(".json").read_text()), rows


@pytest.mark.usefixtures("programs")
def test_the_papers_number_ours_and_the_difference(tmp_path):
    made = plan_of(
        "table1", asked(tmp_path, datasets=("cifar10",), networks=("wrn-40-2",), only=("apr-p", "adv-training"))
    )
    page, record, rows = written(made)
    place = page.cells.index("APR-P")
    assert page.cells[place : place + 4] == ["APR-P", "18.3", "25.0", "+6.7"]
    assert page.after("Adv Training") == "26.2"
    assert page.cells[page.cells.index("Adv Training") + 2] == "not trained"
    key = "cifar10.wrn-40-2.corrupted_error.apr-p"
    assert record["cells"][key] == {
        "set": "cifar10, wrn-40-2",
        "measure": "mean error under corruptions",
        "method": "apr-p",
        "paper": 18.3,
        "ours": 25.0,
        "deviation": None,
        "difference": pytest.approx(6.7),
        "values": [25.0],
        "why_not": None,
    }
    assert (rows[key]["paper"], rows[key]["ours"], rows[key]["seeds"]) == ("18.3", "25", "1")
    assert rows[key.replace("apr-p", "adv-training")]["why_not"].startswith("not trained here: the paper does not say")
    # The paper has no clean errors.
    assert record["cells"]["cifar10.wrn-40-2.clean_error.apr-p"]["ours"] == 6.25
    assert rows["cifar10.wrn-40-2.clean_error.apr-p"]["paper"] == ""


def test_the_commands_are_those_that_ran(tmp_path, programs):
    made = plan_of("table2", asked(tmp_path, datasets=("digits",), only=("cutout", "mixup"), epochs=1))
    page, record, _ = written(made)
    ran = {f"{'python' if '--resume' in line else 'apr-dali'} {line}" for line in programs.ran()}
    shown = {cell for cell in page.cells if cell.startswith(("python ", "apr-dali "))}
    assert len(ran) == 6
    assert shown == ran
    steps = [step for run in record["runs"].values() for step in run["steps"]]
    assert {step["command"] for step in steps} == ran
    assert {step["state"] for step in steps} == {"done"}


def test_seeds_have_a_mean_and_a_deviation(tmp_path, programs):
    made = plan_of("table2", asked(tmp_path, datasets=("digits",), only=("cutout",), epochs=1, seeds=3))
    programs.set("FAILS", "seed2/train")
    runner = Runner(made, [Slot("here", {})])
    runner.run()
    run = made.runs[0]
    path = run.home(made.asked.output) / "eval/clean.json"
    record = json.loads(path.read_text())
    path.write_text(json.dumps({**record, "result": {"top1": 0.9}}))
    write_page(made, runner.failures)
    page = Page((made.asked.output / "table2-digits.html").read_text())
    # 90 and 93.75, n - 1: their distance by the root of 2.
    assert page.after("CE w/ Cutout") == "91.9 ± 2.7 (2 of 3)"
    assert page.after("code/digits/wrn-16-1/cutout/seed2").endswith("it is broken")


def test_what_is_missing_and_what_failed_are_on_the_page(tmp_path, programs):
    (tmp_path / "data/SVHN/test_32x32.mat").unlink()
    programs.set("FAILS", "apr-p/seed0/train")
    made = plan_of("table2", asked(tmp_path, only=("standard", "apr-p", "csi")))
    page, record, _ = written(made)
    assert page.after("SVHN").startswith(f"put it in {tmp_path}/data/SVHN/test_32x32.mat, which should hold")
    assert page.after("code/cifar10/resnet18/apr-p/seed0").endswith("it is broken")
    assert page.after("CSI") == "94.8"
    assert set(record["missing"]) == {"SVHN"}
    assert [failure["run"] for failure in record["failed"]] == ["code/cifar10/resnet18/apr-p/seed0"]
    states = {step["state"] for step in record["runs"]["code/cifar10/resnet18/apr-p/seed0"]["steps"]}
    assert states == {"failed", "not run"}


def test_a_mean_over_networks_needs_all_of_them(tmp_path, programs):
    made = plan_of("table1", asked(tmp_path, datasets=("cifar10",), only=("apr-p",)))
    programs.set("FAILS", "allconv/apr-p/seed0/train")
    _, record, _ = written(made)
    assert record["cells"]["cifar10.mean.corrupted_error.apr-p"]["values"] == []
    programs.set("FAILS")
    _, record, _ = written(made)
    assert record["cells"]["cifar10.mean.corrupted_error.apr-p"]["difference"] == pytest.approx(25 - 19.7)


@pytest.mark.slow
@pytest.mark.usefixtures("programs")
def test_pictures_of_all_runs_together(tmp_path):
    only = ("lambda-0", "lambda-1")
    made = plan_of("fig9", asked(tmp_path, datasets=("digits",), only=only, epochs=1))
    page, _, _ = written(made)
    assert page.images == ["Accuracy and AUROC over λ: digits, wrn-16-1"]
    page, _, _ = written(plan_of("fig4", asked(tmp_path, datasets=("digits",), epochs=1)))
    assert page.images == ["Test accuracy by the bands: digits, wrn-16-1"]
    # Of some of the sixteen there is none.
    only = ("amplitude-low-phase-low",)
    page, _, _ = written(plan_of("fig4", asked(tmp_path, datasets=("digits",), epochs=1, only=only)))
    assert page.images == []


def test_corruptions_that_were_computed_are_said_to_be(tmp_path, programs):
    shutil.rmtree(tmp_path / "data/imagenet-c")
    programs.tell({**RESULTS, "corruption": {"clean_error": 0.25, "generated_mce": 70.0, "computed": {}}})
    made = plan_of("table4", asked(tmp_path, only=("apr-p",), on_the_fly=True))
    _, record, _ = written(made)
    assert record["cells"]["imagenet.resnet50.mce.apr-p"]["difference"] == pytest.approx(0.7)
    text = (made.asked.output / "table4.md").read_text()
    assert "| APR-P | 69.3 | 70.0 | +0.7 |" in text
    assert "| APR-P | 55 | – | – |" in text
    assert "computed on the fly, exact to 1 level given the draws" in text


@pytest.mark.usefixtures("programs")
def test_the_page_says_whether_text_or_code_is_followed(tmp_path):
    made = plan_of("table2", asked(tmp_path, datasets=("digits",), only=("cutout",), epochs=1, follow=PAPER))
    page, record, _ = written(made)
    assert record["follow"] == "paper"
    assert made.name == "table2-digits-paper"
    assert page.after("OOD score") == "largest softmax probability"
    assert page.after("order on CIFAR") == "APR-S, crop, flip, APR-P, normalize"


@pytest.mark.parametrize("table", TABLES)
def test_differences_are_those_that_a_table_depends_on(table):
    code, text = (differences(table, follow) for follow in (CODE, PAPER))
    assert [row[0] for row in code] == [row[0] for row in text]
    assert ("OOD score" in [row[0] for row in code]) == (table in ("table2", "fig9"))
    assert ("phase outside" in [row[0] for row in code]) == (table == "fig4")
    for one, other in zip(code, text, strict=True):
        assert one == other or (one[2] == f"text: {other[1]}" and other[2] == f"code: {one[1]}")


def test_latex(tmp_path):
    made = plan_of("table2", asked(tmp_path, datasets=("digits",), only=("cutout",)))
    cells = [Found(cell, (90.0, 91.0)) for cell in made.cells[:1]]
    assert latex(cells) == (
        "% digits, wrn-16-1: test accuracy\n"
        "\\begin{tabular}{lrrr}\n\\toprule\n"
        "method & paper & ours & difference \\\\\n\\midrule\n"
        "CE w/ Cutout & -- & 90.5 $\\pm$ 0.7 & -- \\\\\n"
        "\\bottomrule\n\\end{tabular}\n"
    )
    assert [one.values for one in found(made, outcomes(made))] == [(), ()]


def test_what_the_paper_has_no_number_of_stands_in_one_table(tmp_path, programs):
    programs.set("FAILS", "mixup")
    made = plan_of("table2", asked(tmp_path, datasets=("digits",), only=("cutout", "mixup", "csi"), epochs=1))
    page, record, _ = written(made)
    place = page.cells.index("method")
    assert page.cells[place : place + 12] == [
        *("method", "test accuracy", "AUROC, photographs"),
        *("CE w/ Cutout", "93.8", "75.0"),
        *("CE w/ Mixup", "–", "–"),
        *("CSI", "not trained", "not trained"),
    ]
    assert record["cells"]["digits.wrn-16-1.accuracy.csi"]["why_not"].startswith("not trained here: contrastive")


def test_epochs_and_versions_that_are_not_the_published_ones_are_said(tmp_path, programs, monkeypatch):
    made = plan_of("table2", asked(tmp_path, datasets=("digits",), only=("cutout",), epochs=1))
    written(made)
    monkeypatch.setattr("apr_dali.reproduce.page.__version__", "9.9")
    page, _, _ = written(made)
    assert page.after("version").startswith("apr_dali 9.9; some networks were trained by 0.")
    assert len(programs.ran()) == 3
    assert "Published runs have 200 epochs: steps in proportion." in (made.asked.output / f"{made.name}.md").read_text()


@pytest.mark.usefixtures("programs")
def test_how_many_images_were_attacked_is_said(tmp_path):
    made = plan_of("table3", asked(tmp_path, datasets=("digits",), only=("fgsm",), epochs=1, attack=20))
    page, record, _ = written(made)
    assert record["cells"]["digits.wrn-16-1.robust.fgsm"]["ours"] == 37.5
    assert page.after("FGSM") == "50.0"
    assert "AutoAttack on 20 images; the paper's on" in (made.asked.output / "table3-digits.md").read_text()
