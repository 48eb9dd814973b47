"""report.json holds the facts, report.html shows them: whole, escaped, self-contained, the same bytes each time."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from facts import facts
from proof_facts import OPTIONAL, refused, without

from aasut.errors import DataError, StoreError
from aasut.report import report

VOID = {"meta", "link", "br", "img", "input", "hr", "wbr"}


class Page(HTMLParser):
    """Reads a page, insists that every tag is closed in order, and keeps what tests ask for."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag
        self.text += " " if tag in ("dt", "dd", "th", "td", "b") else ""

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] != "style":
            self.text += data


@cache
def unchanged() -> str:
    """The page of the facts as they are, drawn once."""
    return report.html(facts())


def page(found: dict[str, Any]) -> Page:
    return Page(report.html(found))


def flat(text: str) -> str:
    return " ".join(text.split())


def test_json_holds_exactly_the_facts_in_the_fixed_order(tmp_path: Path) -> None:
    found = facts()
    shuffled = dict(sorted(found.items()))
    report.write(shuffled, tmp_path)
    read = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert read == found
    assert tuple(read) == (*report.KEYS, *OPTIONAL)
    assert "मैंने" in (tmp_path / "report.json").read_text(encoding="utf-8")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["report.html", "report.json"]


def test_same_facts_same_bytes_in_another_process(tmp_path: Path) -> None:
    report.write(facts(), tmp_path / "here")
    (tmp_path / "matplotlibrc").write_text("lines.markersize: 20\nxtick.bottom: False\nsavefig.bbox: tight\n")
    code = "import pathlib, facts; from aasut.report import report; report.write(facts.facts(), pathlib.Path(%r))"
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    others = {"PYTHONHASHSEED": "77", "PYTHONPATH": path, "MATPLOTLIBRC": str(tmp_path)}
    subprocess.run(
        [sys.executable, "-c", code % str(tmp_path / "there")], check=True, env=os.environ | others, timeout=60
    )
    for name in ("report.html", "report.json"):
        assert (tmp_path / "here" / name).read_bytes() == (tmp_path / "there" / name).read_bytes()


def test_page_is_whole_and_needs_nothing_else() -> None:
    text = unchanged()
    found = Page(text)
    names = [tag for tag, _ in found.tags]
    assert names.count("svg") == 13
    assert not {"script", "link", "iframe", "object", "img"} & set(names)
    for tag, attributes in found.tags:
        for name, value in attributes.items():
            assert not name.startswith("on"), (tag, name)
            if name in ("src", "href", "xlink:href", "action"):
                assert (value or "").startswith("#"), (tag, name, value)
    assert "http:" not in text
    assert "https:" not in text
    assert not re.search(r"url\((?!#)|@import", text)
    ids = [a["id"] for _, a in found.tags if "id" in a]
    assert len(ids) == len(set(ids))
    assert "prefers-color-scheme: dark" in text
    assert "@media print" in text
    assert len(text) < 300_000


def test_verdict_then_results_then_the_rest() -> None:
    found = facts()
    text = flat(Page(unchanged()).text)
    order = [
        found["verdict"]["sentence"],
        found["recommendation"]["sentence"],
        found["certificate"]["sentence"],
        found["economics"]["return"]["sentence"],
        "On 946 human answers in 96 groups, with the file",
        "Parameters",
        "What a million requests cost",
        "Disagreements to read",
        found["learning_curve"]["sentence"],
        "Every row accounted for",
        "Teacher calls",
        "Lineage",
    ]
    places = [text.index(part) for part in [*order, "Licences"]]
    assert places == sorted(places)
    assert "Non-inferior" in text
    assert found["recommendation"]["sentence"] in text
    for item in found["economics"]["break_even"]:
        assert item["sentence"] in text
    assert "6 too long for the context" in text
    assert found["student"]["file_sha256"] in text
    assert all(item["what"] in text for item in found["licences"])
    assert "The test split was opened once" in text
    counts = found["data"]["answers"]["test"]
    assert f"Human answers, test {counts['negative']} negative, {counts['positive']} positive" in text
    assert "Made at the scale" not in text


