"""Debian's Chromium, driven by Playwright, on the page of the common server."""

import io
import shutil
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image

from tests.service.browser.watched import Watched
from tests.service.conftest import Server

ARGUMENTS = ["--no-sandbox", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"]
PATIENCE = 600_000  # milliseconds that only a hang takes


@pytest.fixture(scope="package")
def chromium():
    api = pytest.importorskip("playwright.sync_api", reason="needs the playwright package")
    path = shutil.which("chromium")
    if path is None:
        pytest.skip("needs Chromium; on Debian: apt-get install chromium")
    api.expect.set_options(timeout=PATIENCE)
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def base(server: Server) -> str:
    return f"http://127.0.0.1:{server.port}/"


@pytest.fixture
def watched(chromium, base: str) -> Iterator[Watched]:
    """A browser that knows nothing yet; what it complained of fails the test at its end."""
    with chromium.new_context(accept_downloads=True) as context:
        context.set_default_timeout(PATIENCE)
        watched = Watched(context, base)
        yield watched
    watched.check()


@pytest.fixture
def page(watched: Watched, base: str):
    """The page, opened, with what the two models say of the first sample."""
    watched.page.goto(base)
    answers(watched.page)
    return watched.page


def answers(page) -> list[str]:
    """The classes that the two models name, once both have spoken."""
    cards = [page.get_by_role("article", name=f"{place} model") for place in ("First", "Second")]
    return [card.locator(".answer strong").inner_text() for card in cards]


def view(page, name: str):
    """The view, once it is entered by its link."""
    page.get_by_role("navigation").get_by_role("link", name=name).click()
    region = page.get_by_role("region", name=name, exact=True)
    region.get_by_role("heading", level=1).wait_for()
    return region


def in_hand(page) -> str:
    """Base64 of the image as the model sees it."""
    return page.locator("#picker .preview img").get_attribute("src").partition(",")[2]


def png(width: int, height: int) -> bytes:
    buffer = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()
