"""The recipe's sections about the model that learns."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from aasut.recipe.documents import Documents
from aasut.recipe.experts import Experts
from aasut.recipe.models import ModelAddress
from aasut.recipe.section import NonNegative, Positive, Section, Share


class Lora(Section):
    """Low-rank adapters beside the matrices of a student's layers."""

    rank: Positive = 16
    """Columns of an adapter."""
    alpha: float = Field(default=32.0, gt=0)
    """What an adapter adds is multiplied by alpha / rank."""
    targets: Literal["all"] | Annotated[list[str], Field(min_length=1)] = "all"
    """Matrices that get one, by their names in the model, such as q_proj; `all` of the layers."""


class Shape(Section):
    """Sizes of a student's layers; each stays as it is in the model where it is not given."""

    layers: Positive | None = None
    """Layers."""
    choose: Literal["influence", "block"] = "influence"
    """Which layers go: those that change their input least, each by itself, or the contiguous run of them that does."""
    heads: Positive | None = None
    """Query heads of a layer. Groups go whole, with their keys and values, where that gives the number, such as 6 of 9
    in groups of 3; else it must be a multiple of the key-value heads, and as many go from every group."""
    neurons: Positive | None = None
    """Intermediate neurons of a layer."""
    channels: Positive | None = None
    """Hidden channels, the same ones in all layers; a multiple of the heads."""

    @model_validator(mode="after")
    def _says_something(self) -> Shape:
        sizes = (self.layers, self.heads, self.neurons, self.channels)
        if not any(sizes):
            raise ValueError("shape changes nothing: give layers, heads, neurons or channels")
        if "choose" in self.model_fields_set and self.layers is None:
            raise ValueError("choose goes with layers")
        return self

    @property
    def wide(self) -> bool:
        """Whether widths are given, and not depth alone."""
        return any((self.heads, self.neurons, self.channels))


class Vocabulary(Section):
    """Tokens that stay: single bytes, special ones, and what the data is written in."""

    tokens: Positive | None = None
    """How many stay at most, bytes and control tokens counted, the most used first; where it is not given, all that the
    data uses."""


class Heal(Section):
    """Distillation on general text, from the model that the student was cut out of, in one process: all layers, and
    the embeddings where `student.frozen_embeddings` is false or `student.shape` cuts channels."""

    texts: list[Documents] = Field(min_length=1)
    """General text."""
    tokens: Positive = 500_000
    """Tokens to learn, drawn by the seed; no more than there are."""
    context: Annotated[int, Field(ge=64)] = 256
    """Tokens of a training row."""
    learning_rate: float = Field(default=3e-4, gt=0)
    """Peak learning rate of AdamW."""


class OnPolicy(Section):
    """Training on what the student itself writes (GKD, Agarwal et al. 2024)."""

    share: float = Field(default=0.5, gt=0, le=1)
    """Share of a step's examples whose answers are the student's own, once it has risen."""
    start: Share = 0.25
    """Share of the steps that learn given answers alone, before."""
    rise: Share = 0.25
    """Share of the steps in which `share` then rises from zero."""
    refresh: Positive = 16
    """Steps after which the student writes anew, with its weights of then."""
    temperature: float = Field(default=1.0, gt=0, le=2)
    """Temperature at which it writes."""

    @model_validator(mode="after")
    def _is_reached(self) -> OnPolicy:
        if self.start + self.rise >= 1:
            raise ValueError(f"start ({self.start:g}) and rise ({self.rise:g}) leave no steps at the whole share")
        return self


class Preference(Section):
    """Direct preference optimisation (DPO, Rafailov et al. 2023) on the student's own answers."""

    rubric: str = Field(min_length=1)
    """What makes one answer better than another, in words, for the teacher."""
    inputs: Positive = 500
    """Inputs of the pool that are answered again, at most; drawn by the seed."""
    samples: Annotated[int, Field(ge=2, le=16)] = 4
    """Answers to each, drawn; equal ones count once."""
    temperature: float = Field(default=1.0, gt=0, le=2)
    """Temperature at which they are drawn."""
    pairs: Positive = 3
    """Pairs of answers to an input that the teacher compares, in both orders; a pair on which the orders disagree is
    dropped."""
    beta: float = Field(default=0.1, gt=0)
    """How far the student may move from where it was: the weight of the log-ratio to it."""
    learning_rate: float = Field(default=5e-6, gt=0)
    """Peak learning rate of AdamW."""
    epochs: Positive = 1
    """Passes over the pairs."""
    max_failed: Share = 0.2
    """Share of unusable verdicts of the teacher from which the run stops."""


