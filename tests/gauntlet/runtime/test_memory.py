"""What a freed tensor leaves behind."""

import platform
import subprocess
import sys

import pytest

PROGRAM = """
import resource
from pathlib import Path
import torch
from gauntlet.runtime import memory

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()

def stays():
    before = resident()
    x = torch.ones(24 << 18)  # 24 MiB
    del x
    return (resident() - before) >> 20

print(stays())
memory.keep()
print(stays())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt is glibc's")
def test_a_freed_tensor_stays_with_the_process_that_wants_it_to():
    program = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    left, kept = map(int, program.stdout.split())
    assert left <= 20 < kept
