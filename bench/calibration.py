"""``python -m bench.calibration``: do the checks of a report pass on every shipped classifier, for every seed?

Prints every alarm with its measured value. Exit status 1 if there was one.
"""

import argparse
import sys
from collections import defaultdict

from bench.attacks.task import images_of, open_classifier, shipped
from gauntlet.report.build import build
from gauntlet.report.schema import ReportRequest
from gauntlet.runtime.classifier import Classifier


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", metavar="MODEL", help="default: every classifier here")
    parser.add_argument("--n", type=int, default=100, help="images of each report (%(default)s)")
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args()
    groups: dict[str, dict[str, Classifier]] = defaultdict(dict)
    for name in options.models or shipped():
        model = open_classifier(name)
        groups[images_of(model).name][name] = model
    alarms = sum(alarms_of(models, options.n, seed) for models in groups.values() for seed in range(options.seeds))
    print(f"{alarms} alarms; {sum(map(len, groups.values()))} models, {options.seeds} seeds, n = {options.n}")
    return 1 if alarms else 0


def alarms_of(models: dict[str, Classifier], n: int, seed: int) -> int:
    """Count the alarms in default reports on the models of a data set, at most eight models per report."""
    names, count = list(models), 0
    dataset = images_of(models[names[0]])
    for first in range(0, len(names), 8):
        request = ReportRequest(models=names[first : first + 8], dataset=dataset.name, n=n, seed=seed)
        for model in build(request, models, {dataset.name: dataset}).models:
            for check in model.checks:
                if not check.passed:
                    count += 1
                    print(f"{model.name}, seed {seed}: {check.name}: {check.measured}", flush=True)
            print(f"{model.name}, seed {seed}: {len(model.checks)} checks", file=sys.stderr, flush=True)
    return count


if __name__ == "__main__":
    sys.exit(main())
