"""Bonds → angles, propers, impropers and nonbonded pairs: canonical, each tuple once, by array operations only.

Canonical orders, none of which depends on the order in which bonds were given:

- bond `(i, j)` with `i < j`;
- angle `(i, j, k)`, centre `j` in the middle, `i < k`;
- proper `(i, j, k, l)` with `j < k` for the central bond; three-rings (`i = l`) are not torsions;
- improper `(a, centre, b, c)` with `a < b < c`, one row for each carbon, nitrogen or boron with exactly three
  neighbours. Connectivity alone decides, so the drawn resonance form does not matter;
- angle pair `(a, centre, shared, b)` with `a < b`: two angles at a centre that share a bond;
- proper pair `(i, j, k, l, m)` with `j < l`: two propers that share three atoms, not those of a four-ring (`i = m`);
- pair `(i, j)` with `i < j`, at least three bonds apart by every path.

Rows are sorted. Torsions about a linear centre have no defined angle and are left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from espalike.linear import linear_centres
from espalike.tuples import list_pairs

_TRIGONAL = (5, 6, 7)  # elements that get an improper at three neighbours: B, C, N


@dataclass(frozen=True, eq=False)
class Topology:
    """The tuples of one molecule, or of several side by side, each kind listed when it is asked for; arrays are int64.

    Attributes:
        numbers: atomic numbers, shape `(A,)`.
        bonds: shape `(B, 2)`.
        orders: Kekulé bond orders, shape `(B,)`.
        charges: formal charges [e], shape `(A,)`.
        degrees: number of neighbours, shape `(A,)`.
        source: atoms at the beginning of directed edges, which are sorted, shape `(2 B,)`.
        target: atoms at their ends, shape `(2 B,)`.
        starts: where the edges of each atom start, shape `(A + 1,)`.
    """

    numbers: np.ndarray
    bonds: np.ndarray
    orders: np.ndarray
    charges: np.ndarray
    degrees: np.ndarray
    source: np.ndarray
    target: np.ndarray
    starts: np.ndarray

    @property
    def n_atoms(self) -> int:
        """Number of atoms."""
        return len(self.numbers)

    @cached_property
    def linear(self) -> np.ndarray:
        """Linear sp centres, see `espalike.linear`, shape `(A,)`, bool."""
        return linear_centres(self.numbers, self.bonds, self.orders, self.charges)

    def _neighbours(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """For each atom in `rows`, its neighbours one after the other: `(which row, neighbour)`."""
        counts = self.degrees[rows]
        which = np.repeat(np.arange(len(rows)), counts)
        within = np.arange(len(which)) - (np.cumsum(counts) - counts)[which]
        return which, self.target[self.starts[rows][which] + within]

    @cached_property
    def angles(self) -> np.ndarray:
        """Shape `(T, 3)`."""
        which, far = self._neighbours(self.target)
        angles = np.stack([self.source[which], self.target[which], far], axis=1)
        return _sorted_rows(angles[angles[:, 0] < angles[:, 2]])

    @cached_property
    def _paths(self) -> np.ndarray:
        """Four different atoms in a row, shape `(T, 4)`."""
        which, first = self._neighbours(self.bonds[:, 0])
        half = np.stack([first, self.bonds[which, 0], self.bonds[which, 1]], axis=1)
        which, last = self._neighbours(half[:, 2])
        paths = np.concatenate([half[which], last[:, None]], axis=1)
        i, j, k, l = paths.T  # noqa: E741 - the field's letters
        return paths[(i != k) & (l != j) & (i != l)]

    @cached_property
    def propers(self) -> np.ndarray:
        """Shape `(T, 4)`."""
        paths = self._paths
        return _sorted_rows(paths[~(self.linear[paths[:, 1]] | self.linear[paths[:, 2]])])

    @cached_property
    def impropers(self) -> np.ndarray:
        """Shape `(T, 4)`, centre second."""
        centres = np.flatnonzero((self.degrees == 3) & np.isin(self.numbers, _TRIGONAL))
        outer = self.target[self.starts[centres][:, None] + np.arange(3)]  # already ascending
        return _sorted_rows(np.stack([outer[:, 0], centres, outer[:, 1], outer[:, 2]], axis=1))

    @cached_property
    def angle_pairs(self) -> np.ndarray:
        """From each bond (centre, shared), every two further neighbours of the centre, shape `(T, 4)`."""
        which, first = self._neighbours(self.source)
        angles = np.stack([first, self.source[which], self.target[which]], axis=1)
        angles = angles[angles[:, 0] != angles[:, 2]]
        which, second = self._neighbours(angles[:, 1])
        rows = np.concatenate([angles[which], second[:, None]], axis=1)
        return _sorted_rows(rows[(rows[:, 0] < rows[:, 3]) & (rows[:, 3] != rows[:, 2])])

    @cached_property
    def proper_pairs(self) -> np.ndarray:
        """Each proper, read in both directions, plus a neighbour of its last atom; kept if j < l; shape `(T, 5)`."""
        both = np.concatenate([self.propers, self.propers[:, ::-1]])
        both = both[~self.linear[both[:, 3]]]
        which, last = self._neighbours(both[:, 3])
        rows = np.concatenate([both[which], last[:, None]], axis=1)
        i, j, k, l, m = rows.T  # noqa: E741 - the field's letters
        return _sorted_rows(rows[(j < l) & (m != k) & (m != j) & (m != i)])

    @cached_property
    def excluded(self) -> np.ndarray:
        """Pairs one or two bonds apart, shape `(T, 2)`."""
        return self._pairs_of(_keys(np.concatenate([self.bonds, self.angles[:, [0, 2]]]), self.n_atoms))

    @cached_property
    def pairs14(self) -> np.ndarray:
        """Pairs whose shortest path is exactly three bonds, shape `(T, 2)`."""
        near = self.excluded[:, 0] * self.n_atoms + self.excluded[:, 1]
        return self._pairs_of(np.setdiff1d(_keys(self._paths[:, [0, 3]], self.n_atoms), near, assume_unique=True))

    def _pairs_of(self, keys: np.ndarray) -> np.ndarray:
        return np.stack(np.divmod(keys, max(self.n_atoms, 1)), axis=1)

    @cached_property
    def pairs(self) -> np.ndarray:
        """Of one molecule: nonbonded pairs that are not excluded, shape `(T, 2)`."""
        return self._listed[0]

    @cached_property
    def is14(self) -> np.ndarray:
        """Of one molecule: which of the pairs are exactly three bonds apart, shape `(T,)`, bool."""
        return self._listed[1]

    @cached_property
    def _listed(self) -> tuple[np.ndarray, np.ndarray]:
        return list_pairs(np.array([self.n_atoms]), self.excluded, self.pairs14)


def enumerate_tuples(numbers, bonds, orders, charges=None) -> Topology:
    """All tuples of a molecule, or of several side by side.

    Args:
        numbers: atomic numbers, shape `(A,)`.
        bonds: atom index pairs, in any order, shape `(B, 2)`.
        orders: Kekulé bond orders, shape `(B,)`; used for linear centres only.
        charges: formal charges [e], shape `(A,)`, which only linear centres need; None: all are zero.

    Raises:
        ValueError: for bonds that point outside the molecule, onto themselves or are listed twice.
    """
    numbers = np.asarray(numbers, dtype=np.int64)
    bonds, orders = _canonical_bonds(len(numbers), bonds, orders)
    source, target, starts = _adjacency(len(numbers), bonds)
    charges = np.zeros(len(numbers)) if charges is None else np.asarray(charges)
    return Topology(numbers, bonds, orders, charges, np.diff(starts), source, target, starts)


def _keys(pairs: np.ndarray, n_atoms: int) -> np.ndarray:
    """A number for each distinct pair of atoms, ascending."""
    i, j = pairs.T
    return np.unique(np.minimum(i, j) * n_atoms + np.maximum(i, j))


def components(n_atoms: int, bonds: np.ndarray) -> np.ndarray:
    """Connected component of each atom, shape `(A,)`, int64, numbered in the order of their first atoms."""
    i, j = np.asarray(bonds, dtype=np.int64).reshape(-1, 2).T
    label = np.arange(n_atoms)
    while True:  # each round joins the trees of bonded atoms below the smaller root, and makes them flat
        joined = label.copy()
        lower = np.minimum(label[i], label[j])
        np.minimum.at(joined, np.concatenate([label[i], label[j]]), np.concatenate([lower, lower]))
        while (joined[joined] != joined).any():
            joined = joined[joined]
        if np.array_equal(joined, label):
            break
        label = joined
    return np.unique(label, return_inverse=True)[1]


def _canonical_bonds(n_atoms: int, bonds, orders) -> tuple[np.ndarray, np.ndarray]:
    bonds = np.asarray(bonds, dtype=np.int64).reshape(-1, 2)
    orders = np.asarray(orders, dtype=np.int64).reshape(-1)
    if len(bonds) != len(orders):
        raise ValueError(f"expected one bond order per bond, got {len(orders)} orders for {len(bonds)} bonds")
    if len(bonds) and (bonds.min() < 0 or bonds.max() >= n_atoms):
        raise ValueError(f"expected bond indices 0…{n_atoms - 1}, got {bonds.min()}…{bonds.max()}")
    bonds = np.sort(bonds, axis=1)
    if (bonds[:, 0] == bonds[:, 1]).any():
        raise ValueError(f"atom {bonds[bonds[:, 0] == bonds[:, 1]][0, 0]} is bonded to itself")
    order = np.lexsort(bonds.T[::-1])
    bonds, orders = bonds[order], orders[order]
    twice = (bonds[1:] == bonds[:-1]).all(axis=1)
    if twice.any():
        raise ValueError(f"bond {tuple(bonds[1:][twice][0].tolist())} is listed twice")
    return bonds, orders


def _adjacency(n_atoms: int, bonds: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Directed edges sorted by source then target, and where each source's edges start, shape `(A + 1,)`."""
    edges = np.concatenate([bonds, bonds[:, ::-1]])
    edges = edges[np.lexsort(edges.T[::-1])]
    starts = np.zeros(n_atoms + 1, dtype=np.int64)
    np.cumsum(np.bincount(edges[:, 0], minlength=n_atoms), out=starts[1:])
    return edges[:, 0], edges[:, 1], starts


def _sorted_rows(rows: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(rows[np.lexsort(rows.T[::-1])])
