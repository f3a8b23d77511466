"""Graphs for formats that hold elements and coordinates only: from a SMILES, or perceived from the distances."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from rdkit import Chem, rdBase
from rdkit.Chem import rdDetermineBonds

from espalike.chem import from_rdkit, from_smiles, to_rdkit
from espalike.chem.graphs import formula, skeleton
from espalike.chem.lewis import lewis
from espalike.chem.molecule import Molecule
from espalike.chem.sanitize import BOND_TYPES
from espalike.chem.stereo import assign_from_coordinates
from espalike.data.readers.base import ReaderError, parsed
from espalike.data.schema import RecordError, whole

_MAPPED = re.compile(r":\d+\]")
_GRID_TOLERANCE = 5.0
"""Degrees that a constrained torsion may be off its grid."""


class SmilesOption:
    """The option `smiles`: one SMILES for all entries, a CSV file of names and SMILES, or nothing.

    Args:
        given: a SMILES; the path of a CSV file with columns `name` and `smiles`; a mapping of names to SMILES; or None.

    Raises:
        ReaderError: for a file without these columns.
    """

    def __init__(self, given: str | Mapping[str, str] | None):
        self.one: str | None = None
        self.by_name: dict[str, str] | None = None
        if isinstance(given, Mapping):
            self.by_name = dict(given)
        elif given and Path(given).suffix.lower() == ".csv":
            self.by_name = self._table(Path(given))
        else:
            self.one = given or None

    @staticmethod
    def _table(path: Path) -> dict[str, str]:
        if not path.exists():
            raise ReaderError(
                f"{path}: no such file; the option smiles takes a SMILES or a CSV file of names and SMILES"
            )
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = csv.DictReader(file)
            if not {"name", "smiles"} <= set(rows.fieldnames or ()):
                raise ReaderError(f"{path}: columns are {rows.fieldnames}; expected `name` and `smiles`")
            return {row["name"]: row["smiles"] for row in rows}

    def of(self, name: str) -> str | None:
        """The SMILES of an entry, None where the option is not given.

        Raises:
            RecordError: where there is a table and the entry is not in it.
        """
        if self.by_name is None:
            return self.one
        if name not in self.by_name:
            raise RecordError("no SMILES", f"{name}: not in the table of names and SMILES that was given")
        return self.by_name[name]


def is_mapped(smiles: str) -> bool:
    """Whether a SMILES numbers its atoms."""
    return bool(_MAPPED.search(smiles))


def mapped(
    name: str, smiles: str, numbers: np.ndarray | None = None, charge: int | None = None
) -> tuple[Molecule, str]:
    """Molecule of a mapped SMILES, and its connectivity key.

    Args:
        name: what messages call it.
        smiles: map number i+1 is atom i.
        numbers: atomic numbers, shape `(A,)`, where the file gives them, too.
        charge: total charge [e], where the file gives it.

    Raises:
        RecordError: for a SMILES without map numbers, several fragments, or elements or a charge that differ from it.
        ChemistryError: for molecules that are not supported.
    """
    if not is_mapped(smiles):
        raise RecordError(
            "SMILES not mapped", f"{name}: {smiles!r} does not number its atoms; expected map numbers, atom i has i+1"
        )
    if "." in smiles:
        raise RecordError("several fragments", f"{name}: {smiles.count('.') + 1} molecules; expected one")
    molecule, key = parsed(smiles, name)
    _check_charge(name, molecule, charge)
    if numbers is not None:
        check_numbers(name, molecule, numbers)
    return molecule, key


def _check_charge(name: str, molecule: Molecule, charge: int | None) -> None:
    if charge is not None and charge != molecule.net_charge:
        raise RecordError("charge differs from SMILES", f"{name}: charge {charge}, {molecule.net_charge} in the SMILES")


def molecule_of(
    name: str, numbers: np.ndarray, xyz: np.ndarray, smiles: str | None = None, charge: int | None = None
) -> Molecule:
    """The molecule of one geometry, in the geometry's atom order.

    Args:
        name: what messages call it.
        numbers: atomic numbers, shape `(A,)`.
        xyz: coordinates [Å], shape `(A, 3)`.
        smiles: mapped, map number i+1 being row i; or unmapped, then it is laid on the bonds that the distances show;
            None = bonds and their orders are perceived.
        charge: total charge [e] where it is known: the SMILES must have it; perception needs it (None = 0).

    Raises:
        RecordError: when elements, bonds or charge differ from the SMILES', or bonds cannot be perceived.
        ChemistryError: for molecules that are not supported.
    """
    if smiles is None:
        return _perceived(name, numbers, xyz, charge or 0)
    molecule = from_smiles(smiles, name)
    _check_charge(name, molecule, charge)
    if not is_mapped(smiles):
        return _laid_on(name, molecule, numbers, xyz)
    check_numbers(name, molecule, numbers)
    return molecule


def check_numbers(name: str, molecule: Molecule, numbers: np.ndarray) -> None:
    """Check that a geometry's atoms are those of the mapped SMILES, in its order.

    Raises:
        RecordError: naming the first atom that differs.
    """
    if len(numbers) != molecule.n_atoms:
        raise RecordError(
            "shapes disagree", f"{name}: {len(numbers)} atomic numbers, {molecule.n_atoms} atoms in the SMILES"
        )
    wrong = np.flatnonzero(np.asarray(numbers) != molecule.numbers)
    if len(wrong):
        i = int(wrong[0])
        raise RecordError(
            "atomic numbers differ from SMILES",
            f"{name}: atom {i + 1} has atomic number {numbers[i]}, {molecule.numbers[i]} in the SMILES",
        )


def _bare(numbers: np.ndarray, xyz: np.ndarray) -> Chem.RWMol:
    """Atoms without bonds, with their geometry [Å]."""
    mol = Chem.RWMol()
    for number in np.asarray(numbers).tolist():
        mol.AddAtom(Chem.Atom(number))
    conformer = Chem.Conformer(len(numbers))
    conformer.SetPositions(np.ascontiguousarray(xyz, dtype=np.float64))
    mol.AddConformer(conformer, assignId=True)
    return mol


def connectivity(numbers: np.ndarray, xyz: np.ndarray) -> tuple[tuple[int, int], ...]:
    """Pairs of atoms that the distances show as bonded (RDKit's rule), each `i<j`, sorted."""
    with rdBase.BlockLogs():
        mol = _bare(numbers, xyz)
        rdDetermineBonds.DetermineConnectivity(mol)
    ends = ((b.GetBeginAtomIdx(), b.GetEndAtomIdx()) for b in mol.GetBonds())
    return tuple(sorted((min(e), max(e)) for e in ends))


def _perceived(name: str, numbers: np.ndarray, xyz: np.ndarray, charge: int) -> Molecule:
    if len(numbers) == 1:  # an ion or an atom: nothing to perceive
        symbol = Chem.GetPeriodicTable().GetElementSymbol(int(numbers[0]))
        return from_smiles(f"[{symbol}{charge:+d}]" if charge else f"[{symbol}]", name)
    pairs = np.array(connectivity(numbers, xyz), dtype=np.int64).reshape(-1, 2)
    drawn = lewis(np.asarray(numbers), pairs, charge)
    if drawn is None:
        raise RecordError(
            "bonds not perceived",
            f"{name}: no bond orders fit its geometry at charge {charge:+d}; give its SMILES or charge",
        )
    return from_rdkit(in_space(numbers, xyz, pairs, *drawn), name)


def in_space(
    numbers: np.ndarray, xyz: np.ndarray, bonds: np.ndarray, orders: np.ndarray, charges: np.ndarray
) -> Chem.Mol:
    """The molecule of these atoms, bonds and formal charges, with the stereo of its geometry.

    Raises:
        ValueError, RuntimeError, KeyError: when it is not a valid structure, a bond names no atom, an order is unknown.
    """
    mol = _bare(numbers, xyz)
    for (i, j), order in zip(bonds.tolist(), orders.tolist(), strict=True):
        mol.AddBond(i, j, BOND_TYPES[order])
    for atom, charge in zip(mol.GetAtoms(), charges.tolist(), strict=True):
        atom.SetFormalCharge(charge)
        atom.SetNoImplicit(True)
    with rdBase.BlockLogs():
        Chem.SanitizeMol(mol)
        assign_from_coordinates(mol)
    return mol.GetMol()


def _laid_on(name: str, molecule: Molecule, numbers: np.ndarray, xyz: np.ndarray) -> Molecule:
    """A molecule renumbered to the atom order of a geometry, found by its bonds; stereo is that of the geometry."""
    if not np.array_equal(np.sort(numbers), np.sort(molecule.numbers)):
        raise RecordError(
            "elements differ from SMILES",
            f"{name}: the geometry is {formula(numbers)}, the SMILES with its hydrogens {formula(molecule.numbers)}",
        )
    pairs = connectivity(numbers, xyz)
    match = skeleton(numbers, pairs).GetSubstructMatch(skeleton(molecule.numbers, molecule.bonds.tolist()))
    if not match or len(pairs) != len(molecule.bonds):
        raise RecordError(
            "bonds differ from SMILES", f"{name}: the bonds that its distances show are not those of the SMILES"
        )
    place, charges = np.array(match), np.zeros(len(numbers), dtype=np.int64)
    charges[place] = molecule.charges
    placed = in_space(numbers, xyz, place[molecule.bonds], molecule.orders, charges)
    if not placed.HasSubstructMatch(to_rdkit(molecule, isotopes=False), useChirality=True):
        raise RecordError("stereo differs from SMILES", f"{name}: its geometry is another stereoisomer than the SMILES")
    for atom, isotope in zip(match, molecule.isotopes.tolist(), strict=True):
        placed.GetAtomWithIdx(atom).SetIsotope(isotope)
    return from_rdkit(placed, name)


def dihedral_angles(xyz: np.ndarray, atoms: np.ndarray) -> np.ndarray:
    """Torsion angle of four atoms in each geometry [degree], −180 to 180, shape `(K,)` (IUPAC's sign)."""
    a, b, c, d = np.moveaxis(np.asarray(xyz)[:, atoms], 1, 0)
    axis = c - b
    left, right = np.cross(b - a, axis), np.cross(axis, d - c)
    with np.errstate(invalid="ignore"):  # atoms upon each other have no angle: NaN
        sine = (np.cross(left, right) * axis).sum(-1) / np.linalg.norm(axis, axis=-1)
    return np.degrees(np.arctan2(sine, (left * right).sum(-1)))


def driven_torsion(name: str, xyz: np.ndarray, dihedrals, grid=None) -> np.ndarray | None:
    """The four atoms of a one-dimensional scan, shape `(4,)`; None where several torsions were driven.

    Args:
        name: what messages call the entry.
        xyz: its geometries, shape `(K, A, 3)`.
        dihedrals: driven torsions, each four atom numbers from 0.
        grid: where known, the angles of each geometry [degree], `(K, 1)`.

    Raises:
        RecordError: when atoms do not exist or the geometries are not at these angles.
    """
    try:
        atoms = whole(name, "driven torsions", dihedrals).reshape(-1, 4)
    except (ValueError, TypeError) as error:
        raise RecordError("driven torsion unreadable", f"{name}: driven torsions are {dihedrals!r}") from error
    if len(atoms) != 1:
        return None
    if atoms.min() < 0 or atoms.max() >= xyz.shape[1] or len(set(atoms[0].tolist())) < 4:
        raise RecordError(
            "driven torsion unreadable", f"{name}: driven torsion {atoms[0].tolist()} of {xyz.shape[1]} atoms, from 0"
        )
    if grid is not None:
        expected = np.asarray(grid, dtype=np.float64).reshape(-1)
        if len(expected) != len(xyz):
            raise RecordError("shapes disagree", f"{name}: {len(expected)} grid angles, {len(xyz)} geometries")
        angles = dihedral_angles(xyz, atoms[0])
        off = np.abs((angles - expected + 180.0) % 360.0 - 180.0)
        if not (off < _GRID_TOLERANCE).all():
            k = int(np.argmin(off < _GRID_TOLERANCE))
            raise RecordError(
                "driven torsion differs from the grid",
                f"{name}: torsion {atoms[0].tolist()} of geometry {k + 1} is at {angles[k]:.1f} degrees, the grid says "
                f"{expected[k]:.1f}; are atoms counted from 0 and in the order of the coordinates?",
            )
    return atoms[0]
