"""Whole runs that learn a teacher's distributions: what it offers decides how, and nothing is lost on the way."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import reference
import small_run
import test_text_tasks as texts
from aasut import recipe
from aasut.data import label, split
from aasut.errors import DataError, RecipeError
from aasut.forecast import work as works
from aasut.forecast.forecast import forecast
from aasut.forecast.rehearse import Rehearsal
from aasut.formats.tokenizer import Tokenizer
from aasut.pipeline import Run
from aasut.progress import Progress
from aasut.store import Store
from aasut.student.logit_cache import HEADER, Binding, Cache
from aasut.teacher import chat
from aasut.teacher.scripted import ScriptedTeacher
from chat_server import ChatServer, Reply


@pytest.fixture(scope="module")
def taught(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model that answers the inputs of `texts`: a student of a scripted teacher. Not to be changed."""
    path = texts.write_run(tmp_path_factory.mktemp("teacher"), "generate", tiny_llama)
    return texts.run(path).folder / "student"


def write_run(folder: Path, teacher: dict[str, Any], student: Path, **settings: Any) -> Path:
    """A recipe with this teacher, and a student that starts from the model `student`."""
    path = texts.write_run(folder, "generate", student)
    plain = yaml.safe_load(path.read_text())
    plain["teacher"] = {"max_failed": 0.5, **teacher}
    plain["student"] |= {"epochs": 30} | settings
    path.write_text(yaml.safe_dump(plain, sort_keys=False))
    return path


def local(model: Path, prompt: str = "{text} =") -> dict[str, Any]:
    return {"model": {"address": f"file:{model}"}, "prompt": prompt, "precision": "float32"}


def stages(found: Run) -> dict[str, str]:
    return {entry["stage"]: entry["content"] for entry in found.facts["lineage"]}


@pytest.fixture(scope="module")
def cached(taught: Path, tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Run]:
    """(recipe, finished run) by a logit cache. Not to be changed."""
    path = write_run(tmp_path_factory.mktemp("cached"), local(taught), tiny_llama)
    return path, texts.run(path)


def test_a_local_teacher_with_the_students_tokenizer_is_learned_from_a_cache(cached: tuple[Path, Run]) -> None:
    path, found = cached
    training, rows = found.facts["training"], found.facts["conservation"]
    assert (training["method"]["name"], training["method"]["chosen"]) == ("cached_kd", True)
    assert "the local teacher has the student's tokenizer" in training["method"]["reason"]
    assert {"logits", "train"} <= set(stages(found))
    assert rows["logits"]["in"] == rows["logits"]["kept"] == training["logits"]["texts"] == rows["train"]["kept"]
    assert training["logits"]["tokens"] > 4 * rows["logits"]["kept"]
    assert found.facts["student"]["accuracy"] > 0.8
    again = texts.run(path)
    assert (again.calls_made, again.facts) == (0, found.facts)


def test_what_a_student_learns_is_nearer_to_the_teacher_than_its_texts_are(cached: tuple[Path, Run]) -> None:
    """The validation loss is a divergence from the teacher, zero for a perfect student; on texts it has a floor."""
    assert 0 <= cached[1].facts["training"]["best_loss"] < 0.5


def test_each_token_has_the_teachers_distribution_behind_its_own_prompt(
    cached: tuple[Path, Run], taught: Path, tiny_llama: Path
) -> None:
    """The cache against transformers alone, by example: what is kept of a distribution is within a share of it."""
    found = cached[1]
    model, tokenizer = reference.load(taught), Tokenizer.load(taught)
    inputs = {e.id: e.slots["text"] for e in split.load(texts.artefact(found, "data"), "pool")}
    folder = texts.artefact(found, "logits")
    kept = Cache.open(folder, Binding(**json.loads((folder / HEADER).read_text())["binding"]))
    labels = label.load(texts.artefact(found, "label"))[::7]
    for one in labels:
        prompt, answer = tokenizer.encode(f"{inputs[one.id]} ="), tokenizer.encode(f" {one.texts[0]}")
        logits = model(torch.tensor([[*prompt, *answer]])).logits[0, len(prompt) - 1 : -1]
        target = kept.sparse(f"{one.id}#0", answer)
        mass = torch.zeros_like(logits).scatter_add_(1, target.ids, target.mass)
        p = torch.softmax(logits.detach(), dim=1)
        likely = p > 0.2
        assert likely.any()
        assert float((mass - p)[likely].abs().max()) < 0.02
    assert len(labels) > 5


