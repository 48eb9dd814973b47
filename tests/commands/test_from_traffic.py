"""`aasut run --from-traffic` from end to end: a real record, a teacher over a socket that counts what it is asked."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from aasut import recipe as recipes
from aasut.data import gold, split
from aasut.gateway import harvest
from aasut.gateway.exchange import Decision, Exchange
from aasut.gateway.recorder import Recorder
from aasut.gateway.settings import Record
from aasut.progress import Progress
from chat_server import ChatServer, Reply, completion
from command_line import command
from small_run import RULES, sentences, write_table

PROMPT = "Say negative or positive.\n\nText: {text}"


def says(text: str) -> str:
    return next(answer for word, answer in RULES.items() if word in text)


def teacher(_number: int, body: dict[str, Any]) -> Reply:
    return completion(says(body["messages"][-1]["content"]))


def texts(count: int, seed: int) -> list[str]:
    return [row["text"] for row in sentences(count, seed)]


def asked(text: str, **more: Any) -> Exchange:
    """A request that the teacher answered."""
    prompt = more.pop("prompt", PROMPT)
    body = {"model": more.get("model", "big"), "messages": [{"role": "user", "content": prompt.format(text=text)}]}
    plain = completion(says(text))
    assert plain is not None
    given = {"model": "big", "status": 200, "usd": 0.5, "request": json.dumps(body).encode()}
    return Exchange(harvest.CHAT, **{**given, "response": json.dumps(plain[1]).encode(), **more})


def by_student(text: str) -> Exchange:
    return asked(text, by="student", decision=Decision("words", "c", "certified", 0.9, True))


def put(store: Path, exchanges: Sequence[Exchange], url: str = "") -> None:
    recorder = Recorder(store, Record())
    if url:
        recorder.event(harvest.UPSTREAM, url)
    for exchange in exchanges:
        exchange.at = time.time()
        recorder.put(exchange)
    recorder.close()


def write_recipe(folder: Path, url: str, **more: Any) -> Path:
    """A recipe with a table of human answers alone."""
    write_table(folder / "gold.csv", sentences(120, seed=7))
    endpoint = {"base_url": url, "model": "big", "api_key_env": "", "concurrency": 2}
    plain = {
        "name": "words",
        "task": {"kind": "classify", "labels": ["negative", "positive"], "prompt": PROMPT},
        "data": {
            "tables": [
                {"source": "gold.csv", "slots": {"text": "text"}, "id": "id", "group": {"column": "review"},
                 "label": {"column": "sentiment"}, "role": "gold"}
            ]
        },
        "teacher": {"endpoint": endpoint | {"usd_per_million_input_tokens": 1.0}, "max_usd": 1.0},
        "student": {"initialise": "linear"},
        "evaluate": {"timing_requests": 4},
    }  # fmt: skip
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(plain | more, sort_keys=False), encoding="utf-8")
    return path


def run(folder: Path, *more: object) -> tuple[dict[str, Any], str]:
    """The report of a run over the folder's traffic, and what it said."""
    words = ["run", folder / "recipe.yaml", "--from-traffic", "--store", folder / "traffic", "--root", folder / "runs"]
    code, out, err = command(*words, "--json", *more)
    assert code == 0, err
    return json.loads(out), err


def pool_of(folder: Path) -> set[str]:
    """Texts of the pool of the finished run."""
    plain = (folder / "runs" / "words" / "recipe.yaml").read_text(encoding="utf-8")
    source = yaml.safe_load(plain)["data"]["tables"][1]["source"]
    lines = (folder / "runs" / "words" / source).read_text(encoding="utf-8").splitlines()
    return {json.loads(line)["request"]["messages"][-1]["content"].split("Text: ")[1] for line in lines}


