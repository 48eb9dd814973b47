from __future__ import annotations

import subprocess
import sys

CODE = """
import os, sys
from aasut.agents.streams import own_streams
print("before")
with own_streams() as (stdin, stdout):
    print("aside")
    os.system("echo from another program; cat")
    try:
        input()
    except EOFError:
        print("nothing to read")
    stdout.write(f"ours: {stdin.read()}")
    stdout.write("नमस्ते \\ud800\\n")
print("after", sys.stdin.read())
"""


def test_output_is_ours_alone_and_so_is_input() -> None:
    ran = subprocess.run([sys.executable, "-c", CODE], input="typed\n", capture_output=True, text=True, check=True)
    assert ran.stdout == "before\nours: typed\nनमस्ते \\ud800\nafter \n"
    assert ran.stderr == "aside\nfrom another program\nnothing to read\n"


def test_what_is_closed_is_told() -> None:
    code = "from aasut.agents.streams import own_streams\nwith own_streams() as (i, o):\n    pass\n"
    ran = subprocess.run(["sh", "-c", f"exec {sys.executable} -c '{code}' >&- <&-"], capture_output=True, check=False)
    assert b"There is no standard input, or output." in ran.stderr
