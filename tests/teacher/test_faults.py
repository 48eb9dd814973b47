from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from pydantic import ValidationError

from aasut.errors import RecipeError
from aasut.teacher.faults import Fault, Plan, load, load_rules


def drawn(plan: Plan, count: int = 4000) -> Counter[object]:
    chosen = (plan.choose(10**6, f"body {i}", 0) for i in range(count))
    return Counter(fault.fault if fault else None for fault in chosen)


def test_shares_are_kept_and_the_same_for_a_seed() -> None:
    plan = Plan(seed=3, faults=(Fault(fault=429, share=0.2), Fault(fault="stall", share=0.1)))
    found = drawn(plan)
    assert found == drawn(plan)
    assert found[429] == pytest.approx(800, abs=100)
    assert found["stall"] == pytest.approx(400, abs=80)
    assert [plan.choose(0, f"{i}", 0) for i in range(50)] != [
        plan.model_copy(update={"seed": 4}).choose(0, f"{i}", 0) for i in range(50)
    ]


def test_a_call_that_is_sent_again_draws_again() -> None:
    plan = Plan(faults=(Fault(fault=500, share=0.5),))
    assert {plan.choose(0, "body", attempt) is None for attempt in range(20)} == {True, False}
    assert plan.choose(0, "body", 3) == plan.choose(77, "body", 3)  # whatever came in between


def test_numbers_and_ranges_come_before_shares() -> None:
    plan = Plan(
        faults=(
            Fault(fault="half", share=1.0),
            Fault(fault=401, at=(0, 5)),
            Fault(fault=503, first=2, last=3),
            Fault(fault="drip", first=8),
        )
    )
    chosen = [plan.choose(number, "body", 0) for number in range(10)]
    assert [fault and fault.fault for fault in chosen] == [
        401, "half", 503, 503, "half", 401, "half", "half", "drip", "drip"
    ]  # fmt: skip
    assert Plan().choose(0, "body", 0) is None
    assert Plan(faults=(Fault(fault=500, last=1),)).choose(2, "body", 0) is None


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ({"fault": 429}, "say when by one of"),
        ({"fault": 429, "share": 0.1, "at": [1]}, "say when by one of"),
        ({"fault": 200, "share": 0.1}, "fault"),
        ({"fault": "explode", "share": 0.1}, "fault"),
        ({"fault": 429, "share": 1.1}, "share"),
        ({"fault": 429, "at": [-1]}, "at"),
        ({"fault": 429, "at": [1], "seconds": 2}, "seconds does not go with 429"),
        ({"fault": "half", "at": [1], "retry_after_s": 2}, "go with a status"),
        ({"fault": "half", "at": [1], "location": "/"}, "go with a status"),
        ({"fault": "half", "at": [1], "body": "x"}, "body goes with"),
        ({"fault": 429, "at": [1], "as_date": True}, "as_date needs"),
        ({"fault": 429, "at": [1], "sometimes": True}, "sometimes"),
    ],
)
def test_plans_that_make_no_sense_are_refused(tmp_path: Path, fault: dict[str, object], said: str) -> None:
    path = tmp_path / "plan.json"
    path.write_text(json.dumps({"faults": [fault]}))
    with pytest.raises(RecipeError, match=said) as caught:
        load(path)
    assert len(str(caught.value).splitlines()) == 1
    assert str(path) in caught.value.message


def test_shares_beyond_one_are_refused() -> None:
    with pytest.raises(ValidationError, match=r"add up to 1\.2"):
        Plan(faults=(Fault(fault=500, share=0.6), Fault(fault=501, share=0.6)))


def test_plans_and_rules_come_from_files(tmp_path: Path) -> None:
    plan, rules = tmp_path / "plan.yaml", tmp_path / "rules.yaml"
    plan.write_text("seed: 5\nlatency_s: 0.5\nfaults:\n- {fault: 429, share: 0.1, retry_after_s: 2}\n")
    assert load(plan) == Plan(seed=5, latency_s=0.5, faults=(Fault(fault=429, share=0.1, retry_after_s=2),))
    plan.write_text("")
    assert load(plan) == Plan()
    rules.write_text("great: positive\n'': negative\n")
    assert load_rules(rules) == {"great": "positive", "": "negative"}
    for text in ("", "[]", "great: yes", "1: positive", "great", "a: ["):
        rules.write_text(text)
        with pytest.raises(RecipeError, match=r"rules\.yaml"):
            load_rules(rules)
    for path in (tmp_path / "missing", tmp_path):
        with pytest.raises(RecipeError, match="cannot be read"):
            load(path)
    rules.write_bytes(b"\xff\xfe")
    with pytest.raises(RecipeError, match="neither YAML nor JSON"):
        load_rules(rules)


def test_how_long_a_fault_lasts() -> None:
    lasting = [Fault(fault=kind, share=0, seconds=s).lasts_s for kind, s in (("stall", None), ("slow", None))]
    assert lasting == [600, 1]
    assert Fault(fault="drip", share=0, seconds=0.25).lasts_s == 0.25