def test_what_was_not_done_yet_is_told_with_how_to_do_it() -> None:
    text = page(without(facts())).text
    for command in ("aasut certify reviews", "aasut plan reviews"):
        assert command in text
    assert flat(text).count("No certificate yet") == 2
    assert "economics.usd_per_correct_answer" in text
    for absent in ("None", "By other measures", "Judged by a model", "Margin recorded", "Calibrate was opened"):
        assert absent not in text
    assert page(without(facts()) | dict.fromkeys(OPTIONAL)).text == text  # null says as little


def test_the_certificate_is_told_whole() -> None:
    found = facts()
    text = flat(Page(unchanged()).text)
    assert "For right answers, as people gave them; the requests that the student answers alone" in text
    assert "112 answers: 74 accepted, 0 of them wrong; p = 0.022" in text
    assert "Calibrate was opened once" in text
    assert all(value in text for value in found["certificate"]["hashes"].values())
    found["certificate"] = refused()
    text = flat(page(found).text)
    assert text.count("Certificate: agreement with the teacher") == 2
    assert "agreement with the teacher, whether it is right or not" in text
    assert "More human answers about 260 in calibrate" in text
    assert "Calibrate was opened 2 times" in text


def test_measures_judges_and_the_margin_are_told() -> None:
    text = flat(Page(unchanged()).text)
    assert "Margin recorded 3.0 points at 95 %, on 2025-11-29 07:06 UTC" in text
    assert "Macro-F1 BCa bootstrap of 96 groups" in text.replace("Macro-F1BCa", "Macro-F1 BCa")
    assert "the student in 21.0 %, the teacher in 24.0 %, neither in 55.0 % of 400 pairs" in text
    assert "90.8 % (87.1 to 94.1) corrected for these errors" in text
    assert "The judge is of the teacher's model family: it may favour the teacher." in text
    found = facts()
    found["judged"]["correctness"]["corrected"] = None
    assert "corrected for these errors" not in flat(page(found).text)
    found["judged"] |= {"preference": None, "ppi": None, "warnings": []}
    left = flat(page(found).text)
    assert "Judged right" in left
    assert "Preferred" not in left


def test_numbers_of_every_model_are_there() -> None:
    found = facts()
    text = flat(Page(unchanged()).text).replace("\N{NO-BREAK SPACE}", " ")
    for result in (found["teacher"], found["student"], *found["baselines"].values()):
        low, high = result["ci95"]
        assert f"{result['accuracy'] * 100:.1f} %" in text
        assert f"{low * 100:.1f} to {high * 100:.1f}" in text
        assert result["name"] in text


def test_all_disagreements_are_listed() -> None:
    found = facts()
    assert len(found["disagreements"]) == 20
    text = flat(Page(unchanged()).text)
    for item in found["disagreements"]:
        assert item["id"] in text
        assert flat(item["text"]) in text


def test_the_linear_model_comes_first_where_it_is_enough() -> None:
    found = facts()
    found["against_linear"]["better"] = False
    found["recommendation"] = {"use": "linear", "sentence": "The linear model is as good; use it."}
    text = flat(page(found).text)
    assert text.count("The linear model is as good; use it.") == 1
    assert text.index("The linear model is as good; use it.") < text.index(found["verdict"]["sentence"])
    assert 'id="recommendation"' not in unchanged()


def test_another_form_of_the_student_has_its_own_verdict() -> None:
    found = facts()
    found["baselines"]["student_q8_0"] = found["student"] | {"verdict": {"sentence": "Smaller, and still good."}}
    assert "Student Q8_0 Smaller, and still good." in flat(page(found).text)


