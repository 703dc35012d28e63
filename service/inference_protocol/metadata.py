"""What the protocol says of a model, from its manifest."""

from gauntlet.artifacts.manifest import ClassifierManifest, GeneratorManifest
from service.errors import Code, ServiceError
from service.inference_protocol.schemas import ModelMetadata, TensorMetadata

AnyManifest = ClassifierManifest | GeneratorManifest

PLATFORM = "onnxruntime_onnx"
BATCH = -1


def describe(manifest: AnyManifest) -> ModelMetadata:
    """Names, datatypes and shapes."""
    return ModelMetadata(
        name=manifest.name,
        versions=[manifest.model_sha256],
        platform=PLATFORM,
        inputs=[input_of(manifest)],
        outputs=outputs(manifest),
    )


def input_of(manifest: AnyManifest) -> TensorMetadata:
    """A model has one input."""
    if isinstance(manifest, ClassifierManifest):
        return TensorMetadata(name="images", datatype="FP32", shape=[BATCH, *manifest.input_shape])
    return TensorMetadata(name="latents", datatype="FP32", shape=[BATCH, manifest.latent_dim])


def outputs(manifest: AnyManifest) -> list[TensorMetadata]:
    """The certified L2 radius is 0 where nothing is proved: a sound one, and what a tensor can say."""
    if isinstance(manifest, GeneratorManifest):
        return [TensorMetadata(name="images", datatype="FP32", shape=[BATCH, *manifest.output_shape])]
    classes = len(manifest.classes)
    return [
        TensorMetadata(name="logits", datatype="FP32", shape=[BATCH, classes]),
        TensorMetadata(name="probabilities", datatype="FP64", shape=[BATCH, classes]),
        TensorMetadata(name="label", datatype="INT64", shape=[BATCH]),
        TensorMetadata(name="certified_radius", datatype="FP64", shape=[BATCH]),
    ]


def check_version(manifest: AnyManifest, version: str | None) -> None:
    """A version is the sha256 of the model's file; None asks for whatever there is. Raises ``unknown_model``."""
    if version not in (None, manifest.model_sha256):
        message = f"{manifest.name} has the version {manifest.model_sha256} and no other"
        raise ServiceError(Code.UNKNOWN_MODEL, message, field="version", known=[manifest.model_sha256])
