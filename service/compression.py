"""Compressed bodies: gzip and deflate, which in HTTP is what zlib writes."""

import re
import zlib
from collections.abc import Iterator

from service.errors import Code, ServiceError

WINDOWS = {"gzip": 31, "deflate": 15}  # zlib's wbits of each
PIECE = 2**20
FAST = 1
ACCEPTED = re.compile(r"\s*([!#$%&'*+.^_`|~\w-]+)\s*(?:;\s*q\s*=\s*([01](?:\.\d{0,3})?)\s*)?", re.ASCII)


class Expander:
    """One compressed body, expanded as it comes, no more than PIECE bytes at a time. Raises ServiceError."""

    def __init__(self, encoding: str) -> None:
        self._encoding = encoding.strip().lower()
        if self._encoding not in WINDOWS:
            message = f"Content-Encoding: {self._encoding[:100]} is not understood, gzip and deflate are"
            accepted = {"Accept-Encoding": ", ".join(WINDOWS)}
            raise ServiceError(Code.UNSUPPORTED_MEDIA_TYPE, message, field="Content-Encoding", headers=accepted)
        self._expander = zlib.decompressobj(WINDOWS[self._encoding])
        self._begun = False

    def take(self, chunk: bytes, *, last: bool) -> Iterator[bytes]:
        """What this part of the body expands to, in pieces: whoever takes them may stop before a bomb goes off."""
        self._begun |= bool(chunk)
        full = bool(chunk)
        while full:
            try:
                piece = self._expander.decompress(chunk, PIECE)
            except zlib.error as error:
                raise self._malformed(str(error)) from error
            chunk = self._expander.unconsumed_tail
            full = bool(chunk) or len(piece) == PIECE
            yield piece
        if self._expander.unused_data:
            raise self._malformed("more follows its end")
        if last and self._begun and not self._expander.eof:
            raise self._malformed("it ends too early")

    def _malformed(self, why: str) -> ServiceError:
        return ServiceError(Code.MALFORMED, f"the body is not {self._encoding}: {why}", field="Content-Encoding")


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
