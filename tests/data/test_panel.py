from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from aasut.data.panel import (
    Floats,
    Panel,
    Shot,
    best_temperature,
    draw_shots,
    negative_log_likelihood,
    prior_bias,
    softmax,
    worked,
)
from aasut.errors import DataError
from aasut.prompts import PromptTemplate
from aasut.tasks import Classify, Extract, Generate
from aasut.types import Completion, Example, Message

TEMPLATE = PromptTemplate.of([{"role": "system", "content": "Sort."}, {"role": "user", "content": "Q: {text}"}])
TASK = Classify(("no", "yes"), TEMPLATE)
SHOTS = (Shot({"text": "a {x}"}, "yes"), Shot({"text": "नमस्ते"}, "no"))


def logprobs(rows: int, answers: int, seed: int = 0) -> Floats:
    """Skewed answers: the later ones are far likelier, as of a model that was never calibrated."""
    draw = np.random.default_rng(seed)
    scores = draw.normal(size=(rows, answers)) * 1.5 + np.linspace(0, 4, answers)
    return np.log(softmax(scores))


@pytest.mark.parametrize(
    "shares", [(0.5, 0.5), (0.9, 0.1), (0.3, 0.7), (0.2,) * 5, (0.4, 0.3, 0.15, 0.1, 0.05), (0.01, 0.09, 0.2, 0.3, 0.4)]
)
def test_the_prior_bias_gives_the_declared_shares(shares: tuple[float, ...]) -> None:
    given = logprobs(2000, len(shares))
    before = np.bincount(given.argmax(axis=1), minlength=len(shares)) / 2000
    assert np.abs(before - shares).max() > 0.1
    bias = prior_bias(given, np.array(shares))
    after = np.bincount((given + bias).argmax(axis=1), minlength=len(shares)) / 2000
    assert after == pytest.approx(shares, abs=0.02)
    assert bias.mean() == pytest.approx(0)


def test_the_prior_bias_leaves_right_shares_alone() -> None:
    given = logprobs(2000, 3)
    shares = np.bincount(given.argmax(axis=1), minlength=3) / 2000
    bias = prior_bias(given, shares)
    changed = (given + bias).argmax(axis=1) != given.argmax(axis=1)
    assert changed.mean() < 0.02


def test_the_prior_bias_does_not_hang_on_the_scale_of_the_scores() -> None:
    given = logprobs(500, 2)
    for scale in (1e-3, 1e3):
        after = (given * scale + prior_bias(given * scale, np.array([0.5, 0.5]))).argmax(axis=1).mean()
        assert after == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("planted", [0.3, 1.0, 4.0])
def test_the_temperature_that_was_planted_is_found(planted: float) -> None:
    draw = np.random.default_rng(5)
    scores = draw.normal(size=(4000, 3)) * 2 * planted
    chances = softmax(scores / planted)
    gold = np.array([draw.choice(3, p=row) for row in chances])
    assert best_temperature(scores, gold) == pytest.approx(planted, rel=0.1)


def test_a_perfect_teacher_gets_a_low_temperature_and_no_nan() -> None:
    scores = np.array([[0.0, 9.0], [9.0, 0.0]])
    assert best_temperature(scores, np.array([1, 0])) >= 0.05
    assert best_temperature(scores, np.array([0, 1])) <= 20.0


def test_the_likelihood_is_a_mean_of_natural_logs() -> None:
    probabilities = np.array([[0.5, 0.5], [0.25, 0.75], [1.0, 0.0]])
    expected = -(math.log(0.5) + math.log(0.75) + math.log(1e-12)) / 3
    assert negative_log_likelihood(probabilities, np.array([0, 1, 1])) == pytest.approx(expected)


def test_softmax_bears_large_numbers() -> None:
    assert softmax(np.array([[1e4, 1e4 + math.log(3)]]))[0] == pytest.approx([0.25, 0.75])
    assert softmax(np.array([[-1e4, 1e4]]))[0] == pytest.approx([0, 1])


