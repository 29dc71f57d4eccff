"""What the documentation names is there: files, links, commands, options, and the modules of the API reference."""

import importlib
import re
import shlex
import subprocess
import sys
from dataclasses import fields

import numpy as np
import pytest
import torch
from helpers.eval_sets import Brightness, error_of, random_levels, write_corruptions, write_levels
from helpers.project import ROOT, imported, in_the_reference

import apr_dali
import apr_dali.eval
from apr_dali.cli import COMMANDS, build_parser
from apr_dali.data.sample import write_sample
from apr_dali.training.options import CIFAR_RECIPES, CifarOptions, ImageNetOptions, flag

PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *sorted((ROOT / "docs").glob("*.md")),
]
_FOLDERS = "apr_dali|benchmarks|docs|eval|examples|experiments|kernels|pipelines|tests"
# `make docs` writes it.
_MADE = {"docs/api/"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_files_and_links_are_there(page):
    text = page.read_text()
    for named in set(re.findall(rf"`((?:{_FOLDERS})/[\w/.]*)`", text)) - _MADE:
        assert (ROOT / named).exists(), named
    for target, anchor in re.findall(r"\]\((?!https?:)([^)#]*)#?([^)]*)\)", text):
        there = page.parent / target if target else page
        assert there.exists(), target
        assert not anchor or anchor in anchors(there.read_text()), f"{target}#{anchor}"


def anchors(text: str) -> set[str]:
    """Of the headings of a page, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", text, re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_page_and_command_is_in_the_index():
    index = (ROOT / "docs/index.md").read_text()
    assert {page.name for page in (ROOT / "docs").glob("*.md")} - set(re.findall(r"\]\(([\w-]+\.md)\)", index)) == {
        "index.md"
    }
    assert re.findall(r"^\| `apr-dali ([\w-]+)", index, re.M) == [item.name for item in COMMANDS]


def test_every_extra_is_in_the_readme():
    extras = (ROOT / "pyproject.toml").read_text().partition("[project.optional-dependencies]")[2].partition("\n[")[0]
    table = (ROOT / "README.md").read_text().partition("| extra | for |")[2].partition("\n\n")[0]
    named = [name for cell in re.findall(r"^\| (`.*?) \|", table, re.M) for name in re.findall(r"`(\w+)`", cell)]
    assert sorted(named) == sorted(re.findall(r"^(\w+) = \[", extras, re.M))


def test_the_commands_are_ones():
    seen = set()
    for page in PAGES:
        text = re.sub(r"\\\n\s*", "", page.read_text())
        for line in re.findall(r"^ {4}apr-dali (.*)$", text, re.M):
            words = shlex.split(line, comments=True)
            assert build_parser(words).parse_args(words).run, line
            seen.add(words[0])
    assert {"doctor", "eval", "analyze", "bench"} <= seen


def test_the_table_of_places_has_files():
    text = (ROOT / "docs/architecture.md").read_text().partition("## Where is")[2]
    rows = dict(re.findall(r"^\| ([^|`]+) \| `([\w/.]+)` \|$", text, re.M))
    assert len(rows) >= 24
    assert len(rows) == len(re.findall(r"^\| (?!looking)\w", text, re.M)), "a row has no path"
    assert [path for path in rows.values() if not (ROOT / path).is_file()] == []


def test_the_quick_start_runs(tmp_path, monkeypatch):
    """On the CPU, with few images and a smaller network."""
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    monkeypatch.setattr("apr_dali.data.sample.IMAGES_PER_CLASS", {"train": 1, "val": 1})
    write_sample(tmp_path / "sample", "folder")
    smaller = {
        "/path/imagenet/train": str(tmp_path / "sample/train"),
        "batch_size=256": "batch_size=8, image_size=64",
        'device="cuda"': 'device="cpu"',
        ".cuda()": "",
        "resnet50": "resnet18",
    }
    for given, instead in smaller.items():
        assert given in code
        code = code.replace(given, instead)
    found: dict = {}
    exec(code, found)
    views = found["loader"].batch_views
    assert found["images"].shape == (8 * views, 3, 64, 64)
    assert found["targets"].tolist() == found["targets"][::views].repeat_interleave(views).tolist()
    assert found["loss"].isfinite()
    assert found["model"].fc.out_features == 16


def test_the_evaluation_from_python_runs(tmp_path):
    sets = tmp_path / "sets"
    write_levels(sets / "val", random_levels(1))
    write_corruptions(sets / "imagenet-c", ("fog",))
    write_levels(tmp_path / "near", {"a": [84, 90]})
    torch.save(Brightness(), tmp_path / "mine.pt")
    code = "\n".join(re.findall(r"```python\n(.*?)```", (ROOT / "docs/evaluation.md").read_text(), re.S))
    for given, instead in {
        "mine.pt": f"{tmp_path}/mine.pt",
        "/path": str(tmp_path),
        '"auto"': '"cpu"',
        "**seen": "**seen, threads=1",
    }.items():
        assert given in code
        code = code.replace(given, instead)
    found: dict = {}
    exec(code, found)
    assert found["top1"] == pytest.approx(1 - error_of(sets / "val"))
    assert found["error"] == pytest.approx(np.mean(found["numbers"]["evaluations"]["corruption"]["errors"]["fog"]))
    assert 0 < found["auroc"] <= 1
    assert found["ece"] > 0
    described = re.findall(r"^\| `(evaluate_\w+)`", (ROOT / "docs/evaluation.md").read_text(), re.M)
    assert sorted(described) == [name for name in apr_dali.eval.__all__ if name.startswith("evaluate_")]


def test_citation_and_changelog_are_of_this_version():
    yaml = pytest.importorskip("yaml")
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert (cited["cff-version"], cited["version"]) == ("1.2.0", apr_dali.__version__)
    assert {"title", "authors", "message", "preferred-citation"} <= set(cited)
    assert cited["preferred-citation"]["authors"][0] == {"family-names": "Chen", "given-names": "Guangyao"}
    assert f"\n## {apr_dali.__version__}\n" in (ROOT / "CHANGELOG.md").read_text()


def test_the_table_of_versions_begins_with_the_lowest_that_is_admitted():
    lowest = set(re.findall(r"nvidia-dali-cuda\d+>=([\d.]+)", (ROOT / "pyproject.toml").read_text()))
    rows = re.findall(r"^\| ([\d.]+) \| ", (ROOT / "docs/index.md").read_text(), re.M)
    assert lowest == {rows[0]}
    assert rows == sorted(rows, key=lambda version: [int(part) for part in version.split(".")])


def test_options_of_the_trainers_are_known():
    text = re.sub(r"\\\n\s*", "", "\n".join(page.read_text() for page in PAGES))
    seen = 0
    for script, kind in (("train_imagenet.py", ImageNetOptions), ("train_cifar.py", CifarOptions)):
        known = {flag(item.name) for item in fields(kind)}
        for command in re.findall(rf"{script} (.*)", text):
            used = set(re.findall(r"--[\w-]+", command))
            assert used <= {*known, "--help"}, command
            seen += len(used)
    assert seen > 10
    assert set(re.findall(r"train_cifar.py .*--recipe ([\w-]+)", text)) <= set(CIFAR_RECIPES)


@pytest.mark.parametrize("name", sorted({*apr_dali.__all__, *apr_dali._HOME} - {"__version__"}))
def test_public_names_are_described_in_the_reference(name):
    thing = getattr(apr_dali, name)
    assert len(thing.__doc__) > 40
    assert thing.__module__ in in_the_reference()


@pytest.mark.parametrize("name", apr_dali.eval.__all__)
def test_the_names_of_evaluation_are_described_in_the_reference(name):
    thing = getattr(apr_dali.eval, name)
    assert len(thing.__doc__) > 40
    assert thing.__module__ in in_the_reference()


@pytest.mark.parametrize("name", in_the_reference())
def test_the_api_reference_has_its_modules(name):
    from pdoc import doc

    assert doc.Module(imported(name)).docstring


def test_the_api_reference_has_the_words_of_its_modules():
    from pdoc import doc

    assert len(in_the_reference()) > 10
    loader = doc.Module(importlib.import_module("apr_dali.pipelines.loader"))
    assert "on_error" in loader.get("ImageNetLoader").docstring


@pytest.mark.slow
def test_the_api_reference_is_written_without_a_warning(tmp_path):
    for name in in_the_reference():
        imported(name)
    script = [sys.executable, ROOT / "docs/api.py", tmp_path, *in_the_reference()]
    done = subprocess.run(script, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert [line for line in done.stderr.splitlines() if "/pdoc/" in line] == []  # not what libraries say of themselves
    page = (tmp_path / "apr_dali/eval.html").read_text()
    for name in apr_dali.eval.__all__:  # names of a first use
        assert f'<span class="name">{name}</span><span class="signature' in page
