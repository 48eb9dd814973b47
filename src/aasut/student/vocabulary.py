"""Which tokens a student keeps: those that its data is written in, as far as there is room, and what they need.

A student reads one kind of prompt and writes one kind of answer, and most rows of its embeddings stand for words that
neither has. They go (vocabulary trimming, Ushio et al. 2023); any other text is still read and written, in more tokens.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from aasut.engine.common import begin, opening
from aasut.engine.torch import choose_precision, hidden_states, load_model
from aasut.errors import RecipeError
from aasut.formats import safetensors, trim_model
from aasut.formats.tokenizer import Tokenizer, read_json
from aasut.formats.trim import Trim
from aasut.recipe import Student

HELD = 32  # held-out prompts that losses are told of
HELD_CHARACTERS = 1000  # of each


@dataclass(frozen=True)
class Use:
    """What a student's tokens are for.

    prompts   of the pool, in the student's own form
    answers   that it learns, as they continue its prompt
    template  the student's prompt with nothing filled in
    held      prompts that nothing is chosen by
    """

    prompts: Sequence[str]
    answers: Sequence[str]
    template: str
    held: Sequence[str] = ()

    @property
    def texts(self) -> list[str]:
        return [*self.prompts, *self.answers]


def trim(folder: Path, settings: Student, use: Use) -> dict[str, Any]:
    """Leave out of the model in `folder` what the data has no use for; gives facts.

    Raises RecipeError where `vocabulary.tokens` has no room for what answers and template need.
    """
    wanted = settings.vocabulary
    tokenizer = Tokenizer.load(folder)
    rules = Trim(read_json(folder / "tokenizer.json"), folder)
    counts = used(tokenizer, use.texts)
    ends = [] if tokenizer.eos_id is None else [tokenizer.eos_id]
    needed = {*used(tokenizer, [use.template, *use.answers]), *ends, *trim_model.named(folder)}
    chosen = choose(rules, needed, counts, wanted.tokens if wanted else None)
    before = _measured(folder, settings, use)
    kept = trim_model.rewrite(folder, chosen)
    after = _measured(folder, settings, use)
    lost = counts.total() - sum(counts[token] for token in kept)
    both = {name: [before[name], after[name]] for name in before}
    return {**both, "split_share": lost / max(counts.total(), 1), "held_prompts": len(use.held[:HELD])}


def used(tokenizer: Tokenizer, texts: Sequence[str]) -> Counter[int]:
    """How often each token stands in the texts."""
    found: Counter[int] = Counter()
    for ids in tokenizer.encode_all(texts):
        found.update(ids)
    return found


def choose(rules: Trim, needed: Iterable[int], counts: Counter[int], most: int | None) -> set[int]:
    """The tokens that stay: what is needed, then the most used, each with what it is made of; of `most` at most.

    Raises RecipeError where what is needed is more.
    """
    stay = rules.close(needed)
    if most is not None and len(stay) > most:
        raise RecipeError(
            f"student.vocabulary.tokens is {most}; single bytes, control tokens, answers and prompt need {len(stay)}.",
            f"Set it to {len(stay)} or more, or leave it out: then all that the data uses stays.",
        )
    for token in sorted(counts, key=lambda token: (-counts[token], token)):
        more = rules.path(token) - stay
        if most is None or len(stay) + len(more) <= most:
            stay |= more
    return stay


def _measured(folder: Path, settings: Student, use: Use) -> dict[str, Any]:
    """What trimming changes, of the model in `folder` as it stands."""
    tokenizer = Tokenizer.load(folder)
    model = load_model(folder, choose_precision(settings.precision))
    model.to("cuda" if torch.cuda.is_available() else "cpu")
    return {
        "tokens": tokenizer.size,
        "parameters": safetensors.parameters(folder),
        "tokens_per_text": _mean_tokens(tokenizer, use.texts),
        "held_tokens_per_text": _mean_tokens(tokenizer, use.held),
        "nats_per_byte": nats_per_byte(model, tokenizer, use.held[:HELD]),
    }


def _mean_tokens(tokenizer: Tokenizer, texts: Sequence[str]) -> float | None:
    return sum(len(begin(tokenizer, text)) for text in texts) / len(texts) if texts else None


@torch.inference_mode()
def nats_per_byte(model: Any, tokenizer: Tokenizer, texts: Sequence[str]) -> float | None:
    """Σ -ln p(token) over the UTF-8 bytes of the texts, which all tokenizers have in common; None where there are none.

    The first HELD_CHARACTERS of each text count, as far as that fits the context in single bytes.
    """
    before = opening(tokenizer)
    room = int(model.config.max_position_embeddings) - len(before)
    total, size = 0.0, 0
    for text in texts:
        part = text[:HELD_CHARACTERS].encode("utf-8")[:room].decode("utf-8", "ignore")
        ids = torch.tensor([[*before, *tokenizer.encode(part)]], device=model.device)
        hidden = hidden_states(model, ids, torch.arange(ids.shape[1], device=ids.device)[None], None, None)
        logits = model.get_output_embeddings()(hidden[0, len(before) - 1 : -1]).float()
        total += float(torch.nn.functional.cross_entropy(logits, ids[0, len(before) :], reduction="sum"))
        size += len(part.encode("utf-8"))
    return total / size if size else None
