"""CorruptedLoader: each image under every corruption, with the draws of its number."""

import io
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers.tar_files import folder_of
from nvidia.dali import fn, pipeline_def, types
from PIL import Image

import apr_dali
from apr_dali import CorruptionDraws
from apr_dali.corruptions import CORRUPTIONS
from apr_dali.data.imagenet_c import cropped, through_jpeg
from apr_dali.errors import InputError
from apr_dali.kernels.cuda import corruptions as cuda_corruptions
from apr_dali.pipelines import corrupted
from apr_dali.pipelines.corrupted import CorruptedLoader
from apr_dali.recipes import IMAGENET

CELLS = (("fog", 2), ("fog", 5), ("impulse_noise", 2), ("impulse_noise", 5))
FEW = {"corruptions": ("fog", "impulse_noise"), "severities": (2, 5)}
SIDE = 40
QUICK = {"image_size": SIDE, "scaling": None, "threads": 2}


@pytest.fixture
def images(crops):
    return crops(5, SIDE, SIDE)


@pytest.fixture
def val(tmp_path, images):
    """Five images of the network's size in two classes, of which the second has the last two."""
    for number, image in enumerate(images):
        folder = tmp_path / "val" / "ab"[number // 3]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / f"{number}.png")
    return tmp_path / "val"


def levels_of(loader) -> dict[tuple[str, int], tuple[np.ndarray, list[int]]]:
    """The pixels of each cell, uint8 (N, S, S, 3), and the labels."""
    found: dict = {}
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (IMAGENET.mean, IMAGENET.std))
    for cell, images, targets in loader:
        pixels = ((images * std + mean) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
        before, labels = found.get(cell, (pixels[:0], []))
        found[cell] = np.concatenate([before, pixels]), labels + targets.tolist()
    return found


def expected(images, cell, seed) -> np.ndarray:
    return apr_dali.corrupt(images, *cell, CorruptionDraws.sample(*cell, len(images), SIDE, SIDE, seed))


@pytest.mark.parametrize("in_memory", [True, False])
def test_every_image_under_every_cell(val, images, in_memory):
    with CorruptedLoader(val, 2, **FEW, seed=7, in_memory=in_memory, **QUICK) as loader:
        assert (loader.cells, loader.classes, loader.num_images, len(loader)) == (CELLS, ("a", "b"), 5, 3 * 4)
        first = [(cell, len(batch), batch.dtype, targets.dtype) for cell, batch, targets in loader]
        assert first == [(cell, size, torch.float32, torch.int64) for size in (2, 2, 1) for cell in CELLS]
        found = levels_of(loader)
    for cell, (pixels, labels) in found.items():
        wanted = expected(images, cell, seed=7)
        if not in_memory:
            wanted = through_jpeg(wanted)
        np.testing.assert_array_equal(pixels, wanted)
        assert labels == [0, 0, 0, 1, 1]


def test_the_fifteen_at_all_severities_by_default(val):
    with CorruptedLoader(val, 5, **QUICK) as loader:
        found = [cell for cell, *_ in loader]
    assert found == [(name, severity) for name in CORRUPTIONS for severity in range(1, 6)]


def test_neither_batches_nor_threads_nor_shards_change_a_bit(val, images):
    def run(batch_size, **options):
        with CorruptedLoader(val, batch_size, **FEW, **{**QUICK, **options}) as loader:
            return levels_of(loader)

    whole = run(5)
    for other in (run(1, threads=1), run(3), run(5, backend="numpy")):
        for cell in CELLS:
            np.testing.assert_array_equal(other[cell][0], whole[cell][0])
    halves = [run(2, shard=(rank, 2)) for rank in range(2)]
    for cell in CELLS:
        np.testing.assert_array_equal(np.concatenate([half[cell][0] for half in halves]), whole[cell][0])
        assert [*halves[0][cell][1], *halves[1][cell][1]] == [0, 0, 0, 1, 1]
    assert (whole["fog", 2][0] != images).any()


def test_images_of_another_size_are_scaled_as_by_make_c(tmp_path, photos):
    for number, photo in enumerate(photos):
        (tmp_path / "val" / "a").mkdir(parents=True, exist_ok=True)
        Image.fromarray(photo[: 200 + 20 * number, :260]).save(tmp_path / "val" / "a" / f"{number}.jpg", quality=95)
    files = [str(path) for path in sorted((tmp_path / "val").rglob("*.jpg"))]
    wanted = expected(np.stack([cropped(file, SIDE) for file in files]), ("impulse_noise", 1), seed=0)
    with CorruptedLoader(tmp_path / "val", 4, ["impulse_noise"], [1], image_size=SIDE, in_memory=True) as loader:
        ((pixels, _),) = levels_of(loader).values()
    apart = np.abs(pixels.astype(int) - wanted)
    assert apart.max() <= 3, "DALI's and Pillow's scaling, and the same impulses at the same places"


def test_tars_are_read_too(val, tmp_path, images):
    members = []
    for number, image in enumerate(images):
        encoded = io.BytesIO()
        Image.fromarray(image).save(encoded, "PNG")
        members += [(f"{number}.png", encoded.getvalue()), (f"{number}.cls", b"01"[number // 3 : number // 3 + 1])]
    tars = folder_of(tmp_path / "tars", members[:4], members[4:], classes="a\nb\n")
    found = []
    for source in (val, tars):
        with CorruptedLoader(source, 2, **FEW, **QUICK) as loader:
            found.append(levels_of(loader))
    for cell in CELLS:
        np.testing.assert_array_equal(found[1][cell][0], found[0][cell][0])
        assert found[1][cell][1] == found[0][cell][1]


def test_what_is_left_out_leaves_the_others_their_draws(val, images):
    (val / "a" / "1.png").write_bytes(b"no image")
    with CorruptedLoader(val, 2, **FEW, **QUICK, in_memory=True, on_error="skip") as loader:
        with pytest.warns(UserWarning, match=r"left out .*a/1\.png"):
            found = levels_of(loader)
        assert loader.skipped == (str(val / "a" / "1.png"),)
    for cell in CELLS:
        np.testing.assert_array_equal(found[cell][0], expected(images, cell, seed=0)[[0, 2, 3, 4]])
        assert found[cell][1] == [0, 0, 1, 1]
    with CorruptedLoader(val, 2, **FEW, **QUICK) as loader, pytest.raises(InputError, match=r"a/1\.png cannot be dec"):
        next(iter(loader))


def test_a_pass_that_was_left_begins_anew(val):
    with CorruptedLoader(val, 2, **FEW, **QUICK) as loader:
        cell, first, _ = next(iter(loader))
        again, second, _ = next(iter(loader))
        assert cell == again == CELLS[0]
        assert torch.equal(first, second)
        assert [cell for cell, *_ in loader] == [*CELLS] * 3
    with pytest.raises(RuntimeError, match="closed"):
        next(iter(loader))


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"corruptions": ["mist"]}, "no corruption is named 'mist': there are gaussian_noise"),
        ({"corruptions": "fog"}, "corruptions must be a list of names, got the text 'fog'"),
        ({"corruptions": 15}, "corruptions must be a list of names, got 15"),
        ({"severities": 5}, "severities must be a list of whole numbers, got 5"),
        ({"severities": "5"}, "severities must be a list of whole numbers, got '5'"),
        ({"corruptions": []}, "at least one corruption and one severity, got none"),
        ({"severities": [1, 6]}, "severity must be a whole number from 1 to 5, got 6"),
        ({"seed": -1}, "seed must be at least 0, got -1"),
        ({"image_size": 31}, "at least 32 pixels per side, got 31 × 31"),
        ({"backend": "fast"}, "backend must be one of auto, numpy, native"),
        ({"device": "tpu"}, "tpu"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"classes": ("a", "c")}, "must have the training set's 2 classes"),
    ],
)
def test_what_cannot_be_is_refused_at_once(val, given, told):
    with pytest.raises(InputError, match=told):
        CorruptedLoader(val, **{"batch_size": 2, **FEW, **QUICK, **given})


