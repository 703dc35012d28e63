"""Endpoints whose whole work is the compute process's: uploads, and models taken in and out of service."""

from starlette.requests import Request
from starlette.responses import Response

from service.endpoints.services import services


async def forward(request: Request) -> Response:
    """The body is passed on as it comes: a file is never whole in the memory of this process."""
    return await services(request).compute.forward(request.stream())
