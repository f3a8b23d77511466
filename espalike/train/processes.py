"""Means over the batches of all processes: what makes the gradients of several processes those of one."""

from __future__ import annotations

import torch
from torch import Tensor


def n_processes() -> int:
    """Number of processes that train together; 1 where `torch.distributed` does not run."""
    running = torch.distributed.is_available() and torch.distributed.is_initialized()
    return torch.distributed.get_world_size() if running else 1


def summed(values: Tensor) -> Tensor:
    """Sum over processes, elementwise; not differentiable. Every process must call this equally often."""
    values = values.detach().clone()
    if n_processes() > 1:
        torch.distributed.all_reduce(values)
    return values


def shared_mean(values: Tensor, where: Tensor) -> Tensor:
    """A process' share of the mean of `values` where a condition holds, over the batches of all processes.

    DDP averages gradients over processes. The share is this process' sum, divided by the count of *all* processes,
    times their number; so the average of the shares, and of their gradients, is the global mean exactly, however
    unequal the counts are. In one process it is the mean itself. Zero when the condition holds nowhere.

    Every process must call this for the same losses in the same order, whatever its own batch holds: a condition on
    the data in front of a call would leave the others waiting.

    Args:
        values: any shape.
        where: bool, of the same shape.
    """
    total = torch.where(where, values, 0.0).sum()
    return total * n_processes() / summed(where.sum()).clamp_min(1)
