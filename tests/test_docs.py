"""Every link of the documentation leads somewhere, and every command in it is one that there is."""

import importlib.util
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from gauntlet.cli.main import parser_for
from service.endpoints.routes import ENDPOINTS

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("client/*.md")])
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\]\(([^)\s]+)\)")
EXECUTED = (ROOT / "docs" / "tutorial.md", ROOT / "docs" / "how-to" / "own-model.md")
LANGUAGES = {"bash": ("bash", "-euo", "pipefail", "-c"), "python": (sys.executable, "-W", "ignore", "-c")}
COMMANDS = ("make", "pip", "curl", "python", ".venv/bin/python", "gauntlet")


def name(path):
    return str(path.relative_to(ROOT))


def blocks(page, *languages):
    return [text for language, text in FENCE.findall(page.read_text()) if language in languages]


def anchors(page):
    """As Python-Markdown makes them of headings."""
    prose = FENCE.sub("", page.read_text())
    titles = [re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", title) for title in re.findall(r"^#+ (.*)$", prose, re.MULTILINE)]
    return {re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", title).strip().lower()) for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_to_files_and_headings(page):
    for link in LINK.findall(FENCE.sub("", page.read_text())):
        path, _, anchor = link.partition("#")
        if re.match(r"[a-z]+:", link):
            assert link.startswith(("https://", "http://127.0.0.1", "mailto:")), link
            continue
        there = page if not path else (page.parent / path).resolve()
        assert there.exists(), link
        assert not anchor or anchor in anchors(there), link


def commands(page):
    """The commands of the blocks that are not executed, with their continued lines joined, without comments."""
    for text in blocks(page, ""):
        for line in text.replace("\\\n", " ").splitlines():
            try:
                words = shlex.split(line, comments=True)
            except ValueError:  # part of a longer shell construct
                continue
            while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
                words = words[1:]
            if words and words[0] in COMMANDS:
                yield words


def checked(words):
    """Raise where the command, its module, target, options or route does not exist."""
    match words:
        case ["python" | ".venv/bin/python", "-m", "gauntlet", *options] | ["gauntlet", *options]:
            parser_for(options).parse_args(options)
        case ["python" | ".venv/bin/python", "-m", module, *_]:
            assert importlib.util.find_spec(module) is not None, module
        case ["make", *targets]:
            assert {word for word in targets if "=" not in word} <= TARGETS
        case ["curl", *options]:
            (url,) = [word for word in options if word.startswith("http")]
            path = re.sub(r"https?://[^/]+", "", url).partition("?")[0]
            patterns = [re.sub(r"\\\{\w+\\\}", "[^/]+", re.escape(endpoint.path)) for endpoint in ENDPOINTS]
            assert re.fullmatch("|".join(patterns), path), url


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_commands_that_are_not_executed_are_ones_that_there_are(page):
    for words in commands(page):
        redirected = [place for place, word in enumerate(words) if word in (">", ">>")]
        checked(words[: redirected[0]] if redirected else words)


@pytest.mark.parametrize("command", ["make nothing", "python -m nothing", "curl -s http://127.0.0.1:3000/nothing"])
def test_a_command_that_there_is_not_is_found(command):
    with pytest.raises(AssertionError):
        checked(command.split())


def test_every_block_of_yaml_is_valid_and_gives_the_action_inputs_that_it_has():
    known = set(YAML(typ="safe", pure=True).load((ROOT / "action.yml").read_text())["inputs"])
    given = set()
    for page in PAGES:
        for text in blocks(page, "yaml"):
            read = YAML(typ="safe", pure=True).load(text)
            steps = (
                read if isinstance(read, list) else [s for job in read.get("jobs", {}).values() for s in job["steps"]]
            )
            given |= {name for step in steps if "OWNER/gauntlet" in step.get("uses", "") for name in step["with"]}
    assert {"models", "dataset", "require", "baseline"} <= given <= known


def test_blocks_to_execute_are_executed():
    """By the test below, or by tests/test_readme.py."""
    elsewhere = {ROOT / "README.md", ROOT / "docs" / "how-to" / "service.md", ROOT / "client" / "README.md"}
    with_code = {page for page in PAGES if blocks(page, "bash", "python")}
    assert with_code == {*EXECUTED, *elsewhere}


@pytest.mark.slow
@pytest.mark.parametrize("page", EXECUTED, ids=name)
def test_a_page_can_be_followed_from_top_to_bottom(page, tmp_path):
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "gauntlet").write_text(f'#!/bin/sh\nexec {sys.executable} -W ignore -m gauntlet "$@"\n')
    (programs / "gauntlet").chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{programs}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "REPOSITORY": str(ROOT),
    }
    (tmp_path / "model.onnx").symlink_to(ROOT / "models" / "artifacts" / "fashion-mnist-standard" / "model.onnx")
    (tmp_path / "images.npz").symlink_to(ROOT / "models" / "evalsets" / "fashion-mnist.npz")
    for language, text in FENCE.findall(page.read_text()):
        if language in LANGUAGES:
            block = text.replace("cp ", "cp --remove-destination ")  # not through the links
            done = subprocess.run(
                [*LANGUAGES[language], block],
                cwd=tmp_path,
                env=environment,
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 0, f"{text}\n{done.stdout}{done.stderr}"


@pytest.mark.slow  # needs the environment of `make docs`
def test_the_site_is_built_without_a_warning(tmp_path):
    command = [ROOT / ".venv-docs" / "bin" / "python", "-m", "mkdocs", "build", "--strict", "--site-dir", tmp_path]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "index.html").read_text()
    loaded = re.findall(r'<(?:link|script|img)[^>]+(?:href|src)="(https?:[^"]+)"', page)
    assert loaded == []
