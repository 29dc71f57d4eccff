"""The CUDA kernels of the augmentations beside APR, run on the CPU, next to the definitions.

Twice: the sources thread by thread, in an order that finds what waits for nothing, and what NVRTC makes of them.
"""

from dataclasses import replace

import numpy as np
import pytest
from helpers import tolerances
from helpers.augmentations import always, drawn, noisy_planes, planes
from helpers.forms import assert_close, assert_levels_close
from helpers.singles import assert_agrees, levels_apart
from simulators.ptx_cuda import PtxCuda

import apr_dali
from apr_dali.augmentations import NAMES, apply, find, prime
from apr_dali.augmentations.afa import AfaDraws
from apr_dali.augmentations.functional import _by_cupy
from apr_dali.kernels.cuda import augment_prime, augment_waves
from apr_dali.kernels.cuda import augmentations as cuda_augmentations
from apr_dali.kernels.cuda.augment_job import Job

torch = pytest.importorskip("torch")
pytestmark = [pytest.mark.simulator, pytest.mark.slow]

KERNELS = [name for name in NAMES if find(name).cuda_form is not None]
PLANES = [name for name in KERNELS if find(name).takes == "planes"]
# The three ways of paths.py, then the smallest and those that fill no word.
SIZES = [(32, 32), (64, 64), (20, 33), (33, 20), (7, 9), (1, 7), (5, 1), (1, 1)]


@pytest.fixture
def host(simulated, install):
    return install(cuda_augmentations, simulated)


def on_device(record, images, draws, levels=None):
    return _by_cupy(record, images, draws, levels)


@pytest.mark.usefixtures("host")
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("name", PLANES)
def test_floating_images_are_the_definitions(name, size, crops):
    record = find(name)
    images = noisy_planes(crops, 3, size).astype(np.float32)
    for dataset in ("cifar10", "imagenet"):
        draws = drawn(record, 3, size, 1, dataset=dataset, **always(name))
        got = on_device(record, images, draws)
        assert got.dtype == np.float32
        assert_close(name, torch.from_numpy(got), record.define(images.astype(np.float64), draws))


@pytest.mark.usefixtures("host")
@pytest.mark.parametrize("size", [(32, 32), (64, 64), (20, 15), (7, 9)], ids=str)
@pytest.mark.parametrize("name", KERNELS)
def test_levels_are_the_definitions(name, size, crops):
    record, images = find(name), crops(3, *size)
    draws = drawn(record, 3, size, **always(name))
    for overflow in dict.fromkeys((record.overflow, "clamp", "truncate", "wrap")):
        got = on_device(record, images, draws, overflow)
        assert got.dtype == np.uint8
        expected = apply(name, images, draws, backend="reference", overflow=overflow)
        apart = levels_apart(got, expected, overflow)
        assert_levels_close(name, apart)
        # An image that nothing changes has whole numbers, which a rounding takes across a border of "wrap".
        assert overflow == "wrap" or (apart > 0).mean() < 0.02


@pytest.mark.usefixtures("host")
@pytest.mark.parametrize("channels", [1, 2, 4])
@pytest.mark.parametrize("name", PLANES)
def test_other_numbers_of_channels(name, channels):
    record = find(name)
    images = np.random.default_rng(1).random((3, channels, 10, 13), np.float32)
    draws = drawn(record, 3, (10, 13), channels=channels, **always(name))
    expected = record.define(images.astype(np.float64), draws)
    assert_close(name, torch.from_numpy(on_device(record, images, draws)), expected)


@pytest.mark.usefixtures("host")
@pytest.mark.parametrize("size", [(32, 32), (64, 64), (8, 16)], ids=str)
@pytest.mark.parametrize("name", PLANES)
def test_gray_black_and_flat_images(name, size, crops):
    images = planes(crops(4, *size)).astype(np.float32)
    images[0], images[1], images[2] = images[0, :1], 0, 0.5
    for seed in range(2):
        draws = drawn(find(name), 4, size, seed, **always(name))
        expected = find(name).define(images.astype(np.float64), draws)
        assert_close(name, torch.from_numpy(on_device(find(name), images, draws)), expected)


@pytest.mark.parametrize("name", KERNELS)
def test_no_images_give_no_images(name, host):
    record, images = find(name), np.empty((0, 6, 8, 3), np.uint8)
    assert on_device(record, images, drawn(record, 0, (6, 8)), record.overflow).shape == images.shape
    assert host.launched == []


