from __future__ import annotations

import json

from aasut.comparison import both_orders
from aasut.teacher.scripted import ScriptedTeacher
from aasut.teacher.template import fill
from aasut.types import Message, Request

ASKED = 'Text: पंप चालीस लीटर पर अपने आप चालू होता है। "Stop" it.\nA line\n\nQuestions:'


def test_an_answer_without_fields_stays_as_it_is() -> None:
    for answer in ("plain {sentence 1}", '{"a": {"b": 1}}', "{{sentence}} {{word 0}} {{name 1}}"):
        assert fill(answer, ASKED) == answer


def test_fields_are_the_longest_sentences_and_words() -> None:
    assert fill("{{sentence 1}} / {{sentence 2}} / {{sentence 9}}.", ASKED) == (
        'Text: पंप चालीस लीटर पर अपने आप चालू होता है। / "Stop" it. / .'
    )
    assert fill("{{word 1}}, {{word 2}}", ASKED) == "Questions, चालीस"


def test_in_json_they_are_escaped() -> None:
    assert json.loads(fill('{"a": "{{sentence 2}}"}', ASKED)) == {"a": '"Stop" it.'}


def test_a_rule_may_take_words_of_the_question() -> None:
    teacher = ScriptedTeacher({"Questions": "It says: {{sentence 2}}", "": "{{word 1}}"})
    asked = [Request((Message("user", text),)) for text in (ASKED, "एक प्रश्न")]
    assert [completion.text for completion in teacher.complete(asked)] == ['It says: "Stop" it.', "प्रश्न"]


def test_a_rule_may_prefer_the_answer_that_has_its_words_more_often() -> None:
    rule = {"Which answer is better": "{{better at once}}", "": "no"}
    asked = both_orders("Be brief.", "At once!", "At once, at once.", "At once.")
    asked += both_orders("Be brief.", "At once!", "Never.", "Later.")
    said = [completion.text for completion in ScriptedTeacher(rule).complete(asked)]
    assert said == ["A", "B", "tie", "tie"]
    assert fill("{{better word}}", "no comparison") == "tie"
