"""Random models of six layers whose importance is known, and what the tests of a student's start share."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch
import transformers

from aasut.formats.tokenizer import Tokenizer
from aasut.recipe import ModelAddress, Student

PROMPTS = ["Review: the battery is great\nSentiment:", "a", "Review: नमस्ते दुनिया, it broke after two days\nSentiment:"]
LOUDNESS = (0.8, 0.02, 0.5, 0.01, 0.9, 0.1)  # how much each layer adds to its input
LEAST_FIRST = (3, 1, 5)  # layers by that


def settings(**changes: Any) -> Student:
    return Student.model_validate({"model": ModelAddress(address="file:model"), "precision": "float32"} | changes)


def pruning(**shape: Any) -> Student:
    return settings(initialise="pruned", shape=shape)


def random_model(folder: Path, tokenizer: Path, config: Any, shard: str = "5GB") -> Path:
    """Layers that change their input as LOUDNESS says, with the tokenizer of another model."""
    torch.manual_seed(3)
    model = transformers.AutoModelForCausalLM.from_config(config)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    with torch.no_grad():
        for layer, loudness in zip(model.model.layers, LOUDNESS, strict=True):
            layer.self_attn.o_proj.weight.mul_(loudness)
            layer.mlp.down_proj.weight.mul_(loudness)
            if hasattr(layer, "post_feedforward_layernorm"):  # Gemma scales what it adds again, by 1 + weight
                layer.post_attention_layernorm.weight.fill_(loudness - 1)
                layer.post_feedforward_layernorm.weight.fill_(loudness - 1)
    model.to(torch.bfloat16).save_pretrained(folder, max_shard_size=shard)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(tokenizer / name, folder)
    return folder


SIZES: dict[str, Any] = {
    "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 6, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 512, "bos_token_id": 0, "eos_token_id": 1,
}  # fmt: skip


def llama(folder: Path, tokenizer: Path, shard: str = "5GB", **more: Any) -> Path:
    size = Tokenizer.load(tokenizer).size
    config = transformers.LlamaConfig(**SIZES | {"vocab_size": size, "tie_word_embeddings": True} | more)
    return random_model(folder, tokenizer, config, shard)


def qwen(folder: Path, tokenizer: Path, **more: Any) -> Path:
    """Biases on queries, keys and values."""
    size = Tokenizer.load(tokenizer).size
    return random_model(folder, tokenizer, transformers.Qwen2Config(**SIZES | {"vocab_size": size} | more))


def gemma(folder: Path, tokenizer: Path, **more: Any) -> Path:
    """Norms behind attention and MLP and on heads; every third layer sees all."""
    size = Tokenizer.load(tokenizer).size
    kinds = ["sliding_attention", "sliding_attention", "full_attention"] * 2
    own = {"vocab_size": size, "head_dim": 16, "sliding_window": 8, "layer_types": kinds, "pad_token_id": 1}
    return random_model(folder, tokenizer, transformers.Gemma3TextConfig(**SIZES | own | more))


MODELS = {"llama": llama, "qwen": qwen, "gemma": gemma}


def logits(model: Any) -> torch.Tensor:
    with torch.inference_mode():
        result: torch.Tensor = model(torch.tensor([list(range(5, 45))]), use_cache=False).logits
    return result
