"""The recipe of a field: documents, what is made of them, and the student that learns them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from aasut import tools as functions
from aasut.errors import RecipeError
from aasut.recipe import file
from aasut.recipe.documents import Documents, Reading
from aasut.recipe.models import Asked, ModelAddress
from aasut.recipe.section import NonNegative, Positive, Section, Share
from aasut.recipe.student import Student

Kind = Literal["questions", "relations", "reading", "conversations", "calls"]
KINDS: tuple[Kind, ...] = ("questions", "relations", "reading", "conversations", "calls")
TEXTS: tuple[Kind, ...] = ("relations", "reading")  # are read, where the others are asked and answered
ADAPTED = {
    "model", "initialise", "shape", "frozen_layers", "frozen_embeddings", "lora", "epochs", "learning_rate", "warmup",
    "schedule", "decay", "weight_decay", "batch_examples", "micro_tokens", "activation_checkpointing", "clip_norm",
    "validation", "checks", "patience", "most_spikes", "precision", "checkpoint_s",
}  # fmt: skip


class Chunks(Section):
    """How documents are cut. A chunk ends where a heading, a paragraph or a sentence does."""

    characters: Annotated[int, Field(ge=200)] = 1600
    """Characters that a chunk has at most."""
    least: Annotated[int, Field(ge=0)] = 80
    """Letters that a chunk must have to be asked about; shorter ones stay in their document."""


class FieldSplit(Section):
    """Relative sizes of the splits, in characters. What is made of one split never sees another."""

    train: NonNegative = 80
    """What is learned from."""
    tune: NonNegative = 10
    """What anyone may look at: held out from training."""
    test: NonNegative = 10
    """What is opened for the last word."""

    @model_validator(mode="after")
    def _some_are_held_out(self) -> FieldSplit:
        if not self.train or not self.test:
            raise ValueError("train and test need a weight each")
        return self


class Synthesize(Section):
    """What the teacher writes."""

    kinds: list[Kind] = Field(default=["questions"], min_length=1)
    """`questions` with grounded answers; `relations` between what a chunk names; `reading`: texts by strategies that
    the teacher chooses for each document; `conversations` of several turns; `calls` of the functions in `tools`."""
    questions: Positive = 3
    """Questions asked of a chunk at most."""
    pairs: Positive = 3
    """Pairs of names in a chunk that are related at most."""
    strategies: Positive = 2
    """Reading strategies a document."""
    turns: Annotated[int, Field(ge=2, le=8)] = 3
    """Questions in a conversation."""
    tools: list[dict[str, Any]] = Field(default_factory=list)
    """Functions for `calls`, as OpenAI's API takes them."""
    language: str | None = Field(default=None, pattern=r"^[a-z]{2}$")
    """Language of what is written, ISO 639-1; each chunk's own where it is not given."""
    chunks: Positive | None = None
    """Use at most this many chunks of train, drawn by the seed."""
    held_out: Annotated[int, Field(ge=0)] = 100
    """Chunks of tune and of test, at most this many each, that questions are asked of for the evaluation."""
    max_tokens: Positive = 320
    """Tokens that one answer of the teacher may have."""
    temperature: float = Field(default=0.0, ge=0, le=2)
    """Temperature of what is written."""

    @field_validator("tools")
    @classmethod
    def _are_functions(cls, value: list[dict[str, Any]]) -> list[dict[str, Any]]:
        if value and (reason := functions.fault(value)):
            raise ValueError(f"are no function definitions: {reason}")
        return value

    @model_validator(mode="after")
    def _fits(self) -> Synthesize:
        if len(set(self.kinds)) != len(self.kinds):
            raise ValueError("kinds has one of them twice")
        if ("calls" in self.kinds) != bool(self.tools):
            raise ValueError("the kind calls goes with tools, and they with it")
        for option, kind in (
            ("pairs", "relations"),
            ("strategies", "reading"),
            ("turns", "conversations"),
        ):
            if option in self.model_fields_set and kind not in self.kinds:
                raise ValueError(f"{option} goes with the kind {kind}")
        return self


class Filter(Section):
    """What of it is kept."""

    grounding: Annotated[float, Field(ge=0, le=1)] = 0.6
    """Share of an answer's words, function words aside, that must stand in its span; every number must in any case."""
    round_trip: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Agreement (F1 of words) that a second answer, given the span alone, must have with the first; 0 asks for none."""
    context: Literal["span", "retrieved"] = "span"
    """What the second answer is given: the span's chunk, or the chunks that a search for the question finds."""
    shortest: Positive = 2
    """Words that a question must have."""
    longest: Positive = 400
    """Words that an item may have."""
    near_duplicates: float = Field(default=0.8, gt=0, le=1)
    """Jaccard similarity of 5-character shingles from which two items, each as a whole, are the same; 1 for exact ones
    alone."""
    alike: float = Field(default=0.95, gt=0, le=1)
    """Cosine of embeddings from which two items are the same, where the recipe has `embeddings`."""
    contaminated: float = Field(default=0.9, gt=0, le=1)
    """Cosine of embeddings from which an item is taken for a held-out one, where the recipe has `embeddings`; 13 words
    in a row, or the same words in another order, are enough in any case."""
    max_failed: Share = 0.5
    """Share of answers of the teacher that cannot be read, from which the run stops."""


