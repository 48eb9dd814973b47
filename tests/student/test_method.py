from __future__ import annotations

import pytest

from aasut.errors import RecipeError
from aasut.student import method
from aasut.student.method import Method, Offer, choose, settle

SCRIPTED, ANSWERS, LISTED = Offer("scripted"), Offer("endpoint"), Offer("endpoint", alternatives=20)
SAME, OTHER = Offer("model"), Offer("model", obstacle="token 7 is 'a' in the teacher and 'b' in the student")


def refusal(loss: str) -> str:
    return "" if loss in ("cross_entropy", "forward_kl") else "the tail is not there"


@pytest.mark.parametrize(
    ("offer", "loss", "name"),
    [
        (SCRIPTED, "cross_entropy", "fine_tune"),
        (ANSWERS, "cross_entropy", "fine_tune"),
        (LISTED, "cross_entropy", "sparse_kd"),
        (LISTED, "forward_kl", "sparse_kd"),
        (SAME, "forward_kl", "cached_kd"),
        (SAME, "reverse_kl", "live_kd"),
        (OTHER, "cross_entropy", "text_kd"),
    ],
)
def test_what_the_teacher_offers_decides(offer: Offer, loss: str, name: str) -> None:
    found = choose("auto", loss, offer, refusal)
    assert (found.name, found.chosen) == (name, True)
    assert offer.said in found.reason
    assert str(found) == f"{name}: {found.reason}"
    assert ("the tail is not there" in found.reason) == (loss == "reverse_kl")


def test_answers_in_a_table_are_learned_as_they_stand_unless_the_recipe_says_otherwise() -> None:
    taught = Offer("model", taught=True)
    for loss in ("cross_entropy", "forward_kl"):
        found = choose("auto", loss, taught, refusal)
        assert (found.name, found.chosen) == ("text_kd", True)
        assert "stand in a table" in found.reason
    assert choose("auto", "reverse_kl", taught, refusal).name == "live_kd"  # a wish for the distribution
    assert choose("cached_kd", "forward_kl", taught, refusal).name == "cached_kd"
    assert choose("auto", "forward_kl", Offer("endpoint", 20, taught=True), refusal).name == "sparse_kd"
    assert choose("auto", "forward_kl", Offer("scripted", taught=True), refusal).name == "fine_tune"


def test_the_students_own_answers_take_a_teacher_alongside() -> None:
    for offer in (SAME, Offer("model", taught=True)):
        for wanted in ("auto", "live_kd"):
            for loss in ("forward_kl", "reverse_kl", "cross_entropy"):
                found = choose(wanted, loss, offer, refusal, on_policy=True)
                assert (found.name, found.chosen) == ("live_kd", wanted == "auto")
    assert "asks it about the student's own answers" in choose("auto", "jsd", SAME, refusal, on_policy=True).reason
    for offer in (SCRIPTED, ANSWERS, LISTED, OTHER):
        with pytest.raises(RecipeError, match=r"student\.on_policy needs a local teacher with the student's") as caught:
            choose("auto", "cross_entropy", offer, refusal, on_policy=True)
        assert offer.said in str(caught.value)
        assert "\n" not in str(caught.value)


def test_labels_leave_no_choice() -> None:
    assert method.labels().name == "labels"
    assert "distribution over them" in method.labels().reason


@pytest.mark.parametrize(
    ("wanted", "loss", "offer"),
    [
        ("fine_tune", "cross_entropy", LISTED),
        ("fine_tune", "forward_kl", SAME),
        ("text_kd", "cross_entropy", SAME),
        ("live_kd", "forward_kl", SAME),
        ("live_kd", "total_variation", SAME),
        ("cached_kd", "cross_entropy", SAME),
        ("sparse_kd", "forward_kl", LISTED),
    ],
)
def test_the_recipe_overrules_within_what_is_possible(wanted: str, loss: str, offer: Offer) -> None:
    found = choose(wanted, loss, offer, refusal)
    assert (found.name, found.chosen) == (wanted, False)


@pytest.mark.parametrize(
    ("wanted", "loss", "offer", "says"),
    [
        ("cached_kd", "forward_kl", OTHER, r"student\.method: cached_kd needs a local teacher .* token 7 is 'a'"),
        (
            "cached_kd",
            "forward_kl",
            LISTED,
            "cached_kd needs a local teacher with the student's tokenizer, and the end",
        ),
        ("live_kd", "reverse_kl", SCRIPTED, "live_kd needs a local teacher with the student's tokenizer, and the scr"),
        ("sparse_kd", "forward_kl", ANSWERS, "sparse_kd needs an endpoint with logprobs: true"),
        ("sparse_kd", "forward_kl", SAME, "sparse_kd needs an endpoint"),
        ("text_kd", "cross_entropy", ANSWERS, "text_kd needs a local teacher, and the endpoint is asked for answers"),
        ("cached_kd", "reverse_kl", SAME, r"reverse_kl cannot be taken on a logit cache: the tail .* live_kd\."),
        ("auto", "jsd", LISTED, "jsd cannot be taken on a logit cache: .*this teacher offers no more"),
        ("auto", "reverse_kl", SCRIPTED, "reverse_kl needs the teacher's distribution over tokens, and fine_tune has"),
        ("fine_tune", "jsd", SAME, "jsd needs the teacher's distribution"),
        ("auto", "total_variation", OTHER, "total_variation needs the teacher's distribution over tokens, and text_kd"),
        ("magic", "forward_kl", SAME, "There is no method 'magic'"),
    ],
)
def test_what_is_impossible_is_refused_in_one_line(wanted: str, loss: str, offer: Offer, says: str) -> None:
    with pytest.raises(RecipeError, match=says) as caught:
        choose(wanted, loss, offer, refusal)
    assert "\n" not in str(caught.value)
    assert caught.value.remedy


def test_an_endpoint_whose_tokens_are_not_the_students_is_learned_by_its_texts() -> None:
    chosen = choose("auto", "forward_kl", LISTED, refusal)
    assert settle(chosen, 0.97) is chosen
    text = settle(chosen, 0.2)
    assert text.name == "fine_tune"
    assert "only 20% of the endpoint's answers" in text.reason
    with pytest.raises(RecipeError, match="only 20% of the endpoint's answers"):
        settle(choose("sparse_kd", "forward_kl", LISTED, refusal), 0.2)
    assert settle(Method("cached_kd", ""), 0.0).name == "cached_kd"
