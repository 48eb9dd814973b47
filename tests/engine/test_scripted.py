from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from aasut.engine import base
from aasut.engine.base import Engine, Prompt, Written, write
from aasut.engine.scripted import ScriptedEngine
from aasut.errors import EngineError, ModelError

RULES = {"great": "positive", "awful": "negative", "lovely": "positive"}
ANSWERS = [" negative", " neutral", " positive"]


def test_a_word_gives_its_answer_most_of_the_mass() -> None:
    engine: Engine = ScriptedEngine(RULES)
    scores = engine.score(["A GREAT film.", "awful", "great and lovely and awful", "nothing"], ANSWERS)
    expected = np.log([[1 / 12, 1 / 12, 10 / 12], [10 / 12, 1 / 12, 1 / 12], [10 / 30, 1 / 30, 19 / 30], [1 / 3] * 3])
    np.testing.assert_allclose(scores.logprobs, expected, rtol=1e-12)
    assert scores.logprobs.dtype == np.float64


def test_score_counts_tokens_and_the_cached_prefix() -> None:
    usage = ScriptedEngine(RULES).score(["Film: great", "Film: so awful"], [" a", " b c"], prefix="Film: ").usage
    assert (usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens) == (5, 6, 1)


def test_no_prompts_give_no_rows() -> None:
    assert ScriptedEngine(RULES).score([], ANSWERS).logprobs.shape == (0, 3)


def test_a_prompt_must_begin_with_the_prefix_and_fit_the_context() -> None:
    with pytest.raises(ModelError, match="prefix"):
        ScriptedEngine(RULES).score(["great"], ANSWERS, prefix="Film: ")
    with pytest.raises(ModelError, match="has 3 tokens; the context has 2"):
        ScriptedEngine(RULES, context=2).score(["one two", "one two three"], ANSWERS)
    with pytest.raises(ModelError, match="has 5 tokens"):
        write(ScriptedEngine(RULES, context=4), [Prompt("one", 4)])


def test_generate_gives_the_rules_text_and_heeds_its_limits() -> None:
    engine = ScriptedEngine({"order": "Your parcel is on its way", "bill": "Paid"})
    assert write(engine, [Prompt("my ORDER and bill", 9, temperature=1.0, seed=3)])[0].text == RULE_TEXT
    assert write(engine, [Prompt("my order", 2)])[0].text == "Your parcel"
    assert (
        write(
            engine,
            [
                Prompt(
                    "my order",
                    9,
                    stop=(
                        "is",
                        "way",
                    ),
                )
            ],
        )[0].text
        == "Your parcel"
    )
    assert write(engine, [Prompt("hello", 9)]) == [Written("", 0, "stop")]


RULE_TEXT = "Your parcel is on its way"


def test_load_reads_a_file_or_a_folder(tmp_path: Path) -> None:
    file = tmp_path / "rules.json"
    file.write_text(json.dumps(RULES))
    for path in (file, tmp_path):
        engine = base.load("scripted", path)
        assert engine.score(["great"], ANSWERS).logprobs.argmax() == 2
        assert engine.name == "scripted"


@pytest.mark.parametrize("text", ["{", "[1]", '{"a": 1}', None])
def test_load_refuses_what_holds_no_rules(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "rules.json").write_text(text)
    with pytest.raises(ModelError, match="holds no rules") as caught:
        base.load("scripted", tmp_path)
    assert "JSON object" in caught.value.remedy


def test_words_are_sure_and_have_no_alternatives() -> None:
    engine = ScriptedEngine({"order": "Your parcel is on its way"})
    pieces = list(engine.generate([Prompt("my order", 3, logprobs=True)]))
    assert [[(t.text, t.raw, t.logprob, t.top) for t in piece.said] for piece in pieces] == [
        [("Your", b"Your", 0.0, ())], [(" parcel", b" parcel", 0.0, ())], [(" is", b" is", 0.0, ())], [],
    ]  # fmt: skip
    with pytest.raises(EngineError, match="no alternatives"):
        list(engine.generate([Prompt("my order", 3, logprobs=True, top_logprobs=1)]))
