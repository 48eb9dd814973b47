"""A model of sentences to test with: a BERT of two layers with random weights."""

from __future__ import annotations

import json
from pathlib import Path

import tokenizers
import torch
import transformers
from tokenizers import models, normalizers, pre_tokenizers, processors

MARKS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "query", ":", "passage"]
WORDS = ["the", "pump", "valve", "is", "open", "shut", "hot", "and", "cold", "पंप", "चालू", "बंद", "है", "वाल्व", "a"]
LONGEST = 20  # tokens


def save(out: Path) -> Path:
    """Save it; its tokenizer says, as those of real models do, that it cuts and pads, here to 6 tokens."""
    torch.manual_seed(3)
    config = transformers.BertConfig(
        vocab_size=len(MARKS + WORDS), hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=24, max_position_embeddings=64, initializer_range=0.3,
    )  # fmt: skip
    transformers.BertModel(config, add_pooling_layer=False).save_pretrained(out)
    vocabulary = {token: number for number, token in enumerate(MARKS + WORDS)}
    tokenizer = tokenizers.Tokenizer(models.WordLevel(vocab=vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Split(":", "isolated")]
    )
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    tokenizer.enable_truncation(6)
    tokenizer.enable_padding(length=6)
    tokenizer.save(str(out / "tokenizer.json"))
    (out / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": LONGEST}))
    return out
