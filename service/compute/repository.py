"""Models taken out of service and brought back: the Open Inference Protocol's repository. Imports torch."""

from gauntlet.errors import ArtefactError, DeviceError
from service.compute.folders import take
from service.compute.models import ComputeModels
from service.errors import Code, ServiceError


def load(models: ComputeModels, name: str) -> None:
    """From its folder, if that has changed or is new, or an upload. Raises ServiceError or InvalidInput."""
    catalog = models.catalog
    if models.uploaded.manifests.get(name) is not None:
        catalog.forget_unloaded(name)
        with models.classifier(name, "name"):
            return  # it is open now
    if not catalog.loadable(name):
        catalog.forget_unloaded(name)
        raise catalog.unknown(name, "name")
    try:
        take(models, catalog.folder / name)
    except (ArtefactError, DeviceError) as error:
        raise ServiceError(Code.MODEL_FAILED, f"{name} cannot be loaded: {error}") from error


def unload(models: ComputeModels, name: str) -> None:
    """Until it is loaded again, or the service starts anew. Raises ServiceError ``unknown_model`` or ``in_use``."""
    catalog = models.catalog
    manifest = catalog.manifest(name, "name")
    if name not in catalog.shipped:
        models.uploaded.close_idle(name)
    catalog.take_out(manifest)
    models.forget(name)
