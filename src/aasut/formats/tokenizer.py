"""A model's tokenizer: plain text to token ids and back."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tokenizers

from aasut.errors import DataError, ModelError
from aasut.formats import tokenizer_gguf
from aasut.formats.gguf_read import Gguf


class Tokenizer:
    """Wraps `tokenizers.Tokenizer` for text that users wrote.

    Names of control tokens inside a text are text: they never become control tokens. Nothing is
    put before or after a text; where `add_bos` is true the model wants `bos_id` before its prompt.
    """

    def __init__(self, inner: tokenizers.Tokenizer, settings: dict[str, Any]) -> None:
        """`settings`: what tokenizer_config.json, generation_config.json and config.json say, in this order."""
        # A file may ask for truncation or padding; nothing is cut silently here.
        inner.no_truncation()
        inner.no_padding()
        self.bos_id = _special(inner, settings, "bos")
        self.eos_id = _special(inner, settings, "eos")
        self.pad_id = _special(inner, settings, "pad")
        self.unk_id = _special(inner, settings, "unk")
        listed = settings.get("eos_token_id")
        self.end_ids = frozenset(listed if isinstance(listed, list) else []) | (
            {self.eos_id} if self.eos_id is not None else frozenset()
        )
        first = inner.encode("a", add_special_tokens=True).ids[:1]
        self.add_bos = self.bos_id is not None and first == [self.bos_id]
        inner.encode_special_tokens = True
        self._inner = inner

    @classmethod
    def load(cls, folder: Path) -> Tokenizer:
        """From a Hugging Face folder with tokenizer.json. Raises ModelError where that is missing or broken."""
        path = folder / "tokenizer.json"
        if not path.is_file():
            raise ModelError(
                f"{folder} has no tokenizer.json.", "Save the model's fast tokenizer with it; slow ones are not read."
            )
        settings: dict[str, Any] = {}
        for name in ("config.json", "generation_config.json", "tokenizer_config.json"):  # later ones go first
            if (folder / name).is_file():
                settings |= read_json(folder / name)
        try:
            return cls(tokenizers.Tokenizer.from_file(str(path)), settings)
        except ModelError:
            raise
        except Exception as error:  # the library raises bare Exception
            raise ModelError(f"{path} cannot be read: {error}.", "Fetch the model again.") from error

    @classmethod
    def from_gguf(cls, source: Gguf) -> Tokenizer:
        """From a GGUF file's metadata. Raises ModelError for kinds of tokenizer that are not known."""
        body, settings = tokenizer_gguf.build(source)
        try:
            return cls(tokenizers.Tokenizer.from_str(json.dumps(body)), settings)
        except ModelError:
            raise
        except Exception as error:  # the library raises bare Exception
            raise ModelError(f"{source.path}: its tokenizer is broken: {error}.", "Fetch the model again.") from error

    @property
    def size(self) -> int:
        """Number of tokens, control tokens included."""
        return int(self._inner.get_vocab_size(with_added_tokens=True))

    def encode(self, text: str) -> list[int]:
        """Token ids of `text`, with nothing put before or after. Raises DataError for half surrogate pairs."""
        return self.encode_all([text])[0]

    def encode_all(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text."""
        try:
            return [e.ids for e in self._inner.encode_batch_fast(list(texts), add_special_tokens=False)]
        except (UnicodeEncodeError, TypeError) as error:
            broken = next((t for t in texts if not _is_unicode(t)), None)
            if broken is None:
                raise
            raise DataError(
                f"A text holds half a surrogate pair and is no Unicode: {broken[:40]!r}.", "Mend or drop that row."
            ) from error

    def decode(self, ids: Sequence[int]) -> str:
        """The text of `ids`, control tokens left out."""
        return str(self._inner.decode(list(ids), skip_special_tokens=True))

    def written(self, token: int) -> str:
        """One token as a person reads it: its text, or its name where it is a control token or part of a letter."""
        text = str(self._inner.decode([token], skip_special_tokens=False))
        return str(self._inner.id_to_token(token)) if not text or "\ufffd" in text else text

    def to_json(self) -> str:
        """The tokenizer in the form of tokenizer.json."""
        return str(self._inner.to_str())

    def vocabulary(self) -> dict[str, int]:
        """The number of each token by its written form, control tokens included."""
        return dict(self._inner.get_vocab(with_added_tokens=True))

    def token_id(self, token: str) -> int | None:
        """The id of one token by its name, control tokens included."""
        found = self._inner.token_to_id(token)
        return None if found is None else int(found)

    def token_name(self, number: int) -> str | None:
        """The name of a token by its id: the inverse of `token_id`."""
        found = self._inner.id_to_token(number)
        return None if found is None else str(found)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON file with an object in it. Raises ModelError if it is something else."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{path} cannot be read: {error}.", "Fetch the model again.") from error
    if not isinstance(value, dict):
        raise ModelError(f"{path} holds no JSON object.", "Fetch the model again.")
    return value


def _special(inner: tokenizers.Tokenizer, settings: dict[str, Any], kind: str) -> int | None:
    token = settings.get(f"{kind}_token")
    name = token.get("content") if isinstance(token, dict) else token
    if isinstance(name, str):
        found = inner.token_to_id(name)
        if found is not None:
            return int(found)
    number = settings.get(f"{kind}_token_id")
    if isinstance(number, list):
        number = number[0] if number else None
    return number if isinstance(number, int) else None


def _is_unicode(text: str) -> bool:
    return not any("\ud800" <= c <= "\udfff" for c in text)
