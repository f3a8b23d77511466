"""Whether geometries have the bonds of the graph: one rule for sampled and for ingested geometries.

Distances are compared with the sum of covalent radii (RDKit's table: Cordero et al., Dalton Trans. 2008, 2832). The
limits leave room for hot dynamics. All conformers are checked at once, in single precision.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from espalike.chem.complexes import is_complex
from espalike.chem.graphs import RADII
from espalike.chem.molecule import Molecule
from espalike.topology import components

LONGEST_BOND, SHORTEST_BOND, SHORTEST_CONTACT = 1.45, 0.6, 0.9
"""Limits on distances over the sum of radii: the longest and the shortest bond, and the shortest distance of atoms that
are two bonds apart."""
NEW_BOND = 1.15
"""Atoms three or more bonds apart that are nearer than this have formed a bond."""
OVERLAP = 0.95
"""Atoms of two molecules of a complex that are nearer than this: the molecules overlap."""
TRANSFER = 1.25
"""An atom that lost a bond and is nearer than this to another atom has moved there."""

BROKEN, FORMED, TRANSFERRED, CLOSE = "broken", "formed", "transferred", "atoms too close"
OVERLAPPING = "monomers overlap"
FAULTS = (BROKEN, FORMED, TRANSFERRED, CLOSE, OVERLAPPING)
"""Faults of a geometry's bonds."""

_MARGIN = 0.1
"""Largest error of a distance in single precision [Å]."""
_BLOCK = 2_000_000
"""Number of distances that are held in memory at a time."""


@dataclass(frozen=True, eq=False)
class _Pairs:
    """Pairs of a molecule's atoms, each once.

    Attributes:
        i, j: atoms, `i < j`, each `(P,)`.
        reach: sum of covalent radii [Å], `(P,)`.
        bonded: whether the pair is a bond, `(P,)`.
        across: whether its atoms are in two molecules of a complex, `(P,)`.
        shortest: least distance that is allowed [Å], `(P,)`.
    """

    i: np.ndarray
    j: np.ndarray
    reach: np.ndarray
    bonded: np.ndarray
    across: np.ndarray
    shortest: np.ndarray

    @staticmethod
    def of(molecule: Molecule, xyz: np.ndarray | None = None) -> _Pairs:
        """All pairs; or, with geometries `(K, A, 3)`, bonds and the pairs that may be too near in one of them."""
        radii = RADII[molecule.numbers]
        bonds = np.zeros((molecule.n_atoms, molecule.n_atoms), dtype=np.float32)
        bonds[molecule.bonds[:, 0], molecule.bonds[:, 1]] = bonds[molecule.bonds[:, 1], molecule.bonds[:, 0]] = 1.0
        bonded, near = bonds > 0, bonds @ bonds > 0  # one bond apart, two bonds apart
        reach = radii[:, None] + radii
        across = np.zeros_like(bonded)
        if is_complex(molecule):
            component = components(molecule.n_atoms, molecule.bonds)
            across = component[:, None] != component
        unbonded = np.where(across, OVERLAP, NEW_BOND)
        shortest = np.where(bonded, SHORTEST_BOND, np.where(near, SHORTEST_CONTACT, unbonded)) * reach
        chosen = ~np.tri(molecule.n_atoms, dtype=bool)  # i < j
        if xyz is not None:
            chosen &= bonded | (_apart(xyz) < (shortest + _MARGIN) ** 2)
        i, j = np.nonzero(chosen)
        return _Pairs(i, j, reach[i, j], bonded[i, j], across[i, j], shortest[i, j])


def _apart(xyz: np.ndarray) -> np.ndarray:
    """Squared distances [Å²] below which no two atoms come in any geometry `(K, A, 3)`, shape `(A, A)`.

    They are those between the boxes in which the atoms stay.
    """
    low = xyz.min(axis=0, initial=np.inf).T.astype(np.float32, order="C")
    high = xyz.max(axis=0, initial=-np.inf).T.astype(np.float32, order="C")
    gap = np.maximum(low[:, :, None] - high[:, None], 0.0)
    squares = np.square(gap, out=gap).sum(axis=0)
    return squares + squares.T


