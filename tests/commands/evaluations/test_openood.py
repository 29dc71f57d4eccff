"""`apr-dali eval ood` with near and far sets, the full spectrum, image lists and fitted scores."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.eval_sets import CLASSES, Brightness, network, random_levels, write_levels
from helpers.forked import in_two
from helpers.project import ROOT
from PIL import Image
from torch import nn

from apr_dali.data.arrays import load_set
from apr_dali.data.kinds import CLASSES as KINDS
from apr_dali.eval.evaluations.ood import evaluate_ood
from apr_dali.eval.head import find_head
from apr_dali.eval.ood import energy, ood_metrics
from apr_dali.eval.openood import openood_metrics
from apr_dali.recipes import Scaling


class Linear(nn.Module):
    """A fixed linear layer of the means of an image's quarters, channel by channel, which are about 2."""

    def __init__(self, classes: int = 3) -> None:
        super().__init__()
        self.fc = nn.Linear(12, classes)
        with torch.no_grad():
            self.fc.weight.copy_(torch.randn(classes, 12, generator=torch.Generator().manual_seed(1)))
            self.fc.bias.zero_()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.fc(nn.functional.adaptive_avg_pool2d(images, 2).flatten(1) + 2)


@pytest.fixture
def sets(tmp_path):
    write_levels(tmp_path / "val", random_levels(1, count=8, spread=15))
    write_levels(tmp_path / "train", random_levels(7, count=20, spread=15))
    write_levels(tmp_path / "n1", {"a": [60, 70, 80, 90]})
    write_levels(tmp_path / "n2", {"a": [170, 175, 180]})
    write_levels(tmp_path / "f", {"a": [12, 240, 250]})
    write_levels(tmp_path / "dim", {"dark": [20, 30], "light": [150, 160, 45]})
    write_levels(tmp_path / "numbers", {"0": [20], "2": [150, 160]})
    return tmp_path


def named(root: Path, *names: str) -> list[str]:
    return [f"{name}={root / name}" for name in names]


def unscaled(model: nn.Module):
    """A network that sees images of its size as they are."""
    return replace(network(model=model), scaling=Scaling(over_crop=1.0))


def logits_of(model, folder: Path) -> torch.Tensor:
    pixels = [np.asarray(Image.open(path)) for path in sorted(folder.glob("*/*.png"))]
    images = (torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2) / 255 - 0.5) / 0.25
    with torch.no_grad():
        return model(images)


def test_near_far_and_the_full_spectrum(evaluate, sets):
    status, record = evaluate(
        *("ood", "--data", sets / "val", "--near", *named(sets, "n1", "n2"), "--far", *named(sets, "f")),
        *("--shifted", *named(sets, "dim", "numbers"), "--scores", "energy", "gen"),
    )
    assert status == 0
    result = record["result"]
    rows = result["scores"]["energy"]
    assert list(rows) == ["n1", "n2", "f", "mean", "nearood", "farood"]
    own = energy(logits_of(Brightness(), sets / "val"))
    for name in ("n1", "n2", "f"):
        other = energy(logits_of(Brightness(), sets / name))
        expected = {**ood_metrics(own, other), **openood_metrics(own, other)}
        assert {key: rows[name][key] for key in expected} == pytest.approx(expected, abs=1e-6)
    for key in rows["n1"]:
        assert rows["nearood"][key] == pytest.approx((rows["n1"][key] + rows["n2"][key]) / 2)
        assert rows["farood"][key] == pytest.approx(rows["f"][key])
        assert rows["mean"][key] == pytest.approx((rows["n1"][key] + rows["n2"][key] + rows["f"][key]) / 3)
    shifted = [energy(logits_of(Brightness(), sets / name)) for name in ("dim", "numbers")]
    wide = torch.cat([own, *shifted])
    far = energy(logits_of(Brightness(), sets / "f"))
    assert result["full_spectrum"]["energy"]["f"]["auroc"] == pytest.approx(ood_metrics(wide, far)["auroc"], abs=1e-6)
    right = [
        (logits_of(Brightness(), sets / name).argmax(1) == torch.tensor(labels)).tolist()
        for name, labels in (("dim", [0, 0, 2, 2, 2]), ("numbers", [0, 2, 2]))
    ]
    count = 8 + 7 + 6
    total = result["accuracy"] * count + sum(map(sum, right))
    assert result["full_spectrum_accuracy"] == pytest.approx(total / (count + 8))
    assert result["groups"] == {"n1": "near", "n2": "near", "f": "far"}


