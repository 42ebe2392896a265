"""The console as its user has it: what he opens, writes, presses and sees."""

from typing import Any

from playwright.sync_api import BrowserContext, ConsoleMessage, Locator, Page, Request, expect

VIEWS = ("chat", "decisions", "experts", "timeline", "batches", "router", "keys")
LONGEST_MS = 60_000


class Console:
    """asked: addresses of all that the page has asked for. problems: errors that it wrote for nobody to see."""

    def __init__(self, context: BrowserContext, url: str) -> None:
        self.context, self.url = context, url
        self.asked: list[str] = []
        self.problems: list[str] = []
        self.expected: list[str] = []
        """Parts of the texts of problems that the test makes itself."""
        self.page: Page = context.new_page()
        self.page.on("console", self._said)
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.on("request", self._asked)

    def _said(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning") and not any(part in message.text for part in self.expected):
            self.problems.append(f"{message.text} {message.location.get('url', '')}")

    def _asked(self, request: Request) -> None:
        self.asked.append(request.url)

    def sign_in(self, key: str) -> "Console":
        self.page.goto(f"{self.url}/console/")
        self.page.get_by_label("API key").fill(key)
        self.page.get_by_role("button", name="Sign in").click()
        expect(self.page.get_by_role("navigation", name="Views")).to_be_visible()
        return self

    def open(self, view: str) -> "Console":
        link = self.page.get_by_role("navigation", name="Views").get_by_role("link", name=view.capitalize())
        link.click()
        expect(link).to_have_attribute("aria-current", "page")
        return self

    def ask(self, text: str, model: str = "auto") -> Locator:
        """The answer, once it is complete."""
        page = self.page
        before = page.get_by_role("article").count()
        page.get_by_label("Who answers").select_option(model)
        page.get_by_label("Your message").fill(text)
        page.get_by_role("button", name="Send").click()
        answer = page.get_by_role("article").nth(before)
        expect(answer).to_have_attribute("aria-busy", "false", timeout=LONGEST_MS)
        return answer

    def is_live(self) -> None:
        """Waits until the stream of events is there."""
        expect(self.page.get_by_role("status").get_by_text("Live", exact=True)).to_be_attached(timeout=LONGEST_MS)

    def value(self, script: str) -> Any:
        return self.page.evaluate(script)
