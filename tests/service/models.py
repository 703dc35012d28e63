"""The models and the applications of the service, opened in this process, without BentoML."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
from starlette.applications import Starlette
from starlette.types import ASGIApp

from gauntlet.sandbox.fork_server import ForkServer, Limits
from service import app
from service.compute.app import open_compute
from service.compute.models import ComputeModels
from service.endpoints.compute_client import ComputeClient
from service.model_catalog import Catalog
from service.predictions.classify_requests import ClassifyRequests
from service.predictions.served_models import ServedModels
from service.settings import Settings
from service.uploads.manifests import UploadedManifests
from service.uploads.records import UploadRecords
from tests import tiny


def compute_models(settings: Settings) -> ComputeModels:
    sandbox = ForkServer(Limits(settings.upload_memory, settings.threads, settings.sandbox_required))
    return ComputeModels(settings, UploadRecords.of(settings), sandbox)


@contextmanager
def linear_and_uploads(folder: Path) -> Iterator[ComputeModels]:
    """Those of a compute process with one shipped model, ``linear``, and a database for uploads."""
    tiny.linear(folder / "models/artifacts/linear")
    (folder / "models/evalsets").mkdir()
    made = compute_models(Settings(models=folder / "models", state=folder, data=folder, threads=1))
    Path(made.settings.database_url.partition("///")[2]).touch()
    yield made
    for model in made.uploaded._open.values():
        model.close()
    made.uploaded._fork_server.close()
    made.uploaded._storage.close()


def served_models(settings: Settings) -> ServedModels:
    """All of them open, with what the compute process has proved."""
    compute_models(settings).prove_all()
    models = ServedModels(settings, Catalog(settings, UploadedManifests(UploadRecords.of(settings))))
    for name in models.names():
        models.open(name)
    return models


def api(settings: Settings, compute: ASGIApp | None = None) -> Starlette:
    """The routes of an API process, and behind them the application of the compute process."""
    compute_models(settings).prove_all()
    client = ComputeClient(httpx.ASGITransport(compute or open_compute(settings)), lambda: True)
    made = app.routes()
    made.state.services = app.open_services(settings, client)
    return made


def classify_requests(settings: Settings) -> ClassifyRequests:
    return app.classify_requests(served_models(settings), settings)
