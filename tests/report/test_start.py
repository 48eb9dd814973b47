from __future__ import annotations

from typing import Any

from facts import facts

from aasut.report import report, start

PRUNED: dict[str, Any] = {
    "initialise": "pruned",
    "removed": {"layers": [3, 12], "heads": {"0": [1, 2, 3], "1": [0, 4, 5]}, "neurons": {"0": 768, "1": 768},
                "channels": 1},
    "block_influence": [0.1, 0.2],
    "parameters_before": 134_515_008,
    "parameters": 67_300_000,
    "loss_of_source": 3.77187,
    "loss_before_training": 5.35794,
    "loss_on_held_out": True,
}  # fmt: skip


def test_what_was_taken_out_is_told_with_the_losses() -> None:
    assert start.rows(PRUNED) == [
        ("The student starts as", "pruned"),
        (
            "Taken out of the model",
            "2 layers (3, 12, counted from 0), 3 heads of every layer, 768 neurons of every layer, 1 hidden channel",
        ),
        ("Parameters", "135M before, 67.3M after (50%)"),
        ("Loss before training", "5.358 nats a token, 3.772 of the model as it was"),
    ]


def test_a_loss_on_texts_that_were_chosen_by_is_called_so() -> None:
    assert start.rows(PRUNED | {"loss_on_held_out": False})[-1][1].endswith(", on texts that it was chosen by")


def test_a_model_as_it_is_has_its_own_loss_alone() -> None:
    whole = {"initialise": "pretrained", "parameters": 9, "loss_before_training": 1.0, "loss_on_held_out": False}
    assert start.rows(whole) == [
        ("The student starts as", "pretrained"), ("Loss before training", "1.000 nats a token"),
    ]  # fmt: skip
    assert start.rows(whole | {"loss_before_training": None}) == [("The student starts as", "pretrained")]


def test_a_linear_student_starts_as_nothing() -> None:
    assert start.rows(None) == []


def test_the_page_shows_it() -> None:
    found = facts()
    found["training"]["initialise"] = PRUNED
    page = report.html(found)
    assert "3.772 of the model as it was" in page
    assert "3.772" not in report.html(facts())
