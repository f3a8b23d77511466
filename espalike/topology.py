"""Bonds → angles, propers, impropers and nonbonded pairs: canonical, each tuple once, by array operations only.

Canonical orders, none of which depends on the order in which bonds were given:

- bond `(i, j)` with `i < j`;
- angle `(i, j, k)`, centre `j` in the middle, `i < k`;
- proper `(i, j, k, l)` with `j < k` for the central bond; three-rings (`i = l`) are no torsions;
- improper `(a, centre, b, c)` with `a < b < c`, one row for each carbon, nitrogen or boron with exactly three
  neighbours. Connectivity alone decides, so the drawn resonance form does not matter;
- angle pair `(a, centre, shared, b)` with `a < b`: two angles at a centre that share a bond;
- proper pair `(i, j, k, l, m)` with `j < l`: two propers that share three atoms, not those of a four-ring (`i = m`);
- pair `(i, j)` with `i < j`, at least three bonds apart by every path.

Rows are sorted. Torsions about a linear centre have no defined angle and are left out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

_TRIGONAL = (5, 6, 7)  # elements that get an improper at three neighbours: B, C, N
_SP = (6, 7)  # elements that can be linear at two neighbours: C, N
_ANION_VALENCE = np.full(18, -1)  # sum of bond orders at which an element is an anion; −1: not asked
_ANION_VALENCE[[6, 7, 8, 16]] = 3, 2, 1, 1


@dataclass(frozen=True, eq=False)
class Topology:
    """The tuples of one molecule; index arrays are int64.

    Attributes:
        n_atoms: number of atoms.
        bonds: shape `(B, 2)`.
        angles: shape `(T, 3)`.
        propers: shape `(T, 4)`.
        impropers: shape `(T, 4)`, centre second.
        angle_pairs: shape `(T, 4)`, centre second, shared atom third.
        proper_pairs: shape `(T, 5)`.
        pairs: nonbonded pairs that are not excluded, shape `(T, 2)`.
        is14: pairs whose shortest path is exactly three bonds, shape `(T,)`, bool.
        linear: sp centres (two neighbours; a triple or two double bonds), shape `(A,)`, bool.
        degrees: number of neighbours, shape `(A,)`.
    """

    n_atoms: int
    bonds: np.ndarray
    angles: np.ndarray
    propers: np.ndarray
    impropers: np.ndarray
    angle_pairs: np.ndarray
    proper_pairs: np.ndarray
    pairs: np.ndarray
    is14: np.ndarray
    linear: np.ndarray
    degrees: np.ndarray


def enumerate_tuples(numbers, bonds, orders) -> Topology:
    """All tuples of a molecule.

    Args:
        numbers: atomic numbers, shape `(A,)`.
        bonds: atom index pairs, in any order, shape `(B, 2)`.
        orders: Kekulé bond orders, shape `(B,)`; used for linear centres only.

    Raises:
        ValueError: for bonds that point outside the molecule, onto themselves or are listed twice.
    """
    numbers = np.asarray(numbers, dtype=np.int64)
    bonds, orders = _canonical_bonds(len(numbers), bonds, orders)
    source, target, starts = _adjacency(len(numbers), bonds)
    degrees = np.diff(starts)
    linear = linear_centres(numbers, bonds, orders)
    angles = _angles(source, target, starts, degrees)
    paths = _paths_of_four(bonds, target, starts, degrees)
    pairs, is14 = _pairs(len(numbers), bonds, angles, paths)
    propers = _sorted_rows(paths[~(linear[paths[:, 1]] | linear[paths[:, 2]])])
    return Topology(
        n_atoms=len(numbers),
        bonds=bonds,
        angles=angles,
        propers=propers,
        impropers=_impropers(numbers, target, starts, degrees),
        angle_pairs=_angle_pairs(source, target, starts, degrees),
        proper_pairs=_proper_pairs(propers, target, starts, degrees, linear),
        pairs=pairs,
        is14=is14,
        linear=linear,
        degrees=degrees,
    )


def components(n_atoms: int, bonds: np.ndarray) -> np.ndarray:
    """Connected component of each atom, shape `(A,)`, int64, numbered in the order of their first atoms."""
    i, j = np.asarray(bonds, dtype=np.int64).reshape(-1, 2).T
    graph = coo_array((np.ones(len(i), dtype=np.int8), (i, j)), shape=(n_atoms, n_atoms))
    _, label = connected_components(graph, directed=False)
    _, first, label = np.unique(label, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[label]


def linear_centres(numbers: np.ndarray, bonds: np.ndarray, orders: np.ndarray) -> np.ndarray:
    """Carbons and nitrogens with two neighbours and a triple or two double bonds, shape `(A,)`, bool.

    Three corrections make the answer the same for every drawing: the end of a cumulene drawn as a carbanion is linear
    (`[C-]=[N+]=O` is the nitrile oxide `C#[N+][O-]`), the nitrogen of a heterocumulene drawn with a triple bond is not
    (`[N+]#C[O-]` is the isocyanate `N=C=O`), and nor is that of an azo group drawn with two double bonds
    (`[C-]-C=[N+]=N-C` is `C=C-N=N-C`): a linear nitrogen is beside the end of its chain (`C=[N+]=[N-]`).
    """
    n_atoms = len(numbers)
    source = np.concatenate([bonds[:, 0], bonds[:, 1]])
    target = np.concatenate([bonds[:, 1], bonds[:, 0]])
    order = np.concatenate([orders, orders])

    def count(edges: np.ndarray) -> np.ndarray:
        return np.bincount(source, weights=edges, minlength=n_atoms)

    valence, degree = count(order), count(source >= 0)
    two = np.isin(numbers, _SP) & (degree == 2)
    ends_cumulene = (degree == 1) | ((numbers == 6) & (degree == 2))
    allenic = (count(order == 2) == 2) & ((numbers == 6) | (count(ends_cumulene[target]) > 0))
    linear = two & ((count(order == 3) > 0) | allenic)
    carbanion = two & (numbers == 6) & (valence == 3)
    anion = valence == _ANION_VALENCE[np.minimum(numbers, len(_ANION_VALENCE) - 1)]
    before_anion = (numbers == 6) & (count((order == 1) & anion[target]) > 0)
    heterocumulene = (numbers == 7) & (count((order == 3) & before_anion[target]) > 0)
    return (linear & ~heterocumulene) | (carbanion & (count((order == 2) & linear[target]) > 0))


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


def _neighbours(rows: np.ndarray, target: np.ndarray, starts: np.ndarray, degrees: np.ndarray):
    """For each atom in `rows`, its neighbours one after the other: `(which row, neighbour)`."""
    counts = degrees[rows]
    which = np.repeat(np.arange(len(rows)), counts)
    first = np.cumsum(counts) - counts
    within = np.arange(len(which)) - first[which]
    return which, target[starts[rows][which] + within]


def _angles(source, target, starts, degrees) -> np.ndarray:
    which, far = _neighbours(target, target, starts, degrees)
    angles = np.stack([source[which], target[which], far], axis=1)
    return _sorted_rows(angles[angles[:, 0] < angles[:, 2]])


def _paths_of_four(bonds, target, starts, degrees) -> np.ndarray:
    which, first = _neighbours(bonds[:, 0], target, starts, degrees)
    half = np.stack([first, bonds[which, 0], bonds[which, 1]], axis=1)
    which, last = _neighbours(half[:, 2], target, starts, degrees)
    paths = np.concatenate([half[which], last[:, None]], axis=1)
    i, j, k, l = paths.T  # noqa: E741 - the field's letters
    return paths[(i != k) & (l != j) & (i != l)]


def _impropers(numbers, target, starts, degrees) -> np.ndarray:
    centres = np.flatnonzero((degrees == 3) & np.isin(numbers, _TRIGONAL))
    outer = target[starts[centres][:, None] + np.arange(3)]  # already ascending
    return _sorted_rows(np.stack([outer[:, 0], centres, outer[:, 1], outer[:, 2]], axis=1))


def _angle_pairs(source, target, starts, degrees) -> np.ndarray:
    """From each bond (centre, shared), every two further neighbours of the centre."""
    which, first = _neighbours(source, target, starts, degrees)
    angles = np.stack([first, source[which], target[which]], axis=1)
    angles = angles[angles[:, 0] != angles[:, 2]]
    which, second = _neighbours(angles[:, 1], target, starts, degrees)
    rows = np.concatenate([angles[which], second[:, None]], axis=1)
    return _sorted_rows(rows[(rows[:, 0] < rows[:, 3]) & (rows[:, 3] != rows[:, 2])])


def _proper_pairs(propers, target, starts, degrees, linear) -> np.ndarray:
    """Each proper, read in both directions, plus a neighbour of its last atom; kept if j < l."""
    both = np.concatenate([propers, propers[:, ::-1]])
    both = both[~linear[both[:, 3]]]
    which, last = _neighbours(both[:, 3], target, starts, degrees)
    rows = np.concatenate([both[which], last[:, None]], axis=1)
    i, j, k, l, m = rows.T  # noqa: E741 - the field's letters
    return _sorted_rows(rows[(j < l) & (m != k) & (m != j) & (m != i)])


def _pairs(n_atoms: int, bonds, angles, paths) -> tuple[np.ndarray, np.ndarray]:
    distance = np.full((n_atoms, n_atoms), 4, dtype=np.int8)  # 4 stands for "further than 1-4"
    for depth, ends in ((3, paths[:, [0, 3]]), (2, angles[:, [0, 2]]), (1, bonds)):  # the shortest path is written last
        ends = np.sort(ends, axis=1)
        distance[ends[:, 0], ends[:, 1]] = depth
    first, second = np.triu_indices(n_atoms, k=1)
    separation = distance[first, second]
    kept = separation >= 3
    return np.stack([first[kept], second[kept]], axis=1), separation[kept] == 3


def _sorted_rows(rows: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(rows[np.lexsort(rows.T[::-1])])
