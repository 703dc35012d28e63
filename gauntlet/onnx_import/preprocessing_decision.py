"""Decides the preprocessing of a user's graph: as declared, as in a file beside it, or as guessed from the graph."""

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
    """Return the preprocessing, and for each of its settings the value and where it is from. Raises InvalidInput."""
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
    """Use the preprocessing of a file. Raises InvalidInput if it does not fit, or the graph has its own."""
    if why := pixel_detection.prepares(graph, image_input):
        raise InvalidInput(why)
    steps, choices = _described(graph, image_input, preprocessing_files.with_pixels(declared, file))
    stated = {"given": False, "reason": f"the file {file.file!r} beside it"}
    return steps, {
        what: choice if what in image_input.choices else choice.model_copy(update=stated)
        for what, choice in choices.items()
    }


def _described(graph: GraphProto, image_input: InputDescription, declared: ModelSettings) -> Decision:
    """Use the declared settings, and guess the others from the graph."""
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
