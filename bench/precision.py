"""``python -m bench.precision``: does PGD break 8-bit copies on the same images as their float originals?

Each float file is quantised by ONNX Runtime in three ways: statically to QDQ and to QOperator form, calibrated on
training images, and dynamically; with the quantiser's defaults, except that QOperator gets uint8 throughout: with int8
weights ONNX Runtime saturates its sums on x86 processors without VNNI, and the results differ there. Every copy is
opened like a user's file, and PGD attacks it and the original at the same eps, with straight-through gradients for the
copy; ONNX Runtime judges both. Images are held out of training. MobileNetV2 has random weights (``bench.zoo.weights``)
except for its last layer.
"""

import argparse
import logging
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
import torch
from onnxruntime.quantization import QuantFormat, QuantType, quantize_dynamic, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from torch import Tensor

from bench.attacks.records import table
from bench.attacks.task import ARTIFACTS, correct
from bench.calibration_images import CalibrationImages
from gauntlet import open_classifier
from gauntlet.artifacts import artefact_folders
from gauntlet.artifacts.manifest import MODEL_FILE
from gauntlet.evaluation import referee
from gauntlet.onnx_import.usual_preprocessing import IMAGENET_MEAN, IMAGENET_STD
from gauntlet.runtime.classifier import Classifier
from gauntlet.threat import Threat
from training.data import SOURCES, data_root, load_training, to_pixels

MODELS = ("mnist-standard", "fashion-mnist-standard", "cifar10-standard", "mobilenet_v2")
CALIBRATING = 64  # images
EPS = {"mnist": 0.1, "fashion-mnist": 0.03, "cifar10": 2 / 255, "fashion-mnist at 224 pixels": 1 / 255}
SIDE, READOUT, RIDGE = 224, 400, 1e-3  # of MobileNetV2: pixels, images to which its last layer is fitted, penalty
FORMS = ("qdq", "qoperator", "dynamic")


@dataclass(frozen=True)
class Original:
    """A float file, images in [0, 1] of its data set, and its declared preprocessing."""

    file: Path
    calibrating: Tensor  # (CALIBRATING, C, H, W), preprocessed as the file expects
    x: Tensor  # (n, C, H, W)
    y: Tensor  # (n,)
    dataset: str
    declared: Mapping[str, Any]


def shipped(name: str, n: int) -> Original:
    """Return a shipped classifier and validation images of its data set."""
    dataset = artefact_folders.load(ARTIFACTS / name).manifest.dataset
    data = load_training(SOURCES[dataset], data_root())
    seen = to_pixels(data.train.images[:CALIBRATING])
    x, y = to_pixels(data.validation.images[:n]), data.validation.labels[:n]
    declared = {"pixel_range": "0..1", "mean": (0.0,), "std": (1.0,)}
    return Original(ARTIFACTS / name / MODEL_FILE, seen, x, y, dataset, declared)


def mobilenet(folder: Path, n: int, seed: int) -> Original:
    """Return torchvision's MobileNetV2 on enlarged Fashion-MNIST: random features, last layer by least squares."""
    from bench.zoo import export, weights  # noqa: PLC0415  imports torchvision

    data = load_training(SOURCES["fashion-mnist"], data_root())
    torch.manual_seed(seed)
    network = weights.settle(export.build("torchvision", "mobilenet_v2"), SIDE, seed)
    seen, labels = _enlarged(data.train.images[:READOUT]), data.train.labels[:READOUT]
    network.classifier = torch.nn.Identity()
    with torch.no_grad():
        features = torch.cat([network(part) for part in torch.split(_normalised(seen), 16)])  # (READOUT, 1280)
        network.classifier = torch.nn.Linear(features.shape[1], 10)
        middle, targets = features.mean(dim=0), torch.nn.functional.one_hot(labels, 10).float() - 0.1
        centred = features - middle
        ridge = RIDGE * centred.square().sum() / len(centred) * torch.eye(len(centred))
        weight = centred.T @ torch.linalg.solve(centred @ centred.T + ridge, targets)  # (1280, 10)
        network.classifier.weight.copy_(weight.T)
        network.classifier.bias.copy_(-middle @ weight)
    file = folder / "mobilenet_v2.onnx"
    torch.onnx.export(network.eval(), (_normalised(seen[:1]),), str(file), verbose=False)
    x, y = _enlarged(data.validation.images[:n]), data.validation.labels[:n]
    declared = {"mean": IMAGENET_MEAN, "std": IMAGENET_STD}
    return Original(file, _normalised(seen[:CALIBRATING]), x, y, "fashion-mnist at 224 pixels", declared)


def _enlarged(images: Any) -> Tensor:
    """Enlarge grey images to colour images of SIDE pixels (n, 3, SIDE, SIDE)."""
    grown = torch.nn.functional.interpolate(to_pixels(images), size=(SIDE, SIDE), mode="bilinear", align_corners=False)
    return grown.expand(-1, 3, -1, -1).contiguous()


