"""Tiny random Llamas in Hugging Face layout."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tokenizers
import torch
from tokenizers import decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM

TEXTS = ["the remote is great, the battery is not", "नमस्ते दुनिया", "prices rose by 12 % in 2024"]


def byte_level(texts: Sequence[str], *, digits: bool = False) -> tokenizers.Tokenizer:
    """A byte-level BPE of 300 tokens, merged on `texts`; digits: each stands alone."""
    tokenizer = tokenizers.Tokenizer(models.BPE())
    split = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(True), split]) if digits else split
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<|begin|>", "<|end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(list(texts) * 4, trainer)
    return tokenizer


def save_llama(out: Path, tokenizer: tokenizers.Tokenizer, **config: Any) -> Path:
    """A random Llama with transformers' own classes: 2 layers, hidden size 64, context 512."""
    torch.manual_seed(1)
    shape = {
        "vocab_size": tokenizer.get_vocab_size(), "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 512, "rms_norm_eps": 1e-5,
        "tie_word_embeddings": True, "bos_token_id": 0, "eos_token_id": 1,
    }  # fmt: skip
    model = LlamaForCausalLM(LlamaConfig(**shape | config))
    for parameter in model.parameters():  # norms too: ones would hide a mix-up
        torch.nn.init.normal_(parameter, std=0.3)
    model.to(torch.bfloat16).save_pretrained(out)
    tokenizer.save(str(out / "tokenizer.json"))
    settings = {"bos_token": "<|begin|>", "eos_token": "<|end|>", "tokenizer_class": "PreTrainedTokenizerFast"}
    (out / "tokenizer_config.json").write_text(json.dumps(settings))
    return out


def make_llama(out: Path, *, tied: bool = True, add_bos: bool = False) -> Path:
    """One with what formats could lose: digits apart, an added token, rows without a token, a rope, a template."""
    tokenizer = byte_level(TEXTS, digits=True)
    tokenizer.add_tokens(["<tag>"])
    if add_bos:
        tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
            single="<|begin|> $A", special_tokens=[("<|begin|>", 0)]
        )
    rope = {"rope_type": "default", "rope_theta": 50000.0}
    rows = tokenizer.get_vocab_size() + 3
    save_llama(
        out, tokenizer, vocab_size=rows, max_position_embeddings=128, tie_word_embeddings=tied, rope_parameters=rope
    )
    (out / "chat_template.jinja").write_text("{{ messages[0]['content'] }}\r\n<|end|>", newline="")
    return out