def test_recorded_inputs_are_labelled_without_a_call(tmp_path: Path) -> None:
    own, alone = texts(100, 1), texts(20, 2)
    with ChatServer(teacher) as server:
        write_recipe(tmp_path, server.url)
        mine = [asked(text) for text in own] + [by_student(text) for text in alone]
        mine += [asked("a song", prompt="Sing: {text}"), asked("late", fault="client_gone")]
        put(tmp_path / "traffic", mine, server.url)
        facts, said = run(tmp_path)
        questions = {question.split("Text: ")[1] for question in server.questions()}
        assert not questions & {*own, *alone}  # `test` alone was asked
        assert len(questions) == facts["verdict"]["n"] == facts["calls_made_now"]
        assert facts["ledger"]["calls_recorded"] == facts["conservation"]["label"]["in"] > 90
        assert facts["ledger"]["usd_reused"] == 0.0  # 50 dollars that the application paid, over the cap
        assert facts["conservation"]["recorded"]["kept"] == 100
        assert facts["conservation"]["traffic"] == {
            "in": 122, "kept": 100, "dropped": {harvest.BY_STUDENT: 20},
            "failed": {"does not match the prompt": 1, harvest.FAILED: 1},
        }  # fmt: skip
        assert "122 requests, 100 taken" in said
        assert pool_of(tmp_path) == set(own)
        asked_once = len(server.bodies)
        report = (tmp_path / "runs" / "words" / "report.json").read_bytes()
        again, _ = run(tmp_path)
        assert (again["calls_made_now"], len(server.bodies)) == (0, asked_once)
        assert (tmp_path / "runs" / "words" / "report.json").read_bytes() == report
        code, out, err = command("certify", "words", "--root", tmp_path / "runs", "--risk", "0.2", "--json")
        assert code == 0, err
        assert json.loads(out)["n"] > 0
        kept = json.loads((tmp_path / "runs" / "words" / "report.json").read_text(encoding="utf-8"))
        assert kept["conservation"]["traffic"] == facts["conservation"]["traffic"]


def test_more_traffic_goes_on_from_there_and_what_is_missing_is_bought(tmp_path: Path) -> None:
    own, alone = texts(60, 1), texts(30, 2)
    with ChatServer(teacher) as server:
        write_recipe(tmp_path, server.url)
        put(tmp_path / "traffic", [asked(text) for text in own])
        run(tmp_path)
        before = len(server.bodies)
        late = Decision("words", "c", "certified", 0.2, False, "score")
        put(tmp_path / "traffic", [by_student(text) for text in alone] + [asked("the poor menu", decision=late)])
        facts, _ = run(tmp_path, "--buy", 25)
        bought = [question.split("Text: ")[1] for question in server.questions()[before:]]
        assert set(bought) <= set(alone)
        assert len(bought) == len(set(bought)) == facts["calls_made_now"] > 20
        assert facts["conservation"]["traffic"]["kept"] == 60 + 25 + 1
        assert len(list((tmp_path / "runs" / "words").glob(f"{harvest.PREFIX}*.jsonl"))) == 1
        few, _ = run(tmp_path, "--most", 40)
        assert few["conservation"]["traffic"]["kept"] == 40
        assert "the poor menu" in pool_of(tmp_path)  # as a student passed it on
        assert few["calls_made_now"] == 0


def test_a_row_of_gold_does_not_leak_into_the_pool(tmp_path: Path) -> None:
    known = [row["text"] for row in sentences(120, seed=7)]
    with ChatServer(teacher) as server:
        path = write_recipe(tmp_path, server.url)
        put(tmp_path / "traffic", [asked(text) for text in [*texts(60, 1), known[0]]])
        words = ["run", path, "--from-traffic", "--store", tmp_path / "traffic", "--root", tmp_path / "runs", "--quiet"]
        code, _, err = command(*words)
        assert (code, "stand in a gold table too" in err) == (1, True)
        code, out, _ = command(*words, "--set", "data.overlap=drop", "--json")
        assert code == 0
        dropped = json.loads(out)["conservation"]["data"]["dropped"]
        assert sum(count for reason, count in dropped.items() if reason.startswith("duplicate of")) >= 1


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ("teacher.shots=2", "60 answer asked without worked examples"),
        ("teacher.endpoint.logprobs=true", "60 answer without the log-probabilities"),
        ("teacher.endpoint.model=other", "60 answer of another model"),
        ("teacher.endpoint.base_url=https://elsewhere/v1", "60 answer of another endpoint"),
        ("teacher.prompt='Good? {text}'", "60 answer asked with another prompt"),
        ("data.asked=asked.jsonl", "Leave it out"),
    ],
)
def test_a_recipe_that_asks_otherwise_is_told_so_before_anything_is_bought(
    tmp_path: Path, changes: str, says: str
) -> None:
    with ChatServer(teacher) as server:
        path = write_recipe(tmp_path, server.url)
        put(tmp_path / "traffic", [asked(text) for text in texts(60, 1)], server.url)
        words = ["run", path, "--from-traffic", "--store", tmp_path / "traffic", "--root", tmp_path / "runs"]
        code, _, err = command(*words, "--set", changes)
        assert (code, server.bodies) == (1, [])
        assert says in err


