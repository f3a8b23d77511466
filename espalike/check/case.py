"""One molecule with a force field: geometries, energies, dynamics. Units: Å, kcal/mol, fs, ps, K."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from rdkit.Chem import rdForceFieldHelpers

from espalike.check.fields import Field
from espalike.chem import embed
from espalike.chem.molecule import Molecule, to_rdkit
from espalike.units import BOLTZMANN, factor

if TYPE_CHECKING:
    import openmm

_NM, _KJ = factor("nm"), factor("kJ/mol")
_EVERY = 20
"""Steps between samples of dynamics."""
STEP = 0.5
"""Time step of dynamics [fs]."""
ENSEMBLES = ((300.0, 5.0), (300.0, 2.0), (500.0, 2.0))
"""Temperature [K] and friction [1/ps] of the integrators of `Case.engine`; after them comes one of constant energy."""


class Fault(Exception):
    """A check has failed.

    Attributes:
        atoms: those to mark in a drawing, counted from 0.
    """

    def __init__(self, message: str, atoms: Sequence[int] = ()):
        super().__init__(message)
        self.atoms = tuple(map(int, atoms))


class NotApplicable(Exception):
    """A check has nothing to look at in this molecule; the message says why."""


class Engine:
    """A system on OpenMM's Reference platform, in double precision.

    Args:
        system: of one molecule.
        integrator: of dynamics; None where only energies are computed.
    """

    def __init__(self, system: openmm.System, integrator: openmm.Integrator | None = None):
        import openmm

        self.integrator = integrator or openmm.VerletIntegrator(0.001)
        self.context = openmm.Context(system, self.integrator, openmm.Platform.getPlatformByName("Reference"))
        self.n_atoms = system.getNumParticles()

    def energy(self, xyz: np.ndarray) -> float:
        """Potential energy [kcal/mol] at `xyz` [Å]."""
        self.context.setPositions(xyz / _NM)
        return self.context.getState(energy=True).getPotentialEnergy()._value * _KJ

    def forces(self, xyz: np.ndarray) -> np.ndarray:
        """Forces [kcal/mol/Å] at `xyz` [Å], both `(A, 3)`."""
        self.context.setPositions(xyz / _NM)
        return self.context.getState(forces=True).getForces(asNumpy=True)._value * (_KJ / _NM)

    def minimised(self, xyz: np.ndarray, steps: int = 2000) -> np.ndarray:
        """The geometry [Å] of the minimum near `xyz`."""
        import openmm

        self.context.setPositions(xyz / _NM)
        openmm.LocalEnergyMinimizer.minimize(self.context, 1.0, steps)
        return self.positions()

    def positions(self) -> np.ndarray:
        """Present coordinates [Å], shape `(A, 3)`."""
        return self.context.getState(positions=True).getPositions(asNumpy=True)._value * _NM

    def run(self, steps: int) -> Iterator[tuple[float, float, np.ndarray]]:
        """Dynamics; every 20 steps the temperature [K], the total energy [kcal/mol] and the geometry [Å]."""
        for _ in range(steps // _EVERY):
            self.integrator.step(_EVERY)
            state = self.context.getState(positions=True, energy=True)
            kinetic = state.getKineticEnergy()._value * _KJ
            total = kinetic + state.getPotentialEnergy()._value * _KJ
            temperature = 2 * kinetic / (3 * self.n_atoms * BOLTZMANN)
            yield temperature, total, state.getPositions(asNumpy=True)._value * _NM


@dataclass(frozen=True)
class Case:
    """A molecule with a force field.

    Attributes:
        molecule: the graph.
        field: gives its parameters.
        picoseconds: length of each run of dynamics.
    """

    molecule: Molecule
    field: Field
    picoseconds: float = 5.0

    @cached_property
    def system(self) -> openmm.System:
        """The system of the molecule alone; errors as of `Field.system`."""
        return self.field.system(self.molecule)

    @cached_property
    def engine(self) -> Engine:
        """The engine of energies and dynamics, one for all checks: custom forces take seconds to compile."""
        import openmm

        integrators = openmm.CompoundIntegrator()
        for temperature, friction in ENSEMBLES:
            integrator = openmm.LangevinMiddleIntegrator(temperature, friction, STEP * 1e-3)
            integrator.setRandomNumberSeed(1)
            integrators.addIntegrator(integrator)
        integrators.addIntegrator(openmm.VerletIntegrator(STEP * 1e-3))
        return Engine(self.system, integrators)

    @cached_property
    def start(self) -> np.ndarray:
        """A conformer [Å], relaxed with MMFF94 where that has parameters, shape `(A, 3)`."""
        xyz = embed(self.molecule, 1)[0]
        mol = to_rdkit(self.molecule, xyz)
        if rdForceFieldHelpers.MMFFHasAllMoleculeParams(mol):
            rdForceFieldHelpers.MMFFOptimizeMolecule(mol, maxIters=2000)
        return mol.GetConformer().GetPositions()

    @cached_property
    def moved(self) -> np.ndarray:
        """The conformer with every coordinate changed at random by 0.05 Å [Å], shape `(A, 3)`."""
        return self.start + np.random.default_rng(0).normal(0.0, 0.05, self.start.shape)

    @cached_property
    def relaxed(self) -> np.ndarray:
        """The minimum near the conformer [Å], shape `(A, 3)`."""
        return self.engine.minimised(self.start)

    def lengths(self, xyz: np.ndarray) -> np.ndarray:
        """Lengths of the bonds [Å], shape `(B,)`."""
        i, j = self.molecule.bonds.T
        return np.linalg.norm(xyz[i] - xyz[j], axis=1)

    def only(self, *classes: str) -> openmm.System:
        """The system with the forces of some classes of OpenMM only."""
        system = copy.deepcopy(self.system)
        for number in reversed(range(system.getNumForces())):
            if type(system.getForce(number)).__name__ not in classes:
                system.removeForce(number)
        return system


def relative_error(freedom: int, ps: float, friction: float) -> float:
    """Standard error of the mean temperature of a Langevin run, relative to the temperature.

    The temperature of `freedom` degrees of freedom has the relative variance 2 / freedom, and a correlation time of
    1 / (2 friction), so that a run averages over friction · ps independent values.

    Args:
        freedom: number of degrees of freedom.
        ps: length of the run [ps].
        friction: of the thermostat [1/ps].
    """
    return math.sqrt(2 / freedom / max(1.0, friction * ps))
