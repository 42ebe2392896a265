"""Every view in light and dark and at phone width: accessible, and as a picture for people to look at."""

import json
import re
from pathlib import Path

import pytest
from playwright.sync_api import Locator, expect

from tests.browser.conftest import Open
from tests.browser.console import VIEWS, Console
from tests.browser.looks import LOOKS, TOO_WIDE, pictured
from tests.browser.pool import Pool

pytestmark = [pytest.mark.browser, pytest.mark.timeout(900)]
ASKED = """Please help me with the query and the join:

```sql
SELECT name FROM users WHERE age > 30;
```

Is **this** right, or do I need `GROUP BY`?"""


def settled(console: Console, view: str) -> Locator:
    """The view, once what it loads is there."""
    main = console.page.get_by_role("main")
    expect(main.locator(".empty .spin")).to_have_count(0)
    if view == "timeline":
        expect(main.get_by_role("region", name="Engine of small")).to_be_visible()
    if view == "batches":
        expect(main.get_by_role("region", name="Table of batches").get_by_role("meter").first).to_be_visible()
    return main


@pytest.fixture(params=LOOKS)
def look(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_every_view_is_accessible_fits_its_width_and_is_kept_as_a_picture(
    live: Pool, visit: Open, artifacts: Path, look: str, batch: str
) -> None:
    dark, width = LOOKS[look]
    console = visit(live.url, dark=dark, width=width)
    page = console.page
    page.goto(f"{live.url}/console/")
    expect(page.get_by_label("API key")).to_be_focused()
    wrong = {"door": pictured(console, artifacts / f"{look}-door.png")}
    console.sign_in(live.admin)
    console.is_live()
    wrong["chat-empty"] = pictured(console, artifacts / f"{look}-chat-empty.png")
    console.ask(ASKED)
    console.ask("which clause of the contract covers the liability and the lease?", "ensemble/panel")
    for view in VIEWS:
        console.open(view)
        settled(console, view)
        wrong[view] = pictured(console, artifacts / f"{look}-{view}.png")
        assert console.value(TOO_WIDE) == [], view
    console.open("batches")
    page.get_by_role("button", name=re.compile("New batch")).click()
    expect(page.get_by_role("dialog", name="New batch")).to_be_visible()
    wrong["dialog"] = pictured(console, artifacts / f"{look}-dialog.png")
    assert {view: found for view, found in wrong.items() if found} == {}


def test_the_theme_can_be_chosen_and_stays(live: Pool, visit: Open) -> None:
    console = visit(live.url, dark=True).sign_in(live.key)
    theme = "document.documentElement.dataset.theme"
    assert console.value(theme) == "dark"
    console.page.get_by_role("button", name="Theme: system").click()
    assert console.value(theme) == "light"
    console.page.reload()
    expect(console.page.get_by_role("button", name="Theme: light")).to_be_visible()
    assert console.value(theme) == "light"


def test_the_first_page_is_light(live: Pool, visit: Open, artifacts: Path) -> None:
    """How soon it can be used is in the file, and held by a wide bound; what it weighs is held."""
    console = visit(live.url)
    page = console.page
    page.goto(f"{live.url}/console/")
    expect(page.get_by_label("API key")).to_be_focused()
    page.wait_for_function("performance.getEntriesByName('usable').length > 0")
    times = console.value("""(() => {
        const [page] = performance.getEntriesByType("navigation");
        const files = performance.getEntriesByType("resource");
        return {
            usable_ms: performance.getEntriesByName("usable")[0].startTime, loaded_ms: page.loadEventEnd,
            bytes: [page, ...files].reduce((sum, each) => sum + each.encodedBodySize, 0),
            files: files.map(each => [each.name, each.encodedBodySize]),
        };
    })()""")
    (artifacts / "first-page.json").write_text(json.dumps(times, indent=2))
    assert times["usable_ms"] < 3000
    assert 0 < times["bytes"] < 300_000
