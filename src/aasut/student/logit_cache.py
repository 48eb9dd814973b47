"""The logit cache: a teacher's distributions over the next token, thinned, on disk, at a few dozen bytes a token.

A folder with `cache.json`, which says what the cache is bound to, and shards of a fixed set of texts each
(`logit_shard`). A shard appears whole or not at all, so that a killed writing goes on with the shards that are
missing. Nothing in a cache depends on when or in how many attempts it was written.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from aasut.errors import DataError
from aasut.files import digest, write_atomically
from aasut.student.logit_shard import Shard, Text, answer_hash, key_hash, text_hashes, write_shard
from aasut.student.targets import Sparse
from aasut.student.thinning import Entries, join

FORMAT = 1
HEADER = "cache.json"
AGAIN = "Delete that folder and run the same command again."


@dataclass(frozen=True)
class Binding:
    """What a cache is true for.

    tokenizer, template, teacher  hashes of the tokenizer, of the prompt that the teacher read, of its weights
    vocabulary  number of token ids
    tail        `sampled`: unbiased; `unknown`: only the likeliest tokens are known, as from an API's top_logprobs
    settings    whatever else decides the content, such as the seed and the bytes a token, as plain JSON
    """

    tokenizer: str
    template: str
    teacher: str
    vocabulary: int
    tail: Literal["sampled", "unknown"] = "sampled"
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def hash(self) -> str:
        """One hash over all of it."""
        return digest(asdict(self))[:16]

    def refuse_other(self, found: Mapping[str, Any], folder: Path) -> None:
        """Raise DataError, naming the first thing in which a cache's binding `found` differs from this one."""
        mine = json.loads(json.dumps(asdict(self)))
        for name in (each.name for each in fields(self)):
            here, there = mine[name], found.get(name)
            if name == "settings" and here != there and isinstance(there, dict):
                name = next(key for key in sorted({*here, *there}) if here.get(key) != there.get(key))
                here, there = here.get(name), there.get(name)
            if here != there:
                raise DataError(
                    f"The logit cache {folder} was written for another {_WORDS.get(name, name)}: "
                    f"{_short(there)}, not {_short(here)}.",
                    AGAIN,
                )


_WORDS = {"template": "prompt", "teacher": "teacher model", "vocabulary": "size of vocabulary", "tail": "kind of tail"}


class Writer:
    """Writes the shards of a cache, in any order and over any number of attempts."""

    def __init__(self, folder: Path, binding: Binding, shards: Sequence[Sequence[Text]]) -> None:
        """`shards`: the texts of each, all keys different. Goes on with what is in `folder`.

        Raises DataError where that is a cache for something else, or two texts have one key.
        """
        self.folder, self.binding, self.shards = folder, binding, shards
        texts = text_hashes([text for shard in shards for text in shard])
        if len(np.unique(texts["keys"])) < len(texts["keys"]):
            raise DataError("Two texts for the logit cache have the same key.", "Give every example an id of its own.")
        total = hashlib.sha256(b"".join(texts[name].tobytes() for name in sorted(texts)))
        header = {"format": FORMAT, "shards": len(shards), "texts": total.hexdigest(), "binding": asdict(binding)}
        if (folder / HEADER).exists():
            found = _header(folder)
            binding.refuse_other(found["binding"], folder)
            if (found["texts"], found["shards"]) != (header["texts"], header["shards"]):
                raise DataError(f"The logit cache {folder} was written for other texts.", AGAIN)
        else:
            write_atomically(folder / HEADER, json.dumps(header, indent=1, ensure_ascii=False) + "\n")

    def missing(self) -> tuple[list[int], list[int]]:
        """(numbers of the shards that are to be written, those of them whose files are damaged)."""
        numbers = range(len(self.shards))
        damaged = [n for n in numbers if shard_path(self.folder, n).exists() and not self._whole(n)]
        return [n for n in numbers if n in damaged or not shard_path(self.folder, n).exists()], damaged

    def _whole(self, number: int) -> bool:
        try:
            shard = Shard(shard_path(self.folder, number), self.binding.hash)
            shard.verify()
        except DataError:
            return False
        expected = text_hashes(self.shards[number])
        return all(np.array_equal(shard.arrays[name], hashes) for name, hashes in expected.items())

    def write(self, number: int, content: Sequence[Entries]) -> int:
        """Write one shard, the entries of each of its texts; gives the bytes it takes on disk."""
        wide = self.binding.vocabulary > 1 << 16
        return write_shard(shard_path(self.folder, number), self.binding.hash, self.shards[number], content, wide=wide)


