"""What the documentation names is there: files, links, options, and the modules of the API reference."""

import importlib
import re
from dataclasses import fields

import pytest
from helpers.project import ROOT

from apr_dali.training.options import CIFAR_RECIPES, CifarOptions, ImageNetOptions, flag

PAGES = sorted((ROOT / "docs").glob("*.md"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_files_and_links_are_there(page):
    text = page.read_text()
    for named in re.findall(r"`((?:examples|apr_dali|benchmarks|experiments)/[\w/.]+)`", text):
        assert (ROOT / named).exists(), named
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", text):
        assert (page.parent / target).exists(), target


def test_options_of_the_trainers_are_known():
    text = re.sub(r"\\\n\s*", "", "\n".join(page.read_text() for page in PAGES))
    seen = 0
    for script, kind in (("train_imagenet.py", ImageNetOptions), ("train_cifar.py", CifarOptions)):
        known = {flag(item.name) for item in fields(kind)}
        for command in re.findall(rf"{script} (.*)", text):
            used = set(re.findall(r"--[\w-]+", command))
            assert used <= known, command
            seen += len(used)
    assert seen > 10
    assert set(re.findall(r"train_cifar.py .*--recipe ([\w-]+)", text)) <= set(CIFAR_RECIPES)


def test_the_api_reference_has_its_modules_and_their_words():
    from pdoc import doc

    listed = re.search(r"^API = \$\(addprefix apr_dali\.,(.*?)\)$", (ROOT / "Makefile").read_text(), re.M | re.S)[1]
    names = listed.replace("\\", "").split()
    assert len(names) > 10
    for name in names:
        module = doc.Module(importlib.import_module(f"apr_dali.{name}"))
        assert module.docstring, name
    loader = doc.Module(importlib.import_module("apr_dali.pipelines.loader"))
    assert "on_error" in loader.get("ImageNetLoader").docstring
