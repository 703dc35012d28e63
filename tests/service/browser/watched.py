"""What every test in a browser watches over: errors in its console, requests that leave, and what axe would look for."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, Page

NAMELESS = """() => {
  const shown = (e) => e.checkVisibility();
  const labelled = (e) => (e.getAttribute("aria-labelledby") || "").split(" ").map((id) => document.getElementById(id)?.textContent || "").join("");
  const name = (e) => [e.getAttribute("aria-label"), labelled(e), ...[...(e.labels || [])].map((l) => l.textContent),
    e.matches("input, select, textarea") ? "" : e.textContent, e.getAttribute("alt"), ...[...e.querySelectorAll("img")].map((i) => i.alt)].join("").trim();
  const found = [];
  for (const e of document.querySelectorAll("a, button, input, select, textarea, summary, meter, progress, iframe, section, article, fieldset, [role], [tabindex]"))
    if (shown(e) && !["tabpanel", "status", "presentation"].includes(e.getAttribute("role")) && !(e.title || name(e))) found.push(e.outerHTML.slice(0, 120));
  for (const e of document.querySelectorAll("img:not([alt])")) found.push("no alt: " + e.outerHTML.slice(0, 80));
  const ids = [...document.querySelectorAll("[id]")].map((e) => e.id);
  for (const id of new Set(ids)) if (ids.indexOf(id) !== ids.lastIndexOf(id)) found.push("id twice: " + id);
  for (const e of document.querySelectorAll("[aria-controls], [aria-describedby], [aria-labelledby], label[for]"))
    for (const a of ["aria-controls", "aria-describedby", "aria-labelledby", "for"])
      for (const id of (e.getAttribute(a) || "").split(" ").filter(Boolean)) if (!document.getElementById(id)) found.push(a + " leads nowhere: " + id);
  if ([...document.querySelectorAll("h1")].filter(shown).length !== 1) found.push("not one h1");
  for (const e of document.querySelectorAll("[tabindex]")) if (e.tabIndex > 0) found.push("tabindex above 0: " + e.outerHTML.slice(0, 80));
  for (const e of document.querySelectorAll("button, select, input, nav a")) {
    const box = (e.closest("label.tick") || e).getBoundingClientRect();
    if (shown(e) && (box.width < 24 || box.height < 24)) found.push(`small (${box.width} x ${box.height}): ` + e.outerHTML.slice(0, 80));
  }
  return found;
}"""

FAINT = """() => {
  const parse = (c) => { const [r, g, b, a = 1] = c.match(/[\\d.]+/g).map(Number); return [r, g, b, a]; };
  const light = ([r, g, b]) => { const f = (v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; return 0.2126 * f(r) + 0.7152 * f(g) + 0.0722 * f(b); };
  const ground = (e) => { for (; e; e = e.parentElement) { const c = parse(getComputedStyle(e).backgroundColor); if (c[3] === 1) return c; } return [255, 255, 255, 1]; };
  const found = [];
  for (const e of document.querySelectorAll("body *")) {
    const own = [...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
    if (!own || !e.checkVisibility() || e.matches(".unseen, .skip, option, optgroup, :disabled")) continue;
    const [a, b] = [light(parse(getComputedStyle(e).color)), light(ground(e))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) found.push(`${ratio.toFixed(2)}: ${e.tagName} ${e.textContent.trim().slice(0, 40)}`);
  }
  return found;
}"""


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
        assert not self.complaints
        away = [request.url for request in self.requests if not request.url.startswith((self._base, "data:", "blob:"))]
        assert not away
        assert self.requests


def barriers(page: "Page") -> list[str]:
    """Names, labels, ids, sizes of targets, contrast: what keeps somebody out."""
    return [*page.evaluate(NAMELESS), *page.evaluate(FAINT)]


def too_wide(page: "Page") -> bool:
    return page.evaluate("() => document.documentElement.scrollWidth > document.documentElement.clientWidth")
