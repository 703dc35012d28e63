"""The first images of evaluation sets, and what is said of them: all that an API process keeps of a set."""

import threading
from collections.abc import Hashable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gauntlet.artifacts.evaluation_sets import EvalSet
from gauntlet.errors import ArtefactError
from service.errors import Code, ServiceError
from service.observability.logs import LOGGER
from service.uploads.evalsets import EvaluationSets

MOST_IMAGES = 32


@dataclass(frozen=True)
class EvalSetPreview:
    """An evaluation set without most of its images."""

    name: str
    n: int
    image_shape: tuple[int, int, int]  # C, H, W
    classes: tuple[str, ...]
    licence: str
    sha256: str
    images: NDArray[np.float32]  # (up to MOST_IMAGES, C, H, W) in [0, 1]
    labels: NDArray[np.int64]


def preview(found: EvalSet) -> EvalSetPreview:
    channels, height, width = found.images.shape[1:]
    images, labels = found.head(min(MOST_IMAGES, len(found.labels)))
    return EvalSetPreview(
        found.name,
        len(found.labels),
        (channels, height, width),
        found.classes,
        found.licence,
        found.sha256,
        images,
        labels.copy(),
    )


class EvalSetPreviews:
    """By name. A set is read when it is first asked for, and again when it has changed."""

    def __init__(self, sets: EvaluationSets) -> None:
        self.sets = sets
        self._kept: dict[str, tuple[Hashable, EvalSetPreview]] = {}
        self._lock = threading.Lock()

    def get(self, name: str, field: str = "dataset") -> EvalSetPreview:
        """Raises ServiceError ``unknown_dataset``, ArtefactError where it is damaged."""
        version = self.sets.version(name, field)
        with self._lock:
            known = self._kept.get(name)
            if known is None or known[0] != version:
                known = version, preview(self.sets.read(name, version))
                self._kept[name] = known
            return known[1]

    def usable(self) -> list[EvalSetPreview]:
        """All but the damaged ones, which the log names."""
        found = []
        for name in self.sets.names:
            try:
                found.append(self.get(name))
            except ArtefactError as error:
                LOGGER.error("evaluation set left out: %s", error)
            except ServiceError as error:
                if error.code is not Code.UNKNOWN_DATASET:  # deleted meanwhile
                    raise
        return found
