"""What models are compared on: documents of tune, and for separate students the one that is chosen for each."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from aasut.evaluate import bits
from aasut.field import STORE
from aasut.mixture.alternatives import Alternatives
from aasut.mixture.members import GENERAL, members_of
from aasut.progress import Progress
from aasut.recipe import mixture as recipes
from aasut.store import Store

QUIET = Progress(quiet=True)


@pytest.fixture
def opened(mixed_fields: Path) -> Iterator[Alternatives]:
    folder = mixed_fields / "runs" / "works"
    recipe = recipes.load(folder / "recipe.yaml")
    with Store(folder.parent / STORE) as store:
        yield Alternatives(recipe, members_of(recipe, folder, "full"), store, folder.parent, QUIET)


def test_documents_of_tune_are_measured_and_general_text_once(opened: Alternatives) -> None:
    sets = opened.held.sets
    assert list(sets) == ["pumps", "ledger", "chess", GENERAL]
    for name in opened.served:
        there = {passage.documents for passage in opened.texts.passages(name, "tune")}
        assert {passage.documents for passage in sets[name]} <= there
        others = [passage for split in ("train", "test") for passage in opened.texts.passages(name, split)]
        assert there.isdisjoint(passage.documents for passage in others)
    texts = [passage.text for passage in sets[GENERAL]]
    assert len(texts) == len(set(texts)) >= 2


def test_a_text_costs_what_the_student_chosen_for_it_says(opened: Alternatives) -> None:
    held = opened.held
    chosen = json.loads((held.choices().path / "chosen.json").read_text())
    assert chosen["chess"] == ["chess"] * len(held.sets["chess"])
    assert held.choices().facts["right"] == {"pumps": 1.0, "ledger": 1.0, "chess": 1.0}
    for name in ("chess", GENERAL):
        found = held.bits("students", name, None)
        for place, (passage, who) in enumerate(zip(held.sets[name], chosen[name], strict=True)):
            alone = bits.measure(
                opened.texts.branch(who), [passage.text], context=64, overlap=16, progress=QUIET, precision="float32"
            )
            assert found.bits[place] == pytest.approx(alone.bits[0], rel=1e-5)
            assert found.bytes[place] == alone.bytes[0]
