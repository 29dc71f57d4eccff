"""Which level of the native backend runs, and the arguments that it refuses."""

import importlib
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
from helpers import tolerances
from helpers.native_levels import LEVELS
from helpers.tolerances import relative

import apr_dali
from apr_dali.augmentations import sample_and_apply
from apr_dali.draws import OPERATIONS
from apr_dali.errors import InputError
from apr_dali.kernels import dispatch
from apr_dali.kernels.cpu import backend as native_backend
from apr_dali.kernels.cpu import resample
from apr_dali.pipelines import operators

pytestmark = pytest.mark.usefixtures("native")


def test_auto_takes_native_on_the_cpu():
    assert dispatch.availability("native").available
    assert dispatch.choose("auto", "cpu") == "native"


def test_levels_agree(crops):
    images, partner = crops(4, 32, 32), np.array([3, 0, 1, 2])
    results = []
    for name in LEVELS:
        out = np.empty((4, 3, 32, 32), np.float32)
        ones, zeros = np.ones(3), np.zeros(3)
        how = ("float32", False, "chw", False)
        native_backend.load(name).pair(images, partner, True, ones, zeros, ones, zeros, *how, out, 1)
        results.append(out)
    for other in results[1:]:
        assert relative(other, results[0].astype(np.float64)) < tolerances.RECOMBINE_FLOAT32


def test_a_level_is_forced_by_the_environment(level):
    assert native_backend.check() == (True, f"C++, {level}")


@pytest.fixture
def forgetful(monkeypatch):
    """A choice of the level that is made anew each time, and is that of no environment."""
    monkeypatch.delenv(native_backend.LEVEL_VARIABLE, raising=False)
    for module, name in ((native_backend, "load"), (dispatch, "availability")):
        monkeypatch.setattr(module, name, getattr(module, name).__wrapped__)
    return monkeypatch


# Torch in its place would be an option without effect.
@pytest.mark.usefixtures("forgetful")
@pytest.mark.parametrize("backend", ["auto", "native"])
def test_a_level_that_cannot_run_is_refused(backend, monkeypatch):
    best, *others = LEVELS

    def refused(level: str, match: str):
        monkeypatch.setenv(native_backend.LEVEL_VARIABLE, level)
        with pytest.raises(InputError, match=f"^APR_DALI_NATIVE_LEVEL{match}"):
            apr_dali.pair(np.zeros((2, 8, 8, 3), np.uint8), np.array([1, 0]), backend=backend)

    refused("v9", " must be one of v4, v3, baseline, got 'v9'")
    monkeypatch.setattr(native_backend, "_is_built", lambda level: level != best)
    refused(best, f"={best} was not built: there are {', '.join(others)}$")
    monkeypatch.setattr(native_backend, "_module", lambda _: SimpleNamespace(supported=lambda: ["baseline"]))
    refused("v3", "=v3: this machine has baseline only")


@pytest.mark.usefixtures("forgetful")
@pytest.mark.skipif(len(LEVELS) < 2, reason="there is no level beside the best")
def test_where_the_best_level_was_not_built_the_next_one_runs_and_says_so(monkeypatch):
    is_built = native_backend._is_built
    monkeypatch.setattr(native_backend, "_is_built", lambda level: level != LEVELS[0] and is_built(level))
    assert native_backend.check() == (True, f"C++, {LEVELS[1]} ({LEVELS[0]} was not built)")


def test_an_extension_that_was_not_built_says_so(monkeypatch):
    def missing(name):
        raise ModuleNotFoundError(f"No module named {name!r}")

    native_backend.load.cache_clear()
    monkeypatch.setattr(native_backend, "_module", missing)
    with pytest.raises(ImportError, match=r"was not built: install a C\+\+20 compiler"):
        native_backend.load("")
    monkeypatch.undo()
    native_backend.load.cache_clear()
    assert importlib.import_module("apr_dali.kernels.cpu._native_baseline").supported() == LEVELS


@pytest.fixture
def stale(forgetful):
    """An extension whose sources have changed since it was compiled."""
    forgetful.setattr(native_backend.sources, "digest", lambda: "0123456789abcdef")


def test_the_extension_is_of_the_sources_beside_it():
    assert native_backend.load("baseline").sources == native_backend.sources.digest()


