"""How evenly a Mixture of Experts is used: balanced while it is trained, without a loss of its own, and told of after.

Each step moves a router's biases by `bias_rate` towards equal loads over the whole step, all processes' tokens counted:
b += rate * sign(mean load - load) (Wang et al. 2024). The layouts that are written have no biases. So over the last
steps they fade, and what balances moves into the router's weights: along the mean of its inputs, in which all tokens
have a share, by what an expert lacks of its load when biases are left out, and by less towards the end. All these steps
together can move a mean token's logits by REACH times their deviation among tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from aasut.engine import experts
from aasut.recipe.experts import Experts
from aasut.student.objective import Objective, Row

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aasut.student.parallel import ShardedWeights, Team
    from aasut.student.weights import Weights

Run = Callable[[Callable[[], torch.Tensor]], torch.Tensor]
REACH, FARTHEST = 6.0, 0.5  # of all steps, of one
DEAD = 0.01  # of the mean load: an expert with less is dead


class Balance:
    """Of one training. loads, unbiased [layers, experts]: tokens of the step, with biases and without, float64."""

    def __init__(self, model: Any, wanted: Experts) -> None:
        self.model, self.wanted = model, wanted
        self.routers = experts.routers(model)
        device = self.routers[0].weight.device
        self.base = torch.zeros(len(self.routers), wanted.count, device=device)
        self.losses: list[torch.Tensor] = []
        self.begin()

    def begin(self, share: float = 1.0) -> None:
        """Begin a step anew; `share`: its targets over its tokens, which a loss over tokens is multiplied by."""
        self.share = share
        self.loads = torch.zeros(self.base.shape, dtype=torch.float64, device=self.base.device)
        self.unbiased = self.loads.clone()
        self._inputs = [torch.zeros(()) for _ in self.routers]
        self._moments = [torch.zeros(2, self.wanted.count, dtype=torch.float64) for _ in self.routers]

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Count what is routed within, and collect its losses."""
        for number, router in enumerate(self.routers):
            router.watch = partial(self._see, number)
        try:
            yield
        finally:
            for router in self.routers:
                router.watch = None

    def _see(self, number: int, hidden: torch.Tensor, logits: torch.Tensor, scores: torch.Tensor, chosen: Any) -> None:
        counts = chosen.flatten().bincount(minlength=logits.shape[1])
        self.loads[number] += counts
        plain = scores.detach().topk(chosen.shape[1], dim=-1).indices
        self.unbiased[number] += plain.flatten().bincount(minlength=logits.shape[1])
        self._inputs[number] = self._inputs[number] + hidden.detach().float().sum(0).cpu()
        plain_logits = logits.detach().double()
        self._moments[number] += torch.stack([plain_logits.sum(0), plain_logits.square().sum(0)]).cpu()
        wanted = self.wanted
        if wanted.sequence_loss:
            share = counts / counts.sum()
            even = len(share) * (share * scores.mean(0)).sum()
            self.losses.append(wanted.sequence_loss * self.share * len(scores) * even)
        if wanted.z_loss:
            self.losses.append(wanted.z_loss * self.share * logits.logsumexp(-1).square().sum())

    def loss(self) -> torch.Tensor | None:
        """The losses of the micro-batch that was watched, summed over its tokens, as means over layers; None for none.

        A step divides them by its targets, so they are means over its tokens.
        """
        given, self.losses = self.losses, []
        return torch.stack(given).sum() / len(self.routers) if given else None

    def update(self, step: int, steps: int, weights: Weights | ShardedWeights, team: Team) -> None:
        """After a step: move biases, or, over the last steps, weights."""
        if self.wanted.bias_rate:
            left = self._left(step, steps)
            counted = (self.loads if left == 1 else self.unbiased).flatten().tolist()
            loads = torch.tensor(team.summed(*counted)).view(self.base.shape)
            lacks = (1 - loads / loads.mean(1, keepdim=True).clamp(min=1)).clamp(min=-1).to(self.base)
            if left == 1:
                self.base += self.wanted.bias_rate * lacks.sign()
            else:
                reach = min(REACH / max(self.wanted.settled * steps, 1), FARTHEST)
                self._nudge(2 * left * reach * lacks, weights, team)
            self._show(left)
        self.begin()

    def _nudge(self, moves: torch.Tensor, weights: Weights | ShardedWeights, team: Team) -> None:
        """Move the logits of a mean token, each layer's by `moves` [layers, experts] times their deviation."""
        for number, of_layer in enumerate(moves):
            tokens = sum(team.summed(*self.loads[number].tolist())) / self.wanted.active
            mean = torch.tensor(team.summed(*self._inputs[number].tolist())) / max(tokens, 1.0)
            moments = torch.tensor(team.summed(*self._moments[number].flatten().tolist())).view(2, -1)
            first, second = moments / max(tokens, 1.0)
            spread = float((second - first.square()).clamp(min=0).sqrt().mean())
            along = (mean / mean.square().sum()).nan_to_num()
            weights.shift(self.routers[number].weight, spread * of_layer[:, None].cpu() * along)

    def _left(self, step: int, steps: int) -> float:
        """Share of the biases that is left after a step."""
        return min((steps - step - 1) / max(self.wanted.settled * steps, 1), 1.0)

    def _show(self, share: float) -> None:
        for router, bias in zip(self.routers, self.base, strict=True):
            router.bias.copy_(bias * share)

    def state(self) -> dict[str, torch.Tensor]:
        """For a checkpoint."""
        return {"experts.bias": self.base}

    def restore(self, tensors: dict[str, torch.Tensor], step: int, steps: int) -> None:
        """Go on from `state` before a step."""
        self.base.copy_(tensors["experts.bias"])
        self._show(self._left(step - 1, steps))


