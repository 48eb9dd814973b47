"""HTML: headings, tables and code; not what leads about, runs or lies elsewhere."""

from __future__ import annotations

from pathlib import Path

import pytest
from read_blocks import HINDI, fault, levels, texts, written

from aasut.documents.block import Block

PAGE = f"""<!DOCTYPE html><html lang="hi"><head><title>मैक्रो  सुरक्षा</title><style>p {{}}</style>
<script>var hidden = 1;</script></head><body>
<header><p>site name</p></header><nav><a href="/">Home</a></nav><div role="navigation">crumbs</div>
<div class="navheader"><table><tr><td>Prev</td><td>Next</td></tr></table></div><div class="list toc">1. Steps</div>
<main><header><h1>सुरक्षा</h1></header>
<p>{HINDI} See <a href="http://127.0.0.1:9/x">the <b>rules</b></a> in snake_case.</p>
<h3>Steps</h3><ol><li>one</li><li>two<ul><li>inner</li></ul></li></ol>
<pre><code># not a heading
x  =  1</code></pre>
<table><tr><th>Kind</th><th>Rate</th></tr><tr><td>Plain</td><td>4</td></tr></table>
<p># no heading</p><img src="http://127.0.0.1:9/p.png" alt="a picture"><script>alert(1)</script>
<iframe src="http://127.0.0.1:9/"></iframe></main><aside>advert</aside><footer>imprint</footer></body></html>"""


def test_a_page(tmp_path: Path) -> None:
    assert written(tmp_path / "a.html", PAGE) == [
        Block("मैक्रो सुरक्षा", 1),
        Block("सुरक्षा", 1),
        Block(f"{HINDI} See the **rules** in snake_case."),
        Block("Steps", 3),
        Block("1. one\n2. two\n   - inner"),
        Block("```\n# not a heading\nx  =  1\n```"),
        Block("| Kind | Rate |\n| --- | --- |\n| Plain | 4 |"),
        Block("# no heading"),
        Block("a picture"),
    ]


def test_a_title_that_the_first_heading_says_again_comes_once(tmp_path: Path) -> None:
    page = "<html><title>Rules</title><body><h2>Rules</h2><p>x</p></body></html>"
    assert levels(written(tmp_path / "a.html", page)) == [(2, "Rules")]


@pytest.mark.parametrize(
    ("data", "encoding"),
    [
        ("<html><p>गेहूँ größer</p></html>".encode(), "auto"),
        ("<html><p>गेहूँ größer</p></html>".encode("utf-16"), "auto"),
        ('<html><meta charset="iso-8859-1"><p>größer</p></html>'.encode("latin-1"), "auto"),
        ("<html><p>größer</p></html>".encode("latin-1"), "latin-1"),
    ],
)
def test_encodings(tmp_path: Path, data: bytes, encoding: str) -> None:
    assert texts(written(tmp_path / "a.html", data, encoding=encoding))[0].endswith("größer")


def test_a_declared_encoding_that_does_not_fit(tmp_path: Path) -> None:
    assert fault(tmp_path / "a.html", b"<html><p>\x81\x8d</p></html>", encoding="cp1252").reason == "not cp1252"
    assert (
        fault(tmp_path / "a.html", "<html><p>größer</p></html>".encode("latin-1"), encoding="utf-8").reason
        == "not utf-8"
    )


def test_too_deep_is_read_as_text(tmp_path: Path) -> None:
    found = written(tmp_path / "a.html", "<html><body>" + "<div>" * 5000 + "deep <b>words</b>" + "</div>" * 5000)
    assert " ".join(" ".join(texts(found)).split()) == "deep words"


def test_scripts_alone_are_no_text(tmp_path: Path) -> None:
    assert fault(tmp_path / "a.html", "<html><script>x()</script></html>").reason == "no text in it"