class Cache:
    """A whole cache, read through memory maps."""

    def __init__(self, folder: Path, binding: Binding, shards: Sequence[Shard]) -> None:
        self.folder, self.binding, self._shards = folder, binding, shards
        self._keys = np.concatenate([*(shard.keys for shard in shards), np.empty(0, np.uint64)])
        self._order = np.argsort(self._keys, kind="stable")
        self._firsts = np.concatenate([[0], np.cumsum([len(shard.keys) for shard in shards], dtype=np.int64)])
        self._verified: set[int] = set()

    @classmethod
    def open(cls, folder: Path, binding: Binding) -> Cache:
        """Raises DataError where it is none, is not finished, is damaged, or was written for something else."""
        header = _header(folder)
        binding.refuse_other(header["binding"], folder)
        absent = [n for n in range(header["shards"]) if not shard_path(folder, n).exists()]
        if absent:
            raise DataError(
                f"The logit cache {folder} lacks {len(absent)} of its {header['shards']} shards.",
                "Run the same command again: finished shards are kept.",
            )
        return cls(folder, binding, [Shard(shard_path(folder, n), binding.hash) for n in range(header["shards"])])

    def __reduce__(self) -> tuple[Any, ...]:
        """Another process opens it anew."""
        return Cache.open, (self.folder, self.binding)

    @property
    def biased(self) -> bool:
        """Is a target's expectation something else than the teacher's distribution?"""
        return self.binding.tail == "unknown"

    @property
    def name(self) -> str:
        """What targets from here are, for a report."""
        return "top tokens, tail unknown (biased)" if self.biased else "exact head, sampled tail (unbiased)"

    @property
    def tokens(self) -> int:
        return sum(int(shard.lengths.sum(dtype=np.int64)) for shard in self._shards)

    @property
    def bytes_per_token(self) -> float:
        """Size of all files over the number of tokens; nan for none."""
        size = sum(shard.path.stat().st_size for shard in self._shards) + (self.folder / HEADER).stat().st_size
        return size / self.tokens if self.tokens else math.nan

    def sparse(self, key: str, answer: Sequence[int]) -> Sparse:
        """The targets of one answer's tokens. See `batch`."""
        return self.batch([(key, answer)])

    def batch(self, texts: Sequence[Text]) -> Sparse:
        """The targets of all tokens of these answers, text after text.

        Raises DataError where a key is not in the cache, or its answer was another one.
        """
        found = [self._entries(key, answer) for key, answer in texts]
        return sparse(join(found), unknown=self.biased) if found else _NOTHING

    def _entries(self, key: str, answer: Sequence[int]) -> Entries:
        wanted = np.uint64(key_hash(key))
        at = int(np.searchsorted(self._keys, wanted, sorter=self._order))
        if at == len(self._order) or self._keys[self._order[at]] != wanted:
            raise DataError(f"The logit cache {self.folder} has nothing for {key}.", AGAIN)
        place = int(self._order[at])
        number = int(np.searchsorted(self._firsts, place, side="right")) - 1
        shard = self._shards[number]
        if number not in self._verified:
            shard.verify()
            self._verified.add(number)
        text = place - int(self._firsts[number])
        if int(shard.answers[text]) != answer_hash(answer):
            raise DataError(
                f"The logit cache {self.folder} holds the distributions of another answer for {key}: "
                "its token ids differ.",
                AGAIN,
            )
        return shard.entries(text)


def sparse(entries: Entries, *, unknown: bool = False) -> Sparse:
    """Entries as a loss takes them, padded to the longest row; what is left of the mass is `rest` where `unknown`."""
    head, tail = entries.head.astype(np.int64), entries.tail.astype(np.int64)
    size = head + tail
    row = np.repeat(np.arange(len(size)), size)
    column = np.arange(len(row)) - np.repeat(np.cumsum(size) - size, size)
    kept = column < head[row]
    owner = row[kept]
    taken = np.bincount(owner, entries.mass, minlength=len(size))
    left = (1 - taken / entries.shares).astype(np.float32)
    each = left / np.maximum(tail, 1).astype(np.float32)
    flat = each[row]
    flat[kept] = entries.mass / np.float32(entries.shares)
    ids = np.zeros((len(size), max(int(size.max(initial=0)), 1)), np.int64)
    mass = np.zeros(ids.shape, np.float32)
    ids[row, column], mass[row, column] = entries.ids, flat
    return Sparse(torch.from_numpy(ids), torch.from_numpy(mass), torch.from_numpy(left) if unknown else None)


_NOTHING = Sparse(torch.zeros(0, 1, dtype=torch.int64), torch.zeros(0, 1))


def shard_path(folder: Path, number: int) -> Path:
    """Where the shard of that number lies."""
    return folder / f"{number:05d}.safetensors"


def _header(folder: Path) -> dict[str, Any]:
    try:
        found = json.loads((folder / HEADER).read_text(encoding="utf-8"))
        if found["format"] == FORMAT:
            return {"shards": int(found["shards"]), "texts": str(found["texts"]), "binding": dict(found["binding"])}
        problem = "is of another format, from another version of aasut"
    except OSError:
        problem = "is not there, or cannot be read"
    except (ValueError, LookupError, TypeError):
        problem = "is damaged"
    raise DataError(f"The logit cache {folder} cannot be used: its {HEADER} {problem}.", AGAIN)


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 24 else f"{text[:12]}…"
