from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from typing import Any

import pytest
from facts import facts

from aasut.report import loss_curves, report

SPIKE = {"step": 41, "why": "jumped to 9.1 from about 0.5", "loss": 9.1, "norm": 88.0}


def training(**more: Any) -> dict[str, Any]:
    """Facts whose training has `more`."""
    found = facts()
    found["training"] = found["training"] | more
    return found


def words(svg: str) -> set[str]:
    return {"".join(e.itertext()).strip() for e in ElementTree.fromstring(svg).iter("text")}


def test_the_legend_names_what_is_drawn_and_nothing_else() -> None:
    plain = words(loss_curves.losses(facts()))
    assert {"train loss", "validation loss", "kept"} <= plain
    assert not {"skipped", "stopped early", "least possible", "steps"} & plain
    every = training(losses=[0.7] * 300, skipped=[SPIKE], stopped=360, floor=0.21)
    assert {"skipped", "stopped early", "least possible", "steps"} <= words(loss_curves.losses(every))


def test_a_long_training_stays_small() -> None:
    svg = loss_curves.losses(training(losses=[0.5 + i % 7 / 10 for i in range(1000)], steps_a_point=40))
    assert len(svg) < 25_000


@pytest.mark.parametrize(("each", "count"), [(1, 50), (1, 1000), (7, 1000)])
def test_steps_stand_where_they_were_taken(each: int, count: int) -> None:
    """The loss is the number of the step itself, so that each mean must lie at its own place."""
    taken = [step for step in range(1, each * count + 3) if step not in (5, 41)]
    values = [sum(taken[i : i + each]) / each for i in range(0, each * count, each)]
    found = loss_curves._steps({"losses": values, "steps_a_point": each, "skipped": [{"step": 5}, SPIKE]})
    assert len(found) <= loss_curves.POINTS
    assert all(place == pytest.approx(loss, abs=2.1) for place, loss in found)
    assert found[-1][0] > each * count * 0.98


def test_the_first_steps_do_not_hide_the_rest() -> None:
    """A start at 50 nats: the axis ends near what most steps have."""
    svg = loss_curves.losses(training(losses=[50.0, 30.0, *[0.4] * 98], steps_a_point=4))
    numbers = {float(word) for word in words(svg) if re.fullmatch(r"[\d.]+", word)}
    assert max(n for n in numbers if n != 360 and n % 50) < 2


def test_the_page_tells_the_method_the_cache_and_what_was_skipped() -> None:
    method = {"name": "cached_kd", "reason": "the local teacher has the student's <tokenizer>", "chosen": True}
    logits = {"tokens": 12_345, "bytes_per_token": 34.96, "texts": 900}
    page = report.html(training(method=method, logits=logits, skipped=[SPIKE]))
    assert "cached kd: the local teacher has the student&#39;s &lt;tokenizer&gt;" in page
    assert "12,345 tokens, 35.0 bytes each; exact head, sampled tail (unbiased)" in page
    assert "Step 41 was skipped" in page
    assert "jumped to 9.1 from about 0.5" in page
    biased = report.html(training(logits=logits | {"biased": True}))
    assert "nothing known of the others (biased)" in biased


def test_the_page_tells_what_was_learned_of_its_own_answers() -> None:
    measured = {"loss": 0.6931, "margin": 0.0, "accuracy": 0.5, "likelier": 0.4, "chosen": 0.0, "rejected": 0.0}
    after = measured | {"loss": 0.512, "margin": 0.31, "accuracy": 0.9, "likelier": 0.7, "chosen": 0.6}
    curve = [{"step": 10, "train_loss": 0.6, "validation_loss": 0.55}]
    learned = {"pairs": 1234, "validation_pairs": 120, "stayed": False, "curve": curve, "best_step": 10,
               "validation": {"before": measured, "after": after}}  # fmt: skip
    assert 'id="preferred"' not in report.html(facts())
    page = " ".join(report.html(training(preference=learned)).split())
    assert "1,234 pairs" in page
    assert "from 0.693 to 0.512" in page
    assert "stays as it was" not in page
    assert {"train loss", "validation loss", "kept"} <= words(loss_curves.preference(training(preference=learned)))
    assert "stays as it was" in report.html(training(preference=learned | {"stayed": True}))
