from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from aasut.errors import DataError
from aasut.student.logit_cache import HEADER, Binding, Cache, Writer, shard_path, sparse
from aasut.student.logit_shard import Text
from aasut.student.thinning import Entries, known, thin, uniform

BINDING = Binding("tok", "prompt", "weights", 300, settings={"seed": 1, "bytes_per_token": 36.0})
SHARDS: list[list[Text]] = [[("a#0", [1, 2, 3]), ("b#0", [4]), ("b#1", [])], [("c#0", [5, 6])]]


def entries_of(key: str, count: int, width: int = 300) -> Entries:
    generator = torch.Generator().manual_seed(sum(key.encode()))
    logits = torch.randn(count, width, generator=generator) * 3
    return thin(logits, 0.03, torch.from_numpy(uniform(count, key.encode() * 16)))


def content(number: int, width: int = 300) -> list[Entries]:
    return [entries_of(key, len(ids), width) for key, ids in SHARDS[number]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A whole cache."""
    writer = Writer(tmp_path / "cache", BINDING, SHARDS)
    for number in writer.missing()[0]:
        writer.write(number, content(number))
    return tmp_path / "cache"


def same(one: Any, two: Any) -> bool:
    return torch.equal(one.ids, two.ids) and torch.equal(one.mass, two.mass)


def test_what_is_written_is_read_back(folder: Path) -> None:
    cache = Cache.open(folder, BINDING)
    for shard in SHARDS:
        for key, ids in shard:
            assert same(cache.sparse(key, ids), sparse(entries_of(key, len(ids))))
    assert (cache.tokens, cache.biased) == (6, False)
    size = sum(path.stat().st_size for path in folder.iterdir())
    assert cache.bytes_per_token == size / 6
    assert sorted(path.name for path in folder.iterdir()) == ["00000.safetensors", "00001.safetensors", HEADER]


def test_a_batch_is_its_texts_in_turn(folder: Path) -> None:
    cache = Cache.open(folder, BINDING)
    texts: list[Text] = [("c#0", [5, 6]), ("a#0", [1, 2, 3]), ("b#1", []), ("b#0", [4])]
    batch = cache.batch(texts)
    assert len(batch) == 6
    assert batch.rest is None
    assert batch.mass.sum(1).tolist() == pytest.approx([1] * 6, abs=1e-6)
    place = 0
    for key, ids in texts:
        alone = cache.sparse(key, ids)
        width = alone.ids.shape[1]
        assert torch.equal(batch.ids[place : place + len(ids), :width], alone.ids[:, : batch.ids.shape[1]])
        assert not batch.mass[place : place + len(ids), width:].any()
        place += len(ids)
    assert len(cache.batch([])) == 0


def test_a_large_vocabulary(tmp_path: Path) -> None:
    width = 70_000
    binding = replace(BINDING, vocabulary=width)
    writer = Writer(tmp_path, binding, [[("a#0", [7] * 20)]])
    entries = entries_of("a#0", 20, width)
    assert entries.ids.max() > 65_536
    writer.write(0, [entries])
    assert same(Cache.open(tmp_path, binding).sparse("a#0", [7] * 20), sparse(entries))


def test_an_unknown_tail_is_one_bucket_and_says_that_it_is_biased(tmp_path: Path) -> None:
    binding = replace(BINDING, tail="unknown", settings={"top_logprobs": 2})
    writer = Writer(tmp_path, binding, [[("a#0", [4, 9])]])
    writer.write(0, [known(np.array([[4, 5], [9, 0]]), np.array([[0.5, 0.25], [0.75, 0.0]]), np.zeros(2))])
    cache = Cache.open(tmp_path, binding)
    found = cache.sparse("a#0", [4, 9])
    assert cache.biased
    assert "biased" in cache.name.replace("unbiased", "")
    assert found.rest is not None
    assert found.rest.tolist() == pytest.approx([0.25, 0.25], abs=2e-5)
    assert found.mass.flatten().tolist() == pytest.approx([0.5, 0.25, 0.75, 0.0], abs=2e-5)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"tokenizer": "another"}, "tokenizer"),
        ({"template": "another"}, "prompt"),
        ({"teacher": "another"}, "teacher model"),
        ({"vocabulary": 299}, "size of vocabulary"),
        ({"tail": "unknown"}, "kind of tail"),
        ({"settings": {"seed": 2, "bytes_per_token": 36.0}}, "seed: 1, not 2"),
        ({"settings": {"seed": 1, "bytes_per_token": 48.0}}, "bytes_per_token: 36.0, not 48.0"),
        ({"settings": {"seed": 1, "bytes_per_token": 36.0, "more": 1}}, "more: None, not 1"),
    ],
)
def test_another_binding_is_refused_and_what_differs_is_said(folder: Path, change: Any, named: str) -> None:
    other = replace(BINDING, **change)
    for use in (lambda: Cache.open(folder, other), lambda: Writer(folder, other, SHARDS)):
        with pytest.raises(DataError, match=named) as caught:
            use()
        assert "\n" not in str(caught.value)
        assert caught.value.remedy


def test_another_answer_is_refused(folder: Path) -> None:
    cache = Cache.open(folder, BINDING)
    for ids in ([1, 2, 4], [1, 2], [1, 2, 3, 4]):
        with pytest.raises(DataError, match=r"another answer for a#0"):
            cache.sparse("a#0", ids)
    with pytest.raises(DataError, match=r"nothing for z#0"):
        cache.sparse("z#0", [1])


def test_other_texts_are_refused_by_the_writer(folder: Path) -> None:
    for other in ([SHARDS[0]], [[*SHARDS[0][:2]], SHARDS[1]], [SHARDS[0], [("c#0", [5, 7])]], SHARDS[::-1]):
        with pytest.raises(DataError, match="other texts"):
            Writer(folder, BINDING, other)
    with pytest.raises(DataError, match="same key"):
        Writer(folder, BINDING, [SHARDS[0], SHARDS[0]])


def test_an_unfinished_cache_is_refused_and_goes_on(folder: Path) -> None:
    before = shard_path(folder, 1).read_bytes()
    shard_path(folder, 1).unlink()
    with pytest.raises(DataError, match="lacks 1 of its 2 shards"):
        Cache.open(folder, BINDING)
    writer = Writer(folder, BINDING, SHARDS)
    assert writer.missing() == ([1], [])
    writer.write(1, content(1))
    assert shard_path(folder, 1).read_bytes() == before
    assert writer.missing() == ([], [])


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-3])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(bytes(data))


def scribble(path: Path) -> None:
    path.write_bytes(b"\xff" * 4000)


def longer(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"x")


def other_cache(path: Path, **change: Any) -> None:
    there = path.parent / "other"
    Writer(there, replace(BINDING, **(change or {"settings": {"seed": 2}})), SHARDS).write(0, content(0))
    path.write_bytes(shard_path(there, 0).read_bytes())


def other_teacher(path: Path) -> None:
    other_cache(path, teacher="another")


def other_prompt(path: Path) -> None:
    other_cache(path, template="another")


@pytest.mark.parametrize("harm", [cut, empty, flip, scribble, longer, other_cache, other_teacher, other_prompt])
def test_a_damaged_shard_is_noticed_and_written_anew(folder: Path, harm: Callable[[Path], None]) -> None:
    path = shard_path(folder, 0)
    before = path.read_bytes()
    harm(path)
    with pytest.raises(DataError, match=r"00000.safetensors (is damaged|belongs to another)"):
        Cache.open(folder, BINDING).sparse("a#0", [1, 2, 3])
    writer = Writer(folder, BINDING, SHARDS)
    assert writer.missing() == ([0], [0])
    writer.write(0, content(0))
    assert path.read_bytes() == before


def test_a_shard_in_the_place_of_another_is_noticed(folder: Path) -> None:
    shard_path(folder, 1).write_bytes(shard_path(folder, 0).read_bytes())
    assert Writer(folder, BINDING, SHARDS).missing() == ([1], [1])


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", json.dumps({"format": 99})])
def test_a_header_that_cannot_be_used_is_one_clear_line(folder: Path, text: str) -> None:
    (folder / HEADER).write_text(text)
    with pytest.raises(DataError, match=r"cache\.json is"):
        Cache.open(folder, BINDING)
    (folder / HEADER).unlink()
    with pytest.raises(DataError, match=r"cache\.json is not there"):
        Cache.open(folder, BINDING)


def test_the_wrong_number_of_distributions_is_a_bug(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"a#0: 2 distributions for 3 tokens"):
        Writer(tmp_path, BINDING, SHARDS).write(0, [entries_of("a#0", 2), *content(0)[1:]])
