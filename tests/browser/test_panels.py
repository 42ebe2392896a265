"""What opens beside, over or within the views, and what they say when something is wrong: accessible, as pictures."""

from pathlib import Path

import pytest
from playwright.sync_api import Locator, expect

from tests.browser.conftest import Open
from tests.browser.console import LONGEST_MS, Console
from tests.browser.looks import LOOKS, TOO_WIDE, pictured
from tests.browser.pool import Pool

pytestmark = [pytest.mark.browser, pytest.mark.timeout(900)]


@pytest.fixture(params=["light", "phone-dark"])  # both widths and both themes
def look(request: pytest.FixtureRequest) -> str:
    return str(request.param)


class Album:
    """Pictures of a page, and what is wrong with what they show."""

    def __init__(self, console: Console, folder: Path, look: str) -> None:
        self.console, self.folder, self.look = console, folder, look
        self.wrong: dict[str, list[str]] = {}

    def add(self, name: str, shown: Locator) -> None:
        """A picture, once `shown` is there with all that it loads."""
        expect(shown).to_be_visible(timeout=LONGEST_MS)
        expect(shown.locator(".spin")).to_have_count(0)
        found = pictured(self.console, self.folder / f"{self.look}-{name}.png")
        self.wrong[name] = found + list(self.console.value(TOO_WIDE))

    @property
    def faults(self) -> dict[str, list[str]]:
        return {name: found for name, found in self.wrong.items() if found}


@pytest.fixture
def album(live: Pool, visit: Open, artifacts: Path, look: str) -> Album:
    dark, width = LOOKS[look]
    return Album(visit(live.url, dark=dark, width=width), artifacts, look)


def test_the_door_where_a_key_is_refused(live: Pool, album: Album) -> None:
    console = album.console
    console.expected.append("status of 401")
    console.page.goto(f"{live.url}/console/")
    console.page.get_by_label("API key").fill("coe-nonsense")
    console.page.get_by_role("button", name="Sign in").click()
    album.add("door-refused", console.page.get_by_role("alert"))
    expect(console.page.get_by_role("button", name="Sign in")).to_be_focused()
    assert album.faults == {}


def test_the_chat_with_its_options_and_with_an_error(live: Pool, album: Album) -> None:
    console = album.console.sign_in(live.key)
    page = console.page
    console.expected.append("status of 400")
    page.get_by_role("button", name="More options").click()
    tokens = page.get_by_label("Tokens at most")
    album.add("chat-options", tokens)
    tokens.fill("99999999")
    answer = console.ask("please help me with the query and the join")
    album.add("chat-error", answer.get_by_role("alert"))
    assert album.faults == {}


def test_a_decision_and_a_batch_beside_their_lists(live: Pool, album: Album, batch: str) -> None:
    console = album.console.sign_in(live.admin)
    page = console.page
    console.ask("please help me with the haiku and the moon")
    console.open("decisions")
    page.get_by_role("region", name="Table of decisions").get_by_role("button").first.click()
    detail = page.get_by_role("region", name="Decision req-")
    expect(detail).to_contain_text("Chosen")
    album.add("decision", detail)
    console.open("batches")
    page.get_by_role("button", name=batch[:18]).click()
    detail = page.get_by_role("region", name=f"Batch {batch}")
    expect(detail).to_contain_text("poet")
    album.add("batch", detail)
    assert album.faults == {}


def test_the_dialogs_of_keys(live: Pool, album: Album) -> None:
    console = album.console.sign_in(live.admin).open("keys")
    page, name = console.page, f"panel {album.look}"
    page.get_by_role("button", name="New key").click()
    album.add("key-new", page.get_by_role("dialog", name="New key"))
    page.get_by_label("Name").fill(name)
    page.get_by_role("button", name="Make key").click()
    album.add("key-made", page.get_by_role("dialog", name="The new key"))
    page.get_by_role("button", name="Done").click()
    row = page.get_by_role("row").filter(has_text=name)
    row.get_by_role("button", name=name).click()
    expect(page.get_by_role("definition").filter(has_text="never")).to_be_visible()  # at any width
    album.add("key-opened", page.get_by_role("region", name="All keys"))
    rotate = row.get_by_role("button", name="Rotate")
    if rotate.is_visible():
        rotate.click()
        album.add("key-rotate", page.get_by_role("dialog", name="Rotate a key"))
        page.keyboard.press("Escape")
    row.get_by_role("button", name="Revoke").click()
    album.add("key-revoke", page.get_by_role("dialog", name="Revoke a key"))
    page.get_by_role("dialog").get_by_role("button", name="Revoke").click()
    expect(row).to_have_count(0)
    assert album.faults == {}


def test_the_banner_of_a_lost_connection(live: Pool, album: Album) -> None:
    console = album.console
    console.expected.append("ERR_FAILED")
    console.context.route("**/v1/events", lambda route: route.abort())
    console.sign_in(live.key)
    album.add("banner", console.page.get_by_text("The connection to the service is lost"))
    assert album.faults == {}
