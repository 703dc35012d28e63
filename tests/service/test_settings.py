"""The settings as they are described, and as they are read."""

import pytest

from service import __main__ as command
from service.settings import ROOT, Settings, SettingsError


def test_the_page_of_the_documentation_is_what_is_printed(capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["service", "settings"])
    command.main()
    printed = capsys.readouterr().out
    assert printed == (ROOT / "docs" / "settings.md").read_text()
    assert all(field.description for field in Settings.model_fields.values())


def test_children_are_told_where_the_keys_are(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GAUNTLET_KEYS_FILE", "keys")
    assert Settings.load().export()["GAUNTLET_KEYS_FILE"] == str(tmp_path / "keys")
    monkeypatch.setenv("GAUNTLET_KEYS_FILE", "")
    assert "GAUNTLET_KEYS_FILE" not in Settings.load().export()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OPEN", "perhaps"),
        ("REQUESTS_PER_MINUTE", "-1"),
        ("STORED_REPORTS", "many"),
        ("BODY_SECONDS", "0"),
        ("MAX_BODIES", "0"),
    ],
)
def test_a_value_that_cannot_be_is_named(monkeypatch, name: str, value: str):
    monkeypatch.setenv(f"GAUNTLET_{name}", value)
    with pytest.raises(SettingsError, match=f"GAUNTLET_{name}={value}"):
        Settings.load()
