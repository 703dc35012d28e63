"""What service.bento_tuning takes out of a request's way, looked at in BentoML's own application."""

import subprocess
import sys

from tests.service.conftest import ROOT, environment

PROGRAM = """
from bentoml._internal.utils.analytics import usage_stats
asked = usage_stats.do_not_track()  # as ``bentoml serve`` does first
from service.bento import Gauntlet
print(asked, usage_stats.do_not_track())
layer, layers = Gauntlet.to_asgi(is_main=True).build_middleware_stack(), []
while layer is not None:
    if hasattr(layer, "excluded_urls"):
        print(layer.excluded_urls.url_disabled("http://127.0.0.1:3000/classify"))
    layers.append(type(layer).__name__)
    layer = getattr(layer, "app", None) or getattr(layer, "_app", None)
print(*layers)
"""


def layers(tmp_path, **variables: str) -> tuple[str, str, list[str]]:
    """Whether BentoML reports nothing before and after; whether no trace is made of /classify; a request's layers."""
    environ = {**environment(tmp_path), "BENTOML_DO_NOT_TRACK": "", **variables}
    command = [sys.executable, "-c", PROGRAM]
    done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    silent, untraced, names = done.stdout.splitlines()[-3:]
    return silent, untraced, names.split()


def test_bentoml_reports_nothing_and_no_request_pays_for_a_trace_that_nobody_gets_or_for_a_timer(tmp_path):
    silent, untraced, names = layers(tmp_path)
    assert silent == "False True"
    assert untraced == "True"
    assert "RequestGate" in names
    assert "TimeoutMiddleware" not in names


def test_with_an_exporter_every_request_is_traced(tmp_path):
    _, untraced, _ = layers(tmp_path, BENTOML_CONFIG_OPTIONS="tracing.exporter_type=otlp tracing.sample_rate=0.1")
    assert untraced == "False"


ARBITER = """
import os, sys
from pathlib import Path
from types import SimpleNamespace
from bentoml._internal.utils import circus as arbiters
from service import bento_tuning

bento_tuning.supervise_services(None)
assert "BENTOML_NO_UDS" not in os.environ
folder, order = Path(sys.argv[1]), []
watcher = SimpleNamespace(respawn=False, name="compute", numprocesses=1, use_papa=False, on_demand=False)
arbiters._Arbiter.__init__ = lambda self, watchers, *args, **options: order.append(options["check_delay"])
def start(self, cb):
    self.stop()
    order.append(folder.exists())
    return SimpleNamespace(exception=lambda: None)
arbiters._Arbiter.start = start
arbiters._Arbiter.stop = lambda self: order.append("all ended")
made = arbiters.create_standalone_arbiter([watcher])
made.exit_stack.callback(folder.rmdir)
made.start()
print(watcher.respawn, *order, folder.exists())
"""


def test_bentomls_parent_starts_again_whatever_dies_and_keeps_the_socket_until_all_have_ended(tmp_path):
    """In a container it would do neither."""
    (tmp_path / "sockets").mkdir()
    environ = {**environment(tmp_path), "BENTOML_NO_UDS": "1"}
    command = [sys.executable, "-c", ARBITER, str(tmp_path / "sockets")]
    done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "True 1.0 all ended True False"


def test_there_is_one_process_that_computes_and_as_many_that_answer_as_are_set(tmp_path):
    program = (
        "from service.bento import Compute, Gauntlet; print(Compute.config['workers'], Gauntlet.config['workers'])"
    )
    environ = {**environment(tmp_path), "GAUNTLET_API_WORKERS": "3"}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["1", "3"]


ADOPTED = """
import os, time
from service import bento, bento_tuning

class Starter:
    def start(self, name, module, arguments, environment, folder, inherited):
        os.environ.update(environment)

bento_tuning.ForkedService(Starter(), "compute", 1, "python -m module --fd 3", env={"GIVEN": "1"})
print(os.environ["GIVEN"], os.environ["GAUNTLET_PARENT_PID"] == str(os.getpid()), flush=True)
bento_tuning.socket_of, bento.ServiceLocks = (lambda _: None), (lambda _: time.sleep(20))
bento.begin()  # in a process whose parent is another one than it was told
print("went on")
"""


def test_a_process_whose_parent_has_ended_before_it_begins_ends(tmp_path):
    command = [sys.executable, "-c", ADOPTED]
    done = subprocess.run(command, cwd=ROOT, env=environment(tmp_path), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "1 True"
