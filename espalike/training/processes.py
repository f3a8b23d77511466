"""Means over the batches of all processes: they make the gradients of several processes equal those of one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

_alone = False


@contextmanager
def alone() -> Iterator[None]:
    """Compute in this process as if there were no others: means are over its own batch, and it waits for none."""
    global _alone
    before, _alone = _alone, True
    try:
        yield
    finally:
        _alone = before


def n_processes() -> int:
    """Number of processes that train together; 1 where `torch.distributed` does not run, and within `alone`."""
    running = torch.distributed.is_available() and torch.distributed.is_initialized() and not _alone
    return torch.distributed.get_world_size() if running else 1


def summed(values: Tensor) -> Tensor:
    """Sum over processes, elementwise; not differentiable. Every process must call this equally often."""
    values = values.detach().clone()
    if n_processes() > 1:
        torch.distributed.all_reduce(values)
    return values


def gathered(what: Any) -> list[Any]:
    """The arguments of all processes, in the order of their ranks. Every process must call this equally often."""
    if n_processes() == 1:
        return [what]
    results: list[Any] = [None] * n_processes()
    torch.distributed.all_gather_object(results, what)
    return results


def shared_mean(values: Tensor, where: Tensor) -> Tensor:
    """This process's share of the mean of `values` where a condition holds, over the batches of all processes.

    DDP averages gradients over processes. The share is this process's sum, divided by the count of *all* processes and
    multiplied by the number of processes. So the average of the shares, and of their gradients, is exactly the global
    mean, however unequal the counts are. In one process it is the mean itself. It is zero when the condition holds
    nowhere.

    Every process must call this for the same losses in the same order, whatever its batch contains: if one skipped a
    call, the others would wait forever.

    Args:
        values: any shape.
        where: bool, same shape.
    """
    return shared_ratio(torch.where(where, values, 0.0).sum(), where.sum())


def shared_ratio(total: Tensor, count: Tensor) -> Tensor:
    """`shared_mean` of a sum over this process's batch and the number of its values."""
    return total * n_processes() / summed(count).clamp_min(1)


class Means:
    """Means of named numbers over the steps of an epoch, in float64, over all processes.

    Unlike Lightning's own, they can be put into a checkpoint in the middle of an epoch.
    """

    def __init__(self) -> None:
        self._sums: dict[tuple[str, ...], Tensor] = {}  # weighted sums of numbers added together, and sum of weights

    def add(self, values: Mapping[str, Tensor], weight: float = 1.0) -> None:
        """Add the numbers of one step. Losses are shares of `shared_mean`: all processes have the same weight."""
        row = torch.stack([value.detach().double() for value in values.values()])
        row = torch.cat([row * weight, row.new_tensor([weight])])
        names = tuple(values)
        self._sums[names] = self._sums[names].to(row) + row if names in self._sums else row

    def pop(self) -> dict[str, float]:
        """Return the means and begin a new epoch."""
        sums, self._sums = self._sums, {}
        means: dict[str, float] = {}
        for names, total in sums.items():
            row = summed(total)
            means |= zip(names, (row[:-1] / row[-1]).tolist(), strict=True)
        return means

    def state(self) -> list[tuple[list[str], Tensor]]:
        """The sums for a checkpoint; the mean over processes, since all processes restore the same checkpoint."""
        return [(list(names), summed(row) / n_processes()) for names, row in self._sums.items()]

    def restore(self, state: list[tuple[list[str], Tensor]]) -> None:
        """Continue from a `state`."""
        self._sums = {tuple(names): row for names, row in state}
