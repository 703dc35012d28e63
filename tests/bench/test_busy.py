import psutil
import pytest

from bench import busy


@pytest.mark.parametrize(("command", "status"), [("true", 0), ("false", 1)])
def test_runs_are_counted_and_nobody_stays_busy(command, status, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(busy, "LOGS", tmp_path / "logs")
    before = psutil.Process().children()
    assert busy.main(["--runs", "2", "--loops", "2", command]) == status
    assert psutil.Process().children() == before
    assert capsys.readouterr().out.splitlines()[-1].startswith(f"{0 if status else 2} of 2 runs were green beside 2 ")


def test_a_run_is_told_by_its_summary(tmp_path):
    words = ["printf", "=== short summary ===\\nFAILED a\\n=== 1 failed in 2 s ===\\nmake: *** Error 1\\n"]
    assert busy.run(words, tmp_path / "log") == (True, "1 failed in 2 s")


def test_beside_it_processes_compute():
    with busy.occupied(2):
        assert len([child for child in psutil.Process().children() if busy.LOOP in child.cmdline()]) == 2
