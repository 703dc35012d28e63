"""A shipped classifier as the judge of generated images: which classes are there, and how far from real ones."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gauntlet import store
from gauntlet.errors import ArtefactError
from gauntlet.manifest import ClassifierManifest, Metric
from training.export import predict, session
from training.run import RunError

COVERAGE_SAMPLES = 2_000
COVERAGE_SEED = 0


class Judge:
    """A classifier of the artefact folder, through ONNX Runtime.

    Raises:
        RunError: the folder holds no verified classifier; the message says how to get one.
    """

    def __init__(self, folder: Path) -> None:
        try:
            artefact = store.load(folder)
        except ArtefactError as error:
            way_out = f"`python -m training train {folder.name}` makes it"
            raise RunError(f"generators are judged by a classifier: {error}; {way_out}") from error
        if not isinstance(artefact.manifest, ClassifierManifest):
            raise RunError(f"{folder} is no classifier: name another judge")
        self.classes = artefact.manifest.classes
        self._session = session(artefact.model_path)

    def logits(self, images: Tensor) -> NDArray[np.float32]:
        """Images (N, C, H, W) in [0, 1] to logits (N, classes)."""
        return predict(self._session, images)

    def shares(self, images: Tensor) -> NDArray[np.float64]:
        """The share of the images that is given each class, (classes,)."""
        return np.bincount(self.logits(images).argmax(1), minlength=len(self.classes)) / len(images)

    def coverage(self, generator: Path, latent_dim: int) -> dict[str, Metric]:
        """The smallest share of any class, and each class's, among 2,000 samples of an exported generator."""
        latents = torch.randn(COVERAGE_SAMPLES, latent_dim, generator=torch.Generator().manual_seed(COVERAGE_SEED))
        shares = self.shares(torch.from_numpy(predict(session(generator), latents)))
        named = {"min_class_share": float(shares.min())} | {
            f"class_{index}_share": float(share) for index, share in enumerate(shares)
        }
        return {name: Metric(value=value, n=COVERAGE_SAMPLES, split="generated") for name, value in named.items()}


def frechet_distance(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """Squared distance between Gaussians fitted to two sets of features (N, D) and (M, D).

    As in Heusel et al. (arXiv 1706.08500), with a classifier's logits for features.
    """
    a, b = one.astype(np.float64), other.astype(np.float64)
    cov_a, cov_b = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    cross = np.sqrt(np.linalg.eigvals(cov_a @ cov_b).real.clip(0)).sum()
    return float(((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(cov_a) + np.trace(cov_b) - 2 * cross)
