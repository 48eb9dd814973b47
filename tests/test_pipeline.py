from __future__ import annotations

import json
import os
import time
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import yaml

import small_run
from aasut import pipeline, recipe
from aasut.data import split
from aasut.errors import AasutError, ConservationError, DataError, EngineError, RecipeError, StoreError
from aasut.pipeline import Run
from aasut.progress import Progress
from aasut.store import Store, folder_hash
from aasut.student.train import validation_rows
from aasut.types import Conservation

KEYS = {"name", "scale", "task", "data", "teacher", "student", "baselines", "verdict", "against_linear",
        "recommendation", "economics", "conservation", "ledger", "lineage", "licences", "test_opened", "disagreements",
        "panel", "training", "round_trip", "seconds"}  # fmt: skip
MODEL_KEYS = {"accuracy", "ci95", "requests_per_s", "tokens_per_request", "parameters_total", "parameters_active",
              "usd_per_million_requests"}  # fmt: skip


def run(path: Path, root: Path, *flags: str, scale: str = "full") -> Run:
    return pipeline.run(recipe.load(path, flags), path.parent, root, Progress(quiet=True), scale)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Run]:
    """A recipe file, and its run in the folder `runs` beside it. Not to be changed."""
    path = small_run.write_recipe(tmp_path_factory.mktemp("finished"))
    return path, run(path, path.parent / "runs")


def stages(found: Run) -> list[str]:
    return [entry["stage"] for entry in found.facts["lineage"]]


def test_the_report_has_the_keys_that_others_use(finished: tuple[Path, Run]) -> None:
    facts = finished[1].facts
    assert set(facts) >= KEYS
    for model in (facts["teacher"], facts["student"], *facts["baselines"].values()):
        assert set(model) >= MODEL_KEYS
        assert model["ci95"][0] <= model["accuracy"] <= model["ci95"][1]
    assert set(facts["verdict"]) >= {"result", "margin", "difference", "lower_bound", "more_examples_needed"}
    assert facts["verdict"]["result"] in ("non_inferior", "inferior", "undecided")
    assert set(facts["ledger"]) >= {"calls_made", "calls_reused", "usd_spent"}
    assert "majority" in facts["baselines"]


def test_the_numbers_of_the_run_fit_together(finished: tuple[Path, Run]) -> None:
    facts = finished[1].facts
    counts = facts["data"]["counts"]
    assert sum(counts.values()) == 120
    assert counts["test"] > 30
    rows = facts["conservation"]
    assert rows["data"] == {"in": 120, "kept": 120, "dropped": {}, "failed": {}}
    assert rows["label"]["in"] == rows["label"]["kept"] == counts["pool"]
    assert rows["evaluate"]["in"] == counts["test"]
    assert facts["ledger"]["calls_made"] == finished[1].calls_made == counts["pool"] + counts["test"]
    assert facts["teacher"]["accuracy"] == 1.0
    assert facts["student"]["accuracy"] > 0.9
    assert facts["baselines"]["majority"]["accuracy"] < 0.6
    assert facts["verdict"]["margin"] == 0.03
    assert facts["test_opened"] == 1
    assert stages(finished[1]) == ["data", "choose", "label", "linear", "export", "evaluate"]


def test_the_results_stand_where_people_look_for_them(finished: tuple[Path, Run]) -> None:
    folder = finished[1].folder
    assert folder == finished[0].parent / "runs" / "words"
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    student = {"student.json", "student/model.safetensors", "student/vocabulary.json"}
    assert files == student | {"report.json", "report.html", "card.md", "recipe.yaml"}
    assert json.loads((folder / "report.json").read_text(encoding="utf-8")) == finished[1].facts
    HTMLParser().feed((folder / "report.html").read_text(encoding="utf-8"))
    exported = finished[1].facts["lineage"][-2]["fingerprint"]
    assert folder_hash(folder / "student") == folder_hash(folder.parent / ".store" / "artefacts" / exported / "student")


