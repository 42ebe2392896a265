"""Files and batches as requests: what each method of `Coe.files` and `Coe.batches` sends. No I/O. See calls.py."""

import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from os import PathLike, fspath
from pathlib import Path
from typing import Any, BinaryIO, Literal, Unpack, get_args
from urllib.parse import quote

from coe_client import calls
from coe_client.batch_answers import Batch, DeletedFile, File
from coe_client.calls import Call, Form
from coe_client.errors import ConfigError
from coe_client.options import CallFields

Endpoint = Literal["/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/embeddings"]
CHAT: Endpoint = "/v1/chat/completions"
Requests = Iterable[str | Sequence[Any] | Mapping[str, Any]]
"""What the endpoint asks: a text (of chats also messages), or a dict with that and more fields, or a line as it is."""
Source = str | PathLike[str] | bytes | Requests

_FIRST = {CHAT: "messages", "/v1/completions": "prompt", "/v1/responses": "input", "/v1/embeddings": "input"}
_BUILD: Mapping[str, Callable[..., Call[Any]]] = {
    CHAT: calls.chat,
    "/v1/completions": calls.completions,
    "/v1/responses": calls.responses,
    "/v1/embeddings": calls.embeddings,
}
_NOT_OF_A_LINE = ("timeout", "idempotency_key", "extra_headers")


# Files


def upload(
    source: Source,
    *,
    name: str | None = None,
    endpoint: Endpoint = CHAT,
    defaults: Mapping[str, Any] | None = None,
    **fields: Unpack[CallFields],
) -> Call[File]:
    """Uploads a batch's input: a path, the bytes of JSON Lines, or requests, which are written as lines on the way.

    A request is what the endpoint asks, such as a string or messages; a dict with it, with more fields and with a
    `custom_id`, which is else its number from 0; or a dict with a `body`, which is a line as it is. defaults: fields
    that all requests have in common; what one says itself goes before them.
    """
    path = Path(fspath(source)) if isinstance(source, str | PathLike) else None
    form_source = path or (source if isinstance(source, bytes) else lines(source, endpoint, defaults or {}))  # type: ignore[arg-type]
    form = Form({"purpose": "batch"}, name or (path.name if path else "requests.jsonl"), form_source)
    return Call(
        "POST", "/v1/files", calls._as(File), headers=fields.get("extra_headers", {}), timeout=fields.get("timeout"),
        form=form,
    )  # fmt: skip


def files(
    *, purpose: str | None = None, after: str | None = None, limit: int | None = None, **fields: Unpack[CallFields]
) -> Call[tuple[File, ...]]:
    """The key's files, the newest first. after: the last one of the page before; limit: of a page."""
    return calls._get(
        calls.with_query("/v1/files", purpose=purpose, after=after, limit=limit), fields, calls._all_as(File)
    )


def file(file: File | str, **fields: Unpack[CallFields]) -> Call[File]:
    """One of them."""
    return calls._get(_file(file), fields, calls._as(File))


def delete_file(file: File | str, **fields: Unpack[CallFields]) -> Call[DeletedFile]:
    """Deletes a file. A batch that was made of it goes on."""
    headers, timeout = fields.get("extra_headers", {}), fields.get("timeout")
    return Call("DELETE", _file(file), calls._as(DeletedFile), headers=headers, timeout=timeout)


def file_content(file: File | str, sink: BinaryIO, **fields: Unpack[CallFields]) -> Call[None]:
    headers, timeout = fields.get("extra_headers", {}), fields.get("timeout")
    return Call("GET", f"{_file(file)}/content", lambda *_: None, headers=headers, timeout=timeout, sink=sink)


# Batches


def create(
    input: File | str,
    *,
    endpoint: Endpoint = CHAT,
    metadata: Mapping[str, str] | None = None,
    dry_run: bool = False,
    **fields: Unpack[CallFields],
) -> Call[Batch]:
    """Makes a batch of an uploaded file. dry_run: it ends when it is planned, and `plan` says what it would take."""
    body: dict[str, Any] = {"input_file_id": _id(input), "endpoint": endpoint, "completion_window": "24h"}
    if metadata is not None:
        body["metadata"] = dict(metadata)
    if dry_run:
        body["coe"] = {"dry_run": True}
    return _post("/v1/batches", {**body, **fields.get("extra_body", {})}, fields)


def batches(
    *, after: str | None = None, limit: int | None = None, **fields: Unpack[CallFields]
) -> Call[tuple[Batch, ...]]:
    """The key's batches, the newest first. after: the last one of the page before; limit: of a page."""
    return calls._get(calls.with_query("/v1/batches", after=after, limit=limit), fields, calls._all_as(Batch))


def batch(batch: Batch | str, **fields: Unpack[CallFields]) -> Call[Batch]:
    """How far a batch is."""
    return calls._get(_batch(batch), fields, calls._as(Batch))


def cancel(batch: Batch | str, **fields: Unpack[CallFields]) -> Call[Batch]:
    """Cancels a batch. What is done by then is in its files; one that has ended stays as it is."""
    return _post(f"{_batch(batch)}/cancel", None, fields)


# Lines


def lines(requests: Requests, endpoint: Endpoint, defaults: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The lines of a batch's input. Raises ConfigError for one that is none or has the `custom_id` of another."""
    if endpoint not in _BUILD:
        raise ConfigError(f"endpoint: must be one of {', '.join(get_args(Endpoint))}; got {endpoint!r}")
    seen: set[str] = set()
    for number, one in enumerate(requests):
        made = _line(one, number, endpoint, defaults)
        if made["custom_id"] in seen:
            raise ConfigError(f"request {number}: an earlier one has the custom_id {made['custom_id']!r} too")
        seen.add(made["custom_id"])
        yield made


def _line(one: Any, number: int, endpoint: Endpoint, defaults: Mapping[str, Any]) -> dict[str, Any]:
    if isinstance(one, Mapping) and "body" in one:
        return {"custom_id": str(number), "method": "POST", "url": endpoint, **one}
    first = _FIRST[endpoint]
    fields = {**defaults, **(one if isinstance(one, Mapping) else {first: one})}
    custom_id, asked = fields.pop("custom_id", str(number)), fields.pop(first, None)
    if not isinstance(asked, str | Sequence):
        raise ConfigError(f"request {number}: '{first}' must be a string or a list; got {asked!r}")
    if of_all := [name for name in _NOT_OF_A_LINE if name in fields]:
        raise ConfigError(f"request {number}: {of_all[0]} is not of one line, but of a call")
    body = _BUILD[endpoint](asked, **fields).body
    return {"custom_id": custom_id, "method": "POST", "url": endpoint, "body": body}


# Parts


def _post(path: str, body: Mapping[str, Any] | None, fields: CallFields) -> Call[Batch]:
    key = fields.get("idempotency_key") or uuid.uuid4().hex
    headers = {"idempotency-key": key, **fields.get("extra_headers", {})}
    return Call("POST", path, calls._as(Batch), body, headers, fields.get("timeout"))


def _id(one: File | Batch | str) -> str:
    return one if isinstance(one, str) else one.id


def _file(file: File | str) -> str:
    return f"/v1/files/{quote(_id(file), safe='')}"


def _batch(batch: Batch | str) -> str:
    return f"/v1/batches/{quote(_id(batch), safe='')}"
