"""Texts for logs and tables: real prose, so that inputs share words as they do in life."""

from __future__ import annotations

import argparse
import asyncio
import logging
import random
import re
import subprocess
import typing
import unittest

_DOCS = [module.__doc__ or "" for module in (argparse, asyncio, logging, subprocess, typing, unittest)]
_DOCS += [str(getattr(subprocess, name).__doc__) for name in dir(subprocess)]
_DOCS += [str(getattr(str, name).__doc__) for name in dir(str)]
_DOCS += [str(getattr(logging, name).__doc__) for name in dir(logging)]
PARAGRAPHS = [p.strip() for doc in _DOCS for p in re.split(r"\n\s*\n", doc) if len(p) > 60]
WORDS = " ".join(PARAGRAPHS).split()
HINDI = ["यह", "फ़ोन", "बहुत", "अच्छा", "है", "लेकिन", "बैटरी", "जल्दी", "खत्म", "होती", "और", "कैमरा", "बेकार", "निकला"]


class Prose:
    """Draws sentences and documents by a seed."""

    def __init__(self, seed: int = 1) -> None:
        self.draw = random.Random(seed)

    def sentence(self, words: int = 9) -> str:
        start = self.draw.randrange(len(WORDS) - words)
        return " ".join(WORDS[start : start + words])

    def document(self, characters: int) -> str:
        """Paragraphs, cut at a character."""
        parts: list[str] = []
        while sum(map(len, parts)) < characters:
            parts.append(self.draw.choice(PARAGRAPHS))
        return "\n\n".join(parts)[:characters].strip() or "x"

    def hindi(self, words: int = 6) -> str:
        return " ".join(self.draw.choices(HINDI, k=words))
