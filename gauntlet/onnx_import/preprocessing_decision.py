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

Decision = tuple[Preprocessing, dict[str, Choice]]


def found(
    graph: GraphProto, declared: ModelSettings, companions: Sequence[CompanionFile], images: Shape | None
) -> Decision:
    """The arithmetic before the graph, and how each open question of it was settled. Raises InvalidInput."""
    file, remark = preprocessing_files.from_beside(companions)
    known = None if images is None else KnownSize(*images, "the images are of this size")
    if known is None and file is not None and file.size is not None:
        known = KnownSize(None, *file.size, f"the file {file.file!r} beside it says this size")
    image_input = detection.image_input(graph, declared, known)
    if any(getattr(declared, field) is not None for field in preprocessing_files.PIXELS):
        return _described(graph, image_input, declared)
    if file is not None:
        try:
            return _as_stated(graph, image_input, declared, file)
        except InvalidInput as error:
            remark = f"{file.file!r} beside it is not used: {error}"
    steps, choices = _described(graph, image_input, declared)
    plain = choices["normalisation"]
    reason = "; ".join(filter(None, (plain.reason, remark)))
    return steps, choices | {"normalisation": plain.model_copy(update={"reason": reason})}


def _as_stated(
    graph: GraphProto, image_input: InputDescription, declared: ModelSettings, file: StatedPreprocessing
) -> Decision:
    """As a file beside the graph says. Raises InvalidInput where that does not fit, or the graph does it itself."""
    if why := pixel_detection.prepares(graph, image_input):
        raise InvalidInput(why)
    steps, choices = _described(graph, image_input, preprocessing_files.with_pixels(declared, file))
    stated = {"given": False, "reason": f"the file {file.file!r} beside it"}
    return steps, {
        what: choice if what in image_input.choices else choice.model_copy(update=stated)
        for what, choice in choices.items()
    }


def _described(graph: GraphProto, image_input: InputDescription, declared: ModelSettings) -> Decision:
    limits, range_choice = pixel_detection.pixel_range(graph, image_input, declared)
    colours = pixel_detection.channels(graph, image_input, declared)
    normalisation = pixel_detection.normalisation(graph, image_input, limits, declared)
    steps = preprocessing.input_preprocessing(
        image_input, limits, normalisation.mean, normalisation.std, bgr=colours.value == "bgr"
    )
    choices = {**image_input.choices, "pixel_range": range_choice}
    if image_input.image[0] == 3:
        choices["channels"] = colours
    return steps, {**choices, "normalisation": normalisation.choice}
