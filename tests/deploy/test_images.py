"""What the images are built from agrees with the lock and with each other; test_container.py builds and runs one."""

import re
import tomllib

import yaml

from tests.deploy.manifests import ROOT

CONTAINER = ROOT / "deploy" / "container"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
BENTO = yaml.safe_load((ROOT / "bentofile.yaml").read_text())
DOCKERFILE = (CONTAINER / "Dockerfile.cpu").read_text()


def locked(name: str) -> dict[str, str]:
    """Package to version."""
    return dict(re.findall(r"^([\w.-]+)==([^\s;]+)", (ROOT / "requirements" / name).read_text(), re.MULTILINE))


def test_the_lock_without_cuda_is_the_other_one_without_it():
    full, cpu = locked("service.txt"), locked("cpu.txt")
    assert {name: version for name, version in cpu.items() if name != "onnxruntime"}.items() <= full.items()
    assert cpu["onnxruntime"] == full["onnxruntime-gpu"]
    left_out = full.keys() - cpu.keys()
    assert {"torch", "torchvision", "triton", "onnxruntime-gpu"} <= left_out
    rest = left_out - {"torch", "torchvision", "triton", "onnxruntime-gpu"}
    assert {name.partition("-")[0] for name in rest} == {"nvidia", "cuda"}


def test_torch_is_the_one_that_everything_else_is_tested_with():
    (asked,) = re.findall(r"^ARG TORCH=(\S+)$", DOCKERFILE, re.MULTILINE)
    assert asked in PROJECT["project"]["optional-dependencies"]["cpu"]
    assert asked == f"torch=={locked('service.txt')['torch']}"


def test_both_images_have_the_same_python_user_and_places():
    (base,) = re.findall(r"^ARG BASE=python:(\S+)-slim$", DOCKERFILE, re.MULTILINE)
    assert base == BENTO["docker"]["python_version"]
    assert BENTO["python"]["requirements_txt"] == "requirements/service.txt"
    assert "requirements/cpu.txt" in BENTO["include"]
    assert "COPY src /home/bentoml/bento/src" in DOCKERFILE
    assert "/var/lib/gauntlet" in DOCKERFILE
    assert "/var/lib/gauntlet" in (ROOT / BENTO["docker"]["setup_script"]).read_text()
    for name, value in (("BENTOML_DO_NOT_TRACK", "True"), ("ORT_DISABLE_TELEMETRY", "1")):
        assert {"name": name, "value": value} in BENTO["envs"]
        assert f"{name}={value}" in DOCKERFILE
    for line in DOCKERFILE.splitlines():
        assert "://" not in line, "the index is the user's own"


def test_every_package_of_an_image_is_known_by_its_hash():
    installs = re.findall(r"pip install [^\n&]+", DOCKERFILE)
    assert len(installs) == 3
    assert all("--require-hashes" in install for install in installs)
    assert "--hash=sha256:$TORCH_SHA256" in DOCKERFILE
    for name in re.findall(r"COPY src/(requirements/\S+)", DOCKERFILE):
        assert name in BENTO["include"]
        assert (ROOT / name).read_text().count("--hash=sha256:") >= len(locked(name.partition("/")[2])) > 0
