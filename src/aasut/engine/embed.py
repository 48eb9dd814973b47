"""Embeddings of sentences: encoders of transformers, pooled and prompted as the model's folder says.

A text that is longer than the model reads is not cut: it is read in windows, and its vector is the mean of theirs, each
weighted by its tokens (Sentence-BERT pools a text's tokens in the same way; Reimers and Gurevych 2019).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from aasut.errors import ModelError
from aasut.formats.tokenizer import read_json
from aasut.progress import Progress
from aasut.sources.hub import POOLING

Vectors = NDArray[np.float32]

BATCH_TOKENS = 8192  # of a batch, padding counted; bounds memory
AT_ONCE = 1024  # texts that are tokenised at once, to make batches of like lengths
_POOLINGS = ("cls", "mean", "max")
_QUIET = Progress(quiet=True)


def load(path: Path) -> Embedder:
    """Load an encoder from a safetensors folder. Raises ModelError for one that is incomplete or pools unknown ways."""
    tokenizer = _tokenizer(path)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = _model(path).to(device)
    return Embedder(model, tokenizer, _pooling(path), _longest(path, model.config), _prompts(path))


@dataclass(frozen=True)
class _Window:
    """Tokens that are read at once. `text`: number of the text that they are of. `weight`: tokens of it."""

    text: int
    ids: list[int]
    weight: int


class Embedder:
    """Turns texts into vectors of length 1, `width` numbers each.

    longest: tokens that the model reads at once, its own marks included. prompts: what stands before a question and
    before a text that is searched.
    """

    def __init__(self, model: Any, tokenizer: Any, pooling: str, longest: int, prompts: tuple[str, str]) -> None:
        self.model, self.tokenizer, self.pooling = model, tokenizer, pooling
        self.longest, self.prompts = longest, prompts
        self.width: int = model.config.hidden_size
        self.padding: int = model.config.pad_token_id or 0

    def embed(self, texts: Sequence[str], *, query: bool = False, progress: Progress = _QUIET) -> Vectors:
        """float32 [texts, width]. `query`: the texts are questions; models that part them from passages are told so."""
        out = np.empty((len(texts), self.width), dtype=np.float32)
        with progress.steps("embed texts", len(texts)) as step:
            for start in range(0, len(texts), AT_ONCE):
                some = texts[start : start + AT_ONCE]
                out[start : start + len(some)] = self._embed(some, self.prompts[0 if query else 1])
                step.advance(len(some))
        return out

    def _embed(self, texts: Sequence[str], prompt: str) -> Vectors:
        """Windows from long to short, so that a batch is little padded and the largest comes first."""
        windows = sorted(self._windows(texts, prompt), key=lambda window: (-len(window.ids), window.text))
        sums = np.zeros((len(texts), self.width), dtype=np.float32)
        for batch in _batches(windows):
            weights = np.array([[window.weight] for window in batch], dtype=np.float32)
            np.add.at(sums, [window.text for window in batch], self._pooled(batch) * weights)
        lengths: Vectors = np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-12)
        return sums / lengths

    def _windows(self, texts: Sequence[str], prompt: str) -> Iterator[_Window]:
        """A text in one window as the tokenizer has it; a longer one in windows of like size, each with the prompt."""
        marks = self.tokenizer.encode(prompt + "a").special_tokens_mask
        right = marks[::-1].index(0)
        empty = self.tokenizer.encode(prompt).ids  # the model's own marks, and the prompt within
        before, after = empty[: len(empty) - right], empty[len(empty) - right :]
        room = self.longest - len(empty)
        for number, coded in enumerate(self.tokenizer.encode_batch([prompt + text for text in texts])):
            if len(coded.ids) <= self.longest:
                yield _Window(number, coded.ids, len(coded.ids))
                continue
            inner = coded.ids[len(before) : len(coded.ids) - right]
            size = -(-len(inner) // -(-len(inner) // room))
            for start in range(0, len(inner), size):
                piece = inner[start : start + size]
                yield _Window(number, [*before, *piece, *after], len(piece))

    @torch.inference_mode()
    def _pooled(self, batch: Sequence[_Window]) -> Vectors:
        """float32 [windows, width]."""
        most = max(len(window.ids) for window in batch)
        ids = torch.full((len(batch), most), self.padding)
        mask = torch.zeros((len(batch), most), dtype=torch.long)
        for row, window in enumerate(batch):
            ids[row, : len(window.ids)] = torch.tensor(window.ids)
            mask[row, : len(window.ids)] = 1
        device = self.model.device
        hidden = self.model(input_ids=ids.to(device), attention_mask=mask.to(device)).last_hidden_state.float()
        inside = mask.to(device)[:, :, None].bool()
        if self.pooling == "cls":
            pooled = hidden[:, 0]
        elif self.pooling == "max":
            pooled = hidden.masked_fill(~inside, -torch.inf).amax(1)
        else:
            pooled = hidden.masked_fill(~inside, 0).sum(1) / inside.sum(1)
        found: Vectors = pooled.cpu().numpy()
        return found


def _batches(windows: Sequence[_Window]) -> Iterator[list[_Window]]:
    batch: list[_Window] = []
    for window in windows:
        if batch and len(batch[0].ids) * (len(batch) + 1) > BATCH_TOKENS:
            yield batch
            batch = []
        batch.append(window)
    if batch:
        yield batch


def _tokenizer(path: Path) -> Any:
    """The folder's own, which may say that it cuts and pads: here it does neither."""
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_file(str(path / "tokenizer.json"))
    except Exception as error:  # the library raises bare exceptions
        reason = " ".join(str(error).split())[:200]
        raise ModelError(f"{path / 'tokenizer.json'} cannot be read: {reason}.", "Fetch the model again.") from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _model(path: Path) -> Any:
    import transformers

    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    try:
        model, found = transformers.AutoModel.from_pretrained(
            path, dtype=torch.float32, local_files_only=True, use_safetensors=True, output_loading_info=True
        )
    except Exception as error:  # the library raises what its parts raise
        reason = " ".join(str(error).split())[:300]
        raise ModelError(f"{path} cannot be loaded: {reason}.", "Check the model's files and architecture.") from error
    # The pooler of BERT is for another task; models of sentences often lack it.
    lacking = sorted(name for name in found["missing_keys"] if not name.startswith("pooler."))
    if lacking:
        raise ModelError(f"{path} lacks {lacking[0]}.", "Fetch the model again.")
    return model.eval()