def test_calibration_is_the_formula() -> None:
    """p = softmax((mean over members of (log p - reference) + bias) / temperature), worked out by hand."""
    panel = Panel(((), SHOTS), ((-1.0, -0.5), (-0.2, -2.0)), (0.3, -0.3), 2.0)
    given = np.array([[[-0.7, -0.6], [-1.5, -0.25]]])
    first = ((-0.7 + 1.0) + (-1.5 + 0.2)) / 2 + 0.3
    second = ((-0.6 + 0.5) + (-0.25 + 2.0)) / 2 - 0.3
    expected = math.exp(first / 2) / (math.exp(first / 2) + math.exp(second / 2))
    assert panel.scores(given)[0] == pytest.approx([first, second])
    assert panel.calibrated(given)[0] == pytest.approx([expected, 1 - expected])


def test_an_uncalibrated_panel_of_one_changes_nothing() -> None:
    panel = Panel.plain([()], 2)
    given = [math.log(0.2), math.log(0.8)]
    assert panel.calibrated(np.array([[given]]))[0] == pytest.approx([0.2, 0.8])


def test_a_panel_outlives_its_file() -> None:
    panel = Panel((SHOTS, ()), ((0.25, 0.5), (0.0, 0.0)), (1 / 3, -1 / 3), 0.7)
    again = Panel.from_json(panel.to_json())
    assert again == panel
    assert again.to_json() == panel.to_json()
    assert "नमस्ते" in panel.to_json()


def test_shots_are_turns_of_the_conversation() -> None:
    first, second = Panel.plain([SHOTS, SHOTS[:1]], 2).requests(TEMPLATE, TASK, {"text": "{text}?"})
    assert first.messages == (
        Message("system", "Sort."),
        Message("user", "Q: a {x}"),
        Message("assistant", "yes"),
        Message("user", "Q: नमस्ते"),
        Message("assistant", "no"),
        Message("user", "Q: {text}?"),
    )
    system, question = TEMPLATE.render({"text": "{text}?"})
    assert second.messages == (system, *worked(TEMPLATE, SHOTS[:1]), question)
    assert first.choices == ("no", "yes")
    assert first.temperature == 0


def examples(**counts: int) -> list[Example]:
    return [Example(f"{a}{i}", {"text": f"{a} text {i}"}, f"g{i}", a) for a, n in counts.items() for i in range(n)]


@pytest.mark.parametrize(("count", "wanted"), [(4, (2, 2)), (6, (3, 3)), (10, (5, 5))])
def test_shots_are_balanced(count: int, wanted: tuple[int, int]) -> None:
    for seed in range(5):
        shots = draw_shots(examples(no=40, yes=10), ["no", "yes"], count, seed)
        drawn = Counter(shot.answer for shot in shots)
        assert (drawn["no"], drawn["yes"]) == wanted
        assert len({shot.slots["text"] for shot in shots}) == count
        assert all(shot.slots["text"].startswith(shot.answer) for shot in shots)


def test_shots_that_do_not_divide_or_run_out_are_as_even_as_they_go() -> None:
    drawn = Counter(shot.answer for shot in draw_shots(examples(a=9, b=9, c=9), ["a", "b", "c"], 8, 1))
    assert sorted(drawn.values()) == [2, 3, 3]
    drawn = Counter(shot.answer for shot in draw_shots(examples(a=9, b=1), ["a", "b", "never"], 6, 1))
    assert drawn == {"a": 5, "b": 1}


def test_shots_follow_the_seed_alone_and_are_mixed() -> None:
    pool = examples(no=20, yes=20)
    drawn = {seed: draw_shots(pool, ["no", "yes"], 8, seed) for seed in range(20)}
    assert drawn == {seed: draw_shots(pool, ["no", "yes"], 8, seed) for seed in range(20)}
    assert len({str(shots) for shots in drawn.values()}) == 20
    orders = {"".join(shot.answer[0] for shot in shots) for shots in drawn.values()}
    assert len(orders) > 10
    assert {order[-1] for order in orders} == {"n", "y"}


