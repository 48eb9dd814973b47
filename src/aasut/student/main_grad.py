"""Gradients summed in float32 over the micro-batches of a step, beside the parameters that they are of.

`main_grad` is Megatron-LM's name for it. A fused loss adds a large matrix's gradient there while it makes it, so that
it is never held twice, nor rounded to the parameter's own precision between micro-batches.
"""

from __future__ import annotations

import torch


class MainGrad:
    """The sum for one parameter.

    value [as the parameter] float32 · begun: does it hold something of this step? · divisor: by what the step's loss
    is divided.
    """

    def __init__(self, parameter: torch.Tensor) -> None:
        self.value = torch.zeros(parameter.shape, dtype=torch.float32, device=parameter.device)
        self.begun = False
        self.divisor = 1.0

    def begin(self) -> bool:
        """Is there nothing of this step yet? Then `value` is whatever it was, and the caller writes all of it."""
        first, self.begun = not self.begun, True
        return first

    def open(self) -> torch.Tensor:
        """The sum so far, to be added to."""
        if self.begin():
            self.value.zero_()
        return self.value

    def add(self, gradient: torch.Tensor) -> None:
        """Add what autograd made: a whole gradient, or some rows of it in a sparse tensor."""
        if gradient.is_sparse:
            self.open().index_add_(0, gradient._indices()[0], gradient._values().float())
        elif self.begin():
            self.value.copy_(gradient)
        else:
            self.value.add_(gradient)


def of(parameter: torch.Tensor) -> MainGrad | None:
    """The parameter's, where a training has given it one."""
    return getattr(parameter, "main_grad", None)
