"""A real Chromium, and pages of the console in it. Screenshots go to artifacts/console/, which git ignores."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

from benchmarks.live import service
from orchestrator.embedded_redis import EmbeddedRedis
from tests.browser import pool
from tests.browser.console import Console
from tests.browser.pool import Pool

ARTIFACTS = Path(__file__).parents[2] / "artifacts" / "console"
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

Open = Callable[..., Console]


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        pytest.skip("there is no Chromium; install it: apt-get install chromium")
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
        context.set_default_timeout(30_000)
        opened.append(Console(context, url))
        return opened[-1]

    yield visit
    for console in opened:
        console.context.close()
        assert console.problems == []
        assert [each for each in console.asked if not each.startswith((console.url, "blob:" + console.url))] == []


@pytest.fixture(scope="session")
def live(chromium: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pool]:
    """A service with a pool of experts, a fitted router and batches, on the fake engine."""
    folder = tmp_path_factory.mktemp("pool")
    pool.make(folder)
    with service(folder / "home", ["--fake", "--config", str(folder / "coe.yaml")], within=300) as running:
        yield Pool(running.url, running.key, pool.admin_key(folder / "home"))


@pytest.fixture(scope="module")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedRedis]:
    with EmbeddedRedis(tmp_path_factory.mktemp("redis")) as redis:
        yield redis


@pytest.fixture(scope="session")
def artifacts() -> Path:
    ARTIFACTS.mkdir(parents=True, exist_ok=True)
    return ARTIFACTS
