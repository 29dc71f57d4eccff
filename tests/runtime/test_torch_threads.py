"""How many threads torch is given on the CPU, and how they wait."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import nn

from apr_dali.models import create_model
from apr_dali.runtime import cpus, spin_count, torch_threads

ROOT = Path(__file__).parents[2]
VARIABLES = ("OMP_NUM_THREADS", "LOCAL_WORLD_SIZE")


@pytest.fixture
def given(monkeypatch):
    """The number that torch is told, or None; it has eight threads, this process two CPUs, and nobody has chosen."""
    told = [None]
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)
    monkeypatch.setattr(torch, "set_num_threads", lambda count: told.__setitem__(0, count))
    monkeypatch.setattr(cpus, "share", lambda: 2)
    return lambda: told[0]


def layer(channels: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, channels, 3, padding=1), nn.BatchNorm2d(channels)).train()


def test_operations_are_those_of_one_image():
    # 27 products and sums for each of 16 · 8 · 8 values.
    assert torch_threads.operations(layer(16), 8, 3) == 2 * 27 * 16 * 8 * 8
    model = layer(16)
    torch_threads.operations(model, 8, 3)
    assert model.training
    assert model[1].num_batches_tracked == 0, "a look at it trains nothing"


def test_a_small_network_gets_one_thread_and_a_large_one_its_share(given):
    cpu = torch.device("cpu")
    torch_threads.choose(layer(16), 8, 3, cpu)
    assert given() == 1
    torch_threads.choose(layer(64), 128, 3, cpu)
    assert given() == 2


def test_what_a_person_sets_and_gpus_are_left_alone(given, monkeypatch):
    torch_threads.choose(layer(16), 8, 3, torch.device("cuda"))
    assert given() is None
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    torch_threads.choose(layer(16), 8, 3, torch.device("cpu"))
    assert given() is None


def test_a_number_of_threads_is_a_limit_that_a_persons_own_setting_beats(given, monkeypatch):
    torch_threads.use(3)
    assert given() == 3
    torch_threads.use(20)
    assert given() == 8, "no more than torch would take"
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    torch_threads.use(1)
    assert given() == 8


# ---- every entry point that computes with a network, or feeds one ----------------------------------------------------

# In a process of its own: the number of threads is one for a whole process.
ENTRY_POINTS = """
import contextlib, io, os, sys
from dataclasses import replace
os.environ["ACCELERATE_USE_CPU"] = "true"
for folder in ("examples", "benchmarks"):
    sys.path.insert(0, os.path.join(sys.argv[1], folder))
data, scratch = sys.argv[2:]
import torch
import accelerate_datasets, lightning_module, pytorch_loop, torchvision_recipe
from apr_dali.bench.feeds import open_feed
from apr_dali.bench.images import Places
from apr_dali.bench.rows import Row
from apr_dali.commands.analyses import small_network
from apr_dali.data.arrays import load_set
from apr_dali.eval import open_session
from apr_dali.integrations import timm as with_timm
from apr_dali.runtime.distributed import start

def digits():
    some = load_set("digits", "train")
    part = replace(some, images=some.images[:32], labels=some.labels[:32])
    with start("cpu") as group:
        small_network.fit(part, replace(small_network.SMALL, epochs=1), group)

within_eval = []

def evaluation():
    given = {"weights": f"{scratch}/weights.pt", "classes": f"{data}/train", "image_size": 32, "device": "cpu"}
    with open_session("shufflenet_v2_x0_5", **given):
        within_eval.append(torch.get_num_threads())

def script(*given):
    with open(f"{scratch}/script.py", "w") as file:
        file.write("pass")
    with_timm.main([*given, f"{scratch}/script.py"])

