"""Every CUDA kernel compiles for every architecture with no register spilled. No driver is needed."""

import re

import pytest

from apr_dali.kernels.cuda import augment_spectra, augmentations, nvrtc
from apr_dali.kernels.cuda.corrupt_parts import FIELDS
from apr_dali.kernels.cuda.corruptions import FAMILIES
from apr_dali.kernels.cuda.launch import FUSED_SIZES, WHOLE_SIZES

pytest.importorskip("cuda.bindings.nvrtc", reason="NVRTC comes with torch's CUDA builds")

ARCHITECTURES = (75, 80, 90, 100, 120)
FUSED = {"rows_forward", "columns", "rows_back"}
WITH_PROGRAMS = (*FAMILIES, *(family for family in augmentations.FAMILIES if hasattr(family, "PROGRAM")))
_KERNEL = re.compile(r'extern "C" __global__ void (?:__launch_bounds__\(.*\)\s+)?(\w+)\(')
KERNELS = {
    nvrtc.generic("float"): {"before", "between", "after"},
    nvrtc.generic("double"): {"before", "between", "after"},
    nvrtc.OPERATIONS: {"operate", "decode"},
    **{nvrtc.whole(size, across): {"whole_images"} for size in WHOLE_SIZES for across in (True, False)},
    **{nvrtc.fused(224, across, half): FUSED for across in (True, False) for half in (True, False)},
    FIELDS: {"uniform_field", "normal_field"},
    **{family.PROGRAM: set(_KERNEL.findall(nvrtc.source(family.PROGRAM.file))) for family in WITH_PROGRAMS},
}
KERNELS |= {
    nvrtc.with_step(program, step): KERNELS[program]
    for step in augment_spectra.STEPS
    for program in (nvrtc.generic(), nvrtc.whole(32, False), nvrtc.fused(224, False))
}
KERNELS[nvrtc.with_step(nvrtc.generic(), "STEP_NOISE")] = KERNELS[nvrtc.generic()]
KERNELS |= {
    nvrtc.writing_channels_last(program): KERNELS[program]
    for program in (nvrtc.generic(), nvrtc.whole(32), nvrtc.fused(224), nvrtc.fused(224, half=True))
}
# The other sizes are the same source with other factors, which take other registers: each for every architecture, in
# one form or another.
OTHERS = [
    program
    for size in FUSED_SIZES
    if size != 224
    for program in (
        nvrtc.fused(size),
        nvrtc.writing_channels_last(nvrtc.fused(size)),
        nvrtc.with_step(nvrtc.fused(size, False), "STEP_BLEND"),  # the step that takes most registers
    )
]
# A quick look has each program for one architecture; of the transforms, which take seconds, these with all definitions.
TRANSFORMS = {"whole.cu", "fused.cu"}
QUICK = (
    nvrtc.whole(32),
    nvrtc.with_step(nvrtc.fused(224, False), "STEP_BLEND"),
    nvrtc.writing_channels_last(nvrtc.fused(224, half=True)),
)


def is_quick(program: nvrtc.Program, n: int, at: int) -> bool:
    return at == n % len(ARCHITECTURES) and (program.file not in TRANSFORMS or program in QUICK)


CASES = [
    pytest.param(program, architecture, marks=() if is_quick(program, n, at) else pytest.mark.slow)
    for n, program in enumerate(KERNELS)
    for at, architecture in enumerate(ARCHITECTURES)
] + [
    pytest.param(program, ARCHITECTURES[at % len(ARCHITECTURES)], marks=pytest.mark.slow)
    for n, program in enumerate(OTHERS)
    for at in (n, n + 2)
]


_NAMED = (
    "REAL",
    "COMPLEX",
    "SIZE",
    "ACROSS",
    "HALF_SPECTRA",
    "CHANNELS_LAST",
    "STEP_BLEND",
    "STEP_SCALE",
    "STEP_NOISE",
)


def name_of(value) -> str:
    if isinstance(value, int):
        return f"sm_{value}"
    return "-".join(
        [value.file]
        + [f"{given}" if name == "SIZE" else f"{name}{given}" for name, given in value.defines if name in _NAMED]
    )


@pytest.mark.parametrize(("program", "architecture"), CASES, ids=name_of)
def test_no_register_spills(program, architecture):
    usage = nvrtc.report(program, architecture)
    assert set(usage) == KERNELS.get(program, FUSED)
    assert {name: (kernel.stack, kernel.spilled) for name, kernel in usage.items()} == dict.fromkeys(usage, (0, 0))
    assert all(8 <= kernel.registers <= 128 for kernel in usage.values())


def test_the_report_would_tell_of_a_spill():
    text = """
    extern "C" __global__ void __launch_bounds__(1024, 2) greedy(const float* in, float* out, int n) {
        float v[80];
        for (int k = 0; k < 80; ++k) v[k] = in[k * n + threadIdx.x];
        __syncthreads();
        for (int k = 0; k < 80; ++k) out[k * n + threadIdx.x] = v[79 - k] * v[(k * 7) % 80];
    }"""
    (usage,) = nvrtc.report(nvrtc.generic(), 80, text).values()
    assert usage.spilled > 0


def test_an_error_shows_its_line_of_the_source():
    broken = nvrtc.source("fused.cu").replace("is_levels() const { return kind", "is_levels() const { return kin")
    with pytest.raises(nvrtc.CompileError) as caught:
        nvrtc.report(nvrtc.fused(224), 90, broken)
    words = f"{caught.value}"
    assert words.startswith("fused.cu does not compile with -std=c++17 -DSIZE=224 -DACROSS=1")
    number = next(
        n for n, line in enumerate((nvrtc.SOURCES / "pixels.cuh").read_text().splitlines(), 1) if "is_levels" in line
    )
    assert f'pixels.cuh({number}): error: identifier "kin" is undefined' in words
    assert "  INLINE bool is_levels() const { return kind >= kWrapped; }\n" in words  # the file's own line
    assert nvrtc.fused(192).options != nvrtc.fused(224).options


def test_a_size_without_kernels_is_refused():
    for program in (nvrtc.fused, nvrtc.whole):
        with pytest.raises(ValueError, match=r"kernels for squares of 32, 64, .*, 256, got 225"):
            program(225)


@pytest.mark.parametrize("name", ["FIRST", "PITCH", "STRIPS"])
def test_numbers_that_do_not_fit_each_other_do_not_compile(name):
    program = nvrtc.fused(64)
    wrong = tuple((key, value // 2 if key == name else value) for key, value in program.defines)
    with pytest.raises(nvrtc.CompileError, match=r"definitions of launch\.py|PITCH is too small"):
        nvrtc.report(nvrtc.Program("fused.cu", wrong), 90)


def test_operations_are_compiled_without_fused_multiply_add():
    assert "--fmad=false" in nvrtc.OPERATIONS.options
    assert "--fmad=false" not in nvrtc.fused(224).options
