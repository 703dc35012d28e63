"""Export of a trained network to an artefact folder: ONNX, check against torch, manifest, card; replaced as a whole."""

import os
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper
from onnx2pytorch import ConvertModel
from PIL import Image
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from gauntlet.artifacts.manifest import (
    ADAPTER,
    MANIFEST_FILE,
    MODEL_FILE,
    ClassifierManifest,
    GeneratorManifest,
    Metric,
    TrainingRecord,
    digest_files,
)
from gauntlet.artifacts.onnx_file import read
from training.card import CARD_FILE, card

OPSET = 20
SMALL = 1_000  # weights with fewer numbers than this stay in float32
TOLERANCE = 1e-4  # largest difference allowed between torch and the exported graph, relative to the largest output or 1


class ExportError(Exception):
    """The exported graph does not compute the same outputs as the network."""


class Graph(NamedTuple):
    """A network to be exported, on the CPU, in float32.

    ``example`` is a batch of at least two inputs (B, ...), on which parity is checked too.
    """

    module: nn.Module
    example: Tensor
    input_name: str
    output_name: str


class Measured(NamedTuple):
    """Measurements of an exported file: metrics, further fields of the manifest, further pictures."""

    metrics: dict[str, Metric]
    fields: Mapping[str, Any] = {}
    pictures: Mapping[str, Image.Image] = {}


class Product(NamedTuple):
    """The result of a training job, independent of the folder that it is exported to.

    Attributes:
        graph: the network to serve.
        pictures: file name to picture.
        manifest: the manifest's fields that describe the kind of model.
        measure: measures the exported files in the given folder.
        notes: the card's text about design, use and limits; Markdown.
    """

    graph: Graph
    pictures: Mapping[str, Image.Image]
    manifest: Mapping[str, Any]
    measure: Callable[[Path], Measured]
    notes: str


def publish(product: Product, target: Path, record: TrainingRecord) -> ClassifierManifest | GeneratorManifest:
    """Build the artefact in a new folder and replace ``target`` with it; on any error the old folder is unchanged.

    Raises:
        ExportError: torch and ONNX Runtime disagree.
    """
    with replacing(target) as folder:
        write_graph(product.graph, folder / MODEL_FILE)
        save_pictures(folder, product.pictures)
        fields = {"name": target.name, "metrics": {}, "training": record, **product.manifest}
        write_manifest(folder, fields)  # `measure` opens the folder as an artefact
        measured = product.measure(folder)
        save_pictures(folder, measured.pictures)
        fields |= {"metrics": measured.metrics, **measured.fields}
        (folder / CARD_FILE).write_text(card(fields, product.notes))
        return write_manifest(folder, fields)


def save_pictures(folder: Path, pictures: Mapping[str, Image.Image]) -> None:
    """Write pictures into the folder, by file name, in 256 colours."""
    for name, picture in pictures.items():
        compact = picture.quantize(256) if picture.mode == "RGB" else picture
        compact.save(folder / name, optimize=True)


def write_manifest(folder: Path, fields: Mapping[str, Any]) -> ClassifierManifest | GeneratorManifest:
    """Write the manifest, with the digests of the files that are now in the folder."""
    names = [path.name for path in folder.iterdir() if path.name != MANIFEST_FILE]
    manifest = ADAPTER.validate_python({**fields, "files": digest_files(folder, names)})
    (folder / MANIFEST_FILE).write_text(manifest.model_dump_json(indent=2) + "\n")
    return manifest


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """Yield a new folder, which replaces the target if the block succeeds and is deleted if it fails."""
    target.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        fresh, old = work / target.name, work / "old"
        fresh.mkdir()
        yield fresh
        if target.exists():
            target.rename(old)
        try:
            fresh.rename(target)
        except OSError:
            if old.exists():
                old.rename(target)
            raise
    finally:
        shutil.rmtree(work)


def write_graph(graph: Graph, path: Path) -> None:
    """Export one network, its weights rounded to float16, and compare the file with it, in ONNX Runtime and as a twin.

    Raises:
        ExportError: the outputs differ by more than the tolerance.
    """
    module = fold(graph.module.eval().cpu().float())
    for weight in (*module.parameters(), *module.buffers()):
        if weight.numel() >= SMALL and weight.is_floating_point():
            weight.data = weight.data.half().float()  # the values that the file will hold
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own deprecations
        torch.onnx.export(
            module,
            (graph.example,),
            str(path),
            dynamo=True,
            opset_version=OPSET,
            external_data=False,
            input_names=[graph.input_name],
            output_names=[graph.output_name],
            dynamic_shapes=({0: torch.export.Dim("batch", min=1)},),
            verbose=False,
        )
        tidy(path)
        twin = ConvertModel(read(path), experimental=True).eval()
    served = session(path)
    for batch in (graph.example[:1], graph.example):
        with torch.no_grad():
            expected = module(batch).numpy()
            twins = twin(batch).numpy()
        _compare(expected, predict(served, batch), f"{path.name}: ONNX Runtime and torch")
        _compare(expected, twins, f"{path.name}: onnx2pytorch and torch")


def fold(module: nn.Module) -> nn.Module:
    """Fold batch normalisation into the layer before it, as the exporter would do, but before weights are rounded."""
    if not isinstance(module, nn.Sequential):
        for name, child in module.named_children():
            module.add_module(name, fold(child))
        return module
    layers: list[nn.Module] = []
    for layer in map(fold, module):
        before = layers[-1] if layers else None
        if isinstance(layer, nn.BatchNorm1d) and isinstance(before, nn.Linear):
            layers[-1] = fuse_linear_bn_eval(before, layer)
        elif isinstance(layer, nn.BatchNorm2d) and isinstance(before, nn.Conv2d | nn.ConvTranspose2d):
            transposed = isinstance(before, nn.ConvTranspose2d)
            layers[-1] = fuse_conv_bn_eval(before, layer, transpose=transposed)
        else:
            layers.append(layer)
    return nn.Sequential(*layers)


def tidy(path: Path) -> None:
    """Store weights as float16 with a Cast to float32, and remove the metadata of the exporter."""
    model = onnx.load(path)
    graph = model.graph
    for part in (model, graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    casts = []
    for tensor in graph.initializer:
        value = numpy_helper.to_array(tensor)
        if value.dtype == np.float32 and value.size >= SMALL:
            name = tensor.name
            tensor.CopyFrom(numpy_helper.from_array(value.astype(np.float16), f"{name}.float16"))
            casts.append(helper.make_node("Cast", [tensor.name], [name], to=TensorProto.FLOAT))
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    onnx.save(model, path)


def session(path: Path) -> onnxruntime.InferenceSession:
    """Open the file in ONNX Runtime on the CPU: the reference with which every figure of a manifest is measured."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = len(os.sched_getaffinity(0))
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def predict(served: onnxruntime.InferenceSession, x: Tensor) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Run the one-input, one-output graph on x (B, ...), 500 rows at a time."""
    name = served.get_inputs()[0].name
    return np.concatenate([served.run(None, {name: part.numpy()})[0] for part in torch.split(x, 500)])


def _compare(expected: np.ndarray[Any, Any], found: np.ndarray[Any, Any], what: str) -> None:
    if expected.shape != found.shape:
        raise ExportError(f"{what} give different shapes, {expected.shape} and {found.shape}; nothing was replaced")
    difference = float(np.abs(expected - found).max()) / max(1.0, float(np.abs(expected).max()))
    if not difference <= TOLERANCE:
        raise ExportError(f"{what} differ by {difference:.2e}, allowed is {TOLERANCE:.0e}; nothing was replaced")
