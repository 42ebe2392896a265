"""/v1/feedback: what users say of answers. Kept for `coe profile --feedback` and `coe router export`."""

import time
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response

from orchestrator.errors import ApiError, quote
from orchestrator.http.chat import request_id_of
from orchestrator.http.reading import parse_feedback, read_body
from orchestrator.http.wire_batches import Query, query_of
from orchestrator.metrics import NO_EXPERT, Metrics
from orchestrator.store import Store


class FeedbackQuery(Query):
    """prompts: with the text that the router read, in rows of one's own key, or all with the scope `admin`, as far as
    their decision records have it."""

    prompts: bool = False


class Feedback:
    """The methods of the path, on the store that has the decision records. body_bytes: limit of a body."""

    def __init__(
        self, store: Store, metrics: Metrics, body_bytes: int, recorded: Callable[[], Awaitable[None]]
    ) -> None:
        self._store, self._metrics, self._body_bytes, self._recorded = store, metrics, body_bytes, recorded

    async def put(self, request: Request) -> Response:
        """POST /v1/feedback. What is said of an answer again takes the place of what was said before."""
        said = parse_feedback(await read_body(request, self._body_bytes))
        request_id = request_id_of(said.id)
        decision = await self._store.decision(request_id)
        if decision is None:  # the answer is quicker than its record
            await self._recorded()
            decision = await self._store.decision(request_id)
        caller = request.state.caller
        if decision is None or not (caller.grant.admin or decision.get("key") == caller.lineage):
            text = f"no answer is known by the id {quote(said.id)}: it is none, is another key's, or has expired"
            raise ApiError("answer_not_found", text, "id")
        if "winner" not in decision:
            text = f"id: {quote(said.id)} has no answer to judge; its outcome was {decision['outcome']!r}"
            raise ApiError("invalid_value", text, "id")
        row: dict[str, Any] = {
            "id": request_id,
            "at": time.time(),
            "score": said.value,
            "expert": decision["winner"],
            "category": decision["category"],
        }
        hidden = {"key": decision["key"]} if "key" in decision else {}
        await self._store.put_feedback(request_id, row | hidden, row["at"])
        self._metrics.feedback.labels(row["expert"] or NO_EXPERT).observe(said.value)
        return Response(orjson.dumps({"object": "feedback", **row}), media_type="application/json")

    async def list(self, request: Request) -> Response:
        """GET /v1/feedback: all that is kept of the experts that the key may use, oldest first."""
        caller, with_prompts = request.state.caller, query_of(request, FeedbackQuery).prompts
        grant = caller.grant
        rows = [row for row in await self._store.feedback() if grant.experts is None or row["expert"] in grant.experts]
        shown = [{name: row[name] for name in ("id", "at", "score", "expert", "category")} for row in rows]
        if with_prompts:
            own = [row["id"] for row in rows if grant.admin or row.get("key") == caller.lineage]
            prompts = await self._store.prompts(own)
            shown = [row | {"prompt": prompts.get(row["id"])} for row in shown]
        return Response(orjson.dumps({"object": "list", "data": shown}), media_type="application/json")
