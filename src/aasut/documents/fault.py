"""Why a file cannot be read."""

from __future__ import annotations


class Fault(Exception):
    """A file cannot be read. `reason` is what it is counted by: it names no file; `detail` says where or what."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail


EMPTY = "no text in it"
ENCODING = "text in no encoding that fits"
MEMORY = "needs more memory than reading.memory_mb"
NOT_A_DOCUMENT = "not a document"
UNPACKED = "unpacks to more than reading.unpacked_mb"
