"""Models named by where they live, each from a stand-in of that place on this machine."""

import hashlib
import json
import threading
import warnings
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import IO, Any

import pytest

from gauntlet import open_classifier
from gauntlet.artifacts import mlflow_package
from gauntlet.cli import user_files
from gauntlet.errors import InvalidInput
from gauntlet.onnx_import import model_sources
from gauntlet.onnx_import.model_sources import fetched, is_allowed
from tests import zoo

GRAPH = zoo.dense((1, 8, 8))
SHA256 = hashlib.sha256(GRAPH).hexdigest()
COMMIT = "a" * 40
CONFIG = json.dumps({"id2label": {str(i): name for i, name in enumerate("vwxyz")}}).encode()
PROCESSOR = json.dumps({"image_mean": [0.5], "image_std": [0.5], "size": 8}).encode()
REPOSITORY = {
    "onnx/model.onnx": GRAPH,
    "onnx/model.onnx_data": b"weights",
    "config.json": CONFIG,
    "preprocessor_config.json": PROCESSOR,
    "README.md": b"",
}


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


class Hub(BaseHTTPRequestHandler):
    """As Hugging Face answers."""

    def log_message(self, *_: object) -> None: ...

    def do_HEAD(self) -> None:
        path, headers, data = self.path.partition("?")[0], {}, b""
        if path == "/api/models/org/net/revision/v%2F1":
            files = [{"rfilename": name, "size": len(content)} for name, content in REPOSITORY.items()]
            data = json.dumps({"id": "org/net", "sha": COMMIT, "siblings": files}).encode()
        elif path.startswith(place := f"/org/net/resolve/{COMMIT}/"):
            data = REPOSITORY[path.removeprefix(place)]
            headers = {"X-Repo-Commit": COMMIT, "ETag": hashlib.sha256(data).hexdigest()}
        self.send_response(200 if data else 404)
        for name, value in {**headers, "Content-Type": "application/json", "Content-Length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data)

    do_GET = do_HEAD  # noqa: N815


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        yield
        server.shutdown()


def test_a_repository_of_hugging_face_is_pinned_by_its_commit(hub: None):
    with fetched("hf://org/net@v%2F1/onnx/model.onnx") as found:
        assert (found.name, found.address) == ("net", f"hf://org/net@{COMMIT}/onnx/model.onnx#sha256={SHA256}")
        beside = ("model.onnx", "model.onnx_data", "config.json", "preprocessor_config.json")
        wanted = {Path(name).name: content for name, content in REPOSITORY.items()}
        assert contents(found.file.parent) == {name: wanted[name] for name in beside}
    assert not found.file.exists()


def test_what_is_not_there_is_told_with_what_is(hub: None):
    with (
        pytest.raises(InvalidInput, match=r"files \*\.onnx of it: onnx/model.onnx"),
        fetched("hf://org/net@v%2F1/m.onnx"),
    ):
        pass
    with pytest.raises(InvalidInput, match=r"hf://org/none/m\.onnx: "), fetched("hf://org/none/m.onnx"):
        pass


LABELS = b"v\nw\nx\ny\nz"
BUCKET = {
    "models/m.onnx": GRAPH,
    "models/labels.txt": LABELS,
    "models/preprocessor_config.json": PROCESSOR,
    "models/other.txt": LABELS,
}


class Storage:
    """That bucket."""

    def __init__(self, url: str) -> None:
        self.place = url.partition("://bucket/")[2]

    def _content(self, key: str) -> bytes:
        if not self.exists(key):
            raise FileNotFoundError(key)
        return BUCKET[f"{self.place}/{key}"]

    def exists(self, key: str) -> bool:
        return f"{self.place}/{key}" in BUCKET

    def size(self, key: str) -> int:
        return len(self._content(key))

    def download(self, key: str, file: IO[bytes]) -> None:
        file.write(self._content(key))


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_sources, "ObjectStorage", Storage)


def test_object_storage_gives_the_file_and_what_usually_lies_beside_it(bucket: None):
    with fetched("s3://bucket/models/m.onnx") as found:
        assert (found.name, found.address) == ("m", f"s3://bucket/models/m.onnx#sha256={SHA256}")
        wanted = {"m.onnx": GRAPH, "labels.txt": LABELS, "preprocessor_config.json": PROCESSOR}
        assert contents(found.file.parent) == wanted


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("s3://bucket/models/none.onnx", "there is no such file"),
        ("s3://bucket", "write it as s3://BUCKET/KEY.onnx"),
        ("s3://bucket/models/m.onnx#sha256=" + "0" * 64, f"its sha256 is {SHA256}, not 000"),
        ("hf://net/m.onnx", "write it as hf://ORG/NAME@REVISION/FILE.onnx"),
        ("mlflow:models:/net", "write it as mlflow:models:/NAME/VERSION"),
    ],
)
def test_an_address_that_leads_nowhere_is_told(bucket: None, address: str, message: str):
    with pytest.raises(InvalidInput, match=message) as caught, fetched(address):
        pass
    assert caught.value.field == "models"


