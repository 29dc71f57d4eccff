"""The corruptions that take several CUDA kernels: their buffers, their barriers, and draws that are out of the way."""

import re

import numpy as np
import pytest
from scipy import ndimage
from simulators.host_cuda import HostCuda, build, run_kernel

import apr_dali
from apr_dali import CorruptionDraws
from apr_dali.corruptions import find, gaussian
from apr_dali.errors import InputError
from apr_dali.kernels import corruptions
from apr_dali.kernels.cuda import corrupt_blur, corrupt_elastic, corrupt_parts, nvrtc, paths
from apr_dali.kernels.cuda import corruptions as cuda_corruptions
from apr_dali.kernels.cuda.launch import Launch

pytestmark = [pytest.mark.simulator, pytest.mark.slow]

SEVERAL = ("gaussian_blur", "glass_blur", "motion_blur", "snow", "fog", "elastic_transform", "spatter")


@pytest.fixture
def host(shim_folder, install):
    return install(cuda_corruptions, HostCuda(shim_folder))


def on_device(images, draws):
    return corruptions._on_device(*find(draws.name, draws.severity, draws.parameter_set), images, draws)


def given(name, severity, size, *images, parameter_set="imagenet"):
    """Draws that are what the images have in `images`, a dict of arrays each."""
    numbers = np.arange(len(images), dtype=np.uint64)
    return CorruptionDraws(name, severity, *size, parameter_set, None, numbers, images)


# ---- Batches whose buffers do not fit ----


@pytest.mark.parametrize("name", SEVERAL)
def test_parts_of_a_batch_change_nothing(name, host, crops, monkeypatch):
    images = crops(3, 33, 40)
    sample = CorruptionDraws.sample(name, 2, 3, 33, 40, seed=3, first=8)
    reference = np.random.RandomState(0)
    for draws in (sample, CorruptionDraws.join([sample.from_reference(name, 2, 33, 40, reference) for _ in images])):
        whole, launched = on_device(images, draws), len(host.launched)
        host.launched.clear()
        (buffers,) = [made for key, [made] in paths.work._entries.items() if key[2] == len(images)]
        room = sum(buffer.nbytes for buffer in buffers) // len(images)
        for count, parts in ((2, 2), (0.5, 3)):
            monkeypatch.setattr(corrupt_parts, "ROOM", int(count * room))
            np.testing.assert_array_equal(on_device(images, draws), whole)
            assert len(host.launched) == parts * launched
            host.launched.clear()
        monkeypatch.undo()
        monkeypatch.setattr(cuda_corruptions, "_device", lambda: host)
        paths.work._entries.clear()


def test_parts_are_alike(host, crops, monkeypatch):
    images = crops(4, 32, 32)
    draws = CorruptionDraws.sample("fog", 2, 4, 32, 32, seed=3)
    monkeypatch.setattr(corrupt_parts, "ROOM", int(3.9 * 8 * (2 * 32 * 32 + 5)))
    on_device(images, draws)
    assert {key[2] for key in paths.work._entries} == {2}  # not three images, and then one
    assert host.launched.count("cloud") == 2


@pytest.mark.usefixtures("native")
@pytest.mark.parametrize("size", [(32, 65), (130, 33)])
def test_fog_of_maps_of_many_tiles_is_native_bit_for_bit(size, simulated, install, crops):
    host = install(cuda_corruptions, simulated)
    images = crops(2, *size) // 2
    images[0, -1, -1], images[1, 0, 0] = 255, 254  # the brightest, in a corner each
    for severity in (1, 5):
        draws = CorruptionDraws.sample("fog", severity, 2, *size, seed=4)
        expected = apr_dali.corrupt(images, "fog", severity, draws, backend="native")
        np.testing.assert_array_equal(on_device(images, draws), expected)
    assert host.launched[-4:] == ["uniform_field", "cloud", "whole_range", "fog"]


