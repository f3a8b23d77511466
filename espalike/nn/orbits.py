"""Atoms and tuples that a network cannot distinguish are computed once: a methyl group has one kind of hydrogen.

After n layers of message passing the representation of an atom depends on its surroundings up to n bonds away, so
atoms with equal surroundings have equal representations, in one molecule or in several. Each layer therefore runs on
the quotient of the batch's graph: one node per class of equal atoms, with the incoming bonds of one of them. The result
is the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import reduce

import torch
from torch import Tensor

from espalike.batch import Batch

_INT64 = 2**63 - 1


@dataclass(frozen=True, eq=False)
class Hop:
    """The graph of one layer: classes of atoms that are equal up to one bond farther than in the previous layer.

    Attributes:
        parent: the class of the previous layer that each class is a part of, shape `(C,)`.
        edges: classes at the two ends of the incoming bonds of one atom of each class, shape `(2, E)`.
    """

    parent: Tensor
    edges: Tensor


@dataclass(frozen=True, eq=False)
class Reads:
    """What a head computes from atoms for tuples that are read in several orders, without repetition.

    Attributes:
        atoms: the atoms in each class of positions, ascending, each `(A,)`.
        columns: for each position, the place of its atom among those of its class, one per distinct row, each `(R,)`.
        row: the row of each tuple in the first order, then in the second, and so on, shape `(orders * T,)`.
    """

    atoms: tuple[Tensor, ...]
    columns: tuple[Tensor, ...]
    row: Tensor

    @staticmethod
    def of(idx: Tensor, orders: Sequence[tuple[int, ...]], position: Sequence[int], n: int) -> Reads:
        """The rows of tuples.

        Args:
            idx: atoms of each tuple, below `n`, shape `(T, k)`.
            orders: the orders in which each tuple is read.
            position: class of each position, as a number.
            n: number of atoms.
        """
        size = idx.shape[1]
        rows, row = distinct(torch.cat([idx[:, order] for order in orders]), [tuple(range(size))], n)
        atoms, columns = [], [row] * size
        for one in range(max(position) + 1):
            places = [p for p, of in enumerate(position) if of == one]
            found, place = torch.unique(rows[:, places], return_inverse=True)
            atoms.append(found)
            for p, column in zip(places, place.unbind(-1), strict=True):
                columns[p] = column.contiguous()
        return Reads(tuple(atoms), tuple(columns), row)


@dataclass(frozen=True, eq=False)
class Orbits:
    """A batch's graph in which equal atoms are one node.

    Attributes:
        entry: one atom of each class of equal features: the rows of the first layer.
        hops: the graph of each layer.
        of: class of each atom after the last layer, shape `(N,)`.
        atom: one atom of each of these classes, shape `(C,)`.
        numbers: their atomic numbers, shape `(C,)`.
        degrees: their numbers of bonds, shape `(C,)`.
    """

    entry: Tensor
    hops: tuple[Hop, ...]
    of: Tensor
    atom: Tensor
    numbers: Tensor
    degrees: Tensor
    _distinct: dict[tuple, tuple[Tensor, Tensor, Tensor]] = field(default_factory=dict, repr=False)
    _reads: dict[tuple, tuple[Tensor, Reads]] = field(default_factory=dict, repr=False)

    def distinct(self, idx: Tensor, orders: Sequence[tuple[int, ...]]) -> tuple[Tensor, Tensor]:
        """The result of `distinct` for tuples of atoms `(T, k)`; the members of an ensemble have it in common."""
        key = id(idx), tuple(orders)
        if key not in self._distinct:
            self._distinct[key] = idx, *distinct(self.of[idx], orders, len(self.atom))
        return self._distinct[key][1:]

    def reads(self, idx: Tensor, orders: Sequence[tuple[int, ...]], position: Sequence[int]) -> Reads:
        """The result of `Reads.of` for tuples of classes `(T, k)`; the members of an ensemble have it in common."""
        key = id(idx), tuple(orders), tuple(position)
        if key not in self._reads:
            self._reads[key] = idx, Reads.of(idx, orders, position, len(self.atom))
        return self._reads[key][1]

    @staticmethod
    def of_batch(batch: Batch, layers: int, alike: bool = True) -> Orbits:
        """Classes of a batch's atoms by colour refinement (B. Weisfeiler, A. Leman, 1968), one round per layer.

        A colour is a 64-bit hash; the first is that of features, level of theory and number of bonds.

        Args:
            batch: the molecules.
            layers: number of layers.
            alike: whether equal atoms are one class; False: each atom is a separate class.

        Raises:
            TypeError: for molecules instead of a batch.
        """
        if not isinstance(batch, Batch):
            raise TypeError(f"a network takes a Batch, got {type(batch).__name__}; model.parametrize takes molecules")
        source, target = batch.edges
        everyone = torch.arange(len(batch.numbers), device=target.device)
        degrees = torch.zeros_like(everyone).index_add(0, target, torch.ones_like(target))
        colour = everyone
        if alike:
            known = torch.cat([batch.x.double().view(torch.int64), torch.stack([batch.numbers, degrees], 1)], 1)
            place = torch.arange(1, known.shape[1] + 1, device=known.device)
            colour = _scrambled(_scrambled(known + _scrambled(place)).sum(1) + batch.level[batch.mol])
        entry, of = _classes(colour)
        atom, hops = entry, []
        for _ in range(layers):
            if alike:  # one number for a multiset of neighbours: the sum of their random numbers
                colour = _scrambled(3 * colour + torch.zeros_like(colour).index_add(0, target, colour[source]))
            atom, finer = _classes(colour)
            chosen = torch.zeros_like(everyone, dtype=torch.bool).index_fill(0, atom, True)
            hops.append(Hop(of[atom], finer[batch.edges[:, chosen[target]]]))
            of = finer
        return Orbits(entry, tuple(hops), of, atom, batch.numbers[atom], degrees[atom])


def _classes(colour: Tensor) -> tuple[Tensor, Tensor]:
    """The first atom of each colour, ascending, and the number of each atom's colour.

    So classes of atoms that are near each other are near each other in memory.
    """
    colours, of = torch.unique(colour, return_inverse=True)
    everyone = torch.arange(len(of), device=of.device)
    first, order = torch.full_like(colours, len(of)).scatter_reduce(0, of, everyone, "amin").sort()
    return first, torch.empty_like(order).index_copy(0, order, everyone[: len(order)])[of]


def _scrambled(z: Tensor) -> Tensor:
    """A pseudorandom 64-bit number for each integer (the finalizer of G. Steele's SplitMix64)."""
    for shift, factor in ((30, 0xBF58476D1CE4E5B9 - 2**64), (27, 0x94D049BB133111EB - 2**64), (31, 1)):
        z = (z ^ (z >> shift & 2 ** (64 - shift) - 1)) * factor  # the shift of a signed integer copies its sign
    return z


def distinct(idx: Tensor, orders: Sequence[tuple[int, ...]], n: int) -> tuple[Tensor, Tensor]:
    """Tuples without repetition; tuples that differ by one of the orders of their members are the same.

    Args:
        idx: members of each tuple, below `n`, shape `(T, k)`.
        orders: the orders in which a tuple may be read, a group of permutations.
        n: number of possible members.

    Returns:
        The distinct tuples `(U, k)`, and the index of each tuple among them `(T,)`.
    """
    size = idx.shape[1]
    if n**size > _INT64:
        return torch.unique(idx, dim=0, return_inverse=True)
    power = n ** torch.arange(size, device=idx.device)
    keys = reduce(torch.minimum, ((idx[:, order] * power).sum(-1) for order in orders))
    known, inverse = torch.unique(keys, return_inverse=True)
    return known.unsqueeze(-1) // power % n, inverse
