"""Classify, attack and generate, clicked."""

import base64
import io
import re

import numpy as np
import pytest
from PIL import Image

from tests.service.browser.conftest import answers, in_hand, png, view
from tests.service.browser.watched import Watched
from tests.service.conftest import Server

expect = pytest.importorskip("playwright.sync_api", reason="needs the playwright package").expect
pytestmark = pytest.mark.browser

FIRST_VIEW = 100_000  # bytes, with what the service says of its models and the samples


def seen(page) -> np.ndarray:
    with Image.open(io.BytesIO(base64.b64decode(in_hand(page)))) as image:
        return np.asarray(image.convert("L"))


def decimals(text: str) -> list[float]:
    return [float(found) for found in re.findall(r"\d+\.\d+", text)]


def test_the_first_view_is_small(watched: Watched, base: str):
    watched.page.goto(base)
    answers(watched.page)
    watched.page.wait_for_load_state("networkidle")
    parts = ("responseBodySize", "responseHeadersSize")
    sizes = [request.sizes()[part] for request in watched.requests for part in parts if request.response()]
    assert len(sizes) > 20
    assert sum(sizes) < FIRST_VIEW
    expect(watched.page).to_have_title("Classify · Gauntlet")


def test_a_sample_is_classified_by_two_models_with_what_is_proved(page, server: Server):
    page.get_by_role("group", name="Images of the evaluation set").get_by_role("button").nth(3).click()
    expect(page.locator("#picker figcaption")).to_contain_text("number 3 of tiny")
    sent = in_hand(page)
    for place, model in (("First", "linear"), ("Second", "conv")):
        card = page.get_by_role("article", name=f"{place} model")
        expect(card.get_by_role("combobox")).to_have_value(model)
        (told,) = server.client.post("/classify", json={"model": model, "images": [sent]}).json()["predictions"]
        expect(card.locator(".answer strong")).to_have_text(told["class_name"])
        expect(card.locator(".certificate")).to_contain_text(f"Certified to L2 {told['certified_radius']:.3g}")
        expect(card.get_by_role("meter", name=told["class_name"])).to_have_js_property("value", told["probability"])


def test_an_answer_that_is_of_another_image_is_dimmed(page):
    held = []
    page.route("**/classify", lambda route: held.append(route))  # noqa: PLW0108  it wants a function of Python
    page.get_by_role("group", name="Images of the evaluation set").get_by_role("button").nth(1).click()
    stale = page.locator("#classify [aria-busy=true] .answer")
    expect(stale).to_have_count(2)
    for route in held:
        route.continue_()
    expect(stale).to_have_count(0)
    expect(page.locator("#classify .answer")).to_have_count(2)


def test_another_model_is_asked_at_once(page):
    first = answers(page)[0]
    page.get_by_label("Second model").get_by_role("combobox").select_option("linear")
    expect(page.get_by_role("article", name="Second model").locator(".answer strong")).to_have_text(first)


def test_the_smoothed_classifiers_are_certified(page):
    page.get_by_text("Certify any model by randomized smoothing").click()
    page.get_by_label("Noise σ").select_option("0.12")
    page.get_by_role("button", name="Certify both").click()
    for place in ("First", "Second"):
        expect(page.get_by_role("article", name=f"{place} model")).to_contain_text("Smoothed with σ 0.12: ")


def test_a_drawing_is_classified(page):
    page.get_by_role("tab", name="Draw").click()
    box = page.locator(".pad").bounding_box()
    page.mouse.move(box["x"] + 40, box["y"] + 40)
    page.mouse.down()
    page.mouse.move(box["x"] + 200, box["y"] + 40, steps=4)
    page.mouse.up()
    expect(page.locator("#picker figcaption")).to_contain_text("Your drawing, as the model sees it: 8 × 8, grey")
    pixels = seen(page)
    assert pixels.shape == (8, 8)
    assert pixels[1, 1:6].min() > 70
    assert pixels[3:].max() == 0
    answers(page)
    page.get_by_role("button", name="Clear").click()
    expect(page.get_by_role("article", name="First model")).to_contain_text("Choose an image.")


