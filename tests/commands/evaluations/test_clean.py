"""`apr-dali eval clean`, and what a person says that a network sees."""

import dataclasses

import pytest
from helpers.eval_sets import (
    error_of,
    network,
    random_levels,
    write_levels,
)


def test_clean(evaluate, tmp_path, capsys):
    write_levels(tmp_path / "val", random_levels(1))
    status, record = evaluate("clean", "--data", tmp_path / "val")
    assert status == 0
    assert record["result"]["top1"] == pytest.approx(1 - error_of(tmp_path / "val"), abs=1e-12)
    assert record["result"]["images"] == 12
    assert record["settings"]["fingerprint"] == "0123"
    assert "torch" in record["versions"]
    assert f"top-1 {record['result']['top1']:.2%}" in capsys.readouterr().out


def test_a_person_says_what_a_network_sees_where_it_does_not(evaluate, tmp_path, capsys):
    write_levels(tmp_path / "v", random_levels(5), border=6)
    right = network()
    _, expected = evaluate("clean", "--data", tmp_path / "v", model=right)
    assumed = dataclasses.replace(right, mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7), seen_from="assumed")
    status, before = evaluate("clean", "--data", tmp_path / "v", model=assumed)
    assert (status, before["result"] != expected["result"]) == (0, True)
    given = ["--mean", 0.5, 0.5, 0.5, "--std", 0.25, 0.25, 0.25]
    status, record = evaluate("clean", "--data", tmp_path / "v", *given, model=assumed)
    assert status == 0
    assert record["result"] == expected["result"]
    assert record["settings"]["seen_from"] == "assumed; --mean, --std as given"
    assert "values in 0..1 less (0.5, 0.5, 0.5) over (0.25, 0.25, 0.25); assumed; --mean" in capsys.readouterr().out
    more = ["--crop-pct", 0.5, "--interpolation", "bicubic"]
    _, record = evaluate("clean", "--data", tmp_path / "v", *given, *more, model=assumed)
    assert record["settings"]["scaling"] == {"over_crop": 2.0, "filter": "bicubic", "geometry": "center"}
    # What is said twice alike is no conflict.
    assert evaluate("clean", "--data", tmp_path / "v", *given, model=right)[0] == 0


@pytest.mark.parametrize(
    ("given", "seen_from", "told"),
    [
        (["--mean", "0", "0", "0"], "its training", "was trained to see images shorter side scaled"),
        (["--crop-pct", "0.5"], "its training", "leave out --crop-pct"),
        (["--std", "0", "1", "1"], "assumed", "--std must be three positive numbers, got [0.0, 1.0, 1.0]"),
        (["--mean", "nan", "0", "0"], "assumed", "--mean must be three numbers, got [nan, 0.0, 0.0]"),
        (["--crop-pct", "nan"], "assumed", "--crop-pct must be a positive number, got nan"),
    ],
)
def test_what_a_network_sees_is_not_said_against_it(evaluate, given, seen_from, told, tmp_path, capsys):
    model = dataclasses.replace(network(), seen_from=seen_from)
    assert evaluate("clean", "--data", tmp_path, *given, model=model) == (2, None)
    assert told in capsys.readouterr().err


def test_images_smaller_than_the_crop_are_named(evaluate, corrupted, capsys):
    status, _ = evaluate("corruption", "--data", corrupted[0], model=network(64))
    assert status == 2
    assert "60×60 pixels: expected at least 64 per side" in capsys.readouterr().err
