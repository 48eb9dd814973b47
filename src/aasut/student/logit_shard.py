"""One shard of a logit cache: a safetensors file that is read through a memory map and notices damage.

Arrays: `keys`, `answers` [texts] the first 64 bits of the SHA-256 of each key and of its answer's token ids;
`lengths` [texts] tokens of each answer; and of all answers' tokens in turn `head`, `tail`, `mass` and `ids` (see
`thinning.Entries`; `ids_high` are the third bytes of ids where the vocabulary needs them). Metadata: the SHA-256
of all arrays, and a hash of what the cache is bound to.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from aasut.errors import DataError
from aasut.files import disk_errors
from aasut.formats import safetensors
from aasut.student.thinning import Entries, join

DAMAGED = "Run the same command again: it writes that shard anew."

Text = tuple[str, Sequence[int]]  # a key, and the token ids of the answer that was given for it


class Shard:
    """One file's arrays, mapped into memory; see the module's docstring."""

    def __init__(self, path: Path, binding: str) -> None:
        """Raises DataError where the file is cut, is no shard, or belongs to a cache with another binding."""
        self.path = path
        try:
            with disk_errors(path):
                data = np.memmap(path, np.uint8, "r")
            start = 8 + int.from_bytes(data[:8].tobytes(), "little")
            header = json.loads(data[8:start].tobytes())
            metadata = header.pop("__metadata__")
            self.sha256, found = str(metadata["sha256"]), str(metadata["binding"])
            self.arrays = {name: _view(data, start, facts) for name, facts in header.items()}
            held = max(facts["data_offsets"][1] for facts in header.values())
            self.keys, self.answers, self.lengths = (self.arrays[name] for name in ("keys", "answers", "lengths"))
            whole = len(data) == start + held
        except (ValueError, LookupError, TypeError, AttributeError, OverflowError):
            whole = False
        if not whole:
            raise DataError(f"{path} is damaged: it is no whole shard of a logit cache.", DAMAGED)
        if found != binding:
            raise DataError(f"{path} belongs to another logit cache, written with other settings.", DAMAGED)

    def verify(self) -> None:
        """Raise DataError unless the data are those that were written."""
        if _data_hash(self.arrays) != self.sha256:
            raise DataError(f"{self.path} is damaged: its data are not those that were written.", DAMAGED)

    @cached_property
    def _ends(self) -> NDArray[np.int64]:
        """[3, texts + 1]: tokens, heads and ids before each text, and in all."""
        tokens = _sums(self.lengths)
        heads, tails = _sums(self.arrays["head"]), _sums(self.arrays["tail"])
        return np.stack([tokens, heads[tokens], heads[tokens] + tails[tokens]])

    def entries(self, text: int) -> Entries:
        """The distributions of the text in that place."""
        tokens, heads, ids = (slice(int(ends[text]), int(ends[text + 1])) for ends in self._ends)
        low = self.arrays["ids"][ids].astype(np.int32)
        if "ids_high" in self.arrays:
            low |= self.arrays["ids_high"][ids].astype(np.int32) << 16
        return Entries(self.arrays["head"][tokens], self.arrays["tail"][tokens], low, self.arrays["mass"][heads])


def write_shard(path: Path, binding: str, texts: Sequence[Text], content: Sequence[Entries], *, wide: bool) -> int:
    """Write the entries of each text, atomically; gives the file's size. `wide`: ids need a third byte."""
    for (key, ids), entries in zip(texts, content, strict=True):
        if len(ids) != len(entries):
            raise ValueError(f"{key}: {len(entries)} distributions for {len(ids)} tokens")
    every = join(content)
    arrays = text_hashes(texts) | {"head": every.head, "tail": every.tail, "mass": every.mass}
    arrays["ids"] = (every.ids & 0xFFFF).astype(np.uint16)
    if wide:
        arrays["ids_high"] = (every.ids >> 16).astype(np.uint8)
    tensors = {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in arrays.items()}
    safetensors.save(tensors, path, {"binding": binding, "sha256": _data_hash(arrays)})
    return path.stat().st_size


def text_hashes(texts: Sequence[Text]) -> dict[str, NDArray[Any]]:
    """`keys`, `answers` and `lengths` of these texts."""
    return {
        "keys": np.array([key_hash(key) for key, _ in texts], np.uint64),
        "answers": np.array([answer_hash(ids) for _, ids in texts], np.uint64),
        "lengths": np.array([len(ids) for _, ids in texts], np.uint32),
    }


def key_hash(key: str) -> int:
    """64 bits that stand for a key."""
    return int.from_bytes(hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()[:8], "little")


def answer_hash(ids: Sequence[int]) -> int:
    """64 bits that stand for an answer's token ids."""
    return int.from_bytes(hashlib.sha256(np.array(ids, np.int32).tobytes()).digest()[:8], "little")


def _view(data: NDArray[np.uint8], start: int, facts: Mapping[str, Any]) -> NDArray[Any]:
    first, last = facts["data_offsets"]
    return data[start + first : start + last].view(_TYPES[facts["dtype"]])


_TYPES = {"U8": np.uint8, "U16": np.uint16, "U32": np.uint32, "U64": np.uint64}


def _data_hash(arrays: Mapping[str, NDArray[Any]]) -> str:
    total = hashlib.sha256()
    for name in sorted(arrays):
        total.update(f"{name} {arrays[name].dtype} {len(arrays[name])}\n".encode())
        total.update(np.ascontiguousarray(arrays[name]).data)
    return total.hexdigest()


def _sums(counts: NDArray[Any]) -> NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])
