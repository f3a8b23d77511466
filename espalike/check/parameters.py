"""Checks of parameters: charges, symmetry, renumbering, resonance forms, ranges, barriers."""

from __future__ import annotations

import numpy as np
from rdkit import Chem

from espalike.check.case import Case, Engine, Fault, NotApplicable
from espalike.chem.molecule import Molecule, from_rdkit, to_rdkit
from espalike.qm.sampling.constrained import turned
from espalike.qm.sampling.torsions import rotatable

_ENERGY = 1e-3
"""Largest difference of energies that must be equal [kcal/mol]."""
_CHARGE = 1e-4
"""Largest difference of the sum of charges from the net charge [e]."""
_BARRIER = 60.0
"""Highest barrier of torsion terms about one bond [kcal/mol]."""
_PERMUTATIONS, _FORMS = 50, 8
_TORSIONS = ("PeriodicTorsionForce", "RBTorsionForce", "CustomTorsionForce", "CMAPTorsionForce")


def charges(case: Case) -> None:
    """Charges add up to the net charge."""
    import openmm

    forces = [force for force in case.system.getForces() if isinstance(force, openmm.NonbondedForce)]
    if not forces:
        raise NotApplicable("no NonbondedForce")
    total = sum(force.getParticleParameters(i)[0]._value for force in forces for i in range(case.molecule.n_atoms))
    net = int(case.molecule.charges.sum())
    if not abs(total - net) < _CHARGE:
        raise Fault(f"charges add up to {total:.6f} e; expected {net}")


def symmetry(case: Case) -> None:
    """Energies do not change when equivalent atoms change places.

    Atoms are equivalent by elements and bonds; bond orders and formal charges, which resonance moves, do not count.
    """
    skeleton = Chem.RWMol()
    for number in case.molecule.numbers.tolist():
        skeleton.AddAtom(Chem.Atom(number))
    for i, j in case.molecule.bonds.tolist():
        skeleton.AddBond(i, j, Chem.BondType.SINGLE)
    for atom in skeleton.GetAtoms():
        atom.SetNoImplicit(True)
    skeleton.UpdatePropertyCache(strict=False)
    same = skeleton.GetSubstructMatches(skeleton, uniquify=False, maxMatches=2000)
    if len(same) < 2:
        raise NotApplicable("no equivalent atoms")
    energy = case.engine.energy(case.moved)
    rng = np.random.default_rng(0)
    for row in rng.permutation(len(same))[:_PERMUTATIONS]:
        permutation = np.array(same[row])
        if abs(case.engine.energy(case.moved[permutation]) - energy) > _ENERGY:
            different = np.flatnonzero(permutation != np.arange(len(permutation))).tolist()
            other = case.engine.energy(case.moved[permutation])
            raise Fault(
                f"equivalent atoms differ: energy {other - energy:+.3g} kcal/mol when they change places", different
            )


def renumbering(case: Case) -> None:
    """Energies do not depend on the order of the atoms."""
    order = np.random.default_rng(0).permutation(case.molecule.n_atoms)
    other = from_rdkit(Chem.RenumberAtoms(to_rdkit(case.molecule), order.tolist()), case.molecule.name)
    _same_energy(case, other, case.moved[order], "in another order of atoms")


def resonance(case: Case) -> None:
    """Energies do not depend on the resonance form that is drawn.

    Kekulé structures of aromatic rings do not count: a molecule keeps one of them, however it is drawn.
    """
    forms = list(Chem.ResonanceMolSupplier(to_rdkit(case.molecule), maxStructs=_FORMS))
    drawn = [form for form in forms if form is not None]
    if len(drawn) < 2:
        raise NotApplicable("one resonance form")
    for form in drawn:
        _same_energy(case, from_rdkit(form, case.molecule.name), case.moved, "in another resonance form")


def _same_energy(case: Case, other: Molecule, xyz: np.ndarray, what: str) -> None:
    energy_of = case.field.energy or (lambda molecule, at: Engine(case.field.system(molecule)).energy(at))
    try:
        energy = energy_of(other, xyz)
    except Exception as error:  # whatever a force field raises, this form has no parameters
        raise Fault(f"no parameters {what}: {error}") from error
    difference = energy - case.engine.energy(case.moved)
    if abs(difference) > _ENERGY:
        raise Fault(f"energy {difference:+.3g} kcal/mol {what}")


def ranges(case: Case) -> None:
    """Parameters are in the ranges that physics allows."""
    from espalike.ranges import ParameterError, check_ranges

    if case.field.parameters is None:
        raise NotApplicable("systems only")
    try:
        check_ranges(case.field.parameters(case.molecule))
    except ParameterError as error:
        raise Fault(str(error)) from error


def barriers(case: Case) -> float:
    """No barrier of the torsion terms about a bond is above 60 kcal/mol. Value: the highest [kcal/mol]."""
    rows = rotatable(case.molecule)
    system = case.only(*_TORSIONS)
    if not rows or not system.getNumForces():
        raise NotApplicable("no rotatable bond")
    engine, highest = Engine(system), 0.0
    for row in rows:
        energies = [engine.energy(turned(case.molecule, case.start, {row: float(a)})) for a in range(0, 360, 15)]
        barrier = max(energies) - min(energies)
        if not barrier < _BARRIER:
            raise Fault(f"torsions about a bond have a barrier of {barrier:.0f} kcal/mol", row[1:3])
        highest = max(highest, barrier)
    return highest