def attach(model: Any, wanted: Experts | None) -> Balance | None:
    """What balances a model's experts; None where it has none, or the recipe says nothing of them."""
    return Balance(model, wanted) if wanted is not None and experts.routers(model) else None


@torch.no_grad()
def loads(model: Any, objective: Objective, rows: Sequence[Row], most: int, run: Run | None = None) -> torch.Tensor:
    """Tokens that each expert is given by the rows, [layers, experts]. `run` is what the model is used through."""
    found = experts.routers(model)
    counts = torch.zeros(len(found), len(found[0].weight), dtype=torch.float64)

    def see(number: int, _hidden: Any, _logits: Any, _scores: Any, chosen: torch.Tensor) -> None:
        counts[number] += chosen.flatten().bincount(minlength=counts.shape[1]).cpu()

    for number, router in enumerate(found):
        router.watch = partial(see, number)
    try:
        for batch in objective.batches(rows, most):
            work = partial(objective.loss, model, rows, batch)
            work() if run is None else run(work)
    finally:
        for router in found:
            router.watch = None
    return counts


def by_group(
    model: Any, objective: Objective, rows: Sequence[Row], most: int, run: Run | None = None
) -> dict[str, Any]:
    """`told` of all rows, and each layer's shares for the rows of each group, where they have groups."""
    groups = sorted({row.group for row in rows} - {""})
    parts = {group: [row for row in rows if row.group == group] for group in groups}
    each = {group: loads(model, objective, part, most, run) for group, part in parts.items()}
    found = told(loads(model, objective, rows, most, run))
    return found | {"groups": {group: told(counts)["shares"] for group, counts in each.items()}}


def told(counts: torch.Tensor) -> dict[str, Any]:
    """Of loads [layers, experts]: each layer's shares, the mean over layers of their deviation over their mean, and
    how many experts are dead."""
    shares = counts / counts.sum(1, keepdim=True).clamp(min=1)
    mean = 1 / counts.shape[1]
    return {
        "shares": [[round(float(value), 4) for value in row] for row in shares],
        "cv": float((shares.std(1, unbiased=False) / mean).mean()),
        "dead": int((shares < DEAD * mean).sum()),
    }