def test_a_file_that_is_too_large_is_not_fetched(bucket: None, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(model_sources, "MAX_BYTES", len(GRAPH) - 1)
    monkeypatch.setattr(Storage, "download", lambda *_: pytest.fail("fetched"))
    with pytest.raises(InvalidInput, match=f"has {len(GRAPH)} bytes, at most"), fetched("s3://bucket/models/m.onnx"):
        pass


@pytest.mark.parametrize(
    ("address", "package", "extra"),
    [
        ("s3://bucket/m.onnx", "obstore.store", "store"),
        ("hf://org/net/m.onnx", "huggingface_hub", "huggingface"),
        ("mlflow:models:/net/1", "mlflow", "mlflow"),
    ],
)
def test_a_package_that_is_missing_is_named_with_its_extra(
    monkeypatch: pytest.MonkeyPatch, address: str, package: str, extra: str
):
    monkeypatch.setitem(__import__("sys").modules, package, None)
    with pytest.raises(InvalidInput, match=rf"gauntlet-robustness\[{extra}\]"), fetched(address):
        pass


def registry(files: dict[str, bytes]) -> Any:
    """MLflow with one model."""

    def download(address: str, dst_path: str) -> None:
        assert address == "models:/net/3"
        for name, content in files.items():
            (Path(dst_path) / name).write_bytes(content)

    by_alias = SimpleNamespace(get_model_version_by_alias=lambda *_: SimpleNamespace(version=3))
    return SimpleNamespace(MlflowClient=lambda: by_alias, artifacts=SimpleNamespace(download_artifacts=download))


@pytest.mark.parametrize("address", ["mlflow:models:/net/3", "mlflow:models:/net@champion"])
def test_a_registered_model_is_pinned_by_its_version(monkeypatch: pytest.MonkeyPatch, address: str):
    monkeypatch.setattr(mlflow_package, "client", lambda: registry({"m.onnx": GRAPH, "MLmodel": b""}))
    with fetched(address) as found:
        assert (found.name, found.address) == ("net", f"mlflow:models:/net/3#sha256={SHA256}")
    monkeypatch.setattr(mlflow_package, "client", lambda: registry({"model.pkl": b""}))
    with pytest.raises(InvalidInput, match=r"has 0 files \*\.onnx"), fetched(address):
        pass


@pytest.mark.slow  # MLflow alone takes five seconds to import
def test_a_real_registry_gives_what_was_logged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    (tmp_path / "logged").mkdir()
    (tmp_path / "logged" / "m.onnx").write_bytes(GRAPH)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MLflow's own
        mlflow = mlflow_package.client()
        mlflow.set_tracking_uri(f"file://{tmp_path}/runs")
        client = mlflow.MlflowClient()
        client.create_registered_model("net")
        version = client.create_model_version("net", f"file://{tmp_path}/logged").version
        client.set_registered_model_alias("net", "champion", version)
        for address in (f"mlflow:models:/net/{version}", "mlflow:models:/net@champion"):
            with fetched(address) as found:
                assert found.address == f"mlflow:models:/net/{version}#sha256={SHA256}"
        with pytest.raises(InvalidInput, match="mlflow:models:/none/1: "), fetched("mlflow:models:/none/1"):
            pass


def test_it_is_opened_like_any_file_and_its_manifest_says_where_it_is_from(
    bucket: None, capsys: pytest.CaptureFixture[str]
):
    model = open_classifier("s3://bucket/models/m.onnx", device="cpu")
    assert model.name == "m"
    assert model.manifest.classes == tuple("vwxyz")
    adoption = model.manifest.adoption
    assert adoption is not None
    assert (adoption.source, adoption.source_sha256) == (f"s3://bucket/models/m.onnx#sha256={SHA256}", SHA256)
    assert user_files.is_model("s3://bucket/models/m.onnx")
    user_files.classifier("s3://bucket/models/m.onnx", {}, None, "cpu")
    assert f"m: from {adoption.source}\n" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("address", "allowed"),
    [
        ("s3://bucket/m.onnx", True),
        ("s3://bucket-of-others/m.onnx", False),
        ("s3://bucket", True),
        ("hf://org/net@main/m.onnx", True),
        ("hf://org/network/m.onnx", False),
        ("mlflow:models:/any/1", True),
        ("gs://bucket/m.onnx", False),
        ("gs://models/public/m.onnx", True),
        ("gs://models/public/../private/m.onnx", False),
        ("gs://models/public/%2e%2e/private/m.onnx", False),
        ("gs://models/public/a\nb", False),
        ("file:///etc/passwd", False),
        ("http://169.254.169.254/", False),
        ("", False),
    ],
)
def test_what_lies_below_a_prefix(address: str, allowed: bool):
    prefixes = ("s3://bucket", "hf://org/net", "mlflow:models:/", "gs://models/public/")
    assert is_allowed(address, prefixes) is allowed
    assert not is_allowed(address, ())
