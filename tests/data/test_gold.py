"""The file of answers given by hand: what stands, what settles a row, and what a kill leaves of it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from aasut.data import gold
from aasut.data.gold import Line
from aasut.errors import DataError, StoreError
from aasut.prompts import PromptTemplate
from aasut.tasks import Classify
from aasut.types import Example

TASK = Classify(("no", "yes"), PromptTemplate.of("{text}"))
ROWS = [Example(f"0:{name}", {"text": f"text {name}", "other": "x"}, name) for name in "abcdef"]
HASH = gold.hashes(ROWS, TASK)


def line(name: str, text: str, by: str = "ann", kind: Any = "answer", rnd: Any = "first", at: str = "t1") -> Line:
    return Line(f"0:{name}", HASH.get(f"0:{name}", "h"), kind, text, by, at, rnd, 1.0)


def settled(*lines: Line) -> dict[str, tuple[str | None, str]]:
    return {row_id[2:]: gold.settle(kept) for row_id, kept in gold.standing(lines, HASH, TASK)[0].items()}


def test_what_settles_a_row() -> None:
    second: Any = {"by": "bob", "rnd": "second"}
    decided: Any = {"by": "eve", "rnd": "adjudicated"}
    found = settled(
        line("a", "yes"),
        line("b", "yes"), line("b", "yes", **second),
        line("c", "yes"), line("c", "no", **second),
        line("d", "yes"), line("d", "no", **second), line("d", "no", **decided),
        line("e", "hm", kind="skip"), line("e", "no", **second),
        line("f", "hm", kind="skip"),
    )  # fmt: skip
    assert found == {
        "a": ("yes", ""), "b": ("yes", ""), "c": (None, gold.DISAGREE), "d": ("no", ""), "e": ("no", ""),
        "f": (None, gold.SKIPPED),
    }  # fmt: skip


def test_an_unusable_input_is_an_opinion_too() -> None:
    assert settled(line("a", "broken", kind="unusable"))["a"] == (None, gold.NOT_USABLE)
    both = (line("a", "broken", kind="unusable"), line("a", "empty", "bob", "unusable", "second"))
    assert settled(*both)["a"] == (None, gold.NOT_USABLE)
    differ = (line("a", "broken", kind="unusable"), line("a", "yes", "bob", rnd="second"))
    assert settled(*differ)["a"] == (None, gold.DISAGREE)
    assert settled(*differ, line("a", "x", "eve", "unusable", "adjudicated"))["a"] == (None, gold.NOT_USABLE)
    # Whoever decides may be unable to; and the latest decision counts.
    assert settled(*differ, line("a", "?", "eve", "skip", "adjudicated"))["a"] == (None, gold.DISAGREE)
    twice = (line("a", "no", "eve", rnd="adjudicated"), line("a", "yes", "joe", rnd="adjudicated"))
    assert settled(*differ, *twice)["a"] == ("yes", "")


def test_the_latest_word_of_a_person_stands_and_undo_takes_it_back() -> None:
    assert settled(line("a", "yes"), line("a", "", kind="undo"))["a"] == (None, gold.TAKEN_BACK)
    assert settled(line("a", "yes"), line("a", "", kind="undo"), line("a", "no"))["a"] == ("no", "")
    assert settled(line("a", "yes"), line("a", "no"))["a"] == ("no", "")
    # One person's undo leaves the other's answer alone, and a decision leaves the decider's own answer.
    assert settled(line("a", "yes", "bob"), line("a", "no"), line("a", "", kind="undo"))["a"] == ("yes", "")
    own = (line("a", "yes"), line("a", "no", "bob", rnd="second"), line("a", "no", rnd="adjudicated"))
    assert settled(*own)["a"] == ("no", "")
    assert settled(*own, line("a", "", kind="undo", rnd="adjudicated"))["a"] == (None, gold.DISAGREE)


def test_lines_that_do_not_fit_the_rows_are_refused() -> None:
    other = Line("0:a", "another hash", "answer", "yes", "ann", "t")
    lines = [other, line("z", "yes"), line("b", "maybe"), line("c", " YES "), other]
    rows, refused, counts = gold.standing(lines, HASH, TASK)
    assert refused == {"0:a": gold.CHANGED, "0:z": gold.NO_ROW, "0:b": gold.NO_ANSWER}
    assert counts == {gold.CHANGED: 2, gold.NO_ROW: 1, gold.NO_ANSWER: 1}
    assert [kept.text for kept in rows["0:c"]] == ["yes"]
    # A good line goes before a refused one, whichever comes first.
    assert gold.standing([other, line("a", "no")], HASH, TASK)[1] == {}
    assert settled(line("a", "no"), other)["a"] == ("no", "")


def test_the_hash_covers_the_prompts_slots_alone() -> None:
    assert gold.slots_hash({"text": "a", "other": "b"}, ["text"]) == gold.slots_hash({"text": "a"}, ["text"])
    assert gold.slots_hash({"text": "a"}, ["text"]) != gold.slots_hash({"text": "a "}, ["text"])


def test_what_is_appended_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "gold.jsonl"
    lines = [line("a", "yes"), line("b", "लाइन\nbreak \x00 \u2028 end", kind="skip"), line("a", "", kind="undo")]
    for one in lines:
        gold.append(path, one)
    assert gold.read(path) == lines
    assert path.read_bytes().count(b"\n") == 3
    plain = json.loads(path.read_text(encoding="utf-8").splitlines()[0])
    assert plain == {"id": "0:a", "slots": HASH["0:a"], "answer": "yes", "by": "ann", "at": "t1", "round": "first",
                     "seconds": 1.0}  # fmt: skip


@pytest.mark.parametrize("cut", [1, 5, 40])
def test_a_line_that_a_kill_cut_off_is_not_there(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "gold.jsonl"
    gold.append(path, line("a", "yes"))
    whole = path.read_bytes()
    gold.append(path, line("b", "no"))
    path.write_bytes(path.read_bytes()[: -1 - cut])
    assert [one.id for one in gold.read(path)] == ["0:a"]
    gold.append(path, line("c", "no"))
    assert [one.id for one in gold.read(path)] == ["0:a", "0:c"]
    assert path.read_bytes().startswith(whole)


def test_a_line_that_only_lacks_its_end_counts(tmp_path: Path) -> None:
    path = tmp_path / "gold.jsonl"
    gold.append(path, line("a", "yes"))
    path.write_bytes(path.read_bytes()[:-1])
    assert [one.id for one in gold.read(path)] == ["0:a"]
    gold.append(path, line("b", "yes"))
    assert [one.id for one in gold.read(path)] == ["0:a", "0:b"]


GOOD = {"id": "0:a", "slots": "h", "answer": "yes", "by": "ann", "at": "t"}


@pytest.mark.parametrize(
    "plain",
    ["nonsense", "[]", "3", {}, GOOD | {"answer": 3}, GOOD | {"by": ""}, GOOD | {"round": "third"},
     GOOD | {"skip": "x"}, GOOD | {"seconds": "long"}, {key: GOOD[key] for key in ("id", "slots", "by", "at")}],
)  # fmt: skip
def test_a_damaged_line_is_named(tmp_path: Path, plain: Any) -> None:
    path = tmp_path / "gold.jsonl"
    text = plain if isinstance(plain, str) else json.dumps(plain)
    path.write_text(f"{json.dumps(GOOD)}\n\n{text}\n{json.dumps(GOOD)}\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"gold\.jsonl, line 3: this is no answer given by hand"):
        gold.read(path)


def test_two_processes_write_whole_lines(tmp_path: Path) -> None:
    path = tmp_path / "gold.jsonl"
    code = (
        "import sys; from pathlib import Path; from aasut.data.gold import Line, append\n"
        "for i in range(60):\n"
        "    append(Path(sys.argv[1]), Line(f'0:{i}', 'h', 'answer', sys.argv[2] * 3000, sys.argv[2], 't'))"
    )
    running = [subprocess.Popen([sys.executable, "-c", code, str(path), name]) for name in "xy"]
    assert [process.wait(60) for process in running] == [0, 0]
    lines = gold.read(path)
    for name in "xy":
        assert [one.id for one in lines if one.by == name] == [f"0:{i}" for i in range(60)]


def test_a_file_that_cannot_be_written_or_read(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be written: Not a directory"):
        gold.append(tmp_path / "file" / "gold.jsonl", line("a", "yes"))
    with pytest.raises(DataError, match="cannot be read"):
        gold.read(tmp_path / "folder")
    assert gold.read(tmp_path / "none.jsonl") == []
