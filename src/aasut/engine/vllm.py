"""The engine on vLLM, an optional extra: dense models and Mixtures of Experts on a GPU server.

vLLM runs in a process of its own and batches continuously. What is asked of it, and what it says, is in `vllm_rows`.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from aasut.engine.base import Piece, Prompt, Scores
from aasut.engine.common import begin, plan
from aasut.engine.decode import ALTERNATIVES, ROWS
from aasut.engine.session import write_all
from aasut.engine.vllm_rows import Place, Requests, Session, choice, filled, places
from aasut.errors import EngineError
from aasut.formats import gguf, safetensors
from aasut.formats.tokenizer import Tokenizer, read_json

SCORED = 256  # prompts whose places are with vLLM at once
STORE = 1 << 32  # bytes of keys and values at most, where one whole context does not need more
QUIET = {"VLLM_NO_USAGE_STATS": "1", "VLLM_LOGGING_LEVEL": "ERROR", "HF_HUB_OFFLINE": "1"}


def fits() -> bool:
    """Are vLLM and a CUDA device there?"""
    if find_spec("vllm") is None:
        return False
    import torch

    return torch.cuda.is_available()


def require() -> None:
    """Raises EngineError where vLLM is not installed."""
    if find_spec("vllm") is None:
        raise EngineError("The engine vllm is not installed.", "Run: pip install 'aasut[vllm]'")


def load(path: Path, *, precision: str = "auto", prefix_cache: bool = True) -> VllmEngine:
    """Load a safetensors folder, or a GGUF file. Raises EngineError where vLLM is not installed or cannot load it."""
    require()
    if path.is_file():
        with tempfile.TemporaryDirectory() as folder:
            gguf.to_folder(path, Path(folder))
            return load(Path(folder), precision=precision, prefix_cache=prefix_cache)
    import torch

    from aasut.engine.torch import choose_precision

    dtype = str(choose_precision(precision)).removeprefix("torch.")
    tokenizer, config = Tokenizer.load(path), read_json(path / "config.json")
    check(config, path)
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    import vllm

    longest = int(config.get("max_position_embeddings", 4096))
    wanted = {
        "dtype": dtype, "max_model_len": longest, "max_num_seqs": ROWS, "enable_prefix_caching": True,
        "kv_cache_memory_bytes": store_of(config, longest, 4 if dtype == "float32" else 2),
        "gpu_memory_utilization": 0.05,  # only looked at before the weights are read, where the line above is given
        "hf_overrides": {"head_dtype": "float32"},  # logits of bfloat16 would be too coarse for probabilities
        "structured_outputs_config": {"backend": "guidance"}, "generation_config": "vllm",
        "enforce_eager": not torch.cuda.is_available(),
    }  # fmt: skip
    try:
        requests = Requests(vllm.LLM(str(path), **wanted).llm_engine, params)
    except Exception as error:  # the library raises what its parts raise
        reason = " ".join(str(error).split())[:300]
        raise EngineError(f"vLLM cannot load {path}: {reason}.", "Take the engine torch.") from error
    weights = safetensors.parameters(path)
    return VllmEngine(requests, tokenizer, f"vllm-{dtype}", weights, longest - 1, prefix_cache=prefix_cache)


def check(config: Mapping[str, Any], path: Path) -> None:
    """Raises EngineError for a folder that vLLM would misread: it gives every Qwen2-MoE biases, and fills none in."""
    if config.get("architectures") == ["Qwen2MoeForCausalLM"] and not config.get("qkv_bias", True):
        raise EngineError(f"vLLM does not heed the qkv_bias: false of {path}/config.json.", "Take the engine torch.")


def store_of(config: Mapping[str, Any], longest: int, size: int) -> int:
    """Bytes of keys and values, `size` a number: for all rows at their longest, at most STORE, for one row at least."""
    heads = int(config["num_attention_heads"])
    wide = int(config.get("head_dim") or int(config["hidden_size"]) // heads)
    token = 2 * int(config["num_hidden_layers"]) * int(config.get("num_key_value_heads") or heads) * wide * size
    row = token * (longest + 2 * 128)  # blocks of at most 128 tokens, one of which vLLM keeps to itself
    return max(row, min(ROWS * row, STORE))


def params(wanted: Mapping[str, Any]) -> Any:
    """vLLM's SamplingParams of `settings` or `choice`."""
    from vllm.sampling_params import RequestOutputKind, SamplingParams, StructuredOutputsParams

    given = dict(wanted)
    grammar = given.pop("grammar", None)
    bound = None if grammar is None else StructuredOutputsParams(grammar=grammar)
    return SamplingParams(**given, structured_outputs=bound, detokenize=False, output_kind=RequestOutputKind.DELTA)


class VllmEngine:
    """See `engine.base.Engine`."""

    alternatives = ALTERNATIVES

    def __init__(
        self, requests: Requests, tokenizer: Tokenizer, name: str, parameters: int, context: int, *, prefix_cache: bool
    ) -> None:
        self.requests, self.tokenizer = requests, tokenizer
        self.name, self.parameters, self.context = name, parameters, context
        self.prefix_cache = prefix_cache

    def score(self, prompts: Sequence[str], answers: Sequence[str], *, prefix: str = "") -> Scores:
        call = plan(self.tokenizer, prompts, answers, prefix, reuse=self.prefix_cache, context=self.context)
        asked, result = places(call.tree), np.zeros((len(prompts), len(answers)))
        for first in range(0, len(call.rows), SCORED):
            part = call.rows[first : first + SCORED]
            names = [[self._ask([*call.prefix, *row], place) for place in asked] for row in part]
            for number, row in enumerate(names, first):
                found = filled(call.tree, asked, [self._wait(name) for name in row])
                result[number] = call.tree.logprobs(found[None])[0]
        return Scores(result, call.usage)

    def _ask(self, tokens: list[int], place: Place) -> str:
        return self.requests.ask([*tokens, *place.path], choice(place, share=self.prefix_cache))

    def _wait(self, name: str) -> Any:
        """The one output of a request for one token."""
        while not (found := self.requests.take(name)):
            self.requests.step()
        self.requests.drop(name)
        return found[0]

    def generate(self, prompts: Sequence[Prompt], *, prefix: str = "") -> Iterator[Piece]:
        return write_all(self.session(ROWS), prompts, prefix)

    def session(self, rows: int) -> Session:
        """See `engine.base.Session`."""
        return Session(self.requests, self.tokenizer, self.context, rows=rows, share=self.prefix_cache)

    def count_tokens(self, text: str) -> int:
        return len(begin(self.tokenizer, text))

    def close(self) -> None:
        self.requests.close()
