"""Potentials for other programs: a calculator, model or parametrized molecule as a calculator or an OpenMM force."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache, partial
from operator import index
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from espalike.chem.molecule import Molecule, listed
from espalike.files import version_of
from espalike.qm.base import Calculator, CalculatorError, Kept, checked, finite
from espalike.units import factor

if TYPE_CHECKING:
    import openmm

    from espalike.assigners.openff import OpenFFAssigner
    from espalike.model import ForceFieldModel
    from espalike.system import MMSystem

    Source = str | Path | ForceFieldModel | MMSystem | Calculator

_NM, _KJ = factor("nm"), factor("kJ/mol")


def potential(source: Source, molecule: Molecule, **settings: Any) -> Calculator:
    """A calculator of energies and forces of a molecule, from a name, a file, a model or parameters.

    Args:
        source: the name of a calculator (`aimnet2`, `gfn2-xtb`, …), of a model (`espalike-1`, or a path) or of a
            force field of OpenFF (`openff-2.2.1`, or an .offxml file); a loaded model; the parameters of this
            molecule; or a calculator, which is returned as it is.
        molecule: the graph.
        **settings: of a calculator that is given by its name, as in `configs/calculator`.

    Raises:
        NotInstalled: when the package or the weights of a calculator are missing, with what installs them.
        TypeError: for a source or a molecule of another type.
        ValueError: for a setting that does not exist, or parameters of another molecule.
        FileNotFoundError, ModelFileError: see `espalike.load`.
    """
    from espalike.evaluation.baselines import calculator, names
    from espalike.model import ForceFieldModel
    from espalike.system import MMSystem

    listed(molecule)  # nothing else is a molecule
    if isinstance(source, str) and source in names() and source != "zero":
        return calculator(source, settings)
    if settings:
        raise ValueError(f"{source}: settings {', '.join(settings)} belong to a calculator given by its name")
    if isinstance(source, str | Path):
        source = parameters(source, molecule)
    if isinstance(source, ForceFieldModel):
        source = source.parametrize(molecule)
    if isinstance(source, MMSystem):
        return ForceFieldCalculator(source, molecule)
    if not callable(source):
        raise TypeError(f"expected a name, a model, parameters or a calculator, got {type(source).__name__}")
    return source


def parameters(name: str | Path, molecule: Molecule) -> MMSystem:
    """Parameters of a molecule by a force field: the name or file of a model or of a force field of OpenFF.

    Raises:
        NotInstalled, FileNotFoundError, ModelFileError: see `potential`.
    """
    from espalike.model import load

    if str(name).startswith("openff") or str(name).endswith(".offxml"):
        return openff(str(name))([molecule])
    return load(name).parametrize(molecule)


def openff(name: str) -> OpenFFAssigner:
    """A force field of OpenFF by name or file; see `espalike.assigners.openff.installed_file`."""
    return _openff(name, version_of(name))


@lru_cache(maxsize=4)
def _openff(name: str, version: tuple[str, int, int]) -> OpenFFAssigner:
    """A force field as long as its file stays as it is."""
    from espalike.assigners.openff import OpenFFAssigner, installed_file

    return OpenFFAssigner(installed_file(name))


class ForceFieldCalculator:
    """Energy and forces of a parametrized molecule, by OpenMM's Reference platform in double precision.

    Args:
        system: the parameters of one molecule.
        molecule: the graph, in the same order of atoms.

    Attributes:
        system: the `openmm.System`.

    Raises:
        ValueError: for parameters of another molecule.
    """

    def __init__(self, system: MMSystem, molecule: Molecule):
        import openmm

        from espalike.export import to_openmm

        if not _same(system, molecule):
            raise ValueError(f"{molecule.name}: these are the parameters of another molecule, or in another atom order")
        self.level = "espalike"
        self.program = f"openmm {openmm.__version__}"
        self.system = to_openmm(system)
        self._molecule = molecule
        self._kept = Kept()

    def __call__(self, molecule: Molecule, xyz: np.ndarray) -> tuple[float, np.ndarray]:
        """Energy [kcal/mol] and forces [kcal/mol/Å], shape `(A, 3)`; see `espalike.qm.base.Calculator`."""
        import openmm

        if molecule is not self._molecule and not _equal(molecule, self._molecule):
            reason = f"{molecule.name}: this force field has the parameters of {self._molecule.name} alone"
            raise CalculatorError("another molecule", reason)
        positions = checked(molecule, xyz) / _NM
        context = self._kept.take(molecule)
        if context is None:
            reference = openmm.Platform.getPlatformByName("Reference")
            context = openmm.Context(self.system, openmm.VerletIntegrator(0.001), reference)
        context.setPositions(positions)
        state = context.getState(energy=True, forces=True)
        self._kept.put(molecule, context)
        forces = state.getForces(asNumpy=True)._value * (_KJ / _NM)
        return finite(molecule, self.level, state.getPotentialEnergy()._value * _KJ, forces)


def _same(system: MMSystem, molecule: Molecule) -> bool:
    """Whether parameters are those of a molecule, by the elements and, where the system knows them, the bonds."""
    if len(system.molecules) == 1:
        return _equal(system.molecules[0], molecule)
    return system.n_mols == 1 and system.numbers.tolist() == molecule.numbers.tolist()


def _equal(one: Molecule, other: Molecule) -> bool:
    """Whether molecules have the same elements and bonds, in the same order of atoms."""
    return np.array_equal(one.numbers, other.numbers) and np.array_equal(one.bonds, other.bonds)


class Difference:
    """One calculator minus another.

    Args:
        first: the calculator.
        second: what is subtracted.
    """

    def __init__(self, first: Calculator, second: Calculator):
        self.level = f"{first.level} - {second.level}"
        self.program = f"{first.program}; {second.program}"
        self.first, self.second = first, second

    def __call__(self, molecule: Molecule, xyz: np.ndarray) -> tuple[float, np.ndarray]:
        """Energy [kcal/mol] and forces [kcal/mol/Å], shape `(A, 3)`; see `espalike.qm.base.Calculator`."""
        (energy, forces), (less, push) = self.first(molecule, xyz), self.second(molecule, xyz)
        return energy - less, forces - push


def force_of(calculator: Calculator, molecule: Molecule, atoms: Sequence[int] | None = None) -> openmm.PythonForce:
    """A calculator as an `openmm.PythonForce`. Nothing is cut off; in a periodic box the molecule must be whole.

    Args:
        calculator: gives energies and forces.
        molecule: the graph.
        atoms: the particles that are the molecule's atoms, in its order; None: all particles of the system.

    Raises:
        ValueError: when the number of particles is not the molecule's number of atoms, or a particle is given twice.
    """
    import openmm

    force = openmm.PythonForce(partial(_computed, calculator=calculator, molecule=molecule))
    force.setName(calculator.level)
    if atoms is not None:
        if len(atoms) != molecule.n_atoms:
            raise ValueError(f"{molecule.name}: it has {molecule.n_atoms} atoms, but {len(atoms)} particles are given")
        try:
            particles = [index(atom) for atom in atoms]
        except TypeError as error:  # 5.7 is not 5
            raise ValueError(f"{molecule.name}: particles are whole numbers; got {list(atoms)}") from error
        if len(set(particles)) < len(particles) or min(particles) < 0:
            raise ValueError(f"{molecule.name}: particles are different numbers from 0 on; got {particles}")
        force.setParticles(particles)
    return force


def _computed(state: openmm.State, calculator: Calculator, molecule: Molecule) -> tuple[float, np.ndarray]:
    """Energy [kJ/mol] and forces [kJ/mol/nm] for OpenMM."""
    energy, forces = calculator(molecule, state.getPositions(asNumpy=True)._value * _NM)
    return energy / _KJ, forces * (_NM / _KJ)
