"""``python -m bench.screenshots [ADDRESS]``: screenshots of the web page for README and docs, docs/page-*.png.

Needs a running service with the shipped models (`make serve`), and Debian's Chromium.
"""

import sys
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import Page, sync_playwright

CHROMIUM = "/usr/bin/chromium"
WAIT = 60_000  # milliseconds
COLOURS = 128  # of the saved palette: small files, because they are in the repository


def classify(page: Page) -> None:
    """Classify a pullover with an undefended model and a certified one."""
    page.get_by_role("group", name="Images of the evaluation set").get_by_role("button").nth(1).click()
    page.locator("#classify .answer strong", has_text="Pullover").nth(1).wait_for()


def attack(page: Page) -> None:
    """Attack the same pullover within L2 1."""
    classify(page)
    page.get_by_role("link", name="Attack", exact=True).click()
    page.get_by_role("combobox", name="Norm").select_option("l2")
    page.get_by_role("button", name="Attack").click()
    page.locator("#attack .verdict").wait_for()


VIEWS: dict[str, tuple[Any, dict[str, Any]]] = {
    "page-classify": (classify, {"color_scheme": "light", "viewport": {"width": 1100, "height": 760}}),
    "page-attack": (attack, {"color_scheme": "dark", "viewport": {"width": 1100, "height": 1200}}),
    "page-result": (attack, {"color_scheme": "light", "viewport": {"width": 1100, "height": 1200}}),
}
PARTS = {"page-result": "#attack .result"}  # the element to show, if not the whole page


def main() -> None:
    """Write the screenshots of all VIEWS."""
    address = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:3000"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        for name, (act, options) in VIEWS.items():
            page = browser.new_page(**options)
            page.set_default_timeout(WAIT)
            page.goto(address)
            page.locator("#classify .answer strong").nth(1).wait_for()
            act(page)
            page.mouse.move(0, 0)
            page.wait_for_load_state("networkidle")
            path = Path("docs") / f"{name}.png"
            (page.locator(PARTS[name]) if name in PARTS else page).screenshot(path=path)
            with Image.open(path) as shot:
                shot.convert("RGB").quantize(COLOURS).save(path, optimize=True)
        browser.close()


if __name__ == "__main__":
    main()
