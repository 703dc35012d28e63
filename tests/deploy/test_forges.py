"""The gates for GitHub and GitLab, run step by step as a runner does, and our own workflows."""

import json
import os
import re
import shlex
import subprocess
import sys
from importlib import resources
from pathlib import Path

import jsonschema
import pytest
from ruamel.yaml import YAML  # reads YAML 1.2, where `on` is a word; check-jsonschema brings it

from gauntlet.cli.main import parser_for
from gauntlet.report.schema import Report
from tests import tiny

ROOT = Path(__file__).resolve().parents[2]
ACTION, TEMPLATE = ROOT / "action.yml", ROOT / "deploy" / "gitlab" / "gauntlet.gitlab-ci.yml"
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
SCHEMAS = {
    ACTION: "github-actions",
    TEMPLATE: "gitlab-ci",
    ROOT / ".github" / "dependabot.yml": "dependabot",
    ROOT / ".github" / "ISSUE_TEMPLATE" / "config.yml": "github-issue-config",
    ROOT / ".github" / "ISSUE_TEMPLATE" / "bug.yml": "github-issue-forms",
    ROOT / ".github" / "ISSUE_TEMPLATE" / "feature.yml": "github-issue-forms",
    ROOT / "CITATION.cff": "citation-file-format",
    **dict.fromkeys(WORKFLOWS, "github-workflows"),
}
REQUIRE = "clean>=0.1\nrobust(linf)@8/255>=0.3\n"
RECORDER = f"""#!{sys.executable}
import json, sys
from pathlib import Path
if sys.argv[1:3] == ["-m", "gauntlet"]:
    Path("words.json").write_text(json.dumps(sys.argv[3:]))
    Path("out").joinpath("report.md").write_text("## Robustness: said")
    sys.exit(int(Path("status").read_text()))
Path("installed.json").write_text(json.dumps(sys.argv[1:]))
"""
GH = '#!/bin/sh\nprintf "%s\\n" "$@" > comment\n'


def read(path):
    return YAML(typ="safe", pure=True).load(path.read_text())


@pytest.mark.parametrize(("path", "name"), SCHEMAS.items(), ids=lambda value: getattr(value, "name", value))
def test_each_file_fits_the_schema_of_its_forge(path, name):
    schemas = resources.files("check_jsonschema") / "builtin_schemas" / "vendor"
    jsonschema.validate(read(path), json.loads((schemas / f"{name}.json").read_text()))


def test_our_workflows_call_targets_of_the_makefile():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    called = {name for path in WORKFLOWS for name in re.findall(r"run: make ([a-z-]+)", path.read_text())}
    assert {"check", "test", "docs", "packages"} <= called <= targets


