"""/v1/files: uploads for batches, and what batches have made. A body is never in memory as a whole."""

import asyncio
import errno
from collections.abc import AsyncIterator
from contextlib import ExitStack
from pathlib import Path as FilePath
from typing import Any

import orjson
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from orchestrator.batch.files import File, Files, OverQuota, UnknownFile
from orchestrator.errors import ApiError, quote
from orchestrator.http import wire_batches as told
from orchestrator.http.guards import UPLOADS
from orchestrator.http.routes import Path

MAX_FIELD = 1024
"""Bytes of a field of a form that is no file."""
MAX_BESIDE = 256 << 10
"""Bytes of a form that are not the file's."""
PIECE = 1 << 20
"""Bytes that are written, or read, at a time."""
EXPIRY_S = (3600, 2_592_000)
"""The least and the most seconds after which a file may end, as OpenAI has them."""


class FileRoutes:
    """The methods of the paths. Another key's files are as unknown as those that are not there."""

    def __init__(self, files: Files) -> None:
        self._files = files

    def paths(self) -> tuple[Path, ...]:
        one, none = f"{UPLOADS}/{{file_id}}", ("file_not_found",)
        full = ("request_too_large", "storage_quota", "storage_full")
        return (
            Path(UPLOADS, "POST", self.upload, form=told.UploadForm, answer=told.FileAnswer, errors=full),
            Path(UPLOADS, "GET", self.list, query=told.FileQuery, answer=told.FileList, errors=none),
            Path(one, "GET", self.one, answer=told.FileAnswer, errors=none),
            Path(one, "DELETE", self.delete, answer=told.DeletedFile, errors=none),
            Path(f"{one}/content", "GET", self.content, answer=bytes, errors=none),
        )

    async def upload(self, request: Request) -> Response:
        """POST /v1/files. A form with `purpose`, which is 'batch', the `file`, and `expires_after`, if it is to end."""
        form, owner = _Form(request.headers.get("content-type", "")), _owner(request)
        try:
            with ExitStack() as stack:
                receiving, finish = await asyncio.to_thread(
                    stack.enter_context, self._files.receive(owner, lambda: form.filename, lambda: form.lasts_s)
                )
                async for piece in form.file(request):
                    await asyncio.to_thread(receiving.write, piece)
                form.check()
                file = await asyncio.to_thread(finish)
        except OverQuota as error:
            cause = "request_too_large" if error.is_file else "storage_quota"
            raise ApiError(cause, str(error), "file", headers={"connection": "close"}) from None
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            text = "there is no room on the disk of the service; tell whoever runs it"
            raise ApiError("storage_full", text, headers={"connection": "close"}) from None
        return _json(_field(file))

    async def list(self, request: Request) -> Response:
        """GET /v1/files: the newest first, or with `order=asc` the oldest."""
        query = told.query_of(request, told.FileQuery)
        found = await asyncio.to_thread(self._files.newest, _owner(request))
        found = [file for file in found if query.purpose in ("", file.purpose)]
        if query.order == "asc":
            found.reverse()
        if query.after:
            ids = [file.id for file in found]
            if query.after not in ids:
                raise ApiError("file_not_found", f"after: there is no file {quote(query.after)}", "after")
            found = found[ids.index(query.after) + 1 :]
        page = [_field(file) for file in found[: query.limit]]
        return _json(told.listed(page, len(found) > query.limit))

    async def one(self, request: Request) -> Response:
        """GET /v1/files/{file_id}"""
        return _json(_field(await self._found(request)))

    async def delete(self, request: Request) -> Response:
        """DELETE /v1/files/{file_id}. A batch that was made of it goes on."""
        file = await self._found(request)
        await asyncio.to_thread(self._files.delete, file.owner, file.id)
        return _json({"id": file.id, "object": "file", "deleted": True})

    async def content(self, request: Request) -> Response:
        """GET /v1/files/{file_id}/content"""
        file = await self._found(request)
        path = await asyncio.to_thread(self._files.content, file.owner, file.id)
        headers = {"content-length": str(file.bytes), "content-disposition": 'attachment; filename="content"'}
        return StreamingResponse(_pieces(path), headers=headers, media_type="application/octet-stream")

    async def _found(self, request: Request) -> File:
        file_id: str = request.path_params["file_id"]
        try:
            return await asyncio.to_thread(self._files.get, _owner(request), file_id)
        except UnknownFile:
            raise ApiError("file_not_found", f"there is no file {quote(file_id)}; it may have been deleted") from None