def test_the_recipe_is_kept_beside_the_results_and_still_finds_its_files(
    finished: tuple[Path, Run], tmp_path: Path
) -> None:
    kept = finished[1].folder / "recipe.yaml"
    loaded = recipe.load(kept)
    source = Path(loaded.data.tables[0].source)
    assert not source.is_absolute()
    assert (kept.parent / source).resolve() == (finished[0].parent / "table.csv").resolve()
    as_before = yaml.safe_load(finished[0].read_text(encoding="utf-8"))
    as_before["data"]["tables"][0]["source"] = str(source)
    assert yaml.safe_load(kept.read_text(encoding="utf-8")) == as_before
    assert run(kept, tmp_path).facts["verdict"] == finished[1].facts["verdict"]


def test_the_second_run_asks_nothing_and_changes_nothing(finished: tuple[Path, Run]) -> None:
    path, first = finished
    before = {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in first.folder.rglob("*") if p.is_file()}
    again = run(path, path.parent / "runs")
    assert again.calls_made == 0
    assert again.facts == first.facts
    assert {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in first.folder.rglob("*") if p.is_file()} == before


def lineage(found: Run) -> dict[str, str]:
    return {entry["stage"]: entry["fingerprint"] for entry in found.facts["lineage"]}


def test_a_change_redoes_what_depends_on_it_alone(tmp_path: Path) -> None:
    path = small_run.write_recipe(tmp_path, rows=80)
    first = run(path, tmp_path / "runs")
    price = run(path, tmp_path / "runs", "economics.utilisation=0.2")
    assert lineage(price) == lineage(first)
    assert price.facts["economics"]["utilisation"] == 0.2
    assert price.calls_made == 0
    assert price.facts["test_opened"] == 1
    rules = {"great": "positive", "": "negative"}
    teacher = run(path, tmp_path / "runs", f"teacher.scripted={json.dumps(rules)}")
    same = {stage for stage, fingerprint in lineage(teacher).items() if fingerprint == lineage(first)[stage]}
    assert same == {"data"}
    assert teacher.calls_made == first.calls_made  # another teacher: no answer is taken from the first one's
    assert teacher.facts["teacher"]["accuracy"] < 0.9
    assert teacher.facts["test_opened"] == 2
    assert run(path, tmp_path / "runs").facts == first.facts


def test_the_margin_stands_fast_once_test_was_opened(tmp_path: Path) -> None:
    path = small_run.write_recipe(tmp_path, rows=160)
    before = time.time()
    first = run(path, tmp_path / "runs")
    recorded = first.facts["margin_recorded"]
    assert {k: recorded[k] for k in ("margin", "confidence", "metrics")} == {
        "margin": 0.03, "confidence": 0.95, "metrics": ["accuracy", "macro_f1"],
    }  # fmt: skip
    assert before <= recorded["at"] <= time.time()
    kept = {p: p.read_bytes() for p in first.folder.rglob("*") if p.is_file()}
    for flag, was in (
        ("evaluate.margin=0.2", "Set evaluate.margin to 0.03, or"),
        ("evaluate.confidence=0.8", "Set evaluate.confidence to 0.95, or"),
        ("evaluate.metrics=[]", r"Set evaluate.metrics to \[accuracy, macro_f1\], or"),
    ):
        with pytest.raises(RecipeError, match=was) as caught:
            run(path, tmp_path / "runs", flag)
        assert "was recorded for this `test` split on 20" in caught.value.message
        assert "\n" not in str(caught.value)
    assert {p: p.read_bytes() for p in first.folder.rglob("*") if p.is_file()} == kept
    small = run(path, tmp_path / "runs", "evaluate.margin=0.2", scale="ci")  # at most 48 rows of it: another split
    assert (small.facts["margin_recorded"]["margin"], small.facts["verdict"]["margin"]) == (0.2, 0.2)
    small_run.write_table(tmp_path / "table.csv", small_run.sentences(180))  # so do new human answers give
    assert run(path, tmp_path / "runs", "evaluate.margin=0.2").facts["margin_recorded"]["margin"] == 0.2


