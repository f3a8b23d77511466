"""Dipole moments and electrostatic potentials of methods against those of the labels."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from espalike.chem.molecule import Molecule, to_rdkit
from espalike.data.schema import Record
from espalike.potential import ForceFieldCalculator, potential
from espalike.qm.base import Calculator, CalculatorError, gives, labelled
from espalike.qm.mmff import MMFFCalculator
from espalike.qm.openmm_xml import SystemCalculator
from espalike.units import COULOMB, DEBYE


def electrostatics(
    records: Sequence[Record], methods: Mapping[str, str], tick: Callable[[], None] = lambda: None
) -> dict[str, dict[str, float]]:
    """Errors over one geometry of each molecule whose label has a dipole moment, by method.

    `dipole` is the root mean square error of the vector [debye], `ESP` that of the potential at the points of the
    label [kcal/mol/e], `ESP, relative` the latter divided by the root mean square of the label's potential, root mean
    square over molecules. Force fields have the potential of their partial charges; other methods have their own dipole
    moments, and no potential. A method that has neither is left out.

    Args:
        records: entries.
        methods: by name, what `espalike.potential.potential` takes.
        tick: called after each molecule of each method.
    """
    chosen = _chosen(records)
    result = {}
    for method, source in methods.items():
        dipoles: list[float] = []
        squares: list[tuple[float, float]] = []
        for record in chosen:
            try:
                calculator = potential(source, record.molecule)
                charges = charges_of(calculator, record.molecule)
                dipoles += _dipole(record, calculator, charges)
            except (CalculatorError, ValueError):
                continue
            finally:
                tick()
            if charges is not None:
                squares += _potential(record, charges)
        if dipoles:
            found = {"molecules": len(dipoles), "dipole": _root(dipoles) / DEBYE}
            if squares:
                errors, references = np.array(squares).T
                found |= {"ESP": _root(errors), "ESP, relative": float(np.sqrt(np.mean(errors / references)))}
            result[method] = found
    return result


def number(records: Sequence[Record]) -> int:
    """How many molecules `electrostatics` takes."""
    return len(_chosen(records))


def _chosen(records: Sequence[Record]) -> list[Record]:
    """The first entry of each molecule whose first geometry has a dipole moment; one with a potential if there is."""
    found: dict[str, Record] = {}
    for record in records:
        dipole, key = record.conformers.dipole, record.key or record.molecule.smiles
        if dipole is None or not np.isfinite(dipole[0]).all():
            continue
        if key not in found or (found[key].conformers.esp is None and record.conformers.esp is not None):
            found[key] = record
    return list(found.values())


def charges_of(calculator: Calculator, molecule: Molecule) -> np.ndarray | None:
    """Partial charges [e] of a force field, shape `(A,)`; None for other methods.

    Raises:
        CalculatorError: when the force field has no parameters for the molecule.
    """
    if isinstance(calculator, MMFFCalculator):
        from rdkit.Chem import rdForceFieldHelpers

        properties = rdForceFieldHelpers.MMFFGetMoleculeProperties(to_rdkit(molecule), mmffVariant=calculator.level)
        if properties is None:
            raise CalculatorError("no parameters", f"{molecule.name}: {calculator.level} has no charges")
        return np.array([properties.GetMMFFPartialCharge(i) for i in range(molecule.n_atoms)])
    if isinstance(calculator, ForceFieldCalculator):
        system = calculator.system
    elif isinstance(calculator, SystemCalculator):
        system = calculator.system(molecule)
    else:
        return None
    for force in system.getForces():
        if type(force).__name__ == "NonbondedForce":
            charges = [force.getParticleParameters(i)[0]._value for i in range(force.getNumParticles())]
            return np.array(charges) if any(charges) else None
    return None


def _dipole(record: Record, calculator: Calculator, charges: np.ndarray | None) -> list[float]:
    """Squared length of the error of the first geometry's dipole moment [e² Å²], if the method has one."""
    xyz, reference = np.asarray(record.conformers.xyz[0], np.float64), record.conformers.dipole
    if charges is not None:
        found: np.ndarray | None = charges @ xyz
    else:
        found = labelled(calculator, record.molecule, xyz).dipole if gives(calculator, "dipole") else None
    return [] if found is None or reference is None else [float(((found - reference[0]) ** 2).sum())]


def _potential(record: Record, charges: np.ndarray) -> list[tuple[float, float]]:
    """Mean squares of the error and of the reference at the first geometry's points, if the label has any."""
    esp = record.conformers.esp
    if esp is None or not esp.count[0]:
        return []
    points, values = esp.points[: esp.count[0]], np.asarray(esp.values[: esp.count[0]], np.float64)
    distances = np.linalg.norm(np.asarray(points, np.float64)[:, None] - record.conformers.xyz[0], axis=2)
    return [(float(np.mean((COULOMB * (charges / distances).sum(1) - values) ** 2)), float(np.mean(values**2)))]


def _root(squares: Sequence[float] | np.ndarray) -> float:
    return float(np.sqrt(np.mean(squares)))