def test_what_a_gpu_cannot_run_is_refused_by_name(monkeypatch):
    monkeypatch.setattr(cuda_corruptions, "LAUNCHERS", {"contrast": None})
    with pytest.raises(InputError, match="fog has no CUDA kernel, there are those of contrast"):
        corrupted.corrupted(SimpleNamespace(device="gpu"), None, CELLS)


@pytest.mark.parametrize(
    ("images", "told"),
    [
        (np.zeros((2, 40, 40, 3), np.float32), r"of uint8 \(N, H, W, 3\), .*got float32 \(2, 40, 40, 3\)"),
        (np.zeros((2, 40, 40, 1), np.uint8), r"got uint8 \(2, 40, 40, 1\)"),
        (np.zeros((2, 31, 40, 3), np.uint8), r"at least 32 pixels per side, got .*31 × 40"),
    ],
    ids=["float", "gray", "small"],
)
def test_wrong_images_of_a_graph_are_named(images, told):
    @pipeline_def(batch_size=2, num_threads=1, device_id=None)
    def graph():
        kind = types.FLOAT if images.dtype == np.float32 else types.UINT8
        node = fn.external_source(source=lambda: list(images), batch=True, layout="HWC", dtype=kind)
        numbers = fn.external_source(source=lambda: [np.array([0])] * 2, batch=True, dtype=types.INT64)
        return corrupted.corrupted(node, numbers, [("fog", 1), ("contrast", 2)], in_memory=True)

    with pytest.raises(RuntimeError, match=told):
        graph().run()
