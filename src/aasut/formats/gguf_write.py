"""Writing GGUF files: from a Hugging Face folder, or from another GGUF file in another precision."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import gguf
import numpy as np
from gguf import GGMLQuantizationType, GGUFValueType, LlamaFileType, quants
from numpy.typing import NDArray

from aasut.errors import ModelError
from aasut.formats import experts, gguf_read, tokenizer_gguf
from aasut.formats.experts import QWEN2_MOE, ROLES, Layout
from aasut.formats.tokenizer import Tokenizer, read_json
from aasut.store import disk_errors

Kind = Literal["f32", "bf16", "f16", "q8_0"]
KINDS = {
    "f32": (GGMLQuantizationType.F32, LlamaFileType.ALL_F32),
    "bf16": (GGMLQuantizationType.BF16, LlamaFileType.MOSTLY_BF16),
    "f16": (GGMLQuantizationType.F16, LlamaFileType.MOSTLY_F16),
    "q8_0": (GGMLQuantizationType.Q8_0, LlamaFileType.MOSTLY_Q8_0),
}
WRITTEN = {
    "LlamaForCausalLM": "llama", "Gemma3ForCausalLM": "gemma3", "MixtralForCausalLM": "llama",
    "Qwen2MoeForCausalLM": "qwen2moe",
}  # fmt: skip

_BLOCK = {
    "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj", "attn_norm": "input_layernorm",
}  # fmt: skip
_NORMS = {
    "llama": {"ffn_norm": "post_attention_layernorm"},
    "qwen2": {"ffn_norm": "post_attention_layernorm"},
    "qwen2moe": {"ffn_norm": "post_attention_layernorm"},
    "qwen3": {
        "ffn_norm": "post_attention_layernorm",
        "attn_q_norm": "self_attn.q_norm",
        "attn_k_norm": "self_attn.k_norm",
    },
    "gemma3": {
        "post_attention_norm": "post_attention_layernorm", "ffn_norm": "pre_feedforward_layernorm",
        "post_ffw_norm": "post_feedforward_layernorm", "attn_q_norm": "self_attn.q_norm",
        "attn_k_norm": "self_attn.k_norm",
    },
}  # fmt: skip
_NETWORK = ("ffn_gate", "ffn_up", "ffn_down")
_SHARED = {
    "ffn_gate_shexp": "shared_expert.gate_proj", "ffn_up_shexp": "shared_expert.up_proj",
    "ffn_down_shexp": "shared_expert.down_proj", "ffn_gate_inp_shexp": "shared_expert_gate",
}  # fmt: skip
ARCHITECTURES = tuple(_NORMS)


def tensor_names(architecture: str, layers: int, layout: Layout | None = None) -> dict[str, str]:
    """Hugging Face's tensor names by GGUF's, weights and biases, for one of ARCHITECTURES.

    With a layout of experts, the networks' places are the layers' routers' and stacked experts' (`experts.stacked`).
    """
    parts = _BLOCK | _NORMS[architecture]
    if layout is not None:
        parts = {ours: theirs for ours, theirs in parts.items() if ours not in _NETWORK}
        parts["ffn_gate_inp"] = f"{layout.block}.gate"
        parts |= {f"{ours}_exps": f"{layout.block}.experts.{role}" for ours, role in zip(_NETWORK, ROLES, strict=True)}
        parts |= {k: f"{layout.block}.{v}" for k, v in _SHARED.items()} if layout is QWEN2_MOE else {}
    names = {
        "token_embd.weight": "model.embed_tokens.weight",
        "output_norm.weight": "model.norm.weight",
        "output.weight": "lm_head.weight",
    }
    for layer in range(layers):
        for ours, theirs in parts.items():
            for part in ("weight", "bias"):
                names[f"blk.{layer}.{ours}.{part}"] = f"model.layers.{layer}.{theirs}.{part}"
    return names


def interleave(weight: NDArray[np.float32], heads: int) -> NDArray[np.float32]:
    """Rows of Llama's Q or K as GGUF has them: [heads * size, d], halves of each head taken in turn.

    Hugging Face rotates row i with row i + size/2, GGUF rotates neighbours.
    Source: llama.cpp, conversion of LlamaModel, `permute`.
    """
    return weight.reshape(heads, 2, -1, *weight.shape[1:]).swapaxes(1, 2).reshape(weight.shape)


def deinterleave(weight: NDArray[np.float32], heads: int) -> NDArray[np.float32]:
    """The inverse of `interleave`."""
    return weight.reshape(heads, -1, 2, *weight.shape[1:]).swapaxes(1, 2).reshape(weight.shape)


def write(folder: Path, out: Path, kind: Kind, *, name: str = "", licence: str = "") -> None:
    """Write the Hugging Face folder as one GGUF file, matrices in `kind`, vectors in float32.

    `name` and `licence` go into the metadata. bf16 is exact for bf16 weights. The same files give the
    same bytes. Raises ModelError for architectures and tokenizers without a GGUF form here.
    """
    from aasut.formats import safetensors  # brings torch, which reading and recoding do without

    config = read_json(folder / "config.json")
    architecture = _written(config, folder)
    layout = experts.of(config["architectures"][0])
    names = tensor_names(architecture, config["num_hidden_layers"], layout)
    weights = experts.stacked(safetensors.load(folder), layout)
    if config.get("tie_word_embeddings"):
        weights.pop("lm_head.weight", None)
    if architecture == "qwen2moe":  # llama.cpp wants an output matrix of this one, tied or not
        weights.setdefault("lm_head.weight", weights["model.embed_tokens.weight"])
    unknown = sorted(set(weights) - set(names.values()))
    if unknown:
        raise ModelError(f"{folder}: GGUF has no place for {unknown[0]}.", "Merge adapters and extra heads first.")
    file = gguf.GGUFWriter(None, architecture)
    _describe_model(file, config, kind)
    if name:
        file.add_name(name)
    if licence:
        file.add_license(licence)
    _describe_tokenizer(file, folder, int(weights["model.embed_tokens.weight"].shape[0]))
    heads = {"attn_q": config["num_attention_heads"], "attn_k": _kv_heads(config)}
    for ours, theirs in names.items():
        if theirs not in weights:
            continue
        values = weights[theirs].float().numpy()
        if ours.endswith("ffn_gate_inp_shexp.weight"):
            values = values[0]
        which = ours.split(".")[-2]
        if architecture == "llama" and which in heads:
            values = interleave(values, heads[which])
        elif architecture == "gemma3" and which.endswith("norm"):
            values = values + np.float32(1)  # transformers multiplies by 1 + weight, GGUF holds the sum
        _add(file, ours, values, kind)
    _finish(file, out)


def recode(source: Path, out: Path, kind: Kind) -> None:
    """Write a GGUF file again with its matrices in `kind` and its metadata as it is, file type aside."""
    given = gguf_read.read(source)
    file = gguf.GGUFWriter(None, given.architecture)
    for key, value in given.metadata.items():
        if key in ("general.architecture", "general.file_type", "general.quantization_version"):
            continue
        types = [GGUFValueType(t) for t in given.types[key]]
        file.add_key_value(key, value, types[0], sub_type=types[1] if len(types) > 1 else None)
    _describe_kind(file, kind)
    for name in given.tensors:
        _add(file, name, given.load(name), kind)
    _finish(file, out)


def _written(config: dict[str, Any], folder: Path) -> str:
    name = (config.get("architectures") or ["none"])[0]
    scaling = _rope(config).get("rope_type", "default")
    if name not in WRITTEN or scaling != "default" or config.get("attention_bias") or config.get("mlp_bias"):
        raise ModelError(
            f"{folder}: a {name} with rope type {scaling!r} cannot be written as GGUF.",
            f"Written are, without biases and with plain rope: {', '.join(WRITTEN)}.",
        )
    if name == "Qwen2MoeForCausalLM" and config.get("norm_topk_prob"):
        raise ModelError(
            f"{folder}: readers of GGUF suppose a Qwen2-MoE whose weights of experts are not brought to a sum of 1.",
            "Take one with norm_topk_prob: false.",
        )
    if WRITTEN[name] == "gemma3" and (odd := _unlike_gemma3(config)):
        raise ModelError(
            f"{folder}: its {odd} is not what readers of GGUF suppose of a Gemma 3.",
            "Leave shape.layers and shape.heads out, or take a Llama.",
        )
    return WRITTEN[name]


def _rope(config: dict[str, Any], kind: str = "full_attention") -> dict[str, Any]:
    """Gemma 3 has rope settings for each kind of layer, others have one."""
    given = config.get("rope_parameters") or config.get("rope_scaling") or {}
    return dict(given.get(kind, given))


def gemma3_layers(layers: int) -> list[str]:
    """Every sixth layer sees everything, the others a window (Gemma 3 report, section 2): GGUF does not say it."""
    return ["full_attention" if layer % 6 == 5 else "sliding_attention" for layer in range(layers)]


def _unlike_gemma3(config: dict[str, Any]) -> str | None:
    """The first setting that GGUF has no place for and that is not what it is in all Gemma 3 of text."""
    usual = {
        "layer_types": gemma3_layers(config["num_hidden_layers"]),
        "query_pre_attn_scalar": config["head_dim"],
        "hidden_activation": "gelu_pytorch_tanh",
        "tie_word_embeddings": True,
        "attn_logit_softcapping": None,
        "final_logit_softcapping": None,
        "use_bidirectional_attention": False,
    }
    return next((name for name, value in usual.items() if (config.get(name, value) or None) != (value or None)), None)


def _kv_heads(config: dict[str, Any]) -> int:
    return int(config.get("num_key_value_heads") or config["num_attention_heads"])


def _describe_kind(file: Any, kind: Kind) -> None:
    file.add_file_type(KINDS[kind][1])
    file.add_quantization_version(gguf.GGML_QUANT_VERSION)


def _describe_model(file: Any, config: dict[str, Any], kind: Kind) -> None:
    size = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    rope = _rope(config)
    file.add_type("model")
    file.add_block_count(config["num_hidden_layers"])
    file.add_context_length(config["max_position_embeddings"])
    file.add_embedding_length(config["hidden_size"])
    file.add_feed_forward_length(config["intermediate_size"])
    file.add_head_count(config["num_attention_heads"])
    file.add_head_count_kv(_kv_heads(config))
    file.add_key_length(size)
    file.add_value_length(size)
    file.add_rope_dimension_count(size)
    file.add_rope_freq_base(float(rope.get("rope_theta") or config.get("rope_theta") or 10000.0))
    file.add_layer_norm_rms_eps(float(config["rms_norm_eps"]))
    if count := config.get("num_local_experts") or config.get("num_experts"):
        file.add_expert_count(count)
        file.add_expert_used_count(config["num_experts_per_tok"])
    if file.arch == "qwen2moe":
        file.add_expert_feed_forward_length(config["moe_intermediate_size"])
        file.add_expert_shared_feed_forward_length(config["shared_expert_intermediate_size"])
    if file.arch == "gemma3":
        file.add_sliding_window(config["sliding_window"])
        file.add_rope_freq_base_swa(float(_rope(config, "sliding_attention").get("rope_theta") or 10000.0))
    file.add_vocab_size(config["vocab_size"])
    _describe_kind(file, kind)


def _describe_tokenizer(file: Any, folder: Path, rows: int) -> None:
    tokenizer = Tokenizer.load(folder)
    found = tokenizer_gguf.describe(read_json(folder / "tokenizer.json"), rows, folder)
    file.add_tokenizer_model(found["model"])
    file.add_tokenizer_pre(found["pre"])
    file.add_token_list(found["tokens"])
    file.add_token_types(found["kinds"])
    if "scores" in found:
        file.add_token_scores(found["scores"])
    else:
        file.add_token_merges(found["merges"])
    if tokenizer.bos_id is not None:
        file.add_bos_token_id(tokenizer.bos_id)
    if tokenizer.eos_id is not None:
        file.add_eos_token_id(tokenizer.eos_id)
    if tokenizer.unk_id is not None:
        file.add_unk_token_id(tokenizer.unk_id)
    if tokenizer.pad_id is not None:
        file.add_pad_token_id(tokenizer.pad_id)
    file.add_add_bos_token(tokenizer.add_bos)
    file.add_add_space_prefix(found["space_prefix"])
    template = chat_template(folder)
    if template is not None:
        file.add_chat_template(template)


def chat_template(folder: Path) -> str | None:
    """The chat template of a Hugging Face folder, None if it has none."""
    path = folder / "chat_template.jinja"
    if path.is_file():
        return path.read_bytes().decode("utf-8")  # as it is: reading as text would change line ends
    settings = folder / "tokenizer_config.json"
    given = read_json(settings).get("chat_template") if settings.is_file() else None
    return given if isinstance(given, str) else None


def _add(file: Any, name: str, values: NDArray[np.float32], kind: Kind) -> None:
    target = KINDS[kind][0]
    if values.ndim == 1 or ".ffn_gate_inp" in name:
        target = GGMLQuantizationType.F32  # norms, biases and routers are small, and readers want them so
    elif target == GGMLQuantizationType.Q8_0 and values.shape[-1] % 32:
        target = GGMLQuantizationType.F16  # Q8_0 packs 32 weights of a row
    with np.errstate(over="ignore"):
        packed = quants.quantize(values, target)
    if target == GGMLQuantizationType.F16 and not np.isfinite(packed).all():
        raise ModelError(f"The weight {name} does not fit into float16.", "Write bf16 or q8_0.")
    file.add_tensor(name, packed, raw_dtype=target)


def _finish(file: Any, out: Path) -> None:
    partial = out.with_name(out.name + ".partial")
    with disk_errors(out):
        file.write_header_to_file(partial)
        file.write_kv_data_to_file()
        file.write_tensors_to_file()
        file.close()
        partial.replace(out)
