"""The twin: a served ONNX file converted into a torch module, for gradients. ``gradient_check`` verifies it."""

import copy
import functools
import itertools
import warnings
from collections.abc import Callable
from pathlib import Path

import onnx
import torch
from torch import Tensor, nn

from gauntlet.artifacts import onnx_file
from gauntlet.runtime import quantised_graph, straight_through
from gauntlet.runtime.onnx2pytorch_import import STANDARD_LAYERS, ConvertModel, get_buffer_name


def open_twin(path: Path) -> nn.Module:
    """Return the file as a torch module in evaluation mode, parameters frozen. Raises any error of the conversion."""
    twin = convert(onnx_file.read(path)).eval().requires_grad_(False)
    for tensor in itertools.chain(twin.parameters(), twin.buffers()):
        if tensor.dim() == 4:  # the only rank that has this memory format
            tensor.data = tensor.data.contiguous(memory_format=torch.channels_last)  # on CPUs twice as fast
    return twin


def convert(model: onnx.ModelProto) -> nn.Module:
    """Return the graph as a torch module; if it is quantised, one with straight-through gradients of its roundings."""
    model, rounded = quantised_graph.as_floats(model) if quantised_graph.is_quantised(model) else (model, [])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # whether the conversion is correct is decided by the gradient check
        twin = _Converted(onnx_file.for_twin(model))
    straight_through.pass_gradients(twin, [twin.mapping[name] for name in rounded])
    return twin


class _Converted(ConvertModel):  # type: ignore[misc]
    """A converted graph that does not keep a second copy of its layers' weights."""

    def __init__(self, model: onnx.ModelProto) -> None:
        super().__init__(model)
        nodes = onnx.ModelProto()  # a new message: protobuf frees no memory of a message before the whole message
        nodes.graph.node.extend(model.graph.node)
        self.onnx_model = nodes

    def register_buffer(self, name: str, tensor: Tensor | None, persistent: bool = True) -> None:
        """Register only the buffers that a forward pass reads: layers have their own copies."""
        if name in self._names_read:
            super().register_buffer(name, tensor, persistent)

    @functools.cached_property
    def _names_read(self) -> frozenset[str]:
        """Names of the buffers that are read by nodes other than layers. Known after all nodes have been converted."""
        nodes = self.onnx_model.graph.node
        others = [
            node for node in nodes if not isinstance(getattr(self, self.mapping[node.output[0]]), STANDARD_LAYERS)
        ]
        return frozenset(get_buffer_name(name) for node in others for name in node.input)


def doubled(twin: nn.Module) -> nn.Module:
    """Return a twin that computes everything in float64, including the sums of a layer normalisation.

    It shares the weights of ``twin``. Each layer has a float64 copy only while it computes.
    """
    weights = [*twin.parameters(), *twin.buffers()]
    double = copy.deepcopy(twin, {id(weight): weight for weight in weights})
    if not weights:
        return double.double()
    for part in double.modules():
        if getattr(part, "accumulation_dtype", None) is torch.float32:
            part.accumulation_dtype = torch.float64  # type: ignore[assignment]
    _widen_while_computing(double)
    return double


def _widen_while_computing(module: nn.Module) -> None:
    """Add hooks to each layer that convert its weights to float64 before its forward pass and restore them after it."""
    calling = isinstance(module, (ConvertModel, Batched))  # other modules may use a child's weights without calling it
    weights = [
        (part, name, weight)
        for part in ([module] if calling else module.modules())
        for name, weight in (*part.named_parameters(recurse=False), *part.named_buffers(recurse=False))
        if weight.is_floating_point()
    ]
    for child in module.children() if calling else ():
        _widen_while_computing(child)

    def widen(*_: object) -> None:
        for part, name, weight in weights:
            wide = weight.double()
            setattr(part, name, nn.Parameter(wide, requires_grad=False) if isinstance(weight, nn.Parameter) else wide)

    def restore(*_: object) -> None:
        for part, name, weight in weights:
            setattr(part, name, weight)

    if weights:
        module.register_forward_pre_hook(widen)
        module.register_forward_hook(restore, always_call=True)


class Batched(nn.Module):
    """Wrapper of a network with a fixed batch size that accepts any number of images."""

    def __init__(self, inner: nn.Module, size: int) -> None:
        super().__init__()
        self.inner, self.size = inner, size

    def forward(self, x: Tensor) -> Tensor:
        whole = torch.cat([x, x[:1].expand(-len(x) % self.size, *x.shape[1:])])
        return torch.cat([self.inner(part) for part in torch.split(whole, self.size)])[: len(x)]


class Opaque(nn.Module):
    """Replacement for a twin if there is none: a module that returns the served logits, without gradients."""

    def __init__(self, predict: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self._predict = predict

    def forward(self, x: Tensor) -> Tensor:
        return self._predict(x).to(x.device)
