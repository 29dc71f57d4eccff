"""The build of the native operators, by a compiler that compiles nothing, and not all of that."""

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from helpers.project import ROOT

from apr_dali.kernels.cpu import sources

pytest.importorskip("pybind11", reason="its headers come with the build")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.uname().machine != "x86_64", reason="other processors have one level"),
]

COMPILER = """\
#!/bin/sh
# Writes the file that is asked for; gives up where an argument is that of the variable REFUSED.
for argument in "$@"; do
    if [ "$argument" = "$REFUSED" ]; then echo "no such option: $argument" >&2; exit 1; fi
done
while [ $# -gt 0 ]; do
    if [ "$1" = -o ]; then : > "$2"; fi
    shift
done
"""

LEVELS = {"baseline", "v3", "v4"}


@pytest.fixture
def project(tmp_path) -> Path:
    """What a build reads, without what earlier ones made."""
    folder = tmp_path / "project"
    skipped = shutil.ignore_patterns("__pycache__", "*.so")
    for name in ("apr_dali", "kernels", "pipelines", "eval"):
        shutil.copytree(ROOT / name, folder / name, symlinks=True, ignore=skipped)
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    return folder


def build(project: Path, *options: str, refused: str = "") -> str:
    """Run the build with a compiler that does not know one of its options; what it prints."""
    compiler = project.parent / "c++"
    compiler.write_text(COMPILER)
    compiler.chmod(0o755)
    environment = {**os.environ, "CC": str(compiler), "CXX": str(compiler), "REFUSED": refused}
    command = [sys.executable, "setup.py", "build_ext", *options]
    done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def module(folder: Path, level: str) -> Path:
    return folder / f"_native_{level}{sysconfig.get_config_var('EXT_SUFFIX')}"


def levels_in(folder: Path) -> set[str]:
    return {level for level in LEVELS if module(folder, level).exists()}


def test_a_level_that_fails_goes_and_the_others_are_built(project):
    place = project / "kernels/cpu"
    for level in LEVELS:
        module(place, level).write_text("older")
    printed = build(project, "--inplace", refused="-march=x86-64-v4")
    assert levels_in(place) == {"baseline", "v3"}
    assert {module(place, level).read_text() for level in levels_in(place)} == {""}
    assert "native operators not built, for the reasons above: v4; another level or torch serves" in printed
    assert f"removed {module(place, 'v4')}" in printed


def test_without_a_compiler_the_modules_of_these_sources_stay(project):
    place = project / "kernels/cpu"
    module(place, "baseline").write_text(f"compiled from {sources.digest()}")
    module(place, "v3").write_text("older")
    printed = build(project, "--inplace", refused="-c")
    assert levels_in(place) == {"baseline"}
    assert "native operators not built, for the reasons above: baseline, v3, v4; torch serves" in printed


def test_what_an_earlier_build_left_is_not_installed(project):
    assert "not built" not in build(project)
    (place,) = project.glob("build/lib*/apr_dali/kernels/cpu")
    assert levels_in(place) == LEVELS
    build(project, refused="-march=x86-64-v4")
    assert levels_in(place) == {"baseline", "v3"}


def test_flags_of_the_environment_do_not_change_what_is_computed(project, monkeypatch):
    monkeypatch.setenv("CFLAGS", "-Ofast -march=native")
    monkeypatch.setenv("CXXFLAGS", "-Ofast -march=native")
    compiler = project.parent / "c++"
    commands = [line.split() for line in build(project, "--verbose").splitlines() if line.startswith(str(compiler))]
    compiled = [command for command in commands if "-c" in command]
    linked = [command for command in commands if "-shared" in command]
    assert (len(compiled) > len(LEVELS), len(linked)) == (True, len(LEVELS))
    for command in commands:
        assert [word for word in command if word.startswith("-O")][-1] == "-O3"
        assert "-fno-fast-math" in command
    for command in compiled:
        assert [word for word in command if word.startswith("-march=")][-1] != "-march=native"
        assert command.index("-fno-fast-math") < command.index("-fno-math-errno")  # which it would set
