"""Families of models from their names, one vote for judges that share one, and warnings."""

from __future__ import annotations

import pytest

from aasut.recipe.families import apart, family, shown, warnings


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("hf:google/gemma-3-4b-it@main", {"gemini"}),
        ("gemini-2.5-flash", {"gemini"}),
        ("hf:meta-llama/Llama-3.2-1B@main", {"llama"}),
        ("hf:HuggingFaceTB/SmolLM2-135M-Instruct@main", {"smollm"}),
        ("Qwen2.5-7B-Instruct", {"qwen"}),
        ("gpt-4o-mini-2024-07-18", {"gpt"}),
        ("o3-mini", {"gpt"}),
        ("claude-sonnet-4", {"claude"}),
        ("mixtral-8x7b", {"mistral"}),
        ("Phi-3.5-mini", {"phi"}),
        ("DeepSeek-R1-Distill-Qwen-7B", {"deepseek", "qwen"}),
        ("file:models/our-own", set()),
        ("morphine-delphi", set()),
        ("scripted", {"scripted"}),
    ],
)
def test_a_name_tells_the_family(name: str, expected: set[str]) -> None:
    assert family(name) == expected


def test_what_is_given_goes_before_the_name() -> None:
    assert family("gpt-4o", "Ours") == {"ours"}
    assert shown(family("our-own")) == "unknown"


def test_judges_that_share_a_family_or_have_none_have_one_vote() -> None:
    judges = ["gpt-4o", "gpt-5", "Qwen3", "deepseek-chat", "house-model", "other-model"]
    found = apart([family(name) for name in judges])
    assert found == ["gpt", "gpt", "qwen", "deepseek", "unknown", "unknown"]
    joined = apart([family(name) for name in ("Qwen3", "deepseek-chat", "gpt-5", "DeepSeek-R1-Distill-Qwen-7B")])
    assert joined == ["deepseek+qwen", "deepseek+qwen", "gpt", "deepseek+qwen"]


def test_warns_of_a_judge_of_either_side_or_of_no_known_family() -> None:
    gpt, smollm, none = family("gpt-4o"), family("SmolLM2-135M"), family("x")
    assert warnings("gpt-5", gpt, gpt, smollm) == ["The judge gpt-5 is of the teacher's family, gpt: it may favour it."]
    assert "student's family, smollm" in warnings("s", smollm, gpt, smollm)[0]
    assert warnings("c", family("claude-4"), gpt, smollm) == []
    assert "is not known" in warnings("x", none, gpt, smollm)[0]
