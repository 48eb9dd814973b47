"""`aasut init` from end to end: real files in, a commented recipe out that loads, and runs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from aasut import pipeline, recipe
from aasut.errors import AasutError, DataError, RecipeError
from aasut.init.start import init
from aasut.progress import Progress
from aasut.recipe import Recipe
from aasut.sources import tables
from aasut.types import Message
from prose import Prose
from small_run import sentences, write_table

QUIET = Progress(quiet=True)
TEACHER = "teacher={scripted: {great: positive, lovely: positive, solid: positive, '': negative}}"


def written(folder: Path, name: str, data: bytes | str | None = None) -> tuple[Recipe, dict[str, Any], str]:
    """The recipe for a file, what was found, and the recipe's text; the recipe reads the file without faults."""
    if data is not None:
        (folder / name).write_bytes(data.encode() if isinstance(data, str) else data)
    out = folder / "recipe.yaml"
    found = init(folder / name, out, QUIET, force=True)
    loaded = recipe.load(out)
    read = tables.read(loaded.data.tables[0], task=loaded.task.build(), base=folder, progress=QUIET)
    assert read.rows_in == len(read.examples) + sum(read.failed.values())
    assert read.failed == found["unusable"]
    assert sum(read.failed.values()) <= loaded.data.max_failed * read.rows_in
    text = out.read_text(encoding="utf-8")
    assert all("#" in line or line.strip() for line in text.splitlines() if "EDIT" in line)
    return loaded, found, text


