"""`apr-dali reproduce`: its exit status and what it prints; once with the trainer and an evaluation themselves."""

import json
import os
import signal

import pytest
from helpers.pages import Page
from helpers.project import ROOT
from helpers.reproduce import stand_in

from apr_dali.cli import main
from apr_dali.reproduce import child
from apr_dali.reproduce.runner import Runner, Stopped
from apr_dali.runtime.lock import hold

DIGITS = ("table1", "--dataset", "digits", "--networks", "wrn-16-1", "--epochs", "1", "--processes", "1")


@pytest.fixture
def programs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return stand_in(monkeypatch, tmp_path / "programs")


def test_it_runs_what_is_left_and_writes_the_page(tmp_path, programs, capsys):
    assert main(["reproduce", *DIGITS, "--only", "apr-p", "adv-training"]) == 0
    told = capsys.readouterr().out
    assert "not trained here: Adv Training: the paper does not say how" in told
    assert "runs: 1, 1 of them to do, 1 at a time" in told
    assert "written: runs/reproduce/table1-digits.html" in told
    assert Page((tmp_path / "runs/reproduce/table1-digits.html").read_text()).after("APR-P") == "25.0"
    ran = programs.ran()
    assert main(["reproduce", *DIGITS, "--only", "apr-p"]) == 0
    assert programs.ran() == ran
    assert "runs: 1, 0 of them to do" in capsys.readouterr().out


def test_the_plan_runs_nothing(tmp_path, programs, capsys):
    assert main(["reproduce", *DIGITS, "--only", "apr-p", "--plan", "--rate", "wrn-16-1=100"]) == 0
    told = capsys.readouterr().out
    assert "[not run] python " in told
    assert "wrn-16-1: 100 training images/s, 300 forwards; given" in told
    assert programs.ran() == []
    assert not (tmp_path / "runs").exists()


def test_a_damaged_result_is_named_before_anything_runs(tmp_path, programs, capsys):
    assert main(["reproduce", *DIGITS, "--only", "apr-p"]) == 0
    path = tmp_path / "runs/reproduce/code/digits/wrn-16-1/apr-p/seed0/eval/corruption.json"
    record = json.loads(path.read_text())
    path.write_text(json.dumps({**record, "result": {"mean_error": "much", "clean_error": 0.5}}))
    ran = programs.ran()
    capsys.readouterr()
    for further in ((), ("--plan", "--rate", "1")):
        assert main(["reproduce", *DIGITS, "--only", "apr-p", "cutout", *further]) == 2
        error = capsys.readouterr().err
        assert error.startswith(
            "error: code/digits/wrn-16-1/apr-p/seed0/eval has a file that is damaged: no mean error"
        )
        assert "remove that folder" in error
    assert programs.ran() == ran


def test_a_failure_is_named_with_its_last_lines(tmp_path, programs, capsys):
    programs.set("FAILS", "cutout/seed0/train")
    assert main(["reproduce", *DIGITS, "--only", "cutout", "mixup"]) == 1
    error = capsys.readouterr().err
    assert "error: code/digits/wrn-16-1/cutout/seed0: `python " in error
    assert "runs/reproduce/code/digits/wrn-16-1/cutout/seed0/train.log:\n" in error
    assert error.endswith("  it is broken\n")
    assert (tmp_path / "runs/reproduce/table1-digits.html").is_file()


def test_after_a_signal_it_says_that_the_command_goes_on(programs, monkeypatch, capsys):
    assert programs.ran() == []

    def stopped(_):
        raise Stopped(signal.SIGINT)

    monkeypatch.setattr(Runner, "run", stopped)
    assert main(["reproduce", *DIGITS, "--only", "cutout"]) == 130
    assert "stopped by SIGINT: the same command goes on" in capsys.readouterr().err


