"""What a closed process can do no more, tried for real."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

SETUP = """
import os, sys
from aasut.documents import sandbox
guard = sandbox.close({memory})
guard.file = {file!r}
"""


def closed(code: str, file: str = "", memory: int = 512) -> subprocess.CompletedProcess[str]:
    """Run code in a process that was closed."""
    script = SETUP.format(memory=memory, file=file) + textwrap.dedent(code)
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize(
    "attempt",
    [
        "import socket; socket.socket()",
        "import socket; socket.create_connection(('127.0.0.1', {port}))",
        "import socket; socket.getaddrinfo('localhost', 80)",
        "import urllib.request; urllib.request.urlopen('http://127.0.0.1:{port}/')",
        "import subprocess; subprocess.run(['touch', '{canary}'])",
        "os.system('touch {canary}')",
        "os.execv('/usr/bin/touch', ['touch', '{canary}'])",
        "os.posix_spawn('/usr/bin/touch', ['touch', '{canary}'], {{}})",
        "os.fork()",
        "import pty; pty.spawn(['touch', '{canary}'])",
        "open('{canary}', 'w')",
        "open('{canary}', 'x')",
        "open('{file}', 'a')",
        "open('{file}', 'r+')",
        "os.open('{canary}', os.O_CREAT | os.O_WRONLY)",
        "open('{secret}')",
        "open('{folder}/../{name}/secret.txt')",
        "open('/etc/passwd')",
        "open('/proc/self/environ')",
        "os.remove('{secret}')",
        "os.rename('{secret}', '{canary}')",
        "os.mkdir('{canary}')",
        "os.symlink('{secret}', '{canary}')",
        "os.chmod('{file}', 0)",
        "os.truncate('{file}', 0)",
        "import shutil; shutil.copyfile('{file}', '{canary}')",
        "import tempfile; tempfile.mkstemp(dir='{folder}')",
        "import sqlite3; sqlite3.connect('{canary}')",
        "os.kill(os.getppid(), 0)",
        "import ctypes; ctypes.CDLL('{secret}')",
    ],
)
def test_it_is_refused(tmp_path: Path, attempt: str) -> None:
    file, secret, canary = tmp_path / "file.txt", tmp_path / "secret.txt", tmp_path / "canary"
    file.write_text("words")
    secret.write_text("the secret")
    code = attempt.format(port=9, canary=canary, secret=secret, file=file, folder=tmp_path, name=tmp_path.name)
    ended = closed(code, str(file))
    assert ended.returncode == 1, ended
    assert "Refused" in ended.stderr
    assert not canary.exists()
    assert (file.read_text(), secret.read_text()) == ("words", "the secret")


def test_the_file_and_python_s_own_can_be_read(tmp_path: Path) -> None:
    (tmp_path / "file.txt").write_text("words")
    code = "import json, xml.dom.minidom, mammoth; print(open(guard.file).read())"
    assert closed(code, str(tmp_path / "file.txt")).stdout == "words\n"


def test_machine_code_cannot_write_files(tmp_path: Path) -> None:
    """libc's own open is no audit event; the system's limit holds all the same."""
    code = f"""
    import ctypes
    libc = ctypes.CDLL(None)
    number = libc.open({str(tmp_path / "canary").encode()!r}, os.O_CREAT | os.O_WRONLY, 0o600)
    print(libc.write(number, b"words", 5))
    """
    assert closed(code).stdout.strip() == "-1"
    assert not (tmp_path / "canary").exists() or (tmp_path / "canary").read_bytes() == b""


def test_memory_is_bounded() -> None:
    code = """
    held = []
    try:
        while True:
            held.append(bytearray(1 << 20))
    except MemoryError:
        print(len(held))
    """
    assert 100 < int(closed(code, memory=300).stdout) < 300


def test_processor_time_is_bounded_where_nobody_watches() -> None:
    ended = closed("sandbox.limit_time(0.5)\nwhile True: pass")
    assert ended.returncode == -24  # SIGXCPU


def test_time_can_be_given_again() -> None:
    code = """
    import time
    for _ in range(3):
        sandbox.limit_time(1)
        end = time.process_time() + 1.3
        while time.process_time() < end: pass
    print("done", sandbox.peak_mb() > 5)
    """
    assert closed(code).stdout == "done True\n"
