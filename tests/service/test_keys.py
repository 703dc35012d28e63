"""Keys as they are made, kept and taken back, and where the service may do without."""

import json
import sys
from pathlib import Path

import click
import pytest

from service import __main__ as command
from service import supervisor
from service.auth import keys
from service.auth.keys import check_open, digest
from service.request_context import Scope
from service.settings import Settings, SettingsError
from tests.service.in_process import LINES, Caller, door, entry


def test_the_command_makes_a_key_that_works_and_keeps_only_its_hash(settings, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["service", "keys", "new", "ci", "--scope", "attack"])
    command.main()
    out, err = capsys.readouterr()
    secret = err.split("once: ")[1].split()[0]
    assert secret not in out
    (key,) = keys.parse(out, "test")
    assert (key.name, key.scope, key.sha256) == ("ci", Scope.ATTACK, digest(secret))
    settings(api_keys=out)
    assert Caller(door())("POST", "/attack", key=secret).status_code == 200
    assert keys.new("ci", Scope.READ)[0] != keys.new("ci", Scope.READ)[0]


@pytest.mark.parametrize("arguments", [["a name", "--scope", "read"], ["x" * 65, "--scope", "read"]])
def test_a_name_that_cannot_be_is_refused(monkeypatch, capsys, arguments: list[str]):
    monkeypatch.setattr(sys, "argv", ["service", "keys", "new", *arguments])
    with pytest.raises(SystemExit) as ended:
        command.main()
    assert ended.value.code == 1
    assert "cannot be a key's name" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("gauntlet_somebody-put-the-key-itself-here", "line 1: the line: Invalid JSON"),
        ("# a comment\n\n" + entry("a", "x", "read").replace("read", "root"), "line 3: scope"),
        (entry("a", "x", "read").replace("sha256", "key"), "line 1: sha256: Field required"),
        (entry("a", "x", "read") + "\n" + entry("a", "y", "read"), "line 2: a second key is called a"),
        (json.dumps({**json.loads(entry("a", "x", "read")), "reports_per_day": -1}), "line 1: reports_per_day"),
        (json.dumps({**json.loads(entry("a", "x", "read")), "secret": "x"}), "line 1: secret: Extra inputs"),
    ],
)
def test_a_line_that_is_wrong_is_named_and_not_quoted(text: str, reason: str):
    with pytest.raises(SettingsError, match=reason) as refused:
        keys.parse(text, "GAUNTLET_API_KEYS")
    assert "somebody-put" not in str(refused.value)
    assert digest("x") not in str(refused.value)
    assert refused.value.__cause__ is None


def test_a_key_that_is_taken_out_of_the_file_is_refused_without_a_restart(
    settings, tmp_path: Path, monkeypatch, caplog
):
    monkeypatch.setattr(keys, "LOOK", 0)
    monkeypatch.setattr(keys.LOGGER, "propagate", True)
    file = tmp_path / "keys"
    file.write_text(entry("one", "first", "read") + "\n" + entry("two", "second", "read") + "\n")
    settings(api_keys=entry("fixed", "third", "read"), keys_file=file)
    call = Caller(door())

    def statuses() -> list[int]:
        return [call("GET", "/models", key=secret).status_code for secret in ("first", "second", "third")]

    assert statuses() == [200, 200, 200]
    file.write_text(entry("two", "second", "read") + "\n")
    assert statuses() == [401, 200, 200]
    file.write_text("half a li")
    assert statuses() == [401, 200, 200]
    assert "the keys before stay valid" in caplog.text
    file.unlink()
    assert statuses() == [401, 200, 200]
    file.write_text("# nobody\n")
    assert statuses() == [401, 401, 200]


# Open or not


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.0.1", "::1"])
def test_on_loopback_no_key_is_needed(host: str):
    check_open(Settings(), host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7", None])
def test_who_can_be_reached_refuses_to_be_open_unless_told(host: str | None):
    with pytest.raises(SettingsError, match="GAUNTLET_OPEN=1") as refused:
        check_open(Settings(), host)
    assert (host or "the address") in str(refused.value)
    check_open(Settings(open=True), host)
    check_open(Settings(api_keys=LINES), host)


def test_the_host_is_the_one_that_bentoml_was_given(capsys):
    assert supervisor._host() is None
    context = click.Context(click.Command("serve"))
    context.params["host"] = "0.0.0.0"
    with context:
        assert supervisor._host() == "0.0.0.0"
        with pytest.raises(SystemExit) as ended:
            supervisor.prepare(None)
    assert ended.value.code == 1
    assert "gauntlet: 0.0.0.0 can be reached from elsewhere" in capsys.readouterr().err


def test_a_file_without_a_key_or_that_is_not_there_ends_the_start(tmp_path: Path):
    (tmp_path / "empty").write_text("# none yet\n")
    with pytest.raises(SettingsError, match="hold no key"):
        check_open(Settings(keys_file=tmp_path / "empty"), "127.0.0.1")
    with pytest.raises(SettingsError, match=r"GAUNTLET_KEYS_FILE=.*cannot be read"):
        check_open(Settings(keys_file=tmp_path / "nowhere"), "127.0.0.1")
