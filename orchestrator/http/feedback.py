"""/v1/feedback: what users say of answers. Kept for `coe profile --feedback`, without a word of prompt or answer."""

import time
from collections.abc import Awaitable, Callable

import orjson
from starlette.requests import Request
from starlette.responses import Response

from orchestrator.errors import ApiError, quote
from orchestrator.http.chat import request_id_of
from orchestrator.http.reading import parse_feedback, read_body
from orchestrator.store import Store


class Feedback:
    """The methods of the path, on the store that has the decision records. body_bytes: limit of a body."""

    def __init__(self, store: Store, body_bytes: int, recorded: Callable[[], Awaitable[None]]) -> None:
        self._store, self._body_bytes, self._recorded = store, body_bytes, recorded

    async def put(self, request: Request) -> Response:
        """POST /v1/feedback. What is said of an answer again takes the place of what was said before."""
        said = parse_feedback(await read_body(request, self._body_bytes))
        request_id = request_id_of(said.id)
        decision = await self._store.decision(request_id)
        if decision is None:  # the answer is quicker than its record
            await self._recorded()
            decision = await self._store.decision(request_id)
        if decision is None:
            text = f"no answer is known by the id {quote(said.id)}: it is none, or its decision record has expired"
            raise ApiError("answer_not_found", text, "id")
        if "winner" not in decision:
            text = f"id: {quote(said.id)} has no answer to judge; its outcome was {decision['outcome']!r}"
            raise ApiError("invalid_value", text, "id")
        row = {
            "id": request_id,
            "at": time.time(),
            "score": said.value,
            "expert": decision["winner"],
            "category": decision["category"],
        }
        await self._store.put_feedback(request_id, row, row["at"])
        return Response(orjson.dumps({"object": "feedback", **row}), media_type="application/json")

    async def list(self, request: Request) -> Response:
        """GET /v1/feedback: all that is kept of the experts that the key may use, oldest first."""
        grant = request.state.caller.grant
        rows = [row for row in await self._store.feedback() if grant.experts is None or row["expert"] in grant.experts]
        content = {"object": "list", "data": rows}
        return Response(orjson.dumps(content), media_type="application/json")