@pytest.mark.usefixtures("programs")
@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["table5"], "invalid choice: 'table5'"),
        (["table1"], "no run has its images below --data data; missing are"),
        (["table1", "--plan", "--gpus", "0,x"], "must be the numbers of GPUs with commas, each once, got '0,x'"),
        (["table1", "--plan", "--gpus", "0,-1"], "must be the numbers of GPUs with commas, each once, got '0,-1'"),
        (["table1", "--gpus", "0,00"], "must be the numbers of GPUs with commas, each once, got '0,00'"),
        (["table1", "--gpus", "0,0"], "must be the numbers of GPUs with commas, each once, got '0,0'"),
        (["table1", "--gpus", "0", "--processes", "2"], "not allowed with argument"),
        (["table1", "--rate", "100"], "--rate changes nothing without --plan"),
        (
            ["table1", "--plan", "--rate", "fast"],
            "--rate expects N or NETWORK=N, images per second above 0, got 'fast'",
        ),
        (["table1", "--attack", "10"], "--attack changes nothing for table1"),
        (["table2", "--on-the-fly"], "--on-the-fly changes nothing for table2: it is of table1, table4, fig9"),
        ([*DIGITS[:7], "--plan", "--rate", "wrn-16=9"], "--rate must be one of wrn-16-1, got 'wrn-16'"),
        (["table1", "--seeds", "0"], "must be a whole number from 1 on, got '0'"),
    ],
)
def test_wrong_input_is_refused_by_name(given, message, capsys):
    assert main(["reproduce", *given]) == 2
    assert message in capsys.readouterr().err


def test_other_settings_are_refused_before_anything_runs(programs, capsys):
    assert main(["reproduce", *DIGITS, "--only", "apr-p"]) == 0
    ran = programs.ran()
    assert main(["reproduce", *DIGITS, "--epochs", "2"]) == 2
    assert "code/digits/wrn-16-1/apr-p/seed0: epochs was 1, is 2" in capsys.readouterr().err
    assert programs.ran() == ran


def test_one_process_writes_an_output(tmp_path, programs, capsys):
    output = tmp_path / "out"
    output.mkdir()
    with hold(output):
        assert main(["reproduce", *DIGITS, "--output", str(output)]) == 2
    assert f"writes to {output}: wait for it to end" in capsys.readouterr().err
    assert programs.ran() == []


# Every fourth of the digits, in what python is to run.
FEW = """
import dataclasses, runpy, sys
from apr_dali.data import arrays
whole = arrays._digits
def few(split):
    part = whole(split)
    return dataclasses.replace(part, images=part.images[::4], labels=part.labels[::4])
arrays._digits = few
if sys.argv[1] == "-m":
    del sys.argv[:2]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
else:
    del sys.argv[0]
    runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.slow
def test_a_table_on_digits_end_to_end(tmp_path, monkeypatch, capfd):
    (script := tmp_path / "few.py").write_text(FEW)
    programs = {name: (python, str(script), *given) for name, (python, *given) in child._PROGRAMS.items()}
    monkeypatch.setattr(child, "_PROGRAMS", programs)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.chdir(ROOT)
    assert main(["reproduce", *DIGITS, "--only", "apr-sp", "--output", str(tmp_path)]) == 0, capfd.readouterr()
    record = json.loads((tmp_path / "table1-digits.json").read_text())
    home = tmp_path / "code/digits/wrn-16-1/apr-sp/seed0"
    measured = json.loads((home / "eval/corruption.json").read_text())["result"]
    cell = record["cells"]["digits.wrn-16-1.corrupted_error.apr-sp"]
    assert cell["ours"] == pytest.approx(100 * measured["mean_error"])
    clean = record["cells"]["digits.wrn-16-1.clean_error.apr-sp"]
    assert clean["ours"] == pytest.approx(100 * measured["clean_error"])
    # The trainer's own word on the same images.
    (epoch,) = [row for row in map(json.loads, (home / "train/metrics.jsonl").open()) if row["kind"] == "epoch"]
    assert clean["ours"] == pytest.approx(100 * (1 - epoch["top1"]))
    config = json.loads((home / "train/config.json").read_text())
    assert (config["options"]["aug"], config["options"]["model"]) == ("apr-sp", "wrn-16-1")
    (run,) = record["runs"].values()
    assert run["steps"][0]["command"] == " ".join(["python", *config["command"]])
