"""AutoAttack: against the package called directly, stopped and continued, and what must not be attacked."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.eval_sets import network, random_levels, write_levels
from PIL import Image
from pyautoattack import AutoAttack
from sklearn.datasets import load_digits
from torch import nn

from apr_dali import cli
from apr_dali.data.arrays import load_set, open_images
from apr_dali.errors import InputError
from apr_dali.eval import autoattack, session
from apr_dali.eval.autoattack import Attack, Normalized, attack_batch, check_attackable, robust_accuracy
from apr_dali.eval.evaluations.autoattack import in_unit_range
from apr_dali.eval.load_model import Network
from apr_dali.eval.state import State

EPSILON = 0.06


@pytest.fixture(scope="module")
def digits():
    """A small network that knows handwritten digits, and 30 of them: float (30, 1, 8, 8) in 0..1, int64 (30,)."""
    found = load_digits()
    images = torch.from_numpy(found.images / 16).float()[:, None]
    labels = torch.from_numpy(found.target).long()
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    for _ in range(60):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images[30:]), labels[30:]).backward()
        optimizer.step()
    return model.eval().requires_grad_(False), images[:30], labels[:30]


def directly(model, images, labels, version):
    attacker = AutoAttack(model, norm="Linf", eps=EPSILON, seed=5, version=version)
    found, answers = attacker.run_standard_evaluation(images, labels, batch_size=len(images))
    return found, int((answers == labels).sum())


@pytest.fixture
def quick(monkeypatch):
    """Fewer queries and steps, for both sides of a comparison."""
    real = AutoAttack._set_version

    def shorter(self, version="standard"):
        real(self, version)
        self.square.n_queries, self.apgd.n_iter, self.apgd_targeted.n_iter, self.fab.n_iter = 60, 10, 10, 10
        self.apgd.n_restarts = self.fab.n_restarts = 1

    monkeypatch.setattr(AutoAttack, "_set_version", shorter)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("version", ["standard", "plus"])
def test_against_the_package_itself(digits, version):
    model, images, labels = digits
    counts, found = attack_batch(model, images, labels, Attack(version, epsilon=EPSILON), seed=5)
    expected, right = directly(model, images, labels, version)
    assert torch.equal(found, expected)
    assert list(counts) == ["clean", *autoattack.VERSIONS[version]]
    assert list(counts.values())[-1] == right
    assert counts["clean"] > right > 0, "an attack that fools all or none shows nothing"
    assert (found - images).abs().max() <= EPSILON + 1e-6
    assert int((model(found).argmax(1) == labels).sum()) == right


@pytest.mark.usefixtures("quick")
def test_single_attacks(digits):
    model, images, labels = digits
    for name in ("apgd-dlr", "fab", "square"):
        counts, _ = attack_batch(model, images, labels, Attack(name, epsilon=EPSILON), seed=0)
        assert list(counts) == ["clean", name]
        assert counts[name] < counts["clean"], name


def test_standard_has_the_published_settings(digits):
    made = autoattack._attacker(digits[0], torch.device("cpu"), Attack(), 0, 10)
    assert (made.apgd.n_restarts, made.apgd.n_iter, made.square.n_queries) == (1, 100, 5000)
    assert (made.apgd_targeted.n_target_classes, made.fab.n_target_classes) == (9, 9)
    assert made.epsilon == 8 / 255
    # Of fewer classes there are fewer targets.
    assert autoattack._attacker(digits[0], torch.device("cpu"), Attack(), 0, 5).fab.n_target_classes == 4


@pytest.mark.usefixtures("quick")
def test_a_stopped_attack_goes_on(digits, tmp_path, monkeypatch):
    model, images, labels = digits
    batches = list(zip(images.split(8), labels.split(8), strict=True))
    attack, kept = Attack("apgd-ce", epsilon=EPSILON), {}
    whole = robust_accuracy(model, batches, attack, State(None, {}), kept.__setitem__)
    real, ran = autoattack.attack_batch, []

    def stops(*arguments):
        ran.append(arguments[-1])
        if len(ran) == 3:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(autoattack, "attack_batch", stops)
    with pytest.raises(KeyboardInterrupt):
        robust_accuracy(model, batches, attack, State(tmp_path / "s.json", {}))
    assert robust_accuracy(model, batches, attack, State(tmp_path / "s.json", {})) == whole
    assert ran == [0, 1, 2, 2, 3], "each batch by its own seed; two were finished: only the third may run twice"
    right = (model(torch.cat([kept[n] for n in range(4)])).argmax(1) == labels).double().mean().item()
    assert whole.robust == pytest.approx(right)
    assert whole.images == 30
    assert whole.clean == pytest.approx((model(images).argmax(1) == labels).double().mean().item())


class Changed(nn.Module):
    def __init__(self, model: nn.Module, kind: str) -> None:
        super().__init__()
        self.model, self.kind = model, kind

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if self.kind == "hidden":
            images = images.round().detach()
        logits = self.model(images)
        if self.kind == "random":
            logits = logits + 0.1 * torch.randn_like(logits)
        return logits.softmax(1) if self.kind == "softmax" else logits


@pytest.mark.parametrize(
    ("kind", "message"),
    [("hidden", "no gradient reaches the images"), ("random", "answers are random"), ("softmax", "probabilities")],
)
def test_what_must_not_be_attacked(digits, kind, message):
    model, images, _ = digits
    with pytest.raises(InputError, match=message):
        check_attackable(Changed(model, kind).eval(), images, 10, Attack())


def test_other_things_that_must_not_be_attacked(digits):
    model, images, _ = digits
    check_attackable(model, images, 10, Attack())
    with pytest.raises(InputError, match=r"images in 0\.\.1, got -1\.\.1"):
        check_attackable(model, images * 2 - 1, 10, Attack())
    with pytest.raises(InputError, match="must be in eval mode"):
        check_attackable(nn.Sequential(model).train(), images, 10, Attack())
    model.eval()
    three = nn.Sequential(nn.Flatten(), nn.Linear(64, 3)).eval()
    with pytest.raises(InputError, match="apgd-t needs 4 classes, the network has 3"):
        check_attackable(three, images, 3, Attack())
    with pytest.raises(InputError, match="version must be one of standard, plus, apgd-ce"):
        Attack("rand")
    with pytest.raises(InputError, match="epsilon must be positive"):
        Attack(epsilon=0)


def test_batches_are_taken_back_to_what_attacks_need():
    plain = torch.rand(2, 3, 4, 4)
    made = Network("m", nn.Identity(), ("a",), (0.1, 0.2, 0.3), (0.5, 0.6, 0.7), 4, "f")
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (made.mean, made.std))
    ((got, targets),) = in_unit_range(made, torch.device("cpu"), [((plain - mean) / std, torch.tensor([1, 0]))])
    torch.testing.assert_close(got, plain)
    assert targets.tolist() == [1, 0]
    torch.testing.assert_close(Normalized(nn.Identity(), made.mean, made.std)(plain), (plain - mean) / std)


def test_the_command(monkeypatch, tmp_path, capsys):
    write_levels(tmp_path / "val", random_levels(1, count=6, spread=60))
    monkeypatch.setattr(session, "load_model", lambda *_: network())
    arguments = ["--data", tmp_path / "val", "--version", "apgd-ce", "--epsilon", "40/255", "--keep", "--limit", 9]
    options = ["--output", tmp_path / "out", "--device", "cpu", "--threads", 1, "--batch-size", 5]
    assert cli.main(["eval", "autoattack", "m", *map(str, [*arguments, *options])]) == 0
    result = json.loads((tmp_path / "out" / "autoattack.json").read_text())["result"]
    assert (result["images"], result["epsilon"]) == (9, 40 / 255)
    kept = [np.load(path) for path in sorted(Path(result["kept_images"]).glob("*.npy"))]
    assert [len(images) for images in kept] == [5, 4]
    answers = Normalized(network().model, (0.5,) * 3, (0.25,) * 3)(torch.from_numpy(np.concatenate(kept))).argmax(1)
    listed = [line for line in (tmp_path / "out" / "autoattack.files.txt").read_text().splitlines() if ".png" in line]
    targets = torch.tensor([("dark", "gray", "light").index(line.split("/")[0]) for line in listed])
    assert (answers == targets).double().mean().item() == pytest.approx(result["robust"])
    assert result["robust"] < result["clean"]
    assert "40/255" in capsys.readouterr().out
    # Another attack keeps its images elsewhere, and what was moved is not attacked again.
    (tmp_path / "out").rename(tmp_path / "moved")
    options[1] = tmp_path / "moved"
    for epsilon, earlier in (("40/255", True), ("20/255", False)):
        arguments[5] = epsilon
        assert cli.main(["eval", "autoattack", "m", *map(str, [*arguments, *options])]) == 0
        assert ("of an earlier run" in capsys.readouterr().out) == earlier
    folders = sorted((tmp_path / "moved").glob("adversarial-*"))
    assert [len(list(folder.iterdir())) for folder in folders] == [2, 2]


# ---- networks of 32×32 pixels ----------------------------------------------------------------------------------------


class Channelwise(nn.Module):
    """Logits from means over 8×8 pixels; like ConvNeXt's or Swin's its first step is on images with channels last."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Linear(3, 3)
        self.head = nn.Sequential(nn.AvgPool2d(4), nn.Flatten(), nn.Linear(3 * 64, 10))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.mix(images.permute(0, 2, 3, 1)).permute(0, 3, 1, 2))


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A network that knows the digits at 32×32, and a folder with two test images of each."""
    parts = {split: load_set("digits", split) for split in ("train", "val")}
    torch.manual_seed(0)
    made = network(32, Channelwise(), parts["val"].classes)
    normalized = Normalized(made.model, made.mean, made.std)
    images, labels = (torch.from_numpy(part) for part in (parts["train"].images[::3], parts["train"].labels[::3]))
    optimizer = torch.optim.Adam(made.model.parameters(), 0.01)
    for _ in range(40):
        optimizer.zero_grad()
        nn.functional.cross_entropy(normalized(images.permute(0, 3, 1, 2) / 255), labels).backward()
        optimizer.step()
    folder = tmp_path_factory.mktemp("digits")
    for label in range(10):
        (folder / str(label)).mkdir()
        for n, image in enumerate(parts["val"].images[parts["val"].labels == label][:2]):
            Image.fromarray(image).save(folder / str(label) / f"{n}.png")
    return made, folder


@pytest.mark.slow
@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("version", ["standard", "apgd-dlr", "apgd-t"])
def test_the_command_on_digits_against_the_package_itself(small, version, monkeypatch, tmp_path):
    made, folder = small
    monkeypatch.setattr(session, "load_model", lambda *_: made)
    given = ["--data", folder, "--version", version, "--epsilon", EPSILON, "--seed", 5, "--keep"]
    options = ["--output", tmp_path / "out", "--device", "cpu"]
    assert cli.main(["eval", "autoattack", "m", *map(str, [*given, *options])]) == 0
    result = json.loads((tmp_path / "out" / "autoattack.json").read_text())["result"]
    # As the package's own users do it: one contiguous tensor of images in 0..1, in the order of their names.
    files = sorted(folder.glob("*/*.png"))
    images = torch.stack([torch.from_numpy(np.array(Image.open(file))).permute(2, 0, 1) / 255 for file in files])
    labels = torch.tensor([int(file.parent.name) for file in files])
    model = Normalized(made.model, made.mean, made.std).eval().requires_grad_(False)
    attacker = AutoAttack(
        model, norm="Linf", eps=EPSILON, seed=5, version="standard" if version == "standard" else "plus"
    )
    if version not in autoattack.VERSIONS:
        attacker.attacks_to_run = [version]
    expected, answers = attacker.run_standard_evaluation(images.contiguous(), labels, batch_size=len(images))
    (kept,) = Path(result["kept_images"]).glob("*.npy")
    # Taken back from what the network takes, images are those of the files but for a rounding.
    torch.testing.assert_close(torch.from_numpy(np.load(kept)), expected, atol=1e-4, rtol=0)
    assert result["images"] == 20
    assert result["robust"] == pytest.approx((answers == labels).double().mean().item())
    assert 0 < result["robust"] < result["clean"], "an attack that fools all or none shows nothing"


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("norm", ["l2", "l1"])
@pytest.mark.parametrize("name", ["apgd-ce", "apgd-dlr", "apgd-t", "fab", "square"])
def test_images_in_any_order_in_memory(small, name, norm):
    made, folder = small
    images, labels = open_images(folder)
    images = torch.from_numpy(images[::4]).permute(0, 3, 1, 2) / 255
    labels = torch.from_numpy(labels[::4])
    assert not images.is_contiguous()
    model = Normalized(made.model, made.mean, made.std).eval().requires_grad_(False)
    attack = Attack(name, norm, {"l2": 1.0, "l1": 12.0}[norm])
    counts, found = attack_batch(model, images, labels, attack, seed=0)
    expected, same = attack_batch(model, images.contiguous(), labels, attack, seed=0)
    assert counts == expected
    assert torch.equal(found, same)
    assert found.is_contiguous()


def test_logits_that_are_not_finite_are_not_attacked(digits):
    model, images, labels = digits

    def broken(given: torch.Tensor) -> torch.Tensor:
        return torch.where(given.flatten(1).sum(1, keepdim=True) == images[3].sum(), torch.nan, model(given))

    with pytest.raises(InputError, match="nan or infinite for 1 of 30 images"):
        attack_batch(broken, images, labels, Attack(), 0)
