"""Large weights of a graph, in a file of their own while the graph is rewritten: copies of the graph are then small."""

from pathlib import Path

import numpy as np
import onnxruntime as ort
from onnx import ModelProto, TensorProto, helper, numpy_helper

from gauntlet.artifacts.onnx_skeleton import is_large
from gauntlet.errors import refused
from gauntlet.runtime.session import exact_session

FILE = "weights"
ALIGNED = 4096  # bytes: ONNX Runtime maps what begins at a page
FOLDER = "session.model_external_initializers_file_folder_path"


class LargeWeights:
    """A file in ``folder``, which has to exist as long as the graph is used."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._wide: dict[str, TensorProto] = {}  # by the place of what was widened
        (folder / FILE).touch()

    def without(self, model: ModelProto) -> ModelProto:
        """The model with the numbers of every large weight in the file; what stays says where they are."""
        for tensor in model.graph.initializer:
            self.set_aside(tensor)
        return ModelProto.FromString(model.SerializeToString())  # no memory of a message is freed before all of it is

    def set_aside(self, tensor: TensorProto) -> None:
        """Move the numbers of a large weight into the file."""
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
        """Make the weight one of float32, its numbers too where they are set aside."""
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
        """The model as one file. Its weights are put back into ``model`` itself."""
        for tensor in model.graph.initializer:
            if tensor.data_location == TensorProto.EXTERNAL:
                tensor.raw_data = self._numbers(tensor)
                tensor.ClearField("data_location")
                del tensor.external_data[:]
        return model.SerializeToString()

    def session(self, model: ModelProto) -> ort.InferenceSession:
        """The graph in ONNX Runtime, on one thread. Raises InvalidInput where it does not take it."""
        options = ort.SessionOptions()
        options.log_severity_level = 4
        options.intra_op_num_threads = 1
        options.add_session_config_entry(FOLDER, str(self._folder))
        try:
            return exact_session(model.SerializeToString(), options, ["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime's own exceptions share no base
            raise refused(f"ONNX Runtime does not take it ({' '.join(str(error).split())[:300]})") from error
