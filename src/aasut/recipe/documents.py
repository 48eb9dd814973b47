"""The recipe's sections about files of text, and how they are read."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from aasut.recipe.section import Positive, Section, Share

Format = Literal[
    "auto", "pdf", "docx", "pptx", "xlsx", "html", "markdown", "docbook", "csv", "tsv", "json", "jsonl", "text"
]


def checked_pattern(value: str | None, groups: int) -> str | None:
    if value is None:
        return None
    try:
        found = re.compile(value)
    except re.error as error:
        raise ValueError(f"is no regular expression: {error}") from None
    if found.groups < groups:
        raise ValueError("needs a group in round brackets")
    return value


class Records(Section):
    """What in a file is a document of its own. Rows of CSV, TSV and JSONL files are records in any case."""

    pattern: str | None = None
    """For text: a regular expression with named groups, matched anywhere in a file; each match is a record, its groups
    are the fields."""
    fields: list[str] = Field(default_factory=list)
    """Fields that make the text, in this order: columns, named groups or keys of a JSON object, with dots to go deeper;
    all of them where none is named."""
    title: str | None = None
    """Field that is the record's heading, and its name in the document's id where `id` is not given."""
    id: str | None = None
    """Field that names the record in the document's id; it stands in the text only if `fields` has it."""

    @field_validator("pattern")
    @classmethod
    def _has_groups(cls, value: str | None) -> str | None:
        if value is not None and checked_pattern(value, 1) and not re.compile(value).groupindex:
            raise ValueError("needs named groups, such as (?P<code>...)")
        return value


class Documents(Section):
    """Files to read."""

    source: str = Field(min_length=1)
    """A file, or a folder with all that lies below, relative to the recipe; `pypi:NAME==VERSION` for the files of a
    wheel, or of a source distribution where there is none; `pypi-sdist:NAME==VERSION#MEMBER[!MEMBER...]` for one file
    (`!` goes into an archive); `deb:NAME=VERSION` for the files of a Debian package."""
    sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")
    """SHA-256 of the package's file; required for packages."""
    include: list[str] = Field(default_factory=lambda: ["**"])
    """Patterns of the paths that are read: `*` stands for anything but `/`, `**` for anything."""
    exclude: list[str] = Field(default_factory=list)
    """Patterns of paths that are left out of these."""
    format: Format = "auto"
    """Format of the files; `auto` goes by each one's content and ending."""
    encoding: str = "auto"
    """Encoding of text files; `auto` takes a byte order mark, else UTF-8 where it fits, else guesses."""
    records: Records | None = None
    """What in a file is a document of its own."""
    group: str | None = None
    """Regular expression over a document's id; its first group names what is never parted. A file's records are parted,
    and files too, where it is not given."""
    language: str | None = Field(default=None, pattern=r"^[a-z]{2}$")
    """Language of the documents, ISO 639-1; told by their text where it is not given."""
    licence: str = "unknown"
    """Licence of the documents: what is made of them carries it."""

    @field_validator("group")
    @classmethod
    def _has_a_group(cls, value: str | None) -> str | None:
        return checked_pattern(value, 1)

    @model_validator(mode="after")
    def _packages_are_pinned(self) -> Documents:
        if self.packaged and self.sha256 is None:
            raise ValueError(f"{self.source} has no sha256: pin the package's file")
        if not self.packaged and self.sha256 is not None:
            raise ValueError("sha256 is for packages: a folder may change")
        return self

    @property
    def packaged(self) -> bool:
        """Do the files come from a package?"""
        return self.source.startswith(("pypi:", "pypi-sdist:", "deb:"))


class Reading(Section):
    """How files are read."""

    processes: Annotated[int, Field(ge=0)] = 0
    """Processes that read at the same time; 0: one a processor."""
    timeout_s: float = Field(default=120.0, gt=0)
    """Seconds that a file may keep its reader without giving anything."""
    memory_mb: Positive = 2048
    """Memory that a reader may have, in megabytes."""
    unpacked_mb: Positive = 512
    """Megabytes to which a packed document (DOCX, PPTX, XLSX, gzip) may unpack."""
    max_failed: Share = 0.2
    """Share of unreadable files from which the run stops."""
