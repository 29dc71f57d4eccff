"""The operators in DALI graphs, the loaders and the trainer on a CUDA device, where there is one: `make gpu-check`."""

import json
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from helpers.project import ROOT
from PIL import Image

import apr_dali
from apr_dali import ImageNetLoader
from apr_dali.draws import SingleDraws

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
BACKENDS = ("cupy", "torch")


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("size", [32, 40, 64], ids=str)
def test_in_a_graph_the_operators_give_what_they_give_outside(size, backend, crops):
    from nvidia.dali import fn, pipeline_def

    from apr_dali.pipelines import operators

    images = crops(8, size, size)

    @pipeline_def(batch_size=8, num_threads=2, device_id=0, seed=3, prefetch_queue_depth=1)
    def graph():
        given = fn.external_source(lambda: list(images), device="cpu", layout="HWC", batch=True).gpu()
        uniform = operators.draw_single()
        single = operators.apr_single(given, backend=backend, draws=uniform)
        partner, coin = operators.draw_pair()
        pair = operators.apr_pair(given, 0.6, in_scale=1 / 255, backend=backend, draws=(partner, coin))
        return single, uniform, pair, partner, coin

    made, mixed = graph(), set()
    for _ in range(8):
        single, uniform, pair, partner, coin = made.run()
        drawn = SingleDraws.from_uniform(np.stack(list(map(np.asarray, uniform))), size, size)
        on_gpu = torch.from_numpy(images).cuda()
        expected = apr_dali.single(on_gpu, drawn, backend=backend)
        np.testing.assert_array_equal(single.as_cpu().as_array(), expected.cpu().numpy())
        mix = float(np.asarray(coin.at(0)).reshape(-1)[0]) < 0.6
        mixed.add(mix)
        options = {"in_scale": 1 / 255, "with_clean": True, "backend": backend}
        expected = apr_dali.pair(on_gpu, partner.as_array().reshape(-1), mix, **options)
        # The views of an unmixed batch are one and the same, and come once.
        expected = expected if mix else expected[:, :1]
        np.testing.assert_array_equal(pair.as_cpu().as_array(), expected.cpu().numpy())
    assert mixed == {True, False}


def test_images_are_mirrored_as_by_flip(crops):
    from nvidia.dali import fn, pipeline_def

    from apr_dali.pipelines.graph import flipped

    images = crops(8, 41, 56)

    @pipeline_def(batch_size=8, num_threads=1, device_id=0, seed=3)
    def graph():
        given = fn.external_source(lambda: list(images), device="cpu", layout="HWC", batch=True).gpu()
        mirror = fn.random.coin_flip()
        return flipped(given, mirror), fn.flip(given, horizontal=mirror)

    ours, dalis = graph().run()
    np.testing.assert_array_equal(ours.as_cpu().as_array(), dalis.as_cpu().as_array())


@pytest.mark.parametrize(
    ("name", "layout"), [("afa", "HWC"), ("prime", "CHW"), ("hybrid++-p", "CHW"), ("hybrid-s", "HWC")]
)
def test_in_a_graph_an_augmentation_has_the_draws_of_its_number(name, layout, crops):
    """Which the host knows without looking at the device, while DALI is ahead."""
    from nvidia.dali import fn, pipeline_def, types

    from apr_dali.augmentations import sample_and_apply
    from apr_dali.pipelines import operators

    images = crops(8, 40, 48)
    if layout == "CHW":
        images = np.ascontiguousarray(images.transpose(0, 3, 1, 2)) / np.float32(255)

    @pipeline_def(batch_size=8, num_threads=2, device_id=0, seed=3, prefetch_queue_depth=3)
    def graph():
        given = fn.external_source(lambda: list(images), device="cpu", layout=layout, batch=True).gpu()
        numbers = fn.random.uniform(range=(0.0, 2.0**31 - 1), dtype=types.INT64)
        coins = operators.draw_coins(9, 1)[0] if name == "hybrid++-p" else fn.random.uniform(shape=(2,))
        had = {"coins": coins} if name == "hybrid++-p" else {}
        return operators.augment(given, name, layout=layout, numbers=numbers, **had), numbers, coins

    pipeline = graph()
    for _ in range(8):
        made, numbers, coins = (output.as_cpu().as_array() for output in pipeline.run())
        coin = {"coin": coins[0].tolist()} if name == "hybrid++-p" else {}
        expected = sample_and_apply(name, torch.from_numpy(images).cuda(), int(numbers.reshape(-1)[0]), **coin)
        np.testing.assert_array_equal(made, expected.cpu().numpy())


@pytest.mark.parametrize("aug", ["none", "apr-p", "apr-s", "apr-sp"])
def test_gpu_pipeline_gives_what_the_cpu_pipeline_gives(aug, crops, tmp_path):
    (tmp_path / "only").mkdir()
    for index, image in enumerate(crops(12, 90, 120)):
        Image.fromarray(image).save(tmp_path / "only" / f"{index}.png")
    batches = {}
    for device in ("cpu", "gpu"):
        with ImageNetLoader(tmp_path, 6, aug, device=device, image_size=64, seed=1, threads=2) as loader:
            batches[device] = [images.cpu() for images, _ in loader]
    # Decoder, resize and crop draws are each device's own: compare what does not depend on them.
    for on_gpu, on_cpu in zip(batches["gpu"], batches["cpu"], strict=True):
        assert on_gpu.shape == on_cpu.shape
        assert torch.isfinite(on_gpu).all()
        assert abs(on_gpu.mean() - on_cpu.mean()) < 0.5
    assert len({image.numpy().tobytes() for batch in batches["gpu"] for image in batch}) >= 12


def test_the_trainer_is_killed_resumed_and_ends(tmp_path):
    root = ROOT
    run = tmp_path / "run"
    command = [sys.executable, "train_imagenet.py", "--data", str(tmp_path / "sample"), "--output", str(run)]
    command += ["--model", "resnet18", "--image-size", "64", "--batch-size", "32", "--epochs", "2", "--lr", "0.02"]
    command += ["--aug", "apr-sp", "--amp", "bf16", "--compile", "--device", "gpu", "--checkpoint-minutes", "0"]
    command += ["--resume", "auto"]
    given = {"cwd": root, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    subprocess.run([sys.executable, "-m", "apr_dali", "sample", str(tmp_path / "sample")], cwd=root, check=True)
    process = subprocess.Popen(command, **given)
    while process.poll() is None and not (run / "previous.pt").exists():
        time.sleep(0.05)
    process.kill()
    message = process.communicate()[0]
    assert process.returncode == -signal.SIGKILL, message
    done = subprocess.run(command, timeout=200, check=False, **given)
    assert done.returncode == 0, done.stdout
    assert "continuing at epoch" in done.stdout
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows if "val_loss" in row] == [1, 2]
    assert all(np.isfinite(row["val_loss"]) for row in rows if "val_loss" in row)