def _pooling(path: Path) -> str:
    """What 1_Pooling/config.json names; the mean of the tokens where there is none."""
    further = [kind for kind in _modules(path) if kind not in ("transformer", "pooling", "normalize")]
    if further:
        raise ModelError(f"{path} has a {further[0]} layer behind its encoder.", "Take a model without one.")
    if not (path / POOLING).is_file():
        return "mean"
    settings = read_json(path / POOLING)
    chosen = [key for key, value in settings.items() if key.startswith("pooling_mode_") and value is True]
    names = [key.removeprefix("pooling_mode_").partition("_tokens")[0].partition("_token")[0] for key in chosen]
    names = names or [str(settings.get("pooling_mode", "mean"))]
    if len(names) != 1 or names[0] not in _POOLINGS:
        raise ModelError(
            f"{path} pools by {' and '.join(names)}.", f"Take a model that does by {', '.join(_POOLINGS)}."
        )
    return names[0]


def _modules(path: Path) -> list[str]:
    """Kinds of the layers that sentence-transformers puts one behind another."""
    if not (path / "modules.json").is_file():
        return []
    try:
        modules = json.loads((path / "modules.json").read_text(encoding="utf-8"))
        return [module["type"].rsplit(".", 1)[-1].lower() for module in modules]
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise ModelError(f"{path / 'modules.json'} lists no modules: {error}.", "Fetch the model again.") from error


def _longest(path: Path, config: Any) -> int:
    """Tokens that the model was made to read at once: the least of what its files say."""
    said = [getattr(config, "max_position_embeddings", None)]
    if config.model_type in ("roberta", "xlm-roberta", "camembert", "mpnet"):  # their positions begin after the padding
        said = [said[0] and said[0] - config.pad_token_id - 1]
    for name, key in (("sentence_bert_config.json", "max_seq_length"), ("tokenizer_config.json", "model_max_length")):
        if (path / name).is_file():
            said.append(read_json(path / name).get(key))
    known = [int(number) for number in said if number]
    if not known:
        raise ModelError(f"{path} does not say how many tokens it reads.", "Add max_seq_length to its settings.")
    return min(known)


def _prompts(path: Path) -> tuple[str, str]:
    """What stands before a question, and before a text: as the folder says, else as models of the E5 family want it."""
    config, name = read_json(path / "config.json"), "config_sentence_transformers.json"
    told = (read_json(path / name).get("prompts") if (path / name).is_file() else None) or {}
    if any(told.values()):
        passage = next((told[key] for key in ("document", "passage") if key in told), "")
        return str(told.get("query", "")), str(passage)
    card = (path / "README.md").read_text("utf-8", "replace") if (path / "README.md").is_file() else ""
    named = any(
        re.search(r"\be5-(?!.*instruct)", name.lower()) for name in (path.name, config.get("_name_or_path", ""))
    )
    return ("query: ", "passage: ") if named or ('"query: ' in card and '"passage: ' in card) else ("", "")