def test_all_scores_in_one_pass(evaluate, sets, capsys):
    model = Linear()
    status, record = evaluate(
        *("ood", "--data", sets / "val", "--near", *named(sets, "n1"), "--far", *named(sets, "f")),
        *("--scores", "all", "--fit-data", sets / "train", "--fit-images", 55),
        model=unscaled(model),
    )
    assert status == 0, capsys.readouterr().err
    result = record["result"]
    assert result["fit"] == {"data": str(sets / "train"), "images": 55}
    assert len(result["scores"]) == 12, result["notes"]
    assert all(0 <= row["auroc"] <= 1 for rows in result["scores"].values() for row in rows.values())
    # Of one of them the whole way by hand: the distance to the class means of 55 of the 57 images.
    paths = sorted((sets / "train").glob("*/*.png"))
    taken = np.arange(55) * len(paths) // 55
    images = [np.asarray(Image.open(paths[n])) for n in taken]
    labels = np.array([CLASSES.index(paths[n].parent.name) for n in taken])
    batch = (torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2) / 255 - 0.5) / 0.25
    head = find_head(model, batch, "x")
    inputs = []
    handle = head.layer.register_forward_pre_hook(lambda _, given: inputs.append(given[0].double().numpy()))
    with torch.no_grad():
        model(batch)
        for name in ("val", "f"):
            logits_of(model, sets / name)
    handle.remove()
    fitted, own, far = inputs
    fitted = fitted.astype(np.float16).astype(np.float64)  # as they are kept
    means = np.stack([fitted[labels == n].mean(0) for n in range(3)])
    precision = np.linalg.pinv((fitted - means[labels]).T @ (fitted - means[labels]) / 55, rcond=1e-9)

    def distance(rows: np.ndarray) -> np.ndarray:
        apart = rows[:, None] - means
        return np.einsum("ncd,de,nce->nc", apart, precision, apart).min(1)

    expected = ood_metrics(-distance(own), -distance(far))["auroc"]
    assert result["scores"]["mahalanobis"]["f"]["auroc"] == pytest.approx(expected, abs=1e-9)
    assert not list((sets / "out").rglob("*.f16"))


def test_scores_of_a_network_in_16_bits(evaluate, sets):
    given = ("ood", "--data", sets / "val", "--far", *named(sets, "f"), "--fit-data", sets / "train")
    scores = ("--scores", "odin", "react", "scale", "knn")
    _, plain_record = evaluate(*given, *scores, model=unscaled(Linear()))
    status, record = evaluate(*given, *scores, "--amp", "bf16", model=unscaled(Linear()))
    assert status == 0
    for score, rows in record["result"]["scores"].items():
        expected = plain_record["result"]["scores"][score]["f"]["auroc"]
        assert rows["f"]["auroc"] == pytest.approx(expected, abs=0.15), score


def test_openoods_own_lists(evaluate, tmp_path):
    """A network of CIFAR's classes, on lists of images of any size."""
    data = tmp_path / "data"
    lists = data / "benchmark_imglist" / "cifar10"
    lists.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name, sizes, labels in (
        ("cifar10", [(32, 32)] * 12, range(10)),
        ("cifar100", [(32, 32)] * 3, [-1]),
        ("tin", [(64, 64)] * 3, [-1]),
        ("mnist", [(28, 28)] * 3, [-1]),
        ("svhn", [(32, 32)] * 3, [-1]),
        ("texture", [(90, 50), (32, 40), (64, 96)], [-1]),
        ("places365", [(50, 60)] * 3, [-1]),
    ):
        folder = data / "images_classic" / name
        folder.mkdir(parents=True)
        lines = []
        for n, (width, height) in enumerate(sizes):
            mode = "L" if name == "mnist" else "RGB"
            pixels = rng.integers(0, 256, (height, width) if mode == "L" else (height, width, 3), np.uint8)
            Image.fromarray(pixels).save(folder / f"{n}.png")
            lines.append(f"{name}/{n}.png {list(labels)[n % len(labels)]}")
        (lists / f"test_{name}.txt").write_text("\n".join(lines))
    (lists / "train_cifar10.txt").write_text((lists / "test_cifar10.txt").read_text())
    model = network(32, Linear(10), KINDS["cifar10"])
    status, record = evaluate("ood", "--openood", data, "--scores", "energy", "dice", model=model, record="openood")
    assert status == 0
    result = record["result"]
    assert result["groups"] == {
        **dict.fromkeys(("cifar100", "tin"), "near"),
        **dict.fromkeys(("mnist", "svhn", "texture", "places365"), "far"),
    }
    assert result["images"] == 12
    assert result["notes"] == [], "a list is a part of a set by design"
    # 32×32 images are taken as they are, pixel by pixel.
    own, near = (energy(plain(data, name, model.model)) for name in ("cifar10", "cifar100"))
    assert result["scores"]["energy"]["cifar100"]["auroc"] == pytest.approx(ood_metrics(own, near)["auroc"], abs=1e-9)
    assert result["fit"]["data"].endswith("train_cifar10.txt")


