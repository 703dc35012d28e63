"""The page at /: files under ``static/`` that load nothing but each other, under a policy that allows no more."""

from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response
from starlette.staticfiles import StaticFiles

from service.content_policy import FRAMELESS

FILES = StaticFiles(directory=Path(__file__).parent / "static")
INDEX = "index.html"
FRAME = "report.html"

PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    f"frame-src 'self'; {FRAMELESS}"
)
FRAME_POLICY = (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
)
"""Of the empty document into which the page writes a report: its styles, and no script, whatever a report holds."""


async def get_index(request: Request) -> Response:
    return await _file(INDEX, request)


async def get_static(request: Request) -> Response:
    return await _file(request.path_params["file"], request)


async def _file(name: str, request: Request) -> Response:
    """Asked for anew at each visit (304 where nothing changed): no page mixes files of two versions."""
    response = await FILES.get_response(name, request.scope)
    response.headers.update(
        {
            "Content-Security-Policy": FRAME_POLICY if name == FRAME else PAGE_POLICY,
            "Cache-Control": "no-cache",
            "X-Frame-Options": "SAMEORIGIN" if name == FRAME else "DENY",
        }
    )
    return response