def test_a_margin_may_change_until_test_is_opened(tmp_path: Path) -> None:
    plain = small_run.recipe(teacher={"scripted": {"": "no answer at all"}})
    path = small_run.write_recipe(tmp_path, plain, rows=80)
    with pytest.raises(AasutError):
        run(path, tmp_path / "runs")  # ends before test is opened
    small_run.write_recipe(tmp_path, rows=80)
    found = run(path, tmp_path / "runs", "evaluate.margin=0.2").facts
    assert (found["margin_recorded"]["margin"], found["test_opened"]) == (0.2, 1)


def test_metrics_are_compared_beside_the_verdict(finished: tuple[Path, Run]) -> None:
    facts = finished[1].facts
    accuracy, macro = facts["metrics"]
    assert [row["name"] for row in facts["metrics"]] == ["accuracy", "macro_f1"]
    assert accuracy["lower_bound"] == facts["verdict"]["lower_bound"]
    assert accuracy["ci"] == facts["verdict"]["ci"]
    assert macro["student"] == pytest.approx(facts["student"]["macro_f1"])
    assert macro["teacher"] == pytest.approx(facts["teacher"]["macro_f1"])
    page = (finished[1].folder / "report.html").read_text(encoding="utf-8")
    assert 'id="metrics"' in page
    assert 'id="margin-recorded"' in page


def test_calls_that_no_human_answer_makes_are_refused_before_anything_is_asked(tmp_path: Path) -> None:
    plain = small_run.recipe(
        task={"kind": "generate", "prompt": "Text: {text}"},
        student={"initialise": "pretrained", "model": {"address": "file:nowhere"}},
        evaluate={"metrics": ["tool_calls"]},
    )
    path = small_run.write_recipe(tmp_path, plain, rows=80)
    with pytest.raises(DataError, match="No human answer in `test` calls a tool"):
        run(path, tmp_path / "runs")