def _squares(xyz: np.ndarray, i: np.ndarray, j: np.ndarray) -> np.ndarray:
    """Squared distances [Å²] of pairs of atoms, shape `(P, K)`, float32."""
    rows = np.ascontiguousarray(xyz.transpose(1, 2, 0), np.float32)  # an atom's numbers lie together
    step = rows[i]
    step -= rows[j]
    step *= step
    return step[:, 0] + step[:, 1] + step[:, 2]


def _blocks(n_pairs: int, k: int) -> Iterator[slice]:
    size = max(1, _BLOCK // max(1, n_pairs))
    return (slice(start, start + size) for start in range(0, k, size))


def bond_faults(molecule: Molecule, xyz: np.ndarray) -> np.ndarray:
    """The fault of each geometry's bonds: 0 for none, else 1 + its place in `FAULTS`; shape `(K,)`.

    A geometry with several faults counts as transferred, else broken, else overlapping, else too close, else formed.
    """
    faults = np.zeros(len(xyz), dtype=np.int64)
    suspects = _suspects(_Pairs.of(molecule, xyz), xyz)
    if suspects:
        pairs = _Pairs.of(molecule)
        for k in suspects:
            distance = np.sqrt(_squares(xyz[k : k + 1], pairs.i, pairs.j)[:, 0])
            faults[k] = 1 + FAULTS.index(_fault(pairs, distance))
    return faults


def intact(molecule: Molecule, xyz: np.ndarray) -> bool:
    """Whether one geometry `(A, 3)` [Å] has the bonds of the graph and no others."""
    return not bond_faults(molecule, xyz[None]).any()


def _suspects(pairs: _Pairs, xyz: np.ndarray) -> list[int]:
    """Geometries with a pair that is too near or too far apart."""
    suspects: list[int] = []
    low = (pairs.shortest**2).astype(np.float32)
    high = np.where(pairs.bonded, (LONGEST_BOND * pairs.reach) ** 2, np.inf).astype(np.float32)
    for block in _blocks(len(pairs.i), len(xyz)):
        squares = _squares(xyz[block], pairs.i, pairs.j)
        if (squares.min(axis=1) < low).any() or (squares.max(axis=1) > high).any():
            bad = (low > squares.T) | (high < squares.T)
            suspects += (block.start + np.flatnonzero(bad.any(axis=1))).tolist()
    return suspects


def _fault(pairs: _Pairs, distance: np.ndarray) -> str:
    """The fault of one geometry that has one; `distance` [Å] `(P,)` of all pairs."""
    ratio = distance / pairs.reach
    broken = pairs.bonded & (ratio > LONGEST_BOND)
    if broken.any():
        lost = np.concatenate([pairs.i[broken], pairs.j[broken]])
        new = ~pairs.bonded & (ratio < TRANSFER) & (np.isin(pairs.i, lost) | np.isin(pairs.j, lost))
        return TRANSFERRED if new.any() else BROKEN
    if (pairs.across & (ratio < OVERLAP)).any():
        return OVERLAPPING
    return CLOSE if (ratio < SHORTEST_BOND).any() else FORMED  # too short for a new bond


def describe_fault(molecule: Molecule, xyz: np.ndarray) -> str:
    """Which atoms of one geometry `(A, 3)` are farther apart or nearer than the graph allows."""
    pairs = _Pairs.of(molecule)
    distance = np.linalg.norm(xyz[pairs.i] - xyz[pairs.j], axis=1)
    over = np.where(pairs.bonded, distance / (LONGEST_BOND * pairs.reach), 0.0)
    under = pairs.shortest / np.maximum(distance, 1e-6)
    too_long = over.max(initial=0.0) > 1.0
    p = int((over if too_long else under).argmax())
    limit = LONGEST_BOND * pairs.reach[p] if too_long else pairs.shortest[p]
    kind, bound = "bonded" if pairs.bonded[p] else "not bonded", "at most" if too_long else "at least"
    names = "-".join(f"{_symbol(molecule.numbers[a])}{a + 1}" for a in (pairs.i[p], pairs.j[p]))
    return f"{names} ({kind}) is {distance[p]:.2f} Å, expected {bound} {limit:.2f} Å"


def _symbol(number: int) -> str:
    from rdkit.Chem import GetPeriodicTable

    return GetPeriodicTable().GetElementSymbol(int(number))
