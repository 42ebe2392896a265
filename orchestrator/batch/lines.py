"""The lines of a batch's input: JSON Lines as OpenAI has them, read one by one, however large the file is.

    {"custom_id": "any", "method": "POST", "url": "/v1/chat/completions", "body": {...}}

A line that cannot be run is told, with its number and why, and hinders no other line. `UnreadableFile` is raised only
where there is no line to speak of.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import BinaryIO, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from experts.registry import did_you_mean
from orchestrator.errors import ApiError, quote
from orchestrator.http.embeddings import EmbeddingRequest, parse_embedding
from orchestrator.http.reading import json_object, parse_object
from orchestrator.http.wire import ChatRequest, Generation, Limits
from orchestrator.http.wire_coe import Names
from orchestrator.http.wire_completions import CompletionRequest
from orchestrator.http.wire_responses import ResponseRequest

Endpoint = Literal["/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/embeddings"]
ENDPOINTS: tuple[Endpoint, ...] = get_args(Endpoint)
BODIES: Mapping[Endpoint, type[Generation]] = {
    "/v1/chat/completions": ChatRequest,
    "/v1/completions": CompletionRequest,
    "/v1/responses": ResponseRequest,
}
FIELDS = ("custom_id", "method", "url", "body")
MAX_ID = 512
ENVELOPE = 4096
"""Bytes of a line beside its body, at most."""

_BOM = b"\xef\xbb\xbf"
_FOREIGN = (b"\xff\xfe", b"\xfe\xff", b"\x1f\x8b", b"PK\x03\x04")
"""How UTF-16 and packed files begin."""


class UnreadableFile(Exception):
    """The input as a whole cannot be run; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Raw:
    """A line that holds something. number: from 1, as an editor counts; offset, length: of its bytes in the file,
    without what ends it; data: None for a line over the limit."""

    number: int
    offset: int
    length: int
    data: bytes | None


@dataclass(frozen=True, slots=True)
class Line:
    """A line that can be run."""

    custom_id: str
    body: Generation | EmbeddingRequest


def read(file: BinaryIO, most_bytes: int, start_at: int = 0, end_at: int | None = None) -> Iterator[Raw]:
    """The lines that are not blank. Never more than one of them is in memory. Raises UnreadableFile.

    start_at, end_at: where a line begins and where one ends, of a file of which a piece is read; numbers are those in
    the piece.
    """
    file.seek(start_at)
    number, offset = 0, start_at
    while (end_at is None or offset < end_at) and (data := file.readline(most_bytes + 3)):
        number += 1
        start, whole = offset, len(data)
        while not data.endswith(b"\n") and len(data) > most_bytes and (more := file.readline(1 << 20)):
            whole += len(more)  # it is too long: its end is all that matters
            if more.endswith(b"\n"):
                break
        offset += whole
        if start == 0:
            if data.startswith(_FOREIGN):
                raise UnreadableFile("the file is packed, or UTF-16; upload it as plain text in UTF-8")
            if data.startswith(_BOM):
                data, start = data[len(_BOM) :], start + len(_BOM)
        data = data.rstrip(b"\r\n")
        if len(data) > most_bytes:
            yield Raw(number, start, whole, None)
        elif data.strip():
            yield Raw(number, start, len(data), data)


def checked(raw: Raw, endpoint: Endpoint, limits: Limits, names: Names) -> Line:
    """Raises ApiError, as the endpoint itself would."""
    if raw.data is None:
        most = limits.body_bytes + ENVELOPE
        raise ApiError("request_too_large", f"the line has {raw.length:,} bytes; the limit is {most:,}")
    data = _object(raw.data)
    if missing := [field for field in FIELDS if field not in data]:
        raise ApiError("invalid_value", f"missing: {', '.join(missing)}; a line has {', '.join(FIELDS)}", missing[0])
    for field in data:
        if field not in FIELDS:
            hint = did_you_mean(field, FIELDS)
            raise ApiError("unknown_parameter", f"unknown field {quote(field)}{hint}", field[:100])
    custom_id, method, url, body = (data[field] for field in FIELDS)
    if not isinstance(custom_id, str) or not 0 < len(custom_id) <= MAX_ID:
        text = f"custom_id: must be a string of 1 to {MAX_ID} characters; got {quote(custom_id)}"
        raise ApiError("invalid_value", text, "custom_id")
    if method != "POST":
        raise ApiError("invalid_value", f"method: must be 'POST'; got {quote(method)}", "method")
    if url != endpoint:
        raise ApiError("invalid_value", f"url: must be {endpoint!r}, the batch's endpoint; got {quote(url)}", "url")
    if not isinstance(body, dict):
        raise ApiError("invalid_value", f"body: must be a JSON object; got {quote(body)}", "body")
    if endpoint == "/v1/embeddings":
        return Line(custom_id, parse_embedding(body))
    request = parse_object(body, BODIES[endpoint], limits, names)
    if request.stream:
        text = "stream: the answers of a batch are whole; leave it out"
        raise ApiError("unsupported_parameter", text, "stream")
    return Line(custom_id, request)


def custom_id_of(data: bytes | None) -> str | None:
    """That of a line, as far as it can be told whose line it is."""
    try:
        found = _object(data or b"").get("custom_id")
    except ApiError:
        return None
    return found if isinstance(found, str) and len(found) <= MAX_ID else None


def _object(data: bytes) -> dict[str, object]:
    try:
        return json_object(data)
    except ApiError as error:
        raise ApiError(error.cause, error.message.replace("the body", "the line", 1)) from None


# Ids that occur twice


def digest(custom_id: str) -> int:
    """64 bits of the id: a million ids are 8 MB of them."""
    return int.from_bytes(blake2b(custom_id.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


def repeated(digests: NDArray[np.uint64]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Positions of those that stand at an earlier position too, in order, and where each stands first: (m,) both."""
    order = np.argsort(digests, kind="stable")
    ranked = digests[order]
    is_first = np.ones(len(ranked), np.bool_)
    is_first[1:] = ranked[1:] != ranked[:-1]
    again = np.flatnonzero(~is_first)
    first = np.flatnonzero(is_first)[np.cumsum(is_first)[again] - 1]
    positions = order[again]
    in_order = np.argsort(positions)
    return positions[in_order], order[first][in_order]
