"""What an evaluation gives: its numbers, as attributes, as JSON and as text, and its pictures."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from apr_dali.eval.session import Session, kept_text
from apr_dali.eval.state import State

Kind = TypeVar("Kind", bound="Result")


@dataclass(frozen=True, kw_only=True)
class Result(ABC):
    """The result of one evaluation.

    record: the whole of NAME.json: `result` is `as_json()`, beside it date, settings, versions, device, and in `kept`
    the dates of parts of an earlier run. pictures: PNG bytes by title.
    """

    record: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)
    pictures: dict[str, bytes] = field(default_factory=dict, repr=False, compare=False)

    @property
    @abstractmethod
    def evaluation(self) -> str:
        """The evaluation's name, which its files have."""

    @abstractmethod
    def as_json(self) -> dict[str, Any]:
        """The numbers and what they are of, as `result` in NAME.json has them."""

    @abstractmethod
    def text(self) -> str:
        """The numbers for people, in lines."""

    @property
    def kept_text(self) -> str:
        """A line that says which parts are of an earlier run; empty if none are."""
        return kept_text(self.record)

    def finished(self: Kind, session: Session, pictures: dict[str, bytes], *states: State) -> Kind:
        """This result, written into the session's folder with its pictures. states: that parts of it were kept in."""
        record = session.finish(self.evaluation, self.as_json(), pictures, *states)
        return replace(self, record=record, pictures=pictures)
