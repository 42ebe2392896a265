"""What the API answers when it cannot answer: one table from cause to HTTP status, OpenAI error type and code.

`ApiError`            an answer that is an error: a cause of the table with a message for the caller
`Overloaded`          there is no room for the request in time
Everything else that can be raised on the way is a key of the table by its class, or else "internal".
"""

import errno
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from experts.registry import UnknownExpert
from orchestrator.access.quota import LimitReached
from orchestrator.ensembles import UnknownEnsemble
from orchestrator.keys import InvalidKey
from orchestrator.store import StoreUnavailable
from routers.base import NoCandidate
from routers.policies.base import Excluded
from workers.base import Failure

CLIENT_GONE = "client_gone"
"""What became of a request whose caller has left: nobody is there to be answered."""
MAX_QUOTED = 100
"""Characters of a caller's value that a message repeats."""


@dataclass(frozen=True, slots=True)
class Row:
    """One cause. `code` is what the caller reads; `retry_after` in seconds where trying again makes sense."""

    status: int
    type: str
    code: str
    meaning: str
    retry_after: int | None = None


_INVALID, _AUTH, _PERMISSION = "invalid_request_error", "authentication_error", "permission_error"
_LIMIT, _SERVER = "rate_limit_error", "server_error"

TABLE: dict[str, Row] = {
    "malformed_request": Row(400, _INVALID, "malformed_request", "The bytes are not one HTTP request, beyond doubt."),
    "invalid_json": Row(400, _INVALID, "invalid_json", "The body is not one JSON object in UTF-8."),
    "invalid_value": Row(400, _INVALID, "invalid_value", "A field is missing, of a wrong type or out of its range."),
    "unknown_parameter": Row(400, _INVALID, "unknown_parameter", "The field does not exist."),
    "unsupported_parameter": Row(400, _INVALID, "unsupported_parameter", "The field or value is not supported yet."),
    "prompt_too_long": Row(
        400, _INVALID, "context_length_exceeded", "Prompt and answer do not fit the expert's context."
    ),
    "excluded": Row(
        400,
        _INVALID,
        "no_expert_allowed",
        "Constraints of the request, or of its key, leave no expert; the message names each and whom it removed.",
    ),
    "invalid_request": Row(400, _INVALID, "invalid_request", "The expert cannot serve what was asked."),
    "over_limit": Row(
        400, _INVALID, "request_over_limit", "The request may use more than a limit of its key allows at all."
    ),
    "storage_quota": Row(400, _INVALID, "storage_quota_exceeded", "The files of the key, or of all, are over a quota."),
    "missing_api_key": Row(401, _AUTH, "missing_api_key", "No `Authorization: Bearer <key>` header."),
    "invalid_api_key": Row(
        401, _AUTH, "invalid_api_key", "The key is not known, was revoked or disabled, or has expired."
    ),
    "admin_only": Row(403, _PERMISSION, "admin_only", "The path is for keys with the scope `admin`."),
    "key_not_found": Row(404, _INVALID, "key_not_found", "No API key has this id."),
    "not_found": Row(404, _INVALID, "not_found", "No such path."),
    "model_not_found": Row(404, _INVALID, "model_not_found", "No such expert or ensemble."),
    "answer_not_found": Row(404, _INVALID, "answer_not_found", "No answer is known by this id, or it was long ago."),
    "file_not_found": Row(404, _INVALID, "file_not_found", "This key has no such file."),
    "batch_not_found": Row(404, _INVALID, "batch_not_found", "This key has no such batch."),
    "method_not_allowed": Row(405, _INVALID, "method_not_allowed", "The path has other methods, see `Allow`."),
    "request_timeout": Row(408, _INVALID, "request_timeout", "The request did not arrive in time."),
    "idempotency_running": Row(
        409, _INVALID, "idempotency_running", "The request with this `Idempotency-Key` is still running."
    ),
    "idempotency_lost": Row(
        409, _INVALID, "idempotency_lost", "The request was executed; its answer was too large to be kept."
    ),
    "batch_cancelled": Row(
        409, _INVALID, "batch_cancelled", "In an error file: the batch was cancelled before the line was run."
    ),
    "request_too_large": Row(413, _INVALID, "request_too_large", "The body is over the limit."),
    "path_too_long": Row(414, _INVALID, "path_too_long", "Path and query are over the limit."),
    "unsupported_media_type": Row(
        415, _INVALID, "unsupported_media_type", "The body is of a type, charset or encoding that is not read."
    ),
    "configuration": Row(
        422, _INVALID, "invalid_configuration", "The service's configuration file cannot be used; nothing has changed."
    ),
    "idempotency_mismatch": Row(
        422, _INVALID, "idempotency_mismatch", "The `Idempotency-Key` was used with another path or body."
    ),
    "requests_per_minute_exceeded": Row(
        429,
        _LIMIT,
        "requests_per_minute_exceeded",
        "The key's limit of requests per minute is reached.",
        retry_after=60,
    ),
    "requests_per_day_exceeded": Row(
        429, _LIMIT, "requests_per_day_exceeded", "The key's limit of requests per day is reached.", retry_after=3600
    ),
    "tokens_per_minute_exceeded": Row(
        429, _LIMIT, "tokens_per_minute_exceeded", "The key's limit of tokens per minute is reached.", retry_after=60
    ),
    "tokens_per_day_exceeded": Row(
        429, _LIMIT, "tokens_per_day_exceeded", "The key's limit of tokens per day is reached.", retry_after=3600
    ),
    "usd_per_minute_exceeded": Row(
        429, _LIMIT, "usd_per_minute_exceeded", "The key's limit of US dollars per minute is reached.", retry_after=60
    ),
    "usd_per_day_exceeded": Row(
        429, _LIMIT, "usd_per_day_exceeded", "The key's limit of US dollars per day is reached.", retry_after=3600
    ),
    "concurrent_exceeded": Row(
        429, _LIMIT, "concurrent_exceeded", "The key's limit of requests at a time is reached.", retry_after=1
    ),
    "overloaded": Row(
        429,
        _LIMIT,
        "overloaded",
        "There is no room for the request in time; with `swap.strict` also where others wait for other experts.",
        retry_after=1,
    ),
    "too_many_batches": Row(
        429, _LIMIT, "too_many_batches", "As many batches of the key are under way as are allowed.", retry_after=60
    ),
    "too_many_connections": Row(429, _LIMIT, "too_many_connections", "Too many connections are open.", retry_after=1),
    "headers_too_large": Row(431, _INVALID, "headers_too_large", "Number or size of the headers is over the limit."),
    "internal": Row(500, _SERVER, "internal_error", "A fault of the service; the log has it under the request id."),
    "fatal_line": Row(
        500, _SERVER, "fatal_line", "In an error file: what runs the line goes down of it, each time; it was given up."
    ),
    "expert_unavailable": Row(
        503, _SERVER, "expert_unavailable", "This expert cannot answer now; others can.", retry_after=30
    ),
    "no_expert": Row(503, _SERVER, "no_expert", "No expert is left to choose from.", retry_after=30),
    "engine_died": Row(
        503, _SERVER, "engine_died", "The engine went down under the request; it is starting again.", retry_after=10
    ),
    "engine_starting": Row(503, _SERVER, "engine_starting", "The engine is not up yet.", retry_after=5),
    "store_unavailable": Row(
        503, _SERVER, "store_unavailable", "The store of keys and limits (Redis) is unreachable.", retry_after=5
    ),
    "batch_expired": Row(504, _SERVER, "batch_expired", "In an error file: the batch expired before the line was run."),
    "storage_full": Row(507, _SERVER, "storage_full", "There is no room on the service's disk."),
    "deadline": Row(504, _SERVER, "deadline_exceeded", "The answer was not ready within the time limit."),
}
CALLERS_FAULTS = frozenset((CLIENT_GONE, *(cause for cause, row in TABLE.items() if row.status < 500)))
"""Causes, and what became of a request, that are no fault of the service."""


