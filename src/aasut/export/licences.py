"""Which licences a student carries: its own start's, and what the teacher's terms say of its answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

# Terms that follow the answers of a model into the models trained on them.
CARRIED = {
    "gemma": "Gemma Terms of Use: a model trained on Gemma's outputs is a Model Derivative. Pass the terms and the "
    "use restrictions on with it, and say in a NOTICE that it was changed.",
    "llama": "Llama Community License: a model trained on Llama's outputs must carry 'Llama' at the beginning of its "
    "name, with the licence and attribution.",
}
OUTPUTS, START = "Its answers may be learned from.", "Nothing beyond the licence's own conditions."
TEXT = "The student learned it; no file of the student's holds it."
UNKNOWN = "The licence is not known: find it out before you use the student outside a trial."


def ledger(
    teacher: str,
    teacher_licence: str,
    student: str | None,
    student_licence: str | None,
    others: Sequence[tuple[str, str]] = (),
    texts: Sequence[tuple[str, str]] = (),
) -> list[dict[str, Any]]:
    """One entry a part that the student descends from: what, licence, note; the teacher's first.

    others: names and licences of further teachers. texts: of general text that the start was healed on.
    """
    entries = [
        {"what": f"{what}: {name}", "licence": licence, "note": _note(licence, OUTPUTS)}
        for what, name, licence in (
            ("teacher", teacher, teacher_licence),
            *(("other teacher", *other) for other in others),
        )
    ]
    entries += [
        {"what": f"general text: {name}", "licence": licence, "note": _note(licence, TEXT)} for name, licence in texts
    ]
    if student is not None:
        licence = student_licence or "unknown"
        entries.append({"what": f"student's start: {student}", "licence": licence, "note": _note(licence, START)})
    return entries


def combined(entries: list[dict[str, Any]]) -> str:
    """One licence name for the student's files: the strictest that applies, else its start's; without a start the
    teacher's, unless that of another teacher is not known.
    """
    for entry in entries:
        family = _family(entry["licence"])
        if family:
            return family
    if entries[-1]["what"].startswith("student's start"):
        return str(entries[-1]["licence"])
    return "unknown" if any(entry["note"] == UNKNOWN for entry in entries) else str(entries[0]["licence"])


def _note(licence: str, known: str) -> str:
    """`known`: what is said where the licence is, and nothing follows its answers."""
    family = _family(licence)
    if family:
        return CARRIED[family]
    return UNKNOWN if licence in ("", "unknown") else known


def _family(licence: str) -> str:
    return next((name for name in CARRIED if licence.casefold().startswith(name)), "")
