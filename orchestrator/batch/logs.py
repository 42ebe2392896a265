"""What a runner writes of its work, a record a line, and what the next one reads of it.

R <step> <1 or 0> <tokens> <JSON>    the result of a line, for the file of outputs or that of errors; see `Tokens`
D <step> <JSON>                      a draft of a line that several answer
A <step>                             a try that came to nothing
H <step>                             its engine went down, beside others that were under way
X <step>                             its engine went down, and nothing else of this runner was under way there
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import orjson

from orchestrator.batch.jobs import Log, Tokens


@dataclass(frozen=True, slots=True)
class Record:
    """kind: see above. at, length: of the JSON among the bytes that were read. raw: the record itself."""

    kind: str
    step: int
    is_ok: bool
    tokens: Tokens
    at: int
    length: int
    raw: bytes

    @property
    def is_end(self) -> bool:
        """Is there no more to be done for the step?"""
        return self.kind in "RD"


def result(step: int, is_ok: bool, content: bytes) -> bytes:
    """content: a line of the file of outputs or that of errors."""
    tokens = _tokens(content) if is_ok else Tokens()
    return b"R %d %d %d,%d,%d %b\n" % (step, is_ok, tokens.input, tokens.cached, tokens.output, content)


def _tokens(content: bytes) -> Tokens:
    """What an answer's own usage tells, by whichever endpoint it came."""
    usage = orjson.loads(content)["response"]["body"].get("usage") or {}
    details = usage.get("prompt_tokens_details") or usage.get("input_tokens_details") or {}
    given = usage.get("prompt_tokens", usage.get("input_tokens", 0))
    made = usage.get("completion_tokens", usage.get("output_tokens", 0))
    return Tokens(given, details.get("cached_tokens") or 0, made)


def draft(step: int, content: bytes) -> bytes:
    return b"D %d %b\n" % (step, content)


def attempt(step: int) -> bytes:
    return b"A %d\n" % step


def hit(step: int, is_alone: bool) -> bytes:
    return b"%b %d\n" % (b"X" if is_alone else b"H", step)


def records(data: bytes) -> Iterator[Record]:
    """Those that are whole: a writer that was killed may have left half of one at the end."""
    at = 0
    while (end := data.find(b"\n", at)) >= 0:
        raw = data[at : end + 1]
        kind, step, *rest = raw[:-1].split(b" ", 2)
        is_ok, tokens, head = True, Tokens(), len(raw)
        if kind == b"R":
            told, counts, _ = rest[0].split(b" ", 2)
            is_ok, tokens = told == b"1", Tokens(*map(int, counts.split(b",")))
            head = len(kind) + len(step) + len(told) + len(counts) + 4
        elif kind == b"D":
            head = len(kind) + len(step) + 2
        yield Record(kind.decode(), int(step), is_ok, tokens, at + head, max(0, len(raw) - 1 - head), raw)
        at = end + 1


def counted(found: Sequence[Record], size: int) -> Log:
    """What is told of a log of so many bytes that begins with these records."""
    results = [record for record in found if record.kind == "R"]
    good = sum(record.is_ok for record in results)
    steps = sum(record.is_end for record in found)
    tokens = sum((record.tokens for record in results), Tokens())
    return Log(size, steps, good, len(results) - good, tokens)


@dataclass(slots=True)
class Earlier:
    """What the runners of a block before this one have left.

    done: steps with a record that counts. found: records that are whole and do not count yet, each of another step.
    tries: step -> tries that came to nothing. hits, downs: step -> deaths of its engine, beside others and alone.
    """

    done: set[int] = field(default_factory=set)
    found: list[Record] = field(default_factory=list)
    tries: Counter[int] = field(default_factory=Counter)
    hits: Counter[int] = field(default_factory=Counter)
    downs: Counter[int] = field(default_factory=Counter)


def earlier(logs: Sequence[tuple[bytes, int]]) -> Earlier:
    """logs: of each its bytes, and how many of them count."""
    left = Earlier()
    for data, counts in logs:
        left.done.update(record.step for record in records(data[:counts]) if record.is_end)
    seen, counters = set(left.done), {"A": left.tries, "H": left.hits, "X": left.downs}
    for data, counts in logs:
        for record in records(data):
            if not record.is_end:
                counters[record.kind][record.step] += 1
            elif record.at >= counts and record.step not in seen:
                seen.add(record.step)
                left.found.append(record)
    return left