@pytest.mark.parametrize(
    "changes", [{"export": {"engine": "vllm"}}, {"teacher": {"model": {"address": "teacher"}, "engine": "vllm"}}]
)
def test_an_engine_that_is_not_installed_is_told_of_before_anything_is_asked(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    path = small_run.write_recipe(tmp_path, small_run.recipe(**changes))
    with pytest.raises(EngineError, match=r"The engine vllm is not installed"):
        run(path, tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_a_changed_table_is_read_again(tmp_path: Path) -> None:
    path = small_run.write_recipe(tmp_path, rows=80)
    first = run(path, tmp_path / "runs")
    small_run.write_table(tmp_path / "table.csv", small_run.sentences(82))
    second = run(path, tmp_path / "runs")
    assert lineage(second)["data"] != lineage(first)["data"]
    assert sum(second.facts["data"]["counts"].values()) == 82
    assert 0 < second.calls_made < first.calls_made


def test_two_folders_give_the_same_bytes(tmp_path: Path, finished: tuple[Path, Run]) -> None:
    again = run(finished[0], tmp_path)
    assert again.facts["lineage"] == finished[1].facts["lineage"]
    assert again.facts["student"]["file_sha256"] == finished[1].facts["student"]["file_sha256"]


def test_more_labels_and_slots(tmp_path: Path) -> None:
    """Five labels, two slots, Devanagari, groups of several rows, a table for the pool and one for the answers."""
    labels = ["बिल", "रिफंड", "billing_refund", "billing_dispute", "other"]
    gold, pool = [], []
    for i in range(150):
        label = labels[i % 5]
        row = {
            "id": f"{i}",
            "who": f"c{i // 3}",
            "title": f"case {i} {label}",
            "body": f"नमस्ते {'abcdefghij'[i % 10] * 9} {i * i}",
        }
        (gold if i % 3 == 0 else pool).append(row | ({"label": label} if i % 3 == 0 else {}))
    small_run.write_table(tmp_path / "gold.csv", gold)
    small_run.write_table(tmp_path / "pool.csv", pool)
    slots = {"title": "title", "body": "body"}
    plain = small_run.recipe(
        task={"labels": labels, "prompt": "Title: {title}\n---\n{body}"},
        data={
            "tables": [
                {"source": "pool.csv", "slots": slots, "id": "id", "role": "pool"},
                {"source": "gold.csv", "slots": slots, "id": "id", "role": "gold", "label": {"column": "label"}},
            ],
            "split": {"pool": 0, "tune": 1, "calibrate": 1, "test": 3},
        },
        teacher={"scripted": {label: label for label in labels}},
    )
    path = small_run.write_recipe(tmp_path, plain)
    found = run(path, tmp_path / "runs")
    assert found.facts["task"]["answers"] == labels
    assert found.facts["teacher"]["accuracy"] == 1.0
    assert len(found.facts["student"]["confusion"]) == 5
    assert found.facts["data"]["counts"]["pool"] == 100


def test_ci_scale_is_small_and_named_otherwise(finished: tuple[Path, Run], tmp_path: Path) -> None:
    found = run(finished[0], tmp_path, scale="ci")
    assert found.folder == tmp_path / "words-ci"
    assert found.facts["scale"] == "ci"
    assert max(found.facts["data"]["counts"].values()) <= 24


def test_two_runs_in_one_folder_do_not_mix(finished: tuple[Path, Run]) -> None:
    path, _ = finished
    with Store(path.parent / "runs" / ".store"), pytest.raises(StoreError, match="Another aasut run"):
        run(path, path.parent / "runs")


def test_an_artefact_that_was_damaged_is_noticed(tmp_path: Path) -> None:
    path = small_run.write_recipe(tmp_path, rows=40)
    first = run(path, tmp_path / "runs")
    labels = tmp_path / "runs" / ".store" / "artefacts" / lineage(first)["label"] / "labels.jsonl"
    labels.write_text(labels.read_text().replace("1.0", "0.9", 1))
    with Store(tmp_path / "runs" / ".store") as store:
        assert store.verify() == [f"label {lineage(first)['label']}: its files changed"]


def test_a_published_file_that_was_changed_or_lost_is_put_back(tmp_path: Path) -> None:
    path = small_run.write_recipe(tmp_path, rows=40)
    folder = run(path, tmp_path / "runs").folder
    whole = (folder / "card.md").read_text(), (folder / "student.json").read_text()
    (folder / "card.md").write_text("something else")
    (folder / "student.json").unlink()
    run(path, tmp_path / "runs")
    assert ((folder / "card.md").read_text(), (folder / "student.json").read_text()) == whole


def test_rows_lost_in_a_stage_stop_the_run(tmp_path: Path) -> None:
    """A build that drops a row without counting it, in the store that every stage goes through."""
    with Store(tmp_path) as store, pytest.raises(ConservationError, match="defect"):
        store.stage("label", 1, {}, [], lambda _: {"conservation": {"label": Conservation(9, 8)}})


EMPTY = {"source": "empty.csv", "slots": {"text": "text"}, "role": "pool"}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"data": {"tables": [EMPTY]}}, "empty"),
        ({"data": small_run.RECIPE["data"] | {"split": {"pool": 0}}}, "The pool is empty"),
        ({"data": small_run.RECIPE["data"] | {"split": {"pool": 1, "test": 0}}}, "no human answers in test"),
    ],
)
def test_data_that_cannot_make_a_run(tmp_path: Path, change: dict[str, Any], says: str) -> None:
    small_run.write_table(tmp_path / "empty.csv", [])
    path = small_run.write_recipe(tmp_path, small_run.recipe(**change))
    with pytest.raises(DataError, match=says):
        run(path, tmp_path / "runs")
    assert not (tmp_path / "runs" / "words").exists()


