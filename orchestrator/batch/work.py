"""One step of a batch: a line through the pipeline, as the endpoint would run it, and what is written of it.

`Again`   the step has come to nothing, through no fault of the line
"""

import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import orjson

from orchestrator.access.grant import LIMITS, Grant
from orchestrator.batch.jobs import Caller, Made
from orchestrator.batch.lines import Line, checked
from orchestrator.batch.lines import Raw as RawLine
from orchestrator.batch.plan import Team
from orchestrator.batch.planner import line_id
from orchestrator.batch.replays import Draft, Replays
from orchestrator.batch.teams import Teams, ask_of_line, of_batch
from orchestrator.errors import ApiError, from_exception
from orchestrator.events import Ask, Routed
from orchestrator.http.answers import whole
from orchestrator.http.asks import named_by, writer_of
from orchestrator.http.embeddings import EmbeddingRequest, Embeddings
from orchestrator.http.wire import Limits
from orchestrator.http.wire_coe import Names
from orchestrator.pipeline import Pipeline
from routers.base import Choice
from workers.base import Delta, Failure, Usage

OF_SERVICE = frozenset(("engine_died", "expert_unavailable", "no_expert", "internal", "deadline"))
"""Causes that another try may not meet."""
AWAY = frozenset(("engine_starting", "store_unavailable"))
"""Nothing was begun, and what is needed for it comes back."""
WAIT_MOST_S = 30.0
FREE = dict.fromkeys(LIMITS, None)


class Again(Exception):
    """counts: is it one of the tries that a line has? wait_s: not before so many seconds. error: what came of it."""

    def __init__(self, error: ApiError, counts: bool, wait_s: float) -> None:
        super().__init__(error.message)
        self.error, self.counts, self.wait_s = error, counts, wait_s


class Work:
    """What runs lines, in the event loop of the pipeline.

    writer: who judges and writes where neither an ensemble nor a request says so; None = the best of a line's experts.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        experts: Sequence[str],
        limits: Limits,
        embeddings: Embeddings,
        replays: Replays,
        writer: str | None = None,
    ) -> None:
        self._pipeline, self._experts, self.limits = pipeline, experts, limits
        self._embeddings, self._replays, self._writer = embeddings, replays, writer

    def names(self, grant: Grant) -> Names:
        return named_by(grant, self._experts, self._pipeline.aggregators)

    def line(self, made: Made, data: bytes) -> Line:
        """A line that was checked before, when it was planned."""
        return checked(RawLine(0, 0, len(data), data), made.endpoint, self.limits, self.names(made.caller.grant))

    # Routing

    def teams(self, caller: Caller) -> Teams:
        """Who works on lines of this caller."""
        return Teams(self._pipeline.deciding(), self._embeddings.encoder, caller, self._writer)

    # Running

    async def answer(
        self, made: Made, at: int, line: Line, request_id: str, routed: Routed | None, drafts: Mapping[str, Draft]
    ) -> tuple[bool, bytes]:
        """(is it an answer, the line for the output or error file). drafts: of those that several answer.

        Raises Again.
        """
        try:
            content = await self._content(made, line, request_id, routed, drafts)
        except Exception as raised:
            error = from_exception(raised)
            _again(error)
            body = error.body(request_id)
            return False, _written(made, at, line.custom_id, request_id, error.row.status, orjson.dumps(body))
        return True, _written(made, at, line.custom_id, request_id, 200, content)

    async def _content(
        self, made: Made, line: Line, request_id: str, routed: Routed | None, drafts: Mapping[str, Draft]
    ) -> bytes:
        ask = self._ask(made, line, request_id, routed)
        if isinstance(line.body, EmbeddingRequest):
            return await self._embeddings.answer(line.body, ask)
        ask = replace(ask, drafted=frozenset(drafts))
        with self._replays.of(request_id, ask.messages, drafts):
            content, _ = await whole(self._pipeline, ask, writer_of(line.body, ask))
        return content

    async def draft(self, made: Made, line: Line, request_id: str, expert: str) -> bytes:
        """What the expert says to the line, as JSON; a failure is a draft too. Raises Again."""
        ask = self._ask(made, line, request_id, None)
        # It counts for the key's limits when the answer is made.
        free = replace(ask.grant, limits=FREE)
        ask = replace(
            ask, model=expert, draft_of=ask.model, k=None, aggregator=None, wish=type(ask.wish)(), caller="", grant=free
        )
        texts, usage, reason = [], Usage(), "stop"
        try:
            async for event in self._pipeline.run(ask):
                if isinstance(event, Delta):
                    texts.append(event.text)
                elif isinstance(event, Failure):
                    raise ApiError(event.code, event.message)
                elif not isinstance(event, Routed):
                    usage, reason = event.usage, event.finish_reason
        except Exception as raised:
            error = from_exception(raised)
            _again(error)
            return failed_draft(error)
        return orjson.dumps({"text": "".join(texts), "reason": reason, "usage": usage})

    def _ask(self, made: Made, line: Line, request_id: str, routed: Routed | None) -> Ask:
        deadline = min(time.time() + self.limits.timeout_s, made.expires_ms / 1000)
        return replace(ask_of_line(line.body, request_id, of_batch(made.caller), deadline), decided=routed)


def _again(error: ApiError) -> None:
    """Raises Again for what is no fault of the line."""
    wait_s = min(float(error.headers.get("retry-after", 1)), WAIT_MOST_S)
    if error.row.status == 429 or error.cause in AWAY:
        raise Again(error, counts=False, wait_s=wait_s) from None
    if error.cause in OF_SERVICE:
        raise Again(error, counts=True, wait_s=min(wait_s, 1.0)) from None


def new_request_id() -> str:
    return f"req-{uuid.uuid4().hex}"


def kept(content: bytes) -> Draft:
    """The draft that `Work.draft` wrote."""
    data: dict[str, Any] = orjson.loads(content)
    if "failure" in data:
        code, message = data["failure"]
        return Draft(failure=Failure(code if code in _CODES else "invalid_request", message))
    return Draft(data["text"], data["reason"], Usage(**data["usage"]))


_CODES = ("prompt_too_long", "invalid_request", "expert_unavailable", "engine_died", "deadline", "internal")


def as_planned(routed: Routed, team: Team) -> Routed:
    """The decision with the plan's experts, where one that is close was decided otherwise now."""
    if routed.route.experts == team.experts:
        return routed
    choices = tuple(Choice(expert, 1 / len(team.experts)) for expert in team.experts)
    reason = f"{routed.route.reason}; {', '.join(team.experts)} as the batch was planned"
    skills = routed.route.skills if routed.route.experts[0] == team.experts[0] else {}
    return replace(routed, route=replace(routed.route, choices=choices, reason=reason, skills=skills))


def failed_line(made: Made, at: int, custom_id: str | None, request_id: str, error: ApiError) -> bytes:
    """The line of the error file for one that was given up."""
    return _written(made, at, custom_id, request_id, error.row.status, orjson.dumps(error.body(request_id)))


def failed_draft(error: ApiError) -> bytes:
    """The draft of a line that was given up; the drafts of others stand in for it."""
    return orjson.dumps({"failure": [error.cause, error.message]})


def _written(made: Made, at: int, custom_id: str | None, request_id: str, status: int, body: bytes) -> bytes:
    response = {"status_code": status, "request_id": request_id, "body": orjson.Fragment(body)}
    return orjson.dumps({"id": line_id(made.id, at), "custom_id": custom_id, "response": response, "error": None})
