"""Reports and models, keys and refusals, and whom the page might keep out."""

import io
import json
import re
from pathlib import Path

import numpy as np
import pytest

from tests import tiny
from tests.service.browser.conftest import view
from tests.service.browser.watched import Watched, barriers, too_wide
from tests.service.conftest import LONG_REPORT, SHORT_REPORT, Server

expect = pytest.importorskip("playwright.sync_api", reason="needs the playwright package").expect
pytestmark = pytest.mark.browser

VIEWS = ("Classify", "Attack", "Generate", "Reports", "Models")
KEY = "a key for tests"
MARKUP = "<img src=x onerror=\"document.title='owned'\"><b>bold</b>"


def test_a_report_is_started_watched_opened_and_deleted(page, server: Server):
    region = view(page, "Reports")
    region.get_by_label("Images, the first").fill("10")
    for attack in ("pgd", "ddn"):
        expect(region.get_by_role("checkbox", name=attack, exact=True)).to_be_checked()
    region.get_by_label("L∞").fill("")
    region.get_by_role("button", name="Start the report").click()
    row = region.get_by_role("row", name="conv, linear on 10 of tiny").first
    expect(row).to_contain_text("succeeded")
    row.get_by_role("button", name="Open").click()
    frame = region.frame_locator("iframe")
    expect(frame.get_by_role("heading", level=1)).to_contain_text("Robustness of conv, linear")
    assert frame.locator("body").evaluate("(body) => getComputedStyle(body).marginTop") == "0px"  # its own styles hold
    with page.expect_download() as saved:
        region.get_by_role("button", name="Save the figures").click()
    figures = json.loads(saved.value.path().read_text())
    assert figures["request"]["n"] == 10
    assert [threat["norm"] for threat in figures["request"]["threats"]] == ["l2"]
    short = row.locator("code").inner_text()
    row.get_by_role("button", name="Delete").click()
    expect(region.locator("code", has_text=short)).to_have_count(0)


def test_a_script_in_a_report_does_not_run(page, watched: Watched, server: Server):
    report = server.submit(SHORT_REPORT)
    server.finished(report)
    evil = (
        "<!doctype html><title>x</title><style>p{color:rgb(1, 2, 3)}</style><p>read me"
        f"<script>parent.document.title='owned'</script>{MARKUP}"
    )
    page.route("**/html", lambda route: route.fulfill(body=evil, content_type="text/html"))
    region = view(page, "Reports")
    region.get_by_role("button", name=f"Open {report[:8]}").click()
    text = region.frame_locator("iframe").get_by_text("read me")
    expect(text).to_have_css("color", "rgb(1, 2, 3)")
    expect(page).to_have_title("Reports · Gauntlet")
    assert any("sandboxed" in complaint or "Content Security Policy" in complaint for complaint in watched.complaints)
    watched.complaints.clear()


def test_a_running_report_shows_its_progress_and_is_cancelled(page, server: Server):
    report = server.submit(LONG_REPORT)
    region = view(page, "Reports")
    expect(region.get_by_role("progressbar", name=f"Progress of {report[:8]}")).to_be_visible()
    region.get_by_role("button", name=f"Cancel {report[:8]}").click()
    expect(region.get_by_role("row", name=report[:8])).to_contain_text("cancelled")


def test_two_reports_are_compared(page, server: Server):
    ids = [server.submit({**SHORT_REPORT, "n": n, "models": ["linear"]}) for n in (8, 10)]
    for report in ids:
        server.finished(report)
    region = view(page, "Reports")
    compare = region.get_by_role("button", name="Compare the two chosen")
    expect(compare).to_be_disabled()
    for report in ids:
        region.get_by_role("checkbox", name=f"Compare {report[:8]}").check()
    compare.click()
    expect(region).to_contain_text("Measured on different images")
    row = region.get_by_role("row", name="Clean accuracy")
    rates = [server.status(report)["report"]["models"][0]["clean"]["value"] for report in ids]
    expect(row.get_by_role("cell").nth(0)).to_have_text(f"{100 * rates[0]:.1f} %")
    expect(row.get_by_role("cell").nth(1)).to_have_text(f"{100 * rates[1]:.1f} %")
    expect(page).to_have_url(re.compile("#reports[?]compare="))
    other = page.context.new_page()
    other.goto(page.url)
    expect(other.get_by_role("region", name="Reports", exact=True)).to_contain_text("Measured on different images")


def test_an_incomplete_report_is_not_sent(page):
    region = view(page, "Reports")
    for name in ("linear", "conv"):
        region.get_by_role("checkbox", name=name, exact=True).uncheck()
    region.get_by_role("button", name="Start the report").click()
    expect(region.get_by_text("Choose at least a model.")).to_be_visible()
    region.get_by_role("checkbox", name="linear", exact=True).check()
    region.get_by_label("L2").fill("much")
    region.get_by_role("button", name="Start the report").click()
    expect(region.get_by_text("Budgets of L2 are numbers above 0")).to_be_visible()


