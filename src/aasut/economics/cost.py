"""What a request costs: measured speed times the declared price of a machine, or an API's price of tokens."""

from __future__ import annotations

from aasut.errors import DataError

SECONDS_PER_HOUR = 3600.0
HOURS_PER_MONTH = 730.0
MILLION = 1e6


def usd_per_million_requests(usd_per_machine_hour: float, requests_per_s: float, utilisation: float) -> float:
    """USD for a million requests on a machine paid by the hour.

    usd_per_hour / (3600 * requests_per_s * utilisation) * 1e6; utilisation is the share of the paid
    time spent on requests, above 0 to 1. Raises DataError where that speed is not above 0.
    """
    return usd_per_machine_hour / (SECONDS_PER_HOUR * _effective_rate(requests_per_s, utilisation)) * MILLION


def api_usd_per_million_requests(
    input_tokens: float, output_tokens: float, usd_per_million_input_tokens: float, usd_per_million_output_tokens: float
) -> float:
    """USD for a million requests of an API that is paid by the token; tokens are those of one request."""
    return input_tokens * usd_per_million_input_tokens + output_tokens * usd_per_million_output_tokens


def monthly_capacity(requests_per_s: float, utilisation: float) -> float:
    """Requests that one machine answers in a month of 730 hours. Raises what the price raises."""
    return SECONDS_PER_HOUR * HOURS_PER_MONTH * _effective_rate(requests_per_s, utilisation)


def _effective_rate(requests_per_s: float, utilisation: float) -> float:
    if not requests_per_s > 0 or not 0 < utilisation <= 1:
        raise DataError(
            f"No price can be had from {requests_per_s:g} requests/s at utilisation {utilisation:g}.",
            "Measure the speed on at least one request, and set economics.utilisation above 0 and at most 1.",
        )
    return requests_per_s * utilisation


def usd(value: float) -> str:
    """An amount with as many decimals as it needs: $0.0042, $1.35, $12,400."""
    if value == 0:
        return "$0"
    if value >= 1000:
        return f"${value:,.0f}"
    if value >= 0.1:
        return f"${value:.2f}"
    return f"${value:.2g}" if value >= 1e-4 else f"${value:.1e}"


def times(value: float) -> str:
    """A ratio: 5.87 is "5.9 times"."""
    return f"{value:,.0f} times" if value >= 20 else f"{value:.1f} times" if value >= 0.95 else f"{value:.2g} times"


def cost_sentence(student_usd: float, teacher_usd: float, without_cache: float | None) -> str:
    """Costs in words; USD per million requests, and the ratio teacher / student without the prefix cache."""
    if student_usd <= 0:
        return "Machine hours are declared free, so that student and teacher cost the same."
    if teacher_usd <= 0:
        return f"The teacher costs nothing per request, a million requests of the student {usd(student_usd)}."
    ratio = teacher_usd / student_usd
    how = f"{times(ratio)} cheaper" if ratio >= 1 else f"{times(1 / ratio)} dearer"
    tail = ""
    if without_cache is not None:
        other = f"{times(without_cache)} cheaper" if without_cache >= 1 else f"{times(1 / without_cache)} dearer"
        tail = f" ({other} without the prefix cache)"
    return (
        f"A million requests cost {usd(student_usd)} with the student and {usd(teacher_usd)} with the teacher: "
        f"{how}{tail}."
    )
