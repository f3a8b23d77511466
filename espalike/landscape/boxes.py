"""A peptide in boxes of water, in which steps of force fields are timed: the same water and coordinates for all."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from scipy.spatial import cKDTree

from espalike.chem import embed, from_smiles
from espalike.chem.molecule import Molecule
from espalike.units import factor

if TYPE_CHECKING:
    import openmm

_CUTOFF = 9.0
"""Cut-off of pairs in real space [Å]."""
_NEAREST = 2.4
"""Water whose atoms are nearer to the peptide's is left out [Å]."""
_DENSITY = 0.0334
"""Density of water [molecules per Å³]."""
_NM = factor("nm")
_SIGMA, _EPSILON, _CHARGES = 0.315075, 0.635968, (-0.834, 0.417, 0.417)
"""TIP3P of W. L. Jorgensen et al., J. Chem. Phys. 1983, 79, 926 [nm, kJ/mol, e]."""
_MASSES, _OH, _HOH = (15.99943, 1.007947, 1.007947), 0.09572, np.radians(104.52)


def peptide(residues: int) -> Molecule:
    """An alanine peptide with neutral ends."""
    return from_smiles("CC(=O)" + "N[C@@H](C)C(=O)" * residues + "NC", f"alanine peptide {residues}")


@dataclass(frozen=True, eq=False)
class Box:
    """The peptide of four residues in water.

    Attributes:
        xyz: coordinates [Å], the peptide's first, then O, H, H of each water, shape `(N, 3)`.
        edge: of the cube [Å].
        solute: number of atoms of the peptide.
    """

    xyz: np.ndarray
    edge: float
    solute: int
    _relaxed: list[np.ndarray] = field(default_factory=list)

    def relaxed(self, system: openmm.System) -> np.ndarray:
        """Coordinates [Å] after a short minimisation by the first system that asks; the same for all later ones."""
        import openmm

        if not self._relaxed:
            platform = openmm.Platform.getPlatformByName("CPU")
            context = openmm.Context(system, openmm.VerletIntegrator(0.001), platform, {"Threads": "1"})
            context.setPositions(self.xyz / _NM)
            openmm.LocalEnergyMinimizer.minimize(context, 50.0, 60)
            self._relaxed.append(context.getState(positions=True).getPositions(asNumpy=True)._value * _NM)
        return self._relaxed[0]


@lru_cache(maxsize=4)
def box(atoms: int) -> Box:
    """A cube with about `atoms` atoms: OpenMM's box of liquid water, repeated, without what the peptide displaces."""
    from openmm import app

    molecule = peptide(4)
    xyz = embed(molecule, 1)[0]
    xyz -= (xyz.max(0) + xyz.min(0)) / 2
    wanted = max(1, (atoms - molecule.n_atoms) // 3)
    edge = max((wanted / _DENSITY) ** (1 / 3), 2 * _CUTOFF + 2.0, float(np.ptp(xyz, axis=0).max()) + 4.0)
    modeller = app.Modeller(app.Topology(), [])
    modeller.addSolvent(app.ForceField("tip3p.xml"), boxSize=_vector(edge / _NM), neutralize=False)
    water = np.array([[p.x, p.y, p.z] for p in modeller.positions._value]).reshape(-1, 3, 3) * _NM
    water -= edge / 2
    distance, _ = cKDTree(xyz).query(water.reshape(-1, 3))
    kept = water[distance.reshape(-1, 3).min(1) > _NEAREST]
    return Box(np.concatenate([xyz, kept.reshape(-1, 3)]), edge, molecule.n_atoms)


def _vector(length: float):
    import openmm

    return openmm.Vec3(length, length, length)


def within(system: openmm.System, of: Box) -> openmm.System | None:
    """A molecule's system in rigid TIP3P water with particle-mesh Ewald, or None where its pairs are a custom force.

    Args:
        system: the peptide alone.
        of: the box.
    """
    import openmm

    made = copy.deepcopy(system)
    pairs = [force for force in made.getForces() if isinstance(force, openmm.NonbondedForce)]
    if len(pairs) != 1 or any(isinstance(force, openmm.CustomNonbondedForce) for force in made.getForces()):
        return None
    (force,) = pairs
    length = of.edge / _NM
    made.setDefaultPeriodicBoxVectors((length, 0, 0), (0, length, 0), (0, 0, length))
    force.setNonbondedMethod(openmm.NonbondedForce.PME)
    force.setCutoffDistance(_CUTOFF / _NM)
    opposite = 2 * _OH * np.sin(_HOH / 2)
    for first in range(of.solute, len(of.xyz), 3):
        for mass, charge in zip(_MASSES, _CHARGES, strict=True):
            made.addParticle(mass)
            force.addParticle(charge, _SIGMA if charge < 0 else 1.0, _EPSILON if charge < 0 else 0.0)
        for i, j, distance in ((0, 1, _OH), (0, 2, _OH), (1, 2, opposite)):
            made.addConstraint(first + i, first + j, distance)
            force.addException(first + i, first + j, 0.0, 1.0, 0.0)
    return made
