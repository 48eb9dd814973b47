"""The page of a mixture: each model on each field's text, and what the experts are used for, by their names."""

from __future__ import annotations

from pathlib import Path

from drawn import words
from mixture_facts import facts

from aasut.report import mixture, router


def test_sentences_tell_what_it_is_and_how_it_is_used() -> None:
    assert mixture.sentences(facts()) == [
        "3 experts: pumps, ledger, chess. A token goes through 2 of them: 700 of 1,000 weights.",
        "An epoch of all had 1,500 tokens: 1,000 of pumps, 500 of ledger. Each text was learned from the distribution "
        "of its own field's student.",
        "chess came later: its expert alone was trained, on 300 tokens.",
        "Taken out again: cars.",
        "Loads deviate by 0.31 of their mean, on the mean over layers; 1 of 6 experts of all layers are dead.",
        "Of a field's tokens, so many go through its own expert: 100 % in pumps, 100 % in ledger, 80 % in chess; by "
        "chance it were 67 %.",
    ]


def test_means_are_over_layers() -> None:
    used = facts()["router"]
    used["groups"]["pumps"] = [[0.5, 0.1, 0.4], [0.1, 0.5, 0.4]]
    assert [round(value, 9) for value in mixture.means(used)["pumps"]] == [0.3, 0.3, 0.4]


def test_heat_maps_name_the_experts_and_the_fields() -> None:
    used = {"training": {"experts": facts()["router"]}}
    assert words(str(router.groups(used))) == [
        "pumps",
        "ledger",
        "chess",
        "expert",
        "pumps",
        "ledger",
        "chess",
        "general",
    ]
    assert str(router.groups(used)).count("var(--student)") == 12
    assert words(str(router.loads(used)))[:3] == ["pumps", "ledger", "chess"]


def test_the_page_has_it_all_and_runs_nothing(tmp_path: Path) -> None:
    mixture.write("<b>name</b>", facts(), tmp_path)
    page = (tmp_path / "mixture.html").read_text()
    assert mixture.html("<b>name</b>", facts()) == page
    for text in ("0.950 ± 0.100", "1.056 ± 0.020", "\N{EN DASH}", "3,456", "1,077", "60 %", "own student"):
        assert text in page
    for sentence in mixture.sentences(facts()):
        assert sentence.replace("'", "&#39;") in page
    for role in mixture.ROLES:
        assert f"pumps, {role}" in page
    assert "&lt;b&gt;name" in page
    assert "77 kept for &lt;validation&gt;" in page
    assert "<b>" not in page
    assert "<script" not in page
    assert "http" not in page.replace('http-equiv="Content-Security-Policy"', "").replace("http://www.w3.org", "")
