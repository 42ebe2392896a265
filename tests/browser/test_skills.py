"""What a skill router says of a prompt, beside the answer: by the numbers that came with it."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Locator, expect

from orchestrator.embedded_redis import EmbeddedRedis
from orchestrator.feed import Feed
from orchestrator.store import Store
from tests.browser.conftest import Open
from tests.orchestrator.parts import LIMITS, Service
from tests.orchestrator.served import in_background
from workers.base import WorkerStats

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]


async def idle() -> dict[str, WorkerStats | str]:
    """The workers: there is nothing to see."""
    return {}


@pytest.fixture
def skilled(redis_server: EmbeddedRedis) -> Iterator[tuple[str, str]]:
    """Address and key of a service whose router tells skills."""

    async def start() -> Service:
        return await Service.start(Store(redis_server.url, timeout=30), LIMITS, feed=Feed(idle), console=True)

    with in_background(start) as (url, service):
        yield url, service.key


def test_the_skills_of_a_decision_are_shown_at_once_and_later(skilled: tuple[str, str], visit: Open) -> None:
    url, key = skilled
    console = visit(url).sign_in(key)
    expect(console.ask("some sql please")).to_contain_text("sql heard: some sql please")
    page = console.page
    skills(page.get_by_role("complementary", name="Why this expert"))
    console.open("decisions")
    page.get_by_role("region", name="Table of decisions").get_by_role("button").first.click()
    skills(page.get_by_role("region", name="Decision req-"))


def skills(shown: Locator) -> None:
    """Those of `KeywordRouter` are shown."""
    expect(shown).to_contain_text("Skills, in points for sql")
    expect(shown).to_contain_text("joins +4.3")
    expect(shown).to_contain_text("'the' \N{MINUS SIGN}1.5")