class _Form:
    """A form as it comes in. python-multipart tells what it meets; the file's bytes are handed on, the rest is kept."""

    def __init__(self, content_type: str) -> None:
        _, options = parse_options_header(content_type)
        boundary = options.get(b"boundary", b"")
        if not boundary:
            raise ApiError("malformed_request", "'Content-Type' has no boundary; send a form with a file")
        self._fields: dict[str, bytes] = {}
        self._header, self._value, self._headers = b"", b"", dict[bytes, bytes]()
        self._name: str | None = None
        self._is_file = self._has_file = self._is_whole = False
        self._out = bytearray()
        self._beside = 0
        self.filename = ""
        self.lasts_s: int | None = None
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._begin,
                    "on_header_field": self._add_header,
                    "on_header_value": self._add_value,
                    "on_header_end": self._end_header,
                    "on_headers_finished": self._end_headers,
                    "on_part_data": self._data,
                    "on_end": self._end,
                },
            )
        except FormParserError as error:
            raise _closing(f"'Content-Type' has a boundary that is not taken: {error}") from None

    async def file(self, request: Request) -> AsyncIterator[bytes]:
        """The bytes of the file, in pieces of about PIECE. Raises ApiError for what is no such form."""
        try:
            async for chunk in request.stream():
                self._beside += len(chunk)
                self._parser.write(chunk)
                if self._beside > MAX_BESIDE:
                    raise _closing(f"the form has more than {MAX_BESIDE:,} bytes beside the file, which is the limit")
                if len(self._out) >= PIECE:
                    yield self._taken()
            self._parser.finalize()
        except FormParserError as error:
            raise _closing(f"the body is no form: {error}") from None
        if not self._is_whole:
            raise _closing("the form ends before its end")
        if self._out:
            yield self._taken()

    def check(self) -> None:
        """Raises ApiError for fields that are missing or unknown."""
        if not self._has_file:
            raise ApiError("invalid_value", "file: missing; send it as the field 'file' with a file name", "file")
        purpose = self._fields.pop("purpose", b"").decode("utf-8", "replace")
        if purpose != "batch":
            raise ApiError("invalid_value", f"purpose: got {quote(purpose)}; allowed: 'batch'", "purpose")
        self.lasts_s = self._expiry()
        for name in self._fields:
            raise ApiError("unknown_parameter", f"the field {quote(name)} is not supported", name[:100])

    def _expiry(self) -> int | None:
        anchor, seconds = (self._fields.pop(f"expires_after[{name}]", None) for name in ("anchor", "seconds"))
        if anchor is None and seconds is None:
            return None
        if anchor != b"created_at":
            got = "nothing" if anchor is None else quote(anchor.decode("utf-8", "replace"))
            text = f"expires_after[anchor]: got {got}; allowed: 'created_at'"
            raise ApiError("invalid_value", text, "expires_after[anchor]")
        least, most = EXPIRY_S
        given = (seconds or b"").decode("utf-8", "replace")
        if not (given.isascii() and given.isdecimal() and least <= int(given[:9]) <= most):
            text = f"expires_after[seconds]: got {quote(given)}; allowed: {least} to {most}"
            raise ApiError("invalid_value", text, "expires_after[seconds]")
        return int(given)

    def _taken(self) -> bytes:
        piece = bytes(self._out)
        self._out.clear()
        return piece

    def _begin(self) -> None:
        self._headers, self._name, self._is_file = {}, None, False

    def _add_header(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _add_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _end_header(self) -> None:
        self._headers[self._header.lower()] = self._value
        self._header = self._value = b""

    def _end_headers(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition", b""))
        self._name = options.get(b"name", b"").decode("utf-8", "replace")
        self._is_file = self._name == "file" and b"filename" in options
        if self._is_file:
            if self._has_file:
                raise _closing("the form has more than one file")
            self._has_file = True
            name = options[b"filename"].decode("utf-8", "replace").replace("\\", "/").rpartition("/")[2]
            self.filename = "".join(c for c in name if c.isprintable())[:255] or "file"
        elif len(self._fields) >= 16:
            raise _closing("the form has too many fields")
        elif self._name in self._fields:
            raise _closing(f"the field {quote(self._name)} stands in the form twice")
        else:
            self._fields[self._name] = b""

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._is_file:
            self._out += data[start:end]
            self._beside -= end - start
            return
        assert self._name is not None
        self._fields[self._name] += data[start:end]
        if len(self._fields[self._name]) > MAX_FIELD:
            raise _closing(f"the field {quote(self._name)} has more than {MAX_FIELD} bytes")

    def _end(self) -> None:
        self._is_whole = True


def _closing(text: str) -> ApiError:
    return ApiError("malformed_request", text, headers={"connection": "close"})


async def _pieces(path: FilePath) -> AsyncIterator[bytes]:
    file = await asyncio.to_thread(path.open, "rb")
    try:
        while piece := await asyncio.to_thread(file.read, PIECE):
            yield piece
    finally:
        file.close()


def _owner(request: Request) -> str:
    lineage: str = request.state.caller.lineage
    return lineage


def _field(file: File) -> dict[str, Any]:
    return {
        "id": file.id,
        "object": "file",
        "bytes": file.bytes,
        "created_at": file.created_at,
        "filename": file.filename,
        "purpose": file.purpose,
        "status": "processed",
        **({} if file.expires_at is None else {"expires_at": file.expires_at}),
    }


def _json(content: Any) -> Response:
    return Response(orjson.dumps(content), media_type="application/json")
