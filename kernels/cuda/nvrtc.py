"""Our CUDA kernels: their sources in kernels/cuda, and how they are compiled.

At run time CuPy compiles them with NVRTC, once for each device and set of definitions, and keeps the result in its
disk cache. `report` and `ptx` compile with no driver and no device, and give what the compiler says and makes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from apr_dali.kernels.cuda import launch

SOURCES = Path(__file__).resolve().parent
_INCLUDE = re.compile(r'#include "([\w.]+)"')
_ERROR = re.compile(r"^([\w./]+)\((\d+)\): error: ", re.MULTILINE)
_FUNCTION = re.compile(
    r"Compiling entry function '(?P<name>\w+)'.*?"
    r"(?P<stack>\d+) bytes stack frame, (?P<stores>\d+) bytes spill stores, (?P<loads>\d+) bytes spill loads.*?"
    r"Used (?P<registers>\d+) registers",
    re.DOTALL,
)


@dataclass(frozen=True)
class Program:
    """One .cu file of kernels/cuda with the definitions it is compiled with.

    fused_multiply_add: False where every product and sum must round by itself, as on the CPU.
    """

    file: str
    defines: tuple[tuple[str, str | int], ...] = ()
    fused_multiply_add: bool = True

    @property
    def options(self) -> tuple[str, ...]:
        """What NVRTC is called with, but for the architecture."""
        definitions = tuple(f"-D{name}={value}" for name, value in self.defines)
        return ("-std=c++17", *definitions, *(() if self.fused_multiply_add else ("--fmad=false",)))


OPERATIONS = Program("operations.cu", (("WORKSPACE", launch.WORKSPACE),), fused_multiply_add=False)


@cache
def generic(real: str = "float") -> Program:
    """The kernels around cuFFT, in "float" or "double"."""
    return Program("generic.cu", (("REAL", real), ("COMPLEX", f"{real}2"), ("ELEMENT_THREADS", launch.ELEMENT_THREADS)))


@cache
def with_step(program: Program, step: str) -> Program:
    """The same kernels with another step between the transforms of columns than APR's: see steps.cuh."""
    return replace(program, defines=(*program.defines, (step, 1)))


@cache
def fused(size: int, across_channels: bool = True, half: bool = False) -> Program:
    """The three kernels for images of `size` × `size`; `half`: with float16 between them."""
    halved = (("HALF_SPECTRA", 1),) if half else ()
    return Program("fused.cu", (*launch.fused_definitions(size, across_channels).items(), *halved))


@cache
def whole(size: int, across_channels: bool = True) -> Program:
    """The one kernel for images of `size` × `size`."""
    return Program("whole.cu", tuple(launch.whole_definitions(size, across_channels).items()))


@cache
def writing_channels_last(program: Program) -> Program:
    """The same kernels for results (H, W, C)."""
    return replace(program, defines=(*program.defines, ("CHANNELS_LAST", 1)))


@dataclass(frozen=True)
class Usage:
    """What a kernel takes: registers per thread, bytes of stack and of spilled registers per thread."""

    registers: int
    stack: int
    spilled: int


class CompileError(RuntimeError):
    """A kernel does not compile: the compiler's words, and the lines of the source that they are about."""

    def __init__(self, program: Program, log: str) -> None:
        super().__init__(f"{program.file} does not compile with {' '.join(program.options)}\n{_with_lines(log)}")


def _with_lines(log: str) -> str:
    def add(found: re.Match[str]) -> str:
        path = SOURCES / Path(found[1]).name
        lines = path.read_text().splitlines() if path.is_file() else []
        number = int(found[2])
        shown = f"  {lines[number - 1].strip()}\n" if number <= len(lines) else ""
        return f"{shown}{found[0]}"

    return _ERROR.sub(add, log.strip())


@cache
def source(file: str) -> str:
    """A source with its includes in place, each once: CuPy's cache knows a program by its text alone."""
    return _expanded(file, set())


def _expanded(file: str, seen: set[str]) -> str:
    seen.add(file)
    lines = [f'#line 1 "{file}"']
    for number, line in enumerate((SOURCES / file).read_text().splitlines(), start=1):
        include = _INCLUDE.match(line)
        if include is None:
            lines.append("" if line.startswith("#pragma once") else line)
        elif include[1] not in seen:
            lines += [_expanded(include[1], seen), f'#line {number + 1} "{file}"']
        else:
            lines.append("")
    return "\n".join(lines)


def report(program: Program, architecture: int, text: str | None = None) -> dict[str, Usage]:
    """Compile for sm_`architecture`, no device needed; what each kernel takes, by name. Raises CompileError.

    text: to compile in place of the program's own source.
    """
    with _compiled(program, (f"--gpu-architecture=sm_{architecture}", "--ptxas-options=-v"), text) as (_, words):
        return {
            found["name"]: Usage(
                int(found["registers"]), int(found["stack"]), int(found["stores"]) + int(found["loads"])
            )
            for found in _FUNCTION.finditer(words)
        }


def ptx(program: Program, architecture: int, text: str | None = None) -> str:
    """What the compiler makes of the program before it assigns registers; see `report`."""
    from cuda.bindings import nvrtc

    with _compiled(program, (f"--gpu-architecture=compute_{architecture}",), text) as (handle, _):
        code = bytearray(_checked(nvrtc.nvrtcGetPTXSize(handle)))
        _checked(nvrtc.nvrtcGetPTX(handle, code))
        return code.rstrip(b"\0").decode()


@contextmanager
def _compiled(program: Program, target: tuple[str, ...], text: str | None) -> Iterator[tuple[Any, str]]:
    """NVRTC's handle of the program, and what it said."""
    from cuda.bindings import nvrtc

    options = (*program.options, *target)
    code = (source(program.file) if text is None else text).encode()
    handle = _checked(nvrtc.nvrtcCreateProgram(code, program.file.encode(), 0, [], []))
    try:
        (status,) = nvrtc.nvrtcCompileProgram(handle, len(options), [option.encode() for option in options])
        log = bytearray(_checked(nvrtc.nvrtcGetProgramLogSize(handle)))
        _checked(nvrtc.nvrtcGetProgramLog(handle, log))
        words = log.rstrip(b"\0").decode()
        if status != nvrtc.nvrtcResult.NVRTC_SUCCESS:
            raise CompileError(program, words)
        yield handle, words
    finally:
        _checked(nvrtc.nvrtcDestroyProgram(handle))


def _checked(answer: tuple[Any, ...]) -> Any:
    status, *values = answer
    if int(status) != 0:
        raise RuntimeError(f"NVRTC says {status}")
    return values[0] if values else None


@cache
def load(program: Program, device: int) -> Any:
    """The program as a `cupy.RawModule` for the current device, whose number is `device`. Raises CompileError."""
    import cupy

    del device  # a module belongs to the device that is current when it is first used: one entry each
    module = cupy.RawModule(code=source(program.file), options=program.options)
    try:
        module.compile()
    except cupy.cuda.compiler.CompileException as error:
        raise CompileError(program, error.get_message()) from error
    return module
