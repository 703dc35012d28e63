import io
import struct
import zlib

import pytest
import torch
from PIL import Image

from gauntlet import images
from gauntlet.errors import InvalidInput

GREY, COLOUR = (1, 8, 8), (3, 8, 8)


def encoded(mode="L", size=(8, 8), form="PNG", **options):
    buffer = io.BytesIO()
    Image.new(mode, size, **options).save(buffer, form)
    return buffer.getvalue()


@pytest.mark.parametrize("shape", [GREY, COLOUR])
def test_png_keeps_every_eight_bit_image(shape):
    image = torch.randint(0, 256, shape).float() / 255
    assert torch.equal(images.batch([images.from_bytes(images.to_png(image), shape)])[0], image)


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP"])
def test_formats(form):
    assert images.from_bytes(encoded("RGB", form=form), COLOUR).shape == COLOUR


@pytest.mark.parametrize("data", [b"", b"hello, I am text", encoded()[:40], encoded(form="GIF"), encoded(form="BMP")])
def test_what_is_no_image_is_refused(data):
    with pytest.raises(InvalidInput, match="not a readable"):
        images.from_bytes(data, GREY)


@pytest.mark.parametrize(("mode", "size"), [("L", (9, 8)), ("RGB", (8, 8)), ("L", (28, 28)), ("RGBA", (8, 8))])
def test_another_size_or_mode_says_what_is_expected(mode, size):
    with pytest.raises(InvalidInput, match=r"expects 8x8 grey.*resize=true"):
        images.from_bytes(encoded(mode, size), GREY)
    assert images.from_bytes(encoded(mode, size), GREY, resize=True).shape == GREY


def test_transparent_pixels_are_black():
    white_but_clear = encoded("RGBA", color=(255, 255, 255, 0))
    assert float(images.from_bytes(white_but_clear, GREY, resize=True).max()) == 0


def test_a_decompression_bomb_is_refused_from_its_header():
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 0, 0, 0, 0)
    bomb = (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )
    with pytest.raises(InvalidInput):
        images.from_bytes(bomb, GREY, resize=True)


def test_nested_lists():
    assert images.from_nested([[0.5] * 8] * 8, GREY).shape == GREY
    assert images.from_nested([[[0.5] * 8] * 8], GREY).shape == GREY


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ([[0.5] * 8] * 7, "shape"),
        ([[0.5] * 8] * 7 + [[0.5]], "not an array"),
        ("text", "not an array"),
        ([[None] * 8] * 8, "not an array"),
        ([[2.0] * 8] * 8, r"\[0, 1\]"),
        ([[-0.1] * 8] * 8, r"\[0, 1\]"),
        ([[float("nan")] * 8] * 8, "finite"),
        ([[float("inf")] * 8] * 8, "finite"),
        ([], "shape"),
    ],
)
def test_bad_arrays_are_refused(value, words):
    with pytest.raises(InvalidInput, match=words):
        images.from_nested(value, GREY)


def test_grid_keeps_order_and_fills_with_black():
    tiles = torch.arange(1, 6).float().view(5, 1, 1, 1).expand(5, 1, 2, 2) / 10
    sheet = images.grid(tiles, 3)
    assert sheet.shape == (1, 4, 6)
    assert sheet[0, ::2, ::2].flatten().tolist() == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5, 0.0])


def test_amplified_noise_is_a_picture():
    picture = images.amplified(torch.tensor([[[-0.02, 0.0, 0.01]]]))
    assert picture.flatten().tolist() == pytest.approx([0.0, 0.5, 0.75])
    assert float(images.amplified(torch.zeros(1, 2, 2)).max()) == 0.5


def test_eight_bits_and_floats_of_the_same_image_are_the_same_in_one_batch():
    image = torch.arange(256).view(1, 16, 16) / 255
    x = images.batch(
        [images.from_bytes(images.to_png(image), (1, 16, 16)), images.from_nested(image.tolist(), (1, 16, 16))]
    )
    assert x.dtype == torch.float32
    assert torch.equal(x, torch.stack([image, image]))
