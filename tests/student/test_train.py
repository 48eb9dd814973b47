from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
import torch

import reference
import small_run
from aasut import recipe as recipes
from aasut.engine import linear as linear_engine
from aasut.engine import torch as torch_engine
from aasut.engine.base import Prompt, write
from aasut.errors import DataError
from aasut.formats import safetensors
from aasut.formats.tokenizer import Tokenizer
from aasut.progress import Progress
from aasut.student import train
from aasut.types import Conservation, Example, Label

QUIET = Progress(quiet=True)


def recipe(labels: list[str] | None = None, **student: Any) -> recipes.Recipe:
    """A recipe whose student's prompt ends with the input."""
    plain = small_run.recipe(
        student={"model": {"address": "file:model"}, "prompt": "Text: {text}", "precision": "float32", "checks": 1}
        | student
    )
    if labels:
        plain["task"]["labels"] = labels
    return recipes.parse(plain, "test")


def pool(count: int = 24) -> list[Example]:
    return [
        Example(row["id"], {"text": row["text"]}, row["review"], row["sentiment"]) for row in small_run.sentences(count)
    ]


def labels(examples: list[Example], sure: float = 0.9) -> list[Label]:
    return [Label(e.id, (1 - sure, sure) if e.answer == "positive" else (sure, 1 - sure)) for e in examples]


def test_validation_holds_whole_groups_and_about_its_share() -> None:
    groups = [f"g{i // 4}" for i in range(200)]
    held = train.validation_rows(groups, 0.1, seed=3)
    kept = {groups[i] for i in range(200) if i not in held}
    assert 20 <= len(held) <= 24
    assert not kept & {groups[i] for i in held}
    assert held == train.validation_rows(groups, 0.1, seed=3) != train.validation_rows(groups, 0.1, seed=4)


def test_validation_leaves_a_group_on_each_side() -> None:
    for share in (0.001, 0.49):
        held = train.validation_rows(["a", "a", "a", "b"], share, seed=1)
        assert held in ([0, 1, 2], [3])
    with pytest.raises(DataError, match="one group"):
        train.validation_rows(["a", "a"], 0.1, seed=1)


def test_prompts_are_the_students_own() -> None:
    assert train.prompts_of(recipe(prompt="X {text} Y"), pool(2)) == [f"X {e.slots['text']} Y" for e in pool(2)]


def test_answers_go_on_from_the_prompt_whatever_an_input_ends_with() -> None:
    assert train.answer_texts(recipe()) == [" negative", " positive"]
    assert train.answer_texts(recipe(prompt="{text}\nAnswer: ")) == ["negative", "positive"]


def test_the_start_is_left_as_a_model_folder(tiny_llama: Path, tmp_path: Path) -> None:
    train.initialise(recipe(), tiny_llama, pool(4), tmp_path / "same", QUIET)
    assert (tmp_path / "same" / "model.safetensors").read_bytes() == (tiny_llama / "model.safetensors").read_bytes()
    wanted = recipe(initialise="pruned", shape={"layers": 1})
    report = train.initialise(wanted, tiny_llama, pool(4), tmp_path / "fewer", QUIET)
    assert len(report["removed"]["layers"]) == 1
    assert torch_engine.load_model(tmp_path / "fewer", torch.float32).config.num_hidden_layers == 1


def test_a_trained_student_lies_there_in_bfloat16_and_has_learned(tiny_llama: Path, tmp_path: Path) -> None:
    examples = pool(64)
    wanted = recipe(epochs=12, batch_examples=8, learning_rate=1e-3)
    report = train.train(wanted, tiny_llama, examples, labels(examples)[::-1], tmp_path, QUIET)
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in tiny_llama.iterdir()}
    assert {tensor.dtype for tensor in safetensors.load(tmp_path).values()} == {torch.bfloat16}
    assert report["conservation"]["train"] == Conservation(64, 64)
    assert report["validation_examples"] + report["examples"] == 64
    assert (report["precision"], report["epochs"]) == ("float32", 12)
    engine = torch_engine.load(tmp_path, precision="float32")
    found = engine.score(train.prompts_of(wanted, examples), train.answer_texts(wanted)).logprobs
    right = [("negative", "positive")[i] == e.answer for i, e in zip(found.argmax(axis=1), examples, strict=True)]
    assert np.mean(right) > 0.9


@pytest.mark.parametrize(("share", "held"), [(0.1, 4), (0.4, 16)])
def test_the_recipe_says_what_is_kept_for_validation(tiny_llama: Path, tmp_path: Path, share: float, held: int) -> None:
    examples = pool(40)  # in 20 groups
    report = train.train(recipe(epochs=1, validation=share), tiny_llama, examples, labels(examples), tmp_path, QUIET)
    assert (report["validation_examples"], report["examples"]) == (held, 40 - held)


