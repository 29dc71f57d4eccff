"""What is done of a run: told by its results and its settings, not by a folder."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from helpers.reproduce import asked, stand_in

from apr_dali.errors import InputError
from apr_dali.reproduce import record
from apr_dali.reproduce.results import commands, outcomes
from apr_dali.reproduce.runner import Runner, pending
from apr_dali.reproduce.slots import Slot
from apr_dali.reproduce.tables import plan_of
from apr_dali.runtime.files import sha256_of


def plan(tmp_path, **given):
    return plan_of("table1", asked(tmp_path, datasets=("digits",), only=("apr-p",), epochs=1, **given))


@pytest.fixture
def done(tmp_path, monkeypatch):
    """A plan of one run, which is done, and its folder."""
    monkeypatch.chdir(tmp_path)
    stand_in(monkeypatch, tmp_path / "programs")
    made = plan(tmp_path)
    Runner(made, [Slot("here", {})]).run()
    (run,) = made.runs
    assert pending(run, made.asked.output) == []
    return made, run.home(made.asked.output)


def steps(made):
    (run,) = made.runs
    return ["train" if step is None else step.name for step in pending(run, made.asked.output)]


def test_an_empty_folder_is_not_done(tmp_path):
    made = plan(tmp_path)
    home = made.runs[0].home(made.asked.output)
    (home / "train").mkdir(parents=True)
    (home / "eval").mkdir()
    assert steps(made) == ["train", "corruption"]


def test_a_checkpoint_that_nobody_has_finished_is_not_done(done):
    made, home = done
    (home / "run.json").unlink()
    assert steps(made) == ["train", "corruption"]


def test_another_checkpoint_than_the_finished_one_is_not_done(done):
    made, home = done
    (home / "train/latest.pt").write_bytes(b"something else")
    assert steps(made) == ["train", "corruption"]
    (home / "train/latest.pt").unlink()
    assert steps(made) == ["train", "corruption"]


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text[:-10],
        lambda text: text.replace("--clean digits", "--clean others"),
        lambda text: json.dumps({**json.loads(text), "settings": {"file_sha256": "0" * 64}}),
        lambda _: "[]",
        lambda text: json.dumps({**json.loads(text), "settings": ["x"]}),
        lambda text: json.dumps({**json.loads(text), "result": [1]}),
        lambda text: json.dumps({name: value for name, value in json.loads(text).items() if name != "result"}),
    ],
    ids=["cut off", "another command", "another network", "no record", "no settings", "a list", "no result"],
)
def test_a_result_of_something_else_is_made_anew(done, change):
    made, home = done
    path = home / "eval/corruption.json"
    path.write_text(change(path.read_text()))
    assert steps(made) == ["corruption"]


def test_an_output_that_was_moved_is_done(done, tmp_path, monkeypatch):
    made, _ = done
    moved = tmp_path / "elsewhere/it lies"
    moved.parent.mkdir()
    (tmp_path / "out").rename(moved)
    again = plan_of("table1", replace(made.asked, output=moved))
    assert steps(again) == []
    # What was done says which command did it.
    told = outcomes(again)[made.runs[0].key]
    assert all(str(made.asked.output) in command for _, _, command in commands(told, again, ()))
    monkeypatch.chdir(moved.parent)
    assert steps(plan_of("table1", replace(made.asked, output=Path("it lies")))) == []
    monkeypatch.chdir(moved)
    assert steps(plan_of("table1", replace(made.asked, output=Path()))) == []


@pytest.mark.parametrize(
    ("was", "now", "same"),
    [
        ("sets", "sets", True),
        ("{old}/sets", "{new}/sets", True),
        ("{old}/sets", "{old}/sets", False),
        ("sets", "{new}/sets", False),
    ],
)
def test_images_of_a_moved_output_are_the_same_below_it_alone(done, tmp_path, was, now, same):
    made, home = done
    old, new = made.asked.output, tmp_path / "new"
    path = home / "eval/corruption.json"
    path.write_text(path.read_text().replace("--clean digits", f"--clean {was.format(old=old)}"))
    old.rename(new)
    (run,) = made.runs
    (one,) = run.evaluations
    other = replace(one, options={**one.options, "clean": (now.format(old=old, new=new),)})
    assert (pending(replace(run, evaluations=(other,)), new) == []) is same


@pytest.mark.parametrize("change", [{"command": 5}, {"version": None}, {"sha256": []}])
def test_a_training_whose_record_is_damaged_is_not_done(done, change):
    made, home = done
    kept = json.loads((home / "run.json").read_text())
    (home / "run.json").write_text(json.dumps({**kept, "trained": {**kept["trained"], **change}}))
    assert steps(made) == ["train", "corruption"]


def test_the_record_says_what_ran(done):
    made, home = done
    kept = json.loads((home / "run.json").read_text())
    assert kept["settings"] == made.runs[0].training.settings()
    assert kept["trained"]["sha256"] == sha256_of(home / "train/latest.pt")
    assert kept["trained"]["where"] == "here"
    assert (home / "train.log").read_text().splitlines()[0] == f"$ {kept['trained']['command']}"


def test_a_run_of_other_settings_is_named(done, tmp_path):
    record.check_unchanged(done[0])
    with pytest.raises(InputError, match=r"(?s)code/digits/wrn-16-1/apr-p/seed0: amp was not given, is bf16\ngive"):
        record.check_unchanged(plan(tmp_path, amp="bf16"))
    # One that was begun, too, and is not finished.
    (done[1] / "train/latest.pt").unlink()
    longer = plan_of("table1", asked(tmp_path, datasets=("digits",), only=("apr-p",), epochs=12))
    with pytest.raises(InputError, match=r"epochs was 1, is 12; lr-steps was 1, is 4 7 10 11"):
        record.check_unchanged(longer)


def test_where_images_lie_is_no_setting(tmp_path):
    made = plan_of("table1", asked(tmp_path, datasets=("cifar10",), only=("apr-p",), networks=("allconv",)))
    assert "data" not in made.runs[0].training.settings()


def test_a_checkpoint_of_unknown_settings_is_named(done):
    made, home = done
    for content in (None, b'{"settings": {"tra'):
        (home / "run.json").unlink()
        if content is not None:
            (home / "run.json").write_bytes(content)
        with pytest.raises(InputError, match=r"train has files, and run\.json, which says of which settings"):
            record.check_unchanged(made)
        (home / "run.json").touch()