@pytest.mark.usefixtures("host")
@pytest.mark.parametrize("name", KERNELS)
def test_images_and_draws_stay_as_they_are(name, crops):
    record, images = find(name), crops(3, 12, 10)
    draws, kept = drawn(record, 3, (12, 10), **always(name)), images.copy()
    first = on_device(record, images, draws, record.overflow)
    np.testing.assert_array_equal(on_device(record, images, draws, record.overflow), first)
    np.testing.assert_array_equal(images, kept)


# ---- Each at its edges ----


@pytest.mark.usefixtures("host")
@pytest.mark.parametrize("ratio", [0.0, 0.1, 0.6, 1.0])
@pytest.mark.parametrize("size", [(32, 32), (64, 64), (13, 20)], ids=str)
def test_boxes_of_amplitudes(size, ratio, crops):
    """Boxes that are not symmetric, and none."""
    record, images = find("amplitude-mix"), noisy_planes(crops, 3, size).astype(np.float32)
    draws = drawn(record, 3, size, ratio=ratio)
    expected = record.define(images.astype(np.float64), draws)
    assert_close(record.name, torch.from_numpy(on_device(record, images, draws)), expected)
    assert (np.abs(expected - images).max() > 0.01) == (ratio > 0)


@pytest.mark.usefixtures("host")
@pytest.mark.parametrize("reach", [0, 1, 7, 40])
@pytest.mark.parametrize("size", [(32, 32), (64, 64), (12, 9)], ids=str)
def test_reaches_of_fda(size, reach, crops):
    record, images = find("fda"), noisy_planes(crops, 3, size).astype(np.float32)
    draws = replace(drawn(record, 3, size), reach=np.array([reach, 0, 2]))
    expected = record.define(images.astype(np.float64), draws)
    assert_close(record.name, torch.from_numpy(on_device(record, images, draws)), expected)


@pytest.mark.usefixtures("host")
@pytest.mark.parametrize("size", [(32, 32), (64, 64), (9, 14)], ids=str)
def test_all_gains_at_once(size, crops):
    """Every image gets all four; the columns that mirror themselves are asked for two things."""
    record, images = find("spectral-gains"), noisy_planes(crops, 3, size).astype(np.float32)
    p = dict.fromkeys(("amplitude", "phase", "mask", "gaussian"), 1.0)
    draws = drawn(record, 3, size, p=p, phase=(-3.0, 3.0), dropped=(0.3, 0.5), gaussians=5)
    assert draws.masked.all()
    expected = record.define(images.astype(np.float64), draws)
    assert_close(record.name, torch.from_numpy(on_device(record, images, draws)), expected)


@pytest.mark.parametrize("size", [(1, 1), (1, 8), (7, 1), (2, 2), (9, 12), (32, 32), (224, 224)], ids=str)
def test_the_norm_of_a_wave_in_closed_form(size):
    random = np.random.default_rng(0)
    down, across = random.uniform(-7, 7, (2, 40, 3))
    down[:4], across[2:6] = [[0], [np.pi], [2 * np.pi], [-np.pi / 2]], 0  # standing waves, and none
    for turn in (-np.pi / 4, 0.3):
        table = augment_waves.parameters(down, across, np.ones((40, 3)), turn, 1e-6, size)
        u, v = (np.linspace(-length / 2, length / 2, length) for length in size)
        wave = np.sin(down[..., None, None] * u[:, None] + across[..., None, None] * v + turn)
        norm = np.linalg.norm(wave, axis=(2, 3))
        np.testing.assert_allclose(1 / table["strength"], np.maximum(norm, 1e-6), rtol=1e-5, atol=1e-7)


@pytest.mark.usefixtures("host")
def test_strong_and_absent_waves(crops):
    """What is clipped, and an angle of a hundred turns."""
    record, images = find("afa"), planes(crops(3, 6, 224)).astype(np.float32)
    shape = np.ones((3, 3))
    strength = shape * np.array([0.0, 1e-3, 100.0])[:, None]
    draws = AfaDraws(6, 224, 3, frequency=shape, angle=shape * -1.5, strength=strength)
    got = on_device(record, images, draws)
    assert_close("afa", torch.from_numpy(got), record.define(images.astype(np.float64), draws))
    np.testing.assert_array_equal(got[0], images[0])
    assert (got[2].min(), got[2].max()) == (0, 1)


@pytest.mark.usefixtures("host")
@pytest.mark.parametrize("name", ["hybrid-p", "hybrid++-p"])
@pytest.mark.parametrize(
    ("size", "kernel"), [((3, 4), 11), ((20, 9), 7), ((8, 10), 1), ((6, 9), 3), ((1, 5), 3), ((64, 64), 5)], ids=str
)
def test_blurs_of_all_widths(size, kernel, name, crops):
    """A border wider than the image, too."""
    record, images = find(name), noisy_planes(crops, 3, size).astype(np.float32)
    draws = drawn(record, 3, size, kernel=kernel, sigma=1.5, **always(name))
    assert_close(name, torch.from_numpy(on_device(record, images, draws)), record.define(images.astype(float), draws))


