"""The shape of the project: what imports what, what an import costs, and what a wheel installs."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from floors import AT_THE_ROOT, FLOORS, PAGE, page, source_of
from helpers.project import ROOT


def modules_of(path: Path) -> set[str]:
    """What a file imports, anywhere in it, as the names right below apr_dali."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        found |= {name.split(".")[1] for name in names if name.startswith("apr_dali.")}
    return found


def test_imports_run_downwards():
    floor = {name: level for level, names in enumerate(FLOORS) for name in names}
    places = [(path, ROOT / "apr_dali") for path in (ROOT / "apr_dali").rglob("*.py")]
    # rglob does not follow the links.
    places += [(path, ROOT) for name in AT_THE_ROOT for path in (ROOT / name).rglob("*.py")]
    wrong = []
    for path, top in places:
        name = path.relative_to(top).parts[0].removesuffix(".py")
        if name == "__init__":
            continue
        assert name in floor, f"{name} has no floor: add it to FLOORS in docs/floors.py"
        for other in modules_of(path) & set(floor):
            if other != name and floor[other] >= floor[name]:
                wrong.append(f"{path.relative_to(ROOT)} imports {other}")
    assert not wrong


def test_pipelines_alone_know_dali():
    """doctor asks whether DALI works at all."""
    importing = {
        path.relative_to(ROOT)
        for folder in ("apr_dali", *AT_THE_ROOT)
        for path in (ROOT / folder).rglob("*.py")
        if re.search(r"^\s*(from|import) nvidia\b", path.read_text(), re.MULTILINE)
    }
    assert {path for path in importing if path.parts[0] != "pipelines"} == {Path("apr_dali/doctor/facts.py")}


def test_the_page_shows_the_floors():
    for names in FLOORS:
        for name in names:
            assert source_of(name).is_file(), f"{name} has a floor in docs/floors.py and no module"
    assert PAGE.read_text() == page(), "docs/architecture.md shows another table: run python docs/floors.py"


@pytest.mark.parametrize("name", AT_THE_ROOT)
def test_links_are_relative(name):
    link = ROOT / "apr_dali" / name
    # An archive that knows no links has a file with the place that it leads to.
    leads_to = str(link.readlink()) if link.is_symlink() else link.read_text()
    assert leads_to == f"../{name}"


def test_only_commands_know_the_command_line():
    places = [*(ROOT / "eval").rglob("*.py"), *(ROOT / "apr_dali").rglob("*.py")]
    named = {str(path.relative_to(ROOT)) for path in places if re.search(r"\bargparse\b", path.read_text())}
    known = ("apr_dali/commands/", "apr_dali/cli.py", "apr_dali/training/", "apr_dali/integrations/")
    # What lies in the checkpoints of others.
    known += ("apr_dali/models/weights_file.py",)
    assert [name for name in sorted(named) if not name.startswith(known)] == []


