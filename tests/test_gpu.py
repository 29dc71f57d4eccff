"""The operators and the loader on a CUDA device, where there is one: `make gpu-check`."""

import numpy as np
import pytest
import tolerances
import torch
from PIL import Image

import apr_dali
from apr_dali import ImageNetLoader, spectral
from apr_dali.draws import SingleDraws

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
SIZES = [(1, 7), (33, 20), (32, 32), (224, 224)]


@pytest.mark.parametrize("axes", spectral.AXES)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_pair_on_the_gpu_is_the_reference(size, axes, crops):
    images, partner = crops(6, *size), np.array([3, 0, 5, 1, 2, 4])
    on_gpu = torch.from_numpy(images).cuda()
    got = apr_dali.pair(on_gpu, partner, in_scale=1 / 255, in_bias=0.1, axes=axes)
    expected = spectral.pair(images, partner, True, 1 / 255, 0.1, axes=axes)
    assert got.is_cuda
    assert np.abs(got.cpu().numpy() - expected).max() < tolerances.RECOMBINE_FLOAT32 * np.abs(expected).max()


@pytest.mark.parametrize("overflow", spectral.OVERFLOWS)
@pytest.mark.parametrize("size", [(17, 16), (32, 32), (224, 224)], ids=str)
def test_single_on_the_gpu_is_the_reference(size, overflow, crops):
    images, draws = crops(40, *size), SingleDraws.sample(40, *size, seed=1)
    got = apr_dali.single(torch.from_numpy(images).cuda(), draws, overflow).cpu().numpy().astype(int)
    expected = apr_dali.single(images, draws, overflow, backend="reference")
    apart = np.abs(got - expected)
    assert np.minimum(apart, 256 - apart).max() <= tolerances.LEVELS
    np.testing.assert_array_equal(got[~draws.mix], expected[~draws.mix])


@pytest.mark.parametrize("aug", ["none", "apr-p", "apr-s", "apr-sp"])
def test_gpu_pipeline_gives_what_the_cpu_pipeline_gives(aug, crops, tmp_path):
    (tmp_path / "only").mkdir()
    for index, image in enumerate(crops(12, 90, 120)):
        Image.fromarray(image).save(tmp_path / "only" / f"{index}.png")
    batches = {}
    for device in ("cpu", "gpu"):
        with ImageNetLoader(tmp_path, 6, aug, device=device, image_size=64, seed=1, threads=2) as loader:
            batches[device] = [images.cpu() for images, _ in loader]
    # Decoder, resize and crop draws are each device's own: compare what does not depend on them.
    for on_gpu, on_cpu in zip(batches["gpu"], batches["cpu"], strict=True):
        assert on_gpu.shape == on_cpu.shape
        assert torch.isfinite(on_gpu).all()
        assert abs(on_gpu.mean() - on_cpu.mean()) < 0.5
    assert len({image.numpy().tobytes() for batch in batches["gpu"] for image in batch}) >= 12