def plain(data: Path, name: str, model: nn.Module) -> torch.Tensor:
    """The logits of 32×32 images in the order of their list."""
    lines = (data / "benchmark_imglist" / "cifar10" / f"test_{name}.txt").read_text().splitlines()
    pixels = [np.asarray(Image.open(data / "images_classic" / line.split()[0])) for line in lines]
    with torch.no_grad():
        return model((torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2) / 255 - 0.5) / 0.25)


def test_larger_images_reach_a_small_network_as_openood_scales_them(evaluate, tmp_path):
    """The shorter side to 32, the middle of it: Pillow's, within what two resizers differ by."""
    write_levels(tmp_path / "val", {"dark": [40], "gray": [128], "light": [215]})
    for path in (tmp_path / "val").glob("*/*.png"):
        Image.open(path).resize((32, 32)).save(path)
    (tmp_path / "wide").mkdir()
    pixels = np.zeros((64, 128, 3), np.uint8)
    pixels[:, 24:104] = 128  # the middle square, and what the filter reaches beyond it
    Image.fromarray(pixels).save(tmp_path / "wide" / "0.png")
    arguments = ("ood", "--data", tmp_path / "val", "--scores", "max-logit")
    status, record = evaluate(*arguments, "--far", f"w={tmp_path}/wide", model=network(32))
    assert status == 0
    # Its brightness is that of the middle class, so its score beats all but that of the gray image.
    assert record["result"]["scores"]["max-logit"]["w"]["auroc"] < 0.4
    status, _ = evaluate(*arguments, "--ood", f"w={tmp_path}/wide", model=network(32))
    assert status == 2, "a set that is none of OpenOOD's protocol must have the network's size"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data", "{root}/val"], "give --data and --ood, --near or --far, or --openood"),
        (["--openood", "{root}"], "OpenOOD has no sets for this network"),
        (["--openood", "{root}", "--near", "a={root}/n1"], "--openood says itself what is measured: leave out --near"),
        (["--data", "{root}/val", "--far", "a={root}/f", "--full-spectrum"], "--full-spectrum is of --openood"),
        (["--data", "{root}/val", "--far", "a={root}/f", "--near", "a={root}/n1"], "two sets are called a"),
        (["--data", "{root}/val", "--far", "nearood={root}/f"], "another set is called nearood"),
        (["--data", "{root}/val", "--far", "a={root}/f", "--scores", "knn"], "knn are fitted to training images"),
        (
            ["--data", "{root}/val", "--far", "a={root}/f", "--scores", "knn", "--fit-data", "{root}/val"],
            "are the images that are to be told from others",
        ),
        (
            ["--data", "{root}/val", "--far", "a={root}/f", "--scores", "knn", "--fit-data", "{root}/no"],
            "--fit-data {root}/no is not there",
        ),
        (["--data", "{root}/val", "--far", "a={root}/f", "--fit-images", "5"], "--fit-images changes nothing"),
        (["--data", "{root}/val", "--far", "a={root}/f", "--list-root", "x"], "--list-root x changes nothing"),
        (
            ["--data", "{root}/val", "--far", "a={root}/f", "--scores", "ash"],
            "brightness has no last linear layer whose outputs are its logits",
        ),
        (["--data", "{root}/val", "--far", "a={root}/f", "--shifted", "s={root}/n1"], "has 1 classes (a)"),
    ],
)
def test_bad_input_is_named(evaluate, sets, capsys, arguments, message):
    status, record = evaluate("ood", *(text.format(root=sets) for text in arguments))
    assert (status, record) == (2, None)
    assert message.format(root=sets) in capsys.readouterr().err


def test_scores_are_fitted_to_the_training_split_of_digits(monkeypatch):
    made = replace(network(32, Linear(10), tuple("0123456789")), trained_on="digits")
    monkeypatch.setattr("apr_dali.eval.session.load_model", lambda *_: made)
    found = evaluate_ood(
        "x", "digits", ood={"photographs": "photographs"}, scores=("knn",), fit_data="digits", device="cpu", threads=1
    )
    assert found.fit == {"data": "digits", "images": len(load_set("digits", "train"))}
    assert found.images == len(load_set("digits", "val"))


