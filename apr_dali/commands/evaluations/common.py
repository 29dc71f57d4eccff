"""What the evaluations share: a network is opened, the result is printed.

Each runs in one process, or in several under torchrun. It writes NAME.json, the table with settings and versions, and
pictures into the output folder, and keeps finished parts in NAME.HASH.state.json: the same command goes on there after
it was stopped.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from apr_dali.eval.result import Result
    from apr_dali.eval.session import Session


def evaluate(args: argparse.Namespace, evaluation: Callable[[Session], Result]) -> None:
    """Run `evaluation` on the network of the command line, and print what it gives."""
    from apr_dali.commands.network import open_network

    with open_network(args) as session:
        result = evaluation(session)
        if session.group.main:
            print(result.text() + result.kept_text)
            print(f"written: {session.output / result.evaluation}.json")
