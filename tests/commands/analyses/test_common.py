"""What the analyses share: a network of their own, images with labels from anywhere."""

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import tolerances
from helpers.eval_sets import LEVELS, Brightness, network, packed, write_levels
from PIL import Image

from apr_dali.cli import main
from apr_dali.commands.analyses import common, small_network
from apr_dali.data.arrays import load_set
from apr_dali.data.tars import Components
from apr_dali.errors import InputError
from apr_dali.eval import session as sessions
from apr_dali.eval.analyses import samples as analysis_samples
from apr_dali.eval.analyses.samples import answers, as_seen, in_words, load_samples, other_network
from apr_dali.eval.datasets import Feeding
from apr_dali.eval.session import Session
from apr_dali.recipes import Scaling
from apr_dali.runtime import checkpoint
from apr_dali.runtime.distributed import start


def parsed(*given: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    common.add_subject(parser, limit=50)
    return parser.parse_args([*given, "--device", "cpu", "--threads", "1"])


@pytest.fixture
def brightness(tmp_path):
    """A session with a network that tells images by their brightness."""
    made = network()
    with start("cpu") as group:
        yield Session(made, made.model, group, Feeding(made, group, 5, "none", 1), tmp_path)


@pytest.mark.slow
def test_without_a_model_one_is_trained_and_kept(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(small_network, "SMALL", replace(small_network.SMALL, epochs=1))
    with common.open_subject(parsed("--output", str(tmp_path))) as first:
        pass
    assert "training wrn-16-1 on the digits for 1 epochs, about half" in capsys.readouterr().out
    weights = first.network.model.state_dict()
    with common.open_subject(parsed("--output", str(tmp_path))) as again:
        samples = load_samples(again, None, 1000)
        right = (answers(again, samples.images).argmax(1) == samples.labels).mean()
    assert "training wrn" not in capsys.readouterr().out
    assert again.network.fingerprint == first.network.fingerprint
    # A tenth would be chance.
    assert right > 0.15
    np.testing.assert_array_equal(samples.labels, load_set("digits", "val").labels)
    # The kept one is what the options alone say, and another seed gives another.
    torch.manual_seed(99)
    state = torch.random.get_rng_state()
    with start("cpu") as group:
        trained = small_network.fit(load_set("digits", "train"), replace(small_network.SMALL, threads=2), group)
    assert torch.equal(torch.random.get_rng_state(), state)
    for name, value in trained.state_dict().items():
        assert torch.equal(value, weights[name]), name
    monkeypatch.setattr(small_network, "fit", lambda *_, **__: pytest.fail("it was there"))
    with pytest.raises(pytest.fail.Exception), common.open_subject(parsed("--output", str(tmp_path), "--seed", "1")):
        pass


def test_a_kept_network_is_of_the_same_options(tmp_path, monkeypatch):
    trained = []

    def fit(_, options, __, *, home):
        trained.append(options)
        (home / "latest.pt").write_bytes(b"")

    monkeypatch.setattr(small_network, "fit", fit)
    with start("cpu") as group:
        for changed in ({}, {"threads": 3}, {"lr": 0.1}, {"aug": "apr-sp"}, {"lr": 0.1}):
            small_network.digits_network(tmp_path, group, replace(small_network.SMALL, **changed))
    assert [(options.lr, options.aug) for options in trained] == [(0.05, "none"), (0.1, "none"), (0.05, "apr-sp")]


def test_a_step_may_be_followed_by_a_projection():
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.Flatten(), torch.nn.Linear(4 * 30 * 30, 10))
    data = load_set("digits", "train")
    part = replace(data, images=data.images[:64], labels=data.labels[:64])
    calls = []

    def project() -> None:
        calls.append(1)
        with torch.no_grad():
            model[0].weight[0] = 0

    with start("cpu") as group:
        options = replace(small_network.SMALL, epochs=2, threads=1)
        trained = small_network.fit(part, options, group, model=model, after_step=project)
    assert len(calls) == 4
    assert not trained.training
    assert float(trained[0].weight[0].detach().abs().max()) == 0
    assert float(trained[0].weight[1].detach().abs().max()) > 0


def test_images_of_a_folder_have_its_labels(brightness, tmp_path):
    write_levels(tmp_path / "set", {"dark": [30, 50], "gray": [128], "light": [220, 200, 210]}, border=0)
    samples = load_samples(brightness, str(tmp_path / "set"), 4)
    assert samples.images.shape == (4, 40, 40, 3)
    assert (len(samples), samples.labels_of) == (4, "the set")
    # Of six: the first, the second, the fourth and the fifth.
    assert samples.names == ("dark", "dark", "light", "light")
    np.testing.assert_array_equal(samples.labels, [0, 0, 2, 2])
    # The loader's resize blurs what the images are, not how bright they are.
    assert samples.images.astype(float).mean((1, 2, 3)) == pytest.approx([30, 50, 220, 200], abs=3)
    answered = answers(brightness, samples.images).argmax(1)
    np.testing.assert_array_equal(answered, samples.labels)


def test_images_of_tars_are_those_of_the_folder(brightness, tmp_path):
    write_levels(tmp_path / "set", {"dark": [30, 50], "gray": [128], "light": [220, 200, 210]})
    expected = load_samples(brightness, str(tmp_path / "set"), 4)
    tars = str(packed(tmp_path / "set"))
    with pytest.raises(InputError, match=r"several images: own\.png, other\.png; say which one to take \(--tar-image"):
        load_samples(brightness, tars, 4)
    own = replace(brightness, feeding=replace(brightness.feeding, components=Components("own.png", "id")))
    samples = load_samples(own, tars, 4)
    np.testing.assert_array_equal(samples.images, expected.images)
    assert (samples.labels.tolist(), samples.names) == (expected.labels.tolist(), expected.names)
    for data, told in ((str(tmp_path / "set"), "no tars of samples there"), (None, "no effect without --data")):
        with pytest.raises(InputError, match=told):
            load_samples(own, data, 4)


def test_foreign_classes_get_the_networks_own_answers(brightness, tmp_path):
    write_levels(tmp_path / "set", {"black": [LEVELS[0]], "white": [LEVELS[2], LEVELS[1]]})
    samples = load_samples(brightness, str(tmp_path / "set"), 10)
    assert samples.labels_of == "MODEL's own answers on the clean images"
    assert samples.names == ("black", "white", "white")
    assert samples.labels.tolist() == [0, 2, 1]


def test_without_a_folder_there_are_photographs(brightness):
    samples = load_samples(brightness, None, 5)
    assert samples.names == ("astronaut", "brick", "cat", "coffee", "coins")
    images, names = common.photographs(40)
    np.testing.assert_array_equal(samples.images, images[:5])
    assert len(names) == 16
    means = images[:5].astype(float).mean((1, 2, 3))
    nearest = [int(np.abs(np.array(LEVELS) - mean).argmin()) for mean in means]
    np.testing.assert_array_equal(samples.labels, nearest)


def test_small_images_of_a_folder(brightness, tmp_path):
    small = network(size=32)
    session = replace(brightness, network=small, feeding=replace(brightness.feeding, network=small))
    for folder, name, level in (("own", "gray", 215), ("own", "light", 40), ("other", "a", 215), ("other", "b", 40)):
        (tmp_path / folder / name).mkdir(parents=True)
        Image.new("RGB", (32, 32), (level,) * 3).save(tmp_path / folder / name / "0.png")
    samples = load_samples(session, str(tmp_path / "own"), 10)
    assert (samples.names, samples.labels_of) == (("gray", "light"), "the set")
    assert samples.labels.tolist() == [1, 2], "not the places of the folders"
    samples = load_samples(session, str(tmp_path / "other"), 10)
    assert (samples.names, samples.labels_of) == (("a", "b"), "MODEL's own answers on the clean images")
    assert samples.labels.tolist() == [2, 0]
    told = replace(session, feeding=replace(session.feeding, components=Components("jpg")))
    with pytest.raises(InputError, match=r"--tar-image and --tar-label have no effect on .*/own"):
        load_samples(told, str(tmp_path / "own"), 10)


def test_svhn_is_not_captioned_with_other_classes(brightness, tmp_path):
    from scipy.io import savemat

    small = network(size=32)
    session = replace(brightness, network=small, feeding=replace(brightness.feeding, network=small))
    images = np.full((32, 32, 3, 3), 40, np.uint8)
    savemat(tmp_path / "test_32x32.mat", {"X": images, "y": np.array([[10], [1], [2]])})
    samples = load_samples(session, str(tmp_path / "test_32x32.mat"), 10)
    assert samples.names == ("0", "1", "2")
    assert samples.labels_of == "MODEL's own answers on the clean images"
    assert samples.labels.tolist() == [0, 0, 0]


def test_another_network_gets_the_same_images(brightness, digits_checkpoints, monkeypatch):
    asked = []
    other = network(model=Brightness())
    monkeypatch.setattr(analysis_samples, "load_model", lambda *a, **k: asked.append((a, k)) or other)
    found = other_network(brightness, digits_checkpoints[0])
    assert asked == [((digits_checkpoints[0],), {"image_size": 40, "classes": None})]
    assert found.model is other.model
    assert found.feeding.network is other
    assert (found.output, found.group) == (brightness.output, brightness.group)


def seeing(brightness, **given) -> Session:
    """The session with a network that sees images in another way."""
    made = replace(brightness.network, **given)
    return replace(brightness, network=made, feeding=replace(brightness.feeding, network=made))


@pytest.mark.parametrize("geometry", ["center", "squash", "border"])
def test_photographs_and_folders_are_cut_as_evaluation_does(brightness, tmp_path, photos, geometry):
    session = seeing(brightness, scaling=Scaling(0.8, "bicubic", geometry), mean=(0.5, 0.2, 0.7))
    shapes = [(90, 130), (120, 70), (40, 40)]
    for number, (height, width) in enumerate(shapes):
        (tmp_path / "set" / "dark").mkdir(parents=True, exist_ok=True)
        Image.fromarray(photos[1][:height, :width]).save(tmp_path / "set" / "dark" / f"{number}.png")
    by_pillow = np.stack([as_seen(session, Image.fromarray(photos[1][:h, :w])) for h, w in shapes]).astype(int)
    (tmp_path / "set" / "gray").mkdir()
    Image.fromarray(photos[0]).save(tmp_path / "set" / "gray" / "0.png")
    by_dali = load_samples(session, str(tmp_path / "set"), 4).images[:3]
    assert np.abs(by_pillow - by_dali).mean() < tolerances.RESIZE_LEVELS / 4
    corner = by_pillow[0][0, 0].tolist()
    assert corner == {"center": [0, 0, 0], "squash": [0, 0, 0], "border": [128, 51, 178]}[geometry]


def test_a_second_network_says_that_it_gets_the_firsts_images(brightness, monkeypatch, capsys):
    other = replace(network(model=Brightness()), scaling=Scaling(1.0, "bicubic"), seen_from="timm's configuration")
    monkeypatch.setattr(analysis_samples, "load_model", lambda *_, **__: other)
    found = common.open_other(brightness, "other")
    assert found.network.scaling == brightness.network.scaling
    told = capsys.readouterr().out
    assert "shorter side scaled to 46 (bilinear), middle 40×40, values in 0..1 less (0.5, 0.5, 0.5)" in told
    assert "cut as for brightness, not as timm's configuration says" in told


def test_a_network_of_folders_at_32_pixels_scales_their_images(brightness, tmp_path):
    (tmp_path / "set" / "dark").mkdir(parents=True)
    Image.new("RGB", (50, 60), (40, 40, 40)).save(tmp_path / "set" / "dark" / "0.png")
    session = seeing(brightness, image_size=32, from_folders=True)
    assert load_samples(session, str(tmp_path / "set"), 10).images.shape == (1, 32, 32, 3)
    small = seeing(brightness, image_size=32)
    with pytest.raises(InputError, match="expected 32×32 pixels, got 50×60"):
        load_samples(small, str(tmp_path / "set"), 10)
    assert "images of" not in session.network.seen
    assert small.network.seen.startswith("of 32×32 as they are")


def test_results_of_no_network(tmp_path):
    with start("cpu") as group:
        record = sessions.write_record(group, tmp_path, "name", {"a": 1}, {"b": 2}, {"picture": b"png"})
    assert (record["evaluation"], record["settings"], record["result"]) == ("name", {"a": 1}, {"b": 2})
    assert (tmp_path / "name-picture.png").read_bytes() == b"png"


def test_an_output_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="give another --output"):
        sessions.make_output(str(tmp_path / "file" / "below"))


@pytest.mark.parametrize(("name", "words"), [("n02123159", "tiger cat"), ("dog", "dog"), ("7", "7"), ("n2", "n2")])
def test_classes_in_words(name, words):
    assert in_words(name) == words


@pytest.mark.parametrize(("analysis", "option"), [("heatmap", "--compare"), ("gradcam", "--compare")])
def test_a_second_network_of_another_order_is_refused(digits_checkpoints, tmp_path, analysis, option, capsys):
    state = checkpoint.load_any(Path(digits_checkpoints[1]))
    state["classes"] = [str(n) for n in (1, 0, *range(2, 10))]
    checkpoint.save(tmp_path, state, best=False)
    given = ["analyze", analysis, digits_checkpoints[0], option, str(tmp_path / checkpoint.LATEST)]
    assert main([*given, "--device", "cpu", "--output", str(tmp_path / "out")]) == 2
    assert "expected 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, got 1, 0, 2, 3, 4, 5, 6, 7, 8, 9" in capsys.readouterr().err
