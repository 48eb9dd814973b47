from __future__ import annotations

from aasut.synthesize.sources import Sources
from aasut.types import Span
from written import HINDI, MANUAL, asked, chunks, read


def test_a_span_is_found_in_its_document_whatever_chunks_it_crosses() -> None:
    manual, hindi = chunks("a.md", MANUAL), chunks("b.md", HINDI, "hi", ("पंप", "फ़्यूज़"))
    whole = "".join(MANUAL)
    start = whole.index("F12")
    crossing = Span("a.md", start, start + 60)
    items = [
        asked("1", "q", "a", manual[1]),
        asked("2", "q", "a", manual[0], spans=(crossing,)),
        read("3", "t", hindi[0], spans=(hindi[0].span, hindi[1].span)),
        asked("4", "q", "a", manual[0], spans=(Span("a.md", len(whole), len(whole) + 5),)),
        asked("5", "q", "a", manual[0], spans=(Span("gone.md", 0, 5),)),
        asked("6", "q", "a", manual[0], spans=()),
    ]
    sources = Sources(iter([*reversed(manual), *hindi]), items)
    one, two, three = (sources.of(item) for item in items[:3])
    assert one is not None
    assert two is not None
    assert three is not None
    assert (one.text, one.chunks, one.language) == (MANUAL[1], (MANUAL[1],), "en")
    assert one.passage == f"Care\n\n{MANUAL[1]}"
    assert two.text == whole[start : start + 60]
    assert two.chunks == MANUAL[:2]
    assert two.headings == ("Care",)  # those of the chunk, where the span names none
    assert three.text == "\n".join(HINDI)
    assert three.support.startswith("पंप\nफ़्यूज़\n")
    assert [sources.of(item) for item in items[3:]] == [None] * 3


def test_words_are_common_by_language() -> None:
    english = [chunk for i in range(20) for chunk in chunks(f"{i}.md", [f"the valve {i}a is {i}b"])]
    hindi = [chunk for i in range(20) for chunk in chunks(f"h{i}.md", [f"वाल्व {i}क है {i}ख"], "hi")]
    sources = Sources([*english, *hindi], [])
    assert sources.common("the", "en")
    assert sources.common("है", "hi")
    assert not sources.common("the", "hi")
    assert not sources.common("3a", "en")
    assert not sources.common("the", "mr")
    assert not Sources(english[:19], []).common("the", "en")
