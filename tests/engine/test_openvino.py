"""On the real SmolLM2: OpenVINO against PyTorch, float32 against float32."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
import pytest

from aasut.engine import openvino, torch
from aasut.engine.base import Prompt, write
from aasut.engine.openvino import OpenVinoEngine
from aasut.engine.torch import TorchEngine
from aasut.errors import EngineError, ModelError
from aasut.formats import gguf_write

PREFIX = "Review: The strap broke on the first day.\nSentiment: negative\n\n"
SENTENCES = (
    "The battery lasts a whole weekend, even when I leave the screen on.",
    "It broke after two days and nobody answered my letters.",
    "Sound is fine.",
    "I would not buy this again, not even for half the price.",
    "The zoom is quick and the pictures are sharp in daylight, though at night there is a lot of noise.",
    "Setup took five minutes; my mother did it without any help.",
    "The manual is useless.",
    "After the last update the player forgets where it was in an audiobook every single time.",
    "Great value.",
    "My old one was lighter, faster and cheaper.",
    "The colour is not quite what the picture shows, but I do not mind.",
    "The remote works from across the room and through a closed door.",
    "They charged me twice, and I am still waiting for my money.",
    "It does exactly what it says.",
    "I returned it; the second one had the same scratch on the lens.",
    "The buttons are too small for my hands.",
    "We have used it daily for three years without a single fault.",
    "Customer service was friendly, quick, and solved it in one call.",
    "The case smells of plastic, even after a month in the open air.",
    "Nothing special.",
)
PROMPTS = [f"Review: {sentence}\nSentiment:" for sentence in SENTENCES]
ONE_TOKEN = [" negative", " positive"]
SEVERAL = [" billing_refund", " billing_dispute", " billing", " shipping_late", " shipping_lost", " bill"]


@pytest.fixture(scope="module")
def file(smollm2: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("gguf") / "smollm2.gguf"
    gguf_write.write(smollm2, path, "bf16")
    return path


@pytest.fixture(scope="module")
def reference(smollm2: Path) -> TorchEngine:
    return torch.load(smollm2, precision="float32")


@pytest.fixture(scope="module")
def engine(file: Path) -> OpenVinoEngine:
    return openvino.load(file, precision="float32")


@pytest.mark.parametrize("answers", [ONE_TOKEN, SEVERAL], ids=["one token", "several tokens"])
def test_scores_equal_torch_with_and_without_the_prefix_cache(
    engine: OpenVinoEngine, reference: TorchEngine, answers: list[str]
) -> None:
    whole = reference.score(PROMPTS, answers).logprobs
    assert np.ptp(whole, axis=0).max() > 0.5
    assert engine.score(PROMPTS, answers).logprobs == pytest.approx(whole, abs=2e-2)
    prompts = [PREFIX + prompt for prompt in PROMPTS[:8]]
    expected = reference.score(prompts, answers, prefix=PREFIX)
    for prefix_cache in (True, False, True):
        engine.prefix_cache = prefix_cache
        found = engine.score(prompts, answers, prefix=PREFIX)
        assert found.logprobs == pytest.approx(expected.logprobs, abs=2e-2)
        assert found.usage.prompt_tokens == expected.usage.prompt_tokens
        assert (found.usage.cached_tokens > 0) is prefix_cache


def test_scores_do_not_depend_on_neighbours_or_on_what_was_asked_before(engine: OpenVinoEngine) -> None:
    together = engine.score(PROMPTS, SEVERAL).logprobs
    engine.score([PREFIX + prompt for prompt in PROMPTS[:3]], ONE_TOKEN, prefix=PREFIX)
    write(engine, [Prompt("Once", 3)])
    alone = [engine.score([prompt], SEVERAL).logprobs[0] for prompt in PROMPTS[:6]]
    assert together[:6] == pytest.approx(np.array(alone), abs=1e-3)


def test_greedy_text_equals_torch(engine: OpenVinoEngine, reference: TorchEngine) -> None:
    for prompt in (PROMPTS[0], "The capital of France is", PROMPTS[1] + " negative"):
        found = write(engine, [Prompt(prompt, 8)])[0].text
        assert found == write(reference, [Prompt(prompt, 8)])[0].text
        assert len(found) > 10


def test_many_answers_at_once_are_those_of_one_at_a_time(engine: OpenVinoEngine) -> None:
    engine.prefix_cache = True
    prompts = [Prompt(PREFIX + text, 3 + number % 5) for number, text in enumerate(PROMPTS[:9])]
    alone = [write(engine, [prompt])[0] for prompt in prompts]
    assert write(engine, prompts) == alone
    shared = write(engine, prompts, prefix=PREFIX)
    engine.prefix_cache = False
    assert write(engine, prompts, prefix=PREFIX) == shared
    engine.prefix_cache = True


def test_bfloat16_answers_nearly_as_float32(file: Path, engine: OpenVinoEngine) -> None:
    fast = openvino.load(file, precision="bfloat16")
    assert (fast.name, engine.name) == ("openvino-bfloat16", "openvino-float32")
    few = PROMPTS[:5]  # a processor without bfloat16 takes seconds for each
    exact = engine.score(few, ONE_TOKEN).logprobs
    plain = fast.score(few, ONE_TOKEN).logprobs
    assert np.abs(np.exp(plain) - np.exp(exact)).max() < 0.05
    assert (plain.argmax(axis=1) == exact.argmax(axis=1)).all()
    prompts = [PREFIX + prompt for prompt in PROMPTS[:2]]
    kept = fast.score(prompts, ONE_TOKEN, prefix=PREFIX).logprobs
    fast.prefix_cache = False
    assert np.exp(kept) == pytest.approx(np.exp(fast.score(prompts, ONE_TOKEN, prefix=PREFIX).logprobs), abs=0.05)


def test_the_engine_says_what_the_file_is(engine: OpenVinoEngine, reference: TorchEngine) -> None:
    assert engine.parameters == reference.parameters
    assert engine.context == reference.context
    assert engine.count_tokens(PROMPTS[0]) == reference.count_tokens(PROMPTS[0])


def test_more_than_the_context_is_refused(engine: OpenVinoEngine) -> None:
    with pytest.raises(ModelError, match=f"context has {engine.context}"):
        engine.score(["word " * 9000], ONE_TOKEN)
    with pytest.raises(ModelError, match=f"context of {engine.context}"):
        write(engine, [Prompt("word", 9000)])


def test_a_folder_of_a_llama_is_packed_once(
    smollm2: Path, engine: OpenVinoEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    found = openvino.load(smollm2, precision="float32").score(PROMPTS[:4], ONE_TOKEN)
    assert np.array_equal(found.logprobs, engine.score(PROMPTS[:4], ONE_TOKEN).logprobs)
    (packed,) = (tmp_path / "aasut" / "openvino").glob("*.gguf")
    written = packed.stat().st_mtime_ns
    openvino.load(smollm2, precision="float32")
    assert packed.stat().st_mtime_ns == written


def test_a_folder_of_another_architecture_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"architectures": ["Gemma3ForCausalLM"]}', encoding="utf-8")
    with pytest.raises(EngineError, match="reads no folder of Gemma3ForCausalLM"):
        openvino.load(tmp_path)


def test_an_architecture_that_openvino_does_not_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "gemma.gguf"
    writer = gguf.GGUFWriter(path, "gemma3")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(EngineError, match="'gemma3'") as error:
        openvino.load(path)
    assert "torch" in error.value.remedy


def test_an_unknown_precision_is_refused(file: Path) -> None:
    with pytest.raises(EngineError, match="float16"):
        openvino.load(file, precision="float16")
