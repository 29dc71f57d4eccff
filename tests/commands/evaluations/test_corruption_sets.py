"""Sets beyond ImageNet-C in `eval corruption`: 3DCC, LAION-C, the images of a list; calibration beside the errors."""

import numpy as np
import pytest
import torch
from helpers.eval_sets import CLASSES, Brightness, network, random_levels, write_corruptions, write_levels
from helpers.tolerances import CALIBRATION_FLOAT32
from PIL import Image

from apr_dali.data.class_names import check_each_once
from apr_dali.errors import InputError
from apr_dali.eval import benchmark, corruption_sources, laion_c
from apr_dali.eval import corruption as measures
from apr_dali.eval.calibration import ece, rms
from apr_dali.eval.class_names import imagenet_classes
from apr_dali.eval.laion_c import SUPERCLASSES, Superclassed


@pytest.fixture
def as_imagenet(monkeypatch):
    monkeypatch.setattr(corruption_sources, "is_imagenet", lambda _: True)


@pytest.mark.usefixtures("as_imagenet")
def test_3dcc(evaluate, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(measures.CELLS, "imagenet-3dcc", 12)
    errors = write_corruptions(tmp_path / "c", ("fog_3d", "iso_noise"))
    _, record = evaluate("corruption", "--data", tmp_path / "c")
    result = record["result"]
    assert (result["kind"], result["name"]) == ("imagenet-3dcc", "ImageNet-3DCC")
    assert result["mean_error"] == pytest.approx(np.mean(list(errors.values())))
    shown = capsys.readouterr().out
    assert "mean error over 2 of 12 corruptions of ImageNet-3DCC (fog_3d, iso_noise)" in shown
    assert "missing" not in shown


def probabilities_of(folder):
    """What `Brightness` gives the middles of the images in class folders, and their labels."""
    files = sorted(folder.glob("*/*.png"))
    levels = [np.asarray(Image.open(file))[10:50, 10:50].astype(np.float64).mean() for file in files]
    logits = -np.abs(np.array(levels)[:, None] - (40, 128, 215)) / 10
    return torch.tensor(logits).softmax(1).numpy(), np.array([CLASSES.index(file.parent.name) for file in files])


def test_calibration_beside_the_errors(evaluate, tmp_path):
    write_corruptions(tmp_path / "c", ("fog", "snow"))
    _, record = evaluate("corruption", "--data", tmp_path / "c")
    result = record["result"]
    for name in ("fog", "snow"):
        cells = [probabilities_of(tmp_path / "c" / name / str(severity)) for severity in range(1, 6)]
        assert result["ece"][name] == pytest.approx([ece(*cell) for cell in cells], abs=CALIBRATION_FLOAT32)
    assert result["mean_ece"] == pytest.approx(np.mean(list(result["ece"].values())))
    assert np.ptp(result["ece"]["fog"]) > 0.01
    assert "rms" not in result, "12 images fill no bin of 100"


def test_rms_of_enough_images():
    from apr_dali.eval.recorded import _Recorder, images_of, joined

    torch.manual_seed(0)
    logits, labels = torch.randn(450, 4) * 2, torch.randint(4, (450,))
    rows, parts = logits.softmax(1).numpy(), []
    for together in ([slice(0, 200), slice(200, 450)], [slice(0, 120)], [slice(120, 450)]):
        recorder = _Recorder()
        for part in together:
            recorder(logits[part], labels[part])
        parts.append(images_of(recorder.finish().rows()))
    whole, *two = parts
    # As set out in the paper of Hendrycks et al.: bins of 100 in order of confidence, the last with what is over.
    order = np.argsort(rows.max(1))
    gaps = [(rows.max(1)[part].mean() - (rows.argmax(1) == labels.numpy())[part].mean()) for part in bins_of(order)]
    expected = np.sqrt(np.average(np.square(gaps), weights=[len(part) for part in bins_of(order)]))
    for found in (whole, joined(two)):
        assert found.rms == pytest.approx(expected, abs=CALIBRATION_FLOAT32)
        assert found.rms == pytest.approx(rms(rows, labels.numpy()), abs=CALIBRATION_FLOAT32)
        assert found.ece == pytest.approx(ece(rows, labels.numpy()), abs=CALIBRATION_FLOAT32)
        np.testing.assert_array_equal(found.right, (logits.argmax(1) == labels).numpy())
    assert two[0].rms is not None
    assert images_of(two[0].rows()[:99]).rms is None


def bins_of(order):
    return [order[:100], order[100:200], order[200:300], order[300:]]


def listed(tmp_path, folder, keep):
    """A list of those images of a cell whose number in their class `keep` takes."""
    names = [f"{path.parent.name}/{path.name}" for path in sorted(folder.glob("*/*.png")) if keep(int(path.stem))]
    (tmp_path / "ids.txt").write_text("\n".join(names) + "\n")
    return tmp_path / "ids.txt", names


@pytest.mark.usefixtures("as_imagenet")
def test_images_of_a_list(evaluate, tmp_path):
    write_corruptions(tmp_path / "c", ("fog",))
    write_levels(tmp_path / "val", random_levels(1))
    path, names = listed(tmp_path, tmp_path / "c" / "fog" / "1", lambda number: number % 2 == 0)
    assert 0 < len(names) < 12
    status, record = evaluate("corruption", "--data", tmp_path / "c", "--image-list", path, "--clean", tmp_path / "val")
    assert status == 0
    result = record["result"]
    assert (result["images"], result["clean_images"]) == (len(names), len(names))
    assert (result["kind"], result["name"]) == ("imagenet-c-listed", f"ImageNet-C, {len(names)} images of ids.txt")
    for severity in range(1, 6):
        folder = tmp_path / "c" / "fog" / str(severity)
        rows, labels = probabilities_of(folder)
        files = [f"{p.parent.name}/{p.name}" for p in sorted(folder.glob("*/*.png"))]
        wrong = (rows.argmax(1) != labels)[[files.index(name) for name in names]]
        assert result["errors"]["fog"][severity - 1] == pytest.approx(wrong.mean())
    assert set(result["listed_ce"]) == {"fog"}
    assert "mce" not in result
    assert "ce" not in result


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("", "lists no image"),
        ("dark/00.png 3\n", "expected <class>/<file>"),
        ("00.png\n", "expected <class>/<file>"),
        ("../dark/00.png\n", "expected <class>/<file>"),
        ("dark/00.png\ndark/00.png\n", "lists dark/00.png twice"),
        ("night/00.png\n", "classes that the network lacks: night"),
        ("dark/99.png\n", "1 of its 1 images are not in"),
    ],
)
def test_bad_lists_are_named(evaluate, tmp_path, lines, message, capsys):
    write_corruptions(tmp_path / "c", ("fog",))
    (tmp_path / "ids.txt").write_text(lines)
    assert evaluate("corruption", "--data", tmp_path / "c", "--image-list", tmp_path / "ids.txt") == (2, None)
    assert message in capsys.readouterr().err


