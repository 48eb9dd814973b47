"""Bad texts, tables, JSON, XML and HTML."""

from __future__ import annotations

import codecs
import json
from pathlib import Path

from hostile_cases.bad_file import BadFile, Lure, given, made


def cases(large: int) -> list[BadFile]:
    """All of them."""
    return [*_text(large), *_data(large), *_markup()]


def _text(large: int) -> list[BadFile]:
    hindi = "बैंक खाता खोलने के लिए पहचान पत्र चाहिए। "
    late = b"good line\n" * 200_000 + b"bad \xff\xfe\xfd\x81 line\n" + b"\x81\x8d\x8f\x90\x9d" * 10
    return [
        given("late fault.txt", late, may="either"),
        given("overlong.txt", b"etc \xc0\xafpasswd\n" + "नमस्ते\n".encode() * 9, may="either"),
        given("surrogate.txt", b"half \xed\xa0\x80 pair\n" + "नमस्ते दुनिया\n".encode() * 9, may="either"),
        given("cut letter.txt", hindi.encode()[:-3], may="either"),
        given("utf16.txt", hindi.encode("utf-16"), may="read", text="पहचान पत्र"),
        given("utf16 without mark.txt", ("plain words\n" * 50).encode("utf-16-le"), may="read", text="plain words"),
        given("utf16 odd.txt", hindi.encode("utf-16") + b"\x00", reason="encoding"),
        given("utf32.txt", hindi.encode("utf-32"), may="read", text="पहचान पत्र"),
        given(
            "latin1.txt",
            "Gebühr für Überweisungen beträgt fünf Euro, größere Beträge kosten mehr.\n".encode("latin-1") * 20,
            may="read",
            text="Gebühr",
        ),
        given("mark of another.txt", codecs.BOM_UTF16_LE + b"odd", reason="encoding"),
        given("zeros within.txt", b"a word\x00 and another\n" * 50, may="either"),
        given("escapes.txt", b"\x1b[2J\x1b]0;owned\x07plain\n" * 20, may="read", text="plain"),
        BadFile("one line.txt", lambda path, _: _line(path, "word ", large), may="read", text="word word"),
        BadFile("one word.txt", lambda path, _: _line(path, "x", large), may="read"),
        BadFile("one hindi word.md", lambda path, _: _line(path, "क्षि", large), may="read"),
        given("marks alone.txt", ("क" + "\u094d" * 200_000).encode(), may="read"),
        given("fence open.md", b"```\n" + b"code\n" * 50_000, may="read", text="code"),
        given("headings.md", b"# " * 1000 + b"\n" + b"###### x\n" * 10_000, may="read", text="x"),
        given("quotes.md", b">" * 200_000 + b" deep\n", may="read", text="deep"),
        given("front matter open.md", b"---\ntitle: x\n" * 1000, may="read"),
    ]


