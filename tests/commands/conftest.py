"""The command `apr-dali eval`, and a folder of sets that it runs over."""

import pytest
from helpers.eval_sets import network, random_levels, write_corruptions, write_levels

from apr_dali import cli
from apr_dali.eval import session


@pytest.fixture
def run_eval(monkeypatch, tmp_path):
    """Runs `apr-dali eval KIND …` on a network whose answers are known, and gives the exit status."""

    def run(kind: str, *arguments: object, model=None, output: str = "out") -> int:
        monkeypatch.setattr(session, "load_model", lambda *_: model or network())
        options = ["--output", tmp_path / output, "--device", "cpu", "--threads", 1, "--batch-size", 5]
        return cli.main(["eval", kind, "model", *map(str, [*arguments, *options])])

    return run


@pytest.fixture
def root(tmp_path):
    """Sets of which one, imagenet-r, lacks classes."""
    write_levels(tmp_path / "data" / "val", random_levels(1, count=12, spread=60))
    write_corruptions(tmp_path / "data" / "imagenet-c", ("fog",))
    write_levels(tmp_path / "data" / "imagenet-v2", {"0": [45], "1": [120]})
    write_levels(tmp_path / "data" / "imagenet-r", {"dark": [45]})
    return tmp_path / "data"
