"""``python -m bench.contract``: test the service against its own /openapi.json, with thousands of generated cases.

Valid requests must be answered as the document says, invalid ones refused, requests without a key rejected, and there
may be no server errors. Exit status 1 otherwise, or if fewer cases than --cases were generated.
"""

import argparse
import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from bench.serving.asks import ROOT
from bench.serving.servers import Variant, gauntlet, running, workplace
from service.auth import keys
from service.request_context import Scope

SCHEMATHESIS = ROOT / ".venv-contract" / "bin" / "schemathesis"
CONFIG = Path(__file__).with_name("schemathesis.toml")
MODELS = ["fashion-mnist-standard", "fashion-mnist-lipschitz", "fashion-mnist-gan"]
PHASES = "examples,coverage,fuzzing,stateful"


def served(folder: Path, key: keys.Key) -> Variant:
    """Return the service with a key, a worker and a folder of its own, limited so that no request takes long."""
    (folder / "keys").write_text(keys.line(key))
    settings = {
        "keys_file": folder / "keys",
        "trusted_proxies": "127.0.0.1",  # each case has its own client address (bench/contract/clients.py)
        "local_workers": 1,
        "attack_budget": 2000,
        "report_queue": 3,
    }
    return dataclasses.replace(gauntlet(folder, MODELS, **settings), ready="/readyz")


def asked(port: int, secret: str, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Run schemathesis and return its report; its output, with a curl for every failure, goes to standard output."""
    command = [str(SCHEMATHESIS), "--config-file", str(CONFIG), "run", f"http://127.0.0.1:{port}/openapi.json"]
    command += ["--phases", options.phases, "--max-examples", str(options.examples), "--seed", str(options.seed)]
    command += ["--report", "json", "--report-json-path", str(folder / "report.json")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "GAUNTLET_CONTRACT_KEY": secret}
    subprocess.run(command, cwd=folder, env=environment, check=False)  # noqa: S603  no shell, only our own arguments
    report: dict[str, Any] = json.loads((folder / "report.json").read_text())
    return report


def faults(report: dict[str, Any], log: str, cases: int) -> list[str]:
    """List the failures of a run."""
    made = report["test_cases"]
    tested, all_ = report["operations"]["tested"], report["operations"]["total"]
    return [
        *([f"{made['unique_failures']} failures"] if made["unique_failures"] else []),
        *([f"{made['errored']} cases that broke off"] if made["errored"] else []),
        *([f"{tested} of {all_} operations"] if tested < all_ else []),
        *([f"fewer cases than {cases}"] if made["generated"] < cases else []),
        *(["the run was cut short"] if not report["complete"] else []),
        *([f"in the service's log: {log[max(0, at - 500) : at + 3000]}"] if (at := log.find("Traceback")) >= 0 else []),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.contract", description=__doc__)
    parser.add_argument("--cases", type=int, default=5000, help="fewest cases that must be generated")
    parser.add_argument("--examples", type=int, default=120, help="examples of each operation and kind, while fuzzing")
    parser.add_argument("--phases", default=PHASES)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    secret, key = keys.new("contract", Scope.ADMIN)
    with workplace() as folder, running(served(folder, key), folder / "log") as server:
        report = asked(server.port, secret, folder, options)
        log = (folder / "log").read_text()
    found = faults(report, log, options.cases)
    made = report["test_cases"]
    print(
        f"{made['generated']} generated cases of {report['operations']['tested']} operations, "
        f"{made['unique_failures']} failures, {report['running_time']:.0f} s: {'; '.join(found) or 'as it should be'}"
    )
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