def graph(folder: Path) -> bytes:
    """An ONNX file as somebody would bring it."""
    return (tiny.linear(folder / "mine", seed=5) / "model.onnx").read_bytes()


def upload_images(region, data: bytes, name: str) -> None:
    form = region.get_by_role("form", name="Upload an evaluation set")
    form.get_by_label("Images file").set_input_files({"name": "a.npz", "mimeType": "", "buffer": data})
    form.get_by_role("textbox", name=re.compile("^Name")).fill(name)
    form.get_by_role("button", name="Upload the images").click()


def upload(page, region, data: bytes, name: str) -> None:
    region.get_by_label("ONNX file").set_input_files({"name": "a.onnx", "mimeType": "", "buffer": data})
    region = region.get_by_role("form", name="Upload a model")
    region.get_by_role("textbox", name=re.compile("^Name")).fill(name)
    region.get_by_role("button", name="Upload", exact=True).click()


def test_a_model_is_uploaded_used_and_deleted(page, tmp_path: Path):
    region = view(page, "Models")
    region.get_by_role("form", name="Upload a model").get_by_label("Class names").fill("a, b, c")
    upload(page, region, graph(tmp_path), "my-own")
    expect(region.get_by_text("my-own is taken in.")).to_be_visible()
    expect(region.get_by_role("row", name="output").get_by_role("cell").first).to_have_text("logits")
    expect(region.get_by_role("row", name=re.compile("^classes"))).to_contain_text("you said so")
    view(page, "Classify").get_by_label("Second model").get_by_role("combobox").select_option("my-own")
    expect(page.get_by_role("article", name="Second model").get_by_role("meter")).to_have_count(3)
    region = view(page, "Models")
    region.get_by_role("button", name="Delete my-own").click()
    expect(region.get_by_role("rowheader", name="my-own")).to_have_count(0)


def test_a_bad_file_and_a_taken_name_are_refused_in_words(page, watched: Watched, tmp_path: Path):
    watched.refused = True
    region = view(page, "Models")
    upload(page, region, b"no model", "bad")
    expect(region.locator("form .status[data-kind=error]")).to_contain_text("refused")
    upload(page, region, graph(tmp_path), "linear")
    expect(region.locator("form .status[data-kind=error]")).to_contain_text("taken")


def test_an_evaluation_set_is_uploaded_reported_on_and_deleted(page, server: Server):
    images = io.BytesIO()
    np.savez(images, images=np.full((6, 1, 2, 2), 128, np.uint8), labels=np.array([0, 1, 2] * 2))
    region = view(page, "Models")
    region.get_by_role("form", name="Upload an evaluation set").get_by_label("Class names").fill("a, b, c")
    upload_images(region, images.getvalue(), "my-images")
    expect(region.get_by_text("6 images of 3 classes")).to_be_visible()
    reports = view(page, "Reports")
    reports.get_by_label("Evaluation set").select_option("my-images")
    expect(reports.get_by_role("group", name="Models")).to_be_visible()
    region = view(page, "Models")
    region.get_by_role("button", name="Delete my-images").click()
    expect(region.get_by_role("rowheader", name="my-images")).to_have_count(0)
    assert server.client.get("/evalsets/my-images").status_code == 404


def test_a_view_without_an_image_shows_no_images(watched: Watched, base: str):
    watched.page.goto(f"{base}#models")
    expect(watched.page.get_by_role("heading", name="Evaluation sets")).to_be_visible()
    expect(watched.page.locator("#picker")).to_be_hidden()
    view(watched.page, "Attack")
    expect(watched.page.locator("#picker")).to_be_visible()


def test_images_that_are_none_are_refused_in_words(page, watched: Watched):
    watched.refused = True
    region = view(page, "Models")
    upload_images(region, b"no images", "bad")
    expect(region.locator("form .status[data-kind=error]")).to_contain_text("file")


def test_without_samples_and_uploads_the_rest_works(watched: Watched, base: str):
    watched.refused = True
    page = watched.page
    page.route("**/evalsets*", lambda route: route.fulfill(status=404, json={}))
    page.route(
        "**/models",
        lambda route: route.fulfill(status=405, json={}) if route.request.method == "POST" else route.fallback(),
    )
    page.goto(base)
    expect(page.get_by_text("This service has no evaluation images to show.")).to_be_visible()
    page.get_by_role("tab", name="Generated").click()
    page.get_by_role("button", name="Draw one").click()
    expect(page.get_by_role("article", name="First model").locator(".answer")).to_be_visible()
    expect(view(page, "Reports").get_by_label("Evaluation set")).to_have_value("tiny")
    region = view(page, "Models")
    upload(page, region, b"anything", "any")
    expect(region.get_by_text("This service takes no uploads.")).to_be_visible()


