"""The command `apr-dali bench`, on rows as small as can be."""

from __future__ import annotations

import json

import pytest

from apr_dali.bench import checks, measure
from apr_dali.cli import main
from apr_dali.commands import bench as command
from apr_dali.runtime import cpus


def test_nothing_is_timed_after_a_failed_check(monkeypatch, tmp_path, capsys):
    def apart(function, *given):
        if function is measure.gpu_name:
            return None
        assert function is checks.check_row
        raise checks.WrongOutputError(f"{given[0].name}: wrong")

    monkeypatch.setattr(command, "in_own_process", apart)
    assert main(["bench", "--only", "dali-cpu/none/32", "--output", str(tmp_path)]) == 2
    assert capsys.readouterr().err.splitlines()[-1].endswith("error: dali-cpu/none/32: wrong")
    assert not (tmp_path / "bench.json").exists()


@pytest.fixture
def brief(monkeypatch):
    """Windows as short as can be."""
    monkeypatch.setattr(command, "_QUICK_SECONDS", 0.05)


@pytest.mark.usefixtures("brief")
def test_the_command_from_end_to_end(tmp_path, capsys):
    only = ["--only", "dali-cpu/none/32", "dali-cpu/apr-p/32"]
    assert main(["bench", "--quick", "--rounds", "1", "--threads", "1", "--output", str(tmp_path), *only]) == 0
    out = capsys.readouterr().out
    result = json.loads((tmp_path / "bench.json").read_text())
    none, pair = result["rows"]
    assert (none["name"], pair["name"]) == ("dali-cpu/none/32", "dali-cpu/apr-p/32")
    assert pair["overhead"] == pytest.approx(none["images_per_s"] / pair["images_per_s"] - 1)
    assert none["threads"] == 1
    assert none["cpu_ms"] > 0
    assert result["settings"]["rounds"] == 1
    assert result["machine"]["cores"] == cpus.usable()
    assert result["versions"]["torch"]
    assert (tmp_path / "bench.png").read_bytes().startswith(b"\x89PNG")
    assert out.startswith("Time over none (CPU time)")
    assert f"{pair['overhead']:+.0%}" in out.splitlines()[1]
    source = ["--from", str(tmp_path / "bench.json"), "--only", "none"]
    assert main(["bench", "--simulate", "gpus=2", "step=100ms", *source]) == 0
    assert f"costs {none['cpu_ms']:.3g} ms of a core" in " ".join(capsys.readouterr().out.split())


@pytest.mark.slow
@pytest.mark.usefixtures("brief")
def test_the_profile_from_end_to_end(tmp_path, capsys):
    arguments = ["--rounds", "1", "--threads", "1", "--output", str(tmp_path)]
    assert main(["bench", "--quick", "--profile", "none", *arguments]) == 0
    result = json.loads((tmp_path / "profile.json").read_text())
    assert result["row"] == "dali-cpu/none/224"
    parts = {part["stage"]: part for part in result["parts"]}
    assert list(parts) == ["read", "decode", "resize", "normalize", "copy", "wait", "whole"]
    # Decoding is dear, reading from memory is not: the graph was cut where it should be.
    assert parts["decode"]["cpu_ms"] > parts["read"]["cpu_ms"]
    assert "By difference" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--from", "x.json"], "--from is for --simulate"),
        (["--repeat-unmixed"], "--repeat-unmixed is for --simulate"),
        (["--profile", "--only", "none"], "--profile stands by itself"),
        (["--simulate", "gpus=1", "step=1s", "--from", "x.json"], "x.json is not a bench.json"),
        (["--simulate", "gpus=1"], "--simulate needs step"),
        (["--only", "apr-x"], "there is no such row"),
        (["--rounds", "0"], "whole number from 1"),
        (["--hw-decoder-load", "1.5"], "must be in 0..1, got '1.5'"),
        (["--hw-decoder-load", "much"], "must be in 0..1, got 'much'"),
    ],
)
def test_wrong_commands_are_one_line(arguments, says, tmp_path, capsys):
    assert main(["bench", "--output", str(tmp_path / "out"), *arguments]) == 2
    error = capsys.readouterr().err
    assert says in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    "row",
    [
        {"name": "dali-cpu/none", "cpu_ms": 1.0, "images_per_s": 1.0},
        {"name": "dali-gpu/none/224", "cpu_ms": 1.0, "images_per_s": 0.0},
        {"name": "dali-cpu/none/224", "cpu_ms": float("nan"), "images_per_s": 1.0},
    ],
)
def test_rows_that_were_not_measured_are_no_answer(row, tmp_path, capsys):
    (tmp_path / "bench.json").write_text(json.dumps({"rows": [row]}))
    assert main(["bench", "--simulate", "gpus=1", "step=1s", "--from", str(tmp_path / "bench.json")]) == 2
    assert "is not a bench.json" in capsys.readouterr().err


def without_dynamic_mode(function, *_given):
    return {measure.gpu_name: None, measure.lacks_dynamic_mode: "needs DALI 2.3 or newer"}.get(function, {})


def test_a_dali_too_old_for_dynamic_mode_is_told(monkeypatch, tmp_path, capsys):
    """Rows that were asked for in vain are an error, others are measured."""
    asked = []
    monkeypatch.setattr(command, "in_own_process", without_dynamic_mode)
    monkeypatch.setattr(measure, "in_turns", lambda turns, _: asked.extend(row.name for row in turns) or {})
    monkeypatch.setattr(measure, "records", lambda *_: [])
    monkeypatch.setattr("apr_dali.bench.images.prepare_stored", lambda *_: {})
    monkeypatch.setattr("apr_dali.bench.report.table", lambda _: "")
    monkeypatch.setattr("apr_dali.bench.report.picture", lambda _: b"")
    start = ["bench", "--rounds", "1", "--output", str(tmp_path), "--only"]
    assert main([*start, "dali-cpu-dynamic"]) == 2
    assert "dynamic mode cannot be measured: needs DALI 2.3 or newer" in capsys.readouterr().err
    assert main([*start, "dali-cpu-*/none"]) == 0
    assert "without the rows of dynamic mode: needs DALI 2.3 or newer" in capsys.readouterr().err
    assert asked == [f"dali-cpu-{kind}/none/224" for kind in ("tars", "500", "256")]


def test_the_decoders_share_is_not_for_dynamic_mode(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(command, "in_own_process", lambda function, *_: "a GPU" if function is measure.gpu_name else "")
    more = ["--hw-decoder-load", "0.9", "--only", "dali-gpu-dynamic"]
    assert main(["bench", "--output", str(tmp_path), *more]) == 2
    assert "--hw-decoder-load is not for dynamic mode" in capsys.readouterr().err


@pytest.mark.parametrize("more", [[], ["--profile"]])
def test_without_a_gpu_its_decoder_is_no_choice(more, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(command, "in_own_process", lambda *_: None)
    assert main(["bench", "--output", str(tmp_path), "--hw-decoder-load", "0.9", *more]) == 2
    assert "--hw-decoder-load changes nothing here" in capsys.readouterr().err
