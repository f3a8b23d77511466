"""Torsions to drive: which bonds turn, what they are called, and tables of chosen ones."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise

import numpy as np
from rdkit import Chem
from rdkit.Chem import rdMolTransforms

from espalike.chem import to_rdkit
from espalike.chem.molecule import Molecule
from espalike.files import version_of
from espalike.tables import read_csv

ROTATABLE = "[!D1;!$(*#*);!$([*H3])]-&!@[!D1;!$(*#*);!$([*H3])]"
"""SMARTS of bonds that are driven by default: single, not in a ring, no end a CH₃, NH₃⁺ or at a triple bond."""

Dihedrals = str | Sequence[Sequence[int]] | None


def rotatable(molecule: Molecule, bonds: str = ROTATABLE) -> list[tuple[int, int, int, int]]:
    """A torsion `(i, j, k, l)`, `j < k`, for each bond that the SMARTS pattern `bonds` matches.

    The outer atoms are the heaviest neighbours, among equals those of lowest index. Bonds whose ends have no other
    neighbours are left out.

    Raises:
        ValueError: when `bonds` is not a SMARTS pattern of two atoms.
    """
    pattern = Chem.MolFromSmarts(bonds)
    if pattern is None or pattern.GetNumAtoms() < 2:
        raise ValueError(f"bonds={bonds!r}: expected a SMARTS pattern that begins with the two atoms of the bond")
    mol = to_rdkit(molecule)
    matched = {tuple(sorted(match[:2])) for match in mol.GetSubstructMatches(pattern, maxMatches=100000)}
    ends = [(_outer(mol, j, k), j, k, _outer(mol, k, j)) for j, k in sorted(matched)]
    return [(i, j, k, l) for i, j, k, l in ends if i is not None and l is not None and i != l]  # noqa: E741


def _outer(mol: Chem.Mol, atom: int, other: int) -> int | None:
    rest = [a for a in mol.GetAtomWithIdx(atom).GetNeighbors() if a.GetIdx() != other]
    return min(rest, key=lambda a: (-a.GetAtomicNum(), a.GetIdx())).GetIdx() if rest else None


def chosen(molecule: Molecule, dihedrals: Dihedrals, bonds: str, sizes: tuple[int, ...]) -> list[tuple[int, ...]]:
    """The torsions to drive in a molecule: those given, else those of its rotatable bonds.

    Args:
        molecule: the graph.
        dihedrals: rows of atom indices from 0; or a CSV file with columns `name` and `dihedral` (indices with
            spaces between them), of which the molecule's rows are taken, none where it has none; or None.
        bonds: SMARTS pattern of bonds, where `dihedrals` is None.
        sizes: how many indices a row may have.

    Raises:
        ValueError: when there is none, or an index is none of the molecule's bonded torsions.
    """
    if isinstance(dihedrals, str):  # a table for many molecules, some without a row
        dihedrals = _table(dihedrals, version_of(dihedrals)).get(molecule.name, [])
    elif dihedrals is not None and not len(dihedrals):
        raise ValueError(f"{molecule.name}: dihedrals={dihedrals}: no torsion is named")
    if dihedrals is None:
        rows: list[tuple[int, ...]] = list(rotatable(molecule, bonds))
        if not rows:
            raise ValueError(f"{molecule.name}: no bond matches bonds={bonds!r}; name torsions in `dihedrals`")
        return rows
    rows = [tuple(map(int, row)) for row in dihedrals]
    for row in rows:
        _check(molecule, row, sizes)
    return rows


def _check(molecule: Molecule, row: tuple[int, ...], sizes: tuple[int, ...]) -> None:
    if len(row) not in sizes:
        raise ValueError(f"{molecule.name}: dihedral {row}: expected {' or '.join(map(str, sizes))} atom indices")
    bonded = {frozenset(map(int, bond)) for bond in molecule.bonds}
    for i in range(0, len(row), 4):
        four = row[i : i + 4]
        pairs = [frozenset(pair) for pair in pairwise(four)]
        if len(set(four)) < 4 or not all(pair in bonded for pair in pairs):
            raise ValueError(
                f"{molecule.name}: dihedral {four}: these atoms are not a chain of bonds; indices count from 0 in the "
                "molecule's own order, of a SMILES first its heavy atoms as written, then hydrogens"
            )


def named(path: str) -> set[str]:
    """The molecules of a table of torsions; see `chosen`.

    Raises:
        ValueError: for a file that is not such a table.
    """
    return set(_table(path, version_of(path)))


@lru_cache(maxsize=8)
def _table(path: str, version: tuple[str, int, int]) -> dict[str, list[tuple[int, ...]]]:
    table: dict[str, list[tuple[int, ...]]] = {}
    for row in read_csv(path, ["name", "dihedral"]):
        words = row["dihedral"].split()
        if not all(word.isascii() and word.isdigit() for word in words):
            raise ValueError(f"{path}: {row['name']}: {row['dihedral']!r} are not atom indices")
        table.setdefault(row["name"], []).append(tuple(map(int, words)))
    return table


def in_ring(molecule: Molecule, atoms: Sequence[int]) -> bool:
    """Whether the middle bond of a torsion is in a ring."""
    return to_rdkit(molecule).GetBondBetweenAtoms(*map(int, atoms[1:3])).IsInRing()


def suffix(kind: str, atoms: Sequence[int]) -> str:
    """What the entry of a driven torsion is called after its molecule's name."""
    return "-".join([kind, *map(str, atoms)])


def measured(xyz: np.ndarray, atoms: Sequence[int]) -> float:
    """The torsion angle [degree] in (−180, 180] of four atoms at `xyz` [Å]."""
    conformer = Chem.Conformer(4)
    conformer.SetPositions(np.ascontiguousarray(np.asarray(xyz, dtype=np.float64)[list(atoms)]))
    return float(rdMolTransforms.GetDihedralDeg(conformer, 0, 1, 2, 3))


def grid(spacing: int) -> list[int]:
    """Angles [degree] of a scan in ascending order: 180 and down in steps of `spacing`, in (−180, 180].

    Raises:
        ValueError: when 360° is not a multiple of `spacing`.
    """
    if not 0 < spacing <= 180 or 360 % spacing:
        raise ValueError(f"spacing={spacing}: expected a whole number of degrees that divides 360, 15 for instance")
    return list(range(180 - spacing * (360 // spacing - 1), 181, spacing))
