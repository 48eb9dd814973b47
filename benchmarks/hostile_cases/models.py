"""Broken models: GGUF headers and safetensors that lie, configurations and tokenizers that do not fit."""

from __future__ import annotations

import atexit
import json
import shutil
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import small

from hostile_cases.case import ROWS, Case, run_words

MAKE = """
import sys
from pathlib import Path
import small
from aasut.formats import gguf_write
folder = Path(sys.argv[1])
small.tiny_llama(folder / "llama", layers=2)
gguf_write.write(folder / "llama", folder / "llama.gguf", "bf16", licence="own")
"""


def cases() -> list[Case]:
    """All of them."""
    return [*_ggufs(), *_folders()]


@cache
def _good() -> Path:
    """A folder with llama/ and llama.gguf, made in a process of its own."""
    folder = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder)
    subprocess.run(
        [sys.executable, "-c", MAKE, str(folder)], check=True, cwd=Path(__file__).parents[1], stderr=subprocess.DEVNULL
    )
    return folder


def _case(name: str, role: str, address: str, prepare: Callable[[Path], object], may: str = "refuse") -> Case:
    def make(folder: Path) -> list[str]:
        plain = small.recipe(export={"engine": "torch", "round_trip": 2})
        model = {"address": address}
        plain[role] = (
            {"model": model} if role == "teacher" else {"initialise": "pretrained", "model": model, "epochs": 1}
        )
        small.write(folder, plain, ROWS)
        prepare(folder)
        return run_words(folder)

    return Case(
        f"{role}'s model: {name}", make, may=may, env={"XDG_CACHE_HOME": tempfile.gettempdir() + "/aasut-hostile"}
    )