def test_a_score_that_is_no_number_is_left_out(evaluate, sets):
    """Features of sum 0 have no SCALE: the others are measured."""

    class Zero(Linear):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            level = images.mean((1, 2, 3))[:, None]
            return self.fc(torch.cat([level, -level], 1).repeat(1, 6) * (level > 0.5))

    arguments = ("ood", "--data", sets / "val", "--far", *named(sets, "f"))
    status, record = evaluate(*arguments, "--scores", "scale", "energy", model=network(model=Zero()))
    assert status == 0
    assert list(record["result"]["scores"]) == ["energy"]
    assert record["result"]["notes"][0].startswith("scale: left out, it is no finite number for ")


SCRIPT = """
import sys
sys.path.insert(0, {tests!r})
from pathlib import Path
import helpers.eval_sets as e
from test_openood_model import Linear
from dataclasses import replace
from apr_dali import cli
from apr_dali.recipes import Scaling
from apr_dali.eval import session
session.load_model = lambda *_: replace(e.network(model=Linear()), scaling=Scaling(1.0))
sys.exit(cli.main(["eval", "ood", "model", *sys.argv[1:]]))
"""


@pytest.mark.slow
def test_two_processes_equal_one(evaluate, sets):
    given = ["--data", sets / "val", "--near", *named(sets, "n1"), "--far", *named(sets, "f"), "--scores", "all"]
    given += ["--fit-data", sets / "train"]
    status, one = evaluate("ood", *given, model=unscaled(Linear()))
    assert status == 0
    source = Path(__file__).read_text()
    body = source[source.index("class Linear") : source.index("@pytest.fixture")]
    (sets / "test_openood_model.py").write_text(f"import torch\nfrom torch import nn\n\n\n{body}")
    script = sets / "run.py"
    script.write_text(SCRIPT.format(tests=str(ROOT / "tests")))
    options = ["--output", sets / "two", "--device", "cpu", "--threads", 1, "--batch-size", 5]
    ran = in_two(script, *given, *options, cwd=sets)
    assert ran.returncode == 0, ran.stderr
    two = json.loads((sets / "two" / "ood.json").read_text())
    for score, rows in one["result"]["scores"].items():
        for name, row in rows.items():
            assert two["result"]["scores"][score][name] == pytest.approx(row, abs=1e-6), (score, name)


def write_lists(data: Path, kind: str, sets: dict[str, tuple[tuple[int, int], int]], classes: int) -> None:
    """OpenOOD's folder: of each set the size of its images, and how many."""
    lists = data / "benchmark_imglist" / kind
    lists.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name, ((height, width), count) in sets.items():
        folder = data / "images_largescale" / name
        folder.mkdir(parents=True)
        for n in range(count):
            Image.fromarray(rng.integers(0, 256, (height, width, 3), np.uint8)).save(folder / f"{n}.png")
        label = (lambda n: n % classes) if name.startswith("imagenet") else (lambda _: -1)
        lines = [f"{name}/{n}.png {label(n)}" for n in range(count)]
        (lists / f"test_{name}.txt").write_text("\n".join(lines))


@pytest.mark.slow
def test_the_full_spectrum_of_imagenet_in_a_benchmark(monkeypatch, tmp_path):
    """Below a data root, beside nothing else; and with the shifted sets by the command of its own."""
    from apr_dali.eval import benchmark, evaluate_openood

    near_far = ("ssb_hard", "ninco", "inaturalist", "textures", "openimage_o")
    shifted = ("imagenet_v2", "imagenet_c", "imagenet_r")
    sets = {**dict.fromkeys(near_far, ((50, 44), 3)), **dict.fromkeys(("imagenet", *shifted), ((44, 50), 4))}
    write_lists(tmp_path / "openood", "imagenet", sets, 3)
    model = replace(network(model=Linear()), trained_on="imagenet")
    monkeypatch.setattr("apr_dali.eval.session.load_model", lambda *_: model)
    options = {"device": "cpu", "threads": 1, "batch_size": 5}
    found = benchmark("x", tmp_path, output=tmp_path / "out", **options)
    assert list(found) == ["openood"]
    rows = found["openood"].scores["energy"]
    assert list(rows) == [*near_far, "mean", "nearood", "farood"]
    assert "openood nearood AUROC, energy, 4 images against ssb_hard (3)" in " ".join(found.summary())
    assert "<h2>OpenOOD v1.5</h2>" in (tmp_path / "out" / "report.html").read_text()
    whole = evaluate_openood("x", tmp_path / "openood", full_spectrum=True, **options)
    assert whole.scores == found["openood"].scores
    assert list(whole.shifted) == list(shifted)
    assert whole.full_spectrum["energy"]["ninco"] != whole.scores["energy"]["ninco"]
    assert 0 <= whole.full_spectrum_accuracy <= 1
