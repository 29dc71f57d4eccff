"""ImageNet-P: the measures against the published definition in loops, and `eval perturbation` on videos."""

import json
import shutil

import numpy as np
import pytest
from helpers.eval_sets import LEVELS, network
from scipy.stats import rankdata

from apr_dali import cli
from apr_dali.data import videos
from apr_dali.errors import InputError
from apr_dali.eval import session
from apr_dali.eval.perturbation import (
    PERTURBATIONS,
    flip_rate,
    normalized_mean,
    ranked,
    top5_distance,
)

cv2 = pytest.importorskip("cv2")


def published(logits, noise):
    """Flip probability and top-5 distance, frame by frame."""
    classes = logits.shape[1]
    below_top = np.cumsum([0] + [1] * 5 + [0] * (classes - 6))
    ranks = [rankdata(-frame, method="ordinal") for frame in logits]
    before, flips, distances = 0, [], []
    for now in range(1, len(logits)):
        flips.append(logits[before].argmax() != logits[now].argmax())
        sigma = ranks[now][np.argsort(ranks[before])]
        distances.append(np.abs(below_top[:5] - below_top[sigma - 1][:5]).sum())
        before = before if noise else now
    return np.mean(flips), np.mean(distances)


@pytest.mark.parametrize("noise", [False, True])
@pytest.mark.parametrize("step", [0.1, 1.0])
def test_measures_are_as_published(noise, step):
    rng = np.random.default_rng(0)
    logits = np.cumsum(step * rng.normal(size=(12, 9)), 0)
    found = flip_rate(ranked(logits), noise), top5_distance(ranked(logits), noise)
    assert found == pytest.approx(published(logits, noise))
    assert found[1] > 0


def test_ties_and_few_classes():
    order = ranked(np.zeros((3, 4)))
    np.testing.assert_array_equal(order, [[0, 1, 2, 3]] * 3)
    assert (flip_rate(order, False), top5_distance(order, False)) == (0, 0)
    swapped = np.array([[0, 1, 2], [1, 0, 2], [1, 0, 2]])
    assert (flip_rate(swapped, False), flip_rate(swapped, True)) == (0.5, 1)
    assert (top5_distance(swapped, False), top5_distance(swapped, True)) == (1, 2)
    with pytest.raises(InputError, match="two frames or more, got 1"):
        flip_rate(order[:1], True)


def test_means_are_ratios_to_the_references():
    own = {name: 0.1 * n for n, name in enumerate(PERTURBATIONS, 1)}
    assert normalized_mean({**own, "shear": 9.0}, {name: 0.2 for name in PERTURBATIONS}) == pytest.approx(275)
    assert normalized_mean({"tilt": 0.1}, own) is None
    with pytest.raises(InputError, match="no number above 0 for tilt"):
        normalized_mean(own, {**own, "tilt": 0.0})


def write_video(path, levels, side=48):
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 10, (side, side))
    assert writer.isOpened()
    for level in levels:
        writer.write(np.full((side, side, 3), level, np.uint8))
    writer.release()


@pytest.fixture
def run(monkeypatch, tmp_path):
    def run(*given, output="out"):
        monkeypatch.setattr(session, "load_model", lambda *_: network())
        options = ["--device", "cpu", "--threads", "2", "--batch-size", "3", "--output", tmp_path / output]
        status = cli.main(["eval", "perturbation", "model", *map(str, [*given, *options])])
        path = tmp_path / output / "perturbation.json"
        return status, json.loads(path.read_text())["result"] if path.is_file() else None

    return run


SEQUENCES = {
    "tilt": {"dark/a": [40, 60, 100, 120], "light/b": [215, 215, 215, 215]},
    "gaussian_noise": {"dark/a": [40, 100, 45, 100], "light/b": [215, 120, 120, 120]},
}


@pytest.fixture
def sequences(tmp_path):
    for name, of in SEQUENCES.items():
        for place, levels in of.items():
            write_video(tmp_path / "p" / name / f"{place}.mp4", levels)
    (tmp_path / "p" / "notes").mkdir()
    return tmp_path / "p"