def test_a_list_has_no_effect_on_others(evaluate, tmp_path, capsys):
    (tmp_path / "ids.txt").write_text("dark/00.png\n")
    given = ("--image-list", tmp_path / "ids.txt")
    assert evaluate("corruption", "--data", "digits", *given, model=network(32)) == (2, None)
    assert "--image-list" in capsys.readouterr().err
    assert evaluate("corruption", "--val", tmp_path, *given) == (2, None)
    assert "--image-list has no effect on --val" in capsys.readouterr().err


# ---- LAION-C ---------------------------------------------------------------------------------------------------------


def test_superclasses_are_of_imagenet():
    names = [name for of in SUPERCLASSES.values() for name in of]
    check_each_once(tuple(SUPERCLASSES))
    assert (len(SUPERCLASSES), len(names), len(set(names))) == (16, 285, 285)
    assert set(names) <= set(imagenet_classes())


def test_superclasses_answer_with_mean_probabilities(monkeypatch):
    monkeypatch.setattr(laion_c, "SUPERCLASSES", {"a": ("x", "y"), "b": ("z",)})
    logits = torch.tensor([[1.0, 3.0, 2.5, 0.0], [0.0, 0.0, 1.0, 9.0], [-500.0, 0.0, 3.0, -500.0]])
    found = Superclassed(torch.nn.Identity(), ("x", "other", "z", "y"))(logits)
    rows = logits.double().softmax(1).numpy()
    expected = np.stack([(rows[:, 0] + rows[:, 3]) / 2, rows[:, 2]], 1)
    np.testing.assert_allclose(found.double().exp().numpy(), expected, rtol=1e-5, atol=1e-30)
    assert found.isfinite().all(), "in logarithms the least probabilities stay apart"
    with pytest.raises(InputError, match="the network lacks 1: y"):
        Superclassed(torch.nn.Identity(), ("x", "z"))


