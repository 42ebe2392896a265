"""Files and batches of the mock service: kept in memory, and each line is asked of the mock as a request of its own."""

import json
from collections import deque
from collections.abc import Callable, Mapping
from email import message_from_bytes
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from coe_client.mock_wire import CREATED

if TYPE_CHECKING:
    from coe_client.testing import Reply, Request

Told = tuple[int, Any]
"""Status, and JSON or bytes."""


class MockBatches:
    """ask: answers a request that a line makes. looks: how often a batch is still under way before it has ended."""

    def __init__(self, ask: "Callable[[str, Mapping[str, Any]], tuple[int, Any]]") -> None:
        self.looks = 1
        self.errors: deque[Reply] = deque()
        self._ask = ask
        self._files: dict[str, tuple[dict[str, Any], bytes]] = {}
        self._batches: dict[str, dict[str, Any]] = {}
        self._left: dict[str, int] = {}

    def handle(self, request: "Request", url: str) -> Told | None:
        """None for a path of others."""
        parts = urlsplit(url)
        kind, *rest = parts.path.removeprefix("/v1/").split("/")
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        if kind == "files":
            return self._of_files(request, rest, query)
        return self._of_batches(request, rest, query) if kind == "batches" else None

    def _of_files(self, request: "Request", rest: list[str], query: Mapping[str, str]) -> Told:
        if not rest:
            if request.method == "POST":
                return 200, self._put(*_form(request), purpose="batch")
            rows = [row for row, _ in self._files.values() if query.get("purpose") in (None, row["purpose"])]
            return 200, _page(rows, query)
        if rest[0] not in self._files:
            return 404, _error("file_not_found", f"there is no file '{rest[0]}'")
        row, content = self._files[rest[0]]
        if request.method == "DELETE":
            del self._files[rest[0]]
            return 200, {"id": rest[0], "object": "file", "deleted": True}
        return 200, content if rest[1:] == ["content"] else row

    def _of_batches(self, request: "Request", rest: list[str], query: Mapping[str, str]) -> Told:
        if not rest:
            if request.method == "GET":
                return 200, _page([*self._batches.values()], query)
            body = request.json
            if body["input_file_id"] not in self._files:
                return 404, _error("file_not_found", f"there is no file '{body['input_file_id']}'")
            return 200, self._begin(body)
        if rest[0] not in self._batches:
            return 404, _error("batch_not_found", f"there is no batch '{rest[0]}'")
        batch = self._batches[rest[0]]
        if batch["status"] == "in_progress":
            if rest[1:] == ["cancel"]:
                batch |= {"status": "cancelled", "cancelled_at": CREATED + 1}
            elif self._left[rest[0]] > 0:
                self._left[rest[0]] -= 1
            else:
                self._end(batch)
        return 200, dict(batch)

    def _put(self, name: str, content: bytes, purpose: str) -> dict[str, Any]:
        number = len(self._files)
        while f"file-mock-{number}" in self._files:
            number += 1
        row = {"id": f"file-mock-{number}", "object": "file", "bytes": len(content), "created_at": CREATED}
        row |= {"filename": name, "purpose": purpose, "status": "processed"}
        self._files[str(row["id"])] = row, content
        return row

    def _begin(self, body: Mapping[str, Any]) -> dict[str, Any]:
        lines = _rows(self._files[body["input_file_id"]][1])
        batch = {
            "id": f"batch_mock_{len(self._batches)}",
            "object": "batch",
            "endpoint": body["endpoint"],
            "errors": None,
            "input_file_id": body["input_file_id"],
            "completion_window": "24h",
            "status": "in_progress",
            "output_file_id": None,
            "error_file_id": None,
            "created_at": CREATED,
            "expires_at": CREATED + 24 * 3600,
            "completed_at": None,
            "request_counts": {"total": len(lines), "completed": 0, "failed": 0},
            "metadata": body.get("metadata"),
            "coe": {"dry_run": bool((body.get("coe") or {}).get("dry_run")), "plan": None},
        }
        self._batches[str(batch["id"])] = batch
        self._left[str(batch["id"])] = self.looks
        return dict(batch)

    def _end(self, batch: dict[str, Any]) -> None:
        """Runs the lines, in their order."""
        lines = _rows(self._files[batch["input_file_id"]][1]) if batch["input_file_id"] in self._files else []
        written: dict[bool, list[dict[str, Any]]] = {True: [], False: []}
        for number, line in enumerate([] if batch["coe"]["dry_run"] else lines):
            status, body = self._ask(line["url"], line["body"])
            response = {"status_code": status, "request_id": "req-mock", "body": body}
            row = {"id": f"batch_req_mock{number:08x}", "custom_id": line["custom_id"], "response": response}
            written[status < 300].append({**row, "error": None})
        for name, is_ok in (("output_file_id", True), ("error_file_id", False)):
            if written[is_ok]:
                content = "".join(json.dumps(row) + "\n" for row in written[is_ok]).encode()
                batch[name] = self._put(f"{name}.jsonl", content, "batch_output")["id"]
        batch["request_counts"] |= {"completed": len(written[True]), "failed": len(written[False])}
        batch |= {"status": "completed", "completed_at": CREATED + 1}


def _form(request: "Request") -> tuple[str, bytes]:
    """Name and content of the file of a form."""
    head = f"content-type: {request.headers['content-type']}\r\n\r\n".encode()
    for part in message_from_bytes(head + request.content).get_payload():
        assert not isinstance(part, str)
        if part.get_filename() is not None:
            content = part.get_payload(decode=True)
            assert isinstance(content, bytes)
            return str(part.get_filename()), content
    raise AssertionError("an upload without a file")


def _rows(content: bytes) -> list[Any]:
    return [json.loads(line) for line in content.splitlines() if line.strip()]


def _page(rows: list[dict[str, Any]], query: Mapping[str, str]) -> dict[str, Any]:
    """The newest first."""
    rows = [dict(row) for row in rows[::-1]]
    if query.get("after"):
        rows = rows[[row["id"] for row in rows].index(query["after"]) + 1 :]
    most = int(query.get("limit", 100))
    return {"object": "list", "data": rows[:most], "has_more": len(rows) > most}


def _error(code: str, message: str) -> dict[str, Any]:
    return {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": code}}
