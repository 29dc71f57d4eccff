"""The command `apr-dali eval` on a network whose answers are known."""

import json

import pytest
from helpers.eval_sets import NAMES, network, write_corruptions

from apr_dali import cli
from apr_dali.eval import session


@pytest.fixture
def evaluate(monkeypatch, tmp_path):
    """Runs `apr-dali eval KIND …` on a network, and gives the exit status and the record that it wrote."""

    def run(kind: str, *arguments: object, model=None, record: str | None = None):
        made = model or network()
        monkeypatch.setattr(session, "load_model", lambda *_: made)
        output = tmp_path / "out"
        options = ["--output", output, "--device", "cpu", "--threads", 1, "--batch-size", 5]
        status = cli.main(["eval", kind, "model", *map(str, [*arguments, *options])])
        path = output / f"{record or kind}.json"
        return status, json.loads(path.read_text()) if path.is_file() else None

    return run


@pytest.fixture(scope="module")
def corrupted(tmp_path_factory):
    root = tmp_path_factory.mktemp("c")
    return root, write_corruptions(root, NAMES)
