"""Networks that were exported: ONNX, TorchScript and torch.export, with files as these tools write them."""

import numpy as np
import pytest
import torch
from helpers.eval_sets import CLASSES, Brightness, error_of, random_levels, write_levels
from torch import nn

from apr_dali import cli
from apr_dali.errors import InputError
from apr_dali.eval import analyze_gradcam, evaluate_autoattack, evaluate_clean, evaluate_ood
from apr_dali.eval.inference_only import refuse_inference_only
from apr_dali.eval.load_model import load_model

SEEN = {"mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25), "classes": CLASSES}
QUICK = {"device": "cpu", "threads": 1, "batch_size": 5}
IMAGES = torch.randn(3, 3, 40, 40, generator=torch.Generator().manual_seed(0)) * 0.2


def scripted(folder):
    path = folder / "net.pt"
    torch.jit.trace(Brightness().eval(), IMAGES).save(path)
    return path


def exported(folder, batch: int | None = None):
    path = folder / "net.pt2"
    example = IMAGES if batch is None else IMAGES[:batch]
    dynamic = None if batch else {"images": {0: torch.export.Dim("n")}}
    torch.export.save(torch.export.export(Brightness().eval(), (example,), dynamic_shapes=dynamic), path)
    return path


def onnx_file(folder, batch: int | str = "n"):
    """`Brightness` of images of 40×40, by ONNX's own helper."""
    pytest.importorskip("onnxruntime")
    onnx = pytest.importorskip("onnx")
    make, kind = onnx.helper, onnx.TensorProto.FLOAT
    constants = {"scale": [0.25 * 255], "shift": [0.5 * 255], "levels": [40, 128, 215], "tenth": [-0.1]}
    nodes = [
        make.make_node("GlobalAveragePool", ["images"], ["pooled"]),
        make.make_node("Flatten", ["pooled"], ["flat"]),
        make.make_node("ReduceMean", ["flat", "one"], ["mean"], keepdims=1),
        make.make_node("Mul", ["mean", "scale"], ["scaled"]),
        make.make_node("Add", ["scaled", "shift"], ["level"]),
        make.make_node("Sub", ["level", "levels"], ["apart"]),
        make.make_node("Abs", ["apart"], ["far"]),
        make.make_node("Mul", ["far", "tenth"], ["logits"]),
    ]
    tensors = [onnx.numpy_helper.from_array(np.array(value, np.float32), name) for name, value in constants.items()]
    tensors.append(onnx.numpy_helper.from_array(np.array([1], np.int64), "one"))
    graph = make.make_graph(
        nodes,
        "brightness",
        [make.make_tensor_value_info("images", kind, [batch, 3, 40, 40])],
        [make.make_tensor_value_info("logits", kind, [batch, 3])],
        tensors,
    )
    path = folder / "net.onnx"
    onnx.save(make.make_model(graph, opset_imports=[make.make_opsetid("", 18)], ir_version=9), path)
    return path


FORMS = {
    "TorchScript": scripted,
    "torch.export": exported,
    "torch.export, two at a time": lambda folder: exported(folder, 2),
    "ONNX": onnx_file,
    "ONNX, four at a time": lambda folder: onnx_file(folder, 4),
}


@pytest.mark.parametrize("form", FORMS)
def test_it_gives_the_networks_logits(tmp_path, form):
    path = FORMS[form](tmp_path)
    size = None if "Script" not in form else 40
    found = load_model(path, image_size=size, classes=CLASSES)
    assert found.image_size == 40
    with torch.no_grad():
        torch.testing.assert_close(found.model(IMAGES), Brightness()(IMAGES), rtol=1e-4, atol=1e-4)
        assert found.model(IMAGES[:1]).shape == (1, 3)
    kind = form.partition(",")[0]
    assert f"({kind}, inference only)" in found.description()
    assert f"{kind} does not say: assumed, as published for ImageNet" in found.description()


@pytest.mark.parametrize("form", FORMS)
def test_it_is_evaluated(tmp_path, form):
    write_levels(tmp_path / "val", random_levels(1))
    write_levels(tmp_path / "far", {"a": [84, 90, 200]})
    path = FORMS[form](tmp_path)
    options = {**SEEN, **QUICK, **({"image_size": 40} if "Script" in form else {})}
    assert evaluate_clean(path, tmp_path / "val", **options).top1 == pytest.approx(1 - error_of(tmp_path / "val"))
    # The 12 images are no whole number of batches of five, of four or of two.
    ours = evaluate_ood(Brightness(), tmp_path / "val", ood={"far": tmp_path / "far"}, image_size=40, **SEEN, **QUICK)
    found = evaluate_ood(path, tmp_path / "val", ood={"far": tmp_path / "far"}, **options)
    assert found.scores["energy"]["far"] == pytest.approx(ours.scores["energy"]["far"], abs=1e-6)


@pytest.mark.parametrize("form", ["TorchScript", "torch.export", "ONNX"])
def test_what_needs_more_refuses_it(tmp_path, form):
    write_levels(tmp_path / "val", random_levels(1))
    path = FORMS[form](tmp_path)
    options = {**SEEN, **QUICK, **({"image_size": 40} if "Script" in form else {})}
    told = rf"and .*net.* is {form}, for inference only: give a checkpoint of the network"
    with pytest.raises(InputError, match=f"AutoAttack needs gradients, {told}"):
        evaluate_autoattack(path, tmp_path / "val", **options)
    with pytest.raises(InputError, match=f"Grad-CAM needs layers and gradients, {told}"):
        analyze_gradcam(path, tmp_path / "val", **options)
    for score, needs in (("odin", "gradients"), ("ash", "layers")):
        with pytest.raises(InputError, match=f"{score} needs {needs}, {told}"):
            evaluate_ood(path, tmp_path / "val", ood={"x": tmp_path / "val"}, scores=[score], **options)
    with pytest.raises(InputError, match=f"--amp bf16 changes layers, {told}"):
        evaluate_clean(path, tmp_path / "val", **{**options, "amp": "bf16"})


def test_from_the_command_line(tmp_path, capsys):
    write_levels(tmp_path / "val", random_levels(1))
    (tmp_path / "classes.txt").write_text("\n".join(CLASSES))
    seen = ["--mean", 0.5, 0.5, 0.5, "--std", 0.25, 0.25, 0.25, "--classes", tmp_path / "classes.txt"]
    given = ["--output", tmp_path / "out", "--device", "cpu", "--threads", 1, "--batch-size", 5]
    command = ["eval", "clean", exported(tmp_path), "--data", tmp_path / "val", *seen, *given]
    assert cli.main(list(map(str, command))) == 0
    assert "(torch.export, inference only)" in capsys.readouterr().out
    assert cli.main([*map(str, command), "--image-size", "48"]) == 2
    assert "is fixed to images of 40×40: leave out --image-size" in capsys.readouterr().err


class Two(nn.Module):
    def forward(self, images: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        return (images + other).flatten(1)[:, :3]


def test_bad_files_are_named(tmp_path, monkeypatch):
    for name, told in (("a.pt2", "cannot be read as torch.export's"), ("b.onnx", "ONNX|onnxruntime")):
        (tmp_path / name).write_bytes(b"nothing")
        with pytest.raises(InputError, match=told):
            load_model(tmp_path / name)
    two = torch.export.export(Two(), (IMAGES, IMAGES))
    torch.export.save(two, tmp_path / "two.pt2")
    with pytest.raises(InputError, match=r"two\.pt2 cannot be read as torch\.export's"):
        load_model(tmp_path / "two.pt2")
    tall = torch.export.export(nn.Flatten(), (IMAGES[:, :, :20],))
    torch.export.save(tall, tmp_path / "tall.pt2")
    with pytest.raises(InputError, match="expected 3 channels, and squares"):
        load_model(tmp_path / "tall.pt2")
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    with pytest.raises(InputError, match=r"an ONNX file needs onnxruntime: pip install .*onnx"):
        load_model(tmp_path / "b.onnx")


class Mean(nn.Module):
    """Of the channels of an image, as often as `times` says."""

    def __init__(self, times: int = 1) -> None:
        super().__init__()
        self.times, self.scale = times, nn.Parameter(torch.ones(1))

    def forward(self, images: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, ...]:
        means = images.mean((2, 3)) * self.scale
        return means if self.times == 1 else (means,) * self.times


@pytest.mark.parametrize("form", ["TorchScript", "torch.export"])
def test_a_network_of_16_bits_is_fed_such_images(tmp_path, form):
    made, images = Mean().half(), IMAGES.half()
    if form == "TorchScript":
        torch.jit.trace(made, images).save(tmp_path / "net.pt")
    else:
        torch.export.save(torch.export.export(made, (images,)), tmp_path / "net.pt2")
    (path,) = tmp_path.iterdir()
    logits = load_model(path, image_size=40).model(IMAGES)
    assert logits.dtype == torch.float32
    torch.testing.assert_close(logits, made(images).float())


@pytest.mark.parametrize("batch", [1, 2])
def test_two_outputs_are_named(tmp_path, batch):
    torch.export.save(torch.export.export(Mean(2), (IMAGES[:batch],)), tmp_path / "net.pt2")
    with pytest.raises(InputError, match="got tuple; give one that returns its logits alone"):
        load_model(tmp_path / "net.pt2")


def test_networks_with_layers_are_not_refused():
    refuse_inference_only(Brightness(), "x", "an attack needs gradients")


def test_a_checkpoint_of_the_same_ending_is_one(tmp_path):
    from apr_dali.models import create_model

    torch.save(create_model("resnet18", 3).state_dict(), tmp_path / "w.pt")
    with pytest.raises(InputError, match="does not say which network its weights are of"):
        load_model(tmp_path / "w.pt")
