"""Work beside the requests gives way to them at once, also where there are few processors.

On Linux from 6.12 on a process may ask for short time slices (sched_setattr(2), `sched_runtime` of a normal process):
who wakes up need not wait until a slice of some milliseconds is over. Elsewhere it is only nicer than the others.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
from contextlib import suppress

SLICE_NS = 100_000
NICE = 5
_SCHED_SETATTR = {"x86_64": 314, "aarch64": 274}
_NORMAL = 0


def give_way() -> bool:
    """Take short slices and a lower weight from now on; whether the system gives short slices."""
    number = _SCHED_SETATTR.get(platform.machine())
    if number is not None and platform.system() == "Linux":
        size = struct.calcsize("=IIQiIQQQ")
        wanted = struct.pack("=IIQiIQQQ", size, _NORMAL, 0, NICE, 0, SLICE_NS, 0, 0)
        if ctypes.CDLL(None, use_errno=True).syscall(number, 0, ctypes.create_string_buffer(wanted, size), 0) == 0:
            return True
    with suppress(OSError):
        os.nice(NICE)
    return False
