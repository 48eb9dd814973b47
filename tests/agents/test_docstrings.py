from __future__ import annotations

import pytest

from aasut.agents.docstrings import read

GOOGLE = """Turn a light on or off.

    Works in every room.

    Args:
        room: Which room, such as
            the kitchen.
        level (int, optional): How bright: 0 to 100.
        unknown: No parameter of it.

    Returns:
        What happened.
    """
SPHINX = """Turn a light on or off.

    Works in every room.

    :param room: Which room, such as
        the kitchen.
    :param int level: How bright: 0 to 100.
    :param unknown: No parameter of it.
    :returns: What happened.
    :rtype: str
    """
NUMPY = """Turn a light on or off.

    Works in every room.

    Parameters
    ----------
    room : str
        Which room, such as
        the kitchen.
    level : int, optional
        How bright: 0 to 100.

    Returns
    -------
    str
        What happened.
    """


@pytest.mark.parametrize("docstring", [GOOGLE, SPHINX, NUMPY], ids=["google", "sphinx", "numpy"])
def test_each_form_says_what_the_function_and_its_parameters_are(docstring: str) -> None:
    text, found = read(docstring, ["room", "level"])
    assert text == "Turn a light on or off.\nWorks in every room."
    assert found == {"room": "Which room, such as the kitchen.", "level": "How bright: 0 to 100."}


def test_plain_text_stays_whole() -> None:
    text, found = read("Args and returns are words here.\nNote: so is this.\n\nExample", ["room"])
    assert text == "Args and returns are words here. Note: so is this.\nExample"
    assert found == {}


def test_a_parameter_that_is_not_described_is_left_out() -> None:
    assert read("Do it.\n\nArgs:\n    room:\n    level: How bright.", ["room", "level"])[1] == {"level": "How bright."}


def test_text_after_the_parameters_is_kept() -> None:
    text, found = read("Do it.\n\nArgs:\n    room: Which.\n\nOnly at night.", ["room"])
    assert (text, found) == ("Do it.\nOnly at night.", {"room": "Which."})
