"""What service.framework takes out of a request's way, looked at in BentoML's own application."""

import subprocess
import sys

from tests.service.conftest import ROOT, environment

PROGRAM = """
from service.api import Gauntlet
layer, layers = Gauntlet.to_asgi(is_main=True).build_middleware_stack(), []
while layer is not None:
    if hasattr(layer, "excluded_urls"):
        print(layer.excluded_urls.url_disabled("http://127.0.0.1:3000/classify"))
    layers.append(type(layer).__name__)
    layer = getattr(layer, "app", None) or getattr(layer, "_app", None)
print(*layers)
"""


def layers(tmp_path, **variables: str) -> tuple[str, list[str]]:
    """Whether no trace is made of /classify, and the layers that a request goes through."""
    environ = {**environment(tmp_path), **variables}
    command = [sys.executable, "-c", PROGRAM]
    done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    untraced, names = done.stdout.splitlines()[-2:]
    return untraced, names.split()


def test_no_request_pays_for_a_trace_that_nobody_gets_or_for_a_timer(tmp_path):
    untraced, names = layers(tmp_path)
    assert untraced == "True"
    assert "Border" in names
    assert "TimeoutMiddleware" not in names


def test_with_an_exporter_every_request_is_traced(tmp_path):
    untraced, _ = layers(tmp_path, BENTOML_CONFIG_OPTIONS="tracing.exporter_type=otlp tracing.sample_rate=0.1")
    assert untraced == "False"