def lines(rows: list[Any]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def test_a_labelled_csv_runs_with_a_scripted_teacher(tmp_path: Path) -> None:
    write_table(tmp_path / "table.csv", sentences(160))
    loaded, found, text = written(tmp_path, "table.csv")
    table = loaded.data.tables[0]
    assert (dict(table.slots), table.id, table.label and table.label.column) == ({"text": "text"}, "id", "sentiment")
    assert table.group is not None
    assert table.group.column == "review"
    assert (loaded.name, loaded.student.initialise) == ("table", "linear")
    assert loaded.task.labels == ["negative", "positive"]  # type: ignore[union-attr]
    assert "# The values of the column sentiment: negative 80, positive 80." in text
    assert "# 80 groups; the rows of one stay together" in text
    assert found["rows"] == 160
    ran = pipeline.run(recipe.load(tmp_path / "recipe.yaml", [TEACHER]), tmp_path, tmp_path / "runs", QUIET, "full")
    assert ran.facts["verdict"]["result"] in ("non_inferior", "undecided", "inferior")
    assert ran.facts["teacher"]["accuracy"] == 1.0


@pytest.mark.parametrize(
    ("name", "data", "expected"),
    [
        ("a.csv", "text;label\n" + "".join(f"Gerät Nr {n} größer;{'gut' if n % 2 else 'schlecht'}\n" for n in range(60)),
         {"delimiter": ";", "encoding": "utf-8"}),
        ("b.csv", ("text|label\n" + "".join(f"Gerät Nr {n} größer|{'gut' if n % 2 else 'schlecht'}\n"
                                              for n in range(60))).encode("latin-1"),
         {"delimiter": "|", "encoding": "latin-1"}),
        ("c.csv", ("\ufefftext,label\r\n" + "".join(f'"यह फ़ोन {n}\nअच्छा, है",{"हाँ" if n % 2 else "नहीं"}\r\n'
                                                      for n in range(60))),
         {"delimiter": ",", "encoding": "utf-8"}),
        ("d.txt", "".join(f'"a phone, number {n}",{"yes" if n % 2 else "no"}\n' for n in range(60)).encode("utf-16"),
         {"columns": ["column_1", "column_2"], "encoding": "utf-16", "format": "csv"}),
        ("e.tsv", "text\tlabel\n" + "".join(f'say "so {n}\t{"a" if n % 2 else "b"}\n' for n in range(60)),
         {"format": "tsv"}),
        ("f.jsonl", lines([{"text": f"a phone {n}", "label": n % 3, "meta": {"n": [n]}} for n in range(60)]),
         {"format": "jsonl"}),
    ],
    ids=["semicolons", "latin-1", "hindi with a mark", "utf-16 without a header", "tsv", "nested json"],
)  # fmt: skip
def test_labelled_files_of_many_shapes(tmp_path: Path, name: str, data: bytes | str, expected: dict[str, Any]) -> None:
    loaded, found, _ = written(tmp_path, name, data)
    table = loaded.data.tables[0]
    assert {field: getattr(table, field) for field in expected} == expected
    assert found["task"] == "classify"
    assert table.role == "both"
    assert len(tables.read(table, task=loaded.task.build(), base=tmp_path, progress=QUIET).examples) == 60


def test_a_parquet_file_with_a_rating(tmp_path: Path) -> None:
    prose = Prose(1)
    columns = {"review": [prose.sentence(10) for _ in range(90)], "stars": [n % 5 + 1 for n in range(90)]}
    pq.write_table(pa.table(columns), tmp_path / "t.parquet")
    loaded, _, text = written(tmp_path, "t.parquet")
    label = loaded.data.tables[0].label
    assert label is not None
    assert [(r.label, r.at_least, r.at_most) for r in label.ranges] == [("negative", None, 2), ("positive", 4, None)]
    assert "# EDIT: numbers from 1 to 5" in text


def test_a_table_without_answers_is_a_pool_for_which_people_are_asked(tmp_path: Path) -> None:
    prose = Prose(2)
    loaded, found, text = written(tmp_path, "t.jsonl", lines([{"body": prose.sentence(12)} for _ in range(50)]))
    assert (loaded.data.tables[0].role, loaded.data.tables[0].label) == ("pool", None)
    assert found["task"] is None
    assert "aasut gold" in text
    assert "aasut gold" in found["summary"][-1]
    assert "EDIT: no column of the table tells the labels" in text


def asked(text: str, said: str | None, system: str = "Sort the mail.\nTeams: sales, support.") -> dict[str, Any]:
    body = {"model": "big-1", "messages": [{"role": "system", "content": system}, {"role": "user", "content": text}]}
    reply = {"choices": [{"message": {"role": "assistant", "content": said}}]}
    return {"request": body, "response": reply if said is not None else None}


def test_a_log_of_requests_and_answers(tmp_path: Path) -> None:
    prose = Prose(3)
    rows = [asked(f"Mail: {prose.document(300)}\nTeam:", ["sales", "Support."][n % 2]) for n in range(120)]
    rows += [asked(f"Shorten this for a busy reader:\n{prose.document(200)}", prose.sentence(), "Be brief.")
             for _ in range(30)]  # fmt: skip
    loaded, found, text = written(tmp_path, "log.jsonl", lines(rows))
    assert loaded.task.build().prompt.plain() == [
        ["system", "Sort the mail.\nTeams: sales, support."],
        ["user", "Mail: {mail}\nTeam:"],
    ]
    assert found["labels"] == {"sales": 60, "Support": 60}
    assert (found["read"], found["other_prompts"], found["model"]) == (120, 30, "big-1")
    assert loaded.data.tables[0].role == "pool"
    assert loaded.data.max_failed == pytest.approx(0.25)
    assert loaded.teacher.endpoint is not None
    assert loaded.teacher.endpoint.model == "big-1"
    assert "30 requests were written with other prompts" in text


def test_a_log_of_objects_and_a_log_of_prose(tmp_path: Path) -> None:
    prose = Prose(4)
    rows = [asked(f"Order: {prose.sentence()}", json.dumps({"item": prose.sentence(1), "count": n})) for n in range(40)]
    loaded, found, _ = written(tmp_path, "extract.jsonl", lines(rows))
    assert (loaded.task.kind, found["task"], loaded.student.initialise) == ("extract", "extract", "pretrained")
    schema = json.loads(loaded.task.build().schema)
    assert schema["required"] == ["item", "count"]
    assert loaded.task.build().canonical('{"count": 3, "item": "x"}') == '{"item": "x", "count": 3}'
    rows = [asked(f"Text: {prose.document(300)}", prose.document(200)) for _ in range(40)]
    loaded, found, text = written(tmp_path, "prose.jsonl", lines(rows))
    assert (loaded.task.kind, loaded.student.initialise) == ("generate", "pretrained")
    assert loaded.task.build().max_tokens == 128
    assert "The longest answer that was seen has 200 characters." in text


def test_a_batch_and_its_answers_in_one_file(tmp_path: Path) -> None:
    prose = Prose(5)
    turns = [[{"role": "user", "content": f"T: {prose.sentence()}"}] for _ in range(40)]
    body = [{"custom_id": f"c{n}", "body": {"model": "m", "messages": turns[n]}} for n in range(40)]
    replies = [{"custom_id": f"c{n}", "response": {"body": {"choices": [{"message": {"content": "ab"[n % 2]}}]}}}
               for n in range(40)]  # fmt: skip
    loaded, found, _ = written(tmp_path, "batch.jsonl", lines([*body, *replies]))
    assert found["labels"] == {"a": 20, "b": 20}
    assert loaded.data.tables[0].id == "custom_id"
    (tmp_path / "batch.jsonl").write_text(lines(replies))
    with pytest.raises(DataError, match="an answer without its request: 40"):
        init(tmp_path / "batch.jsonl", tmp_path / "other.yaml", QUIET)


def test_text_of_any_kind_survives_the_recipe(tmp_path: Path) -> None:
    prose = Prose(6)
    system = 'A: "b" {c} # d\n  indented\n\ttab: - x\r\n\u2028यह \U0001f600 & *e %f @g `h` |\n\n'
    rows = [asked(f"<mail>\n{prose.sentence()}\n</mail>\n", "ab"[n % 2], system) for n in range(40)]
    loaded, _, _ = written(tmp_path, "लॉग: #1.jsonl", lines(rows))
    template = loaded.task.build().prompt
    sent = (Message("system", system), Message("user", "<mail>\nyes: {no}\n</mail>\n"))
    assert template.render({"mail": "yes: {no}"}) == sent
    assert template.read(sent) == {"mail": "yes: {no}"}
    odd = [{"text: #": f"a phone {n}", "la'bel": ["no", "yes: #", "[x", "1"][n % 4]} for n in range(80)]
    loaded, found, _ = written(tmp_path, "odd.jsonl", lines(odd))
    assert sorted(found["labels"]) == ["1", "[x", "no", "yes: #"]


@pytest.mark.parametrize("column", ["name", "12", "व्यक्ति", "class", "a.b c", "{x}", "text!"])
def test_any_column_name_becomes_a_slot(tmp_path: Path, column: str) -> None:
    rows = [{column: f"some phone {n}", "y": "ab"[n % 2]} for n in range(40)]
    loaded, _, _ = written(tmp_path, "t.jsonl", lines(rows))
    assert list(loaded.data.tables[0].slots.values()) == [column]


def test_an_unusable_share_of_rows_is_told_and_allowed(tmp_path: Path) -> None:
    rows = "".join(f"a phone {n},{'yes' if n % 2 else 'no'}{',x' if n % 10 == 0 else ''}\n" for n in range(100))
    loaded, found, text = written(tmp_path, "t.csv", "text,label\n" + rows)
    assert found["unusable"] == {"wrong number of fields": 10}
    assert loaded.data.max_failed == pytest.approx(0.13)
    assert "# Rows that cannot be used: wrong number of fields 10." in text


def test_the_path_in_the_recipe_is_relative_to_it(tmp_path: Path) -> None:
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "data").mkdir()
    write_table(tmp_path / "data" / "table.csv", sentences(40))
    init(tmp_path / "data" / "table.csv", tmp_path / "deep" / "er" / "r.yaml", QUIET)
    assert recipe.load(tmp_path / "deep" / "er" / "r.yaml").data.tables[0].source == "../../data/table.csv"


