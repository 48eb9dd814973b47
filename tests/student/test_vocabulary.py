"""A student keeps the tokens of its data: which ones, what that changes, and whole runs with such students."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import reference
import small_run
import test_text_tasks as texts
from aasut import pipeline, recipe
from aasut.errors import RecipeError
from aasut.formats import safetensors
from aasut.formats.tokenizer import Tokenizer, read_json
from aasut.formats.trim import Trim
from aasut.pipeline import Run
from aasut.progress import Progress
from aasut.recipe import Student, Vocabulary
from aasut.student import train, vocabulary
from aasut.student.vocabulary import Use
from aasut.types import Example, Label
from chat_server import ChatServer, Reply

QUIET = Progress(quiet=True)
USE = Use(
    ["Review: the battery is great\nSentiment:"] * 3 + ["Review: नमस्ते\nSentiment:"],
    [" positive", " negative"],
    "Review: \nSentiment:",
    ["Review: दुनिया, the battery\nSentiment:", "Review: great\nSentiment:"],
)


def settings(tokens: int | None = None, **changes: Any) -> Student:
    given = {"model": {"address": "file:x"}, "precision": "float32", "vocabulary": {"tokens": tokens}}
    return Student.model_validate(given | changes)


@pytest.fixture
def folder(tiny_llama: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_llama, tmp_path / "start"))


def test_all_that_the_data_uses_stays_and_becomes_the_same_tokens(tiny_llama: Path, folder: Path) -> None:
    facts = vocabulary.trim(folder, settings(), USE)
    full, small = Tokenizer.load(tiny_llama), Tokenizer.load(folder)
    assert facts["tokens"] == [full.size, small.size]
    assert small.size < full.size
    names = [[full.token_name(i) for i in full.encode(text)] for text in USE.texts]
    assert names == [[small.token_name(i) for i in small.encode(text)] for text in USE.texts]
    assert facts["tokens_per_text"][0] == facts["tokens_per_text"][1]
    assert facts["split_share"] == 0
    assert facts["parameters"] == [safetensors.parameters(tiny_llama), safetensors.parameters(folder)]
    assert facts["parameters"][0] - facts["parameters"][1] == 64 * (full.size - small.size)
    assert facts["held_prompts"] == 2
    assert facts["held_tokens_per_text"] == [
        sum(len(tokenizer.encode(text)) for text in USE.held) / 2 for tokenizer in (full, small)
    ]


def test_the_most_used_stay_where_there_is_no_room_for_all(tiny_llama: Path, folder: Path) -> None:
    rules, tokenizer = Trim(read_json(folder / "tokenizer.json"), folder), Tokenizer.load(folder)
    needed = tokenizer.encode(USE.template) + [i for answer in USE.answers for i in tokenizer.encode(answer)]
    least = len(rules.close(needed))
    counts = vocabulary.used(tokenizer, USE.texts)
    everything = len(rules.close([*needed, *counts]))
    assert least + 4 < everything
    found = [vocabulary.choose(rules, needed, counts, most) for most in range(least, everything + 2)]
    for most, stay in enumerate(found, least):
        assert len(stay) <= most
        assert stay == rules.close(stay) >= rules.close(needed)
    assert found[0] == rules.close(needed)
    assert found[-1] == found[-2] == rules.close([*needed, *counts])
    words = [tokenizer.encode(" battery")[0], tokenizer.encode("नमस्ते")[0]]
    assert counts[words[0]] == 3 * counts[words[1]]
    room = least + len(rules.path(words[0]) - rules.close(needed))
    assert words[0] in vocabulary.choose(rules, needed, Counter({words[0]: 3, words[1]: 1}), room)
    assert words[0] not in vocabulary.choose(rules, needed, Counter({words[0]: 1, words[1]: 3}), room)


def test_a_capped_vocabulary_tells_what_it_costs(tiny_llama: Path, folder: Path) -> None:
    with pytest.raises(RecipeError, match=r"tokens is 100; .* need (\d+)\.") as caught:
        vocabulary.trim(folder, settings(100), USE)
    least = int("".join(c for c in caught.value.remedy.split(" or ")[0] if c.isdigit()))
    with pytest.raises(RecipeError, match=f"need {least}"):
        vocabulary.trim(folder, settings(least - 1), USE)
    facts = vocabulary.trim(folder, settings(least), USE)
    full, small = Tokenizer.load(tiny_llama), Tokenizer.load(folder)
    assert facts["tokens"][1] == small.size == least
    for tokenizer, mean in zip((full, small), facts["tokens_per_text"], strict=True):
        assert mean == sum(len(tokenizer.encode(text)) for text in USE.texts) / len(USE.texts)
    assert facts["tokens_per_text"][0] < facts["tokens_per_text"][1]
    every = [number for text in USE.texts for number in full.encode(text)]
    gone = sum(full.token_name(number) not in small.vocabulary() for number in every)
    assert facts["split_share"] == gone / len(every) > 0
    for text in (*USE.answers, USE.template):
        assert len(small.encode(text)) == len(full.encode(text))


def test_the_loss_is_that_of_every_token_after_the_opening(tiny_llama: Path) -> None:
    model, tokenizer = reference.load(tiny_llama), Tokenizer.load(tiny_llama)
    given = ["the battery is great", "नमस्ते 👩", "x" * 2000]
    total, size = 0.0, 0
    for text in given:
        text = text.encode()[:511].decode("utf-8", "ignore")
        ids = torch.tensor([tokenizer.encode("\n") + tokenizer.encode(text)])
        with torch.inference_mode():
            said = model(ids).logits[0].float().log_softmax(1)
        total -= sum(float(said[i - 1, ids[0, i]]) for i in range(1, ids.shape[1]))
        size += len(text.encode())
    loaded = vocabulary.load_model(tiny_llama, torch.float32)
    assert vocabulary.nats_per_byte(loaded, tokenizer, given) == pytest.approx(total / size, rel=1e-4)
    assert vocabulary.nats_per_byte(loaded, tokenizer, []) is None


def test_the_loss_is_told_before_and_after(tiny_llama: Path, folder: Path) -> None:
    facts = vocabulary.trim(folder, settings(), USE)
    for model, told in zip((tiny_llama, folder), facts["nats_per_byte"], strict=True):
        loaded = vocabulary.load_model(model, torch.float32)
        assert told == pytest.approx(vocabulary.nats_per_byte(loaded, Tokenizer.load(model), USE.held), rel=1e-5)


def trimming(**student: Any) -> recipe.Recipe:
    options = {"model": {"address": "file:model"}, "prompt": "Text: {text}", "precision": "float32", "vocabulary": {}}
    return recipe.parse(small_run.recipe(student=options | student), "test")


@pytest.mark.parametrize("start", [{}, {"initialise": "pruned", "shape": {"layers": 1}}], ids=["pretrained", "pruned"])
def test_a_start_is_trimmed_whatever_it_was_made_of(tiny_llama: Path, tmp_path: Path, start: dict[str, Any]) -> None:
    pool = [Example(str(i), {"text": text}, str(i)) for i, text in enumerate(["the battery", "great battery"])]
    facts = train.initialise(trimming(**start), tiny_llama, pool, tmp_path / "start", QUIET, [], pool)
    model = reference.load(tmp_path / "start")
    assert model.config.vocab_size == facts["vocabulary"]["tokens"][1] < 300
    assert model.config.num_hidden_layers == (1 if start else 2)
    assert facts["parameters"] == facts["vocabulary"]["parameters"][1] == sum(p.numel() for p in model.parameters())
    full, small = Tokenizer.load(tiny_llama), Tokenizer.load(tmp_path / "start")
    assert len(small.encode("Text: great battery")) == len(full.encode("Text: great battery"))


def test_tokens_are_those_of_prompts_and_of_answers_in_the_students_own_form() -> None:
    pool = [Example("a", {"text": "one"}, "a"), Example("b", {"text": "two"}, "b")]
    use = train.use_of(trimming(), pool[:1], [Label("a", (0.5, 0.5))], pool[1:])
    assert use == Use(["Text: one"], [" negative", " positive"], "Text: ", ["Text: two"])
    task = {"kind": "generate", "prompt": "{text}"}
    free = recipe.parse(small_run.recipe(task=task, student=trimming().student.model_dump(exclude_unset=True)), "test")
    use = train.use_of(free, pool, [Label("a", (), ("yes", "no"))], [])
    assert use.answers == [" yes", " no"]


@pytest.fixture(scope="module")
def trimmed(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Run]:
    """(recipe, finished run) of free text with a trimmed student. Not to be changed."""
    path = texts.write_run(tmp_path_factory.mktemp("trimmed"), "generate", tiny_llama)
    plain = yaml.safe_load(path.read_text())
    plain["student"]["vocabulary"] = {}
    path.write_text(yaml.safe_dump(plain, sort_keys=False))
    return path, texts.run(path)


def test_a_whole_run(trimmed: tuple[Path, Run], tiny_llama: Path) -> None:
    _, found = trimmed
    facts = found.facts["training"]["initialise"]["vocabulary"]
    assert facts["tokens"][1] < facts["tokens"][0] == 300
    student = Tokenizer.load(found.folder / "student")
    assert student.size == facts["tokens"][1]
    assert found.facts["student"]["parameters_total"] == facts["parameters"][1]
    assert found.facts["student"]["accuracy"] > 0.8
    assert found.facts["round_trip"]["tokens_equal"]
    page = (found.folder / "report.html").read_text()
    assert f"{facts['tokens'][1]:,} of {facts['tokens'][0]:,} stay" in page


def test_what_a_trimmed_student_was_never_shown_is_still_read(trimmed: tuple[Path, Run]) -> None:
    from aasut.engine import torch as torch_engine
    from aasut.engine.base import Prompt, write

    engine = torch_engine.load(trimmed[1].folder / "student", precision="float32")
    asked = [f"{word} =" for word in ("👩\u200d👩\u200d👧", "漢字\x00", "नमस्ते दुनिया", "\U0010ffff")]
    assert all(one.tokens for one in write(engine, [Prompt(text, 4) for text in asked]))
    assert [engine.count_tokens(text) for text in asked] == [
        len(Tokenizer.load(trimmed[1].folder / "student").encode(text)) for text in asked
    ]


def test_only_the_vocabulary_makes_a_start_depend_on_the_answers(trimmed: tuple[Path, Run]) -> None:
    path, found = trimmed

    def parents(one: Run) -> set[str]:
        lineage = {entry["fingerprint"]: entry for entry in one.facts["lineage"]}
        (start,) = (entry for entry in lineage.values() if entry["stage"] == "initialise")
        return {lineage[parent]["stage"] for parent in start["parents"]}

    assert parents(found) == {"data", "label"}
    plain = yaml.safe_load(path.read_text())
    del plain["student"]["vocabulary"]
    plain["student"]["epochs"] = 1
    other = path.with_name("other.yaml")
    other.write_text(yaml.safe_dump(plain | {"name": "other"}, sort_keys=False))
    assert parents(texts.run(other)) == {"data"}


def local(path: Path, teacher: Path, **student: Any) -> Path:
    plain = yaml.safe_load(path.read_text())
    model = {"address": f"file:{teacher}"}
    plain["teacher"] = {"max_failed": 0.5, "model": model, "prompt": "{text} =", "precision": "float32"}
    plain["student"] |= {"epochs": 1, **student}
    plain["name"] = "local"
    other = path.with_name("local.yaml")
    other.write_text(yaml.safe_dump(plain, sort_keys=False))
    return other


def test_a_local_teacher_of_the_same_kind_has_other_tokens_then(trimmed: tuple[Path, Run]) -> None:
    path, found = trimmed
    for wish in ("cached_kd", "live_kd"):
        with pytest.raises(RecipeError, match=f"{wish} needs .* student.vocabulary leaves some") as caught:
            texts.run(local(path, found.folder / "student", method=wish))
        assert "\n" not in str(caught.value)
    method = texts.run(local(path, found.folder / "student")).facts["training"]["method"]
    assert method["name"] == "text_kd"
    assert "student.vocabulary leaves some of the student's out" in method["reason"]


def test_what_an_endpoint_lists_is_learned_in_the_trimmed_students_tokens(
    trimmed: tuple[Path, Run], tmp_path: Path
) -> None:
    from aasut.teacher import chat
    from aasut.teacher.scripted import ScriptedTeacher

    source, found = trimmed
    rules = {word: texts.SAID["generate"][answer] for word, answer in small_run.RULES.items()}
    split = chat.tokens_of(found.folder / "student")

    def reply(number: int, body: dict[str, Any]) -> Reply:
        return 200, chat.complete(body, ScriptedTeacher(rules), split=split)

    with ChatServer(reply) as server:
        plain = yaml.safe_load(source.read_text())
        endpoint = {"base_url": server.url, "model": "m", "api_key_env": "", "logprobs": True, "top_logprobs": 5}
        plain["teacher"] = {"max_failed": 0.5, "endpoint": endpoint}
        plain["student"]["epochs"] = 2
        path = tmp_path / "recipe.yaml"
        path.write_text(yaml.safe_dump(plain | {"name": "listed"}, sort_keys=False))
        shutil.copy(source.with_name("table.csv"), tmp_path)
        listed = texts.run(path)
    training = listed.facts["training"]
    assert training["method"]["name"] == "sparse_kd"
    assert training["logits"]["matched"] == 1


def test_a_cap_that_is_too_small_is_told_with_the_least_number(trimmed: tuple[Path, Run]) -> None:
    path, _ = trimmed
    with pytest.raises(RecipeError, match=r"student\.vocabulary\.tokens is 9; .* need \d+"):
        texts.run(path, "student.vocabulary.tokens=9", "name=small")


def test_the_option_is_one_number() -> None:
    assert Vocabulary().tokens is None
    assert pipeline.check(trimming()) is None