def _normalised(x: Tensor) -> Tensor:
    mean, std = (torch.tensor(numbers).view(3, 1, 1) for numbers in (IMAGENET_MEAN, IMAGENET_STD))
    return (x - mean) / std


def copies(original: Original, folder: Path) -> dict[str, Path]:
    """Quantise a float file with ONNX Runtime; return the files by form."""
    floats = folder / "prepared.onnx"
    logging.disable(logging.WARNING)
    whole = folder / "whole.onnx"
    onnx.save(onnx.load(original.file), whole)  # weights inside the file: the next step does not find external ones
    quant_pre_process(whole, floats, skip_symbolic_shape=True)  # folds the casts of float16 weights into constants
    model = onnx.load(floats)
    del model.graph.value_info[:]  # the dynamic quantiser transposes weights without updating their shapes
    _activate_first(model)
    onnx.save(model, floats)
    made = {form: folder / f"{form}.onnx" for form in FORMS}
    images = original.calibrating.numpy()
    quantize_static(floats, made["qdq"], CalibrationImages(floats, images), quant_format=QuantFormat.QDQ)
    quantize_static(
        floats,
        made["qoperator"],
        CalibrationImages(floats, images),
        quant_format=QuantFormat.QOperator,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QUInt8,
    )
    quantize_dynamic(floats, made["dynamic"])
    logging.disable(logging.NOTSET)
    return made


def _activate_first(model: onnx.ModelProto) -> None:
    """Swap max-pooling and the ReLU after it, which is the same function: the QOperator quantiser drops that ReLU."""
    made = {node.output[0]: node for node in model.graph.node}
    for relu in model.graph.node:
        pool = made.get(relu.input[0]) if relu.op_type == "Relu" else None
        if pool is not None and pool.op_type == "MaxPool":
            attributes = list(pool.attribute)
            del pool.attribute[:]
            relu.attribute.extend(attributes)
            pool.op_type, relu.op_type = "Relu", "MaxPool"


def broken(model: Classifier, x: Tensor, y: Tensor, eps: float, seed: int, steps: int) -> tuple[Tensor, Tensor]:
    """Run PGD; return which images (n,) it breaks or the model misclassifies, and the attacked images (n, C, H, W)."""
    outcome = referee.run(model, "pgd", x, y, Threat("linf", eps), seed=seed, params={"steps": steps})
    return outcome.success | ~outcome.correct, outcome.images


def compared(name: str, options: argparse.Namespace, folder: Path) -> Iterator[list[str]]:
    """Yield a row for each copy."""
    source = mobilenet(folder, options.n, options.seed) if name == "mobilenet_v2" else shipped(name, options.n)
    eps = options.eps or EPS[source.dataset]
    original = open_classifier(source.file, name="float", device="cpu", **source.declared)
    x, y = correct(original, source.x, source.y)
    original_broken, examples = broken(original, x, y, eps, options.seed, options.steps)
    for form, file in copies(source, folder).items():
        copy = open_classifier(file, name="copy", device="cpu", **source.declared)
        same = copy.predict(x).argmax(dim=1) == y
        head = [name, f"{eps:.4f}", form, copy.manifest.gradients.partition(" (")[0], f"{int(same.sum())} of {len(x)}"]
        if not copy.manifest.differentiable:
            sys.stderr.write(f"{name}, {form}: {copy.manifest.gradients}\n")
            yield [*head, "", "", ""]
            continue
        copy_broken, copy_examples = broken(copy, x, y, eps, options.seed, options.steps)
        both = original_broken & same
        to_copy = both & (copy.predict(examples).argmax(dim=1) != y)
        to_original = copy_broken & same & (original.predict(copy_examples).argmax(dim=1) != y)
        yield [
            *head,
            f"{int((copy_broken & both).sum())} of {int(both.sum())}",
            f"{int(to_copy.sum())} of {int(both.sum())}",
            f"{int(to_original.sum())} of {int((copy_broken & same).sum())}",
        ]


def main() -> None:
    """Print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=MODELS, help="shipped classifiers, or mobilenet_v2")
    parser.add_argument("--n", type=int, default=200, help="images of each model, without those it misclassifies")
    parser.add_argument("--steps", type=int, default=40, help="of PGD")
    parser.add_argument("--eps", type=float, help="in Linf; default: by data set")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    head = ["model", "Linf", "copy", "gradients", "same answer", "broken too", "float to copy", "copy to float"]
    rows = []
    for name in options.names:
        with tempfile.TemporaryDirectory() as folder:
            for row in compared(name, options, Path(folder)):
                sys.stderr.write(f"{row}\n")
                rows.append(row)
    print(f"PGD with {options.steps} steps, the first {options.n} images, seed {options.seed}.\n\n{table(head, rows)}")


if __name__ == "__main__":
    main()
