"""What a mixture takes of its fields: their stages, and their texts as rows of their groups."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import mixed
from aasut import field
from aasut.mixture.members import members_of
from aasut.mixture.texts import Texts
from aasut.progress import Progress
from aasut.recipe import MixtureRecipe
from aasut.recipe import field as fields
from aasut.store import Store

QUIET = Progress(quiet=True)


@pytest.fixture(scope="module")
def base(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = mixed.make(tmp_path_factory.mktemp("texts") / "works", tiny_llama)
    for name in ("pumps", "ledger"):
        field.adapt(fields.load(folder / f"{name}.yaml"), folder, folder / "runs", QUIET)
    return folder


@pytest.fixture
def opened(base: Path) -> Iterator[Any]:
    """Makes the texts of a recipe."""
    with Store(base / "runs" / ".store") as store:

        def make(**more: Any) -> Texts:
            recipe = MixtureRecipe.model_validate(mixed.plain(**more))
            members = {member.name: member for member in members_of(recipe, base, "full")}
            texts = Texts(recipe, members, store, base / "model", None)
            for member in members.values():
                texts.learned(member, base / "runs")
            return texts

        yield make


def test_what_is_learned_is_found_and_what_is_not_is_missing(opened: Any, base: Path) -> None:
    texts = opened(added=["chess.yaml"])
    assert set(texts.done) == {"pumps", "ledger"}
    assert (texts.branch("pumps") / "model.safetensors").is_file()
    assert not texts.learned(texts.members["chess"], base / "runs")


def test_lessons_are_the_fields_own_rows_with_what_a_teacher_reads(opened: Any) -> None:
    texts = opened()
    lessons = texts.lessons("pumps")
    assert {row.group for row in (*lessons.rows, *lessons.validation)} == {"pumps"}
    told = {name: account.kept for name, account in lessons.tokens.items()}
    assert told["general"] == round(told["documents"] / 4), "a fifth of all is general text"
    assert sum(row.answer for row in lessons.rows) == sum(told.values())
    for row in lessons.rows:
        assert list(row.asked) + list(row.ids[len(row.ids) - row.answer :]) == list(row.ids)
    fewer = opened(train={"tokens": 300}).lessons("pumps")
    assert 200 < fewer.tokens["documents"].kept <= 300


def test_a_probe_is_of_the_documents_that_were_learned(opened: Any) -> None:
    texts = opened()
    rows = texts.probe("ledger")
    assert 0 < sum(len(row.ids) for row in rows) < 4096 + 64
    text = " ".join(texts.tokenizer.decode(row.ids) for row in rows)
    assert "invoice" in text
    assert "harbour" not in text


def test_held_out_text_is_of_test_and_general_text_is_there_once(opened: Any) -> None:
    texts = opened()
    learned = {document for passage in texts.passages("pumps", "train") for document in passage.documents}
    held = {document for passage in texts.held("pumps") for document in passage.documents}
    assert held
    assert not held & learned
    general = texts.held("general")
    assert {document.partition(":")[0] for passage in general for document in passage.documents} == {"0"}
    assert all("council" in passage.text or "harbour" in passage.text for passage in general)
