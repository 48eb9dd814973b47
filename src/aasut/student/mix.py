"""One Mixture of Experts out of several students of one start: Branch-Train-MiX (Sukhbaatar et al. 2024).

The networks of each student become an expert in every layer, and all other weights are the students' mean. A router
starts as the logistic regression of which student's text a token is of, by what its layer's network is given: a text
goes to its student's expert before anything is learned. It has no constants, as the written layout has no biases.

An expert that comes later leaves all that is there as it is: its row of a router is fitted to let its own texts in, and
the others' tokens keep their experts.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional

from aasut.engine.torch import load_model
from aasut.errors import RecipeError
from aasut.formats import safetensors
from aasut.formats.experts import MIXTRAL
from aasut.formats.tokenizer import read_json
from aasut.recipe.experts import Experts
from aasut.store import write_atomically
from aasut.student.initialize import copy_model
from aasut.student.objective import Objective, Row
from aasut.student.upcycle import DENSE, config_of

SOME = 2048  # inputs of a layer that are kept
CAUTION = 10.0  # what a token of the others weighs where a new expert is fitted beside them
DECAY = 1e-3  # of a router that is fitted
DECAY_BESIDE = 1e-4  # of a row that is fitted beside others
NAMES = "experts.json"  # in a mixture's folder


def mix(
    students: Mapping[str, Path], texts: Mapping[str, Sequence[Row]], objective: Objective, active: int, folder: Path
) -> dict[str, Any]:
    """Leave the mixture of these model folders in `folder`, an expert each, in their order. `texts`: some of each's.

    Raises RecipeError where the students are not of one shape.
    """
    config = _same(students)
    inputs = {name: inputs_of(path, texts[name], objective) for name, path in students.items()}
    layers = int(config["num_hidden_layers"])
    routers = [regression([inputs[name][layer] for name in students]) for layer in range(layers)]
    each = [safetensors.load(path) for path in students.values()]
    copy_model(next(iter(students.values())), folder, weights=False)
    safetensors.save(stack(each, routers), folder / "model.safetensors")
    wanted = Experts(count=len(students), active=active)
    write_atomically(folder / "config.json", json.dumps(config_of(config, MIXTRAL, wanted), indent=2) + "\n")
    return _named(folder, list(students))


def add(
    mixture: Path,
    name: str,
    student: Path,
    own: Sequence[Row],
    others: Sequence[Row],
    objective: Objective,
    folder: Path,
) -> dict[str, Any]:
    """Leave the mixture with one student more as its last expert in `folder`; see the module for its router's rows.

    `own` are texts of the new student, `others` of those that are there. Raises RecipeError for a name that is
    there, or a student of another shape.
    """
    names, config = names_of(mixture), read_json(mixture / "config.json")
    if name in names:
        raise RecipeError(f"The mixture has an expert {name} already.", "Remove it first, or take another name.")
    given = read_json(student / "config.json")
    for key in ("hidden_size", "intermediate_size", "num_hidden_layers", "vocab_size"):
        if given[key] != config[key]:
            raise RecipeError(
                f"The student {name} does not fit the mixture: its {key} is {given[key]}, there it is {config[key]}.",
                "Train it from the model that the others were trained from.",
            )
    tensors, networks = safetensors.load(mixture), safetensors.load(student)
    inputs = [inputs_of(mixture, rows, objective) for rows in (own, others)]
    for layer in range(int(config["num_hidden_layers"])):
        router = tensors[MIXTRAL.router(layer)].float()
        row = _row_beside(router, inputs[0][layer], inputs[1][layer], int(config["num_experts_per_tok"]))
        tensors[MIXTRAL.router(layer)] = torch.cat([router, row[None]])
        parts = [networks[f"model.layers.{layer}.mlp.{part}.weight"] for part in DENSE]
        tensors |= dict(zip(MIXTRAL.expert(layer, len(names)), parts, strict=True))
    return _rewritten(mixture, folder, tensors, config, [*names, name])


def remove(mixture: Path, name: str, folder: Path) -> dict[str, Any]:
    """Leave the mixture without an expert in `folder`. Raises RecipeError where it has none of that name or too few."""
    names, config = names_of(mixture), read_json(mixture / "config.json")
    if name not in names:
        raise RecipeError(f"The mixture has no expert {name}.", f"It has {', '.join(names)}.")
    if len(names) <= max(int(config["num_experts_per_tok"]), 2):
        raise RecipeError(f"Without {name} the mixture has too few experts for a token.", "Add another one first.")
    gone, tensors = names.index(name), safetensors.load(mixture)
    for layer in range(int(config["num_hidden_layers"])):
        router = tensors[MIXTRAL.router(layer)]
        tensors[MIXTRAL.router(layer)] = torch.cat([router[:gone], router[gone + 1 :]])
        for expert in range(gone, len(names)):
            parts = [tensors.pop(part) for part in MIXTRAL.expert(layer, expert)]
            if expert > gone:
                tensors |= dict(zip(MIXTRAL.expert(layer, expert - 1), parts, strict=True))
    return _rewritten(mixture, folder, tensors, config, [other for other in names if other != name])


def names_of(mixture: Path) -> list[str]:
    """What each expert of a mixture is of, in their order."""
    return [str(name) for name in read_json(mixture / NAMES)["experts"]]


def _rewritten(
    mixture: Path, folder: Path, tensors: dict[str, torch.Tensor], config: dict[str, Any], names: list[str]
) -> dict[str, Any]:
    copy_model(mixture, folder, weights=False)
    safetensors.save(tensors, folder / "model.safetensors")
    config = config | {"num_local_experts": len(names)}
    write_atomically(folder / "config.json", json.dumps(config, indent=2) + "\n")
    return _named(folder, names)


def _named(folder: Path, names: list[str]) -> dict[str, Any]:
    write_atomically(folder / NAMES, json.dumps({"experts": names}) + "\n")
    return {"experts": names, "parameters": safetensors.parameters(folder)}


def _row_beside(router: torch.Tensor, own: torch.Tensor, others: torch.Tensor, active: int) -> torch.Tensor:
    """The row [d] of a new expert beside those of `router` [E, d], from inputs [n, d] of its own texts and of others.

    It is logistic regression, without a constant, of whether the new expert is among a token's: its logit over that of
    the last one that is chosen there now. A token of the others counts CAUTION times one of its own.
    """
    inputs = torch.cat([own, others])
    least = (inputs @ router.T).topk(active, dim=1).values[:, -1]
    wanted = torch.cat([torch.ones(len(own)), torch.zeros(len(others))])
    weights = torch.cat([torch.full((len(own),), 1 / len(own)), torch.full((len(others),), CAUTION / len(others))])
    scale = inputs.square().mean().sqrt()

    def loss(row: torch.Tensor) -> torch.Tensor:
        margin = inputs @ row / scale - least
        found = functional.binary_cross_entropy_with_logits(margin, wanted, weights, reduction="sum")
        return found + DECAY_BESIDE * row.square().sum()

    return _least(loss, torch.zeros(inputs.shape[1])) / scale


def _least(loss: Callable[[torch.Tensor], torch.Tensor], start: torch.Tensor) -> torch.Tensor:
    """Where a convex loss is least, from `start` on."""
    found = start.requires_grad_()
    optimiser = torch.optim.LBFGS([found], max_iter=100, line_search_fn="strong_wolfe")

    def step() -> torch.Tensor:
        optimiser.zero_grad()
        value = loss(found)
        value.backward()  # type: ignore[no-untyped-call]
        return value

    optimiser.step(step)  # type: ignore[no-untyped-call]
    return found.detach()


def _same(students: Mapping[str, Path]) -> dict[str, Any]:
    """The configuration that all have."""
    found = {name: read_json(path / "config.json") for name, path in students.items()}
    first, *_ = found
    for name, config in found.items():
        odd = sorted(key for key in {*config, *found[first]} if config.get(key) != found[first].get(key))
        if odd:
            raise RecipeError(
                f"The students {first} and {name} cannot be mixed: their {odd[0]} differ.",
                "Train all from one model and one shape.",
            )
    return dict(found[first])


def stack(students: Sequence[Mapping[str, torch.Tensor]], routers: Sequence[torch.Tensor]) -> dict[str, torch.Tensor]:
    """The mixture's tensors: networks as experts, the rest averaged, and a router [E, d] for each layer."""
    found: dict[str, torch.Tensor] = {}
    for name in students[0]:
        if not name.rpartition(".weight")[0].endswith(DENSE):
            found[name] = torch.stack([each[name].float() for each in students]).mean(0).to(students[0][name].dtype)
    for layer, router in enumerate(routers):
        found[MIXTRAL.router(layer)] = router
        for expert, each in enumerate(students):
            parts = [each[f"model.layers.{layer}.mlp.{part}.weight"] for part in DENSE]
            found |= dict(zip(MIXTRAL.expert(layer, expert), parts, strict=True))
    return found