class Overloaded(RuntimeError):
    """There is no room for the request in time; nothing was started. retry_after: seconds after which there may be."""

    def __init__(self, message: str, retry_after: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after = max(1, math.ceil(retry_after))


_PRIVATE = ("internal", "store_unavailable")
"""Causes whose message is for the log alone: it may hold addresses and other internals."""

Told = Callable[["ApiError", Exception], "ApiError"]
"""(what is answered, what was raised) -> the first, once it is counted and logged."""

CAUSES: dict[type[Exception], str] = {  # a class before the one that it is made from
    Excluded: "excluded",
    NoCandidate: "no_expert",
    InvalidKey: "invalid_api_key",
    StoreUnavailable: "store_unavailable",
    TimeoutError: "deadline",
}


class ApiError(Exception):
    """An answer that is an error. cause: a key of TABLE; param: the field that it is about, e.g. messages[0].role."""

    def __init__(
        self, cause: str, message: str, param: str | None = None, headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.cause, self.message, self.param = cause, message, param
        self.row = TABLE[cause]
        self.headers = dict(headers or {})
        if self.row.retry_after is not None:
            self.headers.setdefault("retry-after", str(self.row.retry_after))

    def body(self, request_id: str) -> dict[str, Any]:
        """The OpenAI error object. Of a fault inside it tells the kind and the request id; the log has the rest."""
        message = self.row.meaning if self.cause in _PRIVATE else self.message
        if self.row.status >= 500:
            message = f"{message.rstrip('.')} (request {request_id})"
        return {"error": {"message": message, "type": self.row.type, "param": self.param, "code": self.row.code}}


def from_failure(failure: Failure) -> ApiError:
    """The error for a worker's failure."""
    return ApiError(failure.code, failure.message)


def from_exception(error: Exception) -> ApiError:
    """The error for anything raised on the way: itself, a cause by its class, or else internal."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, UnknownExpert | UnknownEnsemble):
        return ApiError("model_not_found", f"{error}; 'auto' lets the router choose", param="model")
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return ApiError("storage_full", "there is no room on the disk of the service; tell whoever runs it")
    if isinstance(error, LimitReached):
        return ApiError(error.cause, str(error), headers=error.headers)
    if isinstance(error, Overloaded):
        return ApiError("overloaded", str(error), headers={"retry-after": str(error.retry_after)})
    for kind, cause in CAUSES.items():
        if isinstance(error, kind):
            return ApiError(cause, str(error) or TABLE[cause].meaning)
    return ApiError("internal", f"{type(error).__name__}: {error}")


def quote(value: object) -> str:
    """A caller's value for a message: never more than MAX_QUOTED characters of it."""
    text = repr(value[: MAX_QUOTED + 1] if isinstance(value, str | bytes | list) else value)
    return text if len(text) <= MAX_QUOTED else text[:MAX_QUOTED] + "..."
