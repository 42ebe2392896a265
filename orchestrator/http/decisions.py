"""/v1/routes: the decision records, which say who answered what, why, and how it went."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response

from orchestrator.errors import ApiError, quote
from orchestrator.http import wire_decisions as told
from orchestrator.http.chat import phases_field, request_id_of, usage_field
from orchestrator.http.routes import Path
from orchestrator.http.wire_batches import query_of
from orchestrator.keys import KeyInfo
from orchestrator.store import Store
from workers.base import Phases, Usage

LOOKED_AT, MOST_LOOKED_AT = 200, 4000
"""Records that are read at a time, and in all for a page, where only some are wanted."""
Rows = list[dict[str, Any]]


class Decisions:
    """The methods of the paths. A key sees what came with its lineage, one with the scope `admin` everything. recorded:
    waits until the records of all answers so far are stored."""

    def __init__(self, store: Store, recorded: Callable[[], Awaitable[None]]) -> None:
        self._store, self._recorded = store, recorded

    def paths(self) -> tuple[Path, ...]:
        none = ("answer_not_found",)
        return (
            Path("/v1/routes", "GET", self.list, query=told.RoutesQuery, answer=told.RouteList, errors=none),
            Path("/v1/routes/{id}", "GET", self.one, answer=told.RouteRecord, errors=none),
        )

    async def list(self, request: Request) -> Response:
        """GET /v1/routes: the newest first."""
        query, caller = query_of(request, told.RoutesQuery), request.state.caller
        owner = (query.key or None) if caller.grant.admin else caller.lineage
        await self._recorded()
        after = await self._found(query.after, caller, "after") if query.after else None
        found: list[dict[str, Any]] = []
        rest: dict[str, Any] | None = None
        if not query.key or owner == query.key:
            found, rest = await self._look(query, owner, after)
        page, is_over = found[: query.limit], len(found) > query.limit
        last = page[-1] if page and (is_over or rest is None) else rest
        said = await self._store.feedback_on([record["request_id"] for record in page])
        return _json(
            {
                "object": "list",
                "data": [{"object": "route.summary", **summary(own, said.get(own["request_id"]))} for own in page],
                "first_id": page[0]["request_id"] if page else None,
                "last_id": last["request_id"] if last else None,
                "has_more": is_over or rest is not None,
            }
        )

    async def _look(
        self, query: told.RoutesQuery, owner: str | None, after: dict[str, Any] | None
    ) -> tuple[Rows, dict[str, Any] | None]:
        """The records that are wanted, one more than fit on the page if there are; and the last one that was looked at,
        if there are older ones."""
        found: list[dict[str, Any]] = []
        wanted = {name: value for name in ("category", "outcome", "model") if (value := getattr(query, name))}
        size = LOOKED_AT if wanted or query.expert else query.limit + 1
        for _ in range(MOST_LOOKED_AT // LOOKED_AT):
            looked = await self._store.decisions(size, owner, after)
            found += [record for record in looked if _matches(record, wanted, query.expert)]
            if len(looked) < size:
                return found, None
            after = looked[-1]
            if len(found) > query.limit:
                break
        return found, after

    async def one(self, request: Request) -> Response:
        """GET /v1/routes/{id}: of an answer, or of its request, the decision with its reasons and calls."""
        record = await self._found(request.path_params["id"], request.state.caller, None)
        said = (await self._store.feedback_on([record["request_id"]])).get(record["request_id"])
        return _json({"object": "route.record", **whole(record, said)})

    async def _found(self, answer_id: str, caller: KeyInfo, param: str | None) -> dict[str, Any]:
        """Raises ApiError, also for the record of another key."""
        request_id = request_id_of(answer_id)
        record = await self._store.decision(request_id)
        if record is None:  # the answer is quicker than its record
            await self._recorded()
            record = await self._store.decision(request_id)
        if record is None or not (caller.grant.admin or record.get("key") == caller.lineage):
            text = f"there is no decision record {quote(answer_id)}: it is none, is another key's, or has expired"
            raise ApiError("answer_not_found", text, param)
        return record


def _matches(record: Mapping[str, Any], wanted: Mapping[str, str], expert: str) -> bool:
    asked = [choice["expert"] for choice in record["choices"]]
    return all(record[name] == value for name, value in wanted.items()) and (not expert or expert in asked)


# A record as it is shown


def summary(record: Mapping[str, Any], said: Mapping[str, Any] | None) -> dict[str, Any]:
    """The fields of a line of the list. said: the row of the feedback on it."""
    calls = record.get("calls", ())
    usages = [call["usage"] for call in calls if call["usage"] is not None]
    costs = [call["cost"] for call in calls if call["cost"] is not None]
    experts = [choice["expert"] for choice in record["choices"]]
    key = record.get("key")
    return {
        "id": record["request_id"],
        "created": record["at"],
        "model": record["model"],
        "outcome": record["outcome"],
        "key": {"id": key, "name": record.get("key_name", "")} if key else None,
        "expert": _expert(record, experts),
        "experts": experts,
        **{name: record[name] for name in ("category", "router", "aggregator", "reason", "margin")},
        **{name: record[name] for name in ("seconds", "first_token_seconds", "router_seconds")},
        "prompt_tokens": sum(usage["prompt_tokens"] for usage in usages),
        "completion_tokens": sum(usage["completion_tokens"] for usage in usages),
        "cost": sum(costs) if costs else None,
        "score": said["score"] if said else None,
    }


def whole(record: Mapping[str, Any], said: Mapping[str, Any] | None) -> dict[str, Any]:
    """All that is known of it, with the `coe` field that its answer had, explained."""
    brief = summary(record, said)
    choices, calls = record["choices"], record.get("calls", ())
    return {
        **brief,
        "stream": record.get("stream", False),
        "admission_seconds": record.get("admission_seconds", 0.0),
        "prompt": record.get("prompt"),
        "feedback": {"at": said["at"], "score": said["score"]} if said else None,
        "trace_id": record.get("trace_id"),
        "coe": {
            "request_id": record["request_id"],
            "expert": brief["expert"],
            "experts": brief["experts"],
            **{name: record[name] for name in ("category", "probabilities", "margin", "reason", "router")},
            "aggregator": record["aggregator"],
            "used": record.get("used", []),
            "failed": record.get("failed", {}),
            "usage_by_expert": {name: usage_field(Usage(**own)) for name, own in record.get("usage", {}).items()},
            "calls": [_call(call) for call in calls],
            "note": "; ".join(filter(None, (*record.get("notes", ()), record.get("note", "")))),
            "explain": {
                "weights": {choice["expert"]: choice["weight"] for choice in choices},
                "skills": record.get("skills", {}),
                "candidates": record.get("candidates", []),
                "removed": record.get("removed", {}),
                "router_seconds": record["router_seconds"],
                "votes": record.get("votes", {}),
                "scores": record.get("scores", {}),
                "drafts": [],  # content, which no record has
            },
        },
    }


def _expert(record: Mapping[str, Any], experts: list[str]) -> str | None:
    """As in the `coe` field: who answered alone, or would have."""
    if "winner" in record:
        return record["winner"]  # type: ignore[no-any-return]
    return experts[0] if len(experts) == 1 else None


def _call(call: Mapping[str, Any]) -> dict[str, Any]:
    usage, phases = call["usage"], call.get("phases")
    return {
        "expert": call["expert"],
        "role": call["role"],
        "usage": usage_field(Usage(**usage)) if usage else None,
        "seconds": round(call["seconds"], 3),
        "cost": call["cost"],
        "error": call["error"],
        "phases": phases_field(Phases(**phases)) if phases else None,
    }


def _json(content: Any) -> Response:
    return Response(orjson.dumps(content), media_type="application/json")