@pytest.mark.usefixtures("stale")
def test_an_extension_of_other_sources_is_refused_by_all_who_would_call_it():
    images, partner = np.zeros((2, 32, 32, 3), np.uint8), np.array([1, 0])
    for call in (
        native_backend.check,
        native_backend.extension,
        resample.available,
        lambda: apr_dali.pair(images, partner),
        lambda: apr_dali.pair(images, partner, backend="native"),
        lambda: sample_and_apply("afa", images, 0),
        lambda: apr_dali.corrupt(images, "fog", 1, apr_dali.CorruptionDraws.sample("fog", 1, 2, 32, 32, seed=0)),
    ):
        with pytest.raises(InputError, match=r"compiled from other sources .*: compile it again by `pip install .*`"):
            call()


@pytest.mark.usefixtures("stale")
def test_torch_by_name_runs_beside_an_extension_of_other_sources(crops):
    images, partner = crops(2, 8, 8), np.array([1, 0])
    assert apr_dali.pair(images, partner, backend="torch").shape == (2, 3, 8, 8)


@pytest.mark.usefixtures("stale")
@pytest.mark.parametrize(
    "make", [operators.apr_single, operators.apr_pair, partial(operators.corrupt, name="fog", severity=1)]
)
def test_an_extension_of_other_sources_is_refused_when_a_graph_is_made(make):
    with pytest.raises(InputError, match="compiled from other sources"):
        make(SimpleNamespace(device="cpu"))


def test_sources_are_known_by_names_and_contents(tmp_path):
    digests = {native_backend.sources.digest(tmp_path)}
    for name, content in (("a.cpp", "int a;"), ("b.hpp", "int a;"), ("b.hpp", "int b;"), ("c.py", "a = 1")):
        (tmp_path / name).write_text(content)
        digests.add(native_backend.sources.digest(tmp_path))
    (tmp_path / ".#a.cpp").symlink_to("lock")  # Emacs has such a link where a file is not saved
    digests.add(native_backend.sources.digest(tmp_path))
    assert len(digests) == 4  # none, and three that differ: the last two are not compiled
    assert None in digests
    (tmp_path / "a.cpp").rename(tmp_path / "d.cpp")
    assert native_backend.sources.digest(tmp_path) not in digests


def test_an_installed_extension_without_sources_is_taken_as_it_is(monkeypatch):
    monkeypatch.setattr(native_backend.sources, "digest", lambda: None)
    assert native_backend._module("baseline").supported() == LEVELS


def test_threads_are_for_the_native_backend(crops):
    images = crops(2, 8, 8)
    with pytest.raises(ValueError, match="threads is for the native backend, got backend='torch'"):
        apr_dali.pair(images, np.array([1, 0]), backend="torch", threads=2)
    with pytest.raises(ValueError, match="threads must be at least 1, got 0"):
        apr_dali.pair(images, np.array([1, 0]), backend="native", threads=0)


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_more_channels_than_a_matrix_can_transform_are_refused(dtype):
    """A matrix of 65536² entries, counted in 32 bits, has none."""
    images = np.zeros((2, 1, 1, 1 << 16) if dtype == "uint8" else (2, 1 << 16, 1, 1), dtype)
    with pytest.raises(ValueError, match=r"at most 4096 channels can be transformed together .*, got 65536"):
        apr_dali.pair(images, np.array([1, 0]), backend="native")
    assert apr_dali.pair(images, np.array([1, 0]), axes="hw", backend="native").shape == (2, 1 << 16, 1, 1)
    if dtype == "float32":
        with pytest.raises(ValueError, match="at most 4096 channels"):
            apr_dali.recombine(images, images, backend="native")


def test_an_image_of_more_values_than_32_bits_count_is_refused():
    images = np.broadcast_to(np.float32(0), (0, 1, 1 << 16, 1 << 15))
    with pytest.raises(ValueError, match=r"fewer than 2\^31 values, got the shape \(0, 1, 65536, 32768\)"):
        apr_dali.recombine(images, images, backend="native")


def shifted(array: np.ndarray) -> np.ndarray:
    """The same numbers where no number of this type may lie."""
    moved = np.frombuffer(b"." + array.tobytes(), np.uint8)[1:].view(array.dtype).reshape(array.shape)
    assert not moved.flags.aligned
    return moved


def test_numbers_that_are_not_aligned_are_copied(crops):
    images, partner = crops(2, 8, 8).transpose(0, 3, 1, 2).astype(np.float32), np.array([1, 0])
    given = native_backend.contiguous(shifted(images))
    assert given.flags.aligned
    np.testing.assert_array_equal(given, images)
    expected = apr_dali.pair(images, partner, backend="native")
    np.testing.assert_array_equal(apr_dali.pair(shifted(images), shifted(partner), backend="native"), expected)


