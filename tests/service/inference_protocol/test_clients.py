"""The clients that people use, in an environment of their own: `make test-clients` installs it."""

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

from gauntlet.artifacts import artefact_folders
from gauntlet.runtime import classifier
from tests.service.conftest import PATIENCE, ROOT, Server, pixels

PYTHON = ROOT / ".venv-clients" / "bin" / "python"


@pytest.fixture(scope="module")
def cases(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images and latents, with what ONNX Runtime says to them."""
    artifacts = server.folder / "models" / "artifacts"
    linear, gen = (classifier.open_model(artefact_folders.load(artifacts / name), "cpu") for name in ("linear", "gen"))
    grey = pixels(16).astype(np.float32) / 255
    images = {"grey": grey, "half": grey.astype(np.float16), "mono": (grey > 0.5).astype(np.float32)}
    logits = {f"{name}_logits": linear.predict(torch.from_numpy(x).float()).numpy() for name, x in images.items()}
    latents = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    drawn = gen.generate(torch.from_numpy(latents)).numpy()
    path = tmp_path_factory.mktemp("clients") / "cases.npz"
    np.savez(path, pixels=pixels(16), latents=latents, drawn=drawn, **images, **logits)
    return path


@pytest.mark.clients
@pytest.mark.skipif(not PYTHON.exists(), reason="make test-clients installs the clients")
@pytest.mark.parametrize("client", ["with_triton", "with_kserve"])
def test_the_clients_get_what_onnx_runtime_says(server: Server, cases: Path, client: str):
    tests = Path(__file__).parent / "clients" / f"{client}.py"
    done = subprocess.run(  # noqa: PLW1510  its output says why
        [PYTHON, "-m", "pytest", "-q", "--noconftest", "-p", "no:cacheprovider", "-W", "default", tests],
        cwd=ROOT,
        env={**os.environ, "GAUNTLET_URL": str(server.client.base_url), "GAUNTLET_CASES": str(cases)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stdout
