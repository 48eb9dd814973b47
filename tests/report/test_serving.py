"""The page of what could serve a mixture's fields: every model, every set, and no other model's figures."""

from __future__ import annotations

from pathlib import Path

from drawn import words

from aasut.report import serving
from serving_facts import facts


def test_the_page_has_every_model_and_every_set(tmp_path: Path) -> None:
    found = facts()
    found["run"], found["verdict"]["sentences"] = "<b>works</b>", ["The <i>mixture</i> serves this best."]
    serving.write(found, tmp_path)
    page = (tmp_path / "serving.html").read_text()
    assert serving.html(found) == page
    for text in ("&lt;b&gt;works", "The &lt;i&gt;mixture", "374 M", "214 M", "748", "1,530", "0.900 ± 0.100", "91 %",
                 "1,234", "not trained", "openvino", "a processor"):  # fmt: skip
        assert text in page
    for name, head in serving.HEADS.items():
        assert (head in page) == (name in found["arms"])
    assert "<b>" not in page
    assert "<script" not in page
    assert "http" not in page.replace('http-equiv="Content-Security-Policy"', "").replace("http://www.w3.org", "")


def test_only_what_was_trained_has_a_place_in_the_pictures() -> None:
    drawn = words(str(serving.worth(facts())))
    assert [name for name in serving.SHORT.values() if name in drawn] == ["mixture", "students"]
    assert "pumps, mixture" in (page := serving.html(facts()))
    assert "pumps, dense" not in page


def test_a_page_of_another_model_is_forgotten(tmp_path: Path) -> None:
    serving.forget(tmp_path, "0a1b")  # there is none
    serving.write(facts(), tmp_path)
    serving.forget(tmp_path, "0a1b")
    assert (tmp_path / "serving.html").is_file()
    serving.forget(tmp_path, "0a1c")
    assert not (tmp_path / "serving.html").exists()
