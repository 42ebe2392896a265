"""What stands before the API: a request that is out of bounds is turned away before routing, keys and parsing.

`Guards` judges a request's head and watches its body arrive; `server.py` bounds what is read before there is a head.
`SafeHeaders` adds to every answer what browsers should know, and answers them where `server.cors_origins` allows it.
docs/security.md lists the bounds.
"""

import asyncio
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from orchestrator.errors import ApiError, quote

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
WITH_BODY = ("POST", "PUT", "PATCH")
ALWAYS = "/health/live"
"""The path that is answered however many connections are open: who asks it would start the service anew."""
WATCHED = "/v1/events"
"""The path of streams that go on for hours and make no work: they take no place from requests."""
SHUT = "shut"
"""Key of the ASGI state under which `connection.py` says why it would not let a request in: an ApiError."""

Headers = Sequence[tuple[bytes, bytes]]
Seen = dict[bytes, list[bytes]]
"""Name of a header that is judged -> its values."""
_JUDGED = frozenset((b"host", b"content-length", b"transfer-encoding", b"content-type", b"content-encoding"))

_HOST = re.compile(rb"(?:[A-Za-z0-9_.-]+|\[[0-9A-Fa-f:.]+(?:%25[A-Za-z0-9._~-]+)?\])(?::[0-9]{1,5})?")
_LENGTH = re.compile(rb"[0-9]{1,18}")
UPLOADS = "/v1/files"
"""The path whose bodies are forms with a file, as large and slow as its quota and its reading allow."""
_FORM = "multipart/form-data"
_JSON = re.compile(r"application/(?:[a-z0-9!#$&^_.-]+\+)?json")


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a connection and the head of a request may take.

    connections: open at a time. spare: over them, that are still answered, by an error; over that they are cut.
    pipelined: requests that wait on one connection for the answer to an earlier one.
    headers: their number; header_bytes: of all names and values; path_bytes: of path and query.
    head_s: seconds for a head to arrive, from the first byte or the opening of the connection.
    body_s: seconds for a whole body. stall_s: seconds that a client may read nothing of an answer.
    idle_s: seconds that a connection may stay open between requests: more than the 60 for which proxies keep theirs.
    """

    connections: int = 10_000
    spare: int = 4096
    pipelined: int = 16
    headers: int = 100
    header_bytes: int = 32 << 10
    path_bytes: int = 4 << 10
    head_s: float = 10.0
    body_s: float = 60.0
    stall_s: float = 60.0
    idle_s: int = 65


def head_problem(scope: Scope, bounds: Bounds) -> ApiError | None:
    """Why the head of a request is turned away; None if it is not."""
    headers: Headers = scope["headers"]
    path = len(scope.get("raw_path") or scope["path"].encode()) + len(scope.get("query_string", b""))
    if path > bounds.path_bytes:
        return _closing("path_too_long", f"path and query have {path:,} bytes; the limit is {bounds.path_bytes:,}")
    if len(headers) > bounds.headers:
        return _closing("headers_too_large", f"there are {len(headers)} headers; the limit is {bounds.headers}")
    size, seen = 0, Seen()
    for name, value in headers:  # once: this runs for every request
        size += len(name) + len(value)
        if name in _JUDGED:
            seen.setdefault(name, []).append(value)
    if size > bounds.header_bytes:
        return _closing("headers_too_large", f"the headers have {size:,} bytes; the limit is {bounds.header_bytes:,}")
    if problem := _framing_problem(seen, scope.get("http_version", "1.1")):
        return _closing("malformed_request", problem)
    if scope["method"] not in METHODS:
        text = f"method {quote(scope['method'])}: allowed are {', '.join(METHODS)}"
        return ApiError("method_not_allowed", text, headers={"allow": ", ".join(METHODS)})
    wanted = _FORM if scope["path"] == UPLOADS else None
    if scope["method"] in WITH_BODY and (problem := body_problem(seen, wanted)):
        return ApiError("unsupported_media_type", problem)
    return None


def _framing_problem(seen: Seen, version: str) -> str | None:
    """Of what two servers could read differently where the request ends, or for whom it is (RFC 9112, 3.2 and 6.3)."""
    if version not in ("1.0", "1.1"):
        return f"the version of HTTP is {version}; allowed are 1.0 and 1.1"
    hosts = seen.get(b"host", ())
    if len(hosts) > 1 or (not hosts and version == "1.1"):
        return f"there must be one 'Host' header; there are {len(hosts)}"
    if hosts and hosts[0] and not _HOST.fullmatch(hosts[0]):
        return f"'Host' is no host: {quote(hosts[0].decode('latin-1'))}"
    lengths, codings = seen.get(b"content-length", ()), seen.get(b"transfer-encoding", ())
    if len(lengths) + len(codings) > 1:
        return "there must be at most one of 'Content-Length' and 'Transfer-Encoding'"
    if lengths and not _LENGTH.fullmatch(lengths[0]):
        return f"'Content-Length' is no number: {quote(lengths[0].decode('latin-1'))}"
    if codings and (codings[0].lower() != b"chunked" or version != "1.1"):
        return "'Transfer-Encoding' must be 'chunked', in HTTP/1.1"
    return None


def body_problem(seen: Seen, wanted: str | None = None) -> str | None:
    """Why a body of this type or encoding is not read; None if it is. Without a type it is taken for JSON.

    wanted: the one type that is read, in place of JSON.
    """
    kinds = [value.decode("latin-1") for value in seen.get(b"content-type", ())]
    codings = [value for value in seen.get(b"content-encoding", ()) if value.strip().lower() != b"identity"]
    if codings:
        return f"'Content-Encoding' {quote(codings[0].decode('latin-1'))} is not read; send the body as it is"
    if len(kinds) > 1:
        return "there is more than one 'Content-Type'"
    if wanted is not None:
        given = kinds[0] if kinds else ""
        matches = given.partition(";")[0].strip().lower() == wanted
        return None if matches else f"'Content-Type' is {quote(given)}; send 'Content-Type: {wanted}'"
    if not kinds or kinds[0] == "application/json" or not kinds[0].strip():
        return None
    kind, _, parameters = kinds[0].partition(";")
    if not _JSON.fullmatch(kind.strip().lower()):
        hint = ", which curl sends unless it is told otherwise" if "urlencoded" in kind else ""
        return f"'Content-Type' is {quote(kind.strip())}{hint}; send 'Content-Type: application/json'"
    charset = re.search(r"charset\s*=\s*\"?([^\s\";]*)", parameters, re.IGNORECASE)
    if charset and charset[1].lower() not in ("utf-8", "utf8", "us-ascii"):
        return f"charset {quote(charset[1])} is not read; JSON is UTF-8"
    return None


def _closing(cause: str, message: str) -> ApiError:
    """An error after which the connection is of no more use: what follows on it cannot be trusted."""
    return ApiError(cause, message, headers={"connection": "close"})


class Guards:
    """ASGI layer that raises ApiError for a request out of bounds, for the layer around it to answer."""

    def __init__(self, app: ASGIApp, bounds: Bounds) -> None:
        self._app, self._bounds = app, bounds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if (shut := scope.get("state", {}).get(SHUT)) is not None:
            raise shut
        if problem := head_problem(scope, self._bounds):
            raise problem
        await self._app(scope, self._timed(receive, scope["path"] == UPLOADS), send)

    def _timed(self, receive: Receive, is_upload: bool) -> Receive:
        """The same, but the whole body must be there in time, of an upload the next piece. Waiting for the end of the
        connection has no limit."""
        loop = asyncio.get_running_loop()
        until, arriving = loop.time() + self._bounds.body_s, True

        async def timed() -> Message:
            nonlocal arriving, until
            if not arriving:
                return await receive()
            try:
                async with asyncio.timeout_at(until):
                    message = await receive()
            except TimeoutError:
                text = f"the body was not there within {self._bounds.body_s:g} s"
                raise _closing("request_timeout", text) from None
            arriving = message["type"] == "http.request" and message.get("more_body", False)
            if is_upload:
                until = loop.time() + self._bounds.body_s
            return message

        return timed


@dataclass(frozen=True, slots=True)
class Cors:
    """Web pages that may use the API from a browser. origins: as `https://app.example.com`, or `*`; none: no page.

    credentials: may they send cookies or client certificates? Raises ValueError with `*`: any page could then act
    for whoever looks at it.
    """

    origins: tuple[str, ...] = ()
    credentials: bool = False

    def __post_init__(self) -> None:
        if self.credentials and "*" in self.origins:
            raise ValueError("credentials do not go together with the origin '*'; name the origins")

    def headers(self, origin: str | None) -> dict[str, str]:
        """What an answer tells a browser whose page is of `origin`."""
        if not self.origins:
            return {}
        if "*" in self.origins:
            return {"access-control-allow-origin": "*", "access-control-expose-headers": _EXPOSED}
        if origin not in self.origins:
            return {"vary": "Origin"}
        found = {"access-control-allow-origin": origin, "access-control-expose-headers": _EXPOSED, "vary": "Origin"}
        return {**found, "access-control-allow-credentials": "true"} if self.credentials else found

    def preflight(self, origin: str | None, wanted: str = "") -> dict[str, str] | None:
        """The answer to a browser that asks whether it may send a request; None if it may not. wanted: the headers that
        it would send."""
        allowed = self.headers(origin)
        if "access-control-allow-origin" not in allowed:
            return None
        own = [name for name in wanted.lower().replace(" ", "").split(",") if re.fullmatch(_OF_CLIENTS, name)]
        more = {
            "access-control-allow-methods": "GET, POST, PATCH, DELETE",
            "access-control-allow-headers": ", ".join((_ACCEPTED, *own[:MAX_OF_CLIENTS])),
        }
        return {**allowed, **more, "access-control-max-age": "600"}


_ACCEPTED = "authorization, content-type, idempotency-key, x-coe-timeout-s, x-request-id"
_OF_CLIENTS = r"(x-stainless|openai)-[a-z-]{1,40}"
"""OpenAI's own client sends these along, and a browser none of its requests without leave for them."""
MAX_OF_CLIENTS = 20
_EXPOSED = (
    "x-request-id, x-coe-request-id, x-coe-expert, x-coe-category, x-coe-reason, x-coe-router, x-coe-replayed, "
    "x-should-retry, retry-after, x-ratelimit-limit-requests, x-ratelimit-remaining-requests, "
    "x-ratelimit-reset-requests, x-ratelimit-limit-tokens, x-ratelimit-remaining-tokens, x-ratelimit-reset-tokens"
)

