"""Whether geometries have the bonds of the graph: vectorised over conformers, in single precision.

Distances are judged against the sum of covalent radii (RDKit's table: Cordero et al., Dalton Trans. 2008, 2832), wide
enough for hot dynamics.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import numpy as np

from espalike.types import Molecule

LONGEST_BOND, SHORTEST_BOND, SHORTEST_CONTACT = 1.45, 0.6, 0.9
"""Limits on distances over the sum of radii: bonded atoms farther and nearer, other atoms at least apart."""
NEW_BOND = 1.15
"""Atoms three or more bonds apart that are nearer than this have formed a bond."""
TRANSFER = 1.25
"""An atom that lost a bond and is nearer than this to another atom has moved there."""

BROKEN, FORMED, TRANSFERRED, CLOSE = "broken", "formed", "transferred", "atoms too close"
FAULTS = (BROKEN, FORMED, TRANSFERRED, CLOSE)
"""What can be wrong with the bonds of a geometry."""

_BLOCK = 2_000_000
"""Distances held at a time."""


@lru_cache(maxsize=1)
def _table() -> np.ndarray:
    """Covalent radii [Å] by atomic number."""
    from rdkit.Chem import GetPeriodicTable

    periodic = GetPeriodicTable()
    return np.array([0.0, *(periodic.GetRcovalent(z) for z in range(1, 100))])


def _squares(xyz: np.ndarray) -> np.ndarray:
    """Squared distances [Å²] `(K, A, A)` in float32: one matrix product with inner dimension 5."""
    x = (xyz - xyz.mean(axis=1, keepdims=True)).astype(np.float32)
    norm = np.einsum("kad,kad->ka", x, x)[..., None]
    one = np.ones_like(norm)
    left, right = np.concatenate([-2.0 * x, norm, one], axis=2), np.concatenate([x, one, norm], axis=2)
    return left @ right.transpose(0, 2, 1)


def _limits(molecule: Molecule) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Shortest allowed distances [Å] `(A, A)`, sums of radii `(A, A)`, and which pairs are bonded `(A, A)`."""
    radii = _table()[molecule.numbers]
    reach = radii[:, None] + radii
    bonded = np.zeros(reach.shape, dtype=bool)
    bonded[molecule.bonds[:, 0], molecule.bonds[:, 1]] = True
    bonded |= bonded.T
    step = bonded.astype(np.float32)
    near = (step @ step > 0) | bonded  # one or two bonds apart
    shortest = np.where(bonded, SHORTEST_BOND, np.where(near, SHORTEST_CONTACT, NEW_BOND)) * reach
    np.fill_diagonal(shortest, -1.0)
    return shortest, reach, bonded


def _blocks(xyz: np.ndarray) -> Iterator[slice]:
    size = max(1, _BLOCK // max(1, xyz.shape[1] ** 2))
    return (slice(start, start + size) for start in range(0, len(xyz), size))


def bond_faults(molecule: Molecule, xyz: np.ndarray) -> np.ndarray:
    """What is wrong with the bonds of each geometry: 0 for nothing, else 1 + its place in `FAULTS`; shape `(K,)`.

    A geometry with several faults counts as transferred, else broken, else formed, else too close.
    """
    shortest, reach, bonded = _limits(molecule)
    low = np.where(shortest < 0, -1.0, shortest**2).astype(np.float32)
    longest = ((LONGEST_BOND * reach) ** 2).astype(np.float32)
    i, j = molecule.bonds.T
    found = np.zeros(len(xyz), dtype=np.int64)
    for block in _blocks(xyz):
        squares = _squares(xyz[block])
        near = squares < low
        suspects = near.any(axis=(1, 2)) | (squares[:, i, j] > longest[i, j]).any(axis=1)
        for k in np.flatnonzero(suspects):
            found[block.start + k] = 1 + _fault(squares[k], near[k], (shortest, reach, bonded), longest)
    return found


def _fault(squares: np.ndarray, near: np.ndarray, limits: tuple, longest: np.ndarray) -> int:
    """The fault of one geometry that has one."""
    _, reach, bonded = limits
    broken = bonded & (squares > longest)
    if broken.any():
        lost = broken.any(axis=1)
        others = ~bonded & (squares < (TRANSFER * reach) ** 2)
        np.fill_diagonal(others, False)
        return FAULTS.index(TRANSFERRED if others[lost].any() else BROKEN)
    # nearer than even a bond may be: not a new bond, but atoms on each other
    crushed = near & (squares < (SHORTEST_BOND * reach) ** 2)
    return FAULTS.index(CLOSE if crushed.any() or (near & bonded).any() else FORMED)


def describe_fault(molecule: Molecule, xyz: np.ndarray) -> str:
    """Which atoms of one geometry `(A, 3)` are farther apart or nearer than the graph allows."""
    shortest, reach, bonded = _limits(molecule)
    distance = np.linalg.norm(xyz[:, None] - xyz, axis=-1)
    over = np.where(bonded, distance / (LONGEST_BOND * reach), 0.0)
    under = np.where(shortest > 0, shortest / np.maximum(distance, 1e-6), 0.0)
    worst = over if over.max() > 1.0 else under
    i, j = sorted(int(v) for v in np.unravel_index(worst.argmax(), worst.shape))
    told = "at most" if worst is over else "at least"
    limit = LONGEST_BOND * reach[i, j] if worst is over else shortest[i, j]
    kind = "bonded" if bonded[i, j] else "not bonded"
    names = "-".join(f"{_symbol(molecule.numbers[a])}{a + 1}" for a in (i, j))
    return f"{names} ({kind}) is {distance[i, j]:.2f} Å, expected {told} {limit:.2f} Å"


def _symbol(number: int) -> str:
    from rdkit.Chem import GetPeriodicTable

    return GetPeriodicTable().GetElementSymbol(int(number))
