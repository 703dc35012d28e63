"""Inlining of the local functions of an ONNX file: all later steps expect a graph of operators only."""

import onnx
from onnx import NodeProto, inliner

from gauntlet.errors import refused

MAX_FUNCTIONS = 200

Key = tuple[str, str, str]  # domain, name, overload


def inline(model: onnx.ModelProto, most: int) -> onnx.ModelProto:
    """Return the model with all its functions inlined. Functions that are not called are dropped.

    Raises InvalidInput if the graph would have more than ``most`` nodes, or a function calls itself.
    """
    if not model.functions:
        return model
    if len(model.functions) > MAX_FUNCTIONS:
        raise refused(f"it defines {len(model.functions)} functions, at most {MAX_FUNCTIONS} are accepted")
    total = _Sizes(model).of(model.graph.node, ())
    if total > most:
        raise refused(f"with its functions inlined it has {total} nodes, at most {most} are accepted")
    try:
        return inliner.inline_local_functions(model)
    except Exception as error:  # the inliner's own exceptions share no base
        raise refused(f"its functions cannot be inlined ({' '.join(str(error).split())[:200]})") from error


class _Sizes:
    """Counts nodes before inlining: a few functions that call each other twice would become billions of nodes."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self._functions = {(f.domain, f.name, f.overload): f for f in model.functions}
        self._known: dict[Key, int] = {}

    def of(self, nodes: "onnx.GraphProto.node", callers: tuple[Key, ...]) -> int:
        """Return the number of nodes after inlining; ``callers`` are the functions that contain these nodes."""
        return sum(self._node(node, callers) for node in nodes)

    def _node(self, node: NodeProto, callers: tuple[Key, ...]) -> int:
        key = (node.domain, node.op_type, node.overload)
        if key not in self._functions:
            return 1
        if key in callers:
            raise refused(f"its function {node.op_type[:100]} calls itself")
        if key not in self._known:
            self._known[key] = self.of(self._functions[key].node, (*callers, key))
        return self._known[key]