calls = {
    "pytorch_loop": lambda: pytorch_loop.train(data, epochs=1, image_size=32),
    "torchvision_recipe": lambda: torchvision_recipe.train(data, epochs=1, image_size=32, workers=0),
    "accelerate_datasets": lambda: accelerate_datasets.train(data, epochs=1, image_size=32),
    "lightning_module": lambda: lightning_module.train(data, epochs=1, image_size=32, accelerator="cpu"),
    "timm": lambda: script("--loader", "apr-sp"),
    "bench, DALI": lambda: open_feed(Row("dali-cpu", "none", 224), Places(f"{data}/train", ""), 2),
    "bench, DataLoader": lambda: open_feed(Row("dataloader", "none", 224), Places(f"{data}/train", ""), 2),
    "digits": digits,
    "after eval": evaluation,
}
for name, call in calls.items():
    torch.set_num_threads(5)
    with contextlib.redirect_stdout(sys.stderr):
        call()
    print(f"{name}: {torch.get_num_threads()}")
print(f"eval: {within_eval[0]}")
"""


def threads_of_entry_points(data: Path, scratch: Path, **variables: str) -> dict[str, int]:
    environment = {name: value for name, value in os.environ.items() if name not in VARIABLES} | variables
    scratch.mkdir()
    torch.save(create_model("shufflenet_v2_x0_5", 2).state_dict(), scratch / "weights.pt")
    command = [sys.executable, "-c", ENTRY_POINTS, str(ROOT), str(data), str(scratch)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment, cwd=scratch)
    assert done.returncode == 0, done.stderr[-3000:]
    lines = (line.split(": ") for line in done.stdout.splitlines())
    return {name: int(count) for name, count in lines}


@pytest.mark.slow
def test_every_entry_point_chooses_and_follows_a_person(photos, tmp_path):
    for split, count in (("train", 16), ("val", 1)):
        for n, photo in enumerate(photos[:2] * count):
            path = tmp_path / "data" / split / f"class{n % 2}" / f"{n}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(photo[:48, :48]).save(path)
    small, share = 1, min(5, cpus.share())
    assert threads_of_entry_points(tmp_path / "data", tmp_path / "own") == {
        "pytorch_loop": small,
        "torchvision_recipe": small,
        "accelerate_datasets": small,
        "lightning_module": small,
        "timm": share,
        "bench, DALI": 2,
        "bench, DataLoader": 1,
        "digits": share,
        "eval": small,
        "after eval": 5,  # as it was: evaluation may be a part of a program
    }
    given = threads_of_entry_points(tmp_path / "data", tmp_path / "given", OMP_NUM_THREADS="5")
    assert set(given.values()) == {5}, given


# ---- how torch's threads wait ----------------------------------------------------------------------------------------

# What libgomp finds when a script, a module or a command comes to importing torch, which is enough of each.
AT_TORCH = """
import os, runpy, sys
class Spy:
    def find_spec(self, name, *given):
        if name == "torch":
            sys.exit(f"spins: {os.environ.get('GOMP_SPINCOUNT')}")
sys.meta_path.insert(0, Spy())
name = sys.argv.pop(1)
if name.endswith(".py"):
    runpy.run_path(name, run_name="__main__")
else:
    runpy.run_module(name, run_name="__main__", alter_sys=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "entry",
    [
        ["train_imagenet.py"],
        ["train_cifar.py"],
        ["examples/accelerate_datasets.py"],
        ["examples/lightning_module.py"],
        ["examples/pytorch_loop.py"],
        ["examples/torchvision_recipe.py"],
        ["apr_dali.integrations.timm"],
        ["apr_dali", "bench"],
        ["apr_dali", "analyze", "filters", "resnet18"],
        ["apr_dali", "eval", "clean", "resnet18", "--data", "nowhere"],
    ],
    ids=lambda entry: entry[0] if len(entry) == 1 else entry[1],
)
def test_every_entry_point_shortens_the_spins_before_torch(entry):
    assert spins(*entry) == spin_count.ROUNDS


def test_a_person_says_how_threads_wait():
    assert spins("train_cifar.py", GOMP_SPINCOUNT="7") == 7
    assert spins("train_cifar.py", OMP_WAIT_POLICY="active") is None


def spins(*entry: str, **variables: str) -> int | None:
    ours = {name: value for name, value in os.environ.items() if name not in spin_count.VARIABLES}
    command = [sys.executable, "-c", AT_TORCH, *entry]
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=ours | variables, cwd=ROOT)
    told = re.fullmatch("spins: (None|[0-9]+)\n", done.stderr)
    assert told, done.stderr
    return None if told[1] == "None" else int(told[1])
