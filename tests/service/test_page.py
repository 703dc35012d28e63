"""The page's files: small, complete, loading nothing from elsewhere, under policies that allow no more than needed."""

import re
from pathlib import Path

import httpx
import pytest

from service.web.page import FILES

STATIC = Path(str(FILES.directory))
NAMES = sorted(path.name for path in STATIC.iterdir())
FIRST_VIEW = 50_000  # bytes, uncompressed: as much again is left for models and samples
SINKS = re.compile(r"innerHTML|outerHTML|insertAdjacentHTML|createContextualFragment|DOMParser|\beval\b|new Function")


def policy(answer: httpx.Response) -> dict[str, list[str]]:
    header = answer.headers["content-security-policy"]
    return {name: values for name, *values in (directive.split() for directive in header.split("; "))}


def loaded(name: str) -> set[str]:
    """Modules that a module imports as it starts, and those that they import."""
    found = set(re.findall(r'from "\./([\w.]+)"', (STATIC / name).read_text()))
    return found.union(*(loaded(one) for one in found))


def test_the_policy_allows_nothing_inline_and_nothing_from_elsewhere(client: httpx.Client):
    rules = policy(client.get("/"))
    assert rules["default-src"] == rules["base-uri"] == rules["form-action"] == rules["frame-ancestors"] == ["'none'"]
    assert rules["script-src"] == rules["style-src"] == rules["connect-src"] == rules["frame-src"] == ["'self'"]
    assert rules["img-src"] == ["'self'", "data:"]


def test_the_frame_of_a_report_runs_no_script_and_reaches_no_network(client: httpx.Client):
    rules = policy(client.get("/static/report.html"))
    assert rules.pop("frame-ancestors") == ["'self'"]
    assert rules == {
        "default-src": ["'none'"],
        "img-src": ["data:"],
        "style-src": ["'unsafe-inline'"],
        "base-uri": ["'none'"],
        "form-action": ["'none'"],
    }


def test_every_file_is_served_and_asked_for_anew(client: httpx.Client):
    media = {".html": "text/html", ".css": "text/css", ".js": "javascript", ".svg": "image/svg+xml"}
    for name in NAMES:
        answer = client.get(f"/static/{name}")
        assert answer.content == (STATIC / name).read_bytes()
        assert media[Path(name).suffix] in answer.headers["content-type"]
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-cache"
        again = client.get(f"/static/{name}", headers={"If-None-Match": answer.headers["etag"]})
        assert again.status_code == 304


@pytest.mark.parametrize("name", ["nothing.js", "..%2fpage.py", "%2e%2e", ".", "%00", "x" * 300])
def test_nothing_else_is(client: httpx.Client, name: str):
    answer = client.get(f"/static/{name}")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")


def test_every_link_leads_somewhere(client: httpx.Client):
    html = (STATIC / "index.html").read_text()
    links = set(re.findall(r'(?:href|src)="([^"#]+)"', html))
    assert "openapi.json" in links
    for link in links:
        assert client.get(f"/{link}").status_code == 200, link
    for anchor in re.findall(r'href="#(\w+)"', html):
        assert f'id="{anchor}"' in html
    for name in NAMES:
        if name.endswith(".js"):
            assert loaded(name) <= set(NAMES)


def test_no_file_names_another_host_or_parses_what_it_is_told():
    for name in NAMES:
        text = (STATIC / name).read_text().replace('xmlns="http://www.w3.org/2000/svg"', "")
        assert not re.search(r"https?:|//\w+\.\w", text), name
        assert not SINKS.search(text), name
        assert text.count("document.write") + text.count("contentDocument.write") == (name == "reports.js")


def test_the_first_view_is_small():
    files = {"index.html", "style.css", "icon.svg", "app.js", "classify.js", *loaded("app.js"), *loaded("classify.js")}
    assert len(files) > 8
    assert sum((STATIC / name).stat().st_size for name in files) < FIRST_VIEW
