"""Learning rates over training: what Lightning wants as `lr_scheduler`, from an optimizer and the number of steps."""

from __future__ import annotations

import math
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, ReduceLROnPlateau


def _rise(steps: int, warmup: float) -> int:
    return max(round(warmup * steps), 1)


def warmup_cosine(optimizer: Optimizer, steps: int, warmup: float = 0.03, last: float = 0.01) -> dict[str, Any]:
    """A straight rise, then half a cosine.

    Args:
        optimizer: whose learning rate is the highest.
        steps: of the whole training.
        warmup: share of the steps in which the rate rises.
        last: rate at the end, relative to the highest.
    """
    rise = _rise(steps, warmup)

    def factor(step: int) -> float:
        if step < rise:
            return (step + 1) / rise
        return last + (1.0 - last) * 0.5 * (1.0 + math.cos(math.pi * min(step / steps, 1.0)))

    return {"scheduler": LambdaLR(optimizer, factor), "interval": "step"}


def constant(optimizer: Optimizer, steps: int, warmup: float = 0.03) -> dict[str, Any]:
    """A straight rise, then always the same; arguments as for `warmup_cosine`."""
    rise = _rise(steps, warmup)
    return {"scheduler": LambdaLR(optimizer, lambda step: min((step + 1) / rise, 1.0)), "interval": "step"}


def plateau(
    optimizer: Optimizer, steps: int, factor: float = 0.5, patience: int = 10, last: float = 0.01
) -> dict[str, Any]:
    """The same until the validation loss has not fallen for some validations, then lower.

    Args:
        optimizer: whose learning rate is the first.
        steps: not used; how long training will be does not matter.
        factor: on the rate, when it is lowered.
        patience: validations without improvement before that.
        last: lowest rate, relative to the first.
    """
    lowest = [last * group["lr"] for group in optimizer.param_groups]
    scheduler = ReduceLROnPlateau(optimizer, factor=factor, patience=patience, min_lr=lowest)
    return {"scheduler": scheduler, "interval": "epoch", "monitor": "val/loss"}
