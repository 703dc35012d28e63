"""A nice value that holds among sessions too."""

import os
import subprocess
import sys

import pytest

from gauntlet.process_priority import AUTOGROUP

SESSION = """
import os
from pathlib import Path
from gauntlet.process_priority import AUTOGROUP, lower_priority

lower_priority(3)
mine = os.nice(0)
os.setsid()
lower_priority()
print(mine - {before}, os.nice(0) - mine, int(AUTOGROUP.read_text().split()[-1]) - mine)
"""


@pytest.mark.skipif(not AUTOGROUP.exists(), reason="this kernel does not group tasks by session")
def test_a_new_session_is_as_nice_as_its_process() -> None:
    program = SESSION.format(before=os.nice(0))
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["3", "0", "0"]
