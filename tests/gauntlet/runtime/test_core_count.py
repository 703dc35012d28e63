import os
from pathlib import Path

import pytest

from gauntlet.runtime import core_count

HOST = frozenset(range(64))


@pytest.fixture(autouse=True)
def host(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: HOST, raising=False)


def groups(folder: Path, process: str, files: dict[str, str]) -> tuple[Path, Path]:
    """A control group file system, and what the process is told of its place in it."""
    (folder / "process").write_text(process)
    for name, content in files.items():
        path = folder / "groups" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return folder / "groups", folder / "process"


@pytest.mark.parametrize(
    ("process", "files", "expected"),
    [
        ("0::/\n", {"cpu.max": "200000 100000\n"}, 2),
        ("0::/\n", {"cpu.max": "150000 100000\n"}, 2),
        ("0::/\n", {"cpu.max": "1000 100000\n"}, 1),
        ("0::/\n", {"cpu.max": "max 100000\n"}, 64),
        ("0::/a/b\n", {"cpu.max": "max 100000", "a/cpu.max": "300000 100000", "a/b/x": ""}, 3),
        ("0::/a/b\n", {"a/cpu.max": "300000 100000", "a/b/cpu.max": "900000 100000"}, 3),
        (
            "4:cpu,cpuacct:/d\n",
            {"cpu,cpuacct/cpu.cfs_quota_us": "400000", "cpu,cpuacct/cpu.cfs_period_us": "100000"},
            4,
        ),
        ("4:cpu:/\n", {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 64),
        ("4:memory:/\n", {"memory/cpu.max": "200000 100000"}, 64),
        ("", {}, 64),
    ],
)
def test_a_limit_of_the_container_counts_and_not_the_hosts_cores(tmp_path, process, files, expected):
    assert core_count.available(*groups(tmp_path, process, files)) == expected


def test_what_a_process_was_pinned_to_counts(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3}, raising=False)
    assert core_count.available(*groups(tmp_path, "0::/\n", {"cpu.max": "200000 100000"})) == 1


def test_a_system_without_control_groups_has_no_limit(tmp_path):
    assert core_count.available(tmp_path / "none", tmp_path / "neither") == 64
