from __future__ import annotations

from aasut.doctor import software
from examined import faults


def test_a_library_that_crashes_is_a_fault() -> None:
    found = software._loaded("torch", software._start("import os, signal; os.kill(os.getpid(), signal.SIGILL)"))
    assert found.problem == "torch does not load: it was ended by SIGILL. Try pip install --force-reinstall torch."
    found = software._loaded("others", software._start("import nothing_of_this_name"))
    assert "the rest does not load: ModuleNotFoundError: No module named 'nothing_of_this_name'." in found.problem


def test_versions_are_compared_by_number() -> None:
    assert software._number("2.10.0+cpu") > software._number("2.6")
    assert software._number("5.0.0rc1") >= software._number("5.0")
    assert {"torch", "openvino-genai"} <= {name for name, _ in software._needed()}
    assert faults(software.versions()) == []