def test_the_keyboard_draws_too(page):
    page.get_by_role("tab", name="Samples").focus()
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("tab", name="Draw")).to_be_focused()
    page.keyboard.press("Tab")
    expect(page.get_by_role("application", name="Drawing pad")).to_be_focused()
    for key in ("ArrowUp", " ", *["ArrowRight"] * 8, " "):
        page.keyboard.press(key)
    expect(page.locator("#picker figcaption")).to_contain_text("Your drawing")
    pixels = seen(page)
    assert pixels[3:5, 4:6].min() > 0
    assert pixels[:, :3].max() == 0
    page.keyboard.press("Delete")
    expect(page.get_by_role("article", name="First model")).to_contain_text("Choose an image.")


def test_a_picture_is_decoded_by_the_service_scaled_and_inverted(page, server: Server, watched: Watched):
    page.get_by_role("tab", name="Upload").click()
    page.get_by_label("Picture").set_input_files({"name": "mine.png", "mimeType": "image/png", "buffer": png(40, 20)})
    sent = base64.b64encode(png(40, 20)).decode()
    told = server.client.post("/pictures", json={"model": "linear", "images": [sent], "resize": True}).json()
    expect(page.locator("#picker figcaption")).to_contain_text("mine.png")
    assert in_hand(page) == told["images"][0]
    before = seen(page).astype(int)
    shown = page.locator("#picker .preview img")
    plain = shown.get_attribute("src")
    page.get_by_label("Invert").check()
    expect(shown).not_to_have_attribute("src", plain)
    assert np.array_equal(before + seen(page), np.full((8, 8), 255))
    watched.refused = True
    page.get_by_label("Picture").set_input_files({"name": "no.png", "mimeType": "image/png", "buffer": b"no picture"})
    expect(page.locator("#picker > .status")).to_contain_text("not a readable PNG, JPEG or WebP image")


def test_a_generated_image_is_classified(page):
    page.get_by_role("tab", name="Generated").click()
    page.get_by_role("button", name="Draw one").click()
    expect(page.locator("#picker figcaption")).to_contain_text("Generated by gen, seed")
    answers(page)


def test_the_latent_space_is_walked(page):
    region = view(page, "Generate")
    region.get_by_role("button", name="Random image 1,").wait_for()  # nothing moves any more
    image = region.locator(".preview img")
    first = image.get_attribute("src")
    slider = region.get_by_role("slider", name="Latent 3")
    slider.focus()
    for _ in range(10):
        page.keyboard.press("ArrowRight")
    expect(image).not_to_have_attribute("src", first)
    expect(slider).to_have_value("0.5")
    chart = region.get_by_role("slider", name="Map of latents 1 and 2")
    box = chart.bounding_box()
    chart.click(position={"x": 0.75 * box["width"], "y": 0.25 * box["height"]})
    expect(chart).to_have_attribute("aria-valuetext", "across 1.5, up 1.5")
    expect(region.get_by_role("slider", name="Latent 2", exact=True)).to_have_value("1.5")
    chart.press("ArrowDown")
    expect(chart).to_have_attribute("aria-valuetext", "across 1.5, up 1.25")
    region.get_by_label("Across").select_option("Latent 4")
    expect(region.get_by_role("slider", name="Map of latents 4 and 2")).to_be_visible()


def test_a_random_image_is_taken_to_the_classifiers(page):
    region = view(page, "Generate")
    thumb = region.get_by_role("button", name="Random image 5")
    before = thumb.get_by_role("img").get_attribute("src")
    region.get_by_role("button", name="Draw at random").click()
    expect(thumb.get_by_role("img")).not_to_have_attribute("src", before)
    chosen = thumb.get_by_role("img").get_attribute("src")
    thumb.click()
    expect(region.locator(".preview img")).to_have_attribute("src", chosen)
    region.get_by_role("link", name="Classify it").click()
    expect(page.locator("#picker .preview img")).to_have_attribute("src", chosen)
    answers(page)