def test_examples_without_an_answer_are_left_out_and_long_ones_counted(tiny_llama: Path, tmp_path: Path) -> None:
    examples = pool(24)
    long = [Example(f"long{i}", {"text": "zq" * 400}, f"long{i}", "positive") for i in range(3)]
    given = labels(examples[4:] + long)
    report = train.train(recipe(epochs=1), tiny_llama, examples + long, given, tmp_path, QUIET)
    assert report["conservation"]["train"] == Conservation(23, 20, failed={"longer than the student's context": 3})
    assert report["examples"] + report["validation_examples"] == 20


def test_inputs_that_are_all_too_long_are_told(tiny_llama: Path, tmp_path: Path) -> None:
    long = [Example(f"long{i}", {"text": "zq" * 400}, f"long{i}", "positive") for i in range(3)]
    says = r"None of the 3 inputs can be learned from \(3 × longer than the student's context\)"
    with pytest.raises(DataError, match=says):
        train.train(recipe(epochs=1), tiny_llama, long, labels(long), tmp_path, QUIET)


def with_begin(source: Path, folder: Path) -> Path:
    shutil.copytree(source, folder)
    inner = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    inner.post_processor = tokenizers.processors.TemplateProcessing(
        single="<|begin|> $A", special_tokens=[("<|begin|>", 0)]
    )
    inner.save(str(folder / "tokenizer.json"))
    return folder


@pytest.mark.parametrize("begins", [False, True], ids=["plain", "begin token"])
def test_training_sees_the_tokens_that_serving_sees(tiny_llama: Path, tmp_path: Path, *, begins: bool) -> None:
    """Taught its own answers, as the serving engine gives them, a student has nothing to learn."""
    start = with_begin(tiny_llama, tmp_path / "start") if begins else tiny_llama
    assert Tokenizer.load(start).add_bos is begins
    examples = [Example(e.id, {"text": e.slots["text"] + " \n"[: i % 3]}, e.group) for i, e in enumerate(pool(20))]
    wanted = recipe(["billing", "billing_refund"], epochs=1, learning_rate=1e-12)
    engine = torch_engine.load(start, precision="float32")
    own = np.exp(engine.score(train.prompts_of(wanted, examples), train.answer_texts(wanted)).logprobs)
    given = [Label(e.id, tuple(map(float, row))) for e, row in zip(examples, own, strict=True)]
    report = train.train(wanted, start, examples, given, tmp_path / "out", QUIET)
    assert report["best_loss"] == pytest.approx(report["floor"], abs=1e-4)
    entropy = float(-(own * np.log(own)).sum())
    least = (entropy - report["floor"] * report["validation_examples"]) / report["examples"]
    assert least > 0.05
    assert report["curve"][0]["train_loss"] == pytest.approx(least, abs=1e-4)


def test_the_linear_student_reads_slots_and_accounts_for_its_rows(tmp_path: Path) -> None:
    examples = pool(60)
    wanted = recipes.parse(small_run.recipe(), "test")
    report = train.linear(wanted, examples, labels(examples[10:]), tmp_path)
    assert report["conservation"]["train linear"] == Conservation(50, 50)
    found = linear_engine.load(tmp_path).score([train.linear_prompt(wanted, e) for e in examples], wanted.task.labels)
    predicted = [wanted.task.labels[i] for i in found.logprobs.argmax(axis=1)]
    assert np.mean([p == e.answer for p, e in zip(predicted, examples, strict=True)]) > 0.9


def test_the_linear_student_reads_what_its_server_renders() -> None:
    """The order of the task's prompt counts, and columns that it does not use do not."""
    plain = small_run.recipe(task={"kind": "classify", "labels": ["a", "b"], "prompt": "{title} / {body}"})
    plain["data"]["tables"][0]["slots"] = {"note": "n", "body": "b", "title": "t"}
    wanted = recipes.parse(plain, "test")
    example = Example("1", {"note": "x", "body": "long text", "title": "short"}, "g")
    assert train.linear_prompt(wanted, example) == "short\nlong text" == train.prompts_of(wanted, [example])[0]


def text_recipe(max_tokens: int = 16, **student: Any) -> recipes.Recipe:
    wanted = {"model": {"address": "file:model"}, "prompt": "{text} =", "precision": "float32", "checks": 1}
    task = {"kind": "generate", "prompt": "Text: {text}", "max_tokens": max_tokens}
    return recipes.parse(small_run.recipe(task=task, student=wanted | student), "test")


def told(texts: dict[str, tuple[str, ...]]) -> tuple[list[Example], list[Label]]:
    """Inputs, each its own group, with the teacher's texts."""
    examples = [Example(f"e{i}", {"text": text}, f"g{i}") for i, text in enumerate(texts)]
    return examples, [Label(e.id, texts=texts[e.slots["text"]]) for e in examples]


