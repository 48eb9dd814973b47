"""Tests of gateway.tokens: what APIs count, in all their words, and estimates where nothing is counted."""

from __future__ import annotations

from typing import Any

import pytest

from aasut.gateway.exchange import Exchange
from aasut.gateway.settings import Price
from aasut.gateway.tokens import MOST_ANSWER, Estimate, counted, most_answered


@pytest.mark.parametrize(
    ("usage", "found"),
    [
        ({"prompt_tokens": 9, "completion_tokens": 4, "prompt_tokens_details": {"cached_tokens": 5}}, (9, 4, 5)),
        ({"input_tokens": 9, "output_tokens": 4, "input_tokens_details": {"cached_tokens": 50}}, (9, 4, 9)),
        ({"prompt_tokens": 9, "total_tokens": 9}, (9, 0, 0)),
        ({"prompt_tokens": 9, "completion_tokens": "many", "prompt_tokens_details": None}, (9, 0, 0)),
    ],
)
def test_usage_in_the_words_of_each_api(usage: Any, found: tuple[int, int, int]) -> None:
    exchange = Exchange("/v1/chat/completions")
    assert counted(exchange, usage)
    assert (exchange.prompt_tokens, exchange.completion_tokens, exchange.cached_tokens) == found
    assert exchange.counted


@pytest.mark.parametrize(
    "usage", [None, [], {}, {"prompt_tokens": -1}, {"prompt_tokens": True}, {"completion_tokens": 4}]
)
def test_what_is_no_count(usage: Any) -> None:
    exchange = Exchange("/v1/chat/completions")
    assert not counted(exchange, usage)
    assert (exchange.prompt_tokens, exchange.counted) == (0, False)


def test_estimates_learn_from_counts_model_by_model() -> None:
    estimate = Estimate()
    assert estimate.tokens("m", 400) == 100
    for _ in range(200):
        estimate.learn("m", 600, 100)
    assert estimate.tokens("m", 600) == 100
    assert estimate.tokens("other", 400) == 100
    estimate.learn("m", 600, 0)  # says nothing
    assert estimate.tokens("m", 600) == 100


@pytest.mark.parametrize(
    ("chat", "most"),
    [
        (None, MOST_ANSWER),
        ({}, MOST_ANSWER),
        ({"max_tokens": 10}, 10),
        ({"max_tokens": 10, "max_completion_tokens": 7, "n": 3}, 21),
        ({"max_output_tokens": 5, "n": None}, 5),
        ({"max_tokens": "ten", "n": 2}, 2 * MOST_ANSWER),
    ],
)
def test_the_most_that_can_be_answered(chat: Any, most: int) -> None:
    assert most_answered(chat) == most


def test_prices() -> None:
    assert Price(input=2.0, output=8.0).usd(1_000_000, 500_000, 400_000) == pytest.approx(6.0)
    assert Price(input=2.0, output=8.0, cached_input=0.5).usd(1_000_000, 0, 400_000) == pytest.approx(1.4)
