"""The weights that are trained: the model's own, float32 masters, gradients and AdamW.

Gradients move into float32 as soon as the backward pass has made them, so that those in the model's
own precision never stand all at once. All of a step's are in `gradients`, and nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch

from aasut.recipe import Student


class Weights:
    """Of a model, those that require a gradient."""

    def __init__(self, model: Any, settings: Student) -> None:
        self.model = model
        named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
        self.names = [name for name, _ in named]
        self.parameters = [p for _, p in named]
        self.master = [p.detach().float().clone() for p in self.parameters]
        self.gradients = [torch.zeros_like(weight) for weight in self.master]
        self._begun = [False] * len(named)  # does `gradients` hold something of this step?
        self.updates = 0
        self.clip_norm = settings.clip_norm
        self.optimiser = adamw(self.master, settings)
        for weight in self.master:
            moments = {"exp_avg": torch.zeros_like(weight), "exp_avg_sq": torch.zeros_like(weight)}
            self.optimiser.state[weight] = {"step": torch.zeros((), device=weight.device)} | moments
        self._hooks = [p.register_post_accumulate_grad_hook(self._collector(i)) for i, p in enumerate(self.parameters)]

    def _collector(self, place: int) -> Callable[[torch.Tensor], None]:
        def collect(parameter: torch.Tensor) -> None:
            if parameter.grad is None:
                return
            if self._begun[place]:
                self.gradients[place].add_(parameter.grad)
            else:
                self.gradients[place].copy_(parameter.grad)
                self._begun[place] = True
            parameter.grad = None

        return collect

    def run(self, work: Callable[[], torch.Tensor]) -> torch.Tensor:
        """What `work`, which uses the model, gives."""
        return work()

    def backward(self, loss: torch.Tensor) -> None:
        """Add the gradient of a loss to the step's."""
        torch.autograd.backward(loss)

    def norm(self) -> float:
        """Length of the step's gradient, all weights together."""
        held = [g for g, begun in zip(self.gradients, self._begun, strict=True) if begun]
        return float(torch.nn.utils.get_total_norm(held, foreach=True)) if held else 0.0

    def update(self, rate: float, norm: float) -> None:
        """One step of AdamW with the gradient, of length `norm`, clipped."""
        with torch.no_grad():
            if (scale := self.clip_norm / (norm + 1e-6)) < 1:
                torch._foreach_mul_(self.gradients, scale)
            for weight, gradient, begun in zip(self.master, self.gradients, self._begun, strict=True):
                weight.grad = gradient if begun else None
            for group in self.optimiser.param_groups:
                group["lr"] = rate
            self.optimiser.step()
            self.updates += 1
            self.show()
        self.drop()

    def drop(self) -> None:
        """Forget the step's gradient."""
        self._begun = [False] * len(self.parameters)
        for parameter, weight in zip(self.parameters, self.master, strict=True):
            parameter.grad = weight.grad = None

    @torch.no_grad()
    def show(self) -> None:
        """Round the masters into the model."""
        for parameter, weight in zip(self.parameters, self.master, strict=True):
            parameter.copy_(weight)

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
        for hook in self._hooks:
            hook.remove()

    def tensors(self) -> dict[str, torch.Tensor]:
        """All of the model's weights by name."""
        return dict(self.model.state_dict())


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
