"""A pruned student, whose heads are no longer its width shared out, is the same model in every written form."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import deep_llama
import pytest
from deep_llama import PROMPTS, pruning

from aasut.engine import openvino
from aasut.engine import torch as torch_engine
from aasut.engine.base import Engine, Prompt, write
from aasut.export import roundtrip
from aasut.formats import gguf_read, gguf_write
from aasut.student import prune

SHAPES: list[dict[str, Any]] = [
    {"heads": 2},
    {"channels": 48, "heads": 2, "neurons": 40},
    {"layers": 3, "channels": 40, "neurons": 33},
]


def answers(engine: Engine) -> list[str]:
    return [answer.text for answer in write(engine, [Prompt(prompt, 12) for prompt in PROMPTS])]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("tied", [True, False])
def test_every_form_gives_the_same_greedy_answers(
    tiny_llama: Path, tmp_path: Path, shape: dict[str, Any], tied: bool
) -> None:
    source, start = tmp_path / "source", tmp_path / "start"
    deep_llama.llama(source, tiny_llama, tie_word_embeddings=tied)
    prune.pruned(pruning(**shape), source, PROMPTS, start)
    (start / "chat_template.jinja").write_text("{{ messages[0]['content'] }}")
    file = tmp_path / "student.gguf"
    gguf_write.write(start, file, "bf16")
    read = gguf_read.read(file)
    assert read.get("attention.key_length") == 16 != read.get("embedding_length") // read.get("attention.head_count")
    proved = roundtrip.prove(start, start, file, PROMPTS, [])
    assert proved["greedy_answers_equal"]
    ours, served = torch_engine.load(start, precision="float32"), openvino.load(file, precision="float32")
    assert answers(ours) == answers(served)
    one, other = (engine.score(PROMPTS, ["great", " two"]).logprobs for engine in (ours, served))
    assert one == pytest.approx(other, abs=1e-3)
