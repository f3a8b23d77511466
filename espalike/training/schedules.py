"""Learning rates over training: each function returns the `lr_scheduler` configuration that Lightning expects."""

from __future__ import annotations

import math
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, ReduceLROnPlateau

from espalike.bounds import check_number


def _rise(steps: int, warmup: float) -> int:
    """Number of steps in which the rate rises."""
    check_number("schedule.warmup", warmup, 0, 1)
    return max(round(warmup * steps), 1)


def warmup_cosine(optimizer: Optimizer, steps: int, warmup: float = 0.03, last: float = 0.01) -> dict[str, Any]:
    """A linear rise, then half a cosine.

    Args:
        optimizer: its learning rate is the highest one.
        steps: number of steps of the whole training.
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
    """A linear rise, then a constant rate; arguments as for `warmup_cosine`."""
    rise = _rise(steps, warmup)
    return {"scheduler": LambdaLR(optimizer, lambda step: min((step + 1) / rise, 1.0)), "interval": "step"}


def plateau(
    optimizer: Optimizer, steps: int, factor: float = 0.5, patience: int = 10, last: float = 0.01
) -> dict[str, Any]:
    """A constant rate that is reduced whenever the validation loss has stopped falling.

    Args:
        optimizer: its learning rate is the first one.
        steps: not used; the rate does not depend on the length of training.
        factor: the rate is multiplied by it, above 0 and below 1.
        patience: validations without improvement before the rate is reduced.
        last: lowest rate, relative to the first.

    Raises:
        ValueError: when patience is negative, or factor is not below 1.
    """
    check_number("schedule.patience", patience, 0)
    check_number("schedule.factor", factor, 0)
    if factor >= 1:
        raise ValueError(f"schedule.factor={factor}: expected a number below 1")
    lowest = [last * group["lr"] for group in optimizer.param_groups]
    scheduler = ReduceLROnPlateau(optimizer, factor=factor, patience=patience, min_lr=lowest)
    return {"scheduler": scheduler, "interval": "epoch", "monitor": "val/loss"}