def test_laion_c(evaluate, tmp_path, monkeypatch):
    groups = {"bright": ("gray", "light"), "night": ("dark",)}
    for module in (laion_c, corruption_sources):
        monkeypatch.setattr(module, "SUPERCLASSES", groups)
    rng = np.random.default_rng(0)
    expected = []
    for level in range(1, 6):
        folder = tmp_path / "c" / "mosaic" / f"intensity_level_{level}"
        levels = {name: rng.integers(20, 240, 6).tolist() for name in groups}
        write_levels(folder, levels)
        wide = folder / "night" / "00.png"
        Image.open(wide).resize((80, 40)).save(wide)  # is scaled whole, to a square
        wrong = []
        for file in sorted(folder.glob("*/*.png")):
            mean = np.asarray(Image.open(file)).astype(np.float64).mean()
            dark, gray, light = torch.tensor(-np.abs(mean - np.array((40, 128, 215))) / 10).softmax(0).tolist()
            wrong.append(((gray + light) / 2 > dark) != (file.parent.name == "bright"))
        expected.append(np.mean(wrong))
    status, record = evaluate("corruption", "--data", tmp_path / "c")
    assert status == 0
    result = record["result"]
    assert (result["kind"], result["name"], result["classes"]) == ("laion-c", "LAION-C", 2)
    assert result["errors"]["mosaic"] == pytest.approx(expected)
    assert np.ptp(expected) > 0


def test_laion_c_needs_imagenets_classes(evaluate, tmp_path, capsys):
    for level in range(1, 6):
        write_levels(tmp_path / "c" / "mosaic" / f"intensity_level_{level}", {name: [40] for name in SUPERCLASSES})
    assert evaluate("corruption", "--data", tmp_path / "c", model=network(40, Brightness())) == (2, None)
    assert "by WordNet ids, of which the network lacks 285" in capsys.readouterr().err


@pytest.mark.slow
def test_a_benchmark_finds_them_beside_each_other(tmp_path):
    root = tmp_path / "data"
    for place, names in (("imagenet-c", ("fog",)), ("ImageNet-C-bar", ("sparkles",)), ("imagenet-3dcc", ("fog_3d",))):
        write_corruptions(root / place, names)
    seen = {"mean": (0.5,) * 3, "std": (0.25,) * 3, "image_size": 40, "classes": CLASSES}
    quick = {"device": "cpu", "threads": 1, "batch_size": 5}
    results = benchmark(Brightness(), root, output=tmp_path / "out", latex=True, **seen, **quick)
    assert list(results) == ["corruption", "imagenet-c-bar", "imagenet-3dcc"]
    assert results.failed == {}
    assert "c_bar_error" in results["imagenet-c-bar"].as_json()
    files = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"corruption.json", "imagenet-c-bar.json", "imagenet-3dcc.json", "report.csv", "report.tex"} <= files
    page = (tmp_path / "out" / "report.html").read_text()
    assert "Corruptions of own set ImageNet-C-bar" in page
    assert "Corruptions of own set imagenet-3dcc" in page