def test_a_student_learns_texts_and_where_they_end(tiny_llama: Path, tmp_path: Path) -> None:
    answers = {"great": ("good", "very good"), "awful": ("it is bad",)}
    texts = {f"{word} {i}": said for i in range(20) for word, said in answers.items()}
    examples, given = told(texts)
    wanted = text_recipe(epochs=20, batch_examples=8, learning_rate=3e-3)
    report = train.train(wanted, tiny_llama, examples, given[::-1], tmp_path, QUIET)
    assert report["conservation"]["train"] == Conservation(40, 40)
    held = report["validation_examples"]  # inputs; the others count by their texts
    assert (
        40 - held
        < report["examples"]
        == 60
        - sum(len(texts[examples[i].slots["text"]]) for i in train.validation_rows([e.group for e in examples], 0.1, 7))
    )
    assert (report["floor"], report["texts_too_long"]) == (0.0, 0)
    engine = torch_engine.load(tmp_path, precision="float32")
    found = write(engine, [Prompt(text, 16) for text in train.prompts_of(wanted, examples)])
    assert {answer.finish for answer in found} == {"stop"}
    right = [answer.text.strip() in said for answer, said in zip(found, texts.values(), strict=True)]
    assert np.mean(right) > 0.9
    assert {answer.text[0] for answer in found} == {" "}  # a space parts them from the prompt, as in serving


def test_texts_that_do_not_fit_are_counted_by_reason(tiny_llama: Path, tmp_path: Path) -> None:
    """A text may have `max_tokens` tokens, not one more; a prompt must leave room for as many."""
    count = torch_engine.load(tiny_llama, precision="float32").count_tokens
    most = "x" * 11
    assert (count(f" {most}"), count("zq" * 247 + " =")) == (12, 496)
    examples, given = told(
        {"a": ("fine",), "b": (most,), "c": (f"{most}x",), "d": (f"{most}x", "fine", f"{most}xx"),
         "zq" * 247: ("fine",), "zq" * 249: ("fine",), "zq" * 250: ("fine",), "zq" * 251: (f"{most}x",)}
    )  # fmt: skip
    report = train.train(text_recipe(12, epochs=1), tiny_llama, examples, given, tmp_path, QUIET)
    reasons = {"answer longer than task.max_tokens": 1, "longer than the student's context": 2}
    assert report["conservation"]["train"] == Conservation(8, 5, failed=reasons)
    assert report["texts_too_long"] == 2
    assert report["examples"] + report["validation_examples"] == 5


def test_texts_that_are_all_too_long_are_told(tiny_llama: Path, tmp_path: Path) -> None:
    examples, given = told({"a": ("word " * 9,), "b": ("word " * 9,), "zq" * 400: ("fine",)})
    says = r"None of the 3 inputs .* \(2 × answer longer than task.max_tokens, 1 × longer than the student's context\)"
    with pytest.raises(DataError, match=says):
        train.train(text_recipe(4), tiny_llama, examples, given, tmp_path, QUIET)


@pytest.mark.parametrize("begins", [False, True], ids=["plain", "begin token"])
def test_training_on_text_sees_the_tokens_that_serving_sees(tiny_llama: Path, tmp_path: Path, *, begins: bool) -> None:
    """The first training loss is what transformers gives for begin token, prompt, answer and end token as one row."""
    start = with_begin(tiny_llama, tmp_path / "start") if begins else tiny_llama
    tokenizer = Tokenizer.load(start)
    examples, given = told({f"{word} {i}": ("it is good", "no") for i in range(6) for word in ("a", "longer text")})
    wanted = text_recipe(epochs=1, learning_rate=1e-12, batch_examples=64)
    report = train.train(wanted, start, examples, given, tmp_path / "out", QUIET)
    held = set(train.validation_rows([e.group for e in examples], 0.1, wanted.seed))
    plain = reference.load(start)
    total = tokens = 0.0
    for i, (example, one) in enumerate(zip(examples, given, strict=True)):
        for text in one.texts if i not in held else ():
            prompt = [0] * begins + tokenizer.encode(f"{example.slots['text']} =")
            answer = [*tokenizer.encode(f" {text}"), 1]
            each = torch.log_softmax(plain(torch.tensor([prompt + answer])).logits[0].detach(), dim=1)
            total -= sum(float(each[len(prompt) + place - 1, token]) for place, token in enumerate(answer))
            tokens += len(answer)
    assert report["curve"][0]["train_loss"] == pytest.approx(total / tokens, rel=1e-5)


def test_a_text_continues_the_prompt_as_a_label_does(tiny_llama: Path, tmp_path: Path) -> None:
    """No second space where the prompt ends with one: the same loss as for the text in its own line."""
    examples, given = told({str(i): ("fine",) for i in range(8)})
    tokens = {}
    for prompt in ("{text} =", "{text} = "):
        report = train.train(text_recipe(prompt=prompt, epochs=1), tiny_llama, examples, given, tmp_path / "out", QUIET)
        tokens[prompt] = report["tokens"]
    count = len(Tokenizer.load(tiny_llama).encode(" fine")) - len(Tokenizer.load(tiny_llama).encode("fine"))
    space = len(Tokenizer.load(tiny_llama).encode("1 = ")) - len(Tokenizer.load(tiny_llama).encode("1 ="))
    assert tokens["{text} = "] - tokens["{text} ="] == (space - count) * 7  # seven rows in training
