"""Tests of gateway.gentle: the process gives way, on any system."""

from __future__ import annotations

import os
import subprocess
import sys


def test_it_is_nicer_than_the_others() -> None:
    code = "import os; from aasut.gateway.gentle import NICE, give_way; give_way(); print(os.nice(0) - NICE)"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(told.stdout) == max(os.nice(0), 0)
