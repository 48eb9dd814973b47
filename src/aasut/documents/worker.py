"""A process that reads files for another: `python -m aasut.documents.worker MEMORY_MB TIMEOUT_S UNPACKED_MB`.

Lines of JSON both ways. In: [path, what is wanted]. Out: ["ready"]; then for each file any number of
["blocks", [[text, level, page, record], ...]] and at last ["done", reason, detail, last], where `last` says that the
process ends and another is to take its place. The process ends when its input does, so none outlives who started it.
"""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any, BinaryIO

from aasut.documents import sandbox
from aasut.documents.block import Block
from aasut.documents.fault import MEMORY, Fault
from aasut.documents.opened import Wanted
from aasut.documents.readers import read

BATCH = 1 << 17  # characters of blocks that go together
OFTEN = 0.5  # seconds after which those that are there go
LEAST_MB = 256  # megabytes that all libraries need together, and some for a file
SPARE = 0.5  # share of the memory from which a process is not used again: what it keeps, the next file could lack


def main() -> None:
    memory_mb, timeout_s, unpacked_mb = int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])
    # What a library prints must not come between the lines.
    out = os.fdopen(os.dup(1), "wb")
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 1)
    asked: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    if memory_mb < LEAST_MB:  # libraries that cannot be loaded for lack of memory say anything but that
        sys.exit(f"reading.memory_mb is {memory_mb}, and a reader needs {LEAST_MB}")
    threading.Thread(target=_listen, args=(sys.stdin.buffer, asked), daemon=True).start()
    guard = sandbox.close(memory_mb)
    _say(out, ["ready"])
    os.dup2(null, 2)  # until here, what went wrong was to be seen
    while True:
        path, wanted = json.loads(asked.get())
        guard.file = path
        wanted["fields"] = tuple(wanted["fields"])
        reason, detail, last = _read(out, path, Wanted(**wanted), timeout_s, unpacked_mb << 20)
        last = last or sandbox.peak_mb() > SPARE * memory_mb
        _say(out, ["done", reason, detail.encode("utf-8", "backslashreplace").decode(), last])
        if last:
            os._exit(0)


def _read(out: BinaryIO, path: str, wanted: Wanted, timeout_s: float, unpacked: int) -> tuple[str, str, bool]:
    """Read a file and send its blocks; the reason why it failed, a detail, and whether the process should end."""
    try:
        sandbox.limit_time(2 * timeout_s + 2)
        for batch in _batches(read(path, wanted, unpacked)):
            _say(out, ["blocks", [[block.text, block.level, block.page, block.record] for block in batch]])
            sandbox.limit_time(2 * timeout_s + 2)
    except Fault as fault:
        return fault.reason, fault.detail, False
    except MemoryError:
        return MEMORY, "", True
    except RecursionError:
        return "nested too deeply", "", True
    except BrokenPipeError:
        os._exit(1)
    except sandbox.Refused as refused:
        return "reaches for what a reader may not have", str(refused)[:200], False
    except Exception as error:
        return "its reader failed", f"{type(error).__name__}: {error}"[:200], True
    return "", "", False


def _batches(blocks: Iterator[Block]) -> Iterator[list[Block]]:
    batch: list[Block] = []
    size, since = 0, time.monotonic()
    for block in blocks:
        batch.append(block)
        size += len(block.text) + 50
        if size > BATCH or time.monotonic() - since > OFTEN:
            yield batch
            batch, size, since = [], 0, time.monotonic()
    if batch:
        yield batch


def _listen(stream: BinaryIO, asked: queue.SimpleQueue[bytes]) -> None:
    """Take what is asked; at the end of the input, end."""
    for line in stream:
        asked.put(line)
    os._exit(0)


def _say(out: BinaryIO, message: list[Any]) -> None:
    out.write(json.dumps(message, ensure_ascii=False).encode() + b"\n")
    out.flush()


if __name__ == "__main__":
    main()
