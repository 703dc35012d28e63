"""A process that cannot start leaves the reason for the supervisor, whatever it is and wherever it happens."""

import errno
from pathlib import Path

import pytest

from gauntlet.errors import ArtefactError
from service import startup
from service.compute.app import _prove
from service.compute.models import ComputeModels
from service.settings import Settings
from service.startup import tell_failure
from tests.service.models import linear_and_uploads


def full_disk(path: Path, text: str) -> None:
    raise OSError(errno.ENOSPC, f"No space left on device for {len(text)} characters", str(path))


def failing(error: Exception) -> None:
    raise error


def test_a_certificate_that_cannot_be_saved_ends_the_start_with_the_reason(tmp_path: Path):
    """API processes would wait for its record, and answer no classification."""
    with linear_and_uploads(tmp_path) as models:
        models.settings.proofs_folder.write_text("in the way")
        _prove(models)
        told = models.settings.failure_file.read_text()
    assert told.startswith("the certificate of linear cannot be saved in ")
    assert "File exists" in told


def test_a_certificate_is_saved_as_soon_as_it_can_be(tmp_path: Path):
    with linear_and_uploads(tmp_path) as models:
        manifest, folder = models.manifest("linear", "model"), models.settings.proofs_folder
        folder.write_text("in the way")
        with pytest.raises(ArtefactError, match="cannot be saved"):
            models.open(manifest)
        folder.unlink()
        models.open(manifest)
        assert models.proofs.load(manifest.model_sha256, "cpu") is not None


def test_what_nobody_foresaw_in_the_prover_ends_the_start_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    with linear_and_uploads(tmp_path) as models:
        monkeypatch.setattr(ComputeModels, "prove_all", lambda _: failing(MemoryError("too large")))
        _prove(models)
        assert models.settings.failure_file.read_text() == "MemoryError('too large')"
    assert "Traceback" in caplog.text


def test_a_full_disk_hides_no_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr(startup, "replace_text", full_disk)
    settings = Settings(state=tmp_path)
    settings.run_folder.mkdir()
    tell_failure(settings, ArtefactError("nothing can be proved"))
    assert settings.failure_file.exists()
    assert "nothing can be proved" in caplog.text
    assert "No space left" in caplog.text
