"""The prompt behind a log: fixed text and slots are found, and every request is read back or counted."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from aasut.errors import DataError
from aasut.init import slots
from aasut.init.slots import Found, infer
from aasut.types import Message
from prose import Prose

RULES = (
    "You are a careful assistant of the support team.\n"
    "Read the customer's message and decide which team handles it.\n\n"
    "Rules:\n- Answer with exactly one word.\n- If unsure, say other.\n"
)
Chat = tuple[Message, ...]


def user(text: str) -> Chat:
    return (Message("user", text),)


def chat(system: str, text: str) -> Chat:
    return (Message("system", system), Message("user", text))


def found(conversations: list[Chat]) -> Found:
    """What is inferred; the counts add up, and what is counted as read is read back as it was."""
    result = infer(conversations)
    back = [one for one in conversations if slots.reads(result.template, one)]
    assert len(back) == result.read
    assert all(result.template.render(result.template.read(one)) == one for one in back)
    assert result.requests == len(conversations)
    assert result.requests == result.read + result.ambiguous + result.other_prompt + result.other_roles
    return result


def texts(result: Found) -> list[str]:
    return [message.content for message in result.template.messages]


SHAPES: dict[str, tuple[Callable[[Prose], Chat], list[str]]] = {
    "label": (lambda p: user(f"Review: {p.sentence(p.draw.randrange(3, 20))}"), ["Review: {review}"]),
    "inline": (
        lambda p: user(f"Classify the sentiment of this review: {p.sentence(8)}. Answer positive or negative."),
        ["Classify the sentiment of this review: {review}. Answer positive or negative."],
    ),
    "system and message": (
        lambda p: chat(RULES, f"Message:\n{p.document(p.draw.randrange(50, 3000))}\n\nTeam:"),
        [RULES, "Message:\n{message}\n\nTeam:"],
    ),
    "tags": (
        lambda p: user(
            f"{RULES}\n<title>{p.sentence(4)}</title>\n<document>\n{p.document(2000)}\n</document>\nAnswer:"
        ),
        [RULES + "\n<title>{title}</title>\n<document>\n{document}\n</document>\nAnswer:"],
    ),
    "json": (
        lambda p: user(json.dumps({"title": p.sentence(4), "body": p.document(300), "count": p.draw.randrange(99)})),
        ['{{"title": "{title}", "body": "{body}", "count": {count}}}'],
    ),
    "fences": (
        lambda p: user(f'Shorten it.\n\nText:\n"""\n{p.document(300)}\n"""\n'),
        ['Shorten it.\n\nText:\n"""\n{text}\n"""\n'],
    ),
    "raw user": (lambda p: chat(RULES, p.document(p.draw.randrange(20, 400))), [RULES, "{text}"]),
    "no prompt at all": (lambda p: user(p.document(p.draw.randrange(20, 400))), ["{text}"]),
    "worked examples": (
        lambda p: (Message("user", "T: good"), Message("assistant", "yes"), Message("user", f"T: {p.sentence(5)}")),
        ["T: good", "yes", "T: {t}"],
    ),
    "braces": (
        lambda p: user(f'Answer as {{"label": "..."}}.\nText: {{{p.sentence(5)}}} {{}}'),
        ['Answer as {{"label": "..."}}.\nText: {{{text}}} {{}}'],
    ),
    "hindi": (lambda p: user(f"बताएं कैसा है।\nसमीक्षा: {p.hindi()}"), ["बताएं कैसा है।\nसमीक्षा: {समीक्षा}"]),
    "line ends": (
        lambda p: user(f"Title: {p.sentence(3)}\r\nBody: {p.sentence(9)}\r\n"),
        ["Title: {title}\r\nBody: {body}\r\n"],
    ),
    "few values after a label": (
        lambda p: user(f"{RULES}\nLanguage: {p.draw.choice(['English'] * 11 + ['Hindi'])}\nMail: {p.sentence()}"),
        [RULES + "\nLanguage: {language}\nMail: {mail}"],
    ),
    "few long values after a label": (
        lambda p: user(f"Sort.\nTarget group: {p.draw.choice(GROUPS)}\nMail: {p.sentence()}"),
        ["Sort.\nTarget group: {target_group}\nMail: {mail}"],
    ),
    "the same label twice": (
        lambda p: user(f"First.\nText: {p.sentence()}\nSecond.\nText: {p.sentence()}\n"),
        ["First.\nText: {text}\nSecond.\nText: {text_2}\n"],
    ),
    "common text in some inputs": (
        lambda p: user(f"Mail: {p.document(200)}{p.draw.choice(['', CONFIDENTIAL, ''])}"),
        ["Mail: {mail}"],
    ),
}
GROUPS = ["young people in the big cities", "people who live in the country", "all the others, whoever they are"]
CONFIDENTIAL = "\n\nThis e-mail is confidential and intended solely for the use of the person it is addressed to."


@pytest.mark.parametrize("name", SHAPES)
def test_a_prompt_is_found(name: str) -> None:
    make, expected = SHAPES[name]
    prose = Prose(3)
    result = found([make(prose) for _ in range(300)])
    assert texts(result) == expected
    if name != "line ends":
        assert result.read >= 297  # real prose may hold `Text:`


@pytest.mark.parametrize("count", [2, 3, 5])
def test_a_few_requests_are_enough_for_a_plain_prompt(count: int) -> None:
    prose = Prose(4)
    result = found([user(f"{RULES}\nReview: {prose.sentence(8)}") for _ in range(count)])
    assert texts(result) == [RULES + "\nReview: {review}"]


def mixed() -> list[Chat]:
    prose = Prose(5)
    log = [user(f"{RULES}\nMessage: {prose.sentence()}") for _ in range(140)]
    log += [user(f"Shorten the text for a busy reader.\nKeep names.\n\n<text>\n{prose.document(800)}\n</text>")
            for _ in range(90)]  # fmt: skip
    log += [user("ping")] * 20
    log += [chat("Be brief.", prose.sentence()) for _ in range(10)]
    prose.draw.shuffle(log)
    return log


def test_of_several_prompts_the_commonest_is_taken_and_the_others_are_counted() -> None:
    result = found(mixed())
    assert texts(result) == [RULES + "\nMessage: {message}"]
    assert (result.read, result.other_prompt, result.other_roles) == (140, 110, 10)


def test_prompts_that_share_a_system_message() -> None:
    prose, system = Prose(6), "You are a helpful assistant."
    log = [
        chat(system, f"Which team handles this mail? Say sales or other.\nMail: {prose.sentence()}") for _ in range(70)
    ]
    log += [
        chat(system, f"Translate the following into French, keep the tone.\nText: {prose.sentence()}")
        for _ in range(65)
    ]
    log += [
        chat(system, f"Give three keywords for this article, comma-separated.\n\n{prose.document(500)}")
        for _ in range(65)
    ]
    prose.draw.shuffle(log)
    result = found(log)
    assert texts(result) == [system, "Which team handles this mail? Say sales or other.\nMail: {mail}"]
    assert (result.read, result.other_prompt) == (70, 130)


def test_prompts_that_begin_and_end_with_an_input() -> None:
    prose = Prose(16)
    one = "Above is a mail of a customer. Say which team should handle it."
    two = "Translate what stands above into French, and keep the tone that is asked for."
    log = [user(f"{prose.sentence()}\n\n{one if n % 5 < 3 else two}\nFrom: {prose.sentence(2)}") for n in range(200)]
    result = found(log)
    assert texts(result) == ["{text}\n\n" + one + "\nFrom: {from}"]
    assert (result.read, result.other_prompt) == (120, 80)


def test_prompts_that_differ_in_their_last_line() -> None:
    prose = Prose(7)
    log = [user(f"{RULES}\nMail: {prose.sentence()}\n{'Team:' if n % 5 < 3 else 'Urgency (1-5):'}") for n in range(200)]
    result = found(log)
    assert texts(result) == [RULES + "\nMail: {mail}\nTeam:"]
    assert (result.read, result.other_prompt) == (120, 80)


@pytest.mark.parametrize("odd", ["Mail: no end", "Mail: x\nTeams:", "No beginning\nTeam:", "Letter: x\nTeam:"])
def test_a_few_odd_requests_do_not_change_the_prompt(odd: str) -> None:
    prose = Prose(14)
    log = [user(f"Mail: {prose.sentence()}\nTeam:") for _ in range(98)] + [user(odd)] * 2
    for seed in range(5):
        prose.draw.shuffle(log)
        assert texts(infer(log, seed)) == ["Mail: {mail}\nTeam:"]
    assert found(log).other_prompt == 2


def test_a_value_that_nearly_all_requests_share_is_still_a_value() -> None:
    prose = Prose(15)
    log = [user(f"Sort.\nLanguage: {'Hindi' if n % 33 == 5 else 'English'}\nMail: {prose.sentence()}\nTeam:")
           for n in range(200)]  # fmt: skip
    assert texts(found(log)) == ["Sort.\nLanguage: {language}\nMail: {mail}\nTeam:"]


def test_an_older_wording_is_another_prompt() -> None:
    prose, older = Prose(8), RULES.replace("unsure", "not sure")
    log = [user(f"{older if n % 20 == 0 else RULES}\nMail: {prose.sentence()}\nTeam:") for n in range(300)]
    result = found(log)
    assert texts(result) == [RULES + "\nMail: {mail}\nTeam:"]
    assert (result.read, result.other_prompt) == (285, 15)


def test_a_request_whose_input_holds_the_text_between_slots_is_ambiguous() -> None:
    prose = Prose(9)
    log = [user(f"Title: {prose.sentence(3)}\nBody: {prose.sentence()}\nTopic:") for _ in range(180)]
    log += [user(f"Title: {prose.sentence(3)}\nBody: x\nBody: {prose.sentence()}\nTopic:") for _ in range(20)]
    result = found(log)
    assert texts(result) == ["Title: {title}\nBody: {body}\nTopic:"]
    assert (result.read, result.ambiguous) == (180, 20)
    assert result.merged == {}


def test_a_label_that_most_inputs_hold_parts_nothing() -> None:
    prose = Prose(10)
    log = [user(f"Title: {prose.sentence(3)}\nBody: {prose.sentence(5)}\nTopic:") for _ in range(40)]
    for _ in range(200):
        log.append(user(f"Title: {prose.sentence(3)}\nBody: {prose.sentence(2)}\nBody: {prose.sentence()}\nTopic:"))
    result = found(log)
    assert texts(result) == ["Title: {title}\nTopic:"]
    assert [count >= 190 for count in result.merged.values()] == [True]
    assert "Body:" in next(iter(result.merged))


def test_slots_with_nothing_between_them_are_one() -> None:
    prose = Prose(11)
    result = found([user(f"Sort: {prose.sentence(3)} {prose.sentence(4)}") for _ in range(200)])
    assert texts(result) == ["Sort: {sort}"]


def test_inputs_that_copy_the_whole_prompt_do_not_move_it() -> None:
    prose = Prose(12)
    copy = RULES + "\nTitle: a\nMail: b\nTeam:"
    log = [user(f"{RULES}\nTitle: {prose.sentence(3)}\nMail: {prose.sentence()}\nTeam:") for _ in range(190)]
    log += [user(f"{RULES}\nTitle: {prose.sentence(3)}\nMail: {copy}\nTeam:") for _ in range(10)]
    result = found(log)
    assert texts(result) == [RULES + "\nTitle: {title}\nMail: {mail}\nTeam:"]
    assert result.ambiguous == 10


def test_values_are_counted() -> None:
    result = found([user(f"Language: {'en' if n % 2 else 'hi'}\nNumber: {n}.") for n in range(60)])
    assert texts(result) == ["Language: {language}\nNumber: {number}."]
    assert result.values == {"language": 2, "number": 60}


@pytest.mark.parametrize("log", [[user("a")], [user("a")] * 5, []])
def test_requests_that_are_all_the_same_tell_nothing(log: list[Chat]) -> None:
    with pytest.raises(DataError, match="all the same") as caught:
        infer(log)
    assert caught.value.remedy


def test_ten_thousand_long_requests() -> None:
    prose = Prose(13)
    log = [user(f"{RULES}\n<document>\n{prose.document(3600)}\n</document>\nAnswer:") for _ in range(6000)]
    log += [
        user(f"Shorten the text for a busy reader.\n\n<text>\n{prose.document(3600)}\n</text>") for _ in range(4000)
    ]
    result = infer(log)
    assert (result.read, result.other_prompt) == (6000, 4000)
