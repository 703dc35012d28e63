"""One decoder: what each kind of picture becomes, and that every way in gives the same pixels or the same refusal."""

import base64
import io
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from gauntlet.artifacts import picture_decoder
from gauntlet.artifacts.picture_decoder import decode
from gauntlet.cli import user_files
from gauntlet.errors import InvalidInput
from gauntlet.onnx_import import labelled_images
from gauntlet.onnx_import.settings import ImageSetSettings
from service.schemas import image_codec

CASES = Path(__file__).parents[2] / "cases"
GREY, COLOUR = (1, 8, 8), (3, 8, 8)
NOISE = np.random.default_rng(0).integers(0, 256, (6, 9, 4), dtype=np.uint8)


def case(name):
    return (CASES / name).read_bytes()


def encoded(image=None, form="PNG", mode="L", size=(8, 8), **options):
    buffer = io.BytesIO()
    (Image.new(mode, size) if image is None else image).save(buffer, form, **options)
    return buffer.getvalue()


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width, height, bits, colour, rows):
    """Made by hand: Pillow does not write every depth."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def turned(orientation, form="JPEG", **options):
    exif = Image.Exif()
    exif[picture_decoder.ORIENTATION] = orientation
    return encoded(Image.fromarray(NOISE[..., :3]), form, exif=exif, **options)


def archive(*files):
    """A zip of two classes, each with these pictures."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as made:
        for folder in ("a", "b"):
            for i, data in enumerate(files):
                made.writestr(f"{folder}/{i}.png", data)
    return buffer.getvalue()


def refusal(work):
    """Why it was refused, or the pixels."""
    try:
        return work()
    except InvalidInput as error:
        return str(error)


# What a picture becomes