def test_a_service_that_is_gone_is_said_to_be(page, watched: Watched):
    watched.refused = True
    page.route("**/classify", lambda route: route.abort())
    page.get_by_role("group", name="Images of the evaluation set").get_by_role("button").nth(1).click()
    expect(page.get_by_role("article", name="First model")).to_contain_text("The service does not answer.")


def guard(route) -> None:
    """What a service with keys does with a request."""
    if route.request.headers.get("authorization") == f"Bearer {KEY}":
        route.fallback()
    else:
        error = {
            "code": "unauthorized",
            "message": "this service wants an access key",
            "details": None,
            "request_id": "x",
        }
        route.fulfill(status=401, json={"error": error})


def test_a_key_is_asked_for_kept_by_the_tab_and_sent(watched: Watched, base: str, server: Server):
    watched.refused = True
    report = server.submit(SHORT_REPORT)
    server.finished(report)
    page = watched.page
    for path in (
        "models",
        "evalsets*",
        "evalsets/**",
        "classify",
        "attacks",
        "robustness-report*",
        "robustness-report/**",
    ):
        page.route(f"{base}{path}", guard)
    page.goto(base)
    dialog = page.get_by_role("dialog", name="Access key")
    expect(dialog).to_contain_text("This service wants an access key.")
    expect(dialog.get_by_label("Key")).to_be_focused()
    dialog.get_by_label("Key").fill("wrong")
    page.keyboard.press("Enter")
    expect(dialog.get_by_label("Key")).to_have_value("")
    dialog.get_by_label("Key").fill(KEY)
    dialog.get_by_role("button", name="Use it").click()
    expect(dialog).to_be_hidden()
    expect(page.get_by_role("article", name="Second model").locator(".answer")).to_be_visible()
    region = view(page, "Reports")
    region.get_by_role("button", name=f"Open {report[:8]}").click()
    expect(region.frame_locator("iframe").get_by_role("heading", level=1)).to_be_visible()
    expect(region.get_by_role("link", name="Open in a tab")).to_have_count(0)
    page.reload()
    expect(page.get_by_role("button", name="Access key: set")).to_be_visible()
    expect(page.get_by_role("progressbar").or_(page.get_by_role("button", name=f"Open {report[:8]}"))).to_be_visible()
    assert page.evaluate("() => [localStorage.length, document.cookie, location.search]") == [0, "", ""]


def test_going_on_without_a_key_says_what_was_refused(watched: Watched, base: str):
    watched.refused = True
    page = watched.page
    page.route(f"{base}models", guard)
    page.goto(base)
    page.get_by_role("button", name="Go on without").click()
    expect(page.locator("#status")).to_have_text("This service wants an access key.")


def test_names_are_text_whatever_they_hold(watched: Watched, base: str):
    page = watched.page

    def rename(route) -> None:
        listed = route.fetch().json()
        for model in listed["models"]:
            model["dataset"] = MARKUP
            if model["kind"] == "classifier":
                model["classes"] = [f"{MARKUP}{label}" for label in range(len(model["classes"]))]
        route.fulfill(json=listed)

    page.route(f"{base}models", rename)
    page.goto(base)
    expect(page.get_by_role("article", name="First model").locator(".bars")).to_contain_text(MARKUP)
    expect(view(page, "Models").get_by_role("cell", name=MARKUP).first).to_be_visible()
    expect(page).to_have_title("Models · Gauntlet")
    assert page.locator("img[src=x], main b").count() == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1200])
def test_nobody_is_kept_out(watched: Watched, base: str, scheme: str, width: int):
    page = watched.page
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": width, "height": 844})
    page.goto(base)
    expect(page.get_by_role("article", name="Second model").locator(".answer")).to_be_visible()
    for name in VIEWS:
        region = view(page, name)
        expect(region.get_by_role("heading", level=1)).to_be_focused()
        if name == "Attack":
            region.get_by_role("button", name="Attack").click()
            expect(region.locator(".verdict")).to_be_visible()
        if name == "Generate":
            expect(region.get_by_role("button", name="Random image 1,")).to_be_visible()
        closed = region.locator("details:not([open]) > summary")
        while closed.count():
            closed.first.click()
        assert barriers(page) == [], name
        assert not too_wide(page), name


def test_the_keyboard_goes_through_in_the_order_of_the_eyes(page):
    order = []
    page.locator("body").press("Tab")
    for _ in range(12):
        order.append(page.evaluate("() => document.activeElement.textContent.trim() || document.activeElement.tagName"))
        outline = page.evaluate("() => getComputedStyle(document.activeElement).outlineStyle")
        assert outline != "none", order
        page.keyboard.press("Tab")
    steps = ["See a prediction", "Break it", "See a certificate hold"]
    assert order[:11] == ["Skip to the content", *VIEWS, "Access key", *steps, "Samples"]
    view(page, "Models")
    page.get_by_role("link", name="Skip to the content").press("Enter")
    expect(page.locator("#main")).to_be_focused()
    expect(page.get_by_role("heading", level=1)).to_have_text("Models")
