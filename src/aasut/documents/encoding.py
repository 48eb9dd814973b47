"""Text files: which encoding they are in, and their characters. No byte is ever replaced."""

from __future__ import annotations

import codecs
import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

from aasut.documents.fault import ENCODING, NOT_A_DOCUMENT, Fault
from aasut.documents.opened import Opened

PIECE = 1 << 20  # bytes decoded at a time
SAMPLE = 1 << 17  # bytes from which an encoding is guessed
FEW = 0.02  # share of control characters from which bytes are no text
MARKS = (  # the longer ones first: UTF-16's mark begins UTF-32's
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_CONTROLS = frozenset(range(32)) - {7, 8, 9, 10, 11, 12, 13, 27}


@contextmanager
def text(file: Opened, encoding: str, newline: str | None = None) -> Iterator[io.TextIOWrapper]:
    """The file as text. Raises Fault where no encoding fits, or the declared one does not; at once, not midway."""
    codec = codec_of(file, encoding)
    file.stream.seek(0)
    wrapped = io.TextIOWrapper(file.stream, codec, errors="strict", newline=newline)
    try:
        yield wrapped
    finally:
        if not file.stream.closed:  # a reader that is given up may be ended after its file
            wrapped.detach()


def codec_of(file: Opened, encoding: str) -> str:
    """The codec that decodes all of the file: the declared one; or the mark's, UTF-8, UTF-16, or a guess."""
    if encoding != "auto":
        try:
            codec = codecs.lookup(encoding).name
            "".encode(codec)
        except (LookupError, ValueError):
            raise Fault("documents.encoding is no encoding", encoding) from None
        return _tried(file.stream, "utf-8-sig" if codec == "utf-8" else codec, f"not {codec}")
    head = file.head(SAMPLE)
    for mark, codec in MARKS:
        if head.startswith(mark):
            return _tried(file.stream, codec, ENCODING)
    if head.count(0) * 16 > len(head):
        # Zeros that fill one of two columns are UTF-16's of Latin letters, else the bytes are no text.
        for codec, zeros in (("utf-16-le", head[1::2].count(0)), ("utf-16-be", head[::2].count(0))):
            if zeros * 4 > len(head) and head.count(0) - zeros < zeros / 8:
                return _tried(file.stream, codec, ENCODING)
        raise Fault(NOT_A_DOCUMENT, "binary")
    if (bad := decodes(file.stream, "utf-8")) is None:
        if is_binary(head):
            raise Fault(NOT_A_DOCUMENT, "binary")
        return "utf-8"
    if is_binary(head):
        raise Fault(NOT_A_DOCUMENT, "binary")
    return _guessed(file.stream, head, bad)


def is_binary(head: bytes) -> bool:
    """Are there more control characters than a text has?"""
    return sum(byte in _CONTROLS for byte in head[:8192]) > FEW * len(head[:8192])


def decodes(stream: BinaryIO, codec: str) -> int | None:
    """None where the codec decodes the whole stream, else about where it fails, in bytes."""
    stream.seek(0)
    decoder = codecs.getincrementaldecoder(codec)("strict")
    place = 0
    while True:
        piece = stream.read(PIECE)
        try:
            decoder.decode(piece, final=not piece)
        except UnicodeError as error:
            return place + (error.start if isinstance(error, UnicodeDecodeError) else 0)
        if not piece:
            return None
        place += len(piece)


def _tried(stream: BinaryIO, codec: str, reason: str) -> str:
    if (bad := decodes(stream, codec)) is not None:
        raise Fault(reason, f"{codec} fails at byte {bad:,}")
    return codec


def _guessed(stream: BinaryIO, head: bytes, bad: int) -> str:
    """charset-normalizer's guess from the lines around the first byte that is no UTF-8."""
    from charset_normalizer import from_bytes

    sample = head
    if bad >= len(head):
        stream.seek(max(0, bad - SAMPLE // 2))
        sample = stream.read(SAMPLE)
        sample = sample[sample.find(b"\n") + 1 :] or sample
    # More good letters of UTF-8 than bad bytes: the text is broken, and every other encoding would garble it.
    letters = sample.decode("utf-8", "replace")
    if sum(letter > "\x7f" for letter in letters) > 2 * letters.count("\ufffd"):
        raise Fault(ENCODING, f"UTF-8 fails at byte {bad:,}")
    best = from_bytes(sample).best()
    if best is None or best.encoding in ("utf_8", "ascii"):
        raise Fault(ENCODING, f"UTF-8 fails at byte {bad:,}")
    return _tried(stream, best.encoding, ENCODING)