def inputs_of(folder: Path, rows: Sequence[Row], objective: Objective, most: int = 2048) -> list[torch.Tensor]:
    """What the network of each layer is given by some tokens of these rows, [n, d]."""
    model = load_model(folder, torch.float32)
    with _noting(model) as seen, torch.no_grad():
        for batch in objective.batches(rows, most):
            objective.loss(model, rows, batch)
    found = [torch.cat(parts) for parts in seen]
    return [whole[:: -(-len(whole) // SOME)] for whole in found]


@contextmanager
def _noting(model: Any) -> Iterator[list[list[torch.Tensor]]]:
    """What the networks are given within, a layer each: [tokens, d] a pass."""
    seen: list[list[torch.Tensor]] = [[] for _ in model.model.layers]

    def note(parts: list[torch.Tensor]) -> Any:
        return lambda _module, given: parts.append(given[0].detach().flatten(0, -2))

    pairs = zip(model.model.layers, seen, strict=True)
    handles = [layer.mlp.register_forward_pre_hook(note(parts)) for layer, parts in pairs]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def regression(groups: Sequence[torch.Tensor]) -> torch.Tensor:
    """A router [E, d] that says by softmax of which group an input is; each has inputs [n, d] and counts alike."""
    inputs = torch.cat(list(groups))
    group = torch.cat([torch.full((len(own),), number) for number, own in enumerate(groups)])
    share = torch.cat([torch.full((len(own),), 1 / len(own) / len(groups)) for own in groups])
    scale = inputs.square().mean().sqrt()

    def loss(router: torch.Tensor) -> torch.Tensor:
        each = functional.cross_entropy(inputs @ router.T / scale, group, reduction="none")
        return (each * share).sum() + DECAY * router.square().sum()

    return _least(loss, torch.zeros(len(groups), inputs.shape[1])) / scale
