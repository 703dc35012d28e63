"""Run by test_chart.py in .venv-helm: lint the chart named, render it with the values on standard input, print JSON."""

import json
import sys

import helm_python

chart, release, values = sys.argv[1], sys.argv[2], json.load(sys.stdin)
try:
    lint = helm_python.lint(chart, values, strict=True)
    rendered = helm_python.Chart.load(chart).render(values, name=release, namespace=release)
    json.dump({"lint": lint, "rendered": rendered}, sys.stdout)
except helm_python.HelmError as error:
    json.dump({"error": str(error)}, sys.stdout)