def _ggufs() -> list[Case]:
    def after(count: int) -> bytes:
        return struct.pack("<IQQ", 3, count, 0)

    good = (_good() / "llama.gguf").read_bytes()
    text = struct.pack("<Q", 1) + b"a"
    lies: dict[str, bytes] = {
        "empty": b"",
        "magic alone": b"GGUF",
        "other magic": b"GGML" + good[4:],
        "version 99": good[:4] + struct.pack("<I", 99) + good[8:],
        "big-endian": good[:4] + struct.pack(">I", 3) + good[8:],
        "2^60 tensors": good[:8] + struct.pack("<Q", 1 << 60) + good[16:],
        "2^64 - 1 tensors": b"GGUF" + struct.pack("<IQQ", 3, (1 << 64) - 1, 0),
        "2^60 pairs": good[:16] + struct.pack("<Q", 1 << 60) + good[24:],
        "no tensors": b"GGUF" + after(0),
        "a name of 2^60": b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + struct.pack("<Q", 1 << 60) + b"x" * 100,
        "an array of 2^60": b"GGUF"
        + struct.pack("<IQQ", 3, 0, 1)
        + text
        + struct.pack("<IIQ", 9, 4, 1 << 60)
        + b"x" * 99,
        "an array of 2^60 texts": b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + text + struct.pack("<IIQ", 9, 8, 1 << 60),
        "an array of 2^60 empty texts": b"GGUF"
        + struct.pack("<IQQ", 3, 0, 1)
        + text
        + struct.pack("<IIQ", 9, 8, 99)
        + bytes(792),
        "an array of arrays": b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + text + struct.pack("<IIQ", 9, 9, 5) + b"x" * 99,
        "an unknown type": b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + text + struct.pack("<I", 77) + b"x" * 99,
        "name not UTF-8": b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + struct.pack("<Q", 2) + b"\xff\xfe" + b"x" * 99,
        "alignment 0": good.replace(b"general.architecture", b"general.alignment\0\0\0", 1),
        "ten dimensions": b"GGUF" + after(1) + text + struct.pack("<I", 10) + bytes(200),
        "shape of 2^120": b"GGUF" + after(1) + text + struct.pack("<IQQIQ", 2, 1 << 60, 1 << 60, 0, 0) + bytes(99),
        "tensor type 999": b"GGUF" + after(1) + text + struct.pack("<IQIQ", 1, 4, 999, 0) + bytes(99),
        "offset of 2^62": b"GGUF" + after(1) + text + struct.pack("<IQIQ", 1, 4, 0, 1 << 62) + bytes(99),
        "shape of nothing": b"GGUF" + after(1) + text + struct.pack("<IQIQ", 1, 0, 0, 0) + bytes(99),
        "unknown architecture": good.replace(b"llama", b"lamma"),
        "layers lie": _changed(good, b"llama.block_count", 10**9),
        "no layers": _changed(good, b"llama.block_count", 0),
        "no heads": _changed(good, b"llama.attention.head_count", 0),
        "heads lie": _changed(good, b"llama.attention.head_count", 7),
        "width lies": _changed(good, b"llama.embedding_length", 65),
        "no context": _changed(good, b"llama.context_length", 0),
        "a tensor's name lies": good.replace(b"blk.0.attn_q", b"blk.0.attn_x"),
        "a table": (b"id,text\n" * 1000),
        "zeros": bytes(100_000),
        **{f"cut at {at}": good[:at] for at in (5, 30, 1000, len(good) // 3, len(good) // 2, len(good) - 1)},
    }
    noise = bytearray(good)
    noise[-50_000:] = b"\xff" * 50_000  # NaNs in bfloat16
    lies["weights are NaN"] = bytes(noise)
    return [
        _case(
            f"GGUF: {name}",
            role,
            "file:model.gguf",
            lambda folder, data=data: (folder / "model.gguf").write_bytes(data),
        )
        for role, every in (("student", 1), ("teacher", 3))
        for name, data in list(lies.items())[::every]
    ]


def _changed(good: bytes, key: bytes, value: int) -> bytes:
    """A GGUF file with another number under a key; numbers there have 4 bytes after 4 of their type."""
    at = good.index(struct.pack("<Q", len(key)) + key) + 8 + len(key)
    return good[: at + 4] + struct.pack("<I", value) + good[at + 8 :]


def _folders() -> list[Case]:
    """A good folder with one file changed."""
    weights = (_good() / "llama" / "model.safetensors").read_bytes()
    size = struct.unpack("<Q", weights[:8])[0]
    header = json.loads(weights[8 : 8 + size])
    config = json.loads((_good() / "llama" / "config.json").read_text())
    tokenizer = json.loads((_good() / "llama" / "tokenizer.json").read_text())

    def relabelled(change: Callable[[dict[str, Any]], object]) -> bytes:
        plain = json.loads(json.dumps(header))
        change(plain)
        text = json.dumps(plain).encode()
        return struct.pack("<Q", len(text)) + text + weights[8 + size :]

    name = next(n for n in header if "q_proj" in n)
    files: dict[str, tuple[str, bytes | None]] = {
        "weights missing": ("model.safetensors", None),
        "weights empty": ("model.safetensors", b""),
        "weights cut": ("model.safetensors", weights[: len(weights) // 2]),
        "weights cut in the header": ("model.safetensors", weights[:100]),
        "header of 2^60": ("model.safetensors", struct.pack("<Q", 1 << 60) + weights[8:]),
        "header of 0": ("model.safetensors", struct.pack("<Q", 0) + weights[8:]),
        "header is no JSON": ("model.safetensors", weights[:8] + b"\xff" * size + weights[8 + size :]),
        "header is a list": ("model.safetensors", struct.pack("<Q", 2) + b"[]"),
        "header is deep": ("model.safetensors", struct.pack("<Q", 100_000) + b"[" * 100_000),
        "offsets beyond the file": (
            "model.safetensors",
            relabelled(lambda h: h[name].update(data_offsets=[0, 1 << 50])),
        ),
        "offsets backwards": ("model.safetensors", relabelled(lambda h: h[name].update(data_offsets=[100, 0]))),
        "shape lies": ("model.safetensors", relabelled(lambda h: h[name].update(shape=[1 << 40, 1 << 40]))),
        "dtype unknown": ("model.safetensors", relabelled(lambda h: h[name].update(dtype="F5"))),
        "a tensor missing": ("model.safetensors", relabelled(lambda h: h.update({"other": h.pop(name)}))),
        "weights are NaN": ("model.safetensors", weights[:-50_000] + b"\xff" * 50_000),
        "a page instead of weights": ("model.safetensors", b"<html>not found</html>" * 100),
        "an index that goes up": ("model.safetensors.index.json", b'{"weight_map": {"a": "../../etc/passwd"}}'),
        "an index of nothing": ("model.safetensors.index.json", b"{}"),
        "config missing": ("config.json", None),
        "config empty": ("config.json", b""),
        "config is a list": ("config.json", b"[]"),
        "config cut": ("config.json", json.dumps(config).encode()[:50]),
        "config deep": ("config.json", b'{"a":' * 100_000),
        "config not UTF-8": ("config.json", b'{"a": "\xff"}'),
        "tokenizer missing": ("tokenizer.json", None),
        "tokenizer empty": ("tokenizer.json", b""),
        "tokenizer cut": ("tokenizer.json", json.dumps(tokenizer).encode()[:500]),
        "tokenizer is a list": ("tokenizer.json", b"[]"),
        "tokenizer deep": ("tokenizer.json", b"[" * 100_000),
        "tokenizer without a model": ("tokenizer.json", json.dumps(tokenizer | {"model": None}).encode()),
        "tokenizer of an unknown kind": ("tokenizer.json", json.dumps(tokenizer | {"model": {"type": "X"}}).encode()),
        "tokenizer's settings a list": ("tokenizer_config.json", b"[]"),
    }
    for key, values in {
        "hidden_size": [0, -1, 63, 10**7, "x", None],
        "num_hidden_layers": [0, -1, 3, 10**6, "2"],
        "num_attention_heads": [0, 7, -1],
        "vocab_size": [0, 10, 10**9],
        "max_position_embeddings": [0, -1, 3],
        "model_type": ["nonsense", None, 3, "bert", "t5"],
        "rms_norm_eps": ["x"],
        "torch_dtype": ["float5"],
    }.items():
        for number, value in enumerate(values):
            files[f"config: {key} {number}"] = ("config.json", json.dumps(config | {key: value}).encode())
    larger = json.loads(json.dumps(tokenizer))
    larger["model"]["vocab"] |= {f"token{i}": 10_000 + i for i in range(50)}
    files["tokenizer larger than the model"] = ("tokenizer.json", json.dumps(larger).encode())
    evil = config | {
        "auto_map": {"AutoModelForCausalLM": "evil.Model", "AutoConfig": "evil.Config"},
        "model_type": "evil",
    }
    files["code of its own"] = ("config.json", json.dumps(evil).encode())

    def prepare(file: str, data: bytes | None) -> Callable[[Path], object]:
        def change(folder: Path) -> None:
            shutil.copytree(_good() / "llama", folder / "llama")
            (folder / "llama" / "evil.py").write_text("import os; os._exit(77)\n")
            if data is None:
                (folder / "llama" / file).unlink()
            else:
                (folder / "llama" / file).write_bytes(data)

        return change

    # These are read in other ways, and fit.
    fine = (
        "an index",
        "config: torch_dtype",
        "config: num_hidden_layers 4",
        "config: vocab_size",
        "config: max_position_embeddings",
        "tokenizer larger",
    )
    return [
        _case(
            f"folder: {title}", role, "file:llama", prepare(*changed), "either" if title.startswith(fine) else "refuse"
        )
        for role, every in (("student", 1), ("teacher", 3))
        for title, changed in list(files.items())[::every]
    ]
