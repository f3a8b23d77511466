"""Internal coordinates of a batch with their Wilson B rows; they need no parameters.

A bond's length occurs in the bond and in couplings of its angles and torsions. It is computed once: a coordinate that
is listed among the bonds, angles or proper torsions is looked up there.

Tuples lead and conformers follow, `(T, 3, K)`: gathers and scatters move whole rows, sums over the three components run
along contiguous memory.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from espalike.geometry import Angle, Coordinate, Dihedral, Distance
from espalike.system import Bound
from espalike.tuples import Kind, Moves

LENDERS: dict[type, tuple[Kind, Coordinate]] = {
    Distance: (Kind.BOND, Distance(0, 1)),
    Angle: (Kind.ANGLE, Angle(0, 1, 2)),
    Dihedral: (Kind.PROPER, Dihedral(0, 1, 2, 3)),
}
"""Tuples and coordinate among which coordinates of a type are looked up first."""

_MOST_ATOMS = 50_000
"""Up to this number of atoms, four atom indices fit into one 64-bit integer, which sorts faster than rows."""


@dataclass(frozen=True, eq=False)
class CoordinateValues(Moves):
    """One internal coordinate of many tuples.

    Attributes:
        q: values [Å or rad], shape `(T, K)`.
        rows: Wilson B rows of all its atoms but the last, each `(T, 3, K)`; the last row is minus their sum.
    """

    q: Tensor
    rows: tuple[Tensor, ...]


def coordinate_values(coordinate: Coordinate, idx: Tensor, x: Tensor) -> CoordinateValues:
    """A coordinate's values and B rows.

    Args:
        coordinate: the coordinate.
        idx: its atoms, in its order, shape `(T, n)`.
        x: positions [Å], shape `(N, 3, K)`.
    """
    q, rows = coordinate(tuple(x.index_select(0, atoms) for atoms in idx.unbind(-1)), dim=1)
    return CoordinateValues(q, rows[:-1])


@dataclass(frozen=True, eq=False)
class InternalCoordinate:
    """A coordinate that a term needs, of all tuples of a kind.

    Attributes:
        kind: the tuples' kind.
        coordinate: which of their coordinates.
        idx: its atoms, shape `(T, n)`.
    """

    kind: Kind
    coordinate: Coordinate
    idx: Tensor


Place = tuple[int, Tensor | None]
"""Position in the list of coordinates, and the rows to take there; None: all rows, in order."""


def pooled_coordinates(
    terms: Sequence[Bound], n_atoms: int
) -> tuple[list[InternalCoordinate], dict[tuple[int, Coordinate], Place]]:
    """The coordinates to compute for these terms, each tuple once, and the place of each term's coordinates in them.

    Places are by `(id(tuples.idx), coordinate)`.
    """
    needed: list[InternalCoordinate] = []
    places: dict[tuple[int, Coordinate], Place] = {}
    listed = {bound.term.kind: bound.tuples.idx for bound in reversed(terms)}

    def added(kind: Kind, idx: Tensor, coordinate: Coordinate) -> int:
        key = id(idx), coordinate
        if key not in places:
            places[key] = len(needed), None
            needed.append(InternalCoordinate(kind, coordinate, idx[:, coordinate.atoms]))
        return places[key][0]

    for bound in terms:
        idx, kind = bound.tuples.idx, bound.term.kind
        for coordinate in bound.term.coordinates:
            lender, as_listed = _lender(kind, coordinate, listed)
            if (id(idx), coordinate) in places:
                continue
            if lender is not kind:
                rows = rows_of(idx[:, coordinate.atoms], listed[lender], n_atoms)
                if rows is not None:
                    places[id(idx), coordinate] = added(lender, listed[lender], as_listed), rows
                    continue
            added(kind, idx, coordinate)
    return needed, places


def _lender(kind: Kind, coordinate: Coordinate, listed: Mapping[Kind, Tensor]) -> tuple[Kind, Coordinate]:
    """The kind of tuples among which a coordinate is looked up, and its name there; itself if it is not listed."""
    lender, as_listed = LENDERS[type(coordinate)]
    if lender in listed and lender is not kind and _is_path(kind, coordinate.atoms):
        return lender, as_listed
    return kind, coordinate


def _is_path(kind: Kind, atoms: tuple[int, ...]) -> bool:
    """Whether each of these members of a tuple is bonded to the next."""
    if kind is Kind.PAIR:
        return False
    star = kind in (Kind.IMPROPER, Kind.ANGLE_PAIR)  # all bonded to the second atom
    return all(1 in ends if star else abs(ends[0] - ends[1]) == 1 for ends in pairwise(atoms))


def rows_of(tuples: Tensor, listed: Tensor, n_atoms: int) -> Tensor | None:
    """For each tuple, read in either direction, its row in `listed`, shape `(T,)`; None if one is not listed."""
    if not len(listed):
        return None if len(tuples) else tuples.new_zeros(0)
    both = torch.cat([listed, tuples])
    both = torch.where((both[:, 0] > both[:, -1]).unsqueeze(-1), both.flip(1), both)
    if n_atoms > _MOST_ATOMS:
        keys = torch.unique(both, dim=0, return_inverse=True)[1]
    else:
        keys = (both * n_atoms ** torch.arange(both.shape[1], device=both.device)).sum(-1)
    known, order = keys[: len(listed)].sort()
    place = torch.searchsorted(known, keys[len(listed) :]).clamp_max(len(known) - 1)
    return order[place] if bool((known[place] == keys[len(listed) :]).all()) else None