def test_a_forecast_counts_the_stage(cached: tuple[Path, Run], tmp_path: Path) -> None:
    path, found = cached
    for root, done in ((tmp_path, False), (path.parent / "runs", True)):
        said = forecast(recipe.load(path), path.parent, root, Progress(quiet=True), probing=False)
        (line,) = (line for line in said.lines if line.stage == "logits")
        assert line.reused == done
        assert (line.seconds > 0 < line.gigabytes) == (not done)
        assert said.how["method"].startswith("cached_kd, as the local teacher has")
    kept = texts.artefact(found, "logits")
    size = sum(file.stat().st_size for file in kept.iterdir() if file.suffix == ".safetensors")
    assert size < 40 * found.facts["training"]["logits"]["tokens"] + 2000


@pytest.mark.parametrize(("method", "stage"), [("cached_kd", "logits"), ("live_kd", "train")])
def test_a_forecast_counts_what_the_teacher_reads(
    taught: Path, tiny_llama: Path, tmp_path: Path, method: str, stage: str
) -> None:
    path = write_run(tmp_path / "run", local(taught), tiny_llama, method=method, epochs=3)
    loaded = recipe.load(path)
    with Store(tmp_path / ".store") as store:
        rehearsal = Rehearsal(loaded, path.parent, store, Progress(quiet=True), tmp_path)
        work = works.count(rehearsal, rehearsal.rehearse("full"))
    rows = len(work.rows) + len(work.validation)
    once = sum(len(row.ids) for row in (*work.rows, *work.validation)) - rows  # teacher and student read the same
    often = 3 * len(work.rows) + work["train"].units["train.checks"] * len(work.validation)
    assert work[stage].units["teacher.read"] == pytest.approx(
        once * (1 if stage == "logits" else often / rows), rel=0.3
    )
    assert work.total("teacher.load") == 1


def test_another_student_of_the_same_kind_shares_the_cache(cached: tuple[Path, Run]) -> None:
    other = texts.run(cached[0], "student.initialise=pruned", "student.shape={layers: 1}", "name=other")
    assert stages(other)["logits"] == stages(cached[1])["logits"]
    assert stages(other)["train"] != stages(cached[1])["train"]


def test_a_cache_for_other_answers_is_refused(taught: Path, tiny_llama: Path, tmp_path: Path) -> None:
    path = write_run(tmp_path, local(taught), tiny_llama, epochs=1)
    found = texts.run(path)
    folder = texts.artefact(found, "logits")
    header = json.loads((folder / HEADER).read_text())
    header["binding"]["tokenizer"] = "of another student"
    (folder / HEADER).write_text(json.dumps(header))
    with pytest.raises(DataError, match="written for another tokenizer"):
        texts.run(path, "student.learning_rate=1e-3")


@pytest.mark.parametrize("loss", ["reverse_kl", "forward_kl"])
def test_a_teacher_that_runs_alongside(taught: Path, tiny_llama: Path, tmp_path: Path, loss: str) -> None:
    wish = {} if loss == "reverse_kl" else {"method": "live_kd"}
    found = texts.run(write_run(tmp_path, local(taught), tiny_llama, loss=loss, **wish))
    method = found.facts["training"]["method"]
    assert (method["name"], method["chosen"]) == ("live_kd", loss == "reverse_kl")
    assert "logits" not in stages(found)
    assert found.facts["student"]["accuracy"] > 0.8


OWN = {"share": 0.6, "start": 0.3, "rise": 0.2, "refresh": 4}


@pytest.mark.parametrize("shots", [0, 2])
def test_a_student_learns_from_its_own_answers(taught: Path, tiny_llama: Path, tmp_path: Path, shots: int) -> None:
    """Beside a teacher whose answers end with the student's end token, or with a blank line behind worked examples."""
    teacher = local(taught) | ({"shots": shots, "max_failed": 0.9} if shots else {})
    path = write_run(tmp_path, teacher, tiny_llama, on_policy=OWN, loss="reverse_kl", epochs=20)
    found = texts.run(path)
    training, rows = found.facts["training"], found.facts["conservation"]
    assert (training["method"]["name"], training["method"]["chosen"]) == ("live_kd", True)
    assert "own answers" in training["method"]["reason"]
    own, account = training["on_policy"], rows["own answers"]
    assert account["in"] == own["rollouts"] == account["kept"] + sum(account["dropped"].values()) > 50
    assert 0.2 < own["share_learned"] < 0.6
    assert own["seconds_rollout"] > 0 < own["seconds_scoring"]
    assert len(own["curve"]) == own["refreshes"]
    told = [part["loss"] for part in own["curve"] if part["answers"]]
    assert all(loss >= 0 for loss in told)
    kept = texts.artefact(found, "train")
    assert not list(kept.glob("rollouts-*"))
    if not shots:
        assert found.facts["student"]["accuracy"] > 0.8
        assert told[-1] < told[0]
        assert own["curve"][-1]["ended"] >= 0.6  # whose end it learned from the teacher too
    again = texts.run(path)
    assert (again.calls_made, again.facts) == (0, found.facts)


