"""The packages, and the native CPU operators: one extension module for each instruction set.

The operators are optional: where no C++20 compiler is found the package installs without them, `apr-dali doctor` says
so, and the torch backend serves. Everything else is in pyproject.toml.
"""

import os
import platform
import runpy
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pybind11
from setuptools import Extension, find_packages, setup
from setuptools.command.build_ext import build_ext

# The parts that lie at the root, by their place there: an archive may have lost the links inside the package.
AT_THE_ROOT = {f"apr_dali.{name}": name for name in ("eval", "kernels", "pipelines")}
PACKAGES = {*find_packages(include=["apr_dali*"])}
for name in AT_THE_ROOT.values():
    PACKAGES |= {f"apr_dali.{name}", *(f"apr_dali.{name}.{part}" for part in find_packages(name))}

SOURCES = Path("kernels/cpu")
# What the extension tells when it is loaded, so that one of older sources is not taken for one of these.
DIGEST = runpy.run_path(str(SOURCES / "sources.py"))["digest"](SOURCES)
# What does not depend on the instruction set is compiled once and linked into every module.
COMMON = [
    f"{SOURCES}/{name}.cpp"
    for name in (
        "augment_bindings",
        "bindings",
        "capsules",
        "jpeg_header",
        "plan",
        "resample_bindings",
        "threads",
    )
]
FLAGS = [
    "-std=c++20",
    "-O3",
    "-g0",
    "-fvisibility=hidden",
    # Whatever CFLAGS ask for: NaN is looked for, and sums have their order. First, as it also sets errno and traps.
    "-fno-fast-math",
    # The operations are Pillow's bit for bit, and threads must not change a bit: no fused roundings unasked.
    "-ffp-contract=off",
    # No errno and no traps: a root or a comparison then is one instruction.
    "-fno-math-errno",
    "-fno-trapping-math",
    # GCC 12 warns of a vector that a function returns, even where it is inlined.
    "-Wno-psabi",
]
# Linked by the flags of fast mathematics, a module would take the subnormal numbers of the whole process to be 0.
LINK_FLAGS = ["-pthread", "-O3", "-fno-fast-math"]
LEVELS: dict[str, list[str]] = {"baseline": []}
if platform.machine() in ("x86_64", "AMD64"):
    # By name: CFLAGS may ask for the processor that compiles, and others load this one.
    LEVELS["baseline"] = ["-march=x86-64"]
    LEVELS["v3"] = ["-march=x86-64-v3"]
    LEVELS["v4"] = ["-march=x86-64-v4", "-mprefer-vector-width=512"]


def extension(level: str) -> Extension:
    """The module apr_dali.kernels.cpu._native_<level>."""
    return Extension(
        f"apr_dali.kernels.cpu._native_{level}",
        # The largest first: the others fill the time beside it.
        sources=sorted(map(str, SOURCES.glob("[!.]*.cpp")), key=os.path.getsize, reverse=True),
        include_dirs=[pybind11.get_include()],
        extra_compile_args=FLAGS,
        extra_link_args=LINK_FLAGS,
        language="c++",
        optional=True,
    )


def level_of(ext: Extension) -> str:
    """One of LEVELS."""
    return ext.name.rpartition("_native_")[2]


def cpus() -> int:
    """How many compilers can run at a time."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class ParallelBuild(build_ext):
    """Compiles the files of all modules side by side, a compiler on each CPU, and links each module when it can.

    A module that cannot be made is left out, and what an earlier build made of older sources is removed.
    """

    def build_extensions(self):
        self.objects = {}
        # Not by the dates of files: one that is older than a module may be another one than it was made of.
        self.force = True
        with ThreadPoolExecutor(self.parallel or cpus()) as pool:
            for source in self.extensions[0].sources:
                for level in ["common"] if source in COMMON else LEVELS:
                    self.objects[source, level] = pool.submit(self.compile, source, level)
            super().build_extensions()
        self.missing = [ext for ext in self.extensions if not Path(self.get_ext_fullpath(ext.name)).exists()]
        if self.missing:
            names = ", ".join(map(level_of, self.missing))
            others = "another level or " if len(self.missing) < len(LEVELS) else ""
            self.warn(
                f"native operators not built, for the reasons above: {names}; {others}torch serves in their place"
            )

    def compile(self, source: str, level: str) -> list[str]:
        """The object file of one source."""
        ext = self.extensions[0]
        return self.compiler.compile(
            [source],
            output_dir=os.path.join(self.build_temp, level),
            macros=[("APR_SOURCES", f'"{DIGEST}"')],
            include_dirs=ext.include_dirs,
            debug=self.debug,
            extra_postargs=[*ext.extra_compile_args, *LEVELS.get(level, LEVELS["baseline"])],
        )

    def build_extension(self, ext):
        """Link the objects. An error of the compiler comes up here, where that of an optional module is a warning."""
        level = level_of(ext)
        Path(self.get_ext_fullpath(ext.name)).unlink(missing_ok=True)
        for source in ext.sources:
            ext.extra_objects += self.objects[source, "common" if source in COMMON else level].result()
        ext.sources = []
        super().build_extension(ext)

    def copy_extensions_to_source(self):
        """Put the modules beside their sources, in a clone; one of older sources there would be refused when loaded."""
        super().copy_extensions_to_source()
        for ext in self.missing:
            path = Path(self.get_ext_fullpath(ext.name))
            if path.exists() and DIGEST.encode() not in path.read_bytes():
                path.unlink()
                self.warn(f"removed {path}, which was compiled from older sources")


setup(
    packages=sorted(PACKAGES),
    package_dir=AT_THE_ROOT,
    # The GPU's kernels are compiled where they run; those of the CPU are compiled in a wheel.
    package_data={"apr_dali.kernels.cuda": ["*.cu", "*.cuh"], "apr_dali.data": ["*.txt.gz"]},
    include_package_data=False,
    ext_modules=[extension(level) for level in LEVELS],
    cmdclass={"build_ext": ParallelBuild},
)