def test_too_few_examples_for_the_shots_are_told() -> None:
    with pytest.raises(DataError, match="6 shots are asked for, and `tune` has 5 human answers") as caught:
        draw_shots(examples(no=3, yes=2), ["no", "yes"], 6, 1)
    assert caught.value.remedy


def test_members_answer_together() -> None:
    panel = Panel.plain([(), SHOTS], 2)
    one = Completion("no", choice_logprobs=(math.log(0.9), math.log(0.1)))
    two = Completion("yes", choice_logprobs=(math.log(0.4), math.log(0.6)))
    probabilities, failure = panel.combine(TASK, [one, two])
    assert failure == ""
    assert probabilities is not None
    geometric = math.sqrt(0.9 * 0.4), math.sqrt(0.1 * 0.6)
    assert probabilities == pytest.approx([g / sum(geometric) for g in geometric])


@pytest.mark.parametrize(
    ("texts", "expected"), [(["Yes."], (0, 1)), (["no", "yes", "yes", " YES "], (0.25, 0.75)), (["no"] * 3, (1, 0))]
)
def test_texts_without_logprobs_vote(texts: list[str], expected: tuple[float, float]) -> None:
    panel = Panel.plain([()] * len(texts), 2)
    probabilities, failure = panel.combine(TASK, [Completion(text) for text in texts])
    assert failure == ""
    assert probabilities == pytest.approx(expected)


def test_one_member_without_logprobs_makes_it_a_vote() -> None:
    sure = Completion("no", choice_logprobs=(math.log(0.9), math.log(0.1)))
    probabilities, _ = Panel.plain([(), ()], 2).combine(TASK, [sure, Completion("yes")])
    assert probabilities == pytest.approx((0.5, 0.5))


@pytest.mark.parametrize(
    ("answers", "reason"),
    [
        ([Completion("perhaps")], "the answer is not in the list"),
        ([Completion("yes"), Completion("perhaps")], "the answer is not in the list"),
        ([Completion("yes"), Completion("", failure="no rule matches")], "no rule matches"),
        ([Completion("yes", choice_logprobs=(-1.0, -0.5), failure="odd")], "odd"),
    ],
)
def test_unusable_rows_say_why(answers: list[Completion], reason: str) -> None:
    assert Panel.plain([()] * len(answers), 2).combine(TASK, answers) == (None, reason)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (["c", "a", "c"], (1 / 3, 0, 2 / 3)),
        (["b", "b", "b"], (0, 1, 0)),
        (["c", "b", "a"], (1 / 3, 1 / 3, 1 / 3)),
        (["b", "c", "b", "b", "b"], (0, 0.8, 0.2)),
    ],
)
def test_each_member_of_a_committee_without_logprobs_has_one_vote(said: list[str], expected: tuple[float, ...]) -> None:
    """Calibration has no part in it: it is made for log-probabilities."""
    task = Classify(("a", "b", "c"), TEMPLATE)
    for panel in (Panel.plain([()] * len(said), 3), Panel(((),) * len(said), ((9.0,) * 3,) * len(said), (5, 0, 0), 7)):
        probabilities, failure = panel.combine(task, [Completion(text) for text in said])
        assert failure == ""
        assert probabilities is not None
        assert probabilities.tolist() == pytest.approx(list(expected))


SCHEMA = '{"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}'


def test_members_of_free_text_are_draws_of_one_question() -> None:
    task = Extract(TEMPLATE, 33, SCHEMA)
    panel = replace(Panel.plain([SHOTS] * 3, 0), sampling=0.7)
    asked = panel.requests(TEMPLATE, task, {"text": "x"})
    assert [request.sample for request in asked] == [0, 1, 2]
    assert {(r.choices, r.max_tokens, r.temperature, r.schema) for r in asked} == {((), 33, 0.7, SCHEMA)}
    assert len({request.messages for request in asked}) == 1
    assert panel.first().requests(TEMPLATE, task, {"text": "x"}) == asked[:1]
    assert Panel.from_json(panel.to_json()) == panel
    labels = Panel.plain([(), SHOTS], 2).requests(TEMPLATE, TASK, {"text": "x"})
    assert {(r.sample, r.schema, r.max_tokens) for r in labels} == {(0, "", 16)}


