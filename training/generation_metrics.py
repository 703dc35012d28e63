"""A shipped classifier as the judge of generated images: which classes are there, and how far from real ones.

The features are what the classifier's last layer sees. Distances of other features, Inception's for example, are
other numbers: none of these is an FID.
"""

import copy
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import Tensor

from gauntlet.artifacts import artefact_folders, onnx_file
from gauntlet.artifacts.manifest import ClassifierManifest, Metric
from gauntlet.errors import ArtefactError
from training.data import Examples, to_pixels
from training.export import predict, session
from training.run import RunError

COVERAGE_SAMPLES = 2_000
COVERAGE_SEED = 0
NEIGHBOUR = 3  # of the k-nearest-neighbour balls of precision and recall

Features = NDArray[np.float32]


class Judge:
    """A classifier of the artefact folder, through ONNX Runtime.

    Raises:
        RunError: the folder holds no verified classifier; the message says how to get one.
    """

    def __init__(self, folder: Path) -> None:
        try:
            artefact = artefact_folders.load(folder)
        except ArtefactError as error:
            way_out = f"`python -m training train {folder.name}` makes it"
            raise RunError(f"generators are judged by a classifier: {error}; {way_out}") from error
        if not isinstance(artefact.manifest, ClassifierManifest):
            raise RunError(f"{folder} is no classifier: name another judge")
        self.classes = artefact.manifest.classes
        self._session = session(artefact.model_path)
        self._features = _before_the_head(artefact.model_path)

    def logits(self, images: Tensor) -> NDArray[np.float32]:
        """Images (N, C, H, W) in [0, 1] to logits (N, classes)."""
        return predict(self._session, images)

    def features(self, images: Tensor) -> Features:
        """Images (N, C, H, W) in [0, 1] to what the last layer sees (N, D)."""
        return predict(self._features, images)

    def shares(self, images: Tensor) -> NDArray[np.float64]:
        """The share of the images that is given each class, (classes,)."""
        return np.bincount(self.logits(images).argmax(1), minlength=len(self.classes)) / len(images)

    def coverage(self, generator: Path, latent_dim: int) -> dict[str, Metric]:
        """The smallest share of any class, and each class's, among 2,000 samples of an exported generator."""
        shares = self.shares(draw(generator, latent_dim, COVERAGE_SAMPLES))
        named = {"min_class_share": float(shares.min())} | {
            f"class_{index}_share": float(share) for index, share in enumerate(shares)
        }
        return {name: Metric(value=value, n=COVERAGE_SAMPLES, split="generated") for name, value in named.items()}

    def quality(self, generator: Path, latent_dim: int, test: Examples) -> dict[str, Metric]:
        """Distance, precision and recall of as many samples as half the test set has, against every other test image.

        The other half, measured in the same way, is the floor of the distance. Precision alone has none: samples of few
        kinds, all of them typical, exceed it, which recall then shows.
        """
        half = len(test.labels) // 2
        real, floor = (self.features(to_pixels(part)) for part in halves(test.images))
        fake = self.features(draw(generator, latent_dim, half))
        precision, recall = precision_and_recall(fake, real)
        best_precision, best_recall = precision_and_recall(floor, real)
        values = {
            "frechet_distance": frechet_distance(fake, real),
            "frechet_distance_of_real_images": frechet_distance(floor, real),
            "precision": precision,
            "precision_of_real_images": best_precision,
            "recall": recall,
            "recall_of_real_images": best_recall,
        }
        return {name: Metric(value=value, n=half, split="test") for name, value in values.items()}


def halves(images: Tensor) -> tuple[Tensor, Tensor]:
    """Every other image, and the others: alike even where a file is sorted, as MNIST's is by the writers' neatness."""
    pairs = images[: len(images) // 2 * 2]
    return pairs[::2], pairs[1::2]


def draw(generator: Path, latent_dim: int, n: int) -> Tensor:
    """Samples (n, C, H, W) of an exported generator, the same ones every time."""
    latents = torch.randn(n, latent_dim, generator=torch.Generator().manual_seed(COVERAGE_SEED))
    return torch.from_numpy(predict(session(generator), latents))


def frechet_distance(one: Features, other: Features) -> float:
    """Squared distance between Gaussians fitted to two sets of features (N, D) and (M, D).

    As in Heusel et al. (arXiv 1706.08500), with our own classifier's features. NaN where a feature is not finite.
    """
    a, b = one.astype(np.float64), other.astype(np.float64)
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        return float("nan")
    cov_a, cov_b = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    values, vectors = np.linalg.eigh(cov_a)
    root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    cross = np.sqrt(np.linalg.eigvalsh(root @ cov_b @ root).clip(0)).sum()
    return float(((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(cov_a) + np.trace(cov_b) - 2 * cross)


def precision_and_recall(fake: Features, real: Features) -> tuple[float, float]:
    """Share of the fakes that lie among the real features, and of the real ones that lie among the fakes.

    Kynkaanniemi et al., "Improved Precision and Recall Metric for Assessing Generative Models", arXiv 1904.06991:
    among means within the distance of some point to its third neighbour.
    """
    a, b = torch.from_numpy(fake), torch.from_numpy(real)
    return _inside(a, b), _inside(b, a)


def _inside(points: Tensor, cloud: Tensor) -> float:
    radii = torch.cdist(cloud, cloud).kthvalue(NEIGHBOUR + 1).values  # the nearest is the point itself
    return float((torch.cdist(points, cloud) <= radii).any(1).double().mean())


def _before_the_head(path: Path) -> onnxruntime.InferenceSession:
    """The classifier cut off before its last linear layer."""
    model = copy.deepcopy(onnx_file.read(path))
    producer = {name: node for node in model.graph.node for name in node.output}
    node = producer[model.graph.output[0].name]
    while node.op_type not in ("Gemm", "MatMul"):
        node = producer[node.input[0]]
    del model.graph.output[:]
    model.graph.output.append(onnx.helper.make_empty_tensor_value_info(node.input[0]))
    return onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
