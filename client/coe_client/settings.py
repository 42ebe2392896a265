"""What both clients share: how the service is reached, and what an HTTP answer or failure means. No I/O."""

import json
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import urlsplit

import httpx

from coe_client.calls import Call
from coe_client.errors import (
    CoeError,
    ConfigError,
    ConnectionFailed,
    InvalidAnswer,
    TimedOut,
    shown,
    status_error,
)
from coe_client.retries import Backoff, Done, Failed, may_retry, retry_after
from coe_client.version import VERSION

T = TypeVar("T")

DEFAULT_URL = "http://127.0.0.1:8000"
CONNECT_S = 10.0
"""The longest that one try waits for a connection."""
POOL = httpx.Limits(max_connections=1000, max_keepalive_connections=100)


@dataclass(frozen=True, slots=True)
class Settings:
    """How the service is reached.

    root: its URL without /v1. timeout: seconds for all tries of a request. wall: seconds since 1970. now: a clock that
    is never set, in seconds. uniform: a random number in [0, 1).
    """

    root: str
    key: str = field(repr=False)
    timeout: float
    max_retries: int
    backoff: Backoff
    now: Callable[[], float] = field(repr=False)
    wall: Callable[[], float] = field(repr=False)
    uniform: Callable[[], float] = field(repr=False)

    @property
    def trust_env(self) -> bool:
        """No proxy of the environment leads to this machine itself."""
        host = urlsplit(self.root).hostname or ""
        return not (host in ("localhost", "::1") or host.startswith("127."))

    def limit(self, call: Call[Any]) -> float:
        """Seconds for all tries of this request. Raises ConfigError."""
        return self.timeout if call.timeout is None else seconds(call.timeout)

    def headers(self, call: Call[Any], accept: str) -> dict[str, str]:
        own = {
            "authorization": f"Bearer {self.key}",
            "accept": accept,
            "user-agent": f"coe-client/{VERSION}",
            **({"content-type": "application/json"} if call.body is not None else {}),
        }
        return own | {name.lower(): value for name, value in call.headers.items()}

    def outcome(self, call: Call[T], status: int, headers: Mapping[str, str], content: bytes) -> Done[T] | Failed:
        """What an answer that was read to its end means."""
        if 200 <= status < 300 or status in call.accepts:
            try:
                return Done(call.result(content, request_id_of(headers)))
            except InvalidAnswer as error:
                return Failed(error, again=False)
        return self.refusal(status, headers, content)

    def refusal(self, status: int, headers: Mapping[str, str], content: bytes) -> Failed:
        """What an answer that is an error means."""
        # What comes back is shown and logged; a proxy that repeats the request's headers must not put the key there.
        text = content.decode("utf-8", "replace").replace(self.key, "[key]")
        try:
            body = json.loads(text)
        except ValueError:
            body = text
        after = retry_after(headers, self.wall())
        error = status_error(status, body, retry_after=after, request_id=request_id_of(headers))
        return Failed(error, may_retry(status, headers), after)

    def failure(self, error: httpx.HTTPError) -> Failed:
        """What it means that no answer came."""
        told: CoeError
        if isinstance(error, httpx.TimeoutException):
            told = TimedOut(f"{self.root} did not answer in time ({type(error).__name__})")
        elif isinstance(error, httpx.UnsupportedProtocol | httpx.LocalProtocolError):
            return Failed(
                ConfigError(f"the request to {self.root} cannot be sent: {type(error).__name__}"), again=False
            )
        elif isinstance(error, httpx.TransportError):
            why = str(error) or type(error).__name__
            told = ConnectionFailed(f"cannot reach {self.root}: {why}; does the service run there? (COE_URL, base_url)")
        else:
            return Failed(InvalidAnswer(f"the answer of {self.root} is unreadable: {shown(error)}"), again=False)
        told.__cause__ = error
        return Failed(told, again=True)

    def no_stream(self, headers: Mapping[str, str]) -> Failed | None:
        """Why a successful answer is no stream."""
        kind = headers.get("content-type", "")
        if kind.partition(";")[0].strip().lower() == "text/event-stream":
            return None
        message = f"asked {self.root} for a stream, got content-type {kind!r} instead of text/event-stream"
        return Failed(InvalidAnswer(message, request_id=request_id_of(headers)), again=False)


def settings(
    base_url: str | None,
    api_key: str | None,
    timeout: float,
    max_retries: int,
    backoff: Backoff,
    clocks: tuple[Callable[[], float], Callable[[], float], Callable[[], float]],
) -> Settings:
    """Checked settings; COE_URL and COE_API_KEY stand in for what is not given. Raises ConfigError."""
    if max_retries < 0:
        raise ConfigError(f"max_retries: must be a number from 0; got {max_retries!r}")
    return Settings(
        root(base_url or os.environ.get("COE_URL") or DEFAULT_URL),
        checked_key(api_key or os.environ.get("COE_API_KEY") or ""),
        seconds(timeout),
        max_retries,
        backoff,
        *clocks,
    )


def request_id_of(headers: Mapping[str, str]) -> str | None:
    """Under which the service's log has the request."""
    return headers.get("x-coe-request-id") or headers.get("x-request-id")


def root(url: str) -> str:
    """The URL without a slash or /v1 at its end. Raises ConfigError."""
    try:
        parts = urlsplit(url.strip())
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        parts, usable = urlsplit(""), False
    if not usable:
        raise ConfigError(f"base_url: must be like {DEFAULT_URL} or https://coe.example.org/v1; got {shown(url)!r}")
    if parts.username is not None or parts.query or parts.fragment:
        raise ConfigError("base_url: must have no user, query or fragment; the key goes into api_key or COE_API_KEY")
    return parts._replace(path=parts.path.rstrip("/").removesuffix("/v1").rstrip("/")).geturl()


def checked_key(key: str) -> str:
    """The key, which no message repeats. Raises ConfigError."""
    key = key.strip()
    if not key:
        raise ConfigError("no API key: give api_key, or set COE_API_KEY to the key that `coe serve` printed")
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise ConfigError("api_key: has characters that no key has: spaces, line ends or letters outside of ASCII")
    return key


def seconds(timeout: float) -> float:
    """Raises ConfigError for what is no time."""
    if not timeout > 0:  # NaN neither
        raise ConfigError(f"timeout: must be seconds over 0; got {timeout!r}")
    return float(timeout)


def timeouts(left: float) -> httpx.Timeout:
    """For one try: nothing waits longer than is left."""
    return httpx.Timeout(None if math.isinf(left) else left, connect=min(left, CONNECT_S))
