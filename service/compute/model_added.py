"""What is told of an uploaded model that has been opened."""

from gauntlet.sandbox.sandboxed_classifier import SandboxedClassifier
from service.schemas.main_calls import CertificateInfo
from service.schemas.uploads import ModelAdded


def model_added(model: SandboxedClassifier) -> ModelAdded:
    proved, steepest = model.certificate, model.slope
    loose = proved.lipschitz / steepest if proved.lipschitz and steepest else None
    certificate = CertificateInfo(lipschitz=proved.lipschitz, reason=proved.reason, steepest=steepest, looseness=loose)
    return ModelAdded(manifest=model.manifest, certificate=certificate)
