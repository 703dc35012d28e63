"""The four main calls through BentoML's own client, in a process of its own: its imports warn."""

import json
import subprocess
import sys

from tests.service.conftest import PATIENCE, ROOT, SHORT_REPORT, Server, arrays, wait_for

SCRIPT = """
import json, sys
import bentoml
url, bodies = sys.argv[1], json.loads(sys.argv[2])
answers = {}
with bentoml.SyncHTTPClient(url) as client:
    assert client.is_ready()
    for name, body in bodies.items():
        answers[name] = getattr(client, name)(body)
    try:
        client.classify({"model": "nope", "images": [[[0.5]]]})
    except bentoml.exceptions.BentoMLException as error:
        answers["error"] = [int(error.error_code), str(error)]
print(json.dumps(answers))
"""


def test_the_four_main_calls_work_through_bentomls_client(server: Server):
    bodies = {
        "classify": {"model": "linear", "images": arrays(2)},
        "generate": {"model": "gen", "n": 2, "seed": 3},
        "attack": {"model": "linear", "attack": "fgsm", "images": arrays(2), "norm": "linf", "eps": 0.1},
        "robustness_report": SHORT_REPORT,
    }
    wait_for(lambda: server.client.get("/readyz").status_code == 200)
    command = [sys.executable, "-c", SCRIPT, str(server.client.base_url), json.dumps(bodies)]
    output = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert output.returncode == 0, output.stderr
    answers = json.loads(output.stdout.splitlines()[-1])
    assert len(answers["classify"]["predictions"]) == 2
    assert answers["generate"]["seed"] == 3
    assert answers["attack"]["summary"]["n"] == 2
    assert server.finished(answers["robustness_report"]["id"])["status"] == "succeeded"
    assert answers["error"][0] == 404
    assert "unknown_model" in answers["error"][1]
