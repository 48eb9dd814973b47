"""What a reader's process may not do: connect, start a program, write or look at other files, take all memory.

A parser may be tricked by the file that it reads. Limits of the operating system hold for all code in the process;
the audit hook (PEP 578) for what goes through Python. Neither keeps machine code that was smuggled in from all harm:
who reads files of enemies does so in a container.
"""

from __future__ import annotations

import os
import resource
import sys
import sysconfig
from typing import Any

REFUSED = (
    "socket.", "subprocess.", "os.system", "os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "pty.",
    "os.startfile", "os.kill", "os.killpg", "signal.pthread_kill", "os.remove", "os.rename", "os.rmdir", "os.mkdir",
    "os.link", "os.symlink", "os.truncate", "os.chmod", "os.chown", "os.setxattr", "os.removexattr", "os.utime",
    "shutil.", "tempfile.", "ftplib.", "smtplib.", "http.client.", "urllib.Request", "webbrowser.", "sqlite3.",
)  # fmt: skip
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_TRUNC
STATUS = "/proc/self/status"
TABLES = ("/usr/share/zoneinfo/", "/etc/localtime", "/etc/mime.types", "/dev/null", "/dev/urandom")


class Refused(PermissionError):
    """Something that a reader may not do."""


class Guard:
    """The audit hook. `file` is the one that may be read, beside Python's own."""

    def __init__(self) -> None:
        self.file = ""
        places = [*sysconfig.get_paths().values(), sys.prefix, sys.base_prefix, *sys.path]
        self.roots = tuple({os.path.realpath(place) + os.sep for place in places if place})
        self.known: dict[str, bool] = {}

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            self._open(*arguments)
        elif event == "ctypes.dlopen":
            if arguments[0] is not None and not self._own(arguments[0]):
                raise Refused(f"{event} {arguments[0]!r}")
        elif event.startswith(REFUSED):
            raise Refused(event)

    def _open(self, path: object, mode: object, flags: object) -> None:
        if isinstance(path, int):
            return
        if (isinstance(flags, int) and flags & WRITES) or (isinstance(mode, str) and set(mode) & set("wax+")):
            raise Refused(f"open {path!r} to write")
        if not self._own(path):
            raise Refused(f"open {path!r}")

    def _own(self, path: object) -> bool:
        name = os.fsdecode(path) if isinstance(path, bytes | str) else str(path)
        if name in (self.file, STATUS):
            return True
        if name not in self.known:
            real = os.path.realpath(name)
            self.known[name] = real.startswith(self.roots) or real.startswith(TABLES)
        return self.known[name]


def close(memory_mb: int) -> Guard:
    """Put the limits on this process, for good; gives the guard, to tell it the files."""
    most = memory_mb << 20
    # RLIMIT_DATA counts what is written to; address space that libraries only reserve does not count.
    for limit in (resource.RLIMIT_DATA, resource.RLIMIT_AS):
        _limit(limit, most if limit == resource.RLIMIT_DATA else most + (4 << 30))
    _limit(resource.RLIMIT_FSIZE, 0)
    _limit(resource.RLIMIT_CORE, 0)
    sys.dont_write_bytecode = True
    guard = Guard()
    sys.addaudithook(guard)
    return guard


def limit_time(seconds: float) -> None:
    """Let the process use this much more processor time; then the system ends it, even if nobody watches it."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    soft = int(used.ru_utime + used.ru_stime + seconds) + 2  # whole seconds, and the system counts in ticks
    resource.setrlimit(resource.RLIMIT_CPU, (soft if hard == resource.RLIM_INFINITY else min(soft, hard), hard))


def peak_mb() -> float:
    """The most memory that this process has had."""
    if sys.platform == "darwin":
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20)
    # ru_maxrss would also tell what the process that started this one had.
    with open(STATUS, encoding="ascii", errors="replace") as status:
        told = next((line for line in status if line.startswith("VmHWM:")), "VmHWM: 0 kB")
    return int(told.split()[1]) / 1024


def _limit(which: int, most: int) -> None:
    hard = resource.getrlimit(which)[1]
    most = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(which, (most, most))
