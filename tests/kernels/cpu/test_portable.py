"""The sources of the native operators are right for other compilers and processors, where such a compiler is here."""

import shutil
import subprocess
import sysconfig

import pytest
from helpers.project import ROOT

SOURCES = sorted((ROOT / "kernels" / "cpu").glob("*.cpp"))
COMPILERS = {
    "aarch64-linux-gnu-g++": [],
    "clang++-16": ["-march=x86-64-v4"],
    "clang++": ["-march=x86-64-v3"],
}

QUICK = ROOT / "kernels" / "cpu" / "augment_phases.cpp"  # it includes more of our headers than any other
CASES = [QUICK, *(pytest.param(path, marks=pytest.mark.slow) for path in SOURCES if path != QUICK)]


@pytest.mark.parametrize("compiler", COMPILERS)
@pytest.mark.parametrize("source", CASES, ids=lambda path: path.name)
def test_compiles_without_a_warning(source, compiler):
    if shutil.which(compiler) is None:
        pytest.skip(f"{compiler} is not installed")
    pybind11 = pytest.importorskip("pybind11", reason="its headers come with the build")
    includes = [f"-I{pybind11.get_include()}", f"-I{sysconfig.get_path('include')}"]
    flags = ["-std=c++20", "-fsyntax-only", "-fPIC", "-Wall", "-Wextra", "-Werror", "-Wno-psabi", '-DAPR_SOURCES=""']
    command = [compiler, *flags, *COMPILERS[compiler], *includes, str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