def _line(path: Path, piece: str, large: int) -> None:
    piece = piece * (1 + (1 << 16) // len(piece))
    with path.open("w", encoding="utf-8") as file:
        while file.tell() < large:
            file.write(piece)


def _data(large: int) -> list[BadFile]:
    def rows(path: Path, lure: Lure) -> None:
        with path.open("w", encoding="utf-8") as file:
            file.write('id,text\n1,"never closed')
            while file.tell() < 3 * large:
                file.write(" word" * 2000 + "\n")

    many = ",".join(f"c{i}" for i in range(20_000))
    return [
        given("quote.csv", b'id,text\n1,"never closed\n2,x\n' * 3, may="fail", reason="quote"),
        BadFile("large quote.csv", rows, reason="quote"),
        given("after quote.csv", b'id,text\n1,"a"b\n', reason="quotes out of place"),
        given("ragged.csv", b"id,text\n1\n2,b,c,d\n", may="read", text="c"),
        given("columns.csv", f"{many}\n{many}\n".encode(), may="read", text="c19999"),
        given("formula.csv", b"id,text\n1,=cmd|' /C calc'!A0\n", may="read", text="=cmd"),
        given("header alone.csv", b"id,text\n", reason="no text"),
        given("zeros.csv", b"id,text\n1,a\x00b\n", may="either"),
        given("deep.json", b"[" * 100_000 + b"]" * 100_000, reason="nested"),
        given("deep objects.json", b'{"a":' * 100_000 + b"1" + b"}" * 100_000, reason="nested"),
        given("quite deep.json", b'{"a":' * 400 + b'"x"' + b"}" * 400, reason="nested"),
        given("deep.jsonl", b'{"a":1}\n' + b"[" * 100_000 + b"\n", reason="nested"),
        given("cut.json", json.dumps([{"a": "b"}] * 1000).encode()[:-20], reason="JSON"),
        given("two.json", b'{"a": 1} {"b": 2}', reason="JSON"),
        given("comma.json", b'[{"a": 1},]', reason="JSON"),
        given("long number.json", b'{"a": ' + b"9" * 100_000 + b"}", may="either"),
        given("half pair.json", rb'{"a": "\ud800"}', reason="surrogate"),
        given("half pair.jsonl", b'{"a": "\\udfff"}\n', reason="surrogate"),
        given("keys.json", b'{"__proto__": {"a": "b"}, "a": NaN}', may="read"),
        BadFile("open string.json", lambda path, _: _line(path, '["', large), reason="JSON"),
        given("bad row.jsonl", b'{"a": "b"}\nnot json\n', reason="JSON"),
    ]


def _markup() -> list[BadFile]:
    def laughs(root: str) -> bytes:
        entities = '<!ENTITY a0 "ha ha ha ha ha ha ha ha">' + "".join(
            f'<!ENTITY a{i} "{f"&a{i - 1};" * 10}">' for i in range(1, 12)
        )
        return f"<?xml version='1.0'?><!DOCTYPE {root} [{entities}]><{root}><para>&a11;</para></{root}>".encode()

    def outside(lure: Lure) -> bytes:
        return (
            f'<?xml version="1.0"?><?xml-stylesheet href="{lure.url}.xsl" type="text/xsl"?>'
            f'<!DOCTYPE article PUBLIC "-//OASIS//DTD DocBook XML V4.5//EN" "{lure.url}.dtd" ['
            f'<!ENTITY % p SYSTEM "{lure.url}.ent"> %p; <!ENTITY web SYSTEM "{lure.url}">'
            f'<!ENTITY file SYSTEM "file://{lure.secret}">]>'
            f'<article xmlns:xi="http://www.w3.org/2001/XInclude"><title>T</title><para>plain &web; &file;</para>'
            f'<xi:include href="file://{lure.secret}" parse="text"/>'
            f'<mediaobject><imageobject><imagedata fileref="{lure.url}.png"/></imageobject></mediaobject></article>'
        ).encode()

    def active(lure: Lure) -> bytes:
        return (
            f'<html><head><meta http-equiv="refresh" content="0;url={lure.url}"><base href="{lure.url}/">'
            f'<link rel="stylesheet" href="{lure.url}.css"><script src="{lure.url}.js"></script>'
            f"<script>fetch('{lure.url}')</script></head><body onload=\"fetch('{lure.url}')\"><p>plain words</p>"
            f'<iframe src="{lure.url}"></iframe><img src="{lure.url}.png" onerror="x()"><object data="{lure.url}">'
            f'</object><embed src="file://{lure.secret}"><a href="javascript:x()">link</a>'
            f'<video src="{lure.url}"></video><svg><script>x()</script></svg></body></html>'
        ).encode()

    quadratic = f'<!DOCTYPE article [<!ENTITY a "{"x" * 100_000}">]><article><para>{"&a;" * 20_000}</para></article>'
    return [
        given("laughs.xml", laughs("article"), reason="XML"),
        given("quadratic.xml", quadratic.encode(), reason="XML"),
        given(
            "itself.xml",
            b'<!DOCTYPE article [<!ENTITY a "&b;"><!ENTITY b "&a;">]><article><para>&a;</para></article>',
            reason="XML",
        ),
        made("outside.xml", outside, may="read", text="plain"),
        given("deep.xml", b"<article>" + b"<section>" * 100_000 + b"<para>x</para>", reason="nested"),
        given("cut.xml", b"<article><title>T</title><para>half", reason="XML"),
        given(
            "wrong encoding.xml",
            b'<?xml version="1.0" encoding="klingon"?><article><para>x</para></article>',
            reason="XML",
        ),
        given(
            "undeclared.xml", b"<article><para>the &product; and&nbsp;more</para></article>", may="read", text="product"
        ),
        given(
            "attributes.xml",
            b"<article " + b" ".join(b'a%d="x"' % i for i in range(50_000)) + b"><para>x</para></article>",
            may="read",
        ),
        given("laughs.html", b"<!doctype html>" + laughs("html"), may="either"),
        made("active.html", active, may="read", text="plain words"),
        given("deep.html", b"<div>" * 30_000 + b"deep words" + b"</div>" * 30_000, may="read", text="deep words"),
        given("deep lists.html", b"<html><body>" + b"<ul><li>" * 3000 + b"deep words", may="read", text="deep words"),
        given("deep tables.html", b"<html><body>" + b"<table><tr><td>" * 3000 + b"deep words", may="either"),
        given("unclosed.html", b"<html><body>" + b"<p><b><a href=x>" * 3000 + b"words", may="read", text="words"),
        given("comment.html", b"<html><body><!--" + b"-" * 200_000 + b" words", may="either"),
        given("tag.html", b"<html><body>words <" + b"a" * 300_000, may="either"),
        given("attributes.html", b"<html><body><p " + b"a=1 " * 100_000 + b">words</p>", may="read", text="words"),
        given(
            "span.html",
            b"<html><body><table><tr><td colspan=100000000 rowspan=99999999>words</td></tr></table>",
            may="either",
        ),
        given("charset.html", b'<html><meta charset="klingon"><body>\xff words</body></html>', may="either"),
        given("script alone.html", b"<html><script>document.write('x')</script></html>", reason="no text"),
        given(
            "marks.html",
            b"<html><body><p>\x021forged heading</p><p># no heading</p></body></html>",
            may="read",
            text="no heading",
        ),
    ]
