"""Tokenizers between tokenizer.json and GGUF metadata.

GGUF names a pre-tokenizer ("smollm", "qwen2") where tokenizer.json spells it out; SPLITS is the
dictionary between the two. Source: llama.cpp, src/llama-vocab.cpp.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from aasut.errors import ModelError
from aasut.formats.gguf_read import Gguf

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6
SPACE = "▁"  # that SentencePiece writes for a space
BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")
Json = dict[str, Any]

_SPACES: Json = {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}
_PREFIXED: Json = {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": SPACE}, _SPACES]}

_CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_MODERN = r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}NUMBER| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"


def _byte_level(use_regex: bool) -> Json:
    return {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": use_regex}


def _split(*patterns: str) -> list[Json]:
    return [{"type": "Split", "pattern": {"Regex": p}, "behavior": "Isolated", "invert": False} for p in patterns]


def _sequence(*steps: Json) -> Json:
    return {"type": "Sequence", "pretokenizers": list(steps)}


# By name: the pre-tokenizer, the normalizer, and whether whole words in the vocabulary go before merges.
SPLITS: dict[str, tuple[Json, Json | None, bool]] = {
    "gpt-2": (_byte_level(True), None, False),
    "smollm": (_sequence({"type": "Digits", "individual_digits": True}, _byte_level(True)), None, False),
    "qwen2": (
        _sequence(*_split(_CONTRACTIONS + _MODERN.replace("NUMBER", "")), _byte_level(False)),
        {"type": "NFC"},
        False,
    ),
    "llama-bpe": (
        _sequence(*_split(_CONTRACTIONS + _MODERN.replace("NUMBER", "{1,3}")), _byte_level(False)),
        None,
        True,
    ),
    "default": (
        _sequence(*_split(r"[\p{P}\$\+<=>\^~\|]+", _GPT2, r"\p{N}+", "[0-9][0-9][0-9]"), _byte_level(False)),
        None,
        False,
    ),
}


def build(source: Gguf) -> tuple[Json, Json]:
    """tokenizer.json and tokenizer_config.json from GGUF metadata.

    Knows byte-level BPE ("gpt2") and SentencePiece BPE ("llama"); raises ModelError for others.
    """
    data = source.metadata
    kind, tokens = data.get("tokenizer.ggml.model"), data.get("tokenizer.ggml.tokens")
    if not isinstance(tokens, list) or not tokens or kind not in ("gpt2", "llama"):
        raise ModelError(
            f"{source.path} has a tokenizer of the kind {kind!r}, which is not known.",
            "Take a model with byte-level or SentencePiece BPE (gpt2, llama).",
        )
    kinds = data.get("tokenizer.ggml.token_type") or [NORMAL] * len(tokens)
    if len(kinds) != len(tokens) or len(set(tokens)) != len(tokens):
        raise ModelError(f"{source.path}: its tokens and their kinds do not fit together.", "Fetch the model again.")
    settings = _settings(source, tokens, kind)
    if kind == "llama":  # runs of spaces are written plainly; the model sees them as it sees every space
        tokens = [
            t.replace(" ", "▁") if k == USER_DEFINED and not t.strip(" ") else t
            for t, k in zip(tokens, kinds, strict=True)
        ]
    body: Json = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": _added(tokens, kinds)}
    body |= _byte_level_bpe(source, tokens) if kind == "gpt2" else _sentencepiece_bpe(source, tokens, kinds)
    body["post_processor"] = _post_processor(settings, tokens)
    return body, settings


def _byte_level_bpe(source: Gguf, tokens: Sequence[str]) -> Json:
    name = source.metadata.get("tokenizer.ggml.pre", "default")
    if name not in SPLITS:
        raise ModelError(
            f"{source.path} splits text by the rules {name!r}, which are not known.",
            f"Known are: {', '.join(sorted(SPLITS))}.",
        )
    splitter, normalizer, ignore_merges = SPLITS[name]
    merges = source.metadata.get("tokenizer.ggml.merges") or []
    model = _bpe(tokens, [_pair(m) for m in merges], ignore_merges=ignore_merges)
    decoder = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}
    return {"normalizer": normalizer, "pre_tokenizer": splitter, "decoder": decoder, "model": model}


def _sentencepiece_bpe(source: Gguf, tokens: Sequence[str], kinds: Sequence[int]) -> Json:
    scores = source.metadata.get("tokenizer.ggml.scores") or []
    if len(scores) != len(tokens):
        raise ModelError(f"{source.path} has {len(scores)} scores for {len(tokens)} tokens.", "Fetch the model again.")
    prefix = bool(source.metadata.get("tokenizer.ggml.add_space_prefix", True))
    decoders: list[Json] = [
        {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
        {"type": "ByteFallback"},
        {"type": "Fuse"},
    ]
    if prefix:
        decoders.append({"type": "Strip", "content": " ", "start": 1, "stop": 0})
    unknown = source.metadata.get("tokenizer.ggml.unknown_token_id")
    model = _bpe(tokens, merges_from_scores(tokens, kinds, scores))
    model |= {"unk_token": tokens[unknown] if unknown is not None else None, "fuse_unk": True, "byte_fallback": True}
    return {
        "normalizer": _PREFIXED if prefix else _SPACES,
        "pre_tokenizer": None,
        "decoder": {"type": "Sequence", "decoders": decoders},
        "model": model,
    }


def merges_from_scores(tokens: Sequence[str], kinds: Sequence[int], scores: Sequence[float]) -> list[tuple[str, str]]:
    """SentencePiece's merges, best first: every way to part a piece into two others, by the piece's score.

    Control and byte tokens are never merged into: text that spells them stays text. User-defined runs
    of one character are taken before anything else, so their merges come first, in the order of ids.
    """
    score = {t: s for t, k, s in zip(tokens, kinds, scores, strict=True) if k == NORMAL}
    first = max(score.values(), default=0.0) + len(tokens)
    for number, (token, kind) in enumerate(zip(tokens, kinds, strict=True)):
        if kind == USER_DEFINED and len(set(token)) == 1:
            score[token] = first - number
    merges = [
        (value, cut, len(piece) - cut, piece)
        for piece, value in score.items()
        for cut in range(1, len(piece))
        if piece[:cut] in score and piece[cut:] in score
    ]
    merges.sort(key=lambda m: m[:3], reverse=True)
    return [(piece[:cut], piece[cut:]) for _, cut, _, piece in merges]


def _bpe(tokens: Sequence[str], merges: Sequence[tuple[str, str]], *, ignore_merges: bool = False) -> Json:
    return {
        "type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
        "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": ignore_merges,
        "vocab": {token: number for number, token in enumerate(tokens)}, "merges": [list(m) for m in merges],
    }  # fmt: skip


def _pair(merge: str) -> tuple[str, str]:
    left, _, right = merge.partition(" ")
    return left, right


def _added(tokens: Sequence[str], kinds: Sequence[int]) -> list[Json]:
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    return [
        {"id": number, "content": token, **flags, "special": kind in (CONTROL, UNKNOWN)}
        for number, (token, kind) in enumerate(zip(tokens, kinds, strict=True))
        if kind in (CONTROL, UNKNOWN) or (kind == USER_DEFINED and token.strip("▁"))
    ]


def _settings(source: Gguf, tokens: Sequence[str], kind: str) -> Json:
    data = source.metadata
    settings: Json = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False}
    for ours, theirs in (("bos", "bos"), ("eos", "eos"), ("unk", "unknown"), ("pad", "padding")):
        number = data.get(f"tokenizer.ggml.{theirs}_token_id")
        if number is not None:
            if not 0 <= number < len(tokens):
                raise ModelError(
                    f"{source.path}: its {ours} token {number} is not in the vocabulary.", "Fetch it again."
                )
            settings[f"{ours}_token"] = tokens[number]
    pre = data.get("tokenizer.ggml.pre")
    add_bos = bool(data.get("tokenizer.ggml.add_bos_token", kind == "llama" or pre == "llama-bpe"))
    settings["add_bos_token"] = add_bos and "bos_token" in settings
    settings["add_eos_token"] = False
    context = data.get(f"{source.architecture}.context_length")
    if context is not None:
        settings["model_max_length"] = context
    return settings


def _post_processor(settings: Json, tokens: Sequence[str]) -> Json | None:
    if not settings["add_bos_token"]:
        return None
    name = settings["bos_token"]
    bos: Json = {"SpecialToken": {"id": name, "type_id": 0}}
    first, second = ({"Sequence": {"id": which, "type_id": number}} for number, which in enumerate("AB"))
    return {
        "type": "TemplateProcessing",
        "single": [bos, first],
        "pair": [bos, first, second],
        "special_tokens": {name: {"id": name, "ids": [tokens.index(name)], "tokens": [name]}},
    }


def describe(body: Json, rows: int, where: Path) -> Json:
    """GGUF metadata (model, pre, tokens, kinds, space_prefix, and merges or scores) of a tokenizer.json.

    `rows` is the height of the embedding matrix; ids without a token become unused ones. Knows byte-level BPE and
    SentencePiece BPE; raises ModelError for tokenizers that GGUF has no name for.
    """
    model = body.get("model") or {}
    pieces = model.get("type") == "BPE" and model.get("byte_fallback") and _is_plain_sentencepiece(body)
    pre = "default" if pieces else _name_of(body)
    if model.get("type") != "BPE" or (model.get("byte_fallback") and not pieces) or pre is None:
        raise ModelError(
            f"{where}: this tokenizer has no counterpart in GGUF here.",
            "SentencePiece BPE, and byte-level BPE with one of these ways to split text, can be written: "
            f"{', '.join(sorted(SPLITS))}.",
        )
    names = dict(model["vocab"])
    kinds = dict.fromkeys(names, NORMAL)
    for token in body.get("added_tokens") or []:
        names[token["content"]] = token["id"]
        kinds[token["content"]] = CONTROL if token["special"] else USER_DEFINED
    by_id = {number: name for name, number in names.items()}
    if max(by_id) >= rows or len(by_id) != len(names):
        raise ModelError(
            f"{where}: the tokenizer has ids up to {max(by_id)}, the model has {rows} rows of embeddings.",
            "Take the tokenizer that belongs to this model.",
        )
    tokens = [by_id.get(number, f"[PAD{number}]") for number in range(rows)]
    found = {"pre": pre, "tokens": tokens, "kinds": [kinds.get(token, UNUSED) for token in tokens]}
    if pieces:
        return found | _scored(body, tokens, found["kinds"], where)
    merges = [m if isinstance(m, str) else " ".join(m) for m in model["merges"]]
    return found | {"model": "gpt2", "merges": merges, "space_prefix": False}


def _is_plain_sentencepiece(body: Json) -> bool:
    """Whether a text is changed in nothing but its spaces before it is taken apart."""
    split = body.get("pre_tokenizer")
    if split is not None and (split.get("type"), split.get("pattern")) != ("Split", {"String": " "}):
        return False  # Gemma's own splits at spaces, of which its normalizer leaves none
    return body.get("normalizer") in (_SPACES, _PREFIXED)


def _scored(body: Json, tokens: Sequence[str], kinds: Sequence[int], where: Path) -> Json:
    """Scores that merges_from_scores makes these very merges of: a piece counts by where it is first merged into."""
    merges = [_pair(merge) if isinstance(merge, str) else (merge[0], merge[1]) for merge in body["model"]["merges"]]
    rank: dict[str, int] = {}
    for left, right in merges:
        rank.setdefault(left + right, len(rank))
    scores = [-float(rank.get(token, len(rank))) for token in tokens]
    unknown = body["model"].get("unk_token")
    kinds = [
        UNKNOWN if token == unknown else BYTE if kind == NORMAL and BYTE_TOKEN.fullmatch(token) else kind
        for token, kind in zip(tokens, kinds, strict=True)
    ]
    runs = [
        kind == NORMAL and len(token) > 1 and not token.strip(SPACE) for token, kind in zip(tokens, kinds, strict=True)
    ]
    for spaces in (USER_DEFINED, NORMAL):  # what runs of spaces are is seen by their merges alone
        tried = [spaces if run else kind for run, kind in zip(runs, kinds, strict=True)]
        if merges_from_scores(tokens, tried, scores) == merges:
            shown = [
                token.replace(SPACE, " ") if run and spaces == USER_DEFINED else token
                for token, run in zip(tokens, runs, strict=True)
            ]
            prefix = body["normalizer"] == _PREFIXED
            return {"model": "llama", "tokens": shown, "kinds": tried, "scores": scores, "space_prefix": prefix}
    raise ModelError(
        f"{where}: the merges of this tokenizer follow no scores of its pieces, and GGUF has scores alone.",
        "Take a model with SentencePiece's own BPE, such as Gemma 3.",
    )


def _name_of(body: Json) -> str | None:
    """The name of this way to split text, None if it has none."""
    ignore = bool((body.get("model") or {}).get("ignore_merges"))
    given = (_bare(body.get("pre_tokenizer")), _bare(body.get("normalizer")), ignore)
    names = [name for name, (split, norm, merges) in SPLITS.items() if (_bare(split), _bare(norm), merges) == given]
    return names[0] if names else None


def _bare(value: Any) -> Any:
    """Without `trim_offsets`, which does not change ids."""
    if isinstance(value, dict):
        return {key: _bare(item) for key, item in value.items() if key != "trim_offsets"}
    return [_bare(item) for item in value] if isinstance(value, list) else value