@pytest.mark.usefixtures("host")
def test_fog_whose_map_does_not_fit_is_refused():
    draws = CorruptionDraws.sample("fog", 1, 1, 32, 32769, seed=0)
    with pytest.raises(InputError, match=r"32768 pixels a side at most, got 32 × 32769: take the backend native"):
        on_device(np.zeros((1, 32, 32769, 3), np.uint8), draws)


# ---- Tables ----


@pytest.mark.parametrize("sigma", [0.4, 3, 20, 170])
@pytest.mark.parametrize("size", [32, 45])
def test_the_matrix_of_a_gaussian_is_scipys_filter(size, sigma):
    matrix = corrupt_elastic.smoothing_matrix(size, gaussian.half(sigma, 3))
    assert matrix.shape == (size, 64)
    assert not matrix[:, size:].any()
    np.testing.assert_allclose(matrix[:, :size], matrix[:, :size].T, rtol=1e-14)
    expected = ndimage.gaussian_filter1d(np.eye(size), sigma, axis=0, mode="reflect", truncate=3)
    np.testing.assert_allclose(matrix[:, :size], expected, rtol=0, atol=1e-15)


def test_the_columns_of_a_disk():
    disk = np.zeros((7, 7))
    disk[1:6, 2:5] = np.arange(1, 16).reshape(5, 3)
    columns = corrupt_blur._columns(disk)
    assert columns.shape == (5, 8)
    np.testing.assert_array_equal(columns[:, :5], disk[1:6, 1:6].T)
    assert not columns[:, 5:].any()


def test_levels_become_shares_as_by_division(shim_folder):
    text = """
    extern "C" __global__ void shares(double* wide, float* narrow) {
        wide[threadIdx.x] = unit_of(threadIdx.x), narrow[threadIdx.x] = float_unit_of(threadIdx.x);
    }"""
    library = build(corrupt_blur.PROGRAM, shim_folder, nvrtc.source("levels.cuh") + text)
    wide, narrow = np.empty(256), np.empty(256, np.float32)
    run_kernel(library, "shares", Launch(1, 256), [wide, narrow])
    levels = np.arange(256)
    np.testing.assert_array_equal(wide, levels / 255.0)
    np.testing.assert_array_equal(narrow, levels.astype(np.float32) / np.float32(255))


# ---- Draws that are out of the way ----


def check(images, draws):
    got = on_device(images, draws)
    for backend in ("native", "numpy"):
        np.testing.assert_array_equal(
            got, apr_dali.corrupt(images, draws.name, draws.severity, draws, backend=backend), err_msg=backend
        )


