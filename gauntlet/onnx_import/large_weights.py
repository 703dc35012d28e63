"""Moves large weights of a graph into a temporary file while it is rewritten, so that copies of the graph are small."""

from pathlib import Path

import numpy as np
import onnxruntime as ort
from onnx import ModelProto, TensorProto, helper, numpy_helper

from gauntlet.artifacts.onnx_skeleton import is_large
from gauntlet.errors import refused
from gauntlet.runtime.session import exact_session

FILE = "weights"
ALIGNED = 4096  # bytes: ONNX Runtime maps weights into memory if they begin at a page boundary
FOLDER = "session.model_external_initializers_file_folder_path"


class LargeWeights:
    """A file of weights in ``folder``, which must exist as long as the graph is used."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._wide: dict[str, TensorProto] = {}  # float32 copies of weights set aside, by name
        (folder / FILE).touch()

    def without(self, model: ModelProto) -> ModelProto:
        """Move the data of all large weights into the file, and return the model, which now only refers to them."""
        for tensor in model.graph.initializer:
            self.set_aside(tensor)
        return ModelProto.FromString(model.SerializeToString())  # a copy: protobuf frees only whole messages

    def set_aside(self, tensor: TensorProto) -> None:
        """Move the data of a weight into the file if it is large."""
        if is_large(tensor):
            numbers = tensor.raw_data
            tensor.ClearField("raw_data")
            self._refer(tensor, numbers)

    def _refer(self, tensor: TensorProto, numbers: bytes) -> None:
        with (self._folder / FILE).open("ab") as file:
            file.write(bytes(-file.tell() % ALIGNED))
            place = {"location": FILE, "offset": str(file.tell()), "length": str(len(numbers))}
            file.write(numbers)
        tensor.data_location = TensorProto.EXTERNAL
        del tensor.external_data[:]
        for key, value in place.items():
            tensor.external_data.add(key=key, value=value)

    def _numbers(self, tensor: TensorProto) -> bytes:
        place = {entry.key: entry.value for entry in tensor.external_data}
        with (self._folder / FILE).open("rb") as file:
            file.seek(int(place["offset"]))
            return file.read(int(place["length"]))

    def widen(self, tensor: TensorProto) -> None:
        """Convert the weight to float32, in place, also if its data are in the file."""
        if tensor.data_location != TensorProto.EXTERNAL:
            wide = numpy_helper.to_array(tensor).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(wide, tensor.name))
            return
        if tensor.name not in self._wide:
            narrow = np.frombuffer(self._numbers(tensor), helper.tensor_dtype_to_np_dtype(tensor.data_type))
            made = TensorProto(name=tensor.name, dims=tensor.dims, data_type=TensorProto.FLOAT)
            self._refer(made, narrow.astype(np.float32).tobytes())
            self._wide[tensor.name] = made
        tensor.CopyFrom(self._wide[tensor.name])

    def whole(self, model: ModelProto) -> bytes:
        """Return the bytes of the model with all its weights, which are also put back into ``model``."""
        for tensor in model.graph.initializer:
            if tensor.data_location == TensorProto.EXTERNAL:
                tensor.raw_data = self._numbers(tensor)
                tensor.ClearField("data_location")
                del tensor.external_data[:]
        return model.SerializeToString()

    def session(self, model: ModelProto) -> ort.InferenceSession:
        """Open the graph in ONNX Runtime, on one thread. Raises InvalidInput if ONNX Runtime refuses it."""
        options = ort.SessionOptions()
        options.log_severity_level = 4
        options.intra_op_num_threads = 1
        options.add_session_config_entry(FOLDER, str(self._folder))
        try:
            return exact_session(model.SerializeToString(), options, ["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime's own exceptions share no base
            raise refused(f"ONNX Runtime refuses it ({' '.join(str(error).split())[:300]})") from error
