"""`apr-dali eval calibration` on images whose right confidences are known."""

import numpy as np
import pytest
import torch
from helpers.eval_sets import (
    CLASSES,
    LEVELS,
    network,
    random_levels,
    write_levels,
)
from PIL import Image

from apr_dali.eval import calibration


def test_calibration(evaluate, tmp_path):
    write_levels(tmp_path / "val", random_levels(2, count=9, spread=70))
    status, record = evaluate("calibration", "--data", tmp_path / "val")
    assert status == 0
    paths = sorted((tmp_path / "val").glob("*/*.png"))
    levels = [np.asarray(Image.open(path)).astype(np.float64).mean() for path in paths]
    labels = np.array([CLASSES.index(path.parent.name) for path in paths])
    # The network sees them resized, which moves their means by a fraction of a level.
    logits = torch.tensor(-np.abs(np.array(levels)[:, None] - LEVELS) / 10)
    tuned = np.arange(len(paths)) % 5 == 0
    temperature = calibration.fit_temperature(logits[tuned], labels[tuned])
    assert record["result"]["temperature"] == pytest.approx(temperature, rel=1e-2)
    before, after = record["result"]["rows"].values()
    assert before["ece"] == pytest.approx(calibration.ece(logits[~tuned].softmax(1), labels[~tuned]), abs=3e-3)
    scaled = (logits[~tuned] / temperature).softmax(1)
    assert after["ece"] == pytest.approx(calibration.ece(scaled, labels[~tuned]), abs=1e-2)
    assert before["accuracy"] == after["accuracy"]


@pytest.mark.parametrize("count", [1, 2])
def test_calibration_of_few_images(evaluate, tmp_path, count, capsys):
    write_levels(tmp_path / "val", {"dark": [40], "gray": [128][: count - 1], "light": []})
    (tmp_path / "val" / "list.txt").touch()
    model = network(32)
    for path in list((tmp_path / "val").glob("*/*.png")):
        Image.open(path).resize((32, 32)).save(path)
    status, record = evaluate("calibration", "--data", tmp_path / "val", model=model)
    if count == 1:
        assert (status, record) == (2, None)
        assert "calibration needs two images or more, got 1" in capsys.readouterr().err
    else:
        assert status == 0
        assert next(iter(record["result"]["rows"].values()))["images"] == 1
