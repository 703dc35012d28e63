import gzip
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.compression import PIECE, Expander, choose, shrink
from service.errors import Code, ServiceError

BODY = b"pixels " * 1000


def expand(data: bytes, encoding: str, at_once: int | None = None) -> bytes:
    """A body that comes in parts of this many bytes."""
    expander, parts = Expander(encoding), []
    starts = range(0, max(len(data), 1), at_once or max(len(data), 1))
    for start in starts:
        chunk = data[start : start + starts.step]
        parts += expander.take(chunk, last=start + starts.step >= len(data))
    assert all(len(part) <= PIECE for part in parts)
    return b"".join(parts)


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
@pytest.mark.parametrize("at_once", [1, 7, None])
def test_what_was_shrunk_is_expanded(encoding: str, at_once: int | None):
    assert len(shrink(BODY, encoding)) < len(BODY)
    assert expand(shrink(BODY, encoding), encoding, at_once) == BODY
    assert expand(shrink(b"", encoding), f" {encoding.upper()} ", at_once) == b""


def test_they_are_what_the_standard_library_means_by_them():
    assert gzip.decompress(shrink(BODY, "gzip")) == zlib.decompress(shrink(BODY, "deflate")) == BODY
    assert expand(gzip.compress(BODY, mtime=0), "gzip") == expand(zlib.compress(BODY), "deflate") == BODY


def test_no_body_at_all_is_none_whatever_it_was_to_be():
    assert expand(b"", "gzip") == b""


def test_a_bomb_goes_off_piece_by_piece():
    pieces = Expander("gzip").take(gzip.compress(bytes(10**8)), last=True)
    assert [len(next(pieces)) for _ in range(3)] == [PIECE] * 3


@given(st.binary(max_size=3000), st.sampled_from(["gzip", "deflate"]), st.integers(1, 50))
@settings(derandomize=True, deadline=None)
def test_however_it_is_cut_it_is_the_same(data: bytes, encoding: str, at_once: int):
    assert expand(shrink(data, encoding), encoding, at_once) == data


@pytest.mark.parametrize(
    ("data", "encoding", "code"),
    [
        (BODY, "gzip", Code.MALFORMED),
        (BODY, "deflate", Code.MALFORMED),
        (gzip.compress(BODY, mtime=0)[:-1], "gzip", Code.MALFORMED),
        (gzip.compress(BODY, mtime=0) + b"more", "gzip", Code.MALFORMED),
        (gzip.compress(BODY, mtime=0), "deflate", Code.MALFORMED),
        (BODY, "br", Code.UNSUPPORTED_MEDIA_TYPE),
        (gzip.compress(BODY, mtime=0), "gzip, gzip", Code.UNSUPPORTED_MEDIA_TYPE),
    ],
)
@pytest.mark.parametrize("at_once", [1, None])
def test_what_is_not_as_said_is_refused(data: bytes, encoding: str, code: Code, at_once: int | None):
    with pytest.raises(ServiceError) as caught:
        expand(data, encoding, at_once)
    assert caught.value.code is code


@pytest.mark.parametrize(
    ("accepted", "chosen"),
    [
        ("", None),
        ("identity", None),
        ("gzip", "gzip"),
        ("deflate", "deflate"),
        ("GZip, Deflate, br, zstd", "gzip"),
        ("gzip;q=0.5, deflate", "deflate"),
        ("gzip;q=0, deflate ; q = 0.2", "deflate"),
        ("gzip;q=0", None),
        ("br;q=1.0, *;q=0.1", None),
        ("gzip;q=often", None),
        ("gzipped", None),
    ],
)
def test_the_encoding_that_is_liked_best(accepted: str, chosen: str | None):
    assert choose(accepted) == chosen
