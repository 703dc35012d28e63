"""What was proved is found again, and only for the same model, code and device."""

import ast
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

import gauntlet
from gauntlet.artifacts import artefact_folders
from gauntlet.certify import proof_cache
from gauntlet.certify.lipschitz import Certificate
from gauntlet.certify.proof_cache import ProofCache
from gauntlet.runtime import classifier
from tests import tiny

MODEL = "a" * 64
PROVED = Certificate(2.5, np.array([[0.0, 1.25], [1.25, 0.0]]), "proved from the graph's weights", 1e-6)


@pytest.fixture
def cache(tmp_path):
    made = ProofCache(tmp_path / "proofs")
    made.save(MODEL, "cpu", PROVED)
    return made


def test_a_certificate_comes_back_bit_by_bit(cache):
    found = cache.load(MODEL, "cpu")
    assert (found.lipschitz, found.reason, found.rounding) == (2.5, PROVED.reason, 1e-6)
    assert np.array_equal(found.pairwise, PROVED.pairwise)


def test_a_model_without_a_certificate_keeps_its_reason(cache):
    cache.save("b" * 64, "cpu", Certificate(None, None, "there is no rule for Selu", 0.5))
    found = cache.load("b" * 64, "cpu")
    assert (found.lipschitz, found.pairwise, found.reason, found.rounding) == (
        None,
        None,
        "there is no rule for Selu",
        0.5,
    )


@pytest.mark.parametrize(("model", "device"), [("a" * 63 + "b", "cpu"), (MODEL, "cuda")])
def test_another_model_or_device_has_none(cache, model, device):
    assert cache.load(model, device) is None


def test_other_code_has_none_and_clears_the_old_record(cache, monkeypatch):
    monkeypatch.setattr(proof_cache, "code_version", lambda: "0" * 16)
    assert cache.load(MODEL, "cpu") is None
    cache.save(MODEL, "cpu", PROVED)
    assert len(list(cache.folder.iterdir())) == 1


@pytest.mark.parametrize(
    "damage", [lambda data: data[: len(data) // 2], lambda data: b"", lambda data: data[:-60] + bytes(60)]
)
def test_a_damaged_record_counts_as_absent(cache, damage):
    (path,) = cache.folder.iterdir()
    path.write_bytes(damage(path.read_bytes()))
    assert cache.load(MODEL, "cpu") is None


def test_a_record_that_cannot_be_saved_is_told_and_leaves_no_part(tmp_path):
    cache = ProofCache(tmp_path)
    cache._path(MODEL, "cpu").mkdir()
    with pytest.raises(IsADirectoryError):
        cache.save(MODEL, "cpu", PROVED)
    assert [path.suffix for path in tmp_path.iterdir()] == [".npz"]
    assert cache.load(MODEL, "cpu") is None


def test_a_model_opens_without_a_folder_for_its_proof_and_the_log_says_why(tmp_path, caplog):
    (tmp_path / "file").write_text("")
    artefact = artefact_folders.load(tiny.linear(tmp_path / "tiny"))
    opened = classifier.open_model(artefact, "cpu", ProofCache(tmp_path / "file"))
    assert opened.certificate.lipschitz is not None
    assert "the certificate of tiny is not saved in the cache" in caplog.text


def test_a_model_proved_before_opens_without_being_proved_and_is_the_same(tmp_path, monkeypatch):
    artefact = artefact_folders.load(tiny.convolutional(tmp_path / "tiny"))
    cache = ProofCache(tmp_path / "proofs")
    first = classifier.open_model(artefact, "cpu", cache)
    monkeypatch.setattr(classifier.lipschitz, "prove", pytest.fail)
    monkeypatch.setattr(classifier.gradient_check, "check", pytest.fail)
    second = classifier.open_model(artefact, "cpu", cache)
    assert "twin" not in second.__dict__
    assert second.certificate.lipschitz == first.certificate.lipschitz
    x = torch.rand(3, *tiny.SHAPE)
    assert torch.equal(second.twin(x), first.twin(x))


def test_one_other_byte_is_proved_again(tmp_path):
    folder = tiny.convolutional(tmp_path / "tiny")
    cache = ProofCache(tmp_path / "proofs")
    first = classifier.open_model(artefact_folders.load(folder), "cpu", cache)
    tiny.convolutional(folder, seed=7)
    second = classifier.open_model(artefact_folders.load(folder), "cpu", cache)
    assert second.certificate.lipschitz != first.certificate.lipschitz
    assert len(list(cache.folder.iterdir())) == 2


ROOT = Path(gauntlet.__file__).parent
PROVING = ("certify/lipschitz.py", "runtime/gradient_check.py", "runtime/straight_through.py", "runtime/twin.py")
IRRELEVANT = {ROOT / "errors.py"}


def imported(path: Path) -> Iterator[Path]:
    """The files of gauntlet that a file imports."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("gauntlet"):
            for name in (node.module, *(f"{node.module}.{alias.name}" for alias in node.names)):
                file = ROOT.parent.joinpath(*name.split(".")).with_suffix(".py")
                if file.is_file():
                    yield file


def test_every_file_that_computes_a_proof_is_in_the_digest():
    found, waiting = set[Path](), [ROOT / name for name in PROVING]
    while waiting:
        path = waiting.pop()
        if path not in found:
            found.add(path)
            waiting.extend(imported(path))
    covered = {file for name in proof_cache.CODE for file in ((ROOT / name), *(ROOT / name).glob("**/*.py"))}
    assert len(found) > len(PROVING)
    assert not found - covered - IRRELEVANT
