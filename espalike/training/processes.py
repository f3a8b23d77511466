"""Means over the batches of all processes: what makes the gradients of several processes those of one."""

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
    """What every process calls this with, in the order of their ranks."""
    if n_processes() == 1:
        return [what]
    everyones: list[Any] = [None] * n_processes()
    torch.distributed.all_gather_object(everyones, what)
    return everyones


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
    return shared_ratio(torch.where(where, values, 0.0).sum(), where.sum())


def shared_ratio(total: Tensor, count: Tensor) -> Tensor:
    """The same of a sum over this process' batch and of how many values it holds."""
    return total * n_processes() / summed(count).clamp_min(1)


class Means:
    """Means of named numbers over the steps of an epoch, in float64, over all processes.

    Unlike Lightning's own, they can be put into a checkpoint in the middle of an epoch.
    """

    def __init__(self) -> None:
        self._sums: dict[tuple[str, ...], Tensor] = {}  # by names that come together: their sums, and of the weights

    def add(self, values: Mapping[str, Tensor], weight: float = 1.0) -> None:
        """Numbers of one step. Those of losses are the shares of `shared_mean`, so processes weigh the same."""
        row = torch.stack([value.detach().double() for value in values.values()])
        row = torch.cat([row * weight, row.new_tensor([weight])])
        names = tuple(values)
        self._sums[names] = self._sums[names].to(row) + row if names in self._sums else row

    def pop(self) -> dict[str, float]:
        """The means; after that, an epoch begins anew."""
        sums, self._sums = self._sums, {}
        found: dict[str, float] = {}
        for names, total in sums.items():
            row = summed(total)
            found |= zip(names, (row[:-1] / row[-1]).tolist(), strict=True)
        return found

    def state(self) -> list[tuple[list[str], Tensor]]:
        """What a checkpoint needs; of several processes their mean, since a checkpoint is one for all."""
        return [(list(names), summed(row) / n_processes()) for names, row in self._sums.items()]

    def restore(self, state: list[tuple[list[str], Tensor]]) -> None:
        """Go on from `state`."""
        self._sums = {tuple(names): row for names, row in state}
