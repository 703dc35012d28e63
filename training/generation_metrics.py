"""Quality of generated images, measured with a shipped classifier: class shares and distances from real images.

The features are the inputs of the classifier's last layer. The numbers are not comparable with those of other
features, such as Inception's: none of them is an FID.
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
NEIGHBOUR = 3  # k of the k-nearest-neighbour balls of precision and recall

Features = NDArray[np.float32]


class Judge:
    """The classifier in an artefact folder, run with ONNX Runtime.

    Raises:
        RunError: the folder holds no verified classifier; the message says how to make one.
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
        """Compute the logits (N, classes) of images (N, C, H, W) in [0, 1]."""
        return predict(self._session, images)

    def features(self, images: Tensor) -> Features:
        """Compute the inputs of the last layer (N, D) for images (N, C, H, W) in [0, 1]."""
        return predict(self._features, images)

    def shares(self, images: Tensor) -> NDArray[np.float64]:
        """Compute the share of the images that is predicted as each class, (classes,)."""
        return np.bincount(self.logits(images).argmax(1), minlength=len(self.classes)) / len(images)

    def coverage(self, generator: Path, latent_dim: int) -> dict[str, Metric]:
        """Measure each class's share, and the smallest, among 2,000 samples of an exported generator."""
        shares = self.shares(draw(generator, latent_dim, COVERAGE_SAMPLES))
        named = {"min_class_share": float(shares.min())} | {
            f"class_{index}_share": float(share) for index, share in enumerate(shares)
        }
        return {name: Metric(value=value, n=COVERAGE_SAMPLES, split="generated") for name, value in named.items()}

    def quality(self, generator: Path, latent_dim: int, test: Examples) -> dict[str, Metric]:
        """Measure distance, precision and recall of samples against every other test image.

        There are as many samples as images in half the test set. The other half, measured in the same way, gives the
        distance that real images have. For precision that is no upper limit: samples with little variety, all of them
        typical, exceed it, but have a low recall.
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
    """Split into every other image and the rest: similar halves even if the file is sorted.

    MNIST's is sorted by the writers' neatness.
    """
    pairs = images[: len(images) // 2 * 2]
    return pairs[::2], pairs[1::2]


def draw(generator: Path, latent_dim: int, n: int) -> Tensor:
    """Draw samples (n, C, H, W) from an exported generator, with the same latents every time."""
    latents = torch.randn(n, latent_dim, generator=torch.Generator().manual_seed(COVERAGE_SEED))
    return torch.from_numpy(predict(session(generator), latents))


def frechet_distance(one: Features, other: Features) -> float:
    """Compute the squared Frechet distance between Gaussians fitted to two sets of features (N, D) and (M, D).

    As in Heusel et al. (arXiv 1706.08500), with our own classifier's features. NaN if a feature is not finite.
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
    """Compute precision and recall: the share of fakes among the real features, and of real ones among the fakes.

    Kynkaanniemi et al., "Improved Precision and Recall Metric for Assessing Generative Models", arXiv 1904.06991:
    a point is among others if it is nearer to one of them than that one's third nearest neighbour.
    """
    a, b = torch.from_numpy(fake), torch.from_numpy(real)
    return _inside(a, b), _inside(b, a)


def _inside(points: Tensor, cloud: Tensor) -> float:
    radii = torch.cdist(cloud, cloud).kthvalue(NEIGHBOUR + 1).values  # the nearest is the point itself
    return float((torch.cdist(points, cloud) <= radii).any(1).double().mean())


def _before_the_head(path: Path) -> onnxruntime.InferenceSession:
    """Open the classifier without its last linear layer: its output is that layer's input."""
    model = copy.deepcopy(onnx_file.read(path))
    producer = {name: node for node in model.graph.node for name in node.output}
    node = producer[model.graph.output[0].name]
    while node.op_type not in ("Gemm", "MatMul"):
        node = producer[node.input[0]]
    del model.graph.output[:]
    model.graph.output.append(onnx.helper.make_empty_tensor_value_info(node.input[0]))
    return onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
