"""How far minimisation leads away from relaxed QM geometries, as the OpenFF industry benchmark measures it.

L. D'Amore et al., J. Chem. Inf. Model. 2022, 62, 6094: RMSD of heavy atoms, torsion fingerprint deviation (TFD,
T. Schulz-Gasch et al., J. Chem. Inf. Model. 2012, 52, 1499), and ddE, the error of relative energies of minima.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from rdkit import Chem
from rdkit.Chem import TorsionFingerprints, rdMolAlign

from espalike.chem.bonds import intact
from espalike.chem.molecule import Molecule, to_rdkit
from espalike.data.schema import Record
from espalike.potential import potential
from espalike.qm.base import Calculator, CalculatorError
from espalike.qm.sampling.minimise import minimised
from espalike.topology import enumerate_tuples

_STEPS = 500
_VANISHING = 2.0
"""Largest component of the forces at a minimum [kcal/mol/Å]."""


@dataclass(frozen=True)
class Moved:
    """How far a geometry moved.

    Attributes:
        rmsd: of heavy atoms [Å].
        tfd: torsion fingerprint deviation, 0 to 1; NaN where nothing turns.
        bonds: mean absolute change of lengths [Å].
        angles: mean absolute change [degree].
        torsions: root mean square change of torsions through heavy atoms [degree]; NaN where there are none.
        energy: of the minimum [kcal/mol].
    """

    rmsd: float
    tfd: float
    bonds: float
    angles: float
    torsions: float
    energy: float


def geometries(
    records: Sequence[Record],
    methods: Mapping[str, str],
    count: int,
    tick: Callable[[], None] = lambda: None,
    conformers: int = 4,
) -> dict[str, dict[str, float]]:
    """Minimise relaxed geometries with every method: what moves, by method.

    RMSD [Å], TFD, changes of bonds [Å], angles and torsions [degree] are medians over geometries. `ddE` [kcal/mol] is
    the root mean square, over geometries, of the error of energies of minima relative to the one that is lowest in the
    reference. Geometries that a method cannot minimise are left out for that method.

    Args:
        records: entries; relaxed geometries of the first `count` molecules are taken.
        methods: by name, what `espalike.potential.potential` takes.
        count: number of molecules.
        tick: called after each molecule of each method.
        conformers: geometries of a molecule, those of lowest energy.
    """
    chosen = _chosen(records, count, conformers)
    result = {}
    for method, source in methods.items():
        rows: list[Moved] = []
        errors: list[float] = []
        molecules = 0
        for molecule, xyz, energies in chosen:
            moved = _molecule(molecule, xyz, source)
            rows += [row for row in moved if row is not None]
            molecules += any(row is not None for row in moved)
            errors += _relative(moved, energies)
            tick()
        if rows:
            medians = {
                name: _median([getattr(row, name) for row in rows])
                for name in ("rmsd", "tfd", "bonds", "angles", "torsions")
            }
            dde = float(np.sqrt(np.mean(np.square(errors)))) if errors else float("nan")
            result[method] = {"molecules": molecules, "geometries": len(rows), **medians, "ddE": dde}
    return result


def number(records: Sequence[Record], count: int) -> int:
    """How many molecules `geometries` takes."""
    return len(_chosen(records, count, 1))


def _chosen(records: Sequence[Record], count: int, most: int) -> list[tuple[Molecule, np.ndarray, np.ndarray]]:
    """Molecules with their lowest relaxed geometries [Å] and the energies [kcal/mol] of these.

    The first entry of each molecule with more than one relaxed geometry is taken, or else its first entry.
    """
    found: dict[str, Record] = {}
    for record in records:
        if not _is_minimum(record) or record.molecule.n_atoms <= 3:
            continue
        key = record.key or record.molecule.smiles
        if key not in found or len(found[key].conformers.xyz) == 1 < len(record.conformers.xyz):
            found[key] = record
    result = []
    for record in list(found.values())[:count]:
        energies = np.asarray(record.conformers.energy, np.float64)
        kept = np.argsort(energies, kind="stable")[:most]
        result.append((record.molecule, np.asarray(record.conformers.xyz, np.float64)[kept], energies[kept]))
    return result


def _is_minimum(record: Record) -> bool:
    """Whether an entry's geometries are minima of its level of theory: forces vanish, or, without forces, by its kind.

    Geometries that another method relaxed, as those of the embedded set, are none.
    """
    forces = record.conformers.forces
    return record.kind == "relaxed" if forces is None else bool(np.abs(forces).max() < _VANISHING)


def _molecule(molecule: Molecule, xyz: np.ndarray, source: str) -> list[Moved | None]:
    try:
        calculator = potential(source, molecule)
    except (CalculatorError, ValueError):
        return [None] * len(xyz)
    rows: list[Moved | None] = []
    for one in xyz:
        try:
            rows.append(_moved(molecule, one, calculator))
        except (CalculatorError, ValueError):
            rows.append(None)
    return rows


def _relative(moved: Sequence[Moved | None], energies: np.ndarray) -> list[float]:
    """Errors of energies relative to the first geometry's, which is lowest in the reference."""
    if not moved or moved[0] is None or not np.isfinite(energies).all():
        return []
    first = moved[0]
    return [
        (row.energy - first.energy) - (energy - energies[0])
        for row, energy in zip(moved[1:], energies[1:], strict=True)
        if row is not None
    ]


