"""Faults are counted by their reasons."""

from __future__ import annotations

import re
from pathlib import Path

from aasut.documents import fault


def test_a_fault_has_a_reason_and_a_detail() -> None:
    error = fault.Fault("broken", "line 7")
    assert (error.reason, error.detail, str(error)) == ("broken", "line 7", "('broken', 'line 7')")
    assert fault.Fault("broken").detail == ""


def test_reasons_name_no_file_and_no_number() -> None:
    """A reason with a name in it would be counted by itself: reasons are constants, details are not."""
    sources = [path.read_text(encoding="utf-8") for path in Path(fault.__file__).parent.glob("*.py")]
    raised = [line for source in sources for line in source.split("\n") if "Fault(" in line]
    assert len(raised) > 30
    formatted = [line for line in raised if re.search(r'Fault\(f"', line)]
    assert all(re.search(r'Fault\(f"not \{codec', line) for line in formatted), formatted
