"""The settings as they are described, and as they are read."""

import re

import pytest

from service import settings
from service.settings import Settings, SettingsError


def test_the_table_lists_every_setting_and_no_other():
    assert settings.__doc__ is not None
    listed = re.findall(r"^\| (GAUNTLET_\w+) \|", settings.__doc__, re.MULTILINE)
    assert listed == list(dict.fromkeys(listed))
    assert set(listed) == {f"GAUNTLET_{name.upper()}" for name in Settings.model_fields}


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
