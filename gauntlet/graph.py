"""ONNX files as the prover and the torch twin read them."""

from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper


def read(path: Path) -> onnx.ModelProto:
    """The graph in a file, with weights that are stored small (a constant and a Cast of it) at their full size.

    Exact: every float16 is a float32, and ONNX Runtime folds the same nodes when it opens the file.
    """
    model = onnx.load(path)
    graph = model.graph
    stored = {tensor.name: tensor for tensor in graph.initializer}
    rest = []
    for node in graph.node:
        if node.op_type == "Cast" and node.domain in ("", "ai.onnx") and node.input[0] in stored:
            (to,) = (attribute.i for attribute in node.attribute if attribute.name == "to")
            value = numpy_helper.to_array(stored[node.input[0]])
            if value.dtype == np.float16 and to == onnx.TensorProto.FLOAT:
                graph.initializer.append(numpy_helper.from_array(value.astype(np.float32), node.output[0]))
                continue
        rest.append(node)
    if len(rest) < len(graph.node):
        del graph.node[:]
        graph.node.extend(rest)
        used = {name for node in rest for name in node.input} | {value.name for value in graph.output}
        kept = [tensor for tensor in graph.initializer if tensor.name in used]
        del graph.initializer[:]
        graph.initializer.extend(kept)
    return model
