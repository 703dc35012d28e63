"""What is wrong with a machine is said before anything is started, and the rest is looked at all the same."""

import os

import pytest

from service import __main__ as command
from service import doctor, migrations
from service.doctor import diagnose
from service.jobs.database import Database
from service.settings import Settings
from tests import tiny


@pytest.fixture
def settings(tmp_path):
    tiny.linear(tmp_path / "models" / "artifacts" / "tiny")
    tiny.evalset(tmp_path / "models" / "evalsets" / "tiny.npz")

    def made(**changed):
        chosen = {
            "models": tmp_path / "models",
            "data": tmp_path / "data",
            "state": tmp_path / "state",
            "device": "cpu",
        }
        return Settings(**{**chosen, **changed})

    return made


def found(settings):
    return {finding.subject: finding for finding in diagnose(settings)}


def test_a_sound_machine_is_told_so(settings):
    findings = found(settings())
    assert findings.keys() == doctor.CHECKS.keys()
    assert all(finding.good for finding in findings.values()), findings
    assert "1 models and 1 evaluation sets" in findings["models"].text
    assert "a child process read a file" in findings["sandbox"].text
    assert not (settings().state / "jobs.sqlite").exists()  # it only looks


def test_each_fault_is_named_with_what_to_do_and_hides_no_other(settings, tmp_path, monkeypatch):
    (tmp_path / "models" / "artifacts" / "tiny" / "model.onnx").write_bytes(b"another")
    (tmp_path / "file").touch()
    monkeypatch.setattr(doctor, "_available", lambda: 2**29)
    monkeypatch.setattr(doctor, "read_pictures", no_child)
    findings = found(
        settings(
            host="0.0.0.0",
            state=tmp_path / "file" / "state",
            device="cuda",
            database_url="postgresql://nobody@127.0.0.1:1/none",
        )
    )
    assert [subject for subject, finding in findings.items() if finding.good] == []
    for subject, words in {
        "keys": "GAUNTLET_KEYS_FILE",
        "models": "model.onnx",
        "device": "CUDA",
        "memory": "0.5 GiB are free",
        "state": "cannot be written",
        "database": "GAUNTLET_DATABASE_URL cannot be reached",
        "clock": "GAUNTLET_DATABASE_URL cannot be reached",
        "sandbox": "no process could be started",
    }.items():
        assert words in findings[subject].text


def no_child(*_):
    raise doctor.GauntletError("no process could be started for it")


def test_every_process_of_the_service_counts_in_its_memory(settings, monkeypatch):
    monkeypatch.setattr(doctor, "_available", lambda: 5 * 2**30)
    assert found(settings(api_workers=4, local_workers=1))["memory"].good  # 4 x 0.375 + 2 GiB
    text = found(settings(api_workers=4, local_workers=3))["memory"].text
    assert "4 API processes, the compute process and 3 workers may take 5.5" in text


def test_memory_is_that_of_the_container_where_it_has_less(tmp_path):
    (tmp_path / "meminfo").write_text("MemTotal: 2000 kB\nMemAvailable: 1000 kB\n")
    assert doctor._available(tmp_path / "meminfo", tmp_path) == 1000 * 1024
    (tmp_path / "memory.max").write_text("5000\n")
    (tmp_path / "memory.current").write_text("2000\n")
    assert doctor._available(tmp_path / "meminfo", tmp_path) == 3000
    (tmp_path / "memory.max").write_text("max\n")
    assert doctor._available(tmp_path / "meminfo", tmp_path) == 1000 * 1024


def test_a_clock_that_differs_is_told(settings, monkeypatch):
    class Clock:
        sqlite = False
        now = 1

        def __init__(self, url):
            pass

        def close(self):
            pass

    class Connection:
        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def execute(self, _):
            return self

        def scalar_one(self):
            return 1_000_000

    monkeypatch.setattr(doctor, "Database", Clock)
    monkeypatch.setattr(doctor, "_reached", lambda _: Connection())
    monkeypatch.setattr(doctor.time, "time", lambda: 1_300.0)
    with pytest.raises(doctor.SettingsError, match="300 s ahead of the database's"):
        doctor._clock(settings())
    monkeypatch.setattr(doctor.time, "time", lambda: 990.0)
    assert doctor._clock(settings()) == "10.0 s from the database's"


@pytest.mark.parametrize(
    ("revision", "text"),
    [
        ("1", "it answers; the first worker brings the tables of an earlier release to this one"),
        (migrations.HEAD, "it answers: sqlite"),
        ("99", None),
    ],
)
def test_the_release_that_made_the_tables_is_told(settings, tmp_path, revision, text):
    chosen = settings(database_url=f"sqlite:///{tmp_path / 'jobs.sqlite'}")
    database = Database(chosen.database_url)
    (tmp_path / "jobs.sqlite").touch()
    database.migrate()
    with database.engine.begin() as connection:
        connection.exec_driver_sql(f"UPDATE {migrations.VERSION_TABLE} SET version_num = '{revision}'")
    database.close()
    if text is None:
        with pytest.raises(doctor.SettingsError, match="revision 99"):
            doctor._database(chosen)
    else:
        assert doctor._database(chosen) == text


def test_the_command_ends_with_status_one_where_something_is_wrong(settings, monkeypatch, capsys):
    for name, value in settings().export().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("sys.argv", ["service", "doctor"])
    monkeypatch.setattr(doctor, "CHECKS", {"keys": doctor._keys, "models": doctor._models})
    with pytest.raises(SystemExit) as ended:
        command.main()
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith("ok    keys      nobody is asked for a key")
    monkeypatch.setenv("GAUNTLET_MODELS", os.devnull)
    with pytest.raises(SystemExit) as ended:
        command.main()
    assert ended.value.code == 1
    assert "WRONG models" in capsys.readouterr().out