def test_a_recipe_is_not_written_over_unless_asked(tmp_path: Path) -> None:
    write_table(tmp_path / "table.csv", sentences(40))
    out = tmp_path / "recipe.yaml"
    out.write_text("mine")
    with pytest.raises(RecipeError, match="is there already"):
        init(tmp_path / "table.csv", out, QUIET)
    assert out.read_text() == "mine"
    init(tmp_path / "table.csv", out, QUIET, force=True)
    assert out.read_text() != "mine"


@pytest.mark.parametrize(
    ("name", "data", "says"),
    [
        ("t.csv", b"", "is empty"),
        ("t.csv", b"text,label\n", "but no rows"),
        ("t.csv", bytes(range(256)) * 9, "is no text file"),
        ("t.csv", b"id,n\n1,2\n3,4\n", "No column of .* holds text"),
        ("t.csv", b'text,label\n"a b",x\n"c d,y\nmore\nmore\n', "never closed"),
        ("t.jsonl", lines([{"deep": {"text": "a b c"}}] * 20).encode(), "No column of .* holds text"),
        ("t.jsonl", lines([{"messages": [{"role": "user", "content": "same"}]}] * 9).encode(), "all the same"),
        ("t.jsonl", lines([{"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}] * 9).encode(),
         "holds more than text: 9"),
    ],
)  # fmt: skip
def test_what_cannot_be_learned_from_leaves_no_recipe(tmp_path: Path, name: str, data: bytes, says: str) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(AasutError, match=says) as caught:
        init(tmp_path / name, tmp_path / "recipe.yaml", QUIET)
    assert caught.value.remedy
    assert [path.name for path in tmp_path.iterdir()] == [name]


def aasut(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "aasut", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)


def test_the_command(tmp_path: Path) -> None:
    write_table(tmp_path / "table.csv", sentences(40))
    ran = aasut(tmp_path, "init", "table.csv")
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.splitlines()[0] == "table.csv: csv, utf-8; looked at all 40 rows"
    assert "task        classify: negative 20, positive 20" in ran.stdout
    assert recipe.load(tmp_path / "recipe.yaml").name == "table"
    again = aasut(tmp_path, "init", "table.csv")
    assert (again.returncode, again.stdout) == (1, "")
    assert "recipe.yaml is there already" in again.stderr
    facts = json.loads(aasut(tmp_path, "init", "table.csv", "--force", "--json").stdout)
    assert (facts["input"], facts["labels"]) == ("text", {"negative": 20, "positive": 20})
    gone = aasut(tmp_path, "init", "gone.csv", "--out", "other.yaml")
    assert (gone.returncode, "gone.csv is not there" in gone.stderr) == (1, True)
    assert len(gone.stderr.splitlines()) == 1
