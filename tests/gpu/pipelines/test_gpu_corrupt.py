"""The corruptions in DALI graphs on a CUDA device, where there is one: `make gpu-check`."""

import numpy as np
import pytest
import torch
from PIL import Image

import apr_dali
from apr_dali import CorruptionDraws
from apr_dali.kernels.cuda import corruptions as cuda_corruptions

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
BATCH = 4


def run(images, numbers, **options) -> np.ndarray:
    """The corrupted images of all batches; numbers: None, or those of the images."""
    from nvidia.dali import fn, pipeline_def, types

    from apr_dali.pipelines import operators

    batches = range(0, len(images), BATCH)

    def batches_of(values):
        return (list(values[first : first + BATCH]) for first in batches)

    @pipeline_def(batch_size=BATCH, num_threads=1, device_id=0, prefetch_queue_depth=1)
    def graph():
        node = fn.external_source(source=batches_of(images), batch=True, layout="HWC", dtype=types.UINT8)
        given = None
        if numbers is not None:
            given = fn.external_source(source=batches_of(numbers[:, None]), batch=True, dtype=types.INT64)
        return operators.corrupt(node.gpu(), numbers=given, **options)

    pipeline = graph(seed=1)
    return np.concatenate([np.array(pipeline.run()[0].as_cpu().as_array()) for _ in batches])


@pytest.mark.usefixtures("photographs")
@pytest.mark.parametrize("name", tuple(cuda_corruptions.LAUNCHERS))
def test_images_have_the_draws_of_their_numbers(name, crops):
    images = crops(2 * BATCH, 40, 48)
    numbers = np.array([3, 5, 0, 7, 2, 6, 1, 4])
    got = run(images, numbers, name=name, severity=2, seed=11)
    draws = CorruptionDraws.of_images(name, 2, numbers, 40, 48, seed=11)
    expected = apr_dali.corrupt(torch.from_numpy(images).cuda(), name, 2, draws, backend="cupy")
    np.testing.assert_array_equal(got, expected.cpu().numpy())


def test_without_numbers_each_image_has_draws_of_its_own(crops):
    images = np.repeat(crops(1, 40, 48), 2 * BATCH, axis=0)
    drawn = run(images, None, name="impulse_noise", severity=3)
    assert len(np.unique(drawn.reshape(2 * BATCH, -1), axis=0)) == 2 * BATCH
    np.testing.assert_array_equal(run(images, None, name="impulse_noise", severity=3), drawn)


def test_the_loader_gives_what_it_gives_on_the_cpu(tmp_path, crops):
    from apr_dali import CorruptedLoader
    from apr_dali.recipes import IMAGENET

    (tmp_path / "a").mkdir()
    for number, image in enumerate(crops(5, 40, 40)):
        Image.fromarray(image).save(tmp_path / "a" / f"{number}.png")
    cells = {"corruptions": [name for name in cuda_corruptions.LAUNCHERS if name != "frost"], "severities": [2]}
    given = {**cells, "image_size": 40, "scaling": None, "in_memory": True}
    with CorruptedLoader(tmp_path, 2, **given) as cpu, CorruptedLoader(tmp_path, 2, device="cuda", **given) as gpu:
        for (cell, images, targets), (other, expected, labels) in zip(gpu, cpu, strict=True):
            assert cell == other
            assert images.device.type == targets.device.type == "cuda"
            assert torch.equal(targets.cpu(), labels)
            # A level at most.
            torch.testing.assert_close(images.cpu(), expected, rtol=0, atol=1.01 / 255 / min(IMAGENET.std))
