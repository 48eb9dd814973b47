from __future__ import annotations

import pytest

from aasut.agents.limits import Meter, Stop
from aasut.recipe import Endpoint
from aasut.recipe.agent import Limits

ENDPOINT = Endpoint(
    base_url="http://x/v1", model="m", usd_per_million_input_tokens=1.0, usd_per_million_output_tokens=10.0
)
MESSAGE = {"role": "user", "content": "नमस्ते" * 100}


def test_a_prompt_is_never_longer_than_its_bytes_and_what_is_known() -> None:
    meter = Meter(Limits(), ENDPOINT)
    worst = meter.before_step([MESSAGE], [])
    assert worst > len(MESSAGE["content"].encode())
    assert meter.after_step(50, 5, 2, worst) == (50, 5, pytest.approx(100e-6))
    answered = [MESSAGE, {"role": "assistant", "content": "yes"}]
    assert meter.before_step(answered, []) == 55
    assert 55 < meter.before_step([*answered, {"role": "user", "content": "no"}], []) < 55 + 200


def test_dollars_are_never_passed() -> None:
    meter = Meter(Limits(usd=0.01, answer_tokens=100, steps=10**6), ENDPOINT)
    messages = [MESSAGE]

    def go_on() -> None:
        while True:
            worst = meter.before_step(messages, [])
            messages.append({"role": "assistant", "content": "x" * 100})
            meter.after_step(worst, 100, len(messages), worst)  # each at its worst

    with pytest.raises(Stop) as caught:
        go_on()
    assert caught.value.reason == "usd"
    assert 0.005 < meter.usd <= 0.01


def test_steps_and_calls_begin_anew_with_a_task_and_tokens_do_not() -> None:
    meter = Meter(Limits(steps=1, tool_calls=1, tokens=5000, answer_tokens=100), ENDPOINT)
    meter.after_step(1000, 10, 1, meter.before_step([MESSAGE], []))
    meter.before_call()
    with pytest.raises(Stop, match="after 1 requests"):
        meter.before_step([MESSAGE], [])
    with pytest.raises(Stop, match="after 1 calls"):
        meter.before_call()
    meter.begin()
    meter.before_call()
    meter.after_step(3500, 10, 1, meter.before_step([MESSAGE], []))
    meter.begin()
    with pytest.raises(Stop, match="4520 tokens were used"):
        meter.before_step([MESSAGE], [])


def test_time_in_which_a_person_was_asked_does_not_count() -> None:
    meter = Meter(Limits(seconds=1000), ENDPOINT)
    meter.began -= 1500
    assert meter.seconds_left == 0.0
    with pytest.raises(Stop, match="after 1000 s"):
        meter.in_time()
    meter.waited = 1000
    assert meter.seconds_left is not None
    assert 400 < meter.seconds_left < 500.1
    meter.in_time()
    assert Meter(Limits(), ENDPOINT).seconds_left is None