@pytest.mark.usefixtures("host")
@pytest.mark.parametrize("name", ["hybrid-p", "hybrid++-p"])
def test_a_batch_that_the_coin_leaves(name, crops):
    record, images = find(name), crops(3, 9, 8)
    got = on_device(record, images, drawn(record, 3, (9, 8), p=0.0), "clamp")
    np.testing.assert_array_equal(got, images)
    assert got is not images


def test_chains_in_parts_change_nothing(host, crops, monkeypatch):
    record, images = find("prime"), crops(5, 12, 10)
    draws = drawn(record, 5, (12, 10), 3)
    assert draws.depth.max() == 3
    whole, launched = on_device(record, images, draws, "clamp"), host.launched.count("mix_chains")
    monkeypatch.setattr(augment_prime, "ROOM", 2 * (2 * 3 * 3 * 12 * 10 * 4))
    np.testing.assert_array_equal(on_device(record, images, draws, "clamp"), whole)
    assert host.launched.count("mix_chains") - launched == 3


@pytest.mark.usefixtures("host")
@pytest.mark.parametrize("settings", [{"steps": 1}, {"steps": 5, "chains": 2}, {"chains": 1}], ids=str)
def test_chains_of_other_lengths(settings, crops):
    record, images = find("prime"), planes(crops(3, 10, 12)).astype(np.float32)
    for seed in range(2):
        draws = drawn(record, 3, (10, 12), seed, **settings)
        expected = record.define(images.astype(np.float64), draws)
        assert_close("prime", torch.from_numpy(on_device(record, images, draws)), expected)


@pytest.mark.parametrize(("size", "cut"), [((70, 37), 150), ((5, 90), 2), ((1, 1), 3), ((33, 64), 1)], ids=str)
def test_displacements_are_the_definitions(size, cut, host):
    """More modes, rows and columns than a block has, and fewer."""
    modes = np.random.default_rng(0).standard_normal((2, cut, cut))
    job = Job(host, np.zeros((1, 3, *size), np.float32), np.zeros(0), None)
    out = host.empty((2, *size), "float64")
    augment_prime._displace(job, *host.put((np.swapaxes(modes, -1, -2), "f8")), out)
    assert tolerances.relative(out, prime.displacements(modes, *size)) <= tolerances.PRIME_FLOAT64


@pytest.mark.usefixtures("host")
@pytest.mark.parametrize("size", [(32, 32), (9, 7), (8, 11), (1, 1), (1, 6)], ids=str)
def test_noise_on_phases_where_it_is_strong(size, crops):
    record, images = find("vipaug-g"), crops(10, *size)
    draws = drawn(record, 10, size, 2, p=1.0, vital=0.01, nonvital=0.3)
    assert 2 < len(draws.noisy) < 10
    got, expected = on_device(record, images, draws, "clamp"), record.define(images, draws)
    apart = np.abs(got - np.clip(np.rint(expected), 0, 255).transpose(0, 2, 3, 1))
    assert apart.max() <= tolerances.LEVELS
    assert (apart > 0).mean() < 5e-3
    quiet = on_device(record, images, replace(draws, noisy=draws.noisy[:0], noise=draws.noise[:0]), "clamp")
    assert_agrees(
        quiet, apr_dali.single(images, draws.views, overflow="clamp", backend="reference"), draws.views.mix, "clamp"
    )


# ---- Speed, as far as it can be counted ----


@pytest.mark.parametrize("name", KERNELS)
def test_an_image_of_224(name, crops, monkeypatch, record_property):
    pytest.importorskip("cuda.bindings.nvrtc", reason="NVRTC comes with torch's CUDA builds")
    device = PtxCuda()
    monkeypatch.setattr(cuda_augmentations, "_device", lambda: device)
    record, images = find(name), crops(2, 224, 224)
    draws = record.sample(2, 224, 224, 0, dataset="imagenet", **always(name))
    got = on_device(record, images, draws, record.overflow)
    apart = levels_apart(got, apply(name, images, draws, backend="reference"), record.overflow)
    assert_levels_close(name, apart)
    # For docs/augmentations.md: it is the compiler's, so nothing is asserted of it.
    for kernel, trace in device.traces.items():
        record_property(f"{kernel}: warp instructions per image", round(trace.issued.sum() / 2))
