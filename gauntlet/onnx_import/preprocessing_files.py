"""Parser of the preprocessing in configuration files of Hugging Face transformers and timm that come with a model.

``preprocessor_config.json`` of transformers: image_mean, image_std, rescale_factor, size and the like.
``config.json`` of timm: mean, std and input_size of its ``pretrained_cfg``. They are converted to fields of
ModelSettings, and count as a guess: the exported graph may already contain the same arithmetic.
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
"""Files that are looked for beside the model, in this order."""

FIELD = "preprocessing"
PIXELS = ("pixel_range", "channels", "mean", "std")  # of ModelSettings

LARGE, SMALL = 1e4, 1e-6  # bounds of plausible means, standard deviations and factors
Mean = Annotated[float, Field(ge=-LARGE, le=LARGE)]
Factor = Annotated[float, Field(ge=SMALL, le=LARGE)]
Sizes = int | list[int] | dict[str, int | None] | None


@dataclass(frozen=True)
class StatedPreprocessing:
    """The content of a file: fields of ModelSettings, and the height and width of images, None if it has none."""

    file: str
    fields: dict[str, Any]
    size: tuple[int, int] | None


class _Processor(BaseModel):
    """Configuration of an image processor of transformers: pixels in 0..255 are scaled, shifted, then normalised."""

    do_rescale: bool = True
    rescale_factor: Factor = 1 / 255
    rescale_offset: bool = False  # 1 is subtracted after rescaling
    do_normalize: bool | None = None
    image_mean: list[Mean] | Mean | None = None
    image_std: list[Factor] | Factor | None = None
    include_top: bool = False  # EfficientNet's processor: pixels are divided by image_std once more
    do_flip_channel_order: bool = False  # after everything else
    do_center_crop: bool = False
    size: Sizes = None
    crop_size: Sizes = None


class _Timm(BaseModel):
    """``pretrained_cfg`` of timm, for pixels in 0..1."""

    mean: list[Mean]
    std: list[Factor]
    input_size: tuple[int, int, int] | None = None


def read(file: CompanionFile) -> StatedPreprocessing | None:
    """Parse a file; None if it does not describe preprocessing. Raises InvalidInput if its values cannot be used."""
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
    except _Incomplete as error:
        raise _unusable(file, str(error)) from error
    return StatedPreprocessing(file.name, fields, size)


class _Incomplete(Exception):
    """The file lacks a number: the class that reads it would use its own default."""


def _unusable(file: CompanionFile, reason: str) -> InvalidInput:
    return InvalidInput(f"{file.name[:100]!r} cannot be used: {reason}", FIELD)


def _of_timm(config: _Timm) -> tuple[dict[str, Any], tuple[int, int] | None]:
    fields = {"pixel_range": "0..1", "mean": tuple(config.mean), "std": tuple(config.std)}
    return fields, None if config.input_size is None else config.input_size[1:]


def _of_processor(config: _Processor) -> tuple[dict[str, Any], tuple[int, int] | None]:
    mean, std = _numbers(config.image_mean), _numbers(config.image_std)
    if not (mean and std) and config.do_normalize:
        raise _Incomplete("it normalises and does not say image_mean and image_std")
    if config.do_normalize is False or not (mean and std):
        mean, std = (0.0,), (1.0,)
    if config.include_top:
        std = tuple(value * value for value in std)
    white = 1.0  # the value of white before normalisation: mean and std are divided by it, for pixels in 0..1
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


def _size(size: Sizes) -> tuple[int, int] | None:
    """Return height and width; None if the file has neither them nor a shortest edge."""
    if isinstance(size, dict):
        edge = size.get("shortest_edge")
        height, width = size.get("height", edge), size.get("width", edge)
        return (height, width) if height and width else None
    if isinstance(size, list):
        return (size[0], size[1]) if len(size) == 2 else None
    return None if size is None else (size, size)


def declared_in(file: CompanionFile, declared: ModelSettings) -> ModelSettings:
    """Return the settings with the preprocessing from a file that the user declared.

    Raises InvalidInput if the file has none, or one of its fields is declared as well.
    """
    found = read(file)
    if found is None:
        wanted = "image_mean and image_std of a preprocessor_config.json, or pretrained_cfg of a config.json"
        raise _unusable(file, f"it says nothing of pixels ({wanted})")
    if twice := [name for name in PIXELS if getattr(declared, name) is not None]:
        raise InvalidInput(f"the preprocessing is declared twice, in {file.name[:100]!r} and as {twice[0]}", FIELD)
    return with_pixels(declared, found)


def with_pixels(declared: ModelSettings, found: StatedPreprocessing) -> ModelSettings:
    """Return the settings with the preprocessing from a file."""
    return declared.model_copy(update=found.fields)


def as_companion(file: CompanionFile) -> CompanionFile:
    """Return a declared file as one that lies beside the model: ``from_beside`` then also finds its image size."""
    return replace(file, name=PREPROCESSOR, given=False)


def from_beside(files: Sequence[CompanionFile]) -> tuple[StatedPreprocessing | None, str]:
    """Return the preprocessing in the first usual file that has any; or None and, as text, why it cannot be used."""
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
