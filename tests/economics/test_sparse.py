"""Which model is to be served: by quality first, then by speed, then by memory."""

from __future__ import annotations

import pytest

from aasut.economics.sparse import ACTIVE, MIXTURE, STUDENTS, TOTAL, Arm, More, Verdict, decide, megabytes

HALF = 0.02  # of every interval


def decided(*arms: Arm) -> Verdict:
    known = {arm.name: arm.bits for arm in arms if arm.bits is not None}
    more = {
        (a, b): More(bits - other, bits - other - HALF, bits - other + HALF)
        for a, bits in known.items()
        for b, other in known.items()
    }
    return decide(arms, more, "aasut plan works --dense")


def test_the_mixture_wins_where_it_is_as_good_and_faster() -> None:
    found = decided(
        Arm(MIXTURE, 750, 20, 200, 1.00), Arm(STUDENTS, 1080, 30, 90, 1.01), Arm(ACTIVE, 430, 21, 150, 0.995)
    )
    assert (found.best, found.out, found.serve) == (ACTIVE, [], MIXTURE)
    assert (found.alone, found.together, found.smallest) == (STUDENTS, MIXTURE, ACTIVE)
    assert found.sentences[0].startswith(
        "The mixture serves this best: 200 tokens/s at batch 16, 20 at batch 1, 750 MB"
    )
    assert "separate students: 90 tokens/s at batch 16, 30 at batch 1, 1,080 MB" in found.sentences[0]
    assert found.sentences[1:] == [
        "Of what is left, fastest at batch 1: separate students; at batch 16: the mixture; least memory: the dense "
        "model of as many weights a token."
    ]


def test_dense_wins_on_speed_at_equal_bits() -> None:
    found = decided(Arm(MIXTURE, 750, 20, 150, 1.00), Arm(STUDENTS, 1080, 30, 90, 1.01), Arm(ACTIVE, 430, 21, 200, 1.0))
    assert (found.out, found.serve) == ([], ACTIVE)
    assert found.sentences[0] == (
        "A dense model serves this better: the dense model of as many weights a token, 200 tokens/s at batch 16, 21 at "
        "batch 1, 430 MB (the mixture: 150 tokens/s at batch 16, 20 at batch 1, 750 MB), +0.000 (-0.020 to +0.020) "
        "bits per byte beside the mixture, no difference known."
    )


def test_what_costs_more_bits_is_out_however_fast() -> None:
    found = decided(
        Arm(MIXTURE, 750, 20, 150, 1.00), Arm(STUDENTS, 1080, 30, 90, 1.05), Arm(ACTIVE, 430, 40, 300, 1.03)
    )
    assert (found.best, found.out, found.serve) == (MIXTURE, [STUDENTS, ACTIVE], MIXTURE)
    assert found.sentences[0] == "The mixture serves this best: all else that was trained costs more bits per byte."
    assert (
        found.sentences[1] == "Separate students cost +0.050 (+0.030 to +0.070) bits per byte beside the mixture: out."
    )
    assert "+0.030 (+0.010 to +0.050)" in found.sentences[2]


def test_the_mixture_is_out_where_a_dense_model_is_better() -> None:
    found = decided(Arm(MIXTURE, 750, 20, 300, 1.10), Arm(STUDENTS, 1080, 30, 90, 1.12), Arm(TOTAL, 750, 8, 60, 1.0))
    assert (found.out, found.serve) == ([MIXTURE, STUDENTS], TOTAL)
    assert found.sentences[0].startswith(
        "A dense model serves this better: the dense model of as many weights in all, "
    )
    assert found.sentences[0].endswith("-0.100 (-0.120 to -0.080) bits per byte beside the mixture.")
    assert found.sentences[1].startswith("The mixture costs +0.100")


def test_students_may_win() -> None:
    found = decided(Arm(MIXTURE, 750, 20, 80, 1.00), Arm(STUDENTS, 1080, 30, 120, 1.0))
    assert found.serve == STUDENTS
    assert found.sentences[0].startswith("Separate students behind a classifier serve this better: 120 tokens/s ")


@pytest.mark.parametrize(("speed", "serve"), [(206, ACTIVE), (220, TOTAL)])
def test_speeds_that_are_alike_leave_it_to_memory(speed: float, serve: str) -> None:
    found = decided(Arm(MIXTURE, 750, 20, 100, 1.0), Arm(ACTIVE, 430, 20, 200, 1.0), Arm(TOTAL, 750, 20, speed, 1.0))
    assert (found.together, found.serve) == (TOTAL, serve)


def test_what_was_not_trained_is_told_with_how_to_find_out() -> None:
    found = decided(Arm(MIXTURE, 750, 20, 150, 1.00), Arm(STUDENTS, 1080, 30, 90, 1.0), Arm(ACTIVE, 430, 40, 300))
    assert found.serve == MIXTURE
    assert found.sentences[-1] == (
        "Not trained: the dense model of as many weights a token: 300 tokens/s at batch 16, 40 at batch 1, 430 MB (the "
        "mixture: 150 tokens/s at batch 16, 20 at batch 1, 750 MB). To learn whether that costs quality: aasut plan "
        "works --dense."
    )
    slower = decided(Arm(MIXTURE, 750, 20, 150, 1.00), Arm(TOTAL, 750, 8, 60))
    assert "To learn what they are worth: " in slower.sentences[-1]


def test_few_megabytes_have_a_digit_behind_the_point() -> None:
    assert [megabytes(value) for value in (0.62, 9.96, 1080.4)] == ["0.6", "10", "1,080"]