def test_a_kill_in_the_middle_of_buying_loses_nothing(tmp_path: Path) -> None:
    alone = texts(80, 2)

    def slow(number: int, body: dict[str, Any]) -> Reply:
        time.sleep(0.02)
        return teacher(number, body)

    with ChatServer(slow) as server:
        path = write_recipe(tmp_path, server.url)
        put(tmp_path / "traffic", [*(asked(text) for text in texts(60, 1)), *(by_student(text) for text in alone)])
        words = [sys.executable, "-m", "aasut", "run", path, "--from-traffic", "--store", tmp_path / "traffic"]
        words += ["--root", tmp_path / "runs", "--buy", 80, "--quiet"]
        process = subprocess.Popen(list(map(str, words)), env={**os.environ, "OMP_NUM_THREADS": "1"})
        while len(server.bodies) < 30:
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
        facts, _ = run(tmp_path, "--buy", 80)
        questions = server.questions()
        assert len(questions) - len(set(questions)) <= 2  # in flight at the kill
        assert facts["ledger"]["calls_recorded"] > 50
        assert facts["conservation"]["traffic"]["kept"] == 140


def answer_by_hand(path: Path) -> None:
    """What a person says of all rows that `aasut gold` may ask, as far as they do not fall into the pool."""
    recipe = recipes.load(path)
    found = split.unanswered(recipe, path.parent, Progress(quiet=True))
    place = gold.path_of(recipe, path.parent)
    assert place is not None
    for row in found.rows[:150]:
        seen = gold.slots_hash(row.slots, recipe.task.build().prompt.slots)
        said = says(row.slots["text"])
        gold.append(place, gold.Line(row.id, seen, "answer", said, "ann", "2026-01-01T00:00:00+00:00"))


def test_without_a_recipe_one_is_written_and_people_are_asked_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with ChatServer(teacher) as server:
        mine = [asked(text) for text in texts(260, 1)] + [asked(f"song {n}", prompt="Sing: {text}") for n in range(9)]
        mine += [asked(text, model="small") for text in texts(5, 3)]
        put(Path("traffic"), mine, server.url)
        code, _, err = command("run", "--from-traffic")
        assert (code, server.bodies) == (1, [])
        last = err.splitlines()[-1]
        assert "people have answered none of its rows yet" in last
        assert "aasut gold traffic.yaml, then: aasut run traffic.yaml --from-traffic" in last
        assert "9 written with other prompts, 5 asked of models other than big" in err
        written = recipes.load(Path("traffic.yaml"))
        assert written.teacher.endpoint is not None
        assert (written.teacher.endpoint.base_url, written.teacher.endpoint.model) == (server.url, "big")
        assert (written.task.kind, written.data.tables[0].id, written.data.tables[0].recorded) == (
            "classify",
            "id",
            True,
        )
        code, _, err = command("run", "--from-traffic")
        assert (code, "traffic.yaml is there already" in err) == (1, True)
        answer_by_hand(Path("traffic.yaml"))
        flags = ["--set", "teacher.endpoint.api_key_env=", "--set", "evaluate.timing_requests=4", "--json"]
        code, out, err = command("run", "traffic.yaml", "--from-traffic", *flags)
        assert code == 0, err
        facts = json.loads(out)
        assert (server.bodies, facts["calls_made_now"]) == ([], 0)  # the application asked all of these
        assert facts["conservation"]["gold"] == {"in": 150, "kept": 150, "dropped": {}, "failed": {}}
        assert facts["data"]["counts"]["test"] > 40
        old = Path("traffic", "traffic.db")
        old.unlink()  # what people answered outlives the record
        put(Path("traffic"), [asked(text) for text in texts(80, 5)], server.url)
        code, out, err = command("run", "traffic.yaml", "--from-traffic", *flags)
        assert code == 0, err
        assert json.loads(out)["conservation"]["gold"]["kept"] == 150


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["run"], "Give a RECIPE"),
        (["run", "r.yaml", "--buy", "3"], "go with --from-traffic"),
        (["run", "r.yaml", "--store", "t"], "go with --from-traffic"),
    ],
)
def test_flags_of_traffic_alone_are_refused(words: list[str], says: str) -> None:
    code, _, err = command(*words)
    assert (code, says in err) == (2, True)


def test_no_traffic_and_no_requests_are_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, err = command("run", "--from-traffic")
    assert (code, "There is no traffic in traffic" in err) == (1, True)
    put(Path("traffic"), [Exchange("/v1/models", status=200, response=b"{}")])
    code, _, err = command("run", "--from-traffic")
    assert (code, "No request in traffic can be used (1 no chat request)" in err) == (1, True)
    assert not Path("traffic.yaml").exists()
