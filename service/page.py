"""The page at /: what is served here and how to ask for it. One file, no outside resource."""

from collections.abc import Iterable
from html import escape
from typing import TYPE_CHECKING

from gauntlet.manifest import GeneratorManifest
from service.routes import ROUTES

if TYPE_CHECKING:  # BentoML's parent imports this module and does without the networks
    from gauntlet.runtime import Classifier, Generator

PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>Gauntlet</title>
<style>body{{font:16px/1.5 system-ui,sans-serif;max-width:52rem;margin:2rem auto;padding:0 1rem}}
table{{border-collapse:collapse;width:100%}}td,th{{text-align:left;padding:.25rem .75rem .25rem 0;vertical-align:top}}
code{{font:14px ui-monospace,monospace}}</style>
<h1>Gauntlet</h1>
<p>Image models served together with their robustness.</p>
<h2>Models</h2><table><tr><th>name<th>kind<th>family<th>certificate</tr>{models}</table>
<h2>Calls</h2><table>{routes}</table></html>
"""


def index(models: "Iterable[Classifier | Generator]") -> str:
    """HTML of the page."""
    return PAGE.format(
        models="".join(_row(model) for model in models),
        routes="".join(
            f"<tr><td><code>{route.method} {escape(route.path)}</code><td>{escape(route.summary)}</tr>"
            for route in ROUTES
        ),
    )


def _row(model: "Classifier | Generator") -> str:
    manifest = model.manifest
    proved = _certificate(model)
    link = f'<a href="models/{manifest.name}"><code>{manifest.name}</code></a>'
    return f"<tr><td>{link}<td>{manifest.kind}<td>{manifest.family}<td>{escape(proved)}</tr>"


def _certificate(model: "Classifier | Generator") -> str:
    if isinstance(model.manifest, GeneratorManifest):
        return ""
    bound = model.certificate.lipschitz
    return "none" if bound is None else f"L2, Lipschitz constant {bound:.4g} proved"