def expected(name):
    rates = []
    for levels in SEQUENCES[name].values():
        logits = -np.abs(np.array(levels)[:, None] - LEVELS) / 10
        order = ranked(logits)
        rates.append((flip_rate(order, "noise" in name), top5_distance(order, "noise" in name)))
    return np.mean(rates, 0)


def test_videos(run, sequences, capsys):
    status, found = run("--data", sequences)
    assert status == 0
    for name in SEQUENCES:
        assert (found["flip_rate"][name], found["top5_distance"][name]) == pytest.approx(tuple(expected(name)))
    assert expected("tilt")[0] == pytest.approx(1 / 6)
    assert expected("gaussian_noise")[0] == pytest.approx((2 / 3 + 1) / 2)
    assert found["mean_flip_rate"] == pytest.approx(np.mean([expected(name)[0] for name in SEQUENCES]))
    assert found["videos"] == {"gaussian_noise": 2, "tilt": 2}
    assert "mfr" not in found
    assert found["intervals"]["flip_rate"]["tilt"] == [0, pytest.approx(1 / 3)]
    assert "mean flip rate over 2 perturbations" in capsys.readouterr().out


def test_mfr_with_a_reference(run, tmp_path, capsys):
    for name in PERTURBATIONS:
        write_video(tmp_path / "p" / name / "dark" / "a.mp4", [40, 128, 128, 128])
    status, plain = run("--data", tmp_path / "p")
    assert status == 0
    record = json.loads((tmp_path / "out" / "perturbation.json").read_text())
    for key in ("flip_rate", "top5_distance"):
        record["result"][key] = {name: 2 * value for name, value in plain[key].items()}
    (tmp_path / "alexnet.json").write_text(json.dumps(record))
    _, found = run("--data", tmp_path / "p", "--alexnet", tmp_path / "alexnet.json")
    assert (found["mfr"], found["mt5d"]) == (pytest.approx(50), pytest.approx(50))
    assert "mFR, AlexNet = 100: 50.00 %" in capsys.readouterr().out
    shutil.copy(tmp_path / "alexnet.json", tmp_path / "p" / "alexnet.json")
    assert run("--data", tmp_path / "p")[1]["mfr"] == pytest.approx(50)
    write_video(tmp_path / "p" / "tilt" / "dark" / "b.mp4", [40, 128])
    assert run("--data", tmp_path / "p", output="other") == (2, None)
    assert "is of other videos than these" in capsys.readouterr().err
    (tmp_path / "none.json").write_text("{}")
    assert run("--data", tmp_path / "p", "--alexnet", tmp_path / "none.json", output="other") == (2, None)
    assert "is not the perturbation.json of AlexNet" in capsys.readouterr().err


def test_bad_videos_are_named(run, tmp_path, capsys):
    (tmp_path / "p" / "tilt" / "dark").mkdir(parents=True)
    assert run("--data", tmp_path / "p") == (2, None)
    assert "holds no videos: expected <perturbation>/<class>/<video>.mp4, got tilt" in capsys.readouterr().err
    assert run("--data", tmp_path / "q") == (2, None)
    assert "is not there" in capsys.readouterr().err
    (tmp_path / "p" / "tilt" / "dark" / "a.mp4").write_bytes(b"no video")
    assert run("--data", tmp_path / "p") == (2, None)
    assert "a.mp4 has 0 frames that can be read" in capsys.readouterr().err
    write_video(tmp_path / "p" / "tilt" / "dark" / "a.mp4", [40, 50], side=32)
    assert run("--data", tmp_path / "p") == (2, None)
    assert "a.mp4 has frames of 32×32 pixels: expected at least 40" in capsys.readouterr().err


def test_without_opencv_it_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "cv2", None)
    with pytest.raises(InputError, match=r"read by OpenCV, which is not installed: pip install"):
        videos.check_reader()


def test_frames_are_rgb(tmp_path):
    writer = cv2.VideoWriter(str(tmp_path / "a.mp4"), cv2.VideoWriter_fourcc(*"mp4v"), 10, (48, 48))
    for _ in range(2):
        writer.write(np.full((48, 48, 3), (20, 40, 200), np.uint8))  # blue, green, red
    writer.release()
    red, green, blue = videos.frames_of(str(tmp_path / "a.mp4"), 40).reshape(-1, 3).mean(0)
    assert red > 150
    assert 80 > green > blue
