"""What every test in a browser watches over: its console, requests that leave, and what axe would look for."""

from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, Page

BARRIERS = (Path(__file__).parent / "barriers.js").read_text().rstrip().rstrip(";")
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


class Watched:
    """A context whose pages may neither fail in silence nor leave this machine."""

    def __init__(self, context: "BrowserContext", base: str) -> None:
        self.page: Page = context.new_page()
        self.requests: list[Any] = []
        self.complaints: list[str] = []
        self.refused = False  # a test in which the service refuses: the console repeats each refusal
        self._base = base
        context.on("request", lambda request: self.requests.append(request))  # noqa: PLW0108  Playwright marks what it is given
        self.page.on("console", lambda message: message.type in ("error", "warning") and self._heard(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("dialog", lambda dialog: dialog.accept())

    def _heard(self, text: str) -> None:
        if not (self.refused and text.startswith("Failed to load resource")):
            self.complaints.append(text)

    def check(self) -> None:
        assert not self.complaints, self.complaints
        away = [request.url for request in self.requests if not request.url.startswith((self._base, "data:", "blob:"))]
        assert not away, away
        assert self.requests


def barriers(page: "Page") -> list[str]:
    """What keeps somebody out: names, labels, ids, order, sizes of targets, contrast; and all that axe-core finds."""
    page.evaluate((files("axe_playwright_python") / "axe.min.js").read_text())
    run = "(rules) => axe.run({ exclude: ['iframe'] }, { runOnly: rules, iframes: false })"
    violations = page.evaluate(run, RULES)["violations"]
    found = [
        f"{rule['id']}: {node['html'][:200]} ({node['failureSummary']})"
        for rule in violations
        for node in rule["nodes"]
    ]
    return page.evaluate(BARRIERS) + found


def too_wide(page: "Page") -> bool:
    return page.evaluate("() => document.documentElement.scrollWidth > document.documentElement.clientWidth")
