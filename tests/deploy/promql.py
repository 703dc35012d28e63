"""What deploy/ asks Prometheus for: its expressions, and the names in them."""

import json
import re
from dataclasses import dataclass
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
PROMETHEUS = ROOT / "deploy" / "prometheus"
DASHBOARD = ROOT / "deploy" / "grafana" / "gauntlet.json"

WORDS = {"and", "or", "unless", "by", "without", "on", "ignoring", "group_left", "group_right", "bool", "offset", "inf"}
LABELS = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)")


@dataclass(frozen=True)
class Rule:
    """A recording rule or an alert."""

    name: str
    expression: str
    alert: bool
    labels: dict[str, str]
    annotations: dict[str, str]


def rules() -> list[Rule]:
    return [
        Rule(
            rule.get("record") or rule["alert"],
            rule["expr"],
            "alert" in rule,
            rule.get("labels", {}),
            rule.get("annotations", {}),
        )
        for path in sorted((PROMETHEUS / "rules").glob("*.yml"))
        for group in yaml.safe_load(path.read_text())["groups"]
        for rule in group["rules"]
    ]


def panels() -> dict[str, list[str]]:
    """The expressions of the dashboard by the title of their panel."""
    board = json.loads(DASHBOARD.read_text())
    listed = {
        panel["title"]: [target["expr"] for target in panel["targets"]]
        for panel in board["panels"]
        if panel["type"] != "row"
    }
    variables = [entry["query"]["query"] for entry in board["templating"]["list"] if entry["type"] == "query"]
    return {**listed, "variables": variables}


def plain(expression: str) -> str:
    """As Prometheus reads it, Grafana's variables filled in."""
    return expression.replace("$__rate_interval", "1m").replace("$model", ".*")


def metrics(expression: str) -> set[str]:
    """The names of the series that it reads."""
    bare = re.sub(r'"[^"]*"', "", expression)
    bare = LABELS.sub(" ", re.sub(r"\{[^}]*\}|\[[^\]]*\]", " ", bare))
    bare = re.sub(r"label_values\((\w+),[^)]*\)", r"\1", bare)
    bare = re.sub(r"\boffset\s+\w+", " ", bare)
    return set(re.findall(r"(?<![\w:.$])[a-zA-Z_:][\w:]*(?![\w:]*\s*\()", bare)) - WORDS


def labels(expression: str) -> set[str]:
    """The names of the labels that it selects or groups by."""
    braces = re.findall(r"\{([^}]*)\}", re.sub(r'"[^"]*"', "", expression))
    selected = {name for brace in braces for name in re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", brace)}
    grouped = {name.strip() for group in LABELS.findall(expression) for name in group.split(",")}
    return selected | grouped - {""}


def edges(expression: str) -> set[tuple[str, str]]:
    """The buckets that it picks: (metric, le)."""
    return set(re.findall(r'(\w+)_bucket\{[^}]*\ble="([^"]+)"', expression))
