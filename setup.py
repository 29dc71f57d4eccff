"""The native CPU operators: one extension module for each instruction set; everything else is in pyproject.toml.

They are optional: where no C++20 compiler is found the package installs without them, `apr-dali doctor` says so, and
the torch backend serves.
"""

import platform
from pathlib import Path

import pybind11
from setuptools import Extension, setup

# By way of the link, which an sdist turns into a folder.
SOURCES = Path("apr_dali/kernels/cpu")
FLAGS = [
    "-std=c++20",
    "-O3",
    "-g0",
    "-fvisibility=hidden",
    # The operations are Pillow's bit for bit, and threads must not change a bit: no fused roundings unasked.
    "-ffp-contract=off",
    # No errno and no traps: a root or a comparison then is one instruction.
    "-fno-math-errno",
    "-fno-trapping-math",
    # GCC 12 warns of a vector that a function returns, even where it is inlined.
    "-Wno-psabi",
]
LEVELS = {"baseline": []}
if platform.machine() in ("x86_64", "AMD64"):
    LEVELS["v3"] = ["-march=x86-64-v3"]
    LEVELS["v4"] = ["-march=x86-64-v4", "-mprefer-vector-width=512"]


def extension(level: str, flags: list[str]) -> Extension:
    """The module apr_dali.kernels._native_<level>."""
    return Extension(
        f"apr_dali.kernels._native_{level}",
        sources=sorted(str(path) for path in SOURCES.glob("*.cpp")),
        depends=sorted(str(path) for path in SOURCES.glob("*.hpp")),
        include_dirs=[pybind11.get_include()],
        define_macros=[("APR_LEVEL", f"_native_{level}")],
        extra_compile_args=[*FLAGS, *flags],
        extra_link_args=["-pthread"],
        language="c++",
        optional=True,
    )


setup(
    ext_modules=[extension(level, flags) for level, flags in LEVELS.items()],
    # A wheel has them compiled. To setuptools every folder is a package.
    exclude_package_data={"apr_dali.kernels.cpu": ["*"]},
)