def test_importing_the_package_is_quick_and_light():
    code = (
        "import os, sys, numpy; before = set(sys.modules); import apr_dali; dir(apr_dali);"
        "print(*(set(sys.modules) - before))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    # What takes the time is what it imports, on any machine.
    assert done.stdout.split() == ["apr_dali"]


def test_public_names_are_there():
    import apr_dali

    for name in apr_dali.__all__:
        assert getattr(apr_dali, name) is not None
    assert {"CifarLoader", "ImageNetLoader", "recombine", "pair", "single", "PairDraws", "SingleDraws"} <= set(
        dir(apr_dali)
    )
    with pytest.raises(AttributeError, match="no attribute 'double'"):
        _ = apr_dali.double


def test_nothing_of_torchvision_is_used_that_it_calls_private():
    private = re.compile(r"\b(v2|tv_tensors|torchvision)(\.\w+)*\._[a-z]|_transformed_types|_needs_transform_list")
    sources = [path for folder in ("apr_dali", *AT_THE_ROOT, "examples") for path in (ROOT / folder).rglob("*.py")]
    assert [f"{path.relative_to(ROOT)}" for path in sources if private.search(path.read_text())] == []
    assert private.search("v2._utils.is_pure_tensor(x)")


# ---- what is installed: built by a compiler that compiles nothing, as only the lists of files are asked ----

COMPILED_ONCE = ("augment_bindings", "bindings", "capsules", "jpeg_header", "plan", "resample_bindings", "threads")
"""The files of kernels/cpu that are linked into the modules of all levels."""

COMPILER = """\
#!/bin/sh
# Writes the file that is asked for, and its name into a list.
while [ $# -gt 0 ]; do
    if [ "$1" = -o ]; then echo "$2" >> "$COMPILED" && : > "$2"; fi
    shift
done
"""


@pytest.fixture(scope="module")
def compiler(tmp_path_factory) -> dict[str, str]:
    """The environment in which nothing is compiled; the file COMPILED lists what would be."""
    folder = tmp_path_factory.mktemp("compiler")
    command = folder / "c++"
    command.write_text(COMPILER)
    command.chmod(0o755)
    return {**os.environ, "CC": str(command), "CXX": str(command), "COMPILED": str(folder / "compiled")}


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """A copy of the project: setuptools would put what an earlier build left behind into the wheel."""
    skipped = shutil.ignore_patterns(".*", "build", "dist", "*.egg-info", "runs", "sample", "__pycache__", "*.so")
    return shutil.copytree(ROOT, tmp_path_factory.mktemp("folder") / "source", symlinks=True, ignore=skipped)


@pytest.fixture(scope="module")
def unzipped(source, tmp_path_factory) -> Path:
    """The same as it comes out of a ZIP archive, which has a file with a path where there is a link."""
    copy = shutil.copytree(source, tmp_path_factory.mktemp("zip") / "source", symlinks=True)
    for name in AT_THE_ROOT:
        link = copy / "apr_dali" / name
        if link.is_symlink():
            link.unlink()
            link.write_text(f"../{name}")
    return copy


def build(kind: str, source: Path, out: Path, environment: dict[str, str]) -> Path:
    """The wheel or sdist of `source`."""
    command = [sys.executable, "-m", "build", "--no-isolation", f"--{kind}", "--outdir", out, source]
    subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    (built,) = out.iterdir()
    return built


def names_in(wheel: Path) -> list[str]:
    return sorted(zipfile.ZipFile(wheel).namelist())


@pytest.fixture(scope="module")
def wheel(source, compiler, tmp_path_factory) -> Path:
    return build("wheel", source, tmp_path_factory.mktemp("wheel"), compiler)


def importable_from(site: Path) -> set[str]:
    names = ("apr_dali", "kernels", "pipelines", "eval", "tests", "benchmarks", "experiments", "train_imagenet")
    code = (
        f"import sys; sys.path.insert(0, {str(site)!r})\n"
        f"from importlib.util import find_spec\nprint(*[name for name in {names} if find_spec(name)])"
    )
    run = [sys.executable, "-ES", "-c", code]
    return set(subprocess.run(run, capture_output=True, text=True, check=True, cwd=site).stdout.split())


def names_of(folder: Path, pattern: str) -> set[str]:
    return {path.name for path in folder.glob(pattern)}


@pytest.mark.slow
def test_a_wheel_installs_the_one_package_whole(wheel, tmp_path):
    site = tmp_path / "site"
    pip = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--target", site, wheel]
    subprocess.run(pip, check=True, capture_output=True)
    assert importable_from(site) == {"apr_dali"}
    sources = {path.relative_to(ROOT / "apr_dali") for path in (ROOT / "apr_dali").rglob("*.py")}
    for name in AT_THE_ROOT:
        sources |= {path.relative_to(ROOT) for path in (ROOT / name).rglob("*.py")}
    installed = {path.relative_to(site / "apr_dali") for path in (site / "apr_dali").rglob("*.py")}
    assert installed == sources
    # The GPU's kernels are compiled where they run.
    assert names_of(site / "apr_dali/kernels/cuda", "*.cu*") == names_of(ROOT / "kernels/cuda", "*.cu*")
    assert names_of(site / "apr_dali/data", "*.gz") == names_of(ROOT / "apr_dali/data", "*.gz") != set()
    # The CPU's are compiled already.
    assert not list(site.rglob("*.[ch]pp"))
    modules = {path.name.partition(".")[0] for path in (site / "apr_dali/kernels/cpu").glob("*.so")}
    assert "_native_baseline" in modules
    assert modules <= {"_native_baseline", "_native_v3", "_native_v4"}
    assert (site / "apr_dali" / "py.typed").is_file()


@pytest.mark.slow
def test_each_file_is_compiled_once_for_each_level_that_it_depends_on(wheel, compiler):
    levels = {name.partition("_native_")[2].partition(".")[0] for name in names_in(wheel) if "_native_" in name}
    compiled = [Path(line) for line in Path(compiler["COMPILED"]).read_text().split() if line.endswith(".o")]
    assert len(compiled) == len(set(compiled))
    for path in (ROOT / "kernels/cpu").glob("*.cpp"):
        found = {each.parts[-4] for each in compiled if each.stem == path.stem}
        assert found == ({"common"} if path.stem in COMPILED_ONCE else levels), path


def test_what_is_compiled_once_is_the_same_for_every_level():
    """A file that is linked into every module includes nothing that depends on the width of the vectors."""
    sources = ROOT / "kernels/cpu"
    waiting = [sources / f"{name}.cpp" for name in COMPILED_ONCE]
    seen = set()
    while waiting:
        path = waiting.pop()
        if path not in seen:
            seen.add(path)
            waiting += [sources / name for name in re.findall(r'#include "(.+)"', path.read_text())]
    assert len(seen) > 3
    assert sources / "simd.hpp" not in seen


@pytest.mark.slow
def test_a_zip_archive_gives_the_same_wheel(unzipped, wheel, compiler, tmp_path):
    assert not (unzipped / "apr_dali/kernels").is_dir()
    assert names_in(build("wheel", unzipped, tmp_path, compiler)) == names_in(wheel)


@pytest.mark.slow
def test_an_sdist_gives_the_same_wheel(source, wheel, compiler, tmp_path):
    sdist = build("sdist", source, tmp_path / "sdist", compiler)
    shutil.unpack_archive(sdist, tmp_path / "unpacked", **({"filter": "data"} if sys.version_info >= (3, 12) else {}))
    (folder,) = (tmp_path / "unpacked").iterdir()
    assert names_in(build("wheel", folder, tmp_path / "wheel", compiler)) == names_in(wheel)


@pytest.mark.slow
@pytest.mark.parametrize("place", ["source", "unzipped"])
def test_an_editable_install_finds_every_part(place, compiler, tmp_path, request):
    folder = request.getfixturevalue(place)
    pip = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, "--target", tmp_path, "-e", folder], check=True, capture_output=True, env=compiler)
    names = ("", ".kernels.cpu.backend", ".kernels.cpu._native_baseline", ".pipelines.loader", ".eval.clean")
    code = (
        f"import site; site.addsitedir({str(tmp_path)!r})\n"
        f"from importlib.util import find_spec\nprint(*[find_spec(f'apr_dali{{name}}').origin for name in {names}])"
    )
    # Without the site-packages of these tests: the project is installed there, too.
    run = [sys.executable, "-ES", "-c", code]
    done = subprocess.run(run, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    package, *modules = [Path(path).resolve() for path in done.stdout.split()]
    assert package == folder / "apr_dali/__init__.py"
    assert [str(path.relative_to(folder)).partition(".")[0] for path in modules] == [
        "kernels/cpu/backend",
        "kernels/cpu/_native_baseline",
        "pipelines/loader",
        "eval/clean",
    ]


@pytest.mark.slow
def test_an_unzipped_archive_runs_from_its_root(unzipped):
    code = "import apr_dali.kernels.cpu.backend as module; print(module.__file__)"
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    run = [sys.executable, "-c", code]
    done = subprocess.run(run, capture_output=True, text=True, check=False, cwd=unzipped, env=environment)
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()) == unzipped / "kernels/cpu/backend.py"


@pytest.mark.slow
def test_coverage_sees_the_parts_at_the_root(tmp_path):
    pytest.importorskip("coverage")
    coverage, data = [sys.executable, "-m", "coverage"], f"--data-file={tmp_path / 'data'}"
    script = tmp_path / "script.py"
    script.write_text("import apr_dali.kernels.cuda.launch, apr_dali.draws\n")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    run = [*coverage, "run", data, "--source=apr_dali", script]
    subprocess.run(run, check=True, capture_output=True, cwd=ROOT, env=environment)
    report = [*coverage, "json", data, "--quiet", "-o", "-"]
    told = subprocess.run(report, check=True, capture_output=True, text=True, cwd=ROOT, env=environment).stdout
    percent = {name: found["summary"]["percent_covered"] for name, found in json.loads(told)["files"].items()}
    assert percent["kernels/cuda/launch.py"] > 0
    assert percent["apr_dali/draws.py"] > 0
    assert percent["eval/clean.py"] == percent["pipelines/loader.py"] == 0
