import gzip
import zlib

import pytest

from service.errors import Code, ServiceError
from service.v2.encoding import choose, expand, shrink

BODY = b"pixels " * 1000


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_what_was_shrunk_is_expanded(encoding: str):
    assert len(shrink(BODY, encoding)) < len(BODY)
    assert expand(shrink(BODY, encoding), encoding, len(BODY)) == BODY
    assert expand(shrink(b"", encoding), f" {encoding.upper()} ", 10) == b""


def test_they_are_what_the_standard_library_means_by_them():
    assert gzip.decompress(shrink(BODY, "gzip")) == zlib.decompress(shrink(BODY, "deflate")) == BODY
    assert (
        expand(gzip.compress(BODY, mtime=0), "gzip", len(BODY))
        == expand(zlib.compress(BODY), "deflate", len(BODY))
        == BODY
    )


@pytest.mark.parametrize("encoding", ["", "identity"])
def test_a_plain_body_is_left_as_it_is(encoding: str):
    assert expand(BODY, encoding, 1) is BODY


@pytest.mark.parametrize(
    ("data", "encoding", "code"),
    [
        (BODY, "gzip", Code.MALFORMED),
        (BODY, "deflate", Code.MALFORMED),
        (b"", "gzip", Code.MALFORMED),
        (gzip.compress(BODY, mtime=0)[:-1], "gzip", Code.MALFORMED),
        (gzip.compress(BODY, mtime=0) + b"more", "gzip", Code.MALFORMED),
        (gzip.compress(BODY, mtime=0), "deflate", Code.MALFORMED),
        (BODY, "br", Code.UNSUPPORTED_MEDIA_TYPE),
        (gzip.compress(BODY, mtime=0), "gzip, gzip", Code.UNSUPPORTED_MEDIA_TYPE),
        (gzip.compress(bytes(10**8)), "gzip", Code.TOO_LARGE),
        (zlib.compress(bytes(8001)), "deflate", Code.TOO_LARGE),
    ],
)
def test_what_is_not_as_said_is_refused(data: bytes, encoding: str, code: Code):
    with pytest.raises(ServiceError) as caught:
        expand(data, encoding, 8000)
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
