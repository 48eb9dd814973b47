"""Before, after and teacher on the same bytes, with what changed; a killed measurement goes on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from aasut.errors import DataError
from aasut.evaluate import bits, field
from aasut.evaluate.ratios import ratio
from aasut.progress import Progress
from aasut.student.corpus import Passage
from tiny_llama import byte_level, make_llama, save_llama

QUIET = Progress(quiet=True)
SETS = {
    "field": [Passage((f"d{i // 2}",), f"valve {i} is closed " * (1 + i)) for i in range(8)],
    "general": [Passage((f"g{i}",), f"it rained on day {i}") for i in range(5)],
}


@pytest.fixture(scope="module")
def models(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    after = save_llama(folder / "after", byte_level(["the valve is closed"]), hidden_size=32, num_attention_heads=2)
    return {"teacher": make_llama(folder / "teacher"), "before": tiny_llama, "after": after}


def test_figures_are_those_of_bits_by_document(models: dict[str, Path], tmp_path: Path) -> None:
    found = field.build(SETS, models, tmp_path, QUIET, context=64, precision="float32")
    for name, passages in SETS.items():
        texts = [passage.text for passage in passages]
        cost = {
            role: bits.measure(path, texts, context=64, overlap=16, progress=QUIET, precision="float32")
            for role, path in models.items()
        }
        size = sum(len(text.encode()) for text in texts)
        told = found["sets"][name]
        assert told["bytes"] == size
        assert told["documents"] == len({passage.documents for passage in passages})
        for role, of in cost.items():
            assert told["models"][role]["bits_per_byte"]["value"] == pytest.approx(sum(of.bits) / size)
            assert told["models"][role]["tokens"] == sum(of.tokens)
        for role in ("before", "teacher"):
            assert told["after_over"][role]["value"] == pytest.approx(sum(cost["after"].bits) / sum(cost[role].bits))
    # Documents 0 to 3 have two passages each: these count as one.
    by_two = [sum(measured) for measured in zip(*[iter(cost_of(tmp_path, "field-after"))] * 2, strict=True)]
    sizes = [sum(len(p.text.encode()) for p in SETS["field"][i : i + 2]) for i in range(0, 8, 2)]
    interval = found["sets"]["field"]["models"]["after"]["bits_per_byte"]
    assert interval["standard_error"] == pytest.approx(ratio(by_two, sizes).standard_error)


def cost_of(folder: Path, name: str) -> list[float]:
    return [float(value) for value in json.loads((folder / f"{name}.json").read_text())["bits"]]


def test_what_was_measured_is_not_measured_again(models: dict[str, Path], tmp_path: Path) -> None:
    alone = {role: models[role] for role in ("before", "after")}
    whole = field.build(SETS, alone, tmp_path / "whole", QUIET, context=64)
    assert "teacher" not in whole["sets"]["field"]["models"]
    (tmp_path / "part").mkdir()
    for name in ("field-before.json", "field-after.json"):
        (tmp_path / "part" / name).write_bytes((tmp_path / "whole" / name).read_bytes())
    only = {"field": SETS["field"]}
    gone = dict.fromkeys(alone, tmp_path / "gone")
    again = field.build(only, gone, tmp_path / "part", QUIET, context=64)
    assert again["sets"]["field"] == whole["sets"]["field"]


def test_one_document_is_refused(models: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(DataError, match="1 held-out document") as caught:
        field.build({"field": SETS["field"][:2]}, models, tmp_path, QUIET, context=64)
    assert "split.test" in caught.value.remedy


def test_whole_documents_are_drawn_until_enough_is_there() -> None:
    passages = [Passage((f"d{i // 2}",), "x" * 100) for i in range(20)]  # ten documents of 200 characters
    taken = field.drawn(passages, 650, seed=7)
    names = [passage.documents[0] for passage in taken]
    assert len(taken) == 6
    assert len(set(names)) == 3
    assert taken == [passage for passage in passages if passage.documents[0] in set(names)]
    assert field.drawn(passages, 650, seed=8) != taken
    assert len(field.drawn(passages, 1, seed=7)) == 4
    assert field.drawn(passages, 10_000, seed=7) == passages
