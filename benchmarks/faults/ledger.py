"""What became of every request, and of every line of a batch. No I/O: what was asked and what was heard are its input.

Every request ends in exactly one of

    right    the whole text, of the expert that was asked
    error    said so: an error of the service's table, as a status or in the stream; or a connection that broke while a
             gateway was down, or was gone a moment later
    silent   no answer, and nobody said so: a stream without an end, a text that is cut, silence beyond the deadline, an
             error that is none of the table, a connection that broke while no gateway was down
    wrong    a text that is not that of the expert that was asked, also as the beginning of one that broke off
"""

import json
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from orchestrator.errors import TABLE

End = Literal["right", "error", "silent", "wrong"]
CODES = frozenset(row.code for row in TABLE.values())
LOST = "connection lost"
"""The code of an error that is a broken connection."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A request. expert: who is to answer, None for who the router chooses: then the answer has to say who it was.
    prompt: has an id of its own; at: monotonic seconds."""

    client: str
    expert: str | None
    prompt: str
    at: float


@dataclass(frozen=True, slots=True)
class Heard:
    """What came of a request. at: monotonic seconds of its end.

    finish_reason, model: as told, None if they were not. code: of an error that was told, "" for one without a code.
    lost: why the connection broke. late: nothing came within the deadline and what is to be forgiven beyond.
    """

    text: str
    at: float
    finish_reason: str | None = None
    model: str | None = None
    code: str | None = None
    lost: str | None = None
    late: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """A request with its end. why: the code of an error, or what is wrong."""

    asked: Asked
    heard: Heard
    end: End
    why: str = ""


def answer_of(expert: str, prompt: str) -> str:
    """What the fake engine says (`workers.fake_engine.echo`)."""
    return f"{expert} heard: {prompt}"


def judge(asked: Asked, heard: Heard, was_down: Callable[[float, float], bool]) -> Row:
    """was_down: was a gateway down at any time between these two?"""

    def ends(end: End, why: str = "") -> Row:
        return Row(asked, heard, end, why)

    expert = asked.expert or heard.model or "nobody"
    answer = answer_of(expert, asked.prompt)
    if not answer.startswith(heard.text):
        return ends("wrong", f"{expert} was to answer {asked.prompt[:6]!r}, and it begins with {heard.text[:40]!r}")
    if heard.model is not None and heard.model != expert:
        return ends("wrong", f"{expert} was to answer, and {heard.model} is said to have done so")
    if heard.late:
        return ends("silent", "nothing came by the deadline")
    if heard.lost is not None:
        if was_down(asked.at, heard.at):
            return ends("error", LOST)
        return ends("silent", f"the connection broke while all gateways were up: {heard.lost}")
    if heard.code is not None:
        if heard.code in CODES:
            return ends("error", heard.code)
        return ends("silent", f"an error without a code of the table: {heard.code!r}")
    if heard.finish_reason != "stop":
        return ends("silent", f"it ended with the finish_reason {heard.finish_reason!r}")
    if heard.text != answer:
        return ends("silent", f"{len(heard.text)} of {len(answer)} characters, called complete")
    return ends("right")


@dataclass
class Lines:
    """What became of a batch's lines. lost: in no file; doubled: more than once; wrong: another's answer."""

    answered: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def add(self, other: "Lines") -> None:
        self.answered += other.answered
        self.errors += other.errors
        self.lost += other.lost
        self.doubled += other.doubled
        self.wrong += other.wrong


def judge_lines(asked: Sequence[tuple[str, str, str]], output: str, errors: str) -> Lines:
    """asked: custom_id, expert and prompt of each line. output, errors: the files of the batch, as text."""
    found, told = Lines(), Counter[str]()
    answers = {own: answer_of(expert, prompt) for own, expert, prompt in asked}
    for row in _rows(output):
        own = row["custom_id"]
        told[own] += 1
        choice = row["response"]["body"]["choices"][0]
        if own not in answers or choice["message"]["content"] != answers[own] or choice["finish_reason"] != "stop":
            found.wrong.append(own)
        else:
            found.answered += 1
    for row in _rows(errors):
        told[row["custom_id"]] += 1
        found.errors[_code(row)] += 1
    found.lost = [own for own in answers if not told[own]]
    found.doubled = [own for own, times in told.items() if times > 1]
    return found


def _rows(text: str) -> Iterable[dict[str, Any]]:
    return (json.loads(line) for line in text.splitlines() if line)


def _code(row: dict[str, Any]) -> str:
    told = row.get("error") or row["response"]["body"]["error"]
    return str(told["code"])


@dataclass(frozen=True)
class Tally:
    """Ends of requests, by number. codes: of the errors. last_trouble: when the last of those that were not right
    ended, None if all were right."""

    right: int
    errors: int
    silent: int
    wrong: int
    codes: Counter[str]
    last_trouble: float | None

    @classmethod
    def of(cls, rows: Collection[Row]) -> "Tally":
        ends = Counter(row.end for row in rows)
        codes = Counter(row.why for row in rows if row.end == "error")
        last = max((row.heard.at for row in rows if row.end != "right"), default=None)
        return cls(ends["right"], ends["error"], ends["silent"], ends["wrong"], codes, last)
