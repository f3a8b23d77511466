"""Graphs of many frames at once: bonds by distance, frames of equal bonds together, bond orders once for each."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from rdkit import Chem

from espalike.chem import from_rdkit
from espalike.chem.bonds import LONGEST_BOND
from espalike.chem.lewis import lewis
from espalike.chem.molecule import Molecule
from espalike.chem.sanitize import BOND_TYPES
from espalike.data.schema import RecordError

SURE_BOND, BOND = 1.15, 1.3
"""Distances over the sum of covalent radii: surely bonded below the first; bonded, were a frame alone, below the other.
What is farther than `LONGEST_BOND` is surely not bonded."""
_CHUNK = 4_000_000
"""Distances computed at once."""


def _near(numbers: np.ndarray, xyz: np.ndarray) -> Iterator[tuple[np.ndarray, ...]]:
    """Packed bits of all pairs `i<j` nearer than each of the three limits, shape `(K, bytes)`, a chunk at a time."""
    table = Chem.GetPeriodicTable()
    radii = np.array([table.GetRcovalent(int(z)) for z in numbers])
    i, j = np.triu_indices(len(numbers), 1)
    reach = radii[i] + radii[j]
    step = max(1, _CHUNK // max(1, len(i)))
    for start in range(0, len(xyz), step):
        frames = np.asarray(xyz[start : start + step], dtype=np.float64).transpose(2, 0, 1)
        square = np.zeros((frames.shape[1], len(i)))
        for x in frames:
            difference = x[:, i] - x[:, j]
            square += difference * difference
        yield tuple(
            np.packbits(square < (limit * reach) ** 2, axis=1, bitorder="little")
            for limit in (SURE_BOND, BOND, LONGEST_BOND)
        )


def frames_by_bonds(numbers: np.ndarray, xyz: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Frames of equal connectivity together.

    A pair is a bond below `BOND` times the sum of covalent radii. So that a bond stretched in one frame does not make a
    separate molecule, a frame goes to the most frequent list of bonds that its distances allow: one that has all
    pairs surely bonded and none surely not.

    Args:
        numbers: atomic numbers, shape `(A,)`.
        xyz: coordinates [Å], shape `(K, A, 3)`, finite.

    Returns:
        For each list of bonds, in the order of its first frame: pairs `i<j`, sorted, shape `(B, 2)`, and its frames,
        shape `(n,)`.
    """
    if len(numbers) == 1:
        return [(np.empty((0, 2), np.int64), np.arange(len(xyz)))]
    sure, near, possible = (np.concatenate(parts) for parts in zip(*_near(numbers, xyz), strict=True))
    lists, counts = np.unique(near, axis=0, return_counts=True)
    free = np.arange(len(xyz))
    groups = []
    for bits in lists[np.argsort(-counts, kind="stable")]:
        fits = ~((sure[free] & ~bits).any(axis=1) | (bits & ~possible[free]).any(axis=1))
        if fits.any():
            groups.append((bits, free[fits]))
            free = free[~fits]
            if not len(free):
                break
    pairs = np.stack(np.triu_indices(len(numbers), 1), axis=1)
    groups.sort(key=lambda item: int(item[1][0]))
    return [
        (pairs[np.unpackbits(bits, count=len(pairs), bitorder="little").astype(bool)], frames)
        for bits, frames in groups
    ]


def from_bonds(name: str, numbers: np.ndarray, bonds: np.ndarray, charge: int = 0) -> Molecule:
    """The closed-shell molecule of these bonds, its orders and formal charges the best there are; atom order is kept.

    Args:
        name: what messages call it.
        numbers: atomic numbers, shape `(A,)`.
        bonds: bonded pairs, shape `(B, 2)`.
        charge: total charge [e].

    Raises:
        RecordError: for several fragments, or when no bond orders give a closed shell at this charge.
        ChemistryError: for molecules that are not supported.
    """
    mol = Chem.RWMol()
    for number in np.asarray(numbers).tolist():
        atom = Chem.Atom(number)
        atom.SetNoImplicit(True)
        mol.AddAtom(atom)
    for i, j in bonds.tolist():
        mol.AddBond(i, j, Chem.BondType.SINGLE)
    fragments = Chem.GetMolFrags(mol)
    if len(fragments) > 1:
        sizes = ", ".join(str(len(fragment)) for fragment in fragments)
        raise RecordError("several fragments", f"{name}: fragments of {sizes} atoms; expected one molecule")
    solution = lewis(numbers, bonds, charge) if len(bonds) else (np.empty(0, np.int64), np.array([charge]))
    if solution is None:
        raise RecordError(
            "no closed shell",
            f"{name}: no bond orders make a closed-shell molecule of charge {charge:+d} of its {len(bonds)} bonds; "
            "it is a radical, an ion, or a bond is broken",
        )
    for (i, j), order in zip(bonds.tolist(), solution[0].tolist(), strict=True):
        mol.GetBondBetweenAtoms(i, j).SetBondType(BOND_TYPES[order])
    for i, formal in enumerate(solution[1].tolist()):
        mol.GetAtomWithIdx(i).SetFormalCharge(formal)
    return from_rdkit(mol.GetMol(), name)
