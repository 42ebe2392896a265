"""Everything that this package raises about a request. The root is `CoeError`; nothing here holds an API key.

`CoeError`                    the root: catch it to catch all of them
  `ConfigError`               nothing was sent: a URL, key, number or request that cannot be used; also a ValueError
  `ConnectionFailed`          no answer: the service was not reached, or the connection was lost before the answer's end
    `TimedOut`                the time limit for all tries together is over
  `InvalidAnswer`             an answer came that is none of this service: not JSON, or not of the expected shape
  `BatchFailed`               a batch could not be run at all, and says why
  `StreamBroken`              a stream began and did not come to its end; it carries what had come by then
  `StatusError`               the service answered with an error
    `BadRequest`              400, 405, 413, 422: the request is wrong; `param` says where
    `AuthenticationFailed`    401: no key, or one that is not known or was revoked
    `PermissionDenied`        403: the key is known and may not do this
    `NotFound`                404: no such model, answer or path
    `Conflict`                409: it collides with another request, such as one of the same idempotency key
    `RateLimited`             429: the key has used up what it may; `retry_after` says for how long
      `Overloaded`            429 of code `overloaded`: the service as a whole has too much to do
    `ServerError`             500 and above: a fault of the service
      `Unavailable`           503: it cannot answer now and expects to later
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from coe_client.answers import Answer

MAX_SHOWN = 300
"""Characters of an unexpected body that a message repeats."""


class CoeError(Exception):
    """The root of the tree. request_id: under which the service's log has the request, if it told one."""

    def __init__(self, message: str, *, request_id: str | None = None) -> None:
        super().__init__(message)
        self.message, self.request_id = message, request_id

    def __reduce__(self) -> Any:
        # By default the class is called with `args` alone; errors must survive process pools and Ray.
        return _made_again, (type(self), self.args, self.__dict__)


def _made_again(kind: type[CoeError], args: tuple[Any, ...], state: Mapping[str, Any]) -> CoeError:
    error = kind.__new__(kind, *args)
    error.__dict__.update(state)
    return error


class ConfigError(CoeError, ValueError):
    """Nothing was sent: a URL, key, number or request that cannot be used."""


class ConnectionFailed(CoeError):
    """The service was not reached, or the connection was lost before the answer's end."""


class TimedOut(ConnectionFailed):
    """The time limit is over, all tries together."""


class InvalidAnswer(CoeError):
    """An answer that this service would not give. body: its beginning."""

    def __init__(self, message: str, *, body: str = "", request_id: str | None = None) -> None:
        super().__init__(message, request_id=request_id)
        self.body = body


class BatchFailed(CoeError):
    """A batch that could not be run at all, such as one of a file that has no lines. batch: its id."""

    def __init__(self, message: str, *, batch: str) -> None:
        super().__init__(message)
        self.batch = batch


class StreamBroken(CoeError):
    """A stream that did not come to its end.

    partial: the answer as far as it had come; its `finish_reason` is None where it was cut.
    code, type, param: of the error that the service sent in the stream; None if the connection was lost.
    body: that error as it came.
    """

    def __init__(
        self,
        message: str,
        *,
        partial: "Answer",
        error: Mapping[str, Any] | None = None,
        request_id: str | None = None,
    ) -> None:
        super().__init__(message, request_id=request_id)
        self.partial, self.body = partial, error
        fields = error or {}
        self.code, self.type, self.param = (_text(fields.get(name)) for name in ("code", "type", "param"))


class StatusError(CoeError):
    """The service answered with an error.

    status: of HTTP. code, type, param: of the error, see the table in the service's docs/api.md.
    retry_after: seconds after which trying again makes sense, if the service told. body: as it came, JSON or text.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int,
        code: str | None = None,
        type: str | None = None,
        param: str | None = None,
        retry_after: float | None = None,
        body: Any = None,
        request_id: str | None = None,
    ) -> None:
        super().__init__(message, request_id=request_id)
        self.status, self.code, self.type, self.param = status, code, type, param
        self.retry_after, self.body = retry_after, body


class BadRequest(StatusError):
    """The request is wrong."""


class AuthenticationFailed(StatusError):
    """No key, or one that is not known."""


class PermissionDenied(StatusError):
    """The key may not do this."""


class NotFound(StatusError):
    """No such model, answer or path."""


class Conflict(StatusError):
    """It collides with another request."""


class RateLimited(StatusError):
    """The key has used up what it may."""


class Overloaded(RateLimited):
    """The service as a whole has too much to do."""


class ServerError(StatusError):
    """A fault of the service."""


class Unavailable(ServerError):
    """It cannot answer now and expects to later."""


_BY_STATUS: dict[int, type[StatusError]] = {
    400: BadRequest,
    401: AuthenticationFailed,
    403: PermissionDenied,
    404: NotFound,
    405: BadRequest,
    409: Conflict,
    413: BadRequest,
    422: BadRequest,
    429: RateLimited,
    503: Unavailable,
}


def status_error(status: int, body: Any, *, retry_after: float | None, request_id: str | None) -> StatusError:
    """The error for an answer. body: parsed JSON where it was JSON, else text."""
    told = body.get("error") if isinstance(body, Mapping) else None
    fields: Mapping[str, Any] = told if isinstance(told, Mapping) else {}
    code = _text(fields.get("code"))
    kind = _BY_STATUS.get(status, ServerError if status >= 500 else StatusError)
    if kind is RateLimited and code == "overloaded":
        kind = Overloaded
    said = _text(fields.get("message")) or shown(body) or "without a word"
    message = f"{status}{f' {code}' if code else ''}: {said}"
    if 300 <= status < 400:
        message = f"{status}: the service sent a redirect, which is not followed; set base_url to where it leads"
    return kind(
        message,
        status=status,
        code=code,
        type=_text(fields.get("type")),
        param=_text(fields.get("param")),
        retry_after=retry_after,
        body=body,
        request_id=request_id,
    )


def shown(body: object) -> str:
    """The beginning of something unexpected, on one line."""
    text = " ".join(str(body).split()) if body not in (None, "") else ""
    return text if len(text) <= MAX_SHOWN else text[:MAX_SHOWN] + "..."


def _text(value: object) -> str | None:
    return None if value is None else str(value)
