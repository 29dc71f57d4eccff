"""Parts of the graphs that ImageNet and CIFAR share."""

import numpy as np
import pytest

pytest.importorskip("nvidia.dali")
from nvidia.dali import fn, pipeline_def

from apr_dali.pipelines.graph import mirrored_levels


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
