"""A served ONNX file as a torch module, its twin: what gradients come from. ``gradient_check`` judges it."""

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
    """The file as a torch module in evaluation mode, parameters frozen. Raises whatever the conversion meets."""
    made = convert(onnx_file.read(path)).eval().requires_grad_(False)
    for tensor in itertools.chain(made.parameters(), made.buffers()):
        if tensor.dim() == 4:  # the only rank that has this order
            tensor.data = tensor.data.contiguous(memory_format=torch.channels_last)  # on CPUs twice as fast
    return made


def convert(model: onnx.ModelProto) -> nn.Module:
    """The graph as a torch module; where it is quantised, one that rounds as it does and lets gradients pass."""
    model, rounded = quantised_graph.as_floats(model) if quantised_graph.is_quantised(model) else (model, [])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # onnx2pytorch warns of what the gradient check decides
        made = _Converted(onnx_file.for_twin(model))
    straight_through.pass_gradients(made, [made.mapping[name] for name in rounded])
    return made


class _Converted(ConvertModel):  # type: ignore[misc]
    """A converted graph that keeps no second copy of its layers' weights."""

    def __init__(self, model: onnx.ModelProto) -> None:
        super().__init__(model)
        nodes = onnx.ModelProto()  # a new one: no memory of a message is freed before all of it is
        nodes.graph.node.extend(model.graph.node)
        self.onnx_model = nodes

    def register_buffer(self, name: str, tensor: Tensor | None, persistent: bool = True) -> None:
        """Only what a forward pass looks for: layers have their own."""
        if name in self._read:
            super().register_buffer(name, tensor, persistent)

    @functools.cached_property
    def _read(self) -> frozenset[str]:
        """Buffers that nodes read which are no layers. Known once all nodes have been converted."""
        nodes = self.onnx_model.graph.node
        others = [
            node for node in nodes if not isinstance(getattr(self, self.mapping[node.output[0]]), STANDARD_LAYERS)
        ]
        return frozenset(get_buffer_name(name) for node in others for name in node.input)


def doubled(twin: nn.Module) -> nn.Module:
    """A twin that computes in float64, all of it: a layer normalisation would sum in float32 otherwise.

    Its weights are those of ``twin``. Each layer has them in float64 while it computes, and no longer.
    """
    weights = [*twin.parameters(), *twin.buffers()]
    made = copy.deepcopy(twin, {id(weight): weight for weight in weights})
    if not weights:
        return made.double()
    for part in made.modules():
        if getattr(part, "accumulation_dtype", None) is torch.float32:
            part.accumulation_dtype = torch.float64  # type: ignore[assignment]
    _widen_while_computing(made)
    return made


def _widen_while_computing(module: nn.Module) -> None:
    """Give each layer its weights in float64 for the time of its pass."""
    calling = isinstance(module, (ConvertModel, Batched))  # any other may use its children's weights without a call
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
    """A network that takes a fixed number of images at once, as one that takes any number."""

    def __init__(self, inner: nn.Module, size: int) -> None:
        super().__init__()
        self.inner, self.size = inner, size

    def forward(self, x: Tensor) -> Tensor:
        whole = torch.cat([x, x[:1].expand(-len(x) % self.size, *x.shape[1:])])
        return torch.cat([self.inner(part) for part in torch.split(whole, self.size)])[: len(x)]


class Opaque(nn.Module):
    """In the place of a twin where there is none: the served logits, without gradients."""

    def __init__(self, predict: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self._predict = predict

    def forward(self, x: Tensor) -> Tensor:
        return self._predict(x).to(x.device)
