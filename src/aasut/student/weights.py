"""The weights that are trained: the model's own, float32 masters, gradients and AdamW.

Gradients move into float32 as soon as they are made, so that those in the model's own precision never
stand all at once. All of a step's are in `sums`, and nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch

from aasut.recipe import Student
from aasut.student.main_grad import MainGrad


class Weights:
    """Of a model, those that require a gradient."""

    def __init__(self, model: Any, settings: Student) -> None:
        self.model = model
        named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
        self.names = [name for name, _ in named]
        self.parameters = [p for _, p in named]
        self.master = [p.detach().float().clone() for p in self.parameters]
        self.sums = [MainGrad(p) for p in self.parameters]
        self.updates = 0
        self.clip_norm = settings.clip_norm
        self.optimiser = adamw(self.master, settings)
        for weight in self.master:
            moments = {"exp_avg": torch.zeros_like(weight), "exp_avg_sq": torch.zeros_like(weight)}
            self.optimiser.state[weight] = {"step": torch.zeros((), device=weight.device)} | moments
        self._hooks = [p.register_post_accumulate_grad_hook(_collect) for p in self.parameters]
        for parameter, held in zip(self.parameters, self.sums, strict=True):
            parameter.main_grad = held
        self._embeddings(sparse=True)

    def _embeddings(self, *, sparse: bool) -> None:
        """Whether the input embeddings' gradient has the rows of the tokens that were read, and no others.

        On a GPU it has all: adding rows there is not the same twice.
        """
        embeddings = self.model.get_input_embeddings()
        if isinstance(embeddings, torch.nn.Embedding) and not embeddings.weight.is_cuda:
            embeddings.sparse = sparse

    def run(self, work: Callable[[], torch.Tensor]) -> torch.Tensor:
        """What `work`, which uses the model, gives."""
        return work()

    def begin(self, divisor: float) -> None:
        """Begin a step anew: each loss that is given to `backward` is divided by that."""
        self.drop()
        for held in self.sums:
            held.divisor = divisor

    def backward(self, loss: torch.Tensor) -> None:
        """Add the gradient of a loss, over the divisor, to the step's."""
        torch.autograd.backward(loss / self.sums[0].divisor)

    def gradient(self) -> list[torch.Tensor]:
        """The step's gradient so far, of each weight."""
        return [held.value if held.begun else torch.zeros_like(held.value) for held in self.sums]

    def norm(self) -> float:
        """Length of the step's gradient, all weights together."""
        begun = [held.value for held in self.sums if held.begun]
        return float(torch.nn.utils.get_total_norm(begun, foreach=True)) if begun else 0.0

    def update(self, rate: float, norm: float) -> None:
        """One step of AdamW with the gradient, of length `norm`, clipped."""
        with torch.no_grad():
            if (scale := self.clip_norm / (norm + 1e-6)) < 1:
                torch._foreach_mul_([held.value for held in self.sums], scale)
            for weight, held in zip(self.master, self.sums, strict=True):
                weight.grad = held.value if held.begun else None
            for group in self.optimiser.param_groups:
                group["lr"] = rate
            self.optimiser.step()
            self.updates += 1
            self.show()
        self.drop()

    def drop(self) -> None:
        """Forget the step's gradient."""
        for parameter, weight, held in zip(self.parameters, self.master, self.sums, strict=True):
            parameter.grad = weight.grad = None
            held.begun = False

    @torch.no_grad()
    def show(self) -> None:
        """Round the masters into the model."""
        for parameter, weight in zip(self.parameters, self.master, strict=True):
            parameter.copy_(weight)

    @torch.no_grad()
    def shift(self, parameter: torch.Tensor, change: torch.Tensor) -> None:
        """Add to one of the weights beside the optimiser's steps."""
        place = next(i for i, own in enumerate(self.parameters) if own is parameter)
        self.master[place].add_(change.to(parameter.device))
        parameter.copy_(self.master[place])

    def copies(self) -> list[torch.Tensor]:
        """The model's own weights as they are now."""
        return [p.detach().clone() for p in self.parameters]

    @torch.no_grad()
    def put(self, copies: Iterable[torch.Tensor]) -> None:
        """Give the model these weights."""
        for parameter, copy in zip(self.parameters, copies, strict=True):
            parameter.copy_(copy)

    def whole(self, tensors: Iterable[torch.Tensor]) -> list[torch.Tensor]:
        """The tensors of `copies` for a file."""
        return list(tensors)

    def parted(self, tensors: Iterable[torch.Tensor]) -> list[torch.Tensor]:
        """The tensors of a file for `put`."""
        return list(tensors)

    def state(self) -> dict[str, torch.Tensor]:
        """Masters and moments by name."""
        result: dict[str, torch.Tensor] = {}
        for name, weight in zip(self.names, self.master, strict=True):
            moments = self.optimiser.state[weight]
            result |= {f"master.{name}": weight, f"mean.{name}": moments["exp_avg"]}
            result[f"square.{name}"] = moments["exp_avg_sq"]
        return result

    @torch.no_grad()
    def restore(self, tensors: dict[str, torch.Tensor], updates: int) -> None:
        """Go on from `state` after so many updates."""
        for name, weight in zip(self.names, self.master, strict=True):
            moments = self.optimiser.state[weight]
            weight.copy_(tensors[f"master.{name}"])
            moments["exp_avg"].copy_(tensors[f"mean.{name}"])
            moments["exp_avg_sq"].copy_(tensors[f"square.{name}"])
            moments["step"].fill_(updates)
        self.updates = updates
        self.show()

    def release(self) -> None:
        """Let go of the model: later backward passes leave their gradients in it."""
        for hook, parameter in zip(self._hooks, self.parameters, strict=True):
            hook.remove()
            del parameter.main_grad
        self._embeddings(sparse=False)

    def tensors(self) -> dict[str, torch.Tensor]:
        """All of the model's weights by name."""
        return dict(self.model.state_dict())


def _collect(parameter: torch.Tensor) -> None:
    """Move what autograd left at a parameter into its sum."""
    if parameter.grad is not None:
        parameter.main_grad.add(parameter.grad)  # type: ignore[attr-defined]
        parameter.grad = None


def adamw(weights: Sequence[torch.Tensor], settings: Student) -> torch.optim.AdamW:
    """AdamW over float32 weights; vectors, such as norms' weights, are not decayed."""
    return torch.optim.AdamW(
        [
            {"params": [w for w in weights if w.ndim > 1], "weight_decay": settings.weight_decay},
            {"params": [w for w in weights if w.ndim <= 1], "weight_decay": 0.0},
        ],
        lr=settings.learning_rate,
        betas=(0.9, 0.98),
        fused=True,
    )
