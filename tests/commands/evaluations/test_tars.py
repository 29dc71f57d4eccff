"""`apr-dali eval …` on tars: which of several images of a sample is taken, and for which sets."""

import pytest
from helpers.eval_sets import (
    error_of,
    packed,
    random_levels,
    scores_of,
    write_levels,
)

from apr_dali.data.make_c import make_c
from apr_dali.eval.ood import ood_metrics


def test_tars_are_read_as_the_trainer_reads_them(evaluate, tmp_path, capsys):
    write_levels(tmp_path / "val", random_levels(1))
    tars = packed(tmp_path / "val")
    assert evaluate("clean", "--data", tars)[0] == 2
    assert "has several images: own.png, other.png; say which one to take (--tar-image" in capsys.readouterr().err
    own = ["--tar-image", "own.png", "--tar-label", "id"]
    status, record = evaluate("clean", "--data", tars, *own)
    assert status == 0
    assert record["result"]["top1"] == pytest.approx(1 - error_of(tmp_path / "val"), abs=1e-12)
    assert record["settings"]["tar_label"] == "id"
    other = ["--tar-image", "other.png", "--tar-label", "id"]
    _, of_other = evaluate("clean", "--data", tars, *other)
    assert of_other["result"]["top1"] < record["result"]["top1"], "what is kept is of other images"
    assert evaluate("clean", "--data", tars, *own)[1]["result"] == record["result"]
    for kind in ("clean", "calibration", "autoattack"):
        assert evaluate(kind, "--data", tmp_path / "val", *own)[0] == 2
        assert f"have no effect on {tmp_path / 'val'}: no tars of samples there" in capsys.readouterr().err


@pytest.mark.slow
def test_components_are_of_those_sets_that_have_tars(evaluate, corrupted, tmp_path, capsys):
    write_levels(tmp_path / "val", random_levels(1))
    write_levels(tmp_path / "near", {"a": list(range(60, 110, 5))})
    tars, own = packed(tmp_path / "val"), ["--tar-image", "own.png", "--tar-label", "id"]
    status, record = evaluate("ood", "--data", tars, "--ood", f"near={tmp_path}/near", *own)
    assert status == 0
    expected = ood_metrics(scores_of(tmp_path / "val")["energy"], scores_of(tmp_path / "near")["energy"])
    found = record["result"]["scores"]["energy"]["near"]
    assert {key: found[key] for key in expected} == pytest.approx(expected, abs=1e-6)
    root, _ = corrupted
    status, record = evaluate("corruption", "--data", root, "--clean", tars, *own)
    assert status == 0
    assert record["result"]["clean_error"] == pytest.approx(error_of(tmp_path / "val"), abs=1e-12)
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "val").symlink_to(tars)
    (tmp_path / "root" / "imagenet-c").symlink_to(root)
    status, record = evaluate("all", "--data-root", tmp_path / "root", *own, record="report")
    assert (status, sorted(record["evaluations"])) == (0, ["calibration", "clean", "corruption"])
    # Where no set has tars they change nothing.
    (tmp_path / "root" / "val").unlink()
    (tmp_path / "root" / "val").symlink_to(tmp_path / "val")
    for command in (
        ("ood", "--data", tmp_path / "val", "--ood", f"near={tmp_path}/near"),
        ("corruption", "--data", root),
        ("corruption", "--data", root, "--clean", tmp_path / "val"),
        ("all", "--data-root", tmp_path / "root"),
    ):
        capsys.readouterr()
        assert evaluate(*command, *own)[0] == 2
        assert "(--tar-image, --tar-label) have no effect on" in capsys.readouterr().err


@pytest.mark.slow
def test_a_corrupted_set_of_tars_is_that_of_folders(evaluate, tmp_path, capsys):
    write_levels(tmp_path / "val", random_levels(1, spread=40))
    names = ("brightness", "fog")
    for form in ("folder", "webdataset"):
        make_c(tmp_path / "val", tmp_path / form, names, 40, image_format=form)
    results = [evaluate("corruption", "--data", tmp_path / form)[1]["result"] for form in ("folder", "webdataset")]
    assert results[0]["errors"] == results[1]["errors"]
    assert len({*results[1]["errors"]["fog"], *results[1]["errors"]["brightness"]}) > 3, "a set without differences"
    assert (results[1]["name"], results[1]["images"]) == ("own set webdataset, made by apr-dali make-c", 12)
    # As those of other tars, its components are named.
    status, _ = evaluate("corruption", "--data", tmp_path / "webdataset", "--tar-image", "jpg")
    assert status == 0
    assert evaluate("corruption", "--data", tmp_path / "webdataset", "--tar-image", "png")[0] == 2
    assert "none has both image and label" in capsys.readouterr().err
    (tmp_path / "webdataset" / "fog" / "4" / "00000.tar").unlink()
    assert evaluate("corruption", "--data", tmp_path / "webdataset")[0] == 2
    assert "fog/4" in capsys.readouterr().err
