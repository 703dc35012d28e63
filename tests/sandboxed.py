"""Somebody's file, adopted and opened in confined children."""

import contextlib
import tempfile
from collections.abc import Mapping
from types import MappingProxyType
from typing import IO

from gauntlet.artifacts.manifest import ClassifierManifest
from gauntlet.onnx_import.settings import ModelSettings
from gauntlet.sandbox import sandboxed_classifier
from gauntlet.sandbox.fork_server import ForkServer
from gauntlet.sandbox.sandboxed_classifier import SandboxedClassifier, open_sandboxed


def held(data: bytes) -> IO[bytes]:
    """A file of the system with this content."""
    file = tempfile.TemporaryFile()  # noqa: SIM115
    file.write(data)
    file.flush()
    return file


def adopt(
    fork_server: ForkServer, data: bytes, declared: ModelSettings, beside: Mapping[str, bytes] = MappingProxyType({})
) -> tuple[IO[bytes], ClassifierManifest]:
    """The graph and its manifest. Raises InvalidInput or ModelFailed."""
    with contextlib.ExitStack() as opened:
        graph = opened.enter_context(tempfile.TemporaryFile())
        file = opened.enter_context(held(data))
        more = {name: held(content) for name, content in beside.items()}
        manifest = sandboxed_classifier.adopt(fork_server, file, declared, more, graph=graph)
        for read in (file, *more.values()):
            read.close()
        opened.pop_all()
        return graph, manifest


def opened(fork_server: ForkServer, data: bytes, declared: ModelSettings) -> SandboxedClassifier:
    """Raises InvalidInput or ModelFailed."""
    graph, manifest = adopt(fork_server, data, declared)
    with graph:
        return open_sandboxed(fork_server, graph, manifest, new=True)
