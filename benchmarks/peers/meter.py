"""Time and memory of a process (Linux)."""

from __future__ import annotations

import gc
import os
import time


class Meter:
    """Memory counts from where it is made, which is when all imports are done; time between `start` and `stop`."""

    def __init__(self) -> None:
        gc.collect()
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")  # the peak starts anew, see proc(5)
        self._idle = _status("VmRSS")
        self.seconds = self.processor_s = 0.0

    def start(self) -> None:
        self._began = time.perf_counter(), time.process_time()

    def stop(self) -> None:
        self.seconds += time.perf_counter() - self._began[0]
        self.processor_s += time.process_time() - self._began[1]

    def read(self) -> dict[str, float]:
        """Seconds, seconds of all processors together, and the most resident bytes above those that were idle."""
        most = _status("VmHWM") - self._idle
        return {"seconds": self.seconds, "processor_s": self.processor_s, "bytes": most}


def _status(key: str) -> int:
    with open("/proc/self/status") as file:
        line = next(line for line in file if line.startswith(key))
    return int(line.split()[1]) * 1024


def of_tree(process: int) -> int:
    """Bytes of a process and of all that it started, pages that several have counted once (proportional set size)."""
    found, waiting = 0, [process]
    while waiting:
        one = waiting.pop()
        try:
            with open(f"/proc/{one}/smaps_rollup") as file:
                found += next(int(line.split()[1]) * 1024 for line in file if line.startswith("Pss:"))
            for task in os.listdir(f"/proc/{one}/task"):
                with open(f"/proc/{one}/task/{task}/children") as file:
                    waiting += map(int, file.read().split())
        except (OSError, StopIteration):  # it has ended since
            continue
    return found
