"""Links: raw network output, of order one, to a physical value around a mean and a spread."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

Link = Callable[[Tensor, Tensor, float], Tensor]
_LARGEST_LOG = 3.0
"""A positive parameter stays within a factor e³ of its mean, also for chemistry that was rare in training."""


def free(raw: Tensor, mean: Tensor, std: float) -> Tensor:
    """mean + std · raw: a value of either sign."""
    return mean + std * raw


def positive(raw: Tensor, mean: Tensor, std: float) -> Tensor:
    """mean · exp(std · raw), `std` relative to the mean; the exponent is bounded smoothly at ±3."""
    return mean * torch.exp(_LARGEST_LOG * torch.tanh(std * raw / _LARGEST_LOG))


def bounded(lo: float, hi: float) -> Link:
    """A value in (lo, hi) whose slope at the mean is `std`: the `range(lo,hi)` link."""

    return partial(_within, lo, hi)  # a function inside a function could not be pickled


def _within(lo: float, hi: float, raw: Tensor, mean: Tensor, std: float) -> Tensor:
    fraction = (mean - lo) / (hi - lo)
    return lo + (hi - lo) * torch.sigmoid(torch.logit(fraction) + raw * std / ((hi - lo) * fraction * (1.0 - fraction)))


def find(name: str) -> Link:
    """The link called `positive`, `free` or `range(lo,hi)`.

    Raises:
        ValueError: for any other name.
    """
    if name in {"free", "positive"}:
        return {"free": free, "positive": positive}[name]
    match = re.fullmatch(r"range\(([^,]+),([^,]+)\)", name.replace(" ", ""))
    if not match or not math.isfinite(float(match[1])) or not float(match[1]) < float(match[2]):
        raise ValueError(f"unknown link {name!r}; expected positive, free, charge or range(lo,hi)")
    return bounded(float(match[1]), float(match[2]))
