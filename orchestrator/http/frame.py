"""Around every request: when it came, its id, its trace, and the answer to whatever goes wrong."""

import time
import uuid

import orjson
import structlog
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from orchestrator.errors import CALLERS_FAULTS, CLIENT_GONE, ApiError, Told, from_exception
from orchestrator.http.streams import ClientGone
from workers.tracing import names
from workers.tracing.spans import NO_SPAN, AnySpan, Tracing

CLIENT_GONE_STATUS = 499
"""nginx's status for it; nobody reads it but the access log."""
TRACED = frozenset(("/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/embeddings", "/v1/route"))
"""What a POST on is traced: requests to experts, and nothing whose path has an id in it."""

log = structlog.stdlib.get_logger(__name__)


class Frame:
    """The id of a request is bound for the logs and sent as x-request-id. told: counts and logs an error."""

    def __init__(self, app: ASGIApp, told: Told, tracing: Tracing) -> None:
        self._app, self._told, self._tracing = app, told, tracing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = f"req-{uuid.uuid4().hex}"
        span = self._span(scope, request_id)
        scope.setdefault("state", {}).update(request_id=request_id, arrived=time.time(), span=span)
        started = False

        async def send_with_id(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                message["headers"] = [*message.get("headers", ()), (b"x-request-id", request_id.encode())]
                span.set({names.HTTP_STATUS: message["status"]})
            await send(message)

        with structlog.contextvars.bound_contextvars(request_id=request_id):
            try:
                await self._app(scope, receive, send_with_id)
            except (ClientGone, ClientDisconnect):
                log.info("client gone")
                span.fail(CLIENT_GONE)
                if not started:
                    await Response(status_code=CLIENT_GONE_STATUS)(scope, receive, send_with_id)
            except Exception as error:
                told = self._told(from_exception(error), error)
                span.fail(told.cause)
                if not started:
                    await _error(told, request_id)(scope, receive, send_with_id)
            finally:
                span.excuse(CALLERS_FAULTS)
                span.end()

    def _span(self, scope: Scope, request_id: str) -> AnySpan:
        path = scope["path"]
        if not self._tracing.url or scope["method"] != "POST" or path not in TRACED:
            return NO_SPAN
        parent = next((value for name, value in scope["headers"] if name == b"traceparent"), b"")
        return self._tracing.request(
            f"POST {path}",
            parent.decode("latin-1"),
            {
                names.HTTP_METHOD: "POST",
                names.HTTP_ROUTE: path,
                names.URL_PATH: path,
                names.URL_SCHEME: scope["scheme"],
                names.REQUEST_ID: request_id,
            },
        )


def _error(error: ApiError, request_id: str) -> Response:
    headers = {**error.headers, "x-coe-request-id": request_id}
    content = orjson.dumps(error.body(request_id))
    return Response(content, error.row.status, headers, media_type="application/json")
