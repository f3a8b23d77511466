"""Garnet, a force field of a graph network with double-exponential van der Waals.

A. Blanco-González, T. K. Schulze, E. Rovers, J. G. Greener, Chem. Sci. 2026, doi 10.1039/d6sc02874h. Wheel: `garnetff`.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from espalike.assigners import AssignerError
from espalike.assigners.openff import packages, quiet
from espalike.chem.molecule import Molecule

if TYPE_CHECKING:
    import openmm

_ROUNDING = 1e-4
"""Radians."""


class GarnetAssigner:
    """Systems of single molecules, without cut-off and constraints.

    Raises:
        ImportError: when `garnetff` or the OpenFF packages are missing.
    """

    def __init__(self) -> None:
        with packages():
            from openff.toolkit import Molecule as OpenFFMolecule
        with quiet():
            from garnetff import garnet
        self._model, self._molecule_class = garnet, OpenFFMolecule

    def system(self, molecule: Molecule) -> openmm.System:
        """The system of a molecule, particles in its atom order.

        Raises:
            AssignerError: when Garnet does not support the molecule.
        """
        with quiet():
            try:
                one = self._molecule_class.from_mapped_smiles(molecule.smiles, allow_undefined_stereo=True)
                return _rounded(self._model.topology_to_openmm_system(one.to_topology(), removeCMMotion=False)[0])
            except Exception as error:  # of many kinds; elements and charges that it does not know are ValueErrors
                raise AssignerError(f"{molecule.name}: Garnet has no parameters for this molecule: {error}") from error


def _rounded(system: openmm.System) -> openmm.System:
    """The system with equilibrium angles of at most π, above which OpenMM takes none; single precision rounds π up."""
    import openmm

    for force in system.getForces():
        if isinstance(force, openmm.HarmonicAngleForce):
            for i in range(force.getNumAngles()):
                *atoms, angle, k = force.getAngleParameters(i)
                if math.pi < angle._value < math.pi + _ROUNDING:
                    force.setAngleParameters(i, *atoms, math.pi, k)
    return system
