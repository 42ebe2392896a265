"""What an aggregator does: the drafts of several experts in, one answer out.

An aggregator decides who is asked, how long is waited and what is sent. Whoever calls it makes the calls: `Drafts` are
those of the route's experts, `Experts` are those that the aggregator makes itself.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

FinishReason = Literal["stop", "length"]
Messages = Sequence[Mapping[str, Any]]
"""OpenAI message objects whose content is text, oldest first."""


@dataclass(frozen=True, slots=True)
class Seat:
    """A choice of the route. Its place is its rank, 0 for the best; weights of all seats sum to 1."""

    expert: str
    weight: float


@dataclass(frozen=True, slots=True)
class Request:
    """What is to be answered, and by whom.

    messages: as the caller sent them. prompt: what the drafts answer, the last message of the user.
    category: of the route, None where the router has none.
    seats: best first. One expert may have several.
    candidates: experts that may be asked for calls of the aggregator's own, those of the seats first.
    deadline: Unix time in seconds, may be infinite. seed: what is drawn by lot comes from it.
    patience: in [0, 1], how certain a vote in waves must be to end; see `aggregators.ballot`.
    """

    id: str
    messages: tuple[dict[str, Any], ...]
    prompt: str
    category: str | None
    seats: tuple[Seat, ...]
    candidates: tuple[str, ...]
    deadline: float = float("inf")
    seed: int = 0
    patience: float = 1.0


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of the text of a call that is under way. rank: of its seat, 0 for an aggregator's own call."""

    rank: int
    text: str


@dataclass(frozen=True, slots=True)
class Draft:
    """One expert's whole output before aggregation, or why there is none.

    rank: place in the route, 0 for the best; weight: the route's weight of this seat.
    error: None, or what took the draft's place, fit for the caller's eyes; then `text` is empty, and `code` is the kind
    of failure ("prompt_too_long", "deadline", "engine_died", ...).
    """

    expert: str
    rank: int
    weight: float
    text: str = ""
    finish_reason: FinishReason = "stop"
    error: str | None = None
    code: str | None = None


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of the aggregated answer."""

    text: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """The end of an aggregated answer. What each call was for and what it cost is kept by whoever made the calls.

    winner: the expert whose draft the answer is, None where it is nobody's alone.
    used, failed: experts whose drafts took part, and expert -> error of those that gave none.
    votes: extracted answer -> total weight; empty where nothing was voted on.
    scores: expert -> 1 to 10; empty where nobody judged.
    note: how the answer came about, one sentence for people.
    """

    winner: str | None
    finish_reason: FinishReason
    used: tuple[str, ...]
    failed: dict[str, str] = field(default_factory=dict)
    votes: dict[str, float] = field(default_factory=dict)
    scores: dict[str, float] = field(default_factory=dict)
    note: str = ""


class NoDraft(RuntimeError):
    """Every expert of the route failed. `drafts` holds their errors in the route's order."""

    def __init__(self, drafts: tuple[Draft, ...]) -> None:
        super().__init__("; ".join(f"{draft.expert}: {draft.error}" for draft in drafts) or "no expert was asked")
        self.drafts = drafts


class BrokenOff(RuntimeError):
    """The expert whose words are sent as they come failed after its first. What is sent cannot be taken back.

    draft: the failed one.
    """

    def __init__(self, draft: Draft) -> None:
        super().__init__(f"the answer of {draft.expert} broke off: {draft.error}")
        self.draft = draft


class Undecided(Exception):
    """These drafts have no answer by the rule of the aggregator; another one may have a rule that finds one.

    Raised before the first piece, and only by aggregators that are built to: see `aggregators.cascade`.
    """

    def __init__(self, drafts: Sequence[Draft], why: str) -> None:
        super().__init__(why)
        self.drafts, self.why = tuple(drafts), why


class Drafts(Protocol):
    """The drafts of the route's seats, by rank. Nobody is asked before `ask`."""

    def ask(self, count: int) -> None:
        """Lets the first `count` seats begin that have not. More may be asked later, in waves."""
        ...

    def __aiter__(self) -> AsyncIterator[Part | Draft]:
        """A Draft of each seat that was asked, as they finish, and before it the Parts of a seat that is watched.

        Ends when all that were asked have finished. After a further `ask` it can be iterated again.
        """
        ...

    def watch(self, rank: int) -> None:
        """The seat's text comes in Parts from now on; what it has said already comes first."""
        ...

    def until(self, deadline: float) -> None:
        """Seats that are asked from now on fail with the code "deadline" if they have not finished by then.

        deadline: Unix time in seconds. The request's own holds anyway.
        """
        ...

    def cancel(self, rank: int) -> None:
        """The seat's draft is of no more use: the call is aborted in its engine, and no Draft of it comes."""
        ...

    async def aclose(self) -> None:
        """Cancels whatever still runs, and returns when it has ended."""
        ...


class Experts(Protocol):
    """Calls that the aggregator makes itself."""

    def generate(
        self,
        expert: str,
        messages: Messages,
        *,
        role: str,
        is_answer: bool = False,
        max_tokens: int | None = None,
        temperature: float | None = None,
        deadline: float = float("inf"),
    ) -> AsyncGenerator[Part | Draft, None]:
        """Parts, then one Draft of rank 0 and weight 1, with its error inside. Closing the generator aborts the call.

        role: what the call is for: "judge", "writer", "layer 1".
        is_answer: what it says may become the answer, so the caller's sampling holds; else max_tokens and temperature
        do. deadline: Unix time in seconds; the request's own holds anyway.
        """
        ...


class Aggregator(Protocol):
    """Aggregators hold no state between requests."""

    name: str

    def calls(self, drafts: int) -> int:
        """The most calls of its own that it makes for so many drafts; those that go again with less text apart."""
        ...

    def aggregate(self, request: Request, drafts: Drafts, experts: Experts) -> AsyncGenerator[Piece | Verdict, None]:
        """Pieces, then one Verdict. It asks for the drafts that it wants, and closes `drafts` when it needs no more.

        Raises NoDraft if all drafts are failures, BrokenOff if the answer cannot be finished.
        """
        ...