class Student(Section):
    """The model that learns."""

    initialise: Literal["pretrained", "pruned", "random", "linear"] = "pretrained"
    """Where the student starts: a pretrained model as it is, what is most important of it, its architecture with
    random weights, or TF-IDF with logistic regression."""
    model: ModelAddress | None = None
    """The pretrained model."""
    shape: Shape | None = None
    """What stays of the model, for pruned, or sizes of its layers, for random."""
    vocabulary: Vocabulary | None = None
    """Leave out tokens that the data has no use for."""
    heal: Heal | None = None
    """Learn general text from the model's own distribution first, before the task; done once for each shape."""
    experts: Experts | None = None
    """Make the start a Mixture of Experts: more weights, of which each token uses a part."""
    prompt: str | None = None
    """The student's own prompt, short; the task's last message where it is not given."""
    frozen_layers: Annotated[int, Field(ge=0)] = 0
    """Layers next to the input that are not trained: fewer to update, and no gradient to compute for them."""
    frozen_embeddings: bool = True
    """The input embeddings and the output projection stay as they are."""
    lora: Lora | None = None
    """Train low-rank adapters alone, in the layers that are not frozen, and merge them into the weights at the end;
    it wants a higher learning_rate, such as 2e-4."""
    method: Literal["auto", "fine_tune", "sparse_kd", "cached_kd", "live_kd", "text_kd"] = "auto"
    """How answers in text are learned: as plain text (`fine_tune`; `text_kd` where the teacher's tokens are others),
    from an API's `top_logprobs` (`sparse_kd`), from a cache of a local teacher's logits (`cached_kd`), or from a local
    teacher that runs alongside (`live_kd`); `auto` takes the best that the teacher offers, and says why."""
    loss: Literal["cross_entropy", "forward_kl", "reverse_kl", "jsd", "skewed_kl", "total_variation"] = "forward_kl"
    """Distance of the student's distribution over the next token from the teacher's; against plain text, forward_kl is
    the cross-entropy. `live_kd` knows all, caches the first two."""
    beta: float = Field(default=0.5, gt=0, lt=1)
    """Weight of the teacher in the mixture of jsd."""
    alpha: float = Field(default=0.1, gt=0, lt=1)
    """Weight of the teacher in the mixture of skewed_kl."""
    epochs: Positive = 3
    """Passes over the teacher's answers."""
    learning_rate: float = Field(default=5e-5, gt=0)
    """Peak learning rate of AdamW."""
    warmup: Share = 0.1
    """Share of the steps in which the learning rate rises."""
    schedule: Literal["cosine", "wsd"] = "cosine"
    """What the learning rate does then: fall as half a cosine, or stay (`wsd`: warm-up, stable, decay) and fall over
    the last share `decay` as one minus a square root."""
    decay: float = Field(default=0.2, gt=0, le=1)
    """Share of the steps in which the learning rate falls in wsd."""
    weight_decay: NonNegative = 0.01
    """Decoupled weight decay of matrices."""
    batch_examples: Positive = 32
    """Examples a step."""
    micro_tokens: Positive = 2048
    """Tokens computed at once, which bounds memory; a step takes as many of these parts as it needs, with the same
    gradient. Halved where memory runs out."""
    on_policy: OnPolicy | None = None
    """Learn from the student's own answers too, token by token from the teacher's distribution."""
    preference: Preference | None = None
    """After training, learn which of its own answers the teacher prefers."""
    processes: Positive = 1
    """Processes that train together on one machine, one a GPU: each has a share of the weights and of every step's
    examples. The losses are those of one process."""
    activation_checkpointing: bool = False
    """Keep the layers' inputs alone and compute the rest again for the gradient: less memory, a third more time."""
    clip_norm: float = Field(default=1.0, gt=0)
    """Largest norm of the gradient."""
    validation: float = Field(default=0.1, gt=0, lt=0.5)
    """Share of the teacher's answers, by group, kept out of training to choose the best checkpoint."""
    checks: Positive = 6
    """How often in the training the validation share is looked at."""
    patience: Annotated[int, Field(ge=0)] = 0
    """Looks in a row without a better validation loss after which training ends; 0: it never ends early."""
    most_spikes: Annotated[int, Field(ge=0)] = 5
    """Steps that may be skipped because their loss or gradient is no number, or far over what is usual."""
    precision: Literal["auto", "bfloat16", "float32"] = "auto"
    """Arithmetic of training; `auto` is bfloat16 where the processor has it. Master weights are float32."""
    checkpoint_s: NonNegative = 90.0
    """Seconds between checkpoints, from which a killed training goes on; the weights are the same whatever it says."""

    @model_validator(mode="after")
    def _fits(self) -> Student:
        if self.initialise == "linear":
            used = self.model_fields_set - {"initialise"}
            if used:
                raise ValueError(f"a linear student has no use for {', '.join(sorted(used))}")
        elif self.model is None:
            raise ValueError(f"initialise: {self.initialise} needs a model")
        if self.initialise == "pruned" and self.shape is None:
            raise ValueError("initialise: pruned needs a shape: say what stays")
        if self.initialise == "pretrained" and self.shape is not None:
            raise ValueError("shape goes with initialise: pruned or random")
        if self.initialise == "pretrained" and self.heal is not None:
            raise ValueError("heal goes with initialise: pruned or random: a model as it is has nothing to heal")
        if self.initialise == "random" and (self.frozen_embeddings or self.frozen_layers or self.lora):
            raise ValueError(
                "initialise: random trains every weight: set frozen_embeddings: false, frozen_layers: 0 and no lora"
            )
        given = self.model_fields_set
        for option, field, value in (
            ("decay", "schedule", "wsd"),
            ("beta", "loss", "jsd"),
            ("alpha", "loss", "skewed_kl"),
        ):
            if option in given and getattr(self, field) != value:
                raise ValueError(f"{option} goes with {field}: {value}")
        if self.experts is not None and (self.frozen_layers or self.lora):
            raise ValueError("experts are trained in all layers: set frozen_layers: 0 and no lora")
        if self.processes > 1 and self.lora is not None:
            raise ValueError("lora trains in one process: leave processes: 1")
        if self.processes > 1 and self.method == "live_kd":
            raise ValueError("live_kd trains in one process: leave processes: 1, or take cached_kd")
        if self.on_policy is not None and self.processes > 1:
            raise ValueError("on_policy trains in one process: leave processes: 1")
        if self.on_policy is not None and self.method not in ("auto", "live_kd"):
            raise ValueError(f"on_policy learns from a teacher alongside: leave method: {self.method} out")
        if self.lora is not None and not self.frozen_embeddings:
            raise ValueError("lora trains adapters in the layers alone: leave frozen_embeddings as it is")
        if self.patience >= self.checks:
            raise ValueError(f"patience ({self.patience}) must be less than checks ({self.checks}) to end anything")
        return self
