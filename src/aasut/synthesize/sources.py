"""The text that items were made of, by their spans, taken from a stream of chunks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from aasut.synthesize.item import Item
from aasut.types import Chunk, Span
from aasut.words import Frequencies

FEWEST = 20  # chunks of a language that tell which words are common


@dataclass(frozen=True, slots=True)
class Source:
    """What an item's spans hold: their `text`, the whole `chunks` that they lie in, and the `headings` above them."""

    text: str
    chunks: tuple[str, ...]
    headings: tuple[str, ...]
    language: str

    @property
    def support(self) -> str:
        """What an answer may rest on."""
        return "\n".join((*self.headings, self.text))

    @property
    def passage(self) -> str:
        """The whole chunks under their headings, as a reader is shown them."""
        return "\n\n".join(part for part in (" › ".join(self.headings), *self.chunks) if part)


class Sources:
    """Chunks that items rest on, and how common each word is among all chunks of a language."""

    def __init__(self, chunks: Iterable[Chunk], items: Iterable[Item]) -> None:
        wanted = {span.document for item in items for span in item.spans}
        self._chunks: dict[str, list[Chunk]] = {}
        counts: dict[str, _Counts] = {}
        for chunk in chunks:
            counts.setdefault(chunk.language, _Counts()).add(chunk.text)
            if chunk.span.document in wanted:
                self._chunks.setdefault(chunk.span.document, []).append(chunk)
        for several in self._chunks.values():
            several.sort(key=lambda chunk: chunk.span.start)
        self._frequencies = {language: found.frequencies() for language, found in counts.items()}

    def of(self, item: Item) -> Source | None:
        """What the item rests on, None where a span of it lies in no chunk."""
        texts: list[str] = []
        chunks: list[str] = []
        headings: list[str] = []
        language = ""
        for span in item.spans:
            found = self._in(span)
            if not found:
                return None
            texts.append("".join(_stretch(chunk, span) for chunk in found))
            chunks += [chunk.text for chunk in found]
            headings += span.headings or found[0].span.headings
            language = language or found[0].language
        if not texts:
            return None
        return Source("\n".join(texts), tuple(dict.fromkeys(chunks)), tuple(dict.fromkeys(headings)), language)

    def common(self, word: str, language: str) -> bool:
        """Does a word stand in so many chunks of its language that it tells nothing of any?

        Of few chunks no word does: what they are about may stand in all of them.
        """
        found = self._frequencies.get(language)
        return found is not None and found.texts >= FEWEST and found.common(word)

    def _in(self, span: Span) -> Sequence[Chunk]:
        every = self._chunks.get(span.document, [])
        return [chunk for chunk in every if chunk.span.start < span.end and span.start < chunk.span.end]


class _Counts:
    """Word counts of texts as they come."""

    def __init__(self) -> None:
        self.texts, self.counts = 0, dict[str, int]()

    def add(self, text: str) -> None:
        one = Frequencies.of([text])
        self.texts += 1
        for word, number in one.counts.items():
            self.counts[word] = self.counts.get(word, 0) + number

    def frequencies(self) -> Frequencies:
        return Frequencies(self.texts, self.counts)


def _stretch(chunk: Chunk, span: Span) -> str:
    return chunk.text[max(span.start - chunk.span.start, 0) : span.end - chunk.span.start]
