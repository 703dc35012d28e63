"""Tiny artefacts for tests, written by hand with onnx.helper: no training, no network, no data."""

import json
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from gauntlet.artifacts.manifest import ADAPTER, digest_files

CLASSES = ("ankle boot", "bag", "coat")
SHAPE = (1, 8, 8)
RECORD = {
    "command": "python -m tests",
    "config": {},
    "seed": 0,
    "epochs": 1,
    "selected_epoch": 0,
    "commit": "0" * 40,
    "data_sha256": "0" * 64,
    "test_sha256": "0" * 64,
    "data_official": True,
    "hardware": "none",
    "seconds": 0.0,
    "versions": {},
}


def save_graph(path: Path, nodes: list[onnx.NodeProto], weights: dict[str, NDArray], x: tuple, y: tuple) -> Path:
    """A graph from "x" (batch, *x) to "y" (batch, *y)."""
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", *x])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", *y])],
        [numpy_helper.from_array(np.ascontiguousarray(value), name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, path)
    return path


def save_manifest(folder: Path, **fields: object) -> Path:
    """The manifest of a folder that holds a model.onnx."""
    manifest = ADAPTER.validate_python(
        {
            "name": folder.name,
            "family": "standard",
            "dataset": "tiny",
            "metrics": {},
            "files": digest_files(folder, ["model.onnx"]),
            "training": RECORD,
            **fields,
        }
    )
    (folder / "manifest.json").write_text(json.dumps(manifest.model_dump(mode="json"), indent=2))
    return folder


def linear(folder: Path, seed: int = 0, weight: NDArray | None = None, bias: NDArray | None = None) -> Path:
    """A linear classifier of 1x8x8 images: its minimal adversarial distances are known in closed form."""
    draw = np.random.default_rng(seed)
    if weight is None:
        weight = draw.normal(size=(len(CLASSES), 64)).astype(np.float32)
        weight -= weight.mean(axis=1, keepdims=True)  # a grey image has no class: decisions depend on the pattern
    if bias is None:
        bias = np.zeros(len(weight), np.float32)
    nodes = [
        helper.make_node("Flatten", ["x"], ["flat"]),
        helper.make_node("Gemm", ["flat", "w", "b"], ["y"], transB=1),
    ]
    save_graph(folder / "model.onnx", nodes, {"w": weight, "b": bias}, SHAPE, (len(weight),))
    return save_manifest(folder, kind="classifier", input_shape=SHAPE, classes=CLASSES)


def convolutional(folder: Path, seed: int = 0, width: int = 8, scale: float = 1.0) -> Path:
    """Conv (stride 2), MaxMin, Flatten, Gemm: every layer type that the Lipschitz networks use."""
    draw = np.random.default_rng(seed)
    weights = {
        "k": (scale * draw.normal(size=(width, 1, 2, 2)) / 2).astype(np.float32),
        "kb": np.zeros(width, np.float32),
        "w": (scale * draw.normal(size=(len(CLASSES), width * 16)) / 8).astype(np.float32),
        "b": np.zeros(len(CLASSES), np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["x", "k", "kb"], ["c"], strides=[2, 2], kernel_shape=[2, 2]),
        helper.make_node("Split", ["c"], ["c1", "c2"], axis=1, num_outputs=2),
        helper.make_node("Max", ["c1", "c2"], ["hi"]),
        helper.make_node("Min", ["c1", "c2"], ["lo"]),
        helper.make_node("Concat", ["hi", "lo"], ["s"], axis=1),
        helper.make_node("Flatten", ["s"], ["flat"]),
        helper.make_node("Gemm", ["flat", "w", "b"], ["y"], transB=1),
    ]
    save_graph(folder / "model.onnx", nodes, weights, SHAPE, (len(CLASSES),))
    return save_manifest(folder, kind="classifier", family="lipschitz", input_shape=SHAPE, classes=CLASSES)


def generator(folder: Path, seed: int = 0, latent_dim: int = 4) -> Path:
    """Sigmoid of a linear map, latents (B, 4) to images (B, 1, 8, 8)."""
    draw = np.random.default_rng(seed)
    weights = {"w": draw.normal(size=(64, latent_dim)).astype(np.float32), "b": np.zeros(64, np.float32)}
    weights["shape"] = np.array([-1, *SHAPE], np.int64)
    nodes = [
        helper.make_node("Gemm", ["x", "w", "b"], ["flat"], transB=1),
        helper.make_node("Sigmoid", ["flat"], ["grey"]),
        helper.make_node("Reshape", ["grey", "shape"], ["y"]),
    ]
    save_graph(folder / "model.onnx", nodes, weights, (latent_dim,), SHAPE)
    return save_manifest(folder, kind="generator", family="vae", latent_dim=latent_dim, output_shape=SHAPE)


def evalset(path: Path, n: int = 40, seed: int = 0) -> Path:
    """Random images with random labels."""
    draw = np.random.default_rng(seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(
        path,
        images=draw.integers(0, 256, size=(n, *SHAPE), dtype=np.uint8),
        labels=draw.integers(0, len(CLASSES), size=n),
        classes=np.array(CLASSES),
        licence=np.array("none needed"),
    )
    return path
