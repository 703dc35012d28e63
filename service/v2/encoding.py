"""Compressed bodies: gzip and deflate, which in HTTP is what zlib writes."""

import re
import zlib

from service.errors import Code, ServiceError

WINDOWS = {"gzip": 31, "deflate": 15}  # zlib's wbits of each
FAST = 1
ACCEPTED = re.compile(r"\s*([!#$%&'*+.^_`|~\w-]+)\s*(?:;\s*q\s*=\s*([01](?:\.\d{0,3})?)\s*)?", re.ASCII)


def expand(data: bytes, encoding: str, limit: int) -> bytes:
    """A body as it was before it was compressed. Raises ServiceError; no more than ``limit`` bytes are ever made."""
    encoding = encoding.strip().lower()
    if encoding in ("", "identity"):
        return data
    if encoding not in WINDOWS:
        message = f"Content-Encoding: {encoding[:100]} is not understood, gzip and deflate are"
        raise ServiceError(Code.UNSUPPORTED_MEDIA_TYPE, message, field="Content-Encoding")
    expander = zlib.decompressobj(WINDOWS[encoding])
    try:
        body = expander.decompress(data, limit + 1)
    except zlib.error as error:
        raise ServiceError(Code.MALFORMED, f"the body is not {encoding}: {error}", field="Content-Encoding") from error
    if len(body) > limit:
        raise ServiceError(Code.TOO_LARGE, f"the body may have {limit} bytes once it is expanded", limit=limit)
    if not expander.eof or expander.unused_data:
        message = f"the body is not {encoding}: {'more follows its end' if expander.eof else 'it ends too early'}"
        raise ServiceError(Code.MALFORMED, message, field="Content-Encoding")
    return body


def choose(accepted: str) -> str | None:
    """What an Accept-Encoding likes best of what there is; None: to have the body as it is."""
    likes: dict[str, float] = {}
    for part in accepted.lower().split(","):
        if found := ACCEPTED.fullmatch(part):
            likes[found[1]] = float(found[2] or 1)
    best = max(WINDOWS, key=lambda name: likes.get(name, 0.0))
    return best if likes.get(best, 0.0) > 0 else None


def shrink(data: bytes, encoding: str) -> bytes:
    """Fast rather than small."""
    compressor = zlib.compressobj(FAST, wbits=WINDOWS[encoding])
    return compressor.compress(data) + compressor.flush()
