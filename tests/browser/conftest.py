"""A real Chromium, and pages of the console in it. Screenshots go to artifacts/console/, which git ignores."""

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, expect, sync_playwright

from benchmarks.live import service
from orchestrator.embedded_redis import EmbeddedRedis
from tests.browser import pool
from tests.browser.console import Console
from tests.browser.pool import Pool

ARTIFACTS = Path(__file__).parents[2] / "artifacts" / "console"
REQUIRED = os.environ.get("CHROMIUM") == "required"
"""Without a browser the tests fail, else they are skipped: continuous integration must not pass over them."""
NAMES = ("chromium", "chromium-browser", "google-chrome")
QUIET = (  # it looks for nothing beyond the service; without a GPU, and as root without its sandbox
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)

PATIENCE_MS = 30_000

Open = Callable[..., Console]


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        (pytest.fail if REQUIRED else pytest.skip)("there is no Chromium; install it: apt-get install chromium")
    expect.set_options(timeout=PATIENCE_MS)  # a context's own timeout does not reach it
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=list(QUIET))
        yield browser
        browser.close()


@pytest.fixture
def visit(chromium: Browser) -> Iterator[Open]:
    """Opens the console of a service in a browser of its own; in the end nothing may have gone wrong in it unseen."""
    opened: list[Console] = []

    def visit(url: str, *, dark: bool = False, width: int = 1360, height: int = 860) -> Console:
        context = chromium.new_context(
            viewport={"width": width, "height": height},
            color_scheme="dark" if dark else "light",
            accept_downloads=True,
        )
        context.set_default_timeout(PATIENCE_MS)
        opened.append(Console(context, url))
        return opened[-1]

    yield visit
    for console in opened:
        console.context.close()
    for console in opened:
        assert console.problems == []
        assert [each for each in console.asked if not each.startswith((console.url, "blob:" + console.url))] == []


@pytest.fixture(scope="session")
def live(chromium: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pool]:
    """A service with a pool of experts, a fitted router and batches, on the fake engine."""
    folder = tmp_path_factory.mktemp("pool")
    pool.make(folder)
    with service(folder / "home", ["--fake", "--config", str(folder / "coe.yaml")], within=300) as running:
        yield Pool(running.url, running.key, pool.admin_key(folder / "home"))


@pytest.fixture(scope="session")
def batch(live: Pool) -> str:
    """The id of a batch of the admin's key that is done."""
    body = {"model": "poet", "messages": [{"role": "user", "content": "a haiku on the moon"}]}
    line = {"custom_id": "one", "method": "POST", "url": "/v1/chat/completions", "body": body}
    headers = {"Authorization": f"Bearer {live.admin}"}
    with httpx.Client(base_url=live.url, headers=headers, timeout=60, trust_env=False) as http:

        def asked(method: str, path: str, **fields: Any) -> dict[str, Any]:
            found: dict[str, Any] = http.request(method, path, **fields).raise_for_status().json()
            return found

        sent = {"file": ("requests.jsonl", json.dumps(line).encode())}
        file = asked("POST", "/v1/files", files=sent, data={"purpose": "batch"})
        wanted = {"input_file_id": file["id"], "endpoint": "/v1/chat/completions", "completion_window": "24h"}
        made = asked("POST", "/v1/batches", json=wanted)
        while made["status"] in ("validating", "in_progress", "finalizing"):
            time.sleep(0.2)
            made = asked("GET", f"/v1/batches/{made['id']}")
    assert made["status"] == "completed"
    return str(made["id"])


@pytest.fixture(scope="module")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedRedis]:
    with EmbeddedRedis(tmp_path_factory.mktemp("redis")) as redis:
        yield redis


@pytest.fixture(scope="session")
def artifacts() -> Path:
    ARTIFACTS.mkdir(parents=True, exist_ok=True)
    return ARTIFACTS
