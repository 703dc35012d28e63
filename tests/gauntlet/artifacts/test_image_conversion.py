import numpy as np
import pytest
import torch

from gauntlet.artifacts import image_conversion, picture_decoder
from gauntlet.errors import InvalidInput

GREY, COLOUR = (1, 8, 8), (3, 8, 8)


@pytest.mark.parametrize("shape", [GREY, COLOUR])
def test_png_keeps_every_eight_bit_image(shape):
    image = torch.randint(0, 256, shape).float() / 255
    decoded = image_conversion.batch([picture_decoder.decode(image_conversion.to_png(image), shape)])
    assert np.array_equal(decoded[0], image.numpy())


def test_nested_lists():
    assert image_conversion.from_nested([[0.5] * 8] * 8, GREY).shape == GREY
    assert image_conversion.from_nested([[[0.5] * 8] * 8], GREY).shape == GREY


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ([[0.5] * 8] * 7, "shape"),
        ([[0.5] * 8] * 7 + [[0.5]], "not an array"),
        ("text", "not an array"),
        ([[None] * 8] * 8, "not an array"),
        ([["0.5"] * 8] * 8, "not an array"),
        ([[True] * 8] * 8, "not an array"),
        ([[10**400] * 8] * 8, "not an array"),
        ([0.5, [0.5]], "not an array"),
        ([[2.0] * 8] * 8, r"\[0, 1\]"),
        ([[-0.1] * 8] * 8, r"\[0, 1\]"),
        ([[float("nan")] * 8] * 8, "finite"),
        ([[float("inf")] * 8] * 8, "finite"),
        ([], "shape"),
    ],
)
def test_bad_arrays_are_refused(value, words):
    with pytest.raises(InvalidInput, match=words):
        image_conversion.from_nested(value, GREY)


@pytest.mark.parametrize(
    ("pixel", "words"),
    [(1.0000001, "from 0.5 to 1.0000001"), (-1e-9, "from -1e-09 to 0.5"), (1e39, "not a finite"), (-1e39, "finite")],
)
def test_a_pixel_outside_is_told_in_digits_that_show_it(pixel, words):
    with pytest.raises(InvalidInput, match=words):
        image_conversion.from_nested([[0.5] * 8] * 7 + [[pixel] * 8], GREY)


def test_a_pixel_that_float32_rounds_to_one_is_one():
    assert float(image_conversion.from_nested([[1.00000001] * 8] * 8, GREY).max()) == 1


def test_grid_keeps_order_and_fills_with_black():
    tiles = torch.arange(1, 6).float().view(5, 1, 1, 1).expand(5, 1, 2, 2) / 10
    sheet = image_conversion.grid(tiles, 3)
    assert sheet.shape == (1, 4, 6)
    assert sheet[0, ::2, ::2].flatten().tolist() == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5, 0.0])


def test_amplified_noise_is_a_picture():
    picture = image_conversion.amplified(torch.tensor([[[-0.02, 0.0, 0.01]]]))
    assert picture.flatten().tolist() == pytest.approx([0.0, 0.5, 0.75])
    assert float(image_conversion.amplified(torch.zeros(1, 2, 2)).max()) == 0.5


def test_eight_bits_and_floats_of_the_same_image_are_the_same_in_one_batch():
    image = torch.arange(256).view(1, 16, 16) / 255
    x = image_conversion.batch(
        [
            picture_decoder.decode(image_conversion.to_png(image), (1, 16, 16)),
            image_conversion.from_nested(image.tolist(), (1, 16, 16)),
        ]
    )
    assert x.dtype == np.float32
    assert np.array_equal(x, np.stack([image.numpy()] * 2))
