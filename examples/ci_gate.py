"""Gate a model in CI: request a report from a service, and exit with status 1 if the model misses a requirement.

python examples/ci_gate.py --model fashion-mnist-lipschitz --certified 36/255 0.75 --robust 0.5 0.4
"""

import argparse
import sys
from fractions import Fraction

from gauntlet_client import Client
from gauntlet_client.answers import Rate, ReportStatus


def print_progress(status: ReportStatus) -> None:
    left = "" if status.eta_seconds is None else f", {status.eta_seconds:.0f} s to go"
    print(f"{status.status} {status.progress:.0%}{left}", file=sys.stderr)


def meets(name: str, rate: Rate, required: float) -> bool:
    met = rate.low >= required
    print(
        f"{'ok  ' if met else 'FAIL'} {name}: {rate.k} of {rate.n}, so at least {rate.low:.1%}; required {required:.1%}"
    )
    return met


parser = argparse.ArgumentParser()
parser.add_argument("--url", default="http://127.0.0.1:3000")
parser.add_argument("--key")
parser.add_argument("--model", required=True)
parser.add_argument("--dataset", default="fashion-mnist")
parser.add_argument("--n", type=int, default=200)
parser.add_argument("--certified", nargs=2, metavar=("EPS", "SHARE"), required=True, help="in L2")
parser.add_argument("--robust", nargs=2, metavar=("EPS", "SHARE"), required=True, help="in L2, under the attacks")
options = parser.parse_args()
(certified, certified_share), (robust, robust_share) = options.certified, options.robust
certified, robust = float(Fraction(certified)), float(Fraction(robust))

with Client(options.url, key=options.key) as gauntlet:
    threats = [{"norm": "l2", "eps": sorted({certified, robust})}]
    accepted = gauntlet.submit([options.model], options.dataset, n=options.n, threats=threats)
    report = gauntlet.wait(accepted.id, every=5, progress=print_progress)
    print("the whole report:", options.url + accepted.report_url, file=sys.stderr)

(model,) = report.models
(proved,) = [curve for curve in model.curves if curve.kind == "certified"] or sys.exit("the model has no certificates")
(worst,) = [found for found in model.robustness if found.eps == robust and found.attack is None]
alarms = [check.name for check in model.checks if not check.passed]
met = [
    meets(
        f"certified at L2 {certified:.3g}",
        min(proved.points, key=lambda point: abs(point.eps - certified)).rate,
        float(certified_share),
    ),
    meets(f"robust at L2 {robust:.3g}", worst.accuracy, float(robust_share)),
]
print("checks:", ", ".join(alarms) or "all passed")
sys.exit(0 if all(met) and not alarms else 1)