@pytest.fixture
def recorder(tmp_path):
    """A folder that comes first in PATH: its python writes down what it is asked, its gh what is commented."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, text in (("python", RECORDER), ("gh", GH)):
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    return programs


def run(script, folder, programs, variables):
    environment = {"PATH": f"{programs}:{os.environ['PATH']}", "HOME": str(folder), **variables}
    command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def run_action(folder, programs, event="pull_request", **given):
    """Status and outputs of the composite action, its `run` steps executed in order, its expressions filled in."""
    action = read(ACTION)
    known = {f"inputs.{name}": given.get(name, entry.get("default", "")) for name, entry in action["inputs"].items()}
    known |= {"github.token": "t", "github.event.pull_request.number": "7", "github.event_name": event}
    for name in ("output", "summary"):
        (folder / name).touch()
    for step in action["runs"]["steps"]:
        condition = step.get("if", "")
        wanted = "github.event_name" not in condition or (event == "pull_request" and known["inputs.comment"] == "true")
        if "run" not in step or not wanted:
            continue
        outputs = dict(line.split("=", 1) for line in (folder / "output").read_text().splitlines())
        known |= {f"steps.measure.outputs.{name}": value for name, value in outputs.items()}
        variables = {name: filled(value, known) for name, value in step["env"].items()}
        variables |= {"GITHUB_OUTPUT": str(folder / "output"), "GITHUB_STEP_SUMMARY": str(folder / "summary")}
        done = run(step["run"], folder, programs, variables)
        if done.returncode:
            return done.returncode, outputs, done.stdout + done.stderr
    return 0, outputs, ""


def filled(text, known):
    return re.sub(r"\$\{\{ (\S+) \}\}", lambda match: known[match[1]], text)


def run_template(folder, programs, **given):
    job = read(TEMPLATE)[".gauntlet"]
    variables = {**job["variables"], **given}
    script = "\n".join([*job["before_script"], *job["script"]])
    done = run(script, folder, programs, variables)
    assert run("\n".join(job["after_script"]), folder, programs, {"GITLAB_TOKEN": "", **variables}).returncode == 0
    return done


def said(folder):
    """What the gate asked of the command line; it must understand it."""
    words = json.loads((folder / "words.json").read_text())
    return parser_for(words).parse_args(words)


@pytest.mark.parametrize("status", ["0", "1", "2"])
@pytest.mark.parametrize("forge", ["github", "gitlab"])
def test_a_gate_asks_for_what_it_was_given_and_ends_as_the_report_does(forge, status, recorder, tmp_path):
    (tmp_path / "status").write_text(status)
    (tmp_path / "last.json").touch()
    given = {"models": "a.onnx b.onnx", "dataset": "my images.npz", "require": REQUIRE, "n": "50"}
    given |= {"options": "--threats linf=8/255 --declare pixel_range=0..255", "baseline": "last.json", "output": "out"}
    if forge == "github":
        ended, outputs, _ = run_action(tmp_path, recorder, **given)
        assert outputs == {"status": status}
        assert (tmp_path / "summary").read_text() == "## Robustness: said"
        assert (tmp_path / "comment").read_text().split("\n")[:5] == [
            "pr",
            "comment",
            "7",
            "--body-file",
            "out/report.md",
        ]
    else:
        ended = run_template(tmp_path, recorder, **{name.upper(): value for name, value in given.items()}).returncode
    assert ended == int(status)
    options = said(tmp_path)
    assert (options.models, options.dataset, options.n) == (["a.onnx", "b.onnx"], "my images.npz", 50)
    assert options.require == REQUIRE.split()
    assert (options.threats, options.declare) == (["linf=8/255"], ["pixel_range=0..255"])
    assert str(options.baseline) == "last.json"
    endings = {path.name.removeprefix("report.") for path in options.out}
    assert endings == {"json", "html", "md", "xml", "sarif", "cdx.json"}
    installed = json.loads((tmp_path / "installed.json").read_text())
    assert {"gauntlet-robustness[cpu]", "--extra-index-url"} <= set(installed)


@pytest.mark.parametrize("forge", ["github", "gitlab"])
def test_a_first_run_has_no_baseline_and_a_push_no_comment(forge, recorder, tmp_path):
    (tmp_path / "status").write_text("0")
    given = {"models": "a.onnx", "dataset": "d.npz", "baseline": "none.json", "output": "out"}
    if forge == "github":
        run_action(tmp_path, recorder, event="push", **given)
    else:
        run_template(tmp_path, recorder, **{name.upper(): value for name, value in given.items()})
    assert said(tmp_path).baseline is None
    assert said(tmp_path).require == []
    assert not (tmp_path / "comment").exists()


@pytest.mark.slow
def test_a_model_fails_the_gate_on_github_and_passes_it_on_gitlab(tmp_path):
    """With the real command line, on a model and images in files."""
    folder = tiny.linear(tmp_path / "model")
    tiny.evalset(tmp_path / "images.npz")
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "python").write_text(
        f'#!/bin/sh\n[ "$2" = pip ] || PYTHONPATH={shlex.quote(str(ROOT))} exec {sys.executable} "$@"\n'
    )
    (programs / "python").chmod(0o755)
    given = {"models": str(folder / "model.onnx"), "dataset": "images.npz", "n": "12", "output": "out"}
    given |= {"options": "--attacks pgd --threats linf=0.1"}
    ended, outputs, text = run_action(tmp_path, programs, "push", require="robust(linf)@0.1>=0.9", **given)
    assert (ended, outputs) == (1, {"status": "1"}), text
    report = Report.model_validate_json((tmp_path / "out" / "report.json").read_bytes())
    assert report.request.n == 12
    assert "**missed**" in (tmp_path / "summary").read_text()
    assert json.loads((tmp_path / "out" / "report.sarif").read_text())["runs"][0]["results"]
    (tmp_path / "out" / "report.json").rename(tmp_path / "last.json")
    variables = {name.upper(): value for name, value in given.items()}
    done = run_template(tmp_path, programs, BASELINE="last.json", REQUIRE="clean>=0.01", **variables)
    assert done.returncode == 0, done.stderr
    assert "No model got less robust." in (tmp_path / "out" / "report.md").read_text()
