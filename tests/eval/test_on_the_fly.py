"""Corruptions that are computed while a network runs: the images of make-c, stopped and continued, in two processes."""

import dataclasses
import errno
import json
import os
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.eval_sets import CLASSES, Brightness, interrupted_at, network, packed, random_levels, write_levels
from helpers.forked import in_two
from helpers.project import ROOT
from helpers.tolerances import CALIBRATION_FLOAT32
from PIL import Image

import apr_dali
from apr_dali import cli
from apr_dali.corruptions import CORRUPTIONS, EXTRA
from apr_dali.data.arrays import open_small
from apr_dali.data.imagenet_c import cropped
from apr_dali.data.make_c import make_c, make_cifar_c
from apr_dali.errors import InputError
from apr_dali.eval import (
    benchmark,
    evaluate_corruption,
    evaluate_corruption_on_the_fly,
    on_the_fly,
    open_session,
)
from apr_dali.eval.corruption import COMPUTED, CorruptionTable
from apr_dali.eval.evaluations import corruption_on_the_fly
from apr_dali.eval.evaluations.corruption import Corruption
from apr_dali.eval.on_the_fly import Computed, computed_cells, open_clean
from apr_dali.eval.report import sections, summary

SEEN = {"mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25), "image_size": 40, "classes": CLASSES}
QUICK = {"device": "cpu", "threads": 2, "batch_size": 5}
FEW = ("brightness", "fog", "impulse_noise")


@pytest.fixture
def val(tmp_path):
    write_levels(tmp_path / "val", random_levels(1, spread=40))
    return tmp_path / "val"


@pytest.fixture
def photographs(tmp_path, photos):
    """Two photographs of each class, of unlike shapes."""
    for index, photo in enumerate(photos[:3] + photos[:3]):
        folder = tmp_path / "photographs" / CLASSES[index // 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(photo[: 200 + 20 * index, 10 * index : 300]).save(folder / f"{index}.jpg")
    return tmp_path / "photographs"


def pixels_of(cells) -> dict[str, np.ndarray]:
    """The images of each cell, uint8 (N, S, S, 3), and their labels."""
    found = {}
    for cell, parts in cells:
        batches = []
        for part in parts:
            with part.open() as opened:
                batches += list(opened)
        levels = torch.cat([images for images, _ in batches]) * 0.25 + 0.5
        pixels = (levels * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
        found[cell.name] = pixels, torch.cat([labels for _, labels in batches]).numpy()
    return found


def computed(data, **given) -> dict[str, np.ndarray]:
    wanted = Computed(**given)
    with open_session(Brightness(), **SEEN, **QUICK) as session:
        return pixels_of(computed_cells(session.feeding, open_clean(session, str(data)).taking(wanted.limit), wanted))


def test_the_images_are_those_that_make_c_writes(photographs, tmp_path):
    cells = computed(photographs, corruptions=(*FEW, "jpeg_compression"), severities=(2, 5), seed=3)
    make_c(photographs, tmp_path / "c", (*FEW, "jpeg_compression"), 40, seed=3)
    assert len(cells) == 8
    for name, (pixels, labels) in cells.items():
        files = sorted((tmp_path / "c" / name).glob("*/*"))
        assert [path.parent.name for path in files] == [CLASSES[label] for label in labels]
        np.testing.assert_array_equal(pixels, np.stack([np.array(Image.open(path)) for path in files]), err_msg=name)


def test_in_memory_there_is_no_jpeg_file(photographs):
    for name in ("fog", "spatter"):
        (found,) = computed(photographs, corruptions=(name,), severities=(4,), seed=7, in_memory=True).values()
        clean = np.stack([cropped(str(path), 40) for path in sorted(photographs.glob("*/*"))])
        draws = apr_dali.CorruptionDraws.sample(name, 4, 6, 40, 40, 7)
        np.testing.assert_array_equal(found[0], apr_dali.corrupt(clean, name, 4, draws))


def test_a_part_of_the_images_is_the_same_for_everyone(photographs):
    given = {"corruptions": ("impulse_noise",), "severities": (3,)}
    ((whole, _),) = computed(photographs, **given).values()
    ((part, labels),) = computed(photographs, limit=4, **given).values()
    np.testing.assert_array_equal(part, whole[[0, 1, 3, 4]])
    assert labels.tolist() == [0, 0, 1, 2]


def test_chunks_change_nothing(photographs, monkeypatch):
    given = {"corruptions": ("fog", "glass_blur"), "severities": (1, 4), "limit": 5}
    whole = computed(photographs, **given)
    monkeypatch.setattr(on_the_fly, "_CHUNK", 2 * 3 * 40 * 40)
    decoded = []
    real = on_the_fly.cropped
    monkeypatch.setattr(on_the_fly, "cropped", lambda file, size: decoded.append(file) or real(file, size))
    for name, (pixels, _) in computed(photographs, **given).items():
        np.testing.assert_array_equal(pixels, whole[name][0])
    decoded.clear()
    one = evaluate_corruption_on_the_fly(Brightness(), photographs, **given, **SEEN, **QUICK)
    assert len(decoded) == 5 + 5, "once for all cells, after a look at the first batch"
    monkeypatch.undo()
    assert evaluate_corruption_on_the_fly(Brightness(), photographs, **given, **SEEN, **QUICK).table == one.table


def test_a_cell_is_the_same_alone_in_other_batches_threads_and_processes(photographs):
    wanted = Computed(("gaussian_noise", "elastic_transform", "jpeg_compression", "snow"), (1, 4), seed=9)

    def run(chosen=wanted, rank=0, world=1, **options):
        with open_session(Brightness(), **SEEN, **{**QUICK, **options}) as session:
            feeding = replace(session.feeding, group=replace(session.group, rank=rank, world=world))
            return pixels_of(computed_cells(feeding, open_clean(session, str(photographs)), chosen))

    whole = run()
    others = [run(batch_size=1), run(batch_size=4, threads=1)]
    ranks = [run(rank=rank, world=2, batch_size=2) for rank in range(2)]
    others.append(
        {name: [np.concatenate(parts) for parts in zip(*(r[name] for r in ranks), strict=True)] for name in whole}
    )
    for name, (pixels, labels) in whole.items():
        corruption, severity = name.split("/")
        (alone,) = run(replace(wanted, corruptions=(corruption,), severities=(int(severity),))).values()
        for found in (alone, *(other[name] for other in others)):
            np.testing.assert_array_equal(found[0], pixels, err_msg=name)
            np.testing.assert_array_equal(found[1], labels, err_msg=name)
    assert len({pixels.tobytes() for pixels, _ in whole.values()}) == 8


def test_the_errors_are_those_of_a_set_on_disk(val, tmp_path):
    make_c(val, tmp_path / "c", FEW, 40)
    disk = evaluate_corruption(Brightness(), tmp_path / "c", clean=val, **SEEN, **QUICK)
    found = evaluate_corruption_on_the_fly(Brightness(), val, corruptions=FEW, clean=val, **SEEN, **QUICK)
    for name, row in disk.table.ece.items():
        # In batches of another size the network's float32 rounds otherwise.
        assert found.table.ece[name] == pytest.approx(row, abs=CALIBRATION_FLOAT32)
    of_errors = [dataclasses.replace(each, ece={}, intervals={}) for each in (found.table, disk.table)]
    assert of_errors[0] == of_errors[1]
    for key in ("errors", "mean_error", "clean_error"):
        assert found.table.intervals[key] == disk.table.intervals[key]
    assert len({*found.table.errors["fog"], *found.table.errors["brightness"]}) > 3, "a set without differences"


def test_cifar_images_are_those_of_make_cifar_c(tmp_path):
    torch.manual_seed(0)
    model = apr_dali.create_model("cifar/wrn-16-1", 10)
    seen = {"mean": (0.5,) * 3, "std": (0.25,) * 3, "image_size": 32, "classes": tuple(map(str, range(10)))}
    make_cifar_c("digits", tmp_path / "c", ("fog",), seed=2)
    with open_session(model, **seen, **QUICK) as session:
        made = computed_cells(session.feeding, open_clean(session, "digits"), Computed(("fog",), (2,), seed=2))
        ((pixels, labels),) = pixels_of(made).values()
        found = evaluate_corruption_on_the_fly(session, "digits", corruptions=["fog"], severities=[2], limit=10)
    count = len(open_small("digits"))
    np.testing.assert_array_equal(pixels, np.load(tmp_path / "c" / "fog.npy")[count : 2 * count])
    np.testing.assert_array_equal(labels, np.load(tmp_path / "c" / "labels.npy")[:count])
    facts = found.as_json()["computed"]
    assert (facts["parameter_set"], facts["form"], facts["geometry"]) == ("cifar", "in memory", "32×32 as they are")
    assert facts["of_images"] == count


# ---- the command -----------------------------------------------------------------------------------------------------


@pytest.fixture
def evaluate(monkeypatch, tmp_path):
    """Runs `apr-dali eval KIND …` on `Brightness`, and gives the exit status and the record that it wrote."""

    def run(*arguments: object, kind: str = "corruption", record: str = "corruption"):
        monkeypatch.setattr("apr_dali.eval.session.load_model", lambda *_: network())
        options = ["--output", tmp_path / "out", "--device", "cpu", "--threads", 1, "--batch-size", 5]
        status = cli.main(["eval", kind, "model", *map(str, [*arguments, *options])])
        path = tmp_path / "out" / f"{record}.json"
        return status, json.loads(path.read_text()) if path.is_file() else None

    return run


def test_the_command_says_what_was_computed(evaluate, val, tmp_path, capsys):
    given = ["--corruptions", "fog", "spatter", "--severities", 2, 4, "--limit", 7, "--seed", 5]
    status, record = evaluate("--val", val, *given)
    assert status == 0
    result = record["result"]
    assert result["computed"] == {
        "seed": 5,
        "version": apr_dali.__version__,
        "form": "JPEG, quality 85, 4:2:0",
        "parameter_set": "imagenet",
        "geometry": "shorter side scaled to 46 (bilinear), then the middle 40×40, as make-c does",
        "of_images": 12,
    }
    assert (result["images"], result["severities"], result["averaged"]) == (7, [2, 4], ["fog"])
    assert [len(row) for row in result["errors"].values()] == [2, 2]
    shown = capsys.readouterr().out
    assert COMPUTED == "computed on the fly, exact to 1 level given the draws; the published set has other draws"
    assert f"val, {COMPUTED}: 3 classes, 7 images per cell" in shown
    assert "mean error over 1 of 15 corruptions (fog) at severity 2, 4:" in shown
    assert "7 of 12 images" in shown
    assert re.search(r"error in percent +2 +4 +mean", shown)
    with Image.open(tmp_path / "out" / "corruption-errors.png") as picture:
        assert picture.width > 500
    status, record = evaluate("--val", val, *given, "--in-memory")
    assert (status, record["result"]["computed"]["form"]) == (0, "in memory")


def test_the_four_extra_ones(evaluate, val):
    _, record = evaluate("--val", val, "--extra", "--severities", 1, "--limit", 2)
    assert list(record["result"]["errors"]) == [*CORRUPTIONS, *sorted(EXTRA)]
    assert record["result"]["averaged"] == [*CORRUPTIONS]


def test_a_stopped_command_goes_on_after_the_last_cell(evaluate, val, monkeypatch):
    given = ["--val", val, "--corruptions", *FEW]
    _, whole = evaluate(*given, "--seed", 1)
    assert whole["kept"] == {}
    ran = interrupted_at(monkeypatch, 4)
    assert evaluate(*given)[0] == 130
    status, record = evaluate(*given)
    assert status == 0
    assert len(ran) == 15 + 1, "three cells were finished: only the fourth may run twice"
    assert len(record["kept"]) == 3
    assert record["result"]["set"] != whole["result"]["set"], "other draws make other images"
    # What is kept is of the same images alone: another seed's is there still, another number has nothing.
    for more, count in ((["--seed", 1], 15), (["--limit", 11], 0), (["--in-memory"], 0), ([], 15)):
        assert len(evaluate(*given, *more)[1]["kept"]) == count, more


TWO_PROCESSES = """
import sys
sys.path.insert(0, sys.argv[1])
from helpers.eval_sets import network
from apr_dali import cli
from apr_dali.eval import on_the_fly, session
session.load_model = lambda *_: network()
on_the_fly._CHUNK = 5 * 3 * 40 * 40
sys.exit(cli.main(["eval", "corruption", "model", *sys.argv[2:]]))
"""


@pytest.mark.slow
def test_two_processes_give_the_numbers_of_one(evaluate, val, tmp_path):
    given = ["--val", val, "--corruptions", "fog", "impulse_noise", "--severities", 1, 5, "--limit", 11]
    _, one = evaluate(*given)
    script = tmp_path / "two.py"
    script.write_text(TWO_PROCESSES)
    options = ["--output", tmp_path / "two", "--device", "cpu", "--threads", 1, "--batch-size", 2]
    ran = in_two(script, ROOT / "tests", *given, *options, cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
    two = json.loads((tmp_path / "two" / "corruption.json").read_text())
    assert two["processes"] == 2
    assert two["result"] == one["result"]


def test_numbers_like_image_net_cs_are_not_called_so():
    facts = {"seed": 0, "form": "JPEG", "parameter_set": "imagenet", "geometry": "the middle", "of_images": 50_000}
    table = CorruptionTable(dict.fromkeys(CORRUPTIONS, (0.5,) * 5), 50_000, 0.25, "generated", 50_000)
    result = Corruption("val", "0" * 16, f"val, {COMPUTED}", 1000, table, computed=facts)
    assert f"{COMPUTED}: AlexNet-normalized error, not comparable with published mCE, " in result.text()
    assert f"{COMPUTED}: relative, not comparable with published relative mCE, " in result.text()
    shown = summary({"evaluations": {"corruption": result.as_json()}})
    assert len(shown) == 3
    assert all(COMPUTED in name for name in shown)
    assert "generated set" not in result.text() + " ".join(shown)


@pytest.mark.parametrize(
    ("given", "whole"),
    [
        ({}, True),
        ({"in_memory": True}, False),
        ({"severities": (1, 2)}, False),
        ({"limit": 7}, False),
    ],
)
def test_only_the_whole_validation_set_compares_with_alex_net(given, whole, monkeypatch):
    monkeypatch.setattr(corruption_on_the_fly, "is_imagenet", lambda _: True)
    monkeypatch.setitem(corruption_on_the_fly.CELLS, "generated", 12)
    with open_session(Brightness(), **SEEN, **QUICK) as session:
        found = corruption_on_the_fly._is_whole(session, Computed(**given), given.get("limit", 12))
    assert found == whole


# ---- a benchmark -----------------------------------------------------------------------------------------------------


def test_a_benchmark_computes_what_is_not_there(val, monkeypatch):
    short = {"corruptions": ("fog",), "severities": (1,)}
    module = "apr_dali.eval.plans.evaluate_corruption_on_the_fly"
    monkeypatch.setattr(module, lambda *given, **options: evaluate_corruption_on_the_fly(*given, **options, **short))
    results = benchmark(Brightness(), val.parent, on_the_fly=True, **SEEN, **QUICK)
    assert list(results) == ["clean", "corruption", "calibration"]
    found = results["corruption"]
    assert found.table.clean_error == pytest.approx(1 - results["clean"].top1)
    assert "corruption" not in results.missing
    assert any(COMPUTED in name for name in results.summary())
    (section,) = [part for part in sections(results.as_json(), {}) if part.title == "Corruptions"]
    assert any(note.startswith("Computed on the fly, exact to 1 level") for note in section.notes)
    assert "corruption" in benchmark(Brightness(), val.parent, **SEEN, **QUICK).missing, "who does not ask has none"
    # A set that is there is taken.
    make_c(val, val.parent / "imagenet-c", ("fog",), 40)
    taken = benchmark(Brightness(), val.parent, on_the_fly=True, **SEEN, **QUICK)["corruption"]
    assert taken.computed is None


# ---- bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["--corruptions", "fogg"], "no corruption is named 'fogg': there are gaussian_noise, shot_noise"),
        (["--severities", "6"], "severity must be a whole number from 1 to 5, got 6"),
        (["--data", "c"], "argument --data: not allowed with argument --val"),
        (["--limit", "0"], "must be a whole number from 1 on, got '0'"),
        (
            ["--extra", "--corruptions", "fog"],
            "extra adds four corruptions to the 15: name them in corruptions instead",
        ),
        (["--tar-image", "png"], "no tars of samples there"),
    ],
)
def test_bad_options_are_named(evaluate, val, given, told, capsys):
    assert evaluate("--val", val, *given) == (2, None)
    assert told in capsys.readouterr().err


def test_options_of_what_is_computed_do_not_go_with_a_set_on_disk(evaluate, val, capsys):
    assert evaluate("--data", val, "--limit", 3, "--in-memory") == (2, None)
    assert f"--limit, --in-memory has no effect on --data {val}" in capsys.readouterr().err
    assert evaluate() == (2, None)
    assert "one of the arguments --data --val is required" in capsys.readouterr().err


def test_bad_images_are_named(evaluate, val, capsys):
    assert evaluate("--val", packed(val)) == (2, None)
    assert "has tar files: an evaluation on the fly takes class folders of image files" in capsys.readouterr().err
    assert evaluate("--val", val / "dark") == (2, None)
    assert "files but no class folders" in capsys.readouterr().err
    (val / "dark" / "03.png").write_bytes(b"no image")
    assert evaluate("--val", val) == (2, None)
    assert f"{val}/dark/03.png cannot be decoded" in capsys.readouterr().err
    (val / "gray").rename(val / "grey")
    assert evaluate("--val", val) == (2, None)
    assert "must have the training set's 3 classes, got 3 (1 missing: gray; 1 extra: grey)" in capsys.readouterr().err


def test_small_images_and_an_output_that_cannot_be_written_are_named(val, tmp_path):
    with pytest.raises(InputError, match="at least 32 pixels per side, got 24 × 24"):
        evaluate_corruption_on_the_fly(Brightness(), val, **{**SEEN, "image_size": 24}, **QUICK)
    with pytest.raises(InputError, match="corruptions must be a list of names, got the text 'fog'"):
        evaluate_corruption_on_the_fly(Brightness(), val, corruptions="fog", **SEEN, **QUICK)
    (tmp_path / "file").write_text("")
    with pytest.raises((InputError, OSError), match="file"):
        evaluate_corruption_on_the_fly(Brightness(), val, output=tmp_path / "file", **SEEN, **QUICK)


def test_a_full_disk_is_named_and_the_command_goes_on(evaluate, val, monkeypatch, tmp_path, capsys):
    given = ["--val", val, "--corruptions", *FEW]
    real, writes = os.fsync, []

    def full(descriptor):
        writes.append(descriptor)
        if len(writes) > 4:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        assert evaluate(*given) == (2, None)
    told = capsys.readouterr().err
    assert re.search(r"No space left on device: '.*/out/corruption\.\w+\.state\.json': free some space, then run", told)
    left = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert {path.suffix for path in left} <= {".json", ".npy"}, "nothing half-written"
    status, record = evaluate(*given)
    assert (status, len(record["kept"])) == (0, 4)
