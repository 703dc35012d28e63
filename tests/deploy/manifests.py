"""What deploy/kubernetes and deploy/compose say."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
KUBERNETES = ROOT / "deploy" / "kubernetes"
COMPOSE = ROOT / "deploy" / "compose" / "compose.yaml"
KUSTOMIZATION = yaml.safe_load((KUBERNETES / "kustomization.yaml").read_text())

RESOURCES: list[dict[str, Any]] = [
    resource for name in KUSTOMIZATION["resources"] for resource in yaml.safe_load_all((KUBERNETES / name).read_text())
]
"""As they stand in the files; what kustomize changes (namespace, image, the ConfigMap's name) matters to no test."""


def of_kind(kind: str) -> list[dict[str, Any]]:
    return [resource for resource in RESOURCES if resource["kind"] == kind]


def pods() -> dict[str, dict[str, Any]]:
    """The pod templates by their `part` label."""
    templates = [deployment["spec"]["template"] for deployment in of_kind("Deployment")]
    return {template["metadata"]["labels"]["part"]: template for template in templates}


def container(part: str) -> dict[str, Any]:
    (only,) = pods()[part]["spec"]["containers"]
    return only


def containers(pod: dict[str, Any]) -> list[dict[str, Any]]:
    """All of a pod template, those that run before the others included."""
    return [*pod["spec"].get("initContainers", []), *pod["spec"]["containers"]]


def common_settings() -> dict[str, str]:
    (generator,) = KUSTOMIZATION["configMapGenerator"]
    return dict(literal.split("=", 1) for literal in generator["literals"])


def settings(part: str) -> dict[str, str | None]:
    """The environment of a pod; None where the cluster fills the value in."""
    return {**common_settings(), **{entry["name"]: entry.get("value") for entry in container(part)["env"]}}


def compose() -> dict[str, Any]:
    return yaml.safe_load(COMPOSE.read_text())


def labelled() -> Iterator[tuple[str, dict[str, str]]]:
    """Everything that chooses pods, and the labels that it chooses by."""
    for resource in RESOURCES:
        spec = resource.get("spec", {})
        name = f"{resource['kind']} {resource['metadata']['name']}"
        if resource["kind"] == "Service":
            yield name, spec["selector"]
        for field in ("selector", "podSelector"):
            if "matchLabels" in spec.get(field, {}):
                yield name, spec[field]["matchLabels"]