def test_undecided_says_what_would_help_and_small_scale_is_flagged() -> None:
    found = facts()
    found["verdict"] |= {"result": "undecided", "more_examples_needed": 1234}
    found["scale"] = "ci"
    text = flat(page(found).text)
    assert "about 1,234 would decide it" in text
    assert "Made at the scale “ci”" in text
    found["verdict"]["more_examples_needed"] = None
    assert "cannot be promised to help" in flat(page(found).text)


def test_hostile_text_stays_text() -> None:
    evil = "</pre></svg><script>alert(1)</script><img src=x onerror=alert(2)>\"'{{ 7*7 }}"
    found = facts()
    found["disagreements"][0]["text"] = evil
    found["disagreements"][0]["id"] = evil
    found["task"]["prompt"] = found["student"]["student_prompt"] = found["name"] = evil
    found["task"]["answers"] = [evil, "ok"]
    found["economics"]["break_even"][0]["against"] = evil
    found["teacher"]["name"] = found["licences"][0]["note"] = evil
    found["conservation"][evil] = {"in": 1, "kept": 0, "dropped": {evil: 1}, "failed": {}}
    read = page(found)
    assert not {"script", "img"} & {tag for tag, _ in read.tags}
    assert read.text.count("<script>alert(1)</script>") >= 8
    assert "{{ 7*7 }}" in read.text


def test_many_answers_list_the_commonest_mistakes() -> None:
    found = facts()
    assert report.mistakes(found) == []
    found["task"]["answers"] = ["a", "b", "c"]
    found["student"]["confusion"] = [[8, 2, 0], [1, 5, 4], [0, 0, 9]]
    found["teacher"]["confusion"] = [[9, 1, 0], [0, 9, 1], [0, 0, 9]]
    assert [(m["human"], m["student"], m["n"]) for m in report.mistakes(found)] == [
        ("b", "c", 4),
        ("a", "b", 2),
        ("b", "a", 1),
    ]
    assert report.mistakes(found)[0]["share"] == 0.4
    assert "Share of the human answer" in page(found).text


def test_a_linear_student_and_an_api_teacher_leave_gaps_that_show_as_gaps() -> None:
    found = facts()
    found["against_linear"] = None
    found["training"] = {"seconds": 3.2}
    found["teacher"] |= {"reliability": None, "calibration_error": None, "parameters_total": None, "confusion": []}
    found["teacher"] |= {"requests_per_s": None, "usd_per_million_requests": None}
    found["economics"] |= {"cheaper_than_teacher": None, "cheaper_than_teacher_no_prefix_cache": None, "break_even": []}
    found["disagreements"][0]["teacher_confidence"] = None
    found["task"]["prompt"] = [{"role": "system", "content": "Judge."}, {"role": "user", "content": "Review: {text}"}]
    text = flat(page(found).text)
    assert "teacher’s number unknown" in text
    assert "system Judge. user Review: {text}" in text
    assert "None" not in text


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_number_that_is_none_is_refused_and_nothing_is_written(tmp_path: Path, value: float) -> None:
    found = facts()
    found["student"]["reliability"][1]["accuracy"] = value
    with pytest.raises(DataError, match=r"report\.student\.reliability\[1\]\.accuracy"):
        report.write(found, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_key_is_named(tmp_path: Path) -> None:
    found = facts()
    del found["verdict"]
    with pytest.raises(DataError, match="verdict"):
        report.write(found, tmp_path)


def test_a_folder_that_cannot_be_written_is_one_clear_line(tmp_path: Path) -> None:
    report.write(facts(), tmp_path)
    before = (tmp_path / "report.json").read_bytes()
    (tmp_path / "report.html.partial").symlink_to("/dev/full")
    found = facts()
    found["name"] = "another"
    with pytest.raises(StoreError, match="No space left"):
        report.write(found, tmp_path)
    assert (tmp_path / "report.json").read_bytes() == before


@pytest.mark.parametrize(
    ("seconds", "text"), [(1.84, "1.8 s"), (41.9, "42 s"), (214.3, "3 min 34 s"), (7322, "2 h 2 min")]
)
def test_duration(seconds: float, text: str) -> None:
    assert report.duration(seconds) == text
