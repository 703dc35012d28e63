"""How pixels are prepared, as files of Hugging Face and timm that come with a model say it.

``preprocessor_config.json`` of transformers: image_mean, image_std, rescale_factor, size and the like.
``config.json`` of timm: mean, std and input_size of its ``pretrained_cfg``. What they say is put as fields of
ModelSettings, and counts as a guess: whoever exported the graph may have put the same arithmetic into it.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any

from pydantic import BaseModel, Field, ValidationError

from gauntlet.errors import InvalidInput
from gauntlet.onnx_import.class_names import LONGEST
from gauntlet.onnx_import.companion_files import CompanionFile
from gauntlet.onnx_import.settings import ModelSettings

PREPROCESSOR = "preprocessor_config.json"
USUAL = (PREPROCESSOR, "config.json")
"""Looked for beside the model, in this order."""

FIELD = "preprocessing"
PIXELS = ("pixel_range", "channels", "mean", "std")  # of ModelSettings

LARGE, SMALL = 1e4, 1e-6  # what is beyond is no mean, standard deviation or factor of pixels
Mean = Annotated[float, Field(ge=-LARGE, le=LARGE)]
Factor = Annotated[float, Field(ge=SMALL, le=LARGE)]
Sizes = int | list[int] | dict[str, int | None] | None


@dataclass(frozen=True)
class StatedPreprocessing:
    """What a file says: fields of ModelSettings, and the height and width of images, None where it says none."""

    file: str
    fields: dict[str, Any]
    size: tuple[int, int] | None


class _Processor(BaseModel):
    """Image processors of transformers. A pixel of 0..255 is multiplied, shifted, then normalised."""

    do_rescale: bool = True
    rescale_factor: Factor = 1 / 255
    rescale_offset: bool = False  # 1 is subtracted after
    do_normalize: bool | None = None
    image_mean: list[Mean] | Mean | None = None
    image_std: list[Factor] | Factor | None = None
    include_top: bool = False  # EfficientNet's: divided by image_std once more
    do_flip_channel_order: bool = False  # last
    do_center_crop: bool = False
    size: Sizes = None
    crop_size: Sizes = None


class _Timm(BaseModel):
    """``pretrained_cfg`` of timm, for pixels of 0..1."""

    mean: list[Mean]
    std: list[Factor]
    input_size: tuple[int, int, int] | None = None


def read(file: CompanionFile) -> StatedPreprocessing | None:
    """None where it says nothing of pixels. Raises InvalidInput where what it says cannot be used."""
    try:
        found = json.loads(file.content[:LONGEST].decode("utf-8-sig", errors="replace"))
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict):
        return None
    try:
        if isinstance(found.get("pretrained_cfg"), dict) and {"mean", "std"} <= found["pretrained_cfg"].keys():
            fields, size = _of_timm(_Timm.model_validate(found["pretrained_cfg"]))
        elif found.keys() & {"image_mean", "image_std", "rescale_factor"}:
            fields, size = _of_processor(_Processor.model_validate(found))
        else:
            return None
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        where = ".".join(map(str, problem["loc"][:1]))
        raise _unusable(file, f"{where}: {problem['msg']}") from error
    except _Unsaid as error:
        raise _unusable(file, str(error)) from error
    return StatedPreprocessing(file.name, fields, size)


class _Unsaid(Exception):
    """The file leaves a number to the class that reads it."""


def _unusable(file: CompanionFile, reason: str) -> InvalidInput:
    return InvalidInput(f"{file.name[:100]!r} cannot be used: {reason}", FIELD)


def _of_timm(config: _Timm) -> tuple[dict[str, Any], tuple[int, int] | None]:
    fields = {"pixel_range": "0..1", "mean": tuple(config.mean), "std": tuple(config.std)}
    return fields, None if config.input_size is None else config.input_size[1:]


def _of_processor(config: _Processor) -> tuple[dict[str, Any], tuple[int, int] | None]:
    mean, std = _numbers(config.image_mean), _numbers(config.image_std)
    if not (mean and std) and config.do_normalize:
        raise _Unsaid("it normalises and does not say image_mean and image_std")
    if config.do_normalize is False or not (mean and std):
        mean, std = (0.0,), (1.0,)
    if config.include_top:
        std = tuple(value * value for value in std)
    white = 1.0  # what white is before it is normalised: mean and std of pixels in 0..1 are as many times smaller
    if config.do_rescale:
        product = 255 * config.rescale_factor
        white = 1.0 if abs(product - 1) < 1e-4 else product
        mean = tuple(value + config.rescale_offset for value in mean)
    mean, std = (tuple(value / white for value in values) for values in (mean, std))
    fields: dict[str, Any] = {"pixel_range": "0..1" if config.do_rescale else "0..255"}
    if any(mean) or any(value != 1 for value in std):
        fields |= {"mean": mean, "std": std}
    if config.do_flip_channel_order:
        fields |= {"channels": "bgr"} | {name: fields[name][::-1] for name in ("mean", "std") if name in fields}
    return fields, _size(config.crop_size if config.do_center_crop and config.crop_size else config.size)


def _numbers(values: list[float] | float | None) -> tuple[float, ...]:
    return () if values is None else tuple(values) if isinstance(values, list) else (values,)


def _size(said: Sizes) -> tuple[int, int] | None:
    """Height and width; None where neither they nor a shortest edge is said."""
    if isinstance(said, dict):
        edge = said.get("shortest_edge")
        height, width = said.get("height", edge), said.get("width", edge)
        return (height, width) if height and width else None
    if isinstance(said, list):
        return (said[0], said[1]) if len(said) == 2 else None
    return None if said is None else (said, said)


def declared_in(file: CompanionFile, declared: ModelSettings) -> ModelSettings:
    """What is declared, with what the file says of the pixels. Raises InvalidInput where that is said twice."""
    found = read(file)
    if found is None:
        wanted = "image_mean and image_std of a preprocessor_config.json, or pretrained_cfg of a config.json"
        raise _unusable(file, f"it says nothing of pixels ({wanted})")
    if twice := [name for name in PIXELS if getattr(declared, name) is not None]:
        raise InvalidInput(f"the preprocessing is declared twice, in {file.name[:100]!r} and as {twice[0]}", FIELD)
    return with_pixels(declared, found)


def with_pixels(declared: ModelSettings, found: StatedPreprocessing) -> ModelSettings:
    """Settings with what a file says of the pixels in them."""
    return declared.model_copy(update=found.fields)


def as_companion(file: CompanionFile) -> CompanionFile:
    """A file that was declared, to lie beside the model as well: it says the size of images."""
    return replace(file, name=PREPROCESSOR, given=False)


def from_beside(files: Sequence[CompanionFile]) -> tuple[StatedPreprocessing | None, str]:
    """What the first of the usual files that says anything says; or, in words, why it cannot be used."""
    for name in USUAL:
        for file in files:
            if file.name == name and not file.given:
                try:
                    found = read(file)
                except InvalidInput as error:
                    return None, str(error)
                if found is not None:
                    return found, ""
    return None, ""
