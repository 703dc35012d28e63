"""What a freed tensor leaves behind."""

import platform
import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys
from pathlib import Path
import torch
from gauntlet.runtime import memory

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()

if sys.argv[1] == "keep":
    memory.keep()
before = resident()
x = torch.ones(24 << 18)  # 24 MiB
del x
print((resident() - before) >> 20)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt is glibc's")
@pytest.mark.parametrize(("how", "stays"), [("keep", True), ("leave", False)])
def test_a_freed_tensor_stays_with_the_process_that_wants_it_to(how, stays):
    kept = subprocess.run([sys.executable, "-c", PROGRAM, how], capture_output=True, text=True, check=True).stdout
    assert (int(kept) > 20) == stays
