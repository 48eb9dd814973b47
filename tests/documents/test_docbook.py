"""DocBook: headings, lists, tables, code and entities; nothing outside the file is loaded."""

from __future__ import annotations

from pathlib import Path

from read_blocks import HINDI, fault, levels, texts, written

from aasut.documents.block import Block

BOOK = f"""<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE book SYSTEM "outside.dtd" [<!ENTITY own "the own entity">]>
<book lang="hi"><bookinfo><title>पुस्तिका &version;</title><author><surname>Nobody</surname></author></bookinfo>
<chapter><title>Accounts</title>
<para>Use  &app; and &own;;&nbsp;press <guimenu>File</guimenu>,
  type <command>ls</command> or <emphasis>wait</emphasis><footnote><para>a note</para></footnote>.</para>
<sect1><title>{HINDI}</title>
<itemizedlist><title>Kinds</title><listitem><para>one</para><para>more of one</para>
<orderedlist><listitem><para>inner</para></listitem><listitem><para>second</para></listitem></orderedlist></listitem>
<listitem><para>two</para></listitem></itemizedlist>
<variablelist><varlistentry><term>Asset</term><listitem><para>What you own.</para></listitem></varlistentry>
</variablelist>
<table><title>Rates</title><tgroup cols="2"><thead><row><entry>Kind</entry><entry>Rate</entry></row></thead>
<tbody><row><entry><para>Plain</para></entry><entry>4|5</entry></row><row><entry>ब्याज</entry><entry>6</entry></row></tbody>
</tgroup></table>
<programlisting>if x:
    <emphasis>y</emphasis> = 1
</programlisting>
<note><para>Mind this.</para></note><para>After.</para>
<indexterm><primary>hidden</primary></indexterm>
<figure><title>A figure</title><mediaobject><imageobject><imagedata fileref="http://127.0.0.1:9/x.png"/></imageobject>
<caption><para>Its caption.</para></caption></mediaobject></figure>
</sect1></chapter></book>"""


def test_docbook(tmp_path: Path) -> None:
    assert written(tmp_path / "index.docbook", BOOK) == [
        Block("पुस्तिका version", 1),
        Block("Accounts", 2),
        Block("Use app and the own entity; press File, type `ls` or *wait* (a note)."),
        Block(HINDI, 3),
        Block("**Kinds**\n- one\n  more of one\n  1. inner\n  2. second\n- two"),
        Block("- Asset\n  What you own."),
        Block("**Rates**"),
        Block("| Kind | Rate |\n| --- | --- |\n| Plain | 4\\|5 |\n| ब्याज | 6 |"),
        Block("```\nif x:\n    y = 1\n```"),
        Block("**Note:** Mind this."),
        Block("After."),
        Block("**A figure**"),
        Block("Its caption."),
    ]


def test_docbook_5_has_namespaces(tmp_path: Path) -> None:
    page = (
        '<d:article xmlns:d="http://docbook.org/ns/docbook" version="5.0"><d:info><d:title>T</d:title></d:info>'
        "<d:section><d:title>S</d:title><d:para>words</d:para></d:section></d:article>"
    )
    found = written(tmp_path / "a.xml", page)
    assert levels(found) == [(1, "T"), (2, "S")]
    assert texts(found)[-1] == "words"


def test_a_glossary(tmp_path: Path) -> None:
    page = (
        "<glossary><title>G</title><glossentry><glossterm>Asset</glossterm><glossdef><para>Owned.</para></glossdef>"
        "</glossentry></glossary>"
    )
    assert texts(written(tmp_path / "g.xml", page)) == ["G", "**Asset**", "Owned."]


def test_sections_end(tmp_path: Path) -> None:
    inner = "<sect2><title>inner</title></sect2>"
    page = f"<book><title>b</title><sect1><title>one</title>{inner}</sect1><sect1><title>two</title></sect1></book>"
    assert levels(written(tmp_path / "a.xml", page)) == [(1, "b"), (2, "one"), (3, "inner"), (2, "two")]


def test_deep_sections_end_at_level_six(tmp_path: Path) -> None:
    page = "<article>" + "<section><title>s</title>" * 9 + "</section>" * 9 + "</article>"
    assert [level for level, _ in levels(written(tmp_path / "a.xml", page))] == [2, 3, 4, 5, 6, 6, 6, 6, 6]


def test_a_long_list_comes_in_several_blocks(tmp_path: Path) -> None:
    items = "".join(f"<listitem><para>item {i} {'word ' * 20}</para></listitem>" for i in range(500))
    found = written(tmp_path / "a.xml", f"<article><orderedlist>{items}</orderedlist></article>")
    assert len(found) > 3
    assert max(map(len, texts(found))) < 9000
    assert "\n".join(texts(found)).count("item ") == 500
    assert texts(found)[-1].split("\n")[-1].startswith("500. item 499")


def test_what_does_not_parse(tmp_path: Path) -> None:
    assert fault(tmp_path / "a.xml", "<article><para>x</article>").reason == "XML that cannot be parsed"
    assert fault(tmp_path / "b.docbook", "no markup", format="docbook").reason == "XML that cannot be parsed"


def test_a_declared_encoding(tmp_path: Path) -> None:
    page = "<article><para>Gebühr</para></article>".encode("latin-1")
    assert texts(written(tmp_path / "a.xml", page, encoding="iso-8859-1")) == ["Gebühr"]
    assert fault(tmp_path / "a.xml").reason == "XML that cannot be parsed"
