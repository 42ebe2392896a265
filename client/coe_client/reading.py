"""The reader's side of a stream: bytes to events, events to typed pieces, all of them to the answer. No I/O."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from pydantic import ValidationError

from coe_client.answers import Answer, first_problem
from coe_client.errors import StreamBroken, shown
from coe_client.sse import Events


class Textual(Protocol):
    """What every piece of a stream has."""

    @property
    def text(self) -> str:
        """What it adds to the text of the answer."""


E = TypeVar("E", bound=Textual)
E_co = TypeVar("E_co", bound=Textual, covariant=True)

DONE = "[DONE]"


@dataclass(frozen=True, slots=True)
class Said:
    """An error that the service sent in a stream. again: another try may not meet it."""

    error: Mapping[str, Any]
    again: bool


class Pieces(Protocol[E_co]):
    """What the events of one protocol mean. It keeps what came."""

    @property
    def ended(self) -> bool:
        """Did an event say that the stream is complete? `[DONE]` says so in every protocol."""

    def error(self, raw: Mapping[str, Any]) -> Said | None:
        """The error that an event is, if it is one."""

    def add(self, raw: Mapping[str, Any]) -> E_co:
        """The piece that an event is. Raises ValueError, TypeError, AttributeError or KeyError if it is none."""

    def answer(self, request_id: str | None) -> Answer:
        """As far as it has come."""


class Reading(Generic[E]):
    """Give it the bytes of one stream, get its pieces.

    ended: the stream said that it is complete. problem: why it can go no further, to be raised after the pieces before.
    again: a new try may not meet that problem.
    """

    def __init__(self, pieces: Pieces[E], request_id: str | None = None) -> None:
        self.ended = False
        self.problem: StreamBroken | None = None
        self.again = False
        self._pieces = pieces
        self._request_id = request_id
        self._events = Events()

    def feed(self, data: bytes) -> list[E]:
        """The pieces that these bytes complete."""
        made: list[E] = []
        try:
            events = self._events.feed(data)
        except ValueError as error:
            self._unreadable(str(error))
            return made
        for event in events:
            if event == DONE:
                self.ended = True
            else:
                self._add(event, made)
            if self.ended or self.problem:
                break
        return made

    def lost(self, why: str) -> StreamBroken:
        """The connection is gone, or was given up."""
        self.problem = self._broken(why)
        self.again = True
        return self.problem

    @property
    def answer(self) -> Answer:
        """As far as it has come."""
        return self._pieces.answer(self._request_id)

    def _add(self, event: str, made: list[E]) -> None:
        try:
            raw = json.loads(event)
        except ValueError:
            raw = None
        if not isinstance(raw, dict):
            self._unreadable(f"an event is no JSON object: {shown(event)}")
            return
        if said := self._pieces.error(raw):
            code = f"{said.error['code']}: " if said.error.get("code") else ""
            self.problem = self._broken(f"{code}{said.error.get('message') or shown(event)}", said.error)
            self.again = said.again
            return
        try:
            made.append(self._pieces.add(raw))
        except ValidationError as problem:
            self._unreadable(first_problem(problem))
        except (ValueError, TypeError, AttributeError, KeyError) as problem:
            self._unreadable(f"{type(problem).__name__}: {problem}" if isinstance(problem, KeyError) else str(problem))
        else:
            self.ended = self._pieces.ended

    def _unreadable(self, why: str) -> None:
        self.problem = self._broken(f"the stream is unreadable: {why}")

    def _broken(self, why: str, error: Mapping[str, Any] | None = None) -> StreamBroken:
        partial = self.answer
        return StreamBroken(why, partial=partial, error=error, request_id=partial.request_id)
