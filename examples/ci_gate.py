"""For the engineer who gates a model in CI: a report on it, and exit status 1 where it does not hold what is asked.

python examples/ci_gate.py --model fashion-mnist-lipschitz --certified 36/255 0.75 --robust 0.5 0.4
"""

import argparse
import sys
from fractions import Fraction

from gauntlet_client import Client
from gauntlet_client.answers import Rate, ReportStatus


def tell(status: ReportStatus) -> None:
    left = "" if status.eta_seconds is None else f", {status.eta_seconds:.0f} s to go"
    print(f"{status.status} {status.progress:.0%}{left}", file=sys.stderr)


def holds(name: str, rate: Rate, asked: float) -> bool:
    good = rate.low >= asked
    print(f"{'ok  ' if good else 'FAIL'} {name}: {rate.k} of {rate.n}, so at least {rate.low:.1%}; asked {asked:.1%}")
    return good


parser = argparse.ArgumentParser()
parser.add_argument("--url", default="http://127.0.0.1:3000")
parser.add_argument("--key")
parser.add_argument("--model", required=True)
parser.add_argument("--dataset", default="fashion-mnist")
parser.add_argument("--n", type=int, default=200)
parser.add_argument("--certified", nargs=2, metavar=("EPS", "SHARE"), required=True, help="in L2")
parser.add_argument("--robust", nargs=2, metavar=("EPS", "SHARE"), required=True, help="in L2, under the attacks")
asked = parser.parse_args()
(certified, share), (robust, standing) = asked.certified, asked.robust
certified, robust = float(Fraction(certified)), float(Fraction(robust))

with Client(asked.url, key=asked.key) as gauntlet:
    threats = [{"norm": "l2", "eps": sorted({certified, robust})}]
    accepted = gauntlet.submit([asked.model], asked.dataset, n=asked.n, threats=threats)
    report = gauntlet.wait(accepted.id, every=5, progress=tell)
    print("the whole report:", asked.url + accepted.report_url, file=sys.stderr)

(model,) = report.models
(proved,) = [curve for curve in model.curves if curve.kind == "certified"] or sys.exit(
    "nothing is proved of this model"
)
(worst,) = [found for found in model.robustness if found.eps == robust and found.attack is None]
alarms = [check.name for check in model.checks if not check.passed]
good = [
    holds(
        f"certified at L2 {certified:.3g}",
        min(proved.points, key=lambda point: abs(point.eps - certified)).rate,
        float(share),
    ),
    holds(f"robust at L2 {robust:.3g}", worst.accuracy, float(standing)),
]
print("checks:", ", ".join(alarms) or "all passed")
sys.exit(0 if all(good) and not alarms else 1)