def test_a_forecast_counts_what_the_student_writes(taught: Path, tiny_llama: Path, tmp_path: Path) -> None:
    path = write_run(tmp_path / "run", local(taught), tiny_llama, on_policy=OWN, epochs=5)
    loaded = recipe.load(path)
    with Store(tmp_path / ".store") as store:
        rehearsal = Rehearsal(loaded, path.parent, store, Progress(quiet=True), tmp_path)
        work = works.count(rehearsal, rehearsal.rehearse("full"))
    found = texts.run(path).facts["training"]["on_policy"]
    assert work["train"].units["train.written"] == pytest.approx(found["rollouts"], rel=0.3)
    said = forecast(recipe.load(path), path.parent, tmp_path / "none", Progress(quiet=True), probing=False)
    assert "own answers" in said.how["method"]


def test_own_answers_of_a_student_with_other_tokens_are_refused(taught: Path, tiny_llama: Path, tmp_path: Path) -> None:
    student = other_tokens(tiny_llama, tmp_path / "model")
    with pytest.raises(RecipeError, match=r"student\.on_policy needs a local teacher with the student's tokenizer"):
        texts.run(write_run(tmp_path, local(taught), student, on_policy=OWN))


def other_tokens(folder: Path, to: Path) -> Path:
    """A copy of a model whose first two letters are each other's token: a tokenizer that does otherwise."""
    to.mkdir()
    for source in folder.iterdir():
        (to / source.name).write_bytes(source.read_bytes())
    body = json.loads((to / "tokenizer.json").read_text())
    words = body["model"]["vocab"]
    words["a"], words["b"] = words["b"], words["a"]
    (to / "tokenizer.json").write_text(json.dumps(body))
    return to


def test_a_teacher_with_another_tokenizer_is_learned_by_its_texts(
    taught: Path, tiny_llama: Path, tmp_path: Path
) -> None:
    student = other_tokens(tiny_llama, tmp_path / "model")
    path = write_run(tmp_path, local(taught), student, epochs=1)
    found = texts.run(path)
    method = found.facts["training"]["method"]
    assert method["name"] == "text_kd"
    assert (
        "is 'a' in the teacher and 'b' in the student" in method["reason"] or "'b' in the teacher" in method["reason"]
    )
    assert "logits" not in stages(found)
    with pytest.raises(RecipeError, match="cached_kd needs a local teacher with the student's tokenizer"):
        texts.run(path, "student.method=cached_kd", "name=wish")
    assert not (tmp_path / "runs" / "wish").exists()


def test_prompts_that_end_otherwise_leave_the_texts(taught: Path, tiny_llama: Path, tmp_path: Path) -> None:
    found = texts.run(write_run(tmp_path, local(taught, "{text} =\n"), tiny_llama, epochs=1))
    assert found.facts["training"]["method"]["name"] == "text_kd"
    assert "white space" in found.facts["training"]["method"]["reason"]


def test_a_vain_wish_costs_nothing(tiny_llama: Path, tmp_path: Path) -> None:
    """The endpoint would answer, and is not asked."""
    with ChatServer(lambda _number, _body: None) as server:
        endpoint = {"base_url": server.url, "model": "m", "api_key_env": ""}
        path = write_run(tmp_path, {"endpoint": endpoint}, tiny_llama, method="sparse_kd")
        with pytest.raises(RecipeError, match="sparse_kd needs an endpoint with logprobs: true") as caught:
            texts.run(path)
        assert "\n" not in str(caught.value)
        assert server.bodies == []


def test_what_an_endpoint_lists_is_learned_where_its_tokens_are_the_students(tiny_llama: Path, tmp_path: Path) -> None:
    rules = {word: texts.SAID["generate"][answer] for word, answer in small_run.RULES.items()}
    split = chat.tokens_of(tiny_llama)

    def reply(number: int, body: dict[str, Any]) -> Reply:
        return 200, chat.complete(body, ScriptedTeacher(rules), split=split)

    with ChatServer(reply) as server:
        endpoint = {"base_url": server.url, "model": "m", "api_key_env": "", "logprobs": True, "top_logprobs": 5}
        path = write_run(tmp_path, {"endpoint": endpoint}, tiny_llama, epochs=30)
        found = texts.run(path)
        asked = len(server.bodies)
        assert texts.run(path, "student.epochs=1").facts["training"]["method"]["name"] == "sparse_kd"
        assert len(server.bodies) == asked
    training, rows = found.facts["training"], found.facts["conservation"]["logits"]
    assert training["method"]["name"] == "sparse_kd"
    assert training["logits"]["biased"]
    assert training["logits"]["matched"] == rows["kept"] / rows["in"] == 1
    assert training["logits"]["mass_known"] == pytest.approx(1, abs=0.02)
    assert found.facts["student"]["accuracy"] > 0.8


