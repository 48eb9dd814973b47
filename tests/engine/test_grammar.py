from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
import tokenizers

from aasut.engine.grammar import Grammar, check
from aasut.errors import EngineError, RecipeError
from aasut.formats.tokenizer import Tokenizer

SCHEMA = {
    "type": "object",
    "properties": {
        "city": {"enum": ["Goa", "पुणे"]},
        "n": {"type": "integer", "minimum": 0, "maximum": 99},
        "open": {"type": "boolean"},
    },
    "required": ["city", "n", "open"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def tokenizer(tiny_llama: Path) -> Tokenizer:
    return Tokenizer.load(tiny_llama)


def allowed(grammar: Grammar) -> set[int]:
    logits = np.zeros(grammar.tokenizer.size, np.float32)
    return set(np.flatnonzero(np.isfinite(grammar.mask(logits))).tolist())


def written(tokenizer: Tokenizer, schema: Any, seed: int) -> str:
    """The text of a model that knows nothing."""
    grammar, draw, ids = Grammar(tokenizer, json.dumps(schema)), np.random.default_rng(seed), []
    while not grammar.complete:
        logits = draw.normal(size=tokenizer.size).astype(np.float32)
        ids.append(int(np.argmax(grammar.mask(logits))))
        grammar.take(ids[-1])
    return tokenizer.decode(ids)


@pytest.mark.parametrize("seed", range(6))
def test_whatever_a_model_prefers_the_answer_fits_the_schema_in_one_spacing(tokenizer: Tokenizer, seed: int) -> None:
    text = written(tokenizer, SCHEMA, seed)
    value = json.loads(text)
    jsonschema.validate(value, SCHEMA)
    assert json.dumps(value, ensure_ascii=False) == text.removeprefix(" ")


def test_what_must_come_is_cut_as_the_tokenizer_cuts_it(tokenizer: Tokenizer) -> None:
    text = '{"city": "पुणे", "n": 4, "open": true}'
    grammar, ids, chosen = Grammar(tokenizer, json.dumps(SCHEMA)), tokenizer.encode(text), 0
    assert grammar.forced() == []  # a space may stand before
    place = 0
    while not grammar.complete:
        chosen += 1
        for token in [ids[place], *_taken(grammar, ids[place])]:
            assert token == ids[place]
            place += 1
    assert place == len(ids)
    assert chosen < len(ids) / 2


def _taken(grammar: Grammar, token: int) -> list[int]:
    """Go on with the token and with what then must come, which is returned."""
    grammar.take(token)
    found = [] if grammar.complete else grammar.forced()
    for one in found:
        grammar.take(one)
    return found


def test_allowed_logits_stay_what_they_are(tokenizer: Tokenizer) -> None:
    grammar = Grammar(tokenizer, json.dumps(SCHEMA))
    logits = np.arange(tokenizer.size, dtype=np.float32)
    masked = grammar.mask(logits)
    free = np.isfinite(masked)
    assert 0 < free.sum() < tokenizer.size
    assert (masked[free] == logits[free]).all()
    assert logits.tolist() == list(range(tokenizer.size))  # the caller's are not touched
    assert {tokenizer.decode([token])[:2] for token in allowed(grammar)} <= {"{", '{"', " ", " {"}


def test_the_end_may_come_only_when_the_object_is_whole(tokenizer: Tokenizer) -> None:
    schema = {"type": "object", "properties": {"a": {"enum": [1]}}, "required": ["a"], "additionalProperties": False}
    grammar = Grammar(tokenizer, json.dumps(schema))
    for token in tokenizer.encode('{"a": 1'):
        assert not grammar.complete
        assert tokenizer.eos_id not in allowed(grammar)
        grammar.take(token)
    for token in tokenizer.encode("}"):
        grammar.take(token)
    assert grammar.complete


def test_a_token_that_may_not_come_is_no_way_on(tokenizer: Tokenizer) -> None:
    grammar = Grammar(tokenizer, json.dumps(SCHEMA))
    with pytest.raises(RecipeError):
        grammar.take(tokenizer.encode("x")[0])


def test_a_schema_that_cannot_be_followed_is_named_in_one_line(tokenizer: Tokenizer) -> None:
    schema = json.dumps({"type": "object", "properties": {"a": {"not": {}}}})
    for refuse in (check, lambda text: Grammar(tokenizer, text)):
        with pytest.raises(RecipeError, match=r"task\.schema cannot be followed") as caught:
            refuse(schema)
        assert "\n" not in str(caught.value)
    check(json.dumps(SCHEMA))


def test_a_model_without_an_end_token_is_refused(tiny_llama: Path) -> None:
    endless = Tokenizer(tokenizers.Tokenizer.from_file(str(tiny_llama / "tokenizer.json")), {})
    with pytest.raises(EngineError, match="no end token"):
        Grammar(endless, json.dumps(SCHEMA))


def test_text_may_begin_with_anything_but_json_and_end_anywhere(tokenizer: Tokenizer) -> None:
    for schema in ("", json.dumps(SCHEMA)):
        grammar = Grammar(tokenizer, schema, plain=True)
        first = {tokenizer.decode([token]).lstrip()[:1] for token in allowed(grammar)}
        assert "[" not in first
        assert ("{" in first) is bool(schema)
        assert {"a", "5", '"'} <= first
        for token in tokenizer.encode("A {text}\n[of] नम"):
            grammar.take(token)
        assert tokenizer.eos_id in allowed(grammar)
        assert not grammar.complete


def test_a_schema_is_called_what_it_is() -> None:
    with pytest.raises(RecipeError, match=r"^task\.tools cannot be followed"):
        check('{"not": {}}', "task.tools")
