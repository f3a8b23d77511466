"""What the export tests share: a model far from its means, perturbed geometries, OpenMM's float64 engine."""

import functools
import io
import math
from importlib.resources import files

import numpy as np
import openmm
import pytest
import torch
from openmm import app

from espalike import chem
from espalike.batch import batch_of
from espalike.chem.molecule import Molecule
from espalike.energy import energy
from espalike.export import to_topology
from espalike.export.ffxml import to_ffxml
from espalike.model import ForceFieldModel, from_config
from espalike.nn.convs import SAGE
from espalike.system import Bound, MMSystem
from espalike.terms.angle import HarmonicAngle
from espalike.terms.base import PairTerm, Term
from espalike.terms.bond import HarmonicBond
from espalike.terms.coulomb import Coulomb
from espalike.terms.lennard_jones import LennardJones
from espalike.terms.torsion import PeriodicImproper, PeriodicProper, PeriodicProperPhase
from espalike.units import KJ_PER_KCAL
from tests.terms.common import values

FIELDS = sorted(
    file.name.removesuffix(".yaml")
    for file in files("espalike.configs.forcefield").iterdir()
    if file.name[-5:] == ".yaml"
)
"""Every force field of `configs/forcefield`."""


def far(made: ForceFieldModel) -> ForceFieldModel:
    """The untrained model in float64 with parameters far from their means, where a fresh one's all are."""
    with torch.no_grad():
        for name, value in made.named_parameters():
            if name.endswith("tuple.3.weight"):
                value.mul_(30.0)
            elif value.ndim == 0:  # universal
                value.fill_(0.7)
    return made.double().eval()


@functools.cache
def model() -> ForceFieldModel:
    torch.manual_seed(0)
    terms = [HarmonicBond(), HarmonicAngle(), PeriodicProper(), PeriodicImproper(), LennardJones(), Coulomb()]
    return far(ForceFieldModel(terms, SAGE, width=32, layers=3, hidden=32))


@functools.cache
def field_model(name: str, seed: int = 0) -> ForceFieldModel:
    """An untrained model of a force field of `configs/forcefield`, parameters far from their means."""
    from hydra import compose, initialize_config_module
    from omegaconf import OmegaConf

    with initialize_config_module("espalike.configs", version_base="1.3"):
        plain = OmegaConf.to_container(compose("train", [f"forcefield={name}", "model=tiny"]), resolve=True)
    torch.manual_seed(seed)
    terms = list(plain["forcefield"]["term"].values())
    return far(from_config({"terms": terms, "conv": plain["conv"], "levels": ["none"], **plain["model"]}))


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


def perturbed(molecule: Molecule, seed: int = 7) -> np.ndarray:
    """An embedded geometry [Å] `(A, 3)` with noise: nothing is planar, straight or symmetric."""
    xyz = chem.embed(molecule, 1, seed=seed)[0]
    return xyz + np.random.default_rng(seed).normal(0.0, 0.08, xyz.shape)


def with_term(term: Term, smiles: str, seed: int = 0) -> tuple[Molecule, np.ndarray, MMSystem]:
    """Molecule, perturbed geometry and a system of one term alone with random parameters."""
    molecule = chem.from_smiles(smiles)
    batch = batch_of([molecule], torch.float64)
    tuples = batch.tuples[term.kind]
    rows = molecule.n_atoms if isinstance(term, PairTerm) else len(tuples.idx)
    drawn = values(term, rows, seed)
    for column, param in enumerate(term.params):
        if param.link == "charge":
            drawn[:, column] += (molecule.net_charge - drawn[:, column].sum()) / rows
    system = MMSystem((Bound(term, tuples, drawn),), batch.numbers, batch.mol, (molecule,))
    return molecule, perturbed(molecule), system


def only(system: MMSystem, bound: Bound) -> MMSystem:
    return MMSystem((bound,), system.numbers, system.mol, system.molecules)


def reference(system: MMSystem, xyz: np.ndarray) -> tuple[float, np.ndarray]:
    """Energy [kcal/mol] and forces [kcal/mol/Å] by torch."""
    found = energy(system, torch.from_numpy(xyz)[None])
    return found.energy.item(), found.forces[0].numpy()


def agree(found, expected) -> None:
    """Energies and forces are equal; the size of the largest force says what rounding is."""
    assert found[0] == pytest.approx(expected[0], rel=1e-9, abs=1e-9)
    np.testing.assert_allclose(found[1], expected[1], rtol=1e-9, atol=1e-10 * max(100.0, np.abs(expected[1]).max()))


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