def liquids(height, width):
    """A spiral of faint edges that are strong in the middle; none; all; steps; dots; waves beyond 0 and 1."""
    y, x = np.mgrid[:height, :width]
    right, down = x - width / 2, y - height / 2
    radius = np.hypot(right, down)
    arms = np.floor(2 * (np.arctan2(down, right) / (2 * np.pi) - radius / 16)) % 2
    spiral = 0.72 + arms * np.clip(0.25 - 0.03 * (radius - 8), 0.1, 0.25)
    return [
        {"liquid": liquid.astype(np.float64)}
        for liquid in (
            spiral,
            np.zeros((height, width)),
            np.full((height, width), 0.8),
            0.6 + 0.4 * (x // 7 + y // 5) / (width // 7 + height // 5),
            ((x % 11 == 0) & (y % 13 == 0)) * 40.0,
            1.5 * np.sin(x / 5) * np.cos(y / 6),
        )
    ]


@pytest.mark.usefixtures("native", "host")
# The Gaussians of small images leave strong edges.
@pytest.mark.parametrize(("severity", "parameter_set"), [(1, "imagenet"), (3, "cifar"), (5, "imagenet")])
def test_spatter_of_liquids_of_every_kind(severity, parameter_set, crops):
    size = (45, 66)
    draws = given("spatter", severity, size, *liquids(*size), parameter_set=parameter_set)
    check(crops(len(draws), *size), draws)


@pytest.mark.usefixtures("native", "host")
@pytest.mark.parametrize(("name", "turned"), [("motion_blur", 0), ("snow", -90)])
def test_lines_along_axes_and_diagonals(name, turned, crops):
    size, angles = (36, 50), (0, 45, -45, 17.5, -31, 90, 180)
    flakes = np.random.default_rng(0).normal(0.5, 0.3, (len(angles), *size))
    fields = [{"flakes": field} if name == "snow" else {} for field in flakes]
    draws = [{**field, "angle": np.float64(turned + angle)} for field, angle in zip(fields, angles, strict=True)]
    for severity in (1, 5):
        check(crops(len(angles), *size), given(name, severity, size, *draws))


@pytest.mark.usefixtures("native", "host")
def test_glass_of_the_longest_chains(crops):
    """Every pixel takes the place of the last that was changed, and what is beyond the reach is put into it."""
    size, (_, reach, times) = (34, 41), find("glass_blur", 5)[1]
    shape = (times, size[0] - 2 * reach, size[1] - 2 * reach, 2)
    chains = np.zeros((4, *shape))
    chains[0], chains[1, ..., 0], chains[2, ..., 1], chains[3] = reach - 1, 1, 1, -reach
    check(crops(4, *size), given("glass_blur", 5, size, *({"shifts": each.astype(int)} for each in chains)))


@pytest.mark.usefixtures("native", "host")
def test_elastic_places_far_outside(crops):
    size = (33, 48)
    random = np.random.default_rng(0)
    corners = random.uniform(-30, 30, (4, 3, 2))
    corners[3] = np.array([[-20, -20], [-20, 0], [0, 0]]) * 0.999  # nearly a point
    fields = random.uniform(-1, 1, (4, 2, *size))
    fields[:2] = np.sign(fields[:2].mean(axis=(2, 3), keepdims=True)) * np.ones((2, 2, *size))
    draws = [{"corners": c, "across": f[0], "down": f[1]} for c, f in zip(corners, fields, strict=True)]
    images = crops(4, *size)
    for severity in (1, 2, 5):
        drawn = given("elastic_transform", severity, size, *draws)
        apart = np.abs(on_device(images, drawn).astype(int) - apr_dali.corrupt(images, drawn.name, severity, drawn))
        assert apart.max() <= 1


# ---- Barriers ----

PROGRAMS = {corrupt_parts.FIELDS.file: ("fog", "snow")} | {
    family.PROGRAM.file: tuple(family.LAUNCHERS) for family in cuda_corruptions.FAMILIES
}
BARRIERS = [
    (file, found.span()) for file in PROGRAMS for found in re.finditer(r"__syncthreads\(\);", nvrtc.source(file))
]


WHOLE = {}
"""The results of each file with all its barriers."""


def results(names, images):
    paths.work._entries.clear()  # what lies in a buffer already may be right
    n, *size = images.shape[:3]
    drawn = [CorruptionDraws.sample(name, 3, n, *size, seed=1) for name in names]
    if names == ("spatter",):
        drawn.append(given("spatter", 3, size, *liquids(*size)[:n], parameter_set="cifar"))
    return [on_device(images, draws) for draws in drawn]


@pytest.mark.parametrize(("file", "where"), BARRIERS, ids=[f"{file}-{where[0]}" for file, where in BARRIERS])
def test_no_barrier_can_be_missing(file, where, host, crops, monkeypatch):
    text, source = nvrtc.source(file), nvrtc.source
    images = crops(2, 45, 64) // 2
    images.reshape(2, -1)[:, 700] = 255  # which one thread of many finds
    if file not in WHOLE:
        WHOLE[file] = results(PROGRAMS[file], images)
    monkeypatch.setattr(
        nvrtc, "source", lambda name: text[: where[0]] + text[where[1] :] if name == file else source(name)
    )
    for host.seed in range(1, 9):
        try:
            got = results(PROGRAMS[file], images)
        except AssertionError:  # threads wait for others that have gone
            return
        if not all(map(np.array_equal, got, WHOLE[file])):
            return
    pytest.fail("the results are the same without it")
