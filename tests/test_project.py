"""The shape of the project: what imports what, what an import costs, and what a wheel installs."""

import ast
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# A room may import itself and the rooms on lower floors. apr_dali.errors and the package itself are the ground.
FLOORS = [
    {"errors", "cpus"},
    {"spectral", "draws"},
    {"bands"},
    {"config", "pillow_ops"},
    {"kernels", "data"},
    {"backend"},
    {"transforms", "models"},
    {"eval"},
    {"pipelines", "training"},
    {"bench"},
    {"integrations", "doctor", "commands"},
    {"cli"},
    {"__main__"},
]


def rooms_of(path: Path) -> set[str]:
    """The rooms of apr_dali that a file imports anywhere in it."""
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
    floor = {room: level for level, rooms in enumerate(FLOORS) for room in rooms}
    wrong = []
    for path in (ROOT / "apr_dali").rglob("*.py"):
        room = path.relative_to(ROOT / "apr_dali").parts[0].removesuffix(".py")
        if room == "__init__":
            continue
        assert room in floor, f"{room} has no floor: add it to FLOORS"
        for other in rooms_of(path) & set(floor):
            if other != room and floor[other] >= floor[room]:
                wrong.append(f"{path.relative_to(ROOT)} imports {other}")
    # rglob does not follow the links: the rooms at the root.
    for room in ("kernels", "pipelines", "eval"):
        for path in (ROOT / room).rglob("*.py"):
            wrong += [
                f"{path.relative_to(ROOT)} imports {other}"
                for other in rooms_of(path) & set(floor)
                if other != room and floor[other] >= floor[room]
            ]
    assert not wrong


@pytest.mark.parametrize("room", ["kernels", "pipelines", "eval"])
def test_links_are_relative(room):
    link = ROOT / "apr_dali" / room
    assert link.is_symlink()
    assert str(link.readlink()) == f"../{room}"


def test_importing_the_package_is_quick_and_light():
    code = (
        "import sys, time, numpy; start = time.perf_counter(); import apr_dali; dir(apr_dali);"
        "heavy = {'torch', 'nvidia.dali', 'cupy', 'PIL', 'sklearn', 'skimage'} & set(sys.modules);"
        "print(time.perf_counter() - start, *heavy)"
    )
    runs = [subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True) for _ in range(3)]
    seconds = min(float(run.stdout.split()[0]) for run in runs)
    assert runs[0].stdout.split()[1:] == []
    assert seconds < 0.3


def test_public_names_are_there():
    import apr_dali

    for name in apr_dali.__all__:
        assert getattr(apr_dali, name) is not None
    assert {"CifarLoader", "ImageNetLoader", "recombine", "pair", "single", "PairDraws", "SingleDraws"} <= set(
        dir(apr_dali)
    )
    with pytest.raises(AttributeError, match="no attribute 'double'"):
        _ = apr_dali.double


def importable_from(site: Path) -> set[str]:
    names = ("apr_dali", "kernels", "pipelines", "eval", "tests", "benchmarks", "train_imagenet")
    code = (
        f"import sys; sys.path.insert(0, {str(site)!r})\n"
        f"from importlib.util import find_spec\nprint(*[name for name in {names} if find_spec(name)])"
    )
    run = [sys.executable, "-S", "-c", code]
    return set(subprocess.run(run, capture_output=True, text=True, check=True, cwd=site).stdout.split())


def test_a_wheel_installs_the_one_package_whole(tmp_path):
    # Built from a copy: setuptools would put what an earlier build left behind into the wheel.
    skipped = shutil.ignore_patterns(".*", "build", "dist", "*.egg-info", "runs", "sample", "__pycache__", "*.so")
    shutil.copytree(ROOT, tmp_path / "source", symlinks=True, ignore=skipped)
    build = [sys.executable, "-m", "build", "--wheel", "--outdir", tmp_path / "wheels", tmp_path / "source"]
    subprocess.run(build, check=True, capture_output=True, text=True)
    (wheel,) = (tmp_path / "wheels").glob("*.whl")
    site = tmp_path / "site"
    pip = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--target", site, wheel]
    subprocess.run(pip, check=True, capture_output=True)
    assert importable_from(site) == {"apr_dali"}
    sources = {path.relative_to(ROOT / "apr_dali") for path in (ROOT / "apr_dali").rglob("*.py")}
    for room in ("kernels", "pipelines", "eval"):
        sources |= {path.relative_to(ROOT) for path in (ROOT / room).rglob("*.py")}
    installed = {path.relative_to(site / "apr_dali") for path in (site / "apr_dali").rglob("*.py")}
    assert installed == sources
    # The GPU's kernels are compiled where they run.
    kernels = {path.name for path in (ROOT / "kernels/cuda").iterdir()}
    assert {path.name for path in (site / "apr_dali/kernels/cuda").iterdir()} == kernels
    # The CPU's are compiled already.
    assert not list(site.rglob("*.cpp"))
    assert (site / "apr_dali" / "py.typed").is_file()
