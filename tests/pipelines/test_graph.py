"""Parts of the graphs that ImageNet and CIFAR share."""

import numpy as np
import pytest

pytest.importorskip("nvidia.dali")
from nvidia.dali import fn, pipeline_def

from apr_dali.pipelines.graph import Graph, mirrored_levels
from apr_dali.recipes import CIFAR, CIFAR_AUGMENTATIONS


def test_levels_are_mirrored_as_by_flip(crops):
    images, flags = crops(4, 37, 53), np.array([1, 0, 0, 1], np.int32)

    @pipeline_def(batch_size=4, num_threads=1, device_id=None)
    def graph():
        given = fn.external_source(lambda: list(images), layout="HWC", batch=True)
        mirror = fn.external_source(lambda: list(flags), batch=True)
        return mirrored_levels(given, mirror), fn.flip(given, horizontal=mirror)

    ours, dalis = graph().run()
    assert ours.layout() == "HWC"
    np.testing.assert_array_equal(ours.as_array(), dalis.as_array())
    np.testing.assert_array_equal(ours.as_array()[[0, 3]], images[[0, 3], :, ::-1])


@pytest.mark.parametrize("aug", [*CIFAR_AUGMENTATIONS, "vipaug", "fda", "hybrid-p"])
@pytest.mark.parametrize("device", ["cpu", "gpu"])
def test_a_state_fits_unless_its_graph_was_another(aug, device):
    """On a GPU those with our operators were: what takes batches from them, and mirrors, is in them by name."""
    given = {"recipe": CIFAR, "dtype": "float32", "backend": "auto", "threads": 1, "shard": (0, 1)}
    settings = Graph(device=device, aug=aug, aug_dataset="cifar10", **given).settings()
    ours = device == "gpu" and aug not in ("none", "cutout", "mixup", "cutmix", "autoaugment", "augmix")
    assert settings.get("operators") == ("framed" if ours else None)