def test_a_picture_marked_as_turned_is_the_one_that_stands_upright():
    upright = decode(case("upright.png"))
    assert np.abs(decode(case("exif6.jpg")).astype(int) - upright).max() < 40  # JPEG's loss
    assert np.abs(decode(case("exif6.jpg")).astype(int) - upright).mean() < 4


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
def test_every_orientation_is_undone(orientation, form):
    options = {} if form == "JPEG" else {"lossless": True}
    data = turned(orientation, form, **options)
    with Image.open(io.BytesIO(data)) as stored:
        pixels = np.asarray(stored.convert("RGB"))
    undone = {
        1: pixels,
        2: pixels[:, ::-1],
        3: pixels[::-1, ::-1],
        4: pixels[::-1],
        5: pixels.transpose(1, 0, 2),
        6: np.rot90(pixels, -1),
        7: pixels[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(pixels),
    }
    assert np.array_equal(decode(data).transpose(1, 2, 0), undone[orientation])


@pytest.mark.filterwarnings("ignore:Corrupt EXIF:UserWarning")
@pytest.mark.parametrize("exif", [b"Exif\x00\x00nonsense", b"", b"Exif\x00\x00MM\x00*\x00\x00\xff\xff"])
def test_exif_that_cannot_be_read_says_nothing(exif):
    assert decode(encoded(Image.fromarray(NOISE[..., :3]), "JPEG", exif=exif)).shape == (3, 6, 9)


def test_the_sides_that_a_model_wants_are_those_after_turning():
    assert decode(turned(6), (3, 9, 6)).shape == (3, 9, 6)
    with pytest.raises(picture_decoder.OtherShape, match="9x6 colour images are expected, this one is 6x9 colour"):
        decode(turned(6), (3, 6, 9))


DEEP = {
    "grey": png(8, 8, 16, 0, (b"\0" + bytes(16)) * 8),
    "colour": png(8, 8, 16, 2, (b"\0" + bytes(48)) * 8),
    "grey and alpha": png(8, 8, 16, 4, (b"\0" + bytes(32)) * 8),
    "colour and alpha": png(8, 8, 16, 6, (b"\0" + bytes(64)) * 8),
    "the case": case("grey16.png"),
}


@pytest.mark.parametrize("kind", DEEP)
@pytest.mark.parametrize("convert", [True, False])
def test_sixteen_bits_are_refused_whatever_the_colours(kind, convert):
    with pytest.raises(InvalidInput, match="more than 8 bits a channel; convert it to 8, or send numbers"):
        decode(DEEP[kind], GREY, convert=convert)


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_fewer_bits_reach_from_black_to_white(bits):
    white = decode(png(8, 8, bits, 0, (b"\0" + b"\xff" * bits) * 8))
    assert (white.shape, int(white.min())) == (GREY, 255)


def test_what_is_transparent_lies_on_black():
    with Image.open(CASES / "alpha.png") as image:
        hidden = np.asarray(image)[..., 1]
    assert np.array_equal(decode(case("alpha.png"), (1, 28, 28))[0], hidden)  # white, as far as it is not transparent


CLEAR = {
    "grey and alpha": encoded(Image.new("LA", (8, 8), (255, 0))),
    "colour and alpha": encoded(Image.new("RGBA", (8, 8), (255, 255, 255, 0))),
    "palette and alpha": encoded(Image.new("P", (8, 8), 0), transparency=0),
    "one colour": encoded(Image.new("RGB", (8, 8), (255, 255, 255)), transparency=(255, 255, 255)),
    "one grey": encoded(Image.new("L", (8, 8), 255), transparency=255),
    "webp": encoded(Image.new("RGBA", (8, 8), (255, 255, 255, 0)), "WEBP", lossless=True),
}


@pytest.mark.parametrize("kind", CLEAR)
def test_every_way_to_be_transparent_is(kind):
    assert int(decode(CLEAR[kind], GREY, convert=True).max()) == 0


def test_a_palette_is_looked_up():
    image = Image.new("P", (8, 8), 1)
    image.putpalette([0, 0, 0, 200, 100, 50])
    assert decode(encoded(image))[:, 0, 0].tolist() == [200, 100, 50]


def test_cmyk_is_made_rgb():
    data = encoded(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG")
    assert decode(data, COLOUR)[:, 4, 4].tolist() == pytest.approx([255, 0, 0], abs=4)


@pytest.mark.parametrize("form", ["PNG", "WEBP"])
def test_an_animation_is_refused(form):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    data = encoded(frames[0], form, save_all=True, append_images=frames[1:], lossless=True)
    with pytest.raises(InvalidInput, match="animation of 2 frames"):
        decode(data)


def test_a_jpeg_that_carries_a_second_picture_is_its_first():
    first, second = Image.new("RGB", (8, 8), "red"), Image.new("RGB", (8, 8), "blue")
    data = encoded(first, "MPO", save_all=True, append_images=[second])
    assert decode(data)[:, 4, 4].tolist() == pytest.approx([255, 0, 0], abs=4)


def test_one_filter_averages_where_it_shrinks():
    stripes = np.zeros((64, 64), np.uint8)
    stripes[:, ::2] = 255
    shrunk = decode(encoded(Image.fromarray(stripes)), GREY, convert=True)
    assert np.abs(shrunk[0, :, 1:-1].astype(int) - 127).max() <= 2
    wide = decode(encoded(Image.fromarray(stripes[:, :8])), GREY, convert=True)  # one side alone
    assert set(np.unique(wide)) == {0, 255}


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP"])
def test_what_is_cut_short_is_refused(form):
    whole = encoded(Image.fromarray(np.tile(NOISE[..., :3], (8, 8, 1))), form)
    with pytest.raises(InvalidInput, match="not a readable"):
        decode(whole[: len(whole) // 2], COLOUR, convert=True)


@pytest.mark.parametrize(
    "data", [b"", b"hello, I am text", encoded()[:40], encoded(form="GIF"), encoded(form="BMP"), encoded(form="TIFF")]
)
def test_what_is_no_picture_is_refused(data):
    with pytest.raises(InvalidInput, match="not a readable"):
        decode(data, GREY)


@pytest.mark.parametrize(("mode", "size"), [("L", (9, 8)), ("RGB", (8, 8)), ("L", (28, 28)), ("RGBA", (8, 8))])
def test_another_size_or_colour_is_told_and_converted_where_that_is_wanted(mode, size):
    with pytest.raises(
        picture_decoder.OtherShape, match=r"8x8 grey images are expected, this one is \d+x\d+ (grey|colour)"
    ):
        decode(encoded(mode=mode, size=size), GREY)
    assert decode(encoded(mode=mode, size=size), GREY, convert=True).shape == GREY


@pytest.mark.parametrize("side", [5_001, 100_000])
def test_a_decompression_bomb_is_refused_from_its_header(side):
    with pytest.raises(InvalidInput):
        decode(png(side, side, 8, 0, bytes(1000)), GREY, convert=True)


# Every way in

PICTURES = {
    **{name: case(name) for name in ("exif6.jpg", "upright.png", "grey16.png", "alpha.png")},
    **{f"16 bits, {kind}": data for kind, data in DEEP.items()},
    **CLEAR,
    "cmyk": encoded(Image.new("CMYK", (8, 8), (9, 99, 200, 3)), "JPEG"),
    "cut": encoded(Image.fromarray(NOISE), "PNG")[:-30],
    "no picture": b"text",
}


def ways(data, shape, tmp_path, *, convert):
    """What each way in makes of it: a request, a set in a zip, the command line."""
    zipped = archive(data)
    said = ImageSetSettings(name="x", input_shape=shape if convert else None)
    (tmp_path / "x.zip").write_bytes(zipped)
    text = base64.b64encode(data).decode()
    yield refusal(lambda: np.rint(image_codec.decode([text], shape, resize=convert, limit=1)[0] * 255))
    yield refusal(lambda: labelled_images.read(zipped, said).images[0])
    if not convert:
        yield refusal(lambda: user_files.images(str(tmp_path / "x.zip"), None).images[0])


def agree(data, tmp_path):
    for shape, convert in ((GREY, True), (COLOUR, True), (None, False)):
        found = refusal(lambda shape=shape, convert=convert: decode(data, shape, convert=convert))
        wanted = shape or (GREY if isinstance(found, str) else found.shape)
        for other in ways(data, wanted, tmp_path, convert=convert):
            if isinstance(found, str):
                assert isinstance(other, str)
                assert found in other or "are expected" in other  # its size is looked at before the rest is decoded
            else:
                assert np.array_equal(found, other), other


@pytest.mark.parametrize("kind", PICTURES)
def test_every_way_in_agrees(kind, tmp_path):
    agree(PICTURES[kind], tmp_path)


@st.composite
def drawn(draw):
    """A picture of any kind that Pillow writes, and damaged now and then."""
    mode = draw(st.sampled_from(["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"]))
    form = draw(st.sampled_from({"CMYK": ["JPEG"], "I;16": ["PNG"]}.get(mode, ["PNG", "WEBP", "JPEG"])))
    width, height = draw(st.tuples(st.integers(1, 12), st.integers(1, 12)))
    seed = draw(st.integers(0, 2**16))
    size = width * height * (2 if mode == "I;16" else len(Image.new(mode, (1, 1)).getbands()))
    content = np.random.default_rng(seed).integers(0, 256, size, dtype=np.uint8).tobytes()
    if mode == "1":
        image = Image.frombytes("L", (width, height), content).convert("1")
    elif mode == "P":
        image = Image.frombytes("L", (width, height), content).convert("RGB").quantize(16)
    else:
        image = Image.frombytes(mode, (width, height), content)
    if form == "JPEG" and mode in ("LA", "P", "RGBA"):
        image = image.convert("RGB")
    exif = Image.Exif()
    exif[picture_decoder.ORIENTATION] = draw(st.integers(0, 9))
    data = bytearray(encoded(image, form, exif=exif))
    for place, value in draw(st.lists(st.tuples(st.integers(0, 2**16), st.integers(0, 255)), max_size=3)):
        data[place % len(data)] = value
    return bytes(data[: draw(st.sampled_from([len(data), len(data) * 2 // 3]))])


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, about what is damaged
@given(drawn())
@settings(max_examples=60, deadline=None, derandomize=True)
def test_every_way_in_agrees_on_pictures_that_nobody_wrote_down(tmp_path_factory, data):
    agree(data, tmp_path_factory.mktemp("drawn"))
