"""The engine on PyTorch with transformers' model classes: every architecture, CPU and CUDA, and the reference."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from aasut.engine import attention, experts
from aasut.engine.attention import KeyValues
from aasut.engine.base import Piece, Prompt, Scores
from aasut.engine.common import PREFIXES_KEPT, begin, plan
from aasut.engine.decode import ALTERNATIVES, Logits, decode
from aasut.engine.layout import batches
from aasut.errors import EngineError, ModelError
from aasut.formats import gguf, safetensors
from aasut.formats.tokenizer import Tokenizer, read_json

Model = Any  # transformers ships no types for its model classes

SCORE_TOKENS = 1024  # tokens of a batch; larger ones were not faster on CPU
ATTENTION = {"full_attention", "sliding_attention"}
SCALED = ("final_logit_softcapping", "logits_scaling", "logit_scale", "lm_head_multiplier")


def load(path: Path, *, precision: str = "auto", prefix_cache: bool = True) -> TorchEngine:
    """Load a safetensors folder, or a GGUF file. Raises ModelError where it is incomplete or of a kind not known."""
    if path.is_file():
        with tempfile.TemporaryDirectory() as folder:
            gguf.to_folder(path, Path(folder))
            return load(Path(folder), precision=precision, prefix_cache=prefix_cache)
    dtype = choose_precision(precision)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return TorchEngine(load_model(path, dtype).to(device), Tokenizer.load(path), prefix_cache=prefix_cache)


def choose_precision(precision: str) -> torch.dtype:
    """`auto` is bfloat16 where the processor has instructions for it, float32 elsewhere."""
    if precision == "auto":
        fast = torch.cuda.is_available() or torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
        return torch.bfloat16 if fast else torch.float32
    if precision not in ("bfloat16", "float32"):
        raise EngineError(f"There is no precision {precision!r}.", "Choose auto, bfloat16 or float32.")
    return torch.bfloat16 if precision == "bfloat16" else torch.float32


def load_model(path: Path, dtype: torch.dtype) -> Model:
    """A transformers model from a safetensors folder, in evaluation mode.

    Raises ModelError where weights are missing or of another shape, which transformers would fill with
    random numbers, and for architectures that `hidden_states` does not fit.
    """
    import transformers

    _check_config(path)
    attention.register()
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    try:
        model, found = transformers.AutoModelForCausalLM.from_pretrained(
            path,
            dtype=dtype,
            local_files_only=True,
            use_safetensors=True,
            attn_implementation=attention.NAME,
            ignore_mismatched_sizes=True,  # they are reported below
            output_loading_info=True,
        )
    except Exception as error:  # the library raises what its parts raise
        reason = " ".join(str(error).split())[:300]
        raise ModelError(f"{path} cannot be loaded: {reason}.", "Check the model's files and architecture.") from error
    lacking = sorted({*found["missing_keys"], *(name for name, *_ in found["mismatched_keys"])})
    if lacking:
        raise ModelError(f"{path} lacks {lacking[0]}, or has it in another shape.", "Fetch the model again.")
    unused = sorted(name for name in found["unexpected_keys"] if ".layers." in name)
    if unused:
        raise ModelError(f"{path} holds {unused[0]}, which its config.json has no use for.", "Fetch the model again.")
    _check_architecture(model, path)
    experts.install(model)
    return model.eval()


def _check_config(path: Path) -> None:
    """Raise ModelError for sizes that are no sizes, or that need more weights than the files can hold."""
    config = read_json(path / "config.json")
    for name in ("hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size"):
        if name in config and (not isinstance(config[name], int) or config[name] < 1):
            raise ModelError(f"{path}/config.json: {name} is {config[name]!r}.", "Fetch the model again.")
    width = int(config.get("hidden_size", 1))
    least = width * max(int(config.get("vocab_size", 1)), width * int(config.get("num_hidden_layers", 1)))
    held = sum(file.stat().st_size for file in safetensors.files(path))
    if least > 8 * held:  # even a weight of one bit, eight to a byte, would not fit
        raise ModelError(
            f"{path}/config.json tells of {least:,} weights at least, and the files hold {held:,} bytes.",
            "Fetch the model again.",
        )


def _check_architecture(model: Model, path: Path) -> None:
    """Raise ModelError unless logits are the last hidden states times the output matrix, and layers plain attention."""
    reasons = [name for name in SCALED if getattr(model.config, name, None) not in (None, 1.0)]
    reasons += sorted(set(getattr(model.config, "layer_types", None) or ()) - ATTENTION)
    if not hasattr(getattr(model, "model", None), "layers"):
        reasons.append("layers in another place")
    if getattr(model.get_output_embeddings(), "bias", None) is not None:
        reasons.append("a bias on the output")
    if reasons:
        raise ModelError(
            f"{path}: {type(model).__name__} is of an architecture that is not known here: it has {reasons[0]}.",
            "Take a model such as Llama, Qwen, Mistral or Gemma 3.",
        )


class Cache:
    """The little that transformers' attention asks of a cache: it notes new keys and values.

    `past` has batch 1 and is shared by all rows; `attention.attend` meets it apart from the others.
    `rows` are each row's own earlier keys and values, [B, heads, T, head size] a layer, which stand at
    the positions `places` [B, T]; `new` holds them and what came to them.
    """

    is_compileable = False

    def __init__(
        self, past: KeyValues | None, rows: KeyValues | None = None, places: torch.Tensor | None = None
    ) -> None:
        self.past, self.rows, self.places = past, rows, places
        self.new: KeyValues = []

    def update(
        self, keys: torch.Tensor, values: torch.Tensor, layer: int, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if self.rows is not None:
            before = self.rows[layer]
            keys, values = torch.cat([before[0], keys], 2), torch.cat([before[1], values], 2)
        self.new.append((keys, values))
        return keys, values

    def get_seq_length(self, *_: Any) -> int:
        return 0 if self.past is None else int(self.past[0][0].shape[2])


def hidden_states(
    model: Model, ids: torch.Tensor, positions: torch.Tensor, within: torch.Tensor | None, cache: Cache | None
) -> torch.Tensor:
    """Last hidden states after the final norm, [B, S, d], of `ids` [B, S] behind the cache's prefix.

    `within` [B, S, K] says which keys of its own row, the cache's first, a query sees; None for plain causal order.
    """
    rows, width = ids.shape
    prefix = cache.get_seq_length() if cache is not None else 0
    dtype, device = model.dtype, ids.device
    if within is None:
        within = torch.ones(width, width, dtype=torch.bool, device=device).tril()[None]
    seen = torch.cat([within.new_ones(within.shape[0], width, prefix), within], dim=2)
    mask: Any = _additive(seen, dtype)
    kinds = getattr(model.config, "layer_types", None)  # without them, a window holds for all layers
    window = getattr(model.config, "sliding_window", None)
    if window and (not kinds or "sliding_attention" in kinds):
        own = positions if cache is None or cache.places is None else torch.cat([cache.places, positions], 1)
        keys = torch.cat([torch.arange(prefix, device=device)[None].expand(rows, -1), own], dim=1)
        near = positions[:, :, None] - keys[:, None, :] < window
        sliding = mask if near.all() else _additive(seen & near, dtype)
        mask = {"full_attention": mask, "sliding_attention": sliding} if kinds else sliding
    output = model.model(
        input_ids=ids,
        position_ids=positions,
        attention_mask=mask,
        use_cache=cache is not None,
        shared_prefix=cache.past if cache is not None else None,
        **{_name_of_cache(type(model.model).forward): cache},
    )
    return output.last_hidden_state  # type: ignore[no-any-return]


@lru_cache
def _name_of_cache(forward: Callable[..., Any]) -> str:
    """What a model class calls its argument for a cache: newer releases of transformers have renamed it."""
    return "cache" if "cache" in signature(forward).parameters else "past_key_values"


def _additive(seen: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """[rows, 1, queries, keys]: 0 where a query sees a key, minus infinity elsewhere."""
    return torch.zeros(seen.shape, dtype=dtype, device=seen.device).masked_fill_(~seen, float("-inf"))[:, None]


class TorchEngine:
    """See `engine.base.Engine`."""

    alternatives = ALTERNATIVES

    def __init__(self, model: Model, tokenizer: Tokenizer, *, prefix_cache: bool = True) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.prefix_cache = prefix_cache
        self.name = f"torch-{str(model.dtype).removeprefix('torch.')}"
        self.parameters = sum(p.numel() for p in model.parameters())
        self.context = int(getattr(model.config, "max_position_embeddings", 1 << 30))
        self._prefixes: dict[tuple[int, ...], KeyValues] = {}

    @torch.inference_mode()
    def score(self, prompts: Sequence[str], answers: Sequence[str], *, prefix: str = "") -> Scores:
        call = plan(self.tokenizer, prompts, answers, prefix, reuse=self.prefix_cache, context=self.context)
        tree, device = call.tree, self.model.device
        past = self._state(call.prefix) if call.prefix else None
        weight = self.model.get_output_embeddings().weight[list(tree.columns)].float()  # [columns, d]
        result = np.zeros((len(prompts), len(answers)))
        for batch in batches(call.rows, tree, prefix=len(call.prefix), max_tokens=SCORE_TOKENS):
            within = None if batch.mask is None else torch.from_numpy(batch.mask).to(device)
            ids, positions = torch.from_numpy(batch.ids).to(device), torch.from_numpy(batch.positions).to(device)
            hidden = hidden_states(self.model, ids, positions, within, Cache(past))
            decide = torch.from_numpy(batch.decide).to(device)
            chosen = hidden.gather(1, decide[:, :, None].expand(-1, -1, hidden.shape[2])).float()
            logits: NDArray[np.float64] = (chosen @ weight.T).double().cpu().numpy()
            result[batch.rows] = tree.logprobs(logits)
        return Scores(result, call.usage)

    def _state(self, prefix: tuple[int, ...]) -> KeyValues:
        if prefix not in self._prefixes:
            cache = Cache(None)
            ids = torch.tensor([prefix], device=self.model.device)
            hidden_states(self.model, ids, torch.arange(len(prefix), device=ids.device)[None], None, cache)
            while len(self._prefixes) >= PREFIXES_KEPT:
                self._prefixes.pop(next(iter(self._prefixes)))
            self._prefixes[prefix] = cache.new
        return self._prefixes[prefix]

    def generate(self, prompts: Sequence[Prompt], *, prefix: str = "") -> Iterator[Piece]:
        stepper = _Stepper(self)
        return decode(stepper, self.tokenizer, prompts, prefix, reuse=self.prefix_cache, context=self.context)

    def count_tokens(self, text: str) -> int:
        return len(begin(self.tokenizer, text))

    def close(self) -> None:
        self._prefixes.clear()
        del self.model


class _Stepper:
    """See `engine.decode.Stepper`. Rows are padded on the right; later tokens stand behind the padding."""

    def __init__(self, engine: TorchEngine) -> None:
        self.engine, self.model = engine, engine.model
        self.past: KeyValues | None = None
        self.rows: KeyValues = []
        self.places = self.seen = torch.empty(0)  # [B, T]: positions of what is kept, and what of it is no padding

    @torch.inference_mode()
    def start(self, prefix: tuple[int, ...], rows: Sequence[Sequence[int]]) -> Logits:
        self.past = self.engine._state(prefix) if prefix else None
        device = self.model.device
        ids, lengths = _padded(rows, device)
        order = torch.arange(ids.shape[1], device=device)
        self.places = (len(prefix) + order)[None].expand(len(rows), -1)
        self.seen = order[None] < lengths[:, None]
        cache = Cache(self.past)
        hidden = hidden_states(self.model, ids, self.places, None, cache)
        self.rows = cache.new
        self._next = len(prefix) + lengths
        return self._logits(hidden[torch.arange(len(rows), device=device), lengths - 1])

    @torch.inference_mode()
    def advance(self, keep: Sequence[int], tokens: Sequence[Sequence[int]]) -> Logits:
        device = self.model.device
        if len(keep) < len(self.seen):
            chosen = torch.tensor(keep, device=device)
            self.rows = [(keys[chosen], values[chosen]) for keys, values in self.rows]
            self.places, self.seen, self._next = self.places[chosen], self.seen[chosen], self._next[chosen]
        ids, lengths = _padded(tokens, device)
        count, width = ids.shape
        order = torch.arange(width, device=device)
        positions = self._next[:, None] + order
        causal = (order[:, None] >= order).expand(count, -1, -1)
        within = torch.cat([self.seen[:, None].expand(-1, width, -1), causal], 2)
        cache = Cache(self.past, self.rows, self.places)
        hidden = hidden_states(self.model, ids, positions, within, cache)
        self.rows = cache.new
        self.seen = torch.cat([self.seen, order < lengths[:, None]], 1)
        self.places = torch.cat([self.places, positions], 1)
        self._next = self._next + lengths
        return self._logits(hidden[torch.arange(count, device=device), lengths - 1])

    def _logits(self, hidden: torch.Tensor) -> Logits:
        logits: Logits = self.model.lm_head(hidden).float().cpu().numpy()
        return logits


def _padded(rows: Sequence[Sequence[int]], device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """(ids [rows, longest], with zeros behind; lengths [rows])."""
    width = max(len(row) for row in rows)
    ids = torch.tensor([[*row, *[0] * (width - len(row))] for row in rows], device=device)
    return ids, torch.tensor([len(row) for row in rows], device=device)
