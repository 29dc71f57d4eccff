"""What the evaluations share: a network is opened, the result is printed.

Each runs in one process, or in several under torchrun. It writes NAME.json, the table with settings and versions, and
pictures into the output folder, and keeps finished parts in NAME.HASH.state.json: the same command goes on there after
it was stopped.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from apr_dali.eval.session import Session


def evaluate(args: argparse.Namespace, evaluation: Callable[[Session], tuple[dict[str, Any], str]]) -> None:
    """Run `evaluation`, which gives the record that it has written and a text for people, and print the text."""
    from apr_dali.eval.session import kept_text, open_session

    with open_session(args) as session:
        record, text = evaluation(session)
        if session.group.main:
            print(text + kept_text(record))
            print(f"written: {session.output / record['evaluation']}.json")
