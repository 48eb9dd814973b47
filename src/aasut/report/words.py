"""How the page words single values: a moment, a p-value, a count of times, a difference, the name of a measure."""

from __future__ import annotations

from datetime import UTC, datetime

MEASURES = {
    "macro_f1": "Macro-F1",
    "token_f1": "Token-F1",
    "exact_match": "Exact match",
    "json_fields": "JSON fields",
    "tool_calls": "Tool calls",
}
SMALLEST = 1e-4  # p-values below it are only said to be so


def moment(seconds: float) -> str:
    """Seconds since 1970, in UTC: 0 is "1970-01-01 00:00 UTC"."""
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M} UTC"


def chance(p: float | None) -> str:
    """A p-value: 0.04312 is "0.043", 3e-7 is "<0.0001"."""
    if p is None:
        return "\N{EN DASH}"
    return f"<{SMALLEST:.4f}" if p < SMALLEST else f"{p:.2g}"


def often(times: int) -> str:
    """1 is "once", 3 is "3 times"."""
    return "once" if times == 1 else f"{times:,} times"


def measure(name: str) -> str:
    """A measure's name as people write it."""
    plain = name.replace("_", " ")
    return MEASURES.get(name, plain[:1].upper() + plain[1:])


def signed(difference: float) -> str:
    """A difference of shares in percentage points: -0.0123 is "\N{MINUS SIGN}1.2"."""
    return f"{difference * 100:+.1f}".replace("-", "\N{MINUS SIGN}")


def said(sentence: str) -> str:
    """A sentence whose per cent signs stay with their numbers at the end of a line."""
    return sentence.replace(" %", "\N{NO-BREAK SPACE}%")