def test_draws_of_other_number_types_are_those_of_the_usual(crops):
    images, draws = crops(4, 8, 8), apr_dali.SingleDraws.sample(4, 8, 8, seed=0)
    others = apr_dali.SingleDraws(
        draws.operation.astype(int), draws.parameters.astype(">f8"), draws.mix.astype(int), draws.mix.astype(np.uint8)
    )
    usual = replace(draws, amplitude_of_second=draws.mix)
    expected = apr_dali.single(images, usual, backend="native")
    np.testing.assert_array_equal(apr_dali.single(images, others, backend="native"), expected)


PAIR = {
    "images": np.zeros((2, 8, 8, 3), np.uint8),
    "partner": np.array([1, 0]),
    "mix": True,
    "in_scale": np.ones(3),
    "in_bias": np.zeros(3),
    "out_scale": np.ones(3),
    "out_bias": np.zeros(3),
    "dtype": "float32",
    "channels_last": False,
    "axes": "chw",
    "both": False,
    "out": np.zeros((2, 3, 8, 8), np.float32),
    "threads": 1,
}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("images", np.zeros((2, 8, 8, 3), np.int16)),
        ("images", np.zeros((2, 8, 8, 6), np.uint8)[..., ::2]),
        ("images", np.zeros((8, 8, 3), np.uint8)),
        ("images", np.zeros((2, 0, 8, 3), np.uint8)),
        ("partner", np.array([1, 2])),
        ("partner", np.array([-1, 0])),
        ("partner", np.array([0])),
        ("partner", np.array([0, 1], np.int32)),
        ("in_scale", np.ones(2)),
        ("out_bias", np.ones(3, np.float32)),
        ("dtype", "int8"),
        ("dtype", "float16"),
        ("axes", "w"),
        ("both", True),
        ("out", np.zeros((2, 3, 8, 9), np.float32)),
        ("out", np.zeros((2, 3, 8, 16), np.float32)[..., ::2]),
        ("threads", 0),
        ("threads", -3),
    ],
)
def test_wrong_arguments_of_pair_raise(name, value):
    with pytest.raises((ValueError, TypeError)):
        native_backend.load("baseline").pair(*{**PAIR, name: value}.values())


SINGLE = {
    "images": np.zeros((2, 8, 8, 3), np.uint8),
    "operation": np.zeros((2, 2), np.uint8),
    "parameters": np.zeros((2, 2, 6)),
    "mix": np.ones(2, bool),
    "amplitude_of_second": np.ones(2, bool),
    "wrap": True,
    "axes": "chw",
    "out": np.zeros((2, 8, 8, 3), np.uint8),
    "threads": 1,
}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("images", np.zeros((2, 8, 8, 4), np.uint8)),
        ("images", np.zeros((2, 8, 7, 3), np.uint8)),
        ("operation", np.full((2, 2), 9, np.uint8)),
        ("operation", np.zeros((1, 2), np.uint8)),
        ("parameters", np.zeros((2, 6))),
        ("mix", np.ones(1, bool)),
        ("amplitude_of_second", np.ones(3, bool)),
        ("axes", "whc"),
        ("out", np.zeros((1, 8, 8, 3), np.uint8)),
        ("threads", 0),
    ],
)
def test_wrong_arguments_of_single_raise(name, value):
    with pytest.raises((ValueError, TypeError)):
        native_backend.load("baseline").single(*{**SINGLE, name: value}.values())


def test_right_arguments_run():
    # Without this the tests above would pass for a call that lacks an argument.
    extension = native_backend.load("baseline")
    extension.pair(*PAIR.values())
    extension.single(*SINGLE.values())


@pytest.mark.parametrize("bits", [-1, 9, np.nan])
def test_bits_that_posterize_cannot_keep_raise(bits):
    draws = {"operation": np.full((2, 2), OPERATIONS.index("posterize"), np.uint8)}
    with pytest.raises(ValueError, match="posterize keeps 0 to 8 bits"):
        native_backend.load("baseline").single(
            *{**SINGLE, **draws, "parameters": np.full((2, 2, 6), float(bits))}.values()
        )


@pytest.mark.parametrize("function", ["recombine", "round_trip"])
def test_wrong_arguments_of_the_others_raise(function):
    run = getattr(native_backend.load("baseline"), function)
    image, other = np.zeros((1, 3, 4, 4), np.float32), np.zeros((1, 3, 4, 5), np.float32)
    wrong = [(image, other), (image, image.astype(np.float64)), (image[0], image[0])]
    for first, second in wrong:
        arguments = (first, second, "chw", first, 1) if function == "recombine" else (first, second, 1)
        with pytest.raises((ValueError, TypeError)):
            run(*arguments)
