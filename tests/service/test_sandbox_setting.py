"""GAUNTLET_SANDBOX=require: where a machine cannot confine uploads they are refused, and the file is not to blame."""

from pathlib import Path

import pytest

from gauntlet.errors import Unconfined
from gauntlet.onnx_import.settings import ImageSetSettings, ModelSettings
from gauntlet.sandbox import confinement
from gauntlet.sandbox.fork_server import ForkServer, Limits
from service.compute.add_evalset import add_evalset
from service.doctor import _sandbox
from service.errors import Code, translate
from service.settings import Settings, SettingsError
from service.uploads.evalsets import EvaluationSets
from service.uploads.ownership import OPERATORS
from tests.service.models import linear_and_uploads


@pytest.fixture(autouse=True)
def _no_landlock(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(confinement, "missing", lambda: ["Landlock: it can read files"])


def test_uploads_are_refused_with_the_reason(tmp_path: Path):
    with linear_and_uploads(tmp_path) as models:
        sandbox = ForkServer(Limits(require_confinement=True))
        models.uploaded._fork_server = sandbox
        storage = models.uploaded._storage
        sets = EvaluationSets([], storage)
        with pytest.raises(Unconfined, match="without Landlock") as refused:
            models.uploaded.add(b"", ModelSettings(name="mine"), frozenset(), OPERATORS, describe=lambda _: None)
        with pytest.raises(Unconfined, match="without Landlock"):
            add_evalset(
                sets, storage, sandbox, b"", ImageSetSettings(name="set"), OPERATORS, limit=1, describe=lambda _: None
            )
    error = translate(refused.value)
    assert (error.code, error.status) == (Code.MODEL_FAILED, 503)


def test_the_doctor_says_what_is_missing_and_what_follows(tmp_path: Path):
    text = _sandbox(Settings(state=tmp_path))
    assert "confined only in part: without Landlock" in text
    with pytest.raises(SettingsError, match="GAUNTLET_SANDBOX=require: uploads are refused"):
        _sandbox(Settings(state=tmp_path, sandbox="require"))