def _moved(molecule: Molecule, xyz: np.ndarray, calculator: Calculator) -> Moved:
    found = minimised(calculator, molecule, xyz, _STEPS)
    if not intact(molecule, found):
        raise CalculatorError("bonds broken", f"{molecule.name}: minimisation breaks or forms a bond")
    before, after = to_rdkit(molecule, xyz), to_rdkit(molecule, found)
    heavy = [(i, i) for i, number in enumerate(molecule.numbers.tolist()) if number > 1]
    tuples = enumerate_tuples(molecule.numbers, molecule.bonds, molecule.orders, molecule.charges)
    propers = [row for row in tuples.propers.tolist() if all(molecule.numbers[i] > 1 for i in row)]
    turned = [_turn(_torsion(xyz, row), _torsion(found, row)) for row in propers]
    angles = np.abs(_angles(found, tuples.angles) - _angles(xyz, tuples.angles))
    i, j = molecule.bonds.T
    lengths = [np.linalg.norm(points[i] - points[j], axis=1) for points in (xyz, found)]
    return Moved(
        rmsd=rdMolAlign.AlignMol(Chem.Mol(after), before, atomMap=heavy) if len(heavy) > 1 else 0.0,
        tfd=_tfd(before, after),
        bonds=float(np.abs(lengths[1] - lengths[0]).mean()),
        angles=float(angles.mean()) if len(angles) else float("nan"),
        torsions=float(np.sqrt(np.mean(np.square(turned)))) if turned else float("nan"),
        energy=calculator(molecule, found)[0],
    )


def _tfd(before: Chem.Mol, after: Chem.Mol) -> float:
    """Torsion fingerprint deviation of heavy atoms; NaN for molecules that have no torsion to compare."""
    pair = [Chem.RemoveHs(mol) for mol in (before, after)]
    try:
        return float(TorsionFingerprints.GetTFDBetweenMolecules(*pair))
    except (ValueError, ZeroDivisionError, IndexError, Chem.KekulizeException):
        return float("nan")


def _angles(xyz: np.ndarray, tuples: np.ndarray) -> np.ndarray:
    a, b, c = np.reshape(tuples, (-1, 3)).T
    u, v = xyz[a] - xyz[b], xyz[c] - xyz[b]
    return np.degrees(np.arctan2(np.linalg.norm(np.cross(u, v), axis=1), (u * v).sum(1)))


def _torsion(xyz: np.ndarray, atoms: Sequence[int]) -> float:
    from espalike.qm.sampling.torsions import measured

    return measured(xyz, atoms)


def _turn(first: float, second: float) -> float:
    """Difference of two torsions [degree], within ±180."""
    return (second - first + 180.0) % 360.0 - 180.0


def _median(values: Sequence[float]) -> float:
    finite = [value for value in values if np.isfinite(value)]
    return float(np.median(finite)) if finite else float("nan")
