"""Atoms and tuples that a network cannot tell apart are looked at once: a methyl group has one kind of hydrogen.

A message-passing layer gives equal atoms equal representations, so it may run on the quotient of the molecular graph,
one node a class of equal atoms, with the incoming bonds of one atom of each class. The result is the same; a drug-like
molecule has a third fewer nodes than atoms.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import torch
from torch import Tensor

from espalike.types import Batch

_INT64 = 2**63 - 1


@dataclass(frozen=True, eq=False)
class Orbits:
    """A batch's graph with equal atoms made one, `C` of them.

    Attributes:
        of: class of each atom, shape `(N,)`.
        atom: one atom of each class, shape `(C,)`.
        edges: classes at the two ends of the bonds that come in at those atoms, shape `(2, E)`.
        numbers: atomic numbers, shape `(C,)`.
        degrees: number of bonds, shape `(C,)`.
    """

    of: Tensor
    atom: Tensor
    edges: Tensor
    numbers: Tensor
    degrees: Tensor

    @staticmethod
    def of_batch(batch: Batch) -> Orbits:
        """Classes of a batch's atoms; each atom is its own where `batch.orbit` is None."""
        n = len(batch.numbers)
        everyone = torch.arange(n, device=batch.numbers.device)
        orbit = everyone if batch.orbit is None else batch.orbit
        first = orbit == everyone
        atom = everyone[first]
        of = (first.cumsum(0) - 1)[orbit]
        edges = of[batch.edges[:, first[batch.edges[1]]]]
        degrees = torch.zeros_like(atom).index_add(0, edges[1], torch.ones_like(edges[1]))
        return Orbits(of, atom, edges, batch.numbers[atom], degrees)


def distinct(idx: Tensor, orders: Sequence[tuple[int, ...]], n: int) -> tuple[Tensor, Tensor]:
    """Tuples without repetition, those that differ by one of the orders of their members being the same.

    Args:
        idx: members of each tuple, below `n`, shape `(T, k)`.
        orders: the orders in which a tuple may be read, a group of permutations.
        n: number of what tuples are made of.

    Returns:
        The distinct tuples `(U, k)`, and which of them each tuple is `(T,)`.
    """
    size = idx.shape[1]
    if n**size > _INT64:
        return torch.unique(idx, dim=0, return_inverse=True)
    power = n ** torch.arange(size, device=idx.device)
    keys = reduce(torch.minimum, ((idx[:, order] * power).sum(-1) for order in orders))
    found, inverse = torch.unique(keys, return_inverse=True)
    return found.unsqueeze(-1) // power % n, inverse
