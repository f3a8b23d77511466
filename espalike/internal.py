"""Internal coordinates of a batch with their Wilson B rows: what geometry there is, before any parameter is known.

The same atoms' bond length is in a bond, in the couplings of its angles and of its torsions. It is computed once: a
coordinate that is listed among the bonds, angles or proper torsions is looked up there.

Tuples lead and conformers follow, `(T, 3, K)`: gathers and scatters move whole rows, sums over the three components run
along contiguous memory.
"""

from __future__ import annotations

from collections.abc import Collection, Container, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from espalike.geometry import Angle, Coordinate, Dihedral, Distance
from espalike.system import Bound
from espalike.terms.base import Term
from espalike.tuples import Kind, Moves

LENDERS: dict[type, tuple[Kind, Coordinate]] = {
    Distance: (Kind.BOND, Distance(0, 1)),
    Angle: (Kind.ANGLE, Angle(0, 1, 2)),
    Dihedral: (Kind.PROPER, Dihedral(0, 1, 2, 3)),
}
"""Where coordinates of a type are looked up first."""

_MOST_ATOMS = 50_000
"""Up to so many, four atom indices fit into one 64-bit integer, which sorts faster than rows."""


@dataclass(frozen=True, eq=False)
class Values(Moves):
    """One internal coordinate of many tuples.

    Attributes:
        q: values, shape `(T, K)`.
        rows: Wilson B rows of all its atoms but the last, each `(T, 3, K)`; the last one's is minus their sum.
    """

    q: Tensor
    rows: tuple[Tensor, ...]


def measured(coordinate: Coordinate, idx: Tensor, x: Tensor) -> Values:
    """A coordinate of tuples `idx` `(T, n)`, its own atoms, at positions `x` `(N, 3, K)` [Å]."""
    q, rows = coordinate(tuple(x.index_select(0, atoms) for atoms in idx.unbind(-1)), dim=1)
    return Values(q, rows[:-1])


Stored = Mapping[tuple[Kind, Coordinate], Values]
"""Coordinates of all tuples of a kind in a batch, measured before."""


@dataclass(frozen=True, eq=False)
class Wanted:
    """A coordinate that some term needs, of all tuples of a kind.

    Attributes:
        kind: the tuples' kind.
        coordinate: which of their coordinates.
        idx: its atoms, shape `(T, n)`.
    """

    kind: Kind
    coordinate: Coordinate
    idx: Tensor


Place = tuple[int, Tensor | None]
"""Number of what is wanted, and rows there; None: all of them, in order."""


def wanted(terms: Sequence[Bound], n_atoms: int) -> tuple[list[Wanted], dict[tuple[int, Coordinate], Place]]:
    """What has to be measured for these terms, each tuple once; and where a term finds its coordinates.

    The second is by `(id(tuples.idx), coordinate)`.
    """
    needed: list[Wanted] = []
    places: dict[tuple[int, Coordinate], Place] = {}
    listed = {bound.term.kind: bound.tuples.idx for bound in reversed(terms)}

    def own(kind: Kind, idx: Tensor, coordinate: Coordinate) -> int:
        key = id(idx), coordinate
        if key not in places:
            places[key] = len(needed), None
            needed.append(Wanted(kind, coordinate, idx[:, coordinate.atoms]))
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
                    places[id(idx), coordinate] = own(lender, listed[lender], as_listed), rows
                    continue
            own(kind, idx, coordinate)
    return needed, places


def needs(terms: Sequence[Term]) -> tuple[tuple[Kind, Coordinate], ...]:
    """What `wanted` will list for these terms, of whatever molecules."""
    kinds = {term.kind for term in terms}
    found = [_lender(term.kind, coordinate, kinds) for term in terms for coordinate in term.coordinates]
    return tuple(dict.fromkeys(found))


def _lender(kind: Kind, coordinate: Coordinate, listed: Container[Kind]) -> tuple[Kind, Coordinate]:
    """Tuples among which a coordinate is looked up, and which of theirs it is; itself where that cannot be."""
    lender, as_listed = LENDERS[type(coordinate)]
    if lender in listed and lender is not kind and _is_path(kind, coordinate.atoms):
        return lender, as_listed
    return kind, coordinate


def _is_path(kind: Kind, atoms: tuple[int, ...]) -> bool:
    """Whether these members of a tuple are bonded one to the next."""
    if kind is Kind.PAIR:
        return False
    star = kind in (Kind.IMPROPER, Kind.ANGLE_PAIR)  # all bonded to the second atom
    return all(1 in ends if star else abs(ends[0] - ends[1]) == 1 for ends in pairwise(atoms))


def rows_of(tuples: Tensor, listed: Tensor, n_atoms: int) -> Tensor | None:
    """For each tuple, read in either direction, its row among those listed, shape `(T,)`; None if one is not there."""
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


def measure(terms: Sequence[Bound], xyz: Tensor, kinds: Collection[Kind] = tuple(Kind)) -> Stored:
    """What these terms need at coordinates `xyz` `(K, N, 3)` [Å], of tuples of some kinds."""
    x = xyz.permute(1, 2, 0).contiguous()
    needed, _ = wanted(terms, len(x))
    return {(w.kind, w.coordinate): measured(w.coordinate, w.idx, x) for w in needed if w.kind in kinds}
