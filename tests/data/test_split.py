"""Splits: whole groups, no text twice, no answer in the pool, every row accounted for, the same bytes each time."""

from __future__ import annotations

import csv
import hashlib
import json
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from aasut.data import asked, dedupe, gold, split
from aasut.errors import DataError
from aasut.progress import Progress
from aasut.recipe import Recipe, parse
from aasut.store import Store
from aasut.types import Conservation, Example
from read_table import REVIEWS

QUIET = Progress(quiet=True)
GROUP = {"column": "who"}
BOTH: dict[str, Any] = {"source": "both.csv", "slots": {"text": "text"}, "id": "id", "group": GROUP}
BOTH |= {"label": {"column": "answer"}, "role": "both"}
GOLD = BOTH | {"source": "gold.csv", "role": "gold"}
POOL = BOTH | {"source": "pool.csv", "role": "pool", "label": None}
WORDS = [a + b for a in ("ka", "mi", "to", "re", "su", "na") for b in ("lo", "der", "pin", "gast", "muk", "zen")]


def recipe(tables: Sequence[Mapping[str, Any]], seed: int = 7, **data: Any) -> Recipe:
    plain = {
        "name": "t",
        "seed": seed,
        "task": {"labels": ["negative", "positive"], "prompt": "Review: {text}"},
        "data": {"tables": list(tables)} | data,
        "teacher": {"scripted": {"good": "positive"}},
        "student": {"initialise": "linear"},
    }
    return parse(plain, "test")


def text(rng: random.Random) -> str:
    return " ".join(rng.choices(WORDS, k=14))


def write(path: Path, rows: Sequence[tuple[str, str, str, str]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("id", "who", "text", "answer"), *rows])


def rows_of(groups: int, each: int, prefix: str = "", unlabelled: int = 0, seed: int = 1) -> list[tuple[str, ...]]:
    """`each` answered rows a group and `unlabelled` further ones, all of different text."""
    rng = random.Random(f"{seed}{prefix}")
    rows = []
    for group in range(groups):
        for number in range(each + unlabelled):
            answer = "" if number >= each else ("negative", "positive")[(group + number) % 2]
            rows.append((f"{prefix}{group}_{number}", f"{prefix}g{group}", text(rng), answer))
    return rows


def build(folder: Path, made: Recipe, out: str = "out") -> tuple[dict[str, Any], dict[str, list[Example]]]:
    target = folder / out
    target.mkdir(exist_ok=True)
    facts = split.build(made, folder, target, QUIET)
    rows = facts["conservation"]["data"]
    assert isinstance(rows, Conservation)
    assert rows.balanced
    parts = {name: split.load(target, name) for name in split.SPLITS}
    assert facts["counts"] == {name: len(part) for name, part in parts.items()}
    assert rows.kept == sum(facts["counts"].values())
    return facts, parts


def fails(folder: Path, made: Recipe, match: str) -> None:
    (folder / "out").mkdir(exist_ok=True)
    with pytest.raises(DataError, match=match) as caught:
        split.build(made, folder, folder / "out", QUIET)
    assert caught.value.remedy
    assert "\n" not in str(caught.value)
    assert list((folder / "out").iterdir()) == []


def groups(part: Sequence[Example]) -> set[str]:
    return {example.group for example in part}


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_groups_stay_whole_and_the_weights_are_met(tmp_path: Path, seed: int) -> None:
    write(tmp_path / "both.csv", rows_of(100, 6, unlabelled=2))
    facts, parts = build(tmp_path, recipe([BOTH], seed=seed))
    for name in split.GOLD:
        others = set().union(*(groups(parts[other]) for other in split.GOLD if other != name))
        assert not groups(parts[name]) & others
    assert not groups(parts["pool"]) & (groups(parts["test"]) | groups(parts["calibrate"]))
    # 600 answered rows in groups of 6: test 32 %, calibrate 10 %, tune 8 %, pool 50 %.
    assert (len(parts["test"]), len(parts["calibrate"]), len(parts["tune"])) == (192, 60, 48)
    # The pool has its own 50 groups whole, and what has no answer in the 8 groups of tune.
    assert len(parts["pool"]) == 50 * 8 + 8 * 2
    assert groups(parts["tune"]) < groups(parts["pool"])
    assert facts["conservation"]["data"].dropped == {"no human answer, group is held out": (32 + 10) * 2}
    assert facts["groups"] == {name: len(groups(part)) for name, part in parts.items()}
    assert facts["answers"]["test"] == Counter(e.answer for e in parts["test"])
    assert sum(facts["answers"]["test"].values()) == 192


def test_another_seed_is_another_split(tmp_path: Path) -> None:
    write(tmp_path / "both.csv", rows_of(40, 3))
    one, other = (build(tmp_path, recipe([BOTH], seed=seed))[1]["test"] for seed in (1, 2))
    assert groups(one) != groups(other)


