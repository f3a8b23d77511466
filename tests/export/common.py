"""What the export tests share: a model far from its means, perturbed geometries, OpenMM's float64 engine."""

import functools
import io
import math

import numpy as np
import openmm
import torch
from openmm import app

from espalike import chem
from espalike.export import to_topology
from espalike.export.ffxml import to_ffxml
from espalike.model import ForceFieldModel
from espalike.nn.convs import SAGE
from espalike.terms.angle import HarmonicAngle
from espalike.terms.bond import HarmonicBond
from espalike.terms.coulomb import Coulomb
from espalike.terms.lennard_jones import LennardJones
from espalike.terms.torsion import PeriodicImproper, PeriodicProper, PeriodicProperPhase
from espalike.types import Bound, MMSystem, Molecule
from espalike.units import KJ_PER_KCAL


@functools.cache
def model() -> ForceFieldModel:
    torch.manual_seed(0)
    terms = [HarmonicBond(), HarmonicAngle(), PeriodicProper(), PeriodicImproper(), LennardJones(), Coulomb()]
    made = ForceFieldModel(terms, SAGE, width=32, layers=3, hidden=32).double()
    with torch.no_grad():
        for name, value in made.named_parameters():
            if name.endswith("tuple.3.weight"):  # a fresh model's parameters are all near their means
                value.mul_(30.0)
    return made.eval()


@functools.cache
def case(smiles: str) -> tuple[Molecule, np.ndarray, MMSystem]:
    """Molecule, a perturbed ETKDG geometry [Å] `(A, 3)` and its parameters, propers of any phase among them."""
    molecule = chem.from_smiles(smiles)
    rng = np.random.default_rng(7)
    xyz = chem.embed(molecule, 1, seed=7)[0]
    xyz = xyz + rng.normal(0.0, 0.08, xyz.shape)
    return molecule, xyz, with_phases(model().parametrize(molecule), rng)


def with_phases(system: MMSystem, rng: np.random.Generator) -> MMSystem:
    tuples = system.bound("PeriodicProper").tuples
    k, phase = rng.normal(0.0, 0.5, (len(tuples.idx), 6)), rng.uniform(-math.pi, math.pi, (len(tuples.idx), 6))
    extra = Bound(PeriodicProperPhase(), tuples, torch.from_numpy(np.concatenate([k, phase], axis=1)))
    return MMSystem((*system.terms, extra), system.numbers, system.mol, system.molecules)


def only(system: MMSystem, bound: Bound) -> MMSystem:
    return MMSystem((bound,), system.numbers, system.mol, system.molecules)


def evaluate(system: openmm.System, xyz: np.ndarray) -> tuple[float, np.ndarray]:
    """Energy [kcal/mol] and forces [kcal/mol/Å] by OpenMM's float64 platform."""
    platform = openmm.Platform.getPlatform("Reference")
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), platform)
    context.setPositions(np.asarray(xyz) / 10.0)
    state = context.getState(energy=True, forces=True)
    energy = state.getPotentialEnergy()._value / KJ_PER_KCAL
    return energy, np.array(state.getForces(asNumpy=True)._value) / (KJ_PER_KCAL * 10.0)


def from_ffxml(system: MMSystem, molecule: Molecule) -> openmm.System:
    """What a user gets: the XML read by `ForceField` and applied to the molecule's topology."""
    field = app.ForceField(io.StringIO(to_ffxml(system)))
    return field.createSystem(to_topology(molecule))
