"""The first lines: what is said of decision, certificate and saving, in each state of a run."""

from __future__ import annotations

from facts import facts
from proof_facts import refused, without

from aasut.report import headline


def test_three_lines_in_order_and_two_where_the_page_opens_with_the_decision() -> None:
    found = facts()
    assert [line.heading for line in headline.lines(found)] == ["Decision", "Certified", "What it saves"]
    found["recommendation"] = {"use": "linear", "sentence": "Use the linear model."}
    assert headline.linear_first(found)
    assert [line.heading for line in headline.lines(found)] == ["Certified", "What the student would save"]


def test_the_certificate_is_named_for_what_it_is() -> None:
    found = facts()
    assert headline.certificate(found).tone == "good"
    found["certificate"] |= {"against": "teacher"}
    assert headline.certificate(found).heading == "Certified: agreement with the teacher"
    found["certificate"] = refused() | {"against": "human"}
    line = headline.certificate(found)
    assert (line.heading, line.tone) == ("Certificate", "unsure")
    assert "260 more answers" in line.said
    line = headline.certificate(without(found))
    assert (line.said, line.how, line.tone) == ("No certificate yet.", "aasut certify reviews", "missing")


def test_the_return_comes_before_the_break_even_and_that_before_the_cost() -> None:
    found = facts()
    assert headline.saving(found).said == found["economics"]["return"]["sentence"]
    for result, tone in (("pays", "good"), ("undecided", "unsure"), ("does_not_pay", "bad"), ("never_pays", "bad")):
        found["economics"]["return"]["result"] = result
        assert headline.saving(found).tone == tone
    found["economics"]["return"] = None
    assert headline.saving(found).said == found["economics"]["break_even"][0]["sentence"]
    assert headline.saving(found).how == headline.RETURN
    found["economics"]["break_even"] = []
    assert headline.saving(found).said == found["economics"]["sentence"]


def test_to_keep_the_teacher_is_no_good_news() -> None:
    found = facts()
    found["economics"]["return"]["result"] = "pays"
    assert headline.decision(found).tone == "good"
    assert headline.decision(found).said == found["recommendation"]["sentence"]
    found["economics"]["return"]["result"] = "does_not_pay"
    assert headline.decision(found).tone == "unsure"
    assert headline.decision(found).said.endswith("But owning it does not pay at the declared volume.")
    found["recommendation"] = {"use": "teacher", "sentence": "Keep the teacher."}
    assert headline.decision(found).tone == "unsure"
