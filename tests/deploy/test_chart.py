"""The Helm chart: what it renders is valid, with its defaults the same as the manifests beside it."""

import copy
import json
import subprocess

import jsonschema
import kubernetes_validate
import pytest
import yaml

from gauntlet.version import __version__
from service.settings import Settings
from tests.deploy import manifests
from tests.deploy.test_manifests import MONITORS, SCHEMAS

CHART = manifests.ROOT / "deploy" / "helm" / "gauntlet"
PYTHON = manifests.ROOT / ".venv-helm" / "bin" / "python"  # `make test-all` installs it
URL = "postgresql://u:p@db/gauntlet"
SECRET = {"secret": {"create": True, "databaseUrl": URL, "ownerUrl": URL, "keys": '{"name": "ci"}'}}
INGRESS = {"ingress": {"enabled": True, "host": "gauntlet.example.org", "className": "nginx", "tlsSecret": "tls"}}


def helm(values, release="gauntlet"):
    program = [PYTHON, manifests.ROOT / "tests" / "deploy" / "render_chart.py", CHART, release]
    done = subprocess.run(program, input=json.dumps(values), capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def rendered(values, release="gauntlet"):
    """The resources by kind and name."""
    made = helm(values, release)
    assert made["lint"]["errors"] == []
    documents = [part for text in made["rendered"].values() for part in yaml.safe_load_all(text) if part]
    return {(part["kind"], part["metadata"]["name"]): part for part in documents}


def of_the_manifests():
    return {
        (part["kind"], part["metadata"]["name"]): part
        for part in copy.deepcopy(manifests.RESOURCES)
        if part["kind"] != "Namespace"
    }


def settled(resource):
    """Without what only kustomize, or only Helm, sets later: the image's tag, the settings' fingerprint."""
    if resource["kind"] == "Deployment":
        template = resource["spec"]["template"]
        template["metadata"].pop("annotations", None)
        for container in manifests.containers(template):
            container["image"] = container["image"].split(":")[0]
            container.pop("imagePullPolicy", None)
            container["env"].sort(key=lambda entry: entry["name"])
        template["spec"]["volumes"].sort(key=lambda volume: volume["name"])
    return resource


def test_the_chart_has_the_version_of_the_program():
    said = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert (said["version"], said["appVersion"]) == (__version__, __version__)


def test_its_settings_are_those_of_the_manifests():
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    assert values["settings"] == manifests.common_settings()
    assert {
        name.removeprefix("GAUNTLET_").lower() for name in values["settings"] if name.startswith("GAUNTLET_")
    } <= set(Settings.model_fields)


@pytest.mark.slow
def test_with_its_defaults_it_is_the_manifests():
    chart = rendered({})
    assert chart.pop(("ConfigMap", "gauntlet"))["data"] == manifests.common_settings()
    wanted = of_the_manifests()
    assert chart.keys() == wanted.keys()
    for key, resource in chart.items():
        assert settled(resource) == settled(wanted[key]), key


@pytest.mark.slow
@pytest.mark.parametrize(
    "values",
    [
        {},
        {**SECRET, **INGRESS},
        {"service": {"gpus": 1}, "worker": {"gpus": 2, "autoscaling": {"enabled": False}, "replicas": 3}},
        {
            "networkPolicy": False,
            "monitoring": False,
            "secret": {"name": "mine"},
            "image": {"pullSecrets": [{"name": "r"}]},
        },
        {
            "nodeSelector": {"gpu": "yes"},
            "tolerations": [{"key": "gpu", "operator": "Exists"}],
            "postgresql": {"port": 6543, "serviceRole": "", "peers": [{"ipBlock": {"cidr": "192.0.2.10/32"}}]},
            "egress": [{"ports": [{"port": 4318}], "to": [{"ipBlock": {"cidr": "192.0.2.20/32"}}]}],
            "image": {"digest": f"sha256:{64 * '0'}"},
        },
    ],
    ids=["defaults", "secret and ingress", "gpus", "without the optional", "placed"],
)
@pytest.mark.parametrize("version", ["1.30", "1.36"])
def test_what_it_renders_is_valid(values, version):
    resources = rendered(values, "prod")
    for (kind, name), resource in resources.items():
        assert name.split("-")[0] == "prod", name
        if kind in MONITORS:
            jsonschema.validate(resource, json.loads((SCHEMAS / f"{kind}.json").read_text()))
        else:
            kubernetes_validate.validate(resource, version, strict=True)
    pods = [part["spec"]["template"]["spec"] for (kind, _), part in resources.items() if kind == "Deployment"]
    gpus = [pod["containers"][0]["resources"]["limits"].get("nvidia.com/gpu") for pod in pods]
    assert sorted(filter(None, gpus)) == (["1", "2"] if "gpus" in values.get("service", {}) else [])
    secrets = {entry["secret"]["secretName"] for pod in pods for entry in pod["volumes"] if "secret" in entry}
    assert secrets == {values.get("secret", {}).get("name", "prod")}
    assert (("Ingress", "prod") in resources) == ("ingress" in values)


@pytest.mark.slow
@pytest.mark.parametrize(
    "values",
    [
        {"secret": {"create": True}},
        {"secret": {**SECRET["secret"], "ownerUrl": ""}},
        {"ingress": {"enabled": True}},
        {"settings": {"GAUNTLET_PORT": 3000}},
        {"worker": {"gpu": 1}},
        {"secret": {"databaseUrl": "mysql://db"}},
        {"image": {"digest": "latest"}},
        {"postgresql": {"peers": []}},
        {"egress": [{"ports": [{"port": 443}]}]},
    ],
)
def test_values_that_cannot_work_are_refused(values):
    assert "error" in helm(values)
