"""How a page looks: as a picture for people, and to axe, which finds what keeps some of them out."""

from importlib import resources
from pathlib import Path
from typing import Any

from tests.browser.console import Console

AXE = resources.files("axe_playwright_python") / "axe.min.js"
LOOKS = {"light": (False, 1360), "dark": (True, 1360), "phone-light": (False, 390), "phone-dark": (True, 390)}
"""Name -> is it dark, and its width."""

TOO_WIDE = """[...document.querySelectorAll("html, .main, .side, .nav")]
    .filter(part => part.scrollWidth > part.clientWidth)
    .map(part => `${part.className || part.tagName}: ${part.scrollWidth} > ${part.clientWidth}`)"""
"""Parts of the frame that would have to be scrolled sideways. Each scrolls by itself, so the page alone never would."""

BELOW = """(main => main ? main.scrollHeight - main.clientHeight : 0)(document.querySelector(".main"))"""
"""Pixels of the view that do not fit the window."""


def pictured(console: Console, path: Path) -> list[str]:
    """What axe finds that is serious or worse: rule, element, why. The picture has the whole view, to its end."""
    page, size = console.page, console.page.viewport_size
    assert size is not None
    page.set_viewport_size({**size, "height": size["height"] + console.value(BELOW)})
    page.screenshot(path=path)
    page.set_viewport_size(size)
    console.value(AXE.read_text())
    found: dict[str, Any] = console.value("axe.run(document, {resultTypes: ['violations']})")
    return [
        f"{each['id']}: {node['target']} {node['failureSummary']}"
        for each in found["violations"]
        if each["impact"] in ("serious", "critical")
        for node in each["nodes"]
    ]
