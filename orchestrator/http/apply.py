"""POST /admin/v1/apply: the service reads its configuration file again."""

from collections.abc import Awaitable, Callable
from dataclasses import asdict

import orjson
from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import Response

from orchestrator.changes import Difference
from orchestrator.http import wire_answers as told
from orchestrator.http.reading import from_pydantic, json_object, read_body
from orchestrator.http.routes import Path
from orchestrator.http.wire_coe import Wire

Change = Callable[[bool], Awaitable[tuple[Difference, tuple[str, ...]]]]
"""Takes the file as it is now, or with True only tells what it would change: that, and notes for people. Raises
ApiError."""


class ApplyRequest(Wire):
    """No path is ever taken from a request: the file is the one that the service was started with."""

    dry_run: bool = False


class Applying:
    """The method of the path."""

    def __init__(self, change: Change, body_bytes: int) -> None:
        self._change, self._body_bytes = change, body_bytes

    def paths(self) -> tuple[Path, ...]:
        return (
            Path("/admin/v1/apply", "POST", self.apply, "admin", ApplyRequest, told.Applied, errors=("configuration",)),
        )

    async def apply(self, request: Request) -> Response:
        """POST /admin/v1/apply: the service takes its configuration file as it is now, and drops no request."""
        body = await read_body(request, self._body_bytes)
        try:
            asked = ApplyRequest.model_validate(json_object(body) if body.strip() else {})
        except ValidationError as error:
            raise from_pydantic(error) from None
        found, notes = await self._change(asked.dry_run)
        content = {"object": "configuration", "dry_run": asked.dry_run, **asdict(found), "notes": notes}
        return Response(orjson.dumps(content), media_type="application/json")