def test_three_clicks_lead_through_and_a_link_shows_the_same(page):
    two = page.get_by_role("combobox", name="Second model").input_value()
    region = page.get_by_role("region", name="Attack", exact=True)
    page.get_by_role("button", name="Break it").click()
    expect(region.locator(".verdict")).to_be_visible()
    page.get_by_role("button", name="See a certificate hold").click()
    expect(region.get_by_role("combobox", name="Model")).to_have_value(two)
    expect(region.locator(".verdict")).to_be_visible()
    region.get_by_role("combobox", name="Norm").select_option("linf")
    page.get_by_role("group", name="Images of the evaluation set").get_by_role("button").nth(3).click()
    expect(page).to_have_url(re.compile("#attack[?].*image=3.*norm=linf"))
    other = page.context.new_page()
    other.goto(page.url)
    shown = other.get_by_role("region", name="Attack", exact=True)
    expect(shown.get_by_role("combobox", name="Model")).to_have_value(two)
    expect(shown.get_by_role("combobox", name="Norm")).to_have_value("linf")
    expect(other.locator("#picker .preview figcaption")).to_contain_text("number 3 of tiny")
    expect(shown.locator(".verdict")).to_have_count(0)  # a link runs nothing


def test_an_attack_shows_clean_adversarial_noise_and_transfer(page, server: Server):
    region = view(page, "Attack")
    region.get_by_label("Budget eps").fill("0.25")
    region.get_by_role("button", name="Attack").click()
    expect(region.locator(".verdict")).to_contain_text("Fooled: ")
    label = region.locator("figure", has_text="Adversarial").locator("figcaption").inner_text().splitlines()[-1]
    sent = region.get_by_role("img", name="Adversarial").get_attribute("src").partition(",")[2]
    (told,) = server.client.post("/classify", json={"model": "linear", "images": [sent]}).json()["predictions"]
    assert told["class_name"] == label
    linf = decimals(region.locator("figure", has_text="Noise, amplified").inner_text())[-1]
    assert 0 < linf <= 0.26
    expect(region.get_by_role("row", name="conv")).to_contain_text("fooled")


def test_the_slider_attacks_again(page):
    region = view(page, "Attack")
    region.get_by_role("button", name="Attack").click()
    expect(region.locator(".verdict")).to_be_visible()
    region.get_by_label("Budget eps").fill("0")
    expect(region.locator(".verdict")).to_contain_text("It held")
    expect(region.get_by_text("0 (0/255)")).to_be_visible()


def test_a_minimum_norm_attack_needs_no_budget_and_parameters_are_sent(page):
    region = view(page, "Attack")
    region.get_by_role("combobox", name="Attack").select_option("ddn")
    expect(region.get_by_label("Budget eps")).to_be_disabled()
    region.get_by_text("Parameters of the attack").click()
    region.get_by_role("spinbutton", name=re.compile("^steps ")).fill("7")
    with page.expect_request("**/attack") as asked:
        region.get_by_role("button", name="Attack").click()
    sent = asked.value.post_data_json
    assert (sent["params"], sent["norm"], "eps" in sent) == ({"steps": 7}, "l2", False)
    expect(region.locator(".verdict")).to_be_visible()


def test_a_refusal_is_said_in_the_services_words(page, watched: Watched):
    watched.refused = True
    region = view(page, "Attack")
    region.get_by_text("Parameters of the attack").click()
    region.get_by_role("spinbutton", name=re.compile("^steps ")).fill("9999")
    region.get_by_role("spinbutton", name=re.compile("^restarts ")).fill("99")
    region.get_by_role("button", name="Attack").click()
    expect(region.locator(".status[data-kind=error]")).to_contain_text("POST /robustness-report")
