"""What `make sbom`, `make audit`, `make sign` and `make verify` say, each with its tool."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.deploy.manifests import ROOT
from tests.deploy.test_images import locked

INSTALLED = ".venv-supply/.installed"  # `make test-all` installs it
PACKAGES = {"wheel": "library.txt", "cpu": "cpu.txt", "cuda": "service.txt"}


def make(target: str, folder: Path, **variables: str | Path) -> subprocess.CompletedProcess[str]:
    given = [f"{name}={value}" for name, value in {"SUPPLY": folder, **variables}.items()]
    command = ["make", "-o", INSTALLED, target, *given]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_the_wheel_needs_nothing_that_the_images_have_otherwise():
    assert locked("library.txt").items() <= locked("service.txt").items()


@pytest.mark.slow
def test_the_bills_of_materials_list_every_package_with_its_hashes(tmp_path: Path):
    done = make("sbom", tmp_path)
    assert done.returncode == 0, done.stderr
    assert {path.name for path in tmp_path.iterdir()} == {f"{name}.cdx.json" for name in PACKAGES}
    for name, requirements in PACKAGES.items():
        bill = json.loads((tmp_path / f"{name}.cdx.json").read_text())
        listed = {part["name"].lower(): part["version"] for part in bill["components"]}
        wanted = {re.sub(r"[-_.]+", "-", package).lower(): version for package, version in locked(requirements).items()}
        assert wanted.items() <= {re.sub(r"[-_.]+", "-", part): found for part, found in listed.items()}.items()
        assert "torch" in listed
        hashed = [part for part in bill["components"] if "externalReferences" in part or "hashes" in part]
        assert len(hashed) >= len(wanted)
        assert bill["metadata"]["component"]["name"] == "gauntlet-robustness"


@pytest.mark.slow
def test_without_the_advisories_the_audit_fails():
    """As on a machine that reaches no index: what is not known is not good."""
    nowhere = {**os.environ, "https_proxy": "http://127.0.0.1:9", "HTTPS_PROXY": "http://127.0.0.1:9"}
    command = ["make", "-o", INSTALLED, "audit", "AUDITED=requirements/uv.txt"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, env=nowhere)
    assert done.returncode != 0
    assert "No known vulnerabilities" not in done.stderr + done.stdout


@pytest.mark.slow
def test_a_changed_added_or_foreign_file_is_not_what_was_signed(tmp_path: Path):
    for name in ("ours", "theirs"):
        pem = tmp_path / f"{name}.pem"
        subprocess.run(["openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", pem], check=True)
        public = subprocess.run(["openssl", "ec", "-in", pem, "-pubout"], capture_output=True, check=True).stdout
        (tmp_path / f"{name}.pub").write_bytes(public)
    models = tmp_path / "models"
    shutil.copytree(ROOT / "models" / "artifacts" / "mnist-interval", models / "mnist-interval")
    assert make("sign", tmp_path, KEY=tmp_path / "ours.pem", MODELS=models).returncode == 0

    def verified(key: str) -> bool:
        done = make("verify", tmp_path, KEY=tmp_path / f"{key}.pub", MODELS=models)
        return done.returncode == 0 and "Verification succeeded" in done.stdout

    assert verified("ours")
    assert not verified("theirs")
    manifest = models / "mnist-interval" / "manifest.json"
    before = manifest.read_bytes()
    manifest.write_bytes(before + b" ")
    assert not verified("ours")
    manifest.write_bytes(before)
    assert verified("ours")
    (models / "another").touch()
    assert not verified("ours")
