"""Models: listed and shown. The compute process takes new ones in and deletes them."""

from collections.abc import Mapping

from starlette.requests import Request
from starlette.responses import Response

from gauntlet.artifacts.manifest import GeneratorManifest
from service.endpoints.services import services
from service.responses import json_response
from service.schemas.main_calls import (
    CertificateInfo,
    ModelList,
    ModelOpening,
    OpeningError,
    ReadyClassifier,
    ReadyGenerator,
)
from service.uploads.openings import Opening, Stage

PROGRESS: Mapping[Stage, float] = {
    "waiting": 0.0,
    "fetching": 0.05,
    "converting": 0.1,
    "verifying": 0.4,
    "storing": 0.9,
}


def list_models(request: Request) -> Response:
    api = services(request)
    api.catalog.refresh()
    manifests = api.catalog.manifests()
    names = {manifest.name for manifest in manifests}
    pending = [one for one in api.openings.all() if one.state != "ready" and one.name not in names]
    return json_response(ModelList(models=manifests, opening=[_pending(one) for one in pending]))


def get_model(request: Request) -> Response:
    api, name = services(request), request.path_params["name"]
    api.catalog.refresh()
    manifest = api.catalog.find(name)
    opening = None if name in api.catalog.shipped else api.openings.get(name)
    if manifest is None and opening is not None and opening.state != "ready":
        return json_response(_pending(opening))
    found = api.catalog.manifest(name, "name") if manifest is None else manifest
    if isinstance(found, GeneratorManifest):
        return json_response(ReadyGenerator(**dict(found)))
    proved = {} if opening is None or opening.state == "failed" else opening.result
    certificate = CertificateInfo(**proved) if proved else None
    return json_response(ReadyClassifier(**dict(found), certificate=certificate))


def _pending(opening: Opening) -> ModelOpening:
    failed = opening.state == "failed"
    return ModelOpening(
        name=opening.name,
        state="failed" if failed else "opening",
        stage=opening.stage,
        progress=PROGRESS[opening.stage],
        error=OpeningError(**opening.result) if failed else None,
    )