@pytest.mark.parametrize(
    ("drawn", "texts", "failure"),
    [
        ([Completion(' {"n":1.0}')], ('{"n": 1}',), ""),
        ([Completion('{"n": 1}'), Completion('{"n": 2}'), Completion('{"n":1}')], ('{"n": 1}', '{"n": 2}', '{"n": 1}'),
         ""),
        ([Completion("none"), Completion('{"n": 2}')], ('{"n": 2}',), ""),
        ([Completion('{"n": 1}', finish_reason="length")], (), "the answer is longer than task.max_tokens"),
        ([Completion('{"n": "one"}')], (), "the answer does not fit the task"),
        ([Completion("", failure="refused")], (), "refused"),
        ([Completion("", failure="refused"), Completion('{"n": 2}')], ('{"n": 2}',), ""),
        ([Completion('{"n": 2}', failure="refused")], (), "refused"),
    ],
)  # fmt: skip
def test_draws_that_can_be_used_are_taken_and_none_is_a_failure(
    drawn: list[Completion], texts: tuple[str, ...], failure: str
) -> None:
    panel = Panel.plain([()] * len(drawn), 0)
    assert panel.texts(Extract(TEMPLATE, 9, SCHEMA), drawn) == (texts, failure)


def test_each_usable_text_comes_with_the_completion_that_it_stands_in() -> None:
    panel, task = Panel.plain([()] * 4, 0), Extract(TEMPLATE, 9, SCHEMA)
    drawn = [
        Completion("none", token_logprobs=b"0"),
        Completion('So: {"n": 1}', token_logprobs=b"1"),
        Completion('{"n": 2}', failure="refused"),
        Completion('{"n":3.0}', token_logprobs=b"3"),
    ]
    found, failure = panel.answered(task, drawn)
    assert (found, failure) == ([('{"n": 1}', drawn[1]), ('{"n": 3}', drawn[3])], "")
    assert panel.texts(task, drawn)[0] == tuple(text for text, _ in found)


def test_free_text_is_taken_as_it_is_but_for_space_around_it() -> None:
    panel, task = Panel.plain([(), ()], 0), Generate(TEMPLATE, 9)
    assert panel.texts(task, [Completion(" a  b\n"), Completion("c")]) == (("a  b", "c"), "")
    assert panel.texts(task, [Completion(" "), Completion("\n")]) == ((), "the answer does not fit the task")


def test_shots_of_free_text_are_drawn_from_all_answers_alike() -> None:
    pool = examples(one=1, two=1, three=30)
    drawn = [draw_shots(pool, (), 4, seed) for seed in range(40)]
    assert drawn == [draw_shots(pool, (), 4, seed) for seed in range(40)]
    assert all(len({shot.slots["text"] for shot in shots}) == 4 for shots in drawn)
    counted = Counter(shot.answer for shots in drawn for shot in shots)
    assert counted["three"] > 120
    assert set(counted) == {"one", "two", "three"}


def test_the_prior_bias_weighs_rows_by_what_they_stand_for() -> None:
    """Half of the rows were asked nine times as often as the rest: with the others' weight nine, shares are right."""
    draw = np.random.default_rng(5)
    scores = np.concatenate([draw.normal(1.5, 1, 900), draw.normal(-1.5, 1, 100)])
    given = np.log(softmax(np.stack([np.zeros(1000), scores], axis=1)))
    mass = np.repeat([1.0, 9.0], [900, 100])
    right = (mass @ (given.argmax(axis=1) == 1)) / mass.sum()
    shares = np.array([1 - right, right])
    moved = (given + prior_bias(given, shares, mass=mass)).argmax(axis=1)
    assert mass @ (moved == 1) / mass.sum() == pytest.approx(right, abs=0.01)
    bare = (given + prior_bias(given, shares)).argmax(axis=1)
    assert abs(mass @ (bare == 1) / mass.sum() - right) > 0.1
    assert prior_bias(given, shares, mass=np.full(1000, 3.0)) == pytest.approx(prior_bias(given, shares))