def test_the_pool_has_no_human_answer(tmp_path: Path) -> None:
    write(tmp_path / "both.csv", rows_of(40, 3))
    write(tmp_path / "pool.csv", rows_of(20, 3, prefix="p"))
    facts, parts = build(tmp_path, recipe([BOTH, POOL | {"label": BOTH["label"]}]))
    assert len(parts["pool"]) > 60
    assert all(example.answer is None for example in parts["pool"])
    written = (tmp_path / "out" / "pool.jsonl").read_text()
    assert "answer" not in written
    assert "positive" not in written
    assert "pool" not in facts["answers"]
    for name in split.GOLD:
        assert all(example.answer in ("negative", "positive") for example in parts[name])


def test_the_same_files_byte_for_byte(tmp_path: Path) -> None:
    rows = rows_of(40, 3, unlabelled=1)
    write(tmp_path / "both.csv", rows)
    first, _ = build(tmp_path, recipe([BOTH], limit=20), "one")
    second, _ = build(tmp_path, recipe([BOTH], limit=20), "two")
    names = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert names == ["calibrate.jsonl", "pool.jsonl", "test.jsonl", "tune.jsonl"]
    assert all((tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes() for name in names)
    assert first == second
    assert first["split_hash"]["test"] == hashlib.sha256((tmp_path / "one" / "test.jsonl").read_bytes()).hexdigest()
    # The order of the table's rows does not matter either, as long as no two are duplicates.
    random.Random(5).shuffle(rows)
    write(tmp_path / "both.csv", rows)
    build(tmp_path, recipe([BOTH], limit=20), "three")
    assert all((tmp_path / "one" / name).read_bytes() == (tmp_path / "three" / name).read_bytes() for name in names)


def test_devanagari_comes_through(tmp_path: Path) -> None:
    hindi = "इस फ़ोन की बैटरी दो दिन चलती है"
    rows = [(f"{i}", f"समूह{i}", f"{hindi} {WORDS[i]} {WORDS[-i]}", ("negative", "positive")[i % 2]) for i in range(16)]
    write(tmp_path / "both.csv", rows)
    _, parts = build(tmp_path, recipe([BOTH], near_duplicates=1))
    found = [example for part in parts.values() for example in part]
    assert {(e.id, e.group, e.slots["text"]) for e in found} == {(f"0:{i}", who, t) for i, who, t, _ in rows}
    assert hindi in (tmp_path / "out" / "pool.jsonl").read_text(encoding="utf-8")


def test_no_text_is_in_two_splits_nor_twice_in_one(tmp_path: Path) -> None:
    rows = rows_of(60, 4)
    rng = random.Random(9)
    planted = []
    for number, (_, _, original, answer) in enumerate(rng.sample(rows, 90)):
        near = original + rng.choice(["!", " ?", "."]) if number % 2 else f"  {original.upper()} "
        planted.append((f"copy{number}", f"g{rng.randrange(60)}", near, answer if number % 3 else ""))
    write(tmp_path / "both.csv", [*rows, *planted])
    facts, parts = build(tmp_path, recipe([BOTH]))
    kept = [dedupe.fingerprint(e.slots, ["text"]) for part in parts.values() for e in part]
    pairs = [(a, b) for i, a in enumerate(kept) for b in kept[:i] if dedupe.similarity(a, b) >= 0.8]
    assert pairs == []
    dropped = facts["conservation"]["data"].dropped
    assert {"duplicate of test", "duplicate of calibrate", "duplicate of tune", "duplicate of pool"} <= set(dropped)
    # Nothing but the planted copies, or what they repeat, is lost.
    assert len(kept) + dropped.get("no human answer, group is held out", 0) >= len(rows)


def test_of_two_copies_the_one_in_test_stays(tmp_path: Path) -> None:
    write(tmp_path / "both.csv", rows_of(40, 3))
    _, before = build(tmp_path, recipe([BOTH]))
    tested = before["test"][0].slots["text"]
    write(tmp_path / "pool.csv", [("1", "new", tested + ".", ""), *rows_of(3, 1, "p")])
    facts, after = build(tmp_path, recipe([BOTH, POOL]))
    assert after["test"] == before["test"]
    assert facts["conservation"]["data"].dropped == {"duplicate of test": 1}


def test_two_human_answers_to_one_text(tmp_path: Path) -> None:
    rows = rows_of(20, 2)
    rows += [("x1", "x", "one and the same text for two people", "positive")]
    rows += [("x2", "x", "One and the same  text for two people", "negative")]
    rows += [("x3", "x", "one and the same text for two people", "positive")]
    write(tmp_path / "pool.csv", rows_of(5, 2, "p"))
    rows += [("y1", "y", "two texts that are nearly the same but not quite", "positive")]
    rows += [("y2", "y", "two texts that are nearly the same but not quite!", "negative")]
    write(tmp_path / "gold.csv", rows)
    facts, parts = build(tmp_path, recipe([GOLD, POOL]))
    gold = {e.id: e.answer for name in split.GOLD for e in parts[name]}
    assert gold["0:x1"] == "positive"
    assert {"0:x2", "0:x3", "0:y2"}.isdisjoint(gold)
    dropped = facts["conservation"]["data"].dropped
    assert dropped["duplicate with another human answer"] == 1
    assert sum(dropped.values()) == 3


def test_a_group_of_a_gold_table_is_gold_in_every_table(tmp_path: Path) -> None:
    write(tmp_path / "gold.csv", rows_of(20, 2))
    write(tmp_path / "both.csv", [(f"b{row_id}", *rest) for row_id, *rest in rows_of(40, 2, seed=2)])
    _, parts = build(tmp_path, recipe([GOLD, BOTH]))
    assert not groups(parts["pool"]) & {f"g{number}" for number in range(20)}
    assert len(groups(parts["pool"])) == 10


def test_gold_tables_give_nothing_to_the_pool(tmp_path: Path) -> None:
    write(tmp_path / "gold.csv", rows_of(50, 4, unlabelled=1))
    write(tmp_path / "pool.csv", rows_of(10, 2, "p"))
    facts, parts = build(tmp_path, recipe([GOLD, POOL]))
    assert {e.id.split(":")[0] for e in parts["pool"]} == {"1"}
    assert (len(parts["test"]), len(parts["calibrate"]), len(parts["tune"])) == (128, 40, 32)
    assert facts["conservation"]["data"].dropped == {"no human answer": 50}


def test_pool_rows_of_held_out_groups_are_left_out(tmp_path: Path) -> None:
    write(tmp_path / "gold.csv", rows_of(50, 4))
    shared = [(f"p{row_id}", who, f"pool {number} {words[::-1]}", "") for number, (row_id, who, words, _) in
              enumerate(rows_of(50, 1, seed=2))]  # fmt: skip
    write(tmp_path / "pool.csv", shared)
    facts, parts = build(tmp_path, recipe([GOLD, POOL]))
    held_out = groups(parts["test"]) | groups(parts["calibrate"])
    assert facts["conservation"]["data"].dropped == {"group is held out": len(held_out)}
    assert groups(parts["pool"]) == groups(parts["tune"])


def test_gold_that_overlaps_the_pool_is_refused_or_dropped(tmp_path: Path) -> None:
    gold = rows_of(20, 2)
    write(tmp_path / "gold.csv", gold)
    write(tmp_path / "pool.csv", [*rows_of(10, 2, "p"), ("q1", "q", gold[0][2], ""), ("q2", "q", gold[9][2] + "!", "")])
    fails(tmp_path, recipe([GOLD, POOL]), r"^2 rows of the pool stand in a gold table too, the first is 1:q[12] \(")
    facts, parts = build(tmp_path, recipe([GOLD, POOL], overlap="drop"))
    assert len(parts["pool"]) == 20
    assert sum(facts["conservation"]["data"].dropped.values()) == 2


def test_rows_without_a_group_column_are_their_own_groups(tmp_path: Path) -> None:
    write(tmp_path / "both.csv", rows_of(10, 5))
    write(tmp_path / "pool.csv", rows_of(10, 1, prefix="p"))
    facts, parts = build(tmp_path, recipe([BOTH | {"group": None, "id": None}, POOL | {"group": None, "id": None}]))
    found = [example for part in parts.values() for example in part]
    assert len({e.id for e in found}) == len({e.group for e in found}) == 60
    assert facts["counts"] == {"test": 16, "calibrate": 5, "tune": 4, "pool": 35}


def test_the_limit_caps_every_split(tmp_path: Path) -> None:
    write(tmp_path / "both.csv", rows_of(100, 3))
    _, whole = build(tmp_path, recipe([BOTH]))
    facts, parts = build(tmp_path, recipe([BOTH], limit=25))
    assert facts["counts"] == {"test": 25, "calibrate": 25, "tune": 24, "pool": 25}
    assert facts["conservation"]["data"].dropped == {"over the limit": 300 - 99}
    for name, part in parts.items():
        ids = [e.id for e in whole[name]]
        assert [e.id for e in part] == [i for i in ids if i in {e.id for e in part}]
        assert name == "tune" or [e.id for e in part] != ids[:25]  # drawn, not the first ones


def test_failed_rows_are_counted_and_too_many_stop_the_run(tmp_path: Path) -> None:
    write(tmp_path / "both.csv", [*rows_of(60, 2), ("bad1", "g1", " ", "positive"), ("bad2", "", "words", "")])
    facts, _ = build(tmp_path, recipe([BOTH]))
    assert facts["conservation"]["data"].failed == {"empty input": 1, "no value in column who": 1}
    assert facts["failed_first"] == {"0": {"empty input": 122, "no value in column who": 123}}
    (tmp_path / "out").rename(tmp_path / "before")
    match = (
        r"2 of 122 rows cannot be used \(empty input: 1, first in line 122; no value in column who: 1, first in line"
    )
    fails(tmp_path, recipe([BOTH], max_failed=0.01), match)


def test_what_cannot_be_parted(tmp_path: Path) -> None:
    write(tmp_path / "gold.csv", rows_of(30, 2))
    fails(tmp_path, recipe([GOLD]), r"^The pool is empty: 60 rows came in \(none dropped\)\. Add a table")
    write(tmp_path / "pool.csv", rows_of(30, 2, "p"))
    fails(tmp_path, recipe([POOL]), "no human answers in test: 60 rows")
    weights = {"pool": 1, "tune": 1, "calibrate": 1, "test": 0}
    fails(tmp_path, recipe([GOLD, POOL], split=weights), "no human answers in test")
    fails(tmp_path, recipe([GOLD, POOL], split=dict.fromkeys(weights, 0)), "gives no split a weight")
    write(tmp_path / "both.csv", [(i, who, t, "positive") for i, who, t, _ in rows_of(30, 2)])
    fails(tmp_path, recipe([BOTH]), "All human answers are 'positive'")
    write(tmp_path / "both.csv", [("1", "x", "good enough", "positive"), ("2", "y", "not so good", "Mixed")])
    fails(tmp_path, recipe([BOTH]), r"line 3: the label 'Mixed' is not in the list")
    grouped = BOTH | {"group": {"column": "who", "pattern": "(x)"}}
    write(tmp_path / "both.csv", [("1", "x", "good enough", "positive"), ("2", "y", "not so good", "negative")])
    fails(tmp_path, recipe([grouped]), r"line 3: the group pattern '\(x\)' finds nothing in 'y'")


def test_a_changed_table_is_another_setting(tmp_path: Path) -> None:
    write(tmp_path / "both.csv", rows_of(10, 2))
    before = split.settings(recipe([BOTH]), tmp_path)
    assert split.settings(recipe([BOTH]), tmp_path) == before
    assert split.settings(recipe([BOTH], seed=8), tmp_path) != before
    write(tmp_path / "both.csv", rows_of(10, 3))
    assert split.settings(recipe([BOTH]), tmp_path) != before


def test_where_a_file_stands_does_not_matter(tmp_path: Path) -> None:
    write(tmp_path / "both.csv", rows_of(10, 2))
    (tmp_path / "gold.jsonl").write_text("")
    before = split.settings(recipe([BOTH], gold="gold.jsonl"), tmp_path)
    (tmp_path / "sub").mkdir()
    elsewhere = recipe([BOTH | {"source": "../both.csv"}], gold="../gold.jsonl")
    assert split.settings(elsewhere, tmp_path / "sub") == before
    (tmp_path / "gold.jsonl").write_text("\n")
    assert split.settings(elsewhere, tmp_path / "sub") != before
    # Members of one archive have its hash in common: there the whole source counts.
    packed = [BOTH | {"source": f"pypi-sdist:a==1#{folder}/t.csv", "sha256": "0" * 64} for folder in "xy"]
    assert split.settings(recipe(packed[:1]), tmp_path) != split.settings(recipe(packed[1:]), tmp_path)


def test_as_a_stage_of_the_store(tmp_path: Path) -> None:
    write(tmp_path / "both.csv", rows_of(40, 3, unlabelled=1))
    made = recipe([BOTH])
    with Store(tmp_path / "store") as store:

        def stage() -> Any:
            return store.stage(
                "data", 1, split.settings(made, tmp_path), [],
                lambda folder: split.build(made, tmp_path, folder, QUIET),
            )  # fmt: skip

        first, again = stage(), stage()
    assert (first.reused, again.reused) == (False, True)
    assert again.facts == first.facts
    assert json.loads(json.dumps(first.facts)) == first.facts
    assert len(split.load(first.path, "test")) == first.facts["counts"]["test"]


def test_an_unknown_split_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no split 'train'"):
        split.load(tmp_path, "train")


def test_the_real_reviews(tmp_path: Path) -> None:
    facts = split.build(recipe([REVIEWS]), tmp_path, tmp_path, QUIET, cache=tmp_path / "cache")
    parts = {name: split.load(tmp_path, name) for name in split.SPLITS}
    rows = facts["conservation"]["data"]
    assert (rows.rows_in, rows.failed) == (3708, {})
    assert rows.balanced
    assert len(parts["test"]) >= 900
    assert not groups(parts["pool"]) & (groups(parts["test"]) | groups(parts["calibrate"]))
    kept = Counter(dedupe.fingerprint(e.slots, ["text"]) for part in parts.values() for e in part)
    assert set(kept.values()) == {1}


def test_a_tables_limit_draws_rows_by_the_seed_and_counts_the_rest(tmp_path: Path) -> None:
    write(tmp_path / "both.csv", rows_of(12, 4))
    write(tmp_path / "pool.csv", rows_of(40, 1, "extra"))
    made = recipe([BOTH, POOL | {"limit": 7}])
    facts, parts = build(tmp_path, made)
    again = build(tmp_path, made, "again")[1]
    drawn = [e.id for e in parts["pool"] if e.id.startswith("1:")]
    everything = build(tmp_path, recipe([BOTH, POOL]), "all")[1]
    assert len(drawn) == 7
    assert drawn != [e.id for e in everything["pool"] if e.id.startswith("1:")][:7]
    assert [e.id for e in again["pool"]] == [e.id for e in parts["pool"]]
    assert facts["conservation"]["data"].dropped["over the table's limit"] == 33


def by_hand(folder: Path, answers: Mapping[str, str], made: Recipe, kind: Any = "answer", by: str = "ann") -> None:
    """Append answers by row id to gold.jsonl, as a person who sees the rows of the recipe's tables would."""
    rows = {row.id: row for row in split.unanswered(made, folder, QUIET).rows}
    for row_id, said in answers.items():
        hashed = gold.slots_hash(rows[row_id].slots, ["text"])
        gold.append(folder / "gold.jsonl", gold.Line(row_id, hashed, kind, said, by, "t"))


def test_answers_by_hand_make_gold_of_whole_groups(tmp_path: Path) -> None:
    write(tmp_path / "pool.csv", rows_of(60, 3))
    made = recipe([POOL], gold="gold.jsonl")
    answers = {f"0:{group}_{n}": ("negative", "positive")[n] for group in range(40) for n in range(2)}
    by_hand(tmp_path, answers, made)
    facts, parts = build(tmp_path, made)
    found = {example.id: example.answer for name in split.GOLD for example in parts[name]}
    assert found == answers
    assert not groups(parts["pool"]) & (groups(parts["test"]) | groups(parts["calibrate"]))
    assert len(parts["test"]) > len(parts["calibrate"]) > 0
    held_out = len(groups(parts["test"])) + len(groups(parts["calibrate"]))
    # One row of each answered group has no answer: it stays in the pool where the group is in tune.
    rows = facts["conservation"]["data"]
    assert (rows.rows_in, rows.dropped) == (180, {"group is held out": held_out})
    assert len(parts["pool"]) == 60 + (40 - held_out)
    assert facts["conservation"]["gold"] == Conservation(80, 80)
    assert facts["answers"]["test"] == Counter(e.answer for e in parts["test"])
    assert "positive" not in (tmp_path / "out" / "pool.jsonl").read_text()


def test_more_answers_never_move_earlier_ones(tmp_path: Path) -> None:
    write(tmp_path / "pool.csv", rows_of(150, 2))
    write(tmp_path / "both.csv", rows_of(30, 2, "b", unlabelled=1))
    made = recipe([POOL, BOTH], gold="gold.jsonl")
    order = [row.id for row in split.unanswered(made, tmp_path, QUIET).rows]
    before: dict[str, str] = {}
    for start in range(0, 240, 60):
        batch = order[start : start + 60]
        by_hand(tmp_path, {row_id: ("negative", "positive")[int(row_id[-1]) % 2] for row_id in batch}, made)
        _, parts = build(tmp_path, made, f"out{start}")
        now = {example.id: name for name in split.GOLD for example in parts[name]}
        assert {row_id: now[row_id] for row_id in before} == before
        assert set(now) >= set(batch)
        before = now
    # Nor do they have a say in what may be asked, and where a row would fall is told beforehand.
    after = split.unanswered(made, tmp_path, QUIET)
    assert [row.id for row in after.rows] == order
    group_of = {row.id: row.group for row in after.rows}
    assert all(after.split_of[group_of[row_id]] == before[row_id] for row_id in order[:240])


def test_answers_by_hand_leave_the_tables_own_where_they_are(tmp_path: Path) -> None:
    write(tmp_path / "both.csv", rows_of(50, 3, unlabelled=2))
    _, alone = build(tmp_path, recipe([BOTH]))
    made = recipe([BOTH], gold="gold.jsonl")
    (tmp_path / "gold.jsonl").write_text("")
    open_rows = split.unanswered(made, tmp_path, QUIET)
    assert {row.id for row in open_rows.rows} == {e.id for e in alone["pool"] if int(e.id[-1]) >= 3}
    assert open_rows.counts == {name: len(alone[name]) for name in split.GOLD}
    by_hand(tmp_path, {row.id: "positive" for row in open_rows.rows[:9]}, made)
    _, parts = build(tmp_path, made, "with")
    for name in split.GOLD:
        assert {e.id for e in alone[name]} <= {e.id for e in parts[name]}
    answered = {row.id for row in open_rows.rows[:9]}
    found = {name: {e.id for e in parts[name]} for name in split.SPLITS}
    assert answered <= found["test"] | found["calibrate"] | found["tune"]
    # A group of the pool that is answered by hand leaves it whole, the answers in its table come with it.
    moved = {row.group for row in open_rows.rows[:9]} & groups(parts["test"])
    assert moved
    assert not groups(parts["pool"]) & moved


def test_rows_by_hand_that_do_not_count_are_accounted_for(tmp_path: Path) -> None:
    write(tmp_path / "pool.csv", rows_of(60, 2))
    made = recipe([POOL], gold="gold.jsonl")
    by_hand(tmp_path, {f"0:{group}_{n}": ("negative", "positive")[n] for group in range(30) for n in range(2)}, made)
    by_hand(tmp_path, {"0:0_0": "positive", "0:0_1": "positive"}, made, by="bob")
    by_hand(tmp_path, {"0:40_0": "broken"}, made, "unusable")
    by_hand(tmp_path, {"0:41_0": "hm", "0:42_0": "hm"}, made, "skip")
    facts, parts = build(tmp_path, made)
    rows = facts["conservation"]
    reasons = {gold.DISAGREE: 1, gold.NOT_USABLE: 1, gold.SKIPPED: 2}
    assert {reason: rows["data"].dropped[reason] for reason in reasons} == reasons
    assert rows["gold"] == Conservation(63, 59, reasons)
    everywhere = {example.id for part in parts.values() for example in part}
    assert not everywhere & {"0:0_0", "0:40_0", "0:41_0", "0:42_0"}
    assert "0:41_1" in {example.id for example in parts["pool"]}


def test_answers_to_another_text_are_refused(tmp_path: Path) -> None:
    rows = rows_of(60, 2)
    write(tmp_path / "pool.csv", rows)
    made = recipe([POOL], gold="gold.jsonl")
    by_hand(tmp_path, {f"0:{group}_{n}": ("negative", "positive")[n] for group in range(30) for n in range(2)}, made)
    before = split.settings(made, tmp_path)
    row_id, who, words, answer = rows[3]
    write(tmp_path / "pool.csv", [*rows[:3], (row_id, who, words + " not", answer), *rows[4:]])
    facts, parts = build(tmp_path, made)
    assert facts["conservation"]["gold"] == Conservation(60, 59, {}, {gold.CHANGED: 1})
    assert facts["gold_refused_lines"] == {gold.CHANGED: 1}
    assert "0:1_1" not in {example.id for name in split.GOLD for example in parts[name]}
    write(tmp_path / "pool.csv", rows[10:])
    fails_with = r"gold\.jsonl: 10 of 60 rows cannot be used \(no such row .*: 10, the first is 0:0_0\), more than"
    (tmp_path / "out").rename(tmp_path / "before")
    fails(tmp_path, made, fails_with)
    write(tmp_path / "pool.csv", rows)
    assert split.settings(made, tmp_path) == before
    by_hand(tmp_path, {"0:50_0": "positive"}, made)
    assert split.settings(made, tmp_path) != before  # a new answer makes a new data artefact


def test_without_any_human_answer_the_way_to_some_is_named(tmp_path: Path) -> None:
    write(tmp_path / "pool.csv", rows_of(30, 2))
    fails(tmp_path, recipe([POOL]), r"no human answers in test: 60 rows .*aasut gold RECIPE")
    made = recipe([POOL], gold="gold.jsonl")
    fails(tmp_path, made, r"There are no answers in .*gold\.jsonl, which data\.gold names\. Give some with: aasut gold")
    (tmp_path / "gold.jsonl").write_text("")
    fails(tmp_path, made, r"no human answers in test: 60 rows .*aasut gold RECIPE")


def ask(folder: Path, made: Recipe, rows: Sequence[Example], arm: Any = "chosen", number: int = 1) -> None:
    """Write rows to asked.jsonl, as `aasut label` would."""
    path = folder / "asked.jsonl"
    hashed = gold.hashes(rows, made.task.build())
    asked.add(path, asked.read(path), [asked.Line(row.id, hashed[row.id], number, arm, 0.5, 7) for row in rows])


def test_only_rows_that_were_asked_are_the_pool(tmp_path: Path) -> None:
    write(tmp_path / "both.csv", rows_of(60, 3))
    facts, whole = build(tmp_path, recipe([BOTH]))
    made = recipe([BOTH], asked="asked.jsonl")
    ask(tmp_path, made, whole["pool"][:10], "random")
    ask(tmp_path, made, whole["pool"][10:25])
    told, parts = build(tmp_path, made, "asked")
    assert parts["pool"] == whole["pool"][:25]
    assert split.load(tmp_path / "asked", split.UNASKED) == whole["pool"][25:]
    assert {name: parts[name] for name in split.GOLD} == {name: whole[name] for name in split.GOLD}
    left = len(whole["pool"]) - 25
    assert told["conservation"]["data"].dropped == facts["conservation"]["data"].dropped | {split.NOT_ASKED: left}
    assert told["conservation"]["asked"] == Conservation(25, 25)
    weights = split.load_weights(tmp_path / "asked")
    assert weights is not None
    assert set(weights.rows) == {row.id for row in parts["pool"]}
    assert sum(weights.rows.values()) == pytest.approx(len(whole["pool"]))
    assert split.load_weights(tmp_path / "out") is None
    assert "asked" not in facts["conservation"]
    settings = [split.settings(one, tmp_path) for one in (recipe([BOTH]), made)]
    assert settings[0] != settings[1]
    assert settings[0] == split.settings(asked.whole(made), tmp_path)


def test_a_run_before_anything_was_asked_says_how_to_ask(tmp_path: Path) -> None:
    write(tmp_path / "both.csv", rows_of(20, 3))
    fails(tmp_path, recipe([BOTH], asked="asked.jsonl"), r"asked.jsonl.*not asked yet. Ask it .*aasut label RECIPE")


def test_rows_that_were_asked_go_before_others_where_there_is_a_limit(tmp_path: Path) -> None:
    write(tmp_path / "both.csv", rows_of(60, 3))
    whole = build(tmp_path, recipe([BOTH]))[1]["pool"]
    made = recipe([BOTH], asked="asked.jsonl", limit=20)
    limited = build(tmp_path, asked.whole(made), "limited")[1]["pool"]
    outside = [row for row in whole if row not in limited][:15]
    ask(tmp_path, made, [*outside, *limited[:2]])
    facts, parts = build(tmp_path, made, "asked")
    assert {row.id for row in parts["pool"]} == {row.id for row in (*outside, *limited[:2])}
    assert split.load(tmp_path / "asked", split.UNASKED) == limited[2:]
    dropped = facts["conservation"]["data"].dropped
    assert dropped[split.NOT_ASKED] == 18
    ask(tmp_path, made, limited[2:12], number=2)
    facts, parts = build(tmp_path, made, "over")
    assert len(parts["pool"]) == 20
    assert facts["conservation"]["asked"].dropped == {asked.NOT_IN_POOL: 7}


def test_a_row_that_was_chosen_is_never_evaluated_on(tmp_path: Path) -> None:
    """Neither where the split is dealt anew, nor where somebody answers it by hand all the same."""
    write(tmp_path / "both.csv", rows_of(80, 2))
    made = recipe([BOTH], asked="asked.jsonl")
    pool = build(tmp_path, recipe([BOTH]))[1]["pool"]
    ask(tmp_path, made, pool[:40])
    ask(tmp_path, made, pool[40:60], "random")
    chosen, random = {row.id for row in pool[:40]}, {row.id for row in pool[40:60]}
    facts, parts = build(tmp_path, recipe([BOTH], seed=8, asked="asked.jsonl"), "again")
    held_out = {row.id for name in split.HELD_OUT for row in parts[name]}
    free = build(tmp_path, recipe([BOTH], seed=8), "free")[1]
    fallen = {row.id for name in split.HELD_OUT for row in free[name]}
    assert len(fallen & chosen) > 5
    assert held_out == fallen - chosen  # a random one may be
    assert held_out & random
    assert facts["conservation"]["data"].dropped[split.CHOSEN] == len(fallen & chosen)


def test_people_are_not_asked_for_what_was_chosen(tmp_path: Path) -> None:
    write(tmp_path / "both.csv", rows_of(40, 3, "b"))
    write(tmp_path / "pool.csv", rows_of(60, 1))
    (tmp_path / "gold.jsonl").write_text("")
    made = recipe([BOTH, POOL], gold="gold.jsonl", asked="asked.jsonl")
    before = split.unanswered(made, tmp_path, QUIET)
    assert (len(before.rows), before.chosen) == (60, 0)
    ask(tmp_path, made, before.rows[:12])
    ask(tmp_path, made, before.rows[12:20], "random")
    by_hand(tmp_path, {row.id: "positive" for row in before.rows[10:20]}, asked.whole(made))
    after = split.unanswered(made, tmp_path, QUIET)
    assert [row.id for row in after.rows] == [row.id for row in before.rows[12:]]
    assert after.chosen == 12
    facts, parts = build(tmp_path, made)
    # Two of the answers are of rows that were chosen: they count for nothing, and the teacher's are kept.
    assert facts["conservation"]["gold"].dropped == {gold.CHOSEN: 2}
    assert {row.id for row in before.rows[:12]} == {row.id for row in parts["pool"]}
    assert {row.id for row in before.rows[12:20]} <= {row.id for name in split.GOLD for row in parts[name]}
    assert facts["conservation"]["asked"].dropped == {asked.NOT_IN_POOL: 8}


TEXT = {"task": {"kind": "generate", "prompt": "Review: {text}"}, "student": {"model": {"address": "file:x"}}}
TAUGHT = POOL | {"source": "taught.csv", "taught": "answer"}
WAITING = POOL | {"source": "waiting.csv", "role": "gold"}


def text_recipe(tables: Sequence[Mapping[str, Any]], **data: Any) -> Recipe:
    return parse(
        {"name": "t", "data": {"tables": list(tables)} | data, "teacher": {"scripted": {"": "x"}}} | TEXT, "test"
    )


def test_people_are_asked_for_gold_tables_and_never_for_what_was_taught(tmp_path: Path) -> None:
    learned, held = rows_of(20, 2, "train"), rows_of(12, 2, "held", seed=2)
    copies = [(f"held{i}", f"copy{i}", learned[i][2], "") for i in range(3)]  # of what is learned
    write(tmp_path / "taught.csv", [*learned[:-1], (*learned[-1][:3], "")])
    write(tmp_path / "waiting.csv", [(*row[:3], "teacher's") for row in held] + copies)
    made = text_recipe([TAUGHT, WAITING], gold="gold.jsonl", split={"pool": 0}, overlap="drop")
    open_rows = split.unanswered(made, tmp_path, QUIET).rows
    assert {row.id for row in open_rows} == {f"1:{row[0]}" for row in held} | {f"0:{learned[-1][0]}"}
    answers = {f"1:{row[0]}": f"by hand {i}" for i, row in enumerate(held[:20])}
    by_hand(tmp_path, answers, made)
    facts, parts = build(tmp_path, made)
    assert {e.id: e.answer for name in split.GOLD for e in parts[name]} == answers
    assert {e.id: e.taught for e in parts["pool"]} == {f"0:{row[0]}": row[3] for row in learned[:-1]} | {
        f"0:{learned[-1][0]}": None
    }
    assert all(e.answer is None for e in parts["pool"])
    assert facts["conservation"]["data"].dropped == {"no human answer": 4 + 3}
    assert facts["conservation"]["gold"] == Conservation(20, 20)


def test_of_two_rows_of_one_text_the_taught_one_stays(tmp_path: Path) -> None:
    rows = rows_of(30, 1)
    write(tmp_path / "pool.csv", rows)
    write(tmp_path / "taught.csv", [(row[0], row[1], row[2], f"said {row[0]}") for row in rows[:5]])
    write(tmp_path / "gold.csv", rows_of(9, 1, "g", seed=3))
    _, parts = build(tmp_path, text_recipe([POOL, TAUGHT, GOLD], split={"test": 1, "tune": 0, "calibrate": 0}))
    assert sum(e.taught is not None for e in parts["pool"]) == 5
    assert len(parts["pool"]) == 30


def test_an_answer_by_hand_to_what_was_taught_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "taught.csv", rows_of(5, 1))
    write(tmp_path / "waiting.csv", rows_of(5, 1, "held", seed=2))
    made = text_recipe([TAUGHT, WAITING], gold="gold.jsonl", max_failed=0.5)
    by_hand(tmp_path, {f"1:held{i}_0": f"said {i}" for i in range(4)}, made)
    hashed = gold.slots_hash({"text": rows_of(5, 1)[0][2]}, ["text"])
    gold.append(tmp_path / "gold.jsonl", gold.Line("0:0_0", hashed, "answer", "mine", "ann", "t"))
    facts, _ = build(tmp_path, made)
    assert facts["conservation"]["gold"].failed == {gold.NO_ROW: 1}


def test_recipes_without_taught_answers_keep_their_fingerprint(tmp_path: Path) -> None:
    write(tmp_path / "both.csv", rows_of(5, 1))
    assert "taught" not in split.settings(recipe([BOTH]), tmp_path)["data"]["tables"][0]
    write(tmp_path / "taught.csv", rows_of(5, 1))
    assert split.settings(text_recipe([TAUGHT]), tmp_path)["data"]["tables"][0]["taught"] == "answer"
