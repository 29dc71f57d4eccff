"""How the CUDA kernels are launched, by size."""

import re

import pytest

from apr_dali.draws import OPERATIONS
from apr_dali.kernels.cuda import launch, nvrtc, paths
from apr_dali.kernels.cuda.launch import Launch


def test_launches_of_the_sizes_that_matter():
    assert launch.rows(224, 10) == Launch(280, 192, 8 * 12 * 244)
    assert launch.columns(224, 10, across_channels=True) == Launch(10 * (29 + 56), 64, 8 * 4 * 244)
    assert launch.columns(224, 10, across_channels=False) == Launch(10 * 3 * 29, 64, 8 * 4 * 244)
    assert launch.whole(32, 7, across_channels=True) == Launch(7, 224, 8 * (56 + 48) * 36)
    assert launch.whole(32, 7, across_channels=False) == Launch(7, 224, 8 * (56 + 48) * 36)
    assert launch.elements(6, 1000) == (Launch(24, 256), 4)
    assert launch.pixels(6, 4097) == (Launch(30, 256), 5)  # four pixels a thread
    assert [launch.operate(3, pixels).block for pixels in (1, 32, 33, 1024, 50176)] == [32, 32, 64, 512, 512]
    assert [launch.decode(n).grid for n in (1, 128, 129)] == [1, 1, 2]


def test_kernels_are_compiled_with_the_numbers_that_they_are_launched_by():
    for size in launch.FUSED_SIZES:
        for across in (True, False):
            given = dict(nvrtc.fused(size, across).defines)
            assert given["FIRST"] * given["SECOND"] == size
            assert given["ROW_THREADS"] == launch.rows(size, 5).block
            assert given["COLUMN_THREADS"] == launch.columns(size, 5, across).block
            assert launch.columns(size, 5, across).grid == 5 * given["STRIPS"]
            assert launch.rows(size, 5).grid * given["ROWS"] == 5 * size
            assert launch.rows(size, 5).shared == 8 * given["PITCH"] * given["ROW_THREADS"] // given["TEAM"]
    given = dict(nvrtc.whole(32).defines)
    assert given["THREADS"] == launch.whole(32, 5, True).block
    assert dict(nvrtc.OPERATIONS.defines) == {"WORKSPACE": launch.operate(5, 100).shared}


@pytest.mark.parametrize("across", [True, False])
@pytest.mark.parametrize("size", [*launch.WHOLE_SIZES, *launch.FUSED_SIZES])
def test_every_column_and_every_point_has_its_place(size, across):
    first, second = launch.factors(size)
    assert first * second == size
    half = size // 2 + 1
    columns = half + size if across else 3 * half
    if size in launch.FUSED_SIZES:
        assert columns <= 4 * launch.strips(size, across) < columns + 10
        shapes = [launch.rows(size, 1), launch.columns(size, 1, across)]
    else:
        shapes = [launch.whole(size, 1, across)]
        assert columns * launch.team(size) <= shapes[0].block
    assert launch.pitch(size) >= max(second * (first + 1), size)
    assert launch.pitch(size) % 16 == 4  # 8 banks further, and 16 bytes aligned
    for shape in shapes:
        assert shape.block % 32 == 0  # a barrier of a warp needs all of it
        assert shape.block <= 1024
        assert shape.shared <= launch.SHARED_LIMIT


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((224, 224, 3), "fused"),
        ((256, 256, 3), "fused"),
        ((32, 32, 3), "whole"),
        ((224, 192, 3), "generic"),
        ((224, 224, 1), "generic"),
        ((512, 512, 3), "generic"),
        ((1, 1, 3), "generic"),
    ],
)
def test_the_path_of_a_shape(shape, expected):
    assert launch.path(*shape) == expected


def enumerated(file: str, kind: str) -> list[str]:
    """The names of a C++ enumeration, without the k, in small letters."""
    (names,) = re.findall(rf"enum (?:class )?{kind} {{(.*?)}}", (nvrtc.SOURCES.parent / file).read_text(), re.DOTALL)
    return [name.strip().removeprefix("k").lower() for name in names.split(",") if name.strip()]


def test_what_goes_to_kernels_as_a_number_has_it_there_too():
    operations = [name.replace("_", "") for name in OPERATIONS]
    assert enumerated("cuda/operations.cu", "Operation") == operations
    assert enumerated("cpu/operations.hpp", "Operation") == operations
    outputs = enumerated("cuda/pixels.cuh", "OutKind")
    assert {name: number for number, name in enumerate(outputs)} == {
        {"wrap": "wrapped", "clamp": "clamped"}.get(name, name): number for name, number in paths._OUT_KINDS.items()
    }
    inputs = enumerated("cuda/pixels.cuh", "InKind")
    assert [inputs[number] for number in (paths._LEVELS_IN, paths._FLOATS_IN)] == ["levelsin", "floatin"]