class HeldOut(Section):
    """A set that nothing made here may repeat: an evaluation of yours, or a public one."""

    source: str = Field(min_length=1)
    """A CSV, TSV, JSONL or text file (a paragraph an entry), relative to the recipe."""
    columns: list[str] = Field(default_factory=list)
    """Columns or keys whose texts are compared; all of them where none is named."""


class Adapt(Section):
    """Continued pre-training on the documents and on what was made of them."""

    replay: list[Documents] = Field(min_length=1)
    """General text: a share of it is learned along, so that the rest is not forgotten, and some is held out to measure
    that."""
    replay_share: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Share of the training tokens that is general text."""
    distil: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Weight of the teacher's distribution in the loss on general text, beside the text itself: of the recipe's teacher
    where it is a local model with the student's tokens, else of the student as it was before."""
    generated: bool = True
    """Learn what was made of the documents too, beside the documents."""
    context: Annotated[int, Field(ge=64)] = 512
    """Tokens of a training row; longer texts are cut into several."""
    tokens: Positive | None = None
    """Tokens of documents learned in an epoch, at most; drawn by the seed."""
    measured: Positive = 400_000
    """Characters of held-out text that each model is measured on, of the field and of general text; whole documents,
    drawn by the seed, two at least."""


class FieldRecipe(Section):
    """From documents to a student that knows the field."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """Results stand in runs/<name>/."""
    seed: int = 7
    """Seed of everything drawn."""
    documents: list[Documents] = Field(min_length=1)
    """What the field is written down in."""
    reading: Reading = Reading()
    """How files are read."""
    chunks: Chunks = Chunks()
    """How documents are cut."""
    split: FieldSplit = FieldSplit()
    """How documents are parted, before anything is made of them."""
    held_out: list[HeldOut] = Field(default_factory=list)
    """Sets that what is made must not repeat, beside this recipe's own tune and test."""
    embeddings: ModelAddress | None = None
    """A sentence-embedding model for search, duplicates and contamination; words alone tell where there is none."""
    teacher: Asked
    """The model that writes."""
    synthesize: Synthesize = Synthesize()
    """What it writes."""
    filter: Filter = Filter()
    """What of it is kept."""
    student: Student | None = None
    """The model that `aasut adapt` trains."""
    adapt: Adapt | None = None
    """How it is trained."""

    @model_validator(mode="after")
    def _fits(self) -> FieldRecipe:
        if (self.student is None) != (self.adapt is None):
            raise ValueError("student and adapt go together")
        if self.student is not None:
            if self.student.initialise == "linear":
                raise ValueError("a linear student reads no documents: give student.model")
            vain = sorted(self.student.model_fields_set - ADAPTED)
            if vain:
                raise ValueError(f"student.{vain[0]} is for a task: adapt learns text as it stands")
        given = self.filter.model_fields_set
        if self.embeddings is None and given & {"alike", "contaminated"}:
            raise ValueError(f"filter.{min(given & {'alike', 'contaminated'})} goes with embeddings")
        if "context" in given and not self.filter.round_trip:
            raise ValueError("filter.context goes with filter.round_trip")
        return self


def load(path: Path, overrides: Sequence[str] = ()) -> FieldRecipe:
    """Read the recipe of a field; `overrides` are flags of the form `section.field=value`.

    Raises RecipeError with one line a mistake.
    """
    plain = file.read(path, overrides)
    if "task" in plain and "documents" not in plain:
        raise RecipeError(f"{path} is the recipe of a task: it names no documents.", "Give it to aasut run.")
    if "fields" in plain and "documents" not in plain:
        raise RecipeError(f"{path} is the recipe of a mixture: it names no documents.", "Give it to aasut mix.")
    return file.validated(FieldRecipe, plain, str(path), "docs/field.md lists every field.")


def text_at(recipe: FieldRecipe, base: Path, folder: Path) -> str:
    """The recipe as YAML for a file in `folder`: paths that were relative to `base` lead from there."""
    plain = recipe.model_dump(mode="json", exclude_unset=True, by_alias=True)
    sources = [*recipe.documents, *(recipe.adapt.replay if recipe.adapt else [])]
    written = [*plain["documents"], *(plain.get("adapt") or {}).get("replay", [])]
    for section, found in zip(written, sources, strict=True):
        if not found.packaged:
            section["source"] = file.moved(section["source"], base, folder)
    for held in plain.get("held_out", []):
        held["source"] = file.moved(held["source"], base, folder)
    student = plain.get("student") or {}
    for model in (plain.get("embeddings"), plain["teacher"].get("model"), student.get("model")):
        file.move_model(model, base, folder)
    return file.as_yaml(plain)
