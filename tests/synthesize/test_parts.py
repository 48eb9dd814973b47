"""Documents are parted by group, with what repeats them, before anything is made of them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from aasut.documents import ingest
from aasut.errors import DataError
from aasut.progress import Progress
from aasut.recipe.field import FieldRecipe
from aasut.store import check_conservation
from aasut.synthesize import parts
from prose import Prose

QUIET = Progress(quiet=True)


def recipe(documents: Mapping[str, Any] | None = None, **more: Any) -> FieldRecipe:
    plain = {"name": "field", "documents": [{"source": "docs"} | dict(documents or {})], "teacher": {"scripted": {}}}
    return FieldRecipe.model_validate(plain | more)


def text(seed: int, characters: int) -> str:
    """Sentences that no other seed has together."""
    prose = Prose(seed)
    return ". ".join(prose.sentence() for _ in range(characters // 50))[:characters]


def write(folder: Path, files: Mapping[str, str]) -> None:
    for name, text in files.items():
        (folder / "docs" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "docs" / name).write_text(text, encoding="utf-8")


def deal(wanted: FieldRecipe, base: Path) -> tuple[dict[str, Any], dict[str, parts.Split]]:
    documents, folder = base / "documents", base / "parts"
    documents.mkdir(exist_ok=True)
    folder.mkdir(exist_ok=True)
    ingest.build(wanted, base, documents, QUIET)
    facts = parts.build(wanted, documents, folder, QUIET)
    check_conservation("parts", facts["conservation"]["parts"])
    return facts, parts.load(folder)


def test_shares_are_met_in_characters_and_nothing_is_lost(tmp_path: Path) -> None:
    sizes = [400, 4000] * 100
    write(tmp_path, {f"{n:03}.txt": text(n, size) for n, size in enumerate(sizes)})
    facts, split_of = deal(recipe(chunks={"characters": 400}), tmp_path)
    assert sorted(split_of) == [f"{n:03}.txt" for n in range(200)]
    total = sum(facts["characters"].values())
    assert facts["characters"]["test"] / total == pytest.approx(0.1, abs=0.01)
    assert facts["characters"]["tune"] / total == pytest.approx(0.1, abs=0.01)
    assert sum(facts["documents"].values()) == 200
    assert sum(facts["chunks"].values()) == len(list(ingest.load_chunks(tmp_path / "documents")))
    assert facts["groups"] == facts["documents"]
    assert deal(recipe(chunks={"characters": 400}), tmp_path)[1] == split_of
    assert deal(recipe(chunks={"characters": 400}, seed=8), tmp_path)[1] != split_of


def test_a_group_is_never_parted(tmp_path: Path) -> None:
    write(tmp_path, {f"book{n % 9}/ch{n}.md": text(n, 900) for n in range(90)})
    facts, split_of = deal(recipe({"group": r"^(book\d)/"}), tmp_path)
    for book in range(9):
        assert len({split for name, split in split_of.items() if name.startswith(f"book{book}/")}) == 1
    assert sum(facts["groups"].values()) == 9
    assert set(split_of.values()) == {"train", "tune", "test"}


def test_copies_go_where_their_originals_go_along_a_chain_and_with_their_groups(tmp_path: Path) -> None:
    """a ~ b ~ c, though a and c differ too much; c's group goes along."""
    words = text(7, 3000).split()
    changed = dict.fromkeys(range(0, len(words), 15), "changed")
    later = dict.fromkeys(range(7, len(words), 15), "altered")
    b = " ".join(changed.get(place, word) for place, word in enumerate(words))
    c = " ".join(later.get(place, changed.get(place, word)) for place, word in enumerate(words))
    files = {"a/1.txt": " ".join(words), "b/1.txt": b, "c/1.txt": c, "c/2.txt": text(8, 2000)}
    files |= {f"other{n}/1.txt": text(20 + n, 1500) for n in range(80)}
    write(tmp_path, files)
    from aasut.data.dedupe import similarity

    assert similarity(files["a/1.txt"], c) < 0.8 <= min(similarity(files["a/1.txt"], b), similarity(b, c))
    seeds = range(6)
    found = [deal(recipe({"group": "^([^/]+)/"}, seed=seed), tmp_path) for seed in seeds]
    for facts, split_of in found:
        assert len({split_of[name] for name in ("a/1.txt", "b/1.txt", "c/1.txt", "c/2.txt")}) == 1
        assert facts["united"] == 2
        assert sum(facts["groups"].values()) == 81
    assert len({split_of["a/1.txt"] for _, split_of in found}) > 1


def test_a_group_larger_than_all_that_is_held_out_is_learned_from(tmp_path: Path) -> None:
    write(tmp_path, {"large.txt": text(1, 60_000)} | {f"{n}.txt": text(n, 900) for n in range(2, 12)})
    for seed in range(12):
        _, split_of = deal(recipe(seed=seed), tmp_path)
        assert split_of["large.txt"] == "train"
        assert set(split_of.values()) == {"train", "tune", "test"}


def test_too_few_groups_are_one_clear_line_and_as_many_as_splits_are_enough(tmp_path: Path) -> None:
    write(tmp_path, {"a.txt": text(1, 900), "b.txt": text(2, 500)})
    with pytest.raises(DataError, match=r"There are 2 groups of documents for 3 splits .*or set split\.tune: 0"):
        deal(recipe(), tmp_path)
    _, split_of = deal(recipe(split={"tune": 0}), tmp_path)
    assert split_of == {"a.txt": "train", "b.txt": "test"}


def test_settings_hold_what_changes_the_parts() -> None:
    plain = parts.settings(recipe())
    assert json.loads(json.dumps(plain)) == plain
    assert plain != parts.settings(recipe(seed=1))
    assert plain != parts.settings(recipe(split={"test": 11}))
    assert plain != parts.settings(recipe(filter={"near_duplicates": 0.7}))
    assert plain == parts.settings(recipe(synthesize={"questions": 1}))
