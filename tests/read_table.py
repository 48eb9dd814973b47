"""A table written to a file and read at once; and the real table of reviews."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from aasut.errors import AasutError
from aasut.progress import Progress
from aasut.prompts import PromptTemplate
from aasut.recipe import Table
from aasut.sources import tables
from aasut.sources.collect import TableRows
from aasut.tasks import Classify, Task

SENTIMENT = Classify(("negative", "positive"), PromptTemplate.of("{text}"))
REVIEWS: dict[str, Any] = {
    "source": "pypi-sdist:vaderSentiment==3.3.2#vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz"
    "!hutto_ICWSM_2014/amazonReviewSnippets_GroundTruth.txt",
    "sha256": "5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9",
    "format": "tsv",
    "encoding": "latin-1",
    "columns": ["id", "mean", "text"],
    "slots": {"text": "text"},
    "id": "id",
    "group": {"column": "id", "pattern": r"(\d+)_"},
    "label": {
        "column": "mean",
        "ranges": [{"label": "negative", "at_most": -0.5}, {"label": "positive", "at_least": 0.5}],
    },
}


def read(
    folder: Path, source: str, data: bytes | str | None = None, *, task: Task = SENTIMENT, **fields: Any
) -> TableRows:
    """The rows of `source`, which has these data if any are given, as a table of the pool with the slot `text`.

    The other fields are the table's.
    """
    if data is not None:
        (folder / source).write_bytes(data.encode() if isinstance(data, str) else data)
    table = Table.model_validate({"source": source, "slots": {"text": "text"}, "role": "pool"} | fields)
    result = tables.read(table, task=task, base=folder, progress=Progress(quiet=True), cache=folder / "cache")
    assert result.rows_in == len(result.examples) + sum(result.failed.values())
    return result


def texts(rows: TableRows) -> list[str]:
    return [example.slots["text"] for example in rows.examples]


def fails(folder: Path, kind: type[AasutError], match: str, *args: Any, **fields: Any) -> None:
    """Reading such a table ends with one clear line and its remedy."""
    with pytest.raises(kind, match=match) as caught:
        read(folder, *args, **fields)
    assert caught.value.remedy
    assert "\n" not in str(caught.value)