def test_a_rare_answer_does_not_break_the_linear_model(tmp_path: Path) -> None:
    """One input alone has the other answer, and it is among those that are kept out of the fit at first."""
    path = small_run.write_recipe(tmp_path)
    plain = yaml.safe_load(path.read_text())
    split.build(recipe.parse(plain, "recipe"), tmp_path, tmp_path, Progress(quiet=True))
    pool = split.load(tmp_path, "pool")
    held = validation_rows([example.group for example in pool], 0.1, recipe.Recipe.model_fields["seed"].default)
    plain["teacher"] = {"scripted": {pool[held[0]].slots["text"]: "negative", "": "positive"}}
    path.write_text(yaml.safe_dump(plain))
    found = run(path, tmp_path / "runs")
    assert found.facts["panel"]["answers"] == {"negative": 1, "positive": len(pool) - 1}


def test_nothing_is_left_half_made(finished: tuple[Path, Run]) -> None:
    root = finished[1].folder.parent
    assert os.listdir(root / ".store" / "work") == []
    assert list(root.rglob("*.partial")) == []


def test_a_schema_that_decoding_cannot_follow_is_refused_before_anything_is_done(tmp_path: Path) -> None:
    for part in ({"not": {}}, {"$ref": "#/nowhere"}):
        task = {"kind": "extract", "prompt": "{text}", "schema": {"type": "object", "properties": {"a": part}}}
        path = small_run.write_recipe(tmp_path, small_run.recipe(task=task, student={"model": {"address": "file:x"}}))
        with pytest.raises(RecipeError, match=r"task\.schema cannot be followed") as caught:
            pipeline.run(recipe.load(path), tmp_path, tmp_path / "runs", Progress(quiet=True))
        assert "\n" not in str(caught.value)
        assert not (tmp_path / "runs").exists()


def test_judges_look_at_answers_that_the_student_was_not_trained_on(tmp_path: Path) -> None:
    """A noun makes the human answer the other one, so that both models err; the judge knows it most of the time."""
    rules = {"Which answer": "A", "camera": "wrong", "lens": "wrong", "": "right"}
    plain = small_run.recipe(judges=[{"scripted": rules, "rubric": "Be right.", "unlabelled": 100}])
    path = small_run.write_recipe(tmp_path, plain)
    rows = small_run.sentences(500)
    other = {"positive": "negative", "negative": "positive"}
    for row in rows:
        row["sentiment"] = other[row["sentiment"]] if "camera" in row["text"] else row["sentiment"]
    small_run.write_table(tmp_path / "table.csv", rows)
    facts = run(path, tmp_path / "runs").facts
    judged, rows_of = facts["judged"], facts["conservation"]
    assert rows_of["label"]["dropped"] == {"kept aside for judges": 100}
    assert rows_of["judge 1, correctness"]["in"] == facts["data"]["counts"]["test"] + 100
    correct = judged["correctness"]
    assert correct["sensitivity"][0] < 1
    assert correct["specificity"][0] == 1
    assert correct["corrected"][1] < facts["student"]["accuracy"] < correct["corrected"][2]
    assert correct["corrected"][1] > correct["raw"]
    assert (
        judged["ppi"]["ci"][1] - judged["ppi"]["ci"][0] < judged["ppi"]["classical"][2] - judged["ppi"]["classical"][1]
    )
    assert judged["preference"]["student_wins"] == judged["preference"]["teacher_wins"] == 0  # it always says A
    assert facts["ledger"]["calls_made"] == rows_of["label"]["kept"] + facts["data"]["counts"]["test"]
    assert judged["ledger"]["calls_made"] >= rows_of["judge 1, correctness"]["in"]
    assert facts["test_opened"] == 1
    page = (tmp_path / "runs" / "words" / "report.html").read_text(encoding="utf-8")
    assert 'id="judged"' in page
    assert "corrected for these errors" in page
    again = run(path, tmp_path / "runs", "judges=[]")
    assert again.facts["judged"] is None
    assert run(path, tmp_path / "runs").calls_made == 0
