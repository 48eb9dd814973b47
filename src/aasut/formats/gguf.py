"""GGUF files: read, written, and turned into Hugging Face folders."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from gguf import GGMLQuantizationType
from numpy.typing import NDArray

from aasut.errors import ModelError
from aasut.formats import experts, tokenizer_gguf
from aasut.formats.experts import Layout
from aasut.formats.gguf_read import REMEDY, Gguf, TensorInfo, is_bf16, read
from aasut.formats.gguf_write import ARCHITECTURES, Kind, deinterleave, gemma3_layers, recode, tensor_names, write
from aasut.store import disk_errors

if TYPE_CHECKING:
    import torch

__all__ = ["Gguf", "Kind", "TensorInfo", "is_bf16", "read", "recode", "to_folder", "write"]

_CLASSES = {
    "llama": ("LlamaForCausalLM", "llama"),
    "qwen2": ("Qwen2ForCausalLM", "qwen2"),
    "qwen2moe": ("Qwen2MoeForCausalLM", "qwen2_moe"),
    "qwen3": ("Qwen3ForCausalLM", "qwen3"),
    "gemma3": ("Gemma3ForCausalLM", "gemma3_text"),
}


def to_folder(path: Path, folder: Path) -> None:
    """Turn a GGUF file into a Hugging Face folder: config, weights, tokenizer, chat template.

    Weights become bfloat16, or stay float16 or float32 where all matrices are that. Raises
    ModelError for architectures, tensors and tokenizers that are not known: nothing is left out.
    """
    import torch

    from aasut.formats import safetensors  # brings torch, which reading and recoding do without

    source = read(path)
    if source.architecture not in ARCHITECTURES:
        raise ModelError(
            f"{path} is of the architecture {source.architecture!r}, which is not known.",
            f"Known are: {', '.join(ARCHITECTURES)}.",
        )
    _check_sizes(source)
    dtype = _dtype(source)
    settings_of_model = config(source, dtype)
    body, settings = tokenizer_gguf.build(source)
    template = source.metadata.get("tokenizer.chat_template")
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        target = getattr(torch, dtype)
        safetensors.save(_weights(source, target), folder / "model.safetensors", dtype=target)
        _dump(folder / "config.json", settings_of_model)
        _dump(folder / "generation_config.json", {k: v for k, v in settings_of_model.items() if k.endswith("token_id")})
        _dump(folder / "tokenizer.json", body, indent=None)
        _dump(folder / "tokenizer_config.json", settings)
        if isinstance(template, str):
            (folder / "chat_template.jinja").write_text(template, encoding="utf-8", newline="")


def _check_sizes(source: Gguf) -> None:
    """Raise ModelError for a number of layers or heads that the tensors cannot have."""
    layers, heads, width = (source.get(key) for key in ("block_count", "attention.head_count", "embedding_length"))
    if not 0 < layers <= len(source.tensors):
        raise ModelError(f"{source.path} tells of {layers} layers and has {len(source.tensors)} tensors.", REMEDY)
    kv = source.get("attention.head_count_kv", heads)
    rows = [
        source.tensors[f"blk.0.attn_{part}.weight"].shape[0]
        for part in "qk"
        if f"blk.0.attn_{part}.weight" in source.tensors
    ]
    fits = all(isinstance(n, int) and n > 0 for n in (heads, kv, width))
    if not fits or any(size % number for size, number in zip(rows, (heads, kv), strict=False)):
        raise ModelError(f"{source.path} tells of {heads} and {kv} heads, which its tensors do not have.", REMEDY)


def config(source: Gguf, dtype: str) -> dict[str, Any]:
    """config.json of a GGUF file, with transformers' names; `dtype` is what its weights are kept in."""
    if source.get("rope.scaling.type", "none") != "none" or "rope_freqs.weight" in source.tensors:
        raise ModelError(f"{source.path} stretches its rope, which is not known here.", "Take a model without that.")
    layout = _layout(source)
    name, model_type = (layout.architecture, layout.model_type) if layout else _CLASSES[source.architecture]
    heads, width = source.get("attention.head_count"), source.get("embedding_length")
    theta = float(source.get("rope.freq_base", 10000.0))
    plain: dict[str, Any] = {
        "architectures": [name],
        "model_type": model_type,
        "dtype": dtype,
        "hidden_size": width,
        "intermediate_size": source.get("feed_forward_length"),
        "num_hidden_layers": source.get("block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": source.get("attention.head_count_kv", heads),
        "head_dim": source.get("attention.key_length", width // heads),
        "max_position_embeddings": source.get("context_length"),
        "rms_norm_eps": source.get("attention.layer_norm_rms_epsilon"),
        "rope_parameters": {"rope_type": "default", "rope_theta": theta},
        "tie_word_embeddings": _tied(source),
        "vocab_size": _embedding(source)[0],
    }
    if source.architecture == "gemma3":
        plain |= _gemma3(source, plain, theta)
    else:
        plain |= {"hidden_act": "silu"}
    plain |= {} if layout is None else _experts(source, layout)
    for ours, theirs in (("bos", "bos"), ("eos", "eos"), ("pad", "padding")):
        plain[f"{ours}_token_id"] = source.metadata.get(f"tokenizer.ggml.{theirs}_token_id")
    return plain


def _tied(source: Gguf) -> bool:
    """Is there no output matrix, or, in a Qwen2-MoE, which must have one, a copy of the embedding?"""
    if "output.weight" not in source.tensors:
        return True
    raw = [source.tensors.get(name) for name in ("output.weight", "token_embd.weight")]
    if source.architecture != "qwen2moe" or any(info is None for info in raw):
        return False
    one, other = (source.data[info.offset : info.offset + info.nbytes] for info in raw if info is not None)
    return bool(np.array_equal(one, other))


def _layout(source: Gguf) -> Layout | None:
    """Of its experts, where it has any."""
    if source.architecture == "llama" and source.get("expert_count", 0):
        return experts.MIXTRAL
    return experts.QWEN2_MOE if source.architecture == "qwen2moe" else None


def _experts(source: Gguf, layout: Layout) -> dict[str, Any]:
    """What a configuration tells of experts. Readers of GGUF suppose the rest."""
    count, active = source.get("expert_count"), source.get("expert_used_count")
    if layout is experts.MIXTRAL:
        return {"num_local_experts": count, "num_experts_per_tok": active, "sliding_window": None}
    size = source.get("expert_feed_forward_length")
    return {
        "num_experts": count, "num_experts_per_tok": active, "moe_intermediate_size": size,
        "shared_expert_intermediate_size": source.get("expert_shared_feed_forward_length", size),
        "norm_topk_prob": False, "qkv_bias": "blk.0.attn_q.bias" in source.tensors, "decoder_sparse_step": 1,
        "mlp_only_layers": [], "use_sliding_window": False, "sliding_window": None,
    }  # fmt: skip


def _embedding(source: Gguf) -> tuple[int, ...]:
    info = source.tensors.get("token_embd.weight")
    tokens = len(source.metadata.get("tokenizer.ggml.tokens") or [])
    if info is None or info.shape[0] < tokens or info.shape[-1] != source.get("embedding_length"):
        raise ModelError(f"{source.path}: its embedding does not fit its {tokens} tokens and its width.", REMEDY)
    return info.shape


def _gemma3(source: Gguf, plain: dict[str, Any], theta: float) -> dict[str, Any]:
    """What a Gemma 3 has beside what others have; layers with a window have a rope of their own."""
    local = float(source.get("rope.freq_base_swa", 10000.0))
    return {
        "hidden_activation": "gelu_pytorch_tanh",
        "layer_types": gemma3_layers(plain["num_hidden_layers"]),
        "query_pre_attn_scalar": plain["head_dim"],
        "sliding_window": source.get("attention.sliding_window"),
        "rope_parameters": {
            "full_attention": {"rope_type": "default", "rope_theta": theta},
            "sliding_attention": {"rope_type": "default", "rope_theta": local},
        },
    }


def _weights(source: Gguf, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    import torch

    layout = _layout(source)
    names = tensor_names(source.architecture, source.get("block_count"), layout)
    unknown = sorted(set(source.tensors) - set(names))
    if unknown:
        raise ModelError(f"{source.path} holds {unknown[0]}, which a {source.architecture} does not have.", REMEDY)
    vital = [ours for ours in names if ours.endswith(".weight") and ours != "output.weight"]
    missing = [ours for ours in vital if ours not in source.tensors]
    if missing:
        raise ModelError(f"{source.path} lacks the tensor {missing[0]}.", REMEDY)
    kept = set(source.tensors) - ({"output.weight"} if _tied(source) else set())
    found = {names[ours]: torch.from_numpy(_values(source, ours)).to(dtype) for ours in source.tensors if ours in kept}
    return experts.parted(found, layout)


def _values(source: Gguf, name: str) -> NDArray[np.float32]:
    """A tensor in float32, as Hugging Face's classes want it."""
    values = source.load(name)
    if source.architecture == "llama" and (".attn_q." in name or ".attn_k." in name):
        kind = "attention.head_count" if ".attn_q." in name else "attention.head_count_kv"
        return deinterleave(values, source.get(kind, source.get("attention.head_count")))
    if source.architecture == "gemma3" and name.endswith("norm.weight"):
        return values - np.float32(1)  # transformers multiplies by 1 + weight, GGUF holds the sum
    if name.endswith("ffn_gate_inp_shexp.weight"):
        return np.array(values)[None]
    return np.array(values)  # a copy: the file is mapped read-only


def _dtype(source: Gguf) -> str:
    """What the weights are kept in: as the file has them where it is not quantised."""
    kinds = {info.type for name, info in source.tensors.items() if len(info.shape) > 1 and "ffn_gate_inp" not in name}
    plain = {GGMLQuantizationType.F32: "float32", GGMLQuantizationType.F16: "float16"}
    return plain.get(kinds.pop(), "bfloat16") if len(kinds) == 1 else "bfloat16"


def _dump(path: Path, value: Any, indent: int | None = 2) -> None:
    path.write_text(json.dumps(value, indent=indent, ensure_ascii=False) + "\n", encoding="utf-8")
