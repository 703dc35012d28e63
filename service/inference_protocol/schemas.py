"""The protocol's JSON. What is not known in a request is left alone, as the protocol wants."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, RootModel, WithJsonSchema, model_validator

from gauntlet.artifacts.manifest import Sha256
from service.schemas.main_calls import Answer

Datatype = Literal["FP32", "FP16", "FP64", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64"]
Size = Annotated[int, Field(ge=0)]
Data = Annotated[
    list[Any],
    WithJsonSchema({"type": "array", "items": {}, "description": "numbers row by row, in one list or nested"}),
]
Version = Annotated[Sha256, Field(description="sha256 of the model's file")]


def _refuse(_: object) -> None:
    raise ValueError("this is not offered; leave it out")


NotOffered = Annotated[None, BeforeValidator(_refuse), WithJsonSchema({"not": {}, "description": "not offered"})]


def _nullable(schema: dict[str, Any]) -> None:
    """What may be left out may be null."""
    for name, entry in schema.get("properties", {}).items():
        if name not in schema.get("required", ()) and {"type": "null"} not in entry.get("anyOf", ()):
            schema["properties"][name] = {"anyOf": [entry, {"type": "null"}]}


class Asked(BaseModel):
    """Base of what is read; null means absent. Errors never quote the input: it may be an image."""

    model_config = ConfigDict(
        extra="ignore", frozen=True, strict=True, hide_input_in_errors=True, json_schema_extra=_nullable
    )

    @model_validator(mode="before")
    @classmethod
    def _null_is_absent(cls, given: object) -> object:
        return {name: value for name, value in given.items() if value is not None} if isinstance(given, dict) else given


class InputParameters(Asked):
    binary_data_size: Size | None = Field(default=None, description="bytes of this input behind the JSON")
    shared_memory_region: NotOffered = None


class InputTensor(Asked):
    """Images or latents. UINT8 images are 8-bit pixels; any other datatype is taken where float32 holds it exactly."""

    name: Annotated[str, Field(examples=["images"])]
    shape: Annotated[list[int], Field(min_length=1, max_length=8, examples=[[1, 1, 28, 28]])]
    datatype: Annotated[Datatype, Field(examples=["UINT8"])]
    parameters: InputParameters = InputParameters()
    data: Data | None = Field(default=None, examples=[[128] * 28 * 28])


class OutputParameters(Asked):
    binary_data: bool | None = Field(default=None, description="behind the JSON; null: as `binary_data_output` says")
    classification: NotOffered = None
    shared_memory_region: NotOffered = None


class OutputTensor(Asked):
    name: str
    parameters: OutputParameters = OutputParameters()


class InferParameters(Asked):
    binary_data_output: bool = Field(default=False, description="outputs as bytes behind the JSON")
    sequence_id: NotOffered = None


class InferRequest(Asked):
    """One batch for one model, whose metadata names its input and outputs; none named: all of them."""

    id: str = ""
    parameters: InferParameters = InferParameters()
    inputs: Annotated[list[InputTensor], Field(min_length=1, max_length=1)]
    outputs: Annotated[list[OutputTensor], Field(max_length=8)] = []


class RepositoryParameters(Asked):
    model_config = ConfigDict(extra="forbid")

    unload_dependents: bool = Field(default=False, description="there are none")


class RepositoryRequest(Asked):
    """May be empty. Configurations and files are not taken here: POST /models takes a file."""

    parameters: RepositoryParameters = RepositoryParameters()


class IndexRequest(Asked):
    """May be empty."""

    ready: bool = False


# Answers


class Failure(Answer):
    """Of every 4xx and 5xx under /v2."""

    error: str


class ServerMetadata(Answer):
    name: str
    version: str
    extensions: list[str]


class ServerLive(Answer):
    live: bool


class ServerReady(Answer):
    ready: bool


class ModelReady(Answer):
    name: str
    ready: bool


class TensorMetadata(Answer):
    """A dimension of -1 is the batch."""

    name: str
    datatype: str
    shape: list[int]


class ModelMetadata(Answer):
    name: str
    versions: list[Version]
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]


class MadeTensor(Answer):
    """With data, or with the size of what follows the JSON."""

    name: str
    datatype: str
    shape: list[int]
    parameters: dict[str, int] | None = None
    data: list[float] | None = None


class InferResponse(Answer):
    model_name: str
    model_version: Version
    id: str = Field(default="", description="the request's")
    outputs: list[MadeTensor]


class IndexEntry(Answer):
    name: str
    version: str
    state: Literal["READY", "UNAVAILABLE"]
    reason: str


class RepositoryIndex(RootModel[list[IndexEntry]]):
    """Every model there is, loaded or not."""