def test_an_endpoint_with_other_tokens_is_learned_by_its_texts(tiny_llama: Path, tmp_path: Path) -> None:
    rules = {word: texts.SAID["generate"][answer] for word, answer in small_run.RULES.items()}

    def reply(number: int, body: dict[str, Any]) -> Reply:
        return 200, chat.complete(body, ScriptedTeacher(rules))

    with ChatServer(reply) as server:
        endpoint = {"base_url": server.url, "model": "m", "api_key_env": "", "logprobs": True, "top_logprobs": 5}
        path = write_run(tmp_path, {"endpoint": endpoint}, tiny_llama, epochs=1)
        found = texts.run(path)
        with pytest.raises(RecipeError, match="of the endpoint's answers have the student's tokens"):
            texts.run(path, "student.method=sparse_kd")
    method, rows = found.facts["training"]["method"], found.facts["conservation"]["logits"]
    assert method["name"] == "fine_tune"
    assert "only 0% of the endpoint's answers have the student's tokens" in method["reason"]
    assert rows["failed"] == {"the endpoint's tokens are not the student's": rows["in"]}


def test_a_run_that_is_killed_while_logits_are_written_ends_as_one_that_was_not(
    cached: tuple[Path, Run], tmp_path: Path
) -> None:
    path, undisturbed = cached
    command = [sys.executable, "-m", "aasut", "run", str(path), "--root", str(tmp_path)]
    environment = os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    for moment in ('"teacher writes logits"', '"student learns"'):
        process = subprocess.Popen(
            command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, env=environment
        )
        assert process.stderr is not None
        for line in process.stderr:
            if moment in line:
                process.kill()
                break
        process.communicate(timeout=60)
        assert process.returncode == -signal.SIGKILL, moment
    ended = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
    assert ended.returncode == 0, ended.stderr
    report = json.loads((tmp_path / "words" / "report.json").read_text())
    assert {entry["stage"]: entry["content"] for entry in report["lineage"]} == stages(undisturbed)
    with Store(tmp_path / ".store") as store:
        assert store.verify() == []


def test_an_endpoint_is_not_asked_for_what_was_taught(tiny_llama: Path, tmp_path: Path) -> None:
    """Rows that a table taught are learned by their texts, the others by what the endpoint lists."""
    rules = {word: texts.SAID["generate"][answer] for word, answer in small_run.RULES.items()}
    split_text = chat.tokens_of(tiny_llama)

    def reply(number: int, body: dict[str, Any]) -> Reply:
        return 200, chat.complete(body, ScriptedTeacher(rules), split=split_text)

    with ChatServer(reply) as server:
        endpoint = {"base_url": server.url, "model": "m", "api_key_env": "", "logprobs": True, "top_logprobs": 5}
        path = write_run(tmp_path, {"endpoint": endpoint}, tiny_llama, epochs=1)
        plain = yaml.safe_load(path.read_text())
        sentences = small_run.sentences(30, seed=5)
        small_run.write_table(tmp_path / "taught.csv", [row | {"said": "taught by hand"} for row in sentences])
        plain["data"]["tables"].append(
            {"source": "taught.csv", "slots": {"text": "text"}, "role": "pool", "taught": "said"}
        )
        plain["data"]["near_duplicates"] = 1.0
        path.write_text(yaml.safe_dump(plain, sort_keys=False))
        told = forecast(recipe.load(path), tmp_path, tmp_path / "runs", Progress(quiet=True), probing=False)
        found = texts.run(path)
        assert not any(row["text"] in str(body) for row in sentences for body in server.bodies)
        assert told.calls == found.calls_made == len(server.bodies)
    rows = found.facts["conservation"]["logits"]
    assert rows["failed"] == {"the answer came without usable log-probabilities": 30}
    assert rows["kept"] > 30
    assert found.facts["training"]["method"]["name"] == "sparse_kd"
    assert found.facts["panel"]["taught"] == 30
    assert '<dd id="taught">30</dd>' in (found.folder / "report.html").read_text(encoding="utf-8")
