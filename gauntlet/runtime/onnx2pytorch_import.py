"""Import onnx2pytorch without torchvision.

onnx2pytorch imports torchvision for a few operators that our graphs do not contain, which costs every process six
seconds of CPU and 190 MB. While onnx2pytorch is imported, and only then, stub modules replace torchvision.
"""

import sys
from types import ModuleType
from typing import Any


class _StandIn(ModuleType):
    """A stub module: each of its functions raises NotImplementedError."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)

        def missing(*_: Any, **__: Any) -> Any:
            raise NotImplementedError(f"{self.__name__}.{name} is left out here")

        return missing


_NAMES = () if "torchvision" in sys.modules else ("torchvision", "torchvision.ops", "torchvision.io")
sys.modules.update({name: _StandIn(name) for name in _NAMES})
try:
    from onnx2pytorch import ConvertModel
    from onnx2pytorch.constants import STANDARD_LAYERS
    from onnx2pytorch.convert.operations import get_buffer_name
finally:
    for _name in _NAMES:
        del sys.modules[_name]

__all__ = ["STANDARD_LAYERS", "ConvertModel", "get_buffer_name"]
