"""`eval compare`: runs side by side, where they are of the same images."""

import os

import pytest
from helpers.eval_sets import error_of
from helpers.pages import Page

from apr_dali import cli

pytestmark = pytest.mark.slow


def test_compare(run_eval, root, tmp_path, capsys):
    (root / "imagenet-c").rename(root / "elsewhere")
    (root / "imagenet-r").rename(tmp_path / "r")
    outputs = ["a/report", "b/report", "c/report"]
    for output in outputs:
        assert run_eval("all", "--data-root", root, output=output) == 0
    runs = [str(tmp_path / output) for output in outputs]
    assert cli.main(["eval", "compare", *runs, "--output", str(tmp_path / "side" / "by")]) == 0
    shown = capsys.readouterr().out
    text = (tmp_path / "side" / "by" / "compare.html").read_text()
    assert "Intervals are 95 % ones of a bootstrap over images" in text
    page = Page(text)
    assert page.cells[:4] == ["measure", *(f"brightness ({output})" for output in outputs)]
    assert all(f"brightness ({output})" in shown for output in outputs)
    row = page.cells.index("clean error, 33 images")
    assert page.cells[row + 1 : row + 4] == [f"{100 * error_of(root / 'val'):.2f} %"] * 3
    assert cli.main(["eval", "compare", runs[0], runs[0], "--output", str(tmp_path)]) == 2
    assert "a/report/report.json is given twice" in capsys.readouterr().err
    assert cli.main(["eval", "compare", str(tmp_path)]) == 2
    assert "report.json is not there" in capsys.readouterr().err
    (tmp_path / "report.json").write_text("{}")
    assert cli.main(["eval", "compare", str(tmp_path)]) == 2
    assert "is not the report.json that" in capsys.readouterr().err


def test_runs_on_other_images_are_not_side_by_side(run_eval, root, tmp_path):
    def run(output: str) -> None:
        run_eval("all", "--data-root", root, output=output)

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