SAFE: Mapping[str, str] = {
    "x-content-type-options": "nosniff",  # an answer that holds HTML is not to be shown as a page
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",  # answers are for whoever has the key
}


class SafeHeaders:
    """ASGI layer around everything, errors too: headers for browsers, where the answer has none of that name."""

    def __init__(self, app: ASGIApp, cors: Cors) -> None:
        self._app, self._cors = app, cors
        self._fixed = encoded(SAFE)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        more = self._fixed
        if self._cors.origins:
            asked: dict[bytes, bytes] = dict(scope["headers"])
            origin = asked[b"origin"].decode("latin-1") if b"origin" in asked else None
            if scope["method"] == "OPTIONS" and b"access-control-request-method" in asked:
                wanted = asked.get(b"access-control-request-headers", b"").decode("latin-1")
                allowed = self._cors.preflight(origin, wanted)
                if allowed is not None:
                    await send({"type": "http.response.start", "status": 204, "headers": [*more, *encoded(allowed)]})
                    await send({"type": "http.response.body", "body": b""})
                    return
            more = [*more, *encoded(self._cors.headers(origin))]

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = list(message.get("headers", ()))
                names = {name for name, _ in own}
                message["headers"] = [*own, *((name, value) for name, value in more if name not in names)]
            await send(message)

        await self._app(scope, receive, send_with_headers)


def encoded(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]


def allowed_origins(origins: Iterable[str]) -> tuple[str, ...]:
    """The origins as browsers write them. Raises ValueError for what is none."""
    found = []
    for origin in origins:
        plain = origin.strip().lower().removesuffix("/")
        if plain != "*" and not re.fullmatch(r"https?://(?:[a-z0-9_.-]+|\[[0-9a-f:]+\])(?::[0-9]{1,5})?", plain):
            raise ValueError(f"{quote(origin)} is no origin; allowed: SCHEME://HOST or SCHEME://HOST:PORT, or '*'")
        found.append(plain)
    return tuple(found)
