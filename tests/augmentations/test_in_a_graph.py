"""The augmentations as a step of a DALI graph: one call a batch, its draws by a number of the graph's own."""

from functools import partial

import numpy as np
import pytest

fn = pytest.importorskip("nvidia.dali.fn")

from nvidia.dali import pipeline_def, types  # noqa: E402

from apr_dali.augmentations import find, sample_and_apply  # noqa: E402
from apr_dali.augmentations.functional import apply_in_graph  # noqa: E402
from apr_dali.pipelines.per_batch import per_batch  # noqa: E402


@pytest.mark.parametrize("name", ["amplitude-mix", "prime", "vipaug-g"])
def test_a_step_of_a_graph_is_the_operator(name, crops):
    images = crops(6, 12, 10)

    @pipeline_def(batch_size=6, num_threads=1, device_id=None, seed=4, exec_dynamic=True)
    def graph():
        levels = fn.external_source(lambda: list(images), batch=True, dtype=types.UINT8, ndim=3)
        numbers = fn.random.uniform(range=(0.0, 2.0**31 - 1), dtype=types.INT64)
        step = partial(apply_in_graph, augmentation=name, dataset="imagenet")
        return per_batch(step, levels, numbers, layout="HWC"), numbers

    runs = []
    for _ in range(2):
        pipeline = graph()
        pipeline.build()
        runs.append([[np.stack([np.asarray(s) for s in out]) for out in pipeline.run()] for _ in range(3)])
    for out, numbers in runs[0]:
        expected = sample_and_apply(name, images, int(numbers.reshape(-1)[0]), dataset="imagenet")
        np.testing.assert_array_equal(out, expected)
    assert len({out.tobytes() for out, _ in runs[0]}) == 3
    for (first, _), (again, _) in zip(*runs, strict=True):
        np.testing.assert_array_equal(first, again)
    assert find(name).name == name
