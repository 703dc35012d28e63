"""How pixels get into somebody's graph: what was said of it, what a file beside it says, and what the graph tells."""

from collections.abc import Sequence

from onnx import GraphProto

from gauntlet.artifacts.manifest import Choice
from gauntlet.errors import InvalidInput
from gauntlet.onnx_import import detection, pixel_detection, preprocessing, preprocessing_files
from gauntlet.onnx_import.companion_files import CompanionFile
from gauntlet.onnx_import.detection import InputDescription, KnownSize, Shape
from gauntlet.onnx_import.preprocessing import Preprocessing
from gauntlet.onnx_import.preprocessing_files import StatedPreprocessing
from gauntlet.onnx_import.settings import ModelSettings

Entrance = tuple[Preprocessing, dict[str, Choice]]


def found(
    graph: GraphProto, declared: ModelSettings, companions: Sequence[CompanionFile], images: Shape | None
) -> Entrance:
    """The arithmetic before the graph, and how each open question of it was settled. Raises InvalidInput."""
    file, remark = preprocessing_files.from_beside(companions)
    known = None if images is None else KnownSize(*images, "the images are of this size")
    if known is None and file is not None and file.size is not None:
        known = KnownSize(None, *file.size, f"the file {file.file!r} beside it says this size")
    door = detection.door(graph, declared, known)
    if any(getattr(declared, field) is not None for field in preprocessing_files.PIXELS):
        return _entrance(graph, door, declared)
    if file is not None:
        try:
            return _as_stated(graph, door, declared, file)
        except InvalidInput as error:
            remark = f"{file.file!r} beside it is not used: {error}"
    way, choices = _entrance(graph, door, declared)
    plain = choices["normalisation"]
    reason = "; ".join(filter(None, (plain.reason, remark)))
    return way, choices | {"normalisation": plain.model_copy(update={"reason": reason})}


def _as_stated(
    graph: GraphProto, door: InputDescription, declared: ModelSettings, file: StatedPreprocessing
) -> Entrance:
    """As a file beside the graph says. Raises InvalidInput where that does not fit, or the graph does it itself."""
    if why := pixel_detection.prepares(graph, door):
        raise InvalidInput(why)
    way, choices = _entrance(graph, door, preprocessing_files.with_pixels(declared, file))
    stated = {"given": False, "reason": f"the file {file.file!r} beside it"}
    return way, {
        what: choice if what in door.choices else choice.model_copy(update=stated) for what, choice in choices.items()
    }


def _entrance(graph: GraphProto, door: InputDescription, declared: ModelSettings) -> Entrance:
    limits, range_choice = pixel_detection.pixel_range(graph, door, declared)
    colours = pixel_detection.channels(graph, door, declared)
    normalisation = pixel_detection.normalisation(graph, door, limits, declared)
    way = preprocessing.entrance(door, limits, normalisation.mean, normalisation.std, bgr=colours.value == "bgr")
    choices = {**door.choices, "pixel_range": range_choice}
    if door.image[0] == 3:
        choices["channels"] = colours
    return way, {**choices, "normalisation": normalisation.choice}
