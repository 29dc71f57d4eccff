"""The names that people import: each is there, in the API reference, and says what arrays it takes and gives."""

import ast
import importlib
import inspect
import re
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from helpers.project import ROOT, imported, in_the_reference

import apr_dali

MODULES = in_the_reference()
_ARRAYS = re.compile(r"NDArray|ArrayLike|Tensor")
_SHAPE = re.compile(r"\([^()]*\b[A-Z]\b[^()]*\)")  # (N, C, H, W)
_DTYPE = re.compile(r"u?int|float|bool|complex")


def public(module: ModuleType) -> Iterator[tuple[str, Any]]:
    """The functions and classes of a module with their methods, by name."""
    for name, thing in vars(module).items():
        if name.startswith("_") or getattr(thing, "__module__", None) != module.__name__:
            continue
        if inspect.isfunction(thing) or inspect.isclass(thing):
            yield name, thing
        if inspect.isclass(thing):
            methods = {key: getattr(value, "__func__", value) for key, value in vars(thing).items()}
            yield from (
                (f"{name}.{key}", value)
                for key, value in methods.items()
                if not key.startswith("_") and inspect.isfunction(value)
            )


def arrays_of(thing: Any) -> list[str]:
    """The parameters of a function, or the fields of a class, that are arrays by their annotation."""
    if inspect.isclass(thing):
        kinds = vars(thing).get("__annotations__", {})
    else:
        kinds = {name: given.annotation for name, given in inspect.signature(thing).parameters.items()}
    return [name for name, kind in kinds.items() if _ARRAYS.search(str(kind))]


def lacks(thing: Any, others: dict[str, Any]) -> str:
    """What the docstring does not say; others: the module's names, to which it may point with "as for `name`"."""
    words = inspect.getdoc(thing) or ""
    if not words:
        return "has no docstring"
    words += "".join(others[name].__doc__ or "" for name in re.findall(r"as for `(\w+)`", words) if name in others)
    if arrays_of(thing) and not _SHAPE.search(words):
        return f"says no shape of {', '.join(arrays_of(thing))}"
    if arrays_of(thing) and not _DTYPE.search(words):
        return f"says no dtype of {', '.join(arrays_of(thing))}"
    return ""


@pytest.mark.parametrize("name", MODULES)
def test_every_public_name_is_documented(name):
    module = imported(name)
    found = dict(public(module))
    # A package gives the names of its modules, another module may give constants alone.
    assert found or hasattr(module, "__path__") or any(key.isupper() for key in vars(module))
    assert {key: words for key, thing in found.items() if (words := lacks(thing, found))} == {}


def test_the_names_of_the_package_are_there_and_in_the_reference():
    assert sorted(apr_dali.__all__) == apr_dali.__all__
    assert set(apr_dali.__all__) == {*apr_dali._HOME, "__version__"}
    assert set(apr_dali._HOME.values()) <= set(MODULES)
    for name, home in apr_dali._HOME.items():
        thing = getattr(apr_dali, name)
        assert thing is getattr(importlib.import_module(home), name)
        assert thing.__doc__, name


def test_type_checkers_know_the_same_names():
    text = (ROOT / "apr_dali/__init__.py").read_text()
    assert (
        dict((name, home) for home, name in re.findall(r"    from (\S+) import (\w+) as \2\n", text)) == apr_dali._HOME
    )


def test_views_has_one_default():
    from apr_dali.integrations.lightning import AprDataModule, AprPairCallback
    from apr_dali.integrations.timm import create_loader
    from apr_dali.pipelines.imagenet import Graph
    from apr_dali.pipelines.operators import apr_pair

    made = (apr_dali.ImageNetLoader, apr_dali.AprPair, AprPairCallback, AprDataModule, create_loader, Graph, apr_pair)
    assert {inspect.signature(thing).parameters["views"].default for thing in made} == {"both"}
    assert "views" not in inspect.signature(apr_dali.pair).parameters


# ---- what people are led to ----

_DOTTED = r"\bapr_dali(?:\.\w+)+"


def led_to(path: Path) -> set[str]:
    """The dotted names of this package that a page or an example names, or the docstrings of a module."""
    text = path.read_text()
    if path.suffix == ".py" and path.parent.name != "examples":
        nodes = (ast.Module, ast.ClassDef, ast.FunctionDef)
        words = [ast.get_docstring(node) for node in ast.walk(ast.parse(text)) if isinstance(node, nodes)]
        return {name for docstring in words if docstring for name in re.findall(f"`({_DOTTED})", docstring)}
    imported = re.findall(r"from (apr_dali[\w.]*) import ([\w, ]+)", text)
    return {
        *re.findall(_DOTTED, text),
        *(f"{module}.{name.strip()}" for module, names in imported for name in names.split(",")),
    }


def home_of(dotted: str) -> str:
    """The module of a dotted name; AssertionError where there is no such thing."""
    parts = dotted.split(".")
    for count in range(len(parts), 0, -1):
        try:
            thing = importlib.import_module(".".join(parts[:count]))
        except ModuleNotFoundError as error:
            if not dotted.startswith(error.name):  # something else is missing
                raise
            continue
        for part in parts[count:]:
            assert hasattr(thing, part), f"there is no {dotted}"
            thing = getattr(thing, part)
        return ".".join(parts[:count])
    raise AssertionError(f"there is no {dotted}")


_GUIDES = [*sorted((ROOT / "docs").glob("*.md")), ROOT / "README.md", *sorted((ROOT / "examples").glob("*.py"))]
_SOURCES = [Path(find_spec(name).origin) for name in MODULES]


@pytest.mark.parametrize("path", [*_GUIDES, *_SOURCES], ids=lambda path: "-".join(path.parts[-2:]))
def test_what_people_are_led_to_is_there_and_in_the_reference(path):
    try:
        homes = {home_of(name) for name in led_to(path)}
    except ImportError as error:
        if "needs DALI" not in str(error):
            raise
        pytest.skip(str(error))
    # A package by itself stands for its modules.
    packages = {name.rpartition(".")[0] for name in MODULES}
    assert homes - {*MODULES, *packages} == set()


def test_modules_that_an_example_imports_are_found(tmp_path):
    (tmp_path / "examples").mkdir()
    example = tmp_path / "examples/one.py"
    example.write_text("from apr_dali.runtime import cpus\nimport apr_dali.doctor\n")
    assert {home_of(name) for name in led_to(example)} >= {"apr_dali.runtime.cpus", "apr_dali.doctor"}
    with pytest.raises(AssertionError, match=r"there is no apr_dali\.training\.torch_threads\.choose"):
        home_of("apr_dali.training.torch_threads.choose")


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda x: x, "has no docstring"),
        ("An image.", "says no shape of x"),
        ("An image (H, W).", "says no dtype of x"),
        ("An image, as for `other`.", "says no shape of x"),
        ("uint8 (H, W).", ""),
    ],
)
def test_a_docstring_that_says_too_little_is_found(function, message):
    def change(x: "NDArray[Any]"): ...  # noqa: F821

    change.__doc__ = function if isinstance(function, str) else None
    assert lacks(change, {}) == message
