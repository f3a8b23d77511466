"""What the export tests share: molecules, geometries, force fields of a network and of drawn parameters."""

import functools
import io
import math
import re
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
from espalike.export import texts, to_topology
from espalike.model import ForceFieldModel, from_config
from espalike.nn.convs import SAGE
from espalike.system import Bound, MMSystem
from espalike.terms.angle import HarmonicAngle
from espalike.terms.base import PairTerm, Param, Term
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
ASPIRIN = "CC(=O)Oc1ccccc1C(=O)[O-]"
FAST = (
    "CC(=O)Oc1ccccc1C(=O)[O-]", "NC(=[NH2+])NCCCC(N)C(=O)[O-]", "CC#CC(=O)N", "C12C3C4C1C5C2C3C45", "C1C2CC12",
    "Cc1ncc([N+](=O)[O-])n1CCO", "C[N+](C)(C)CCO", "CC(C)N=C=NC(C)C", "[Na+]",
)  # fmt: skip
"""Rings of three to six, linear centres, ions, pairs that are 1-4 twice, a lone atom."""
FURTHER = (
    "C[n+]1ccccc1", "CS(=O)(=O)[O-]", "FC(F)(F)c1ccc(Br)cc1", "C1=CC1", "CC(C)N=[N+]=[N-]", "C=C=C=C", "c1nnn[n-]1",
    "NC(=S)N", "CSSC", "OO", "CC(=O)NO", "C1OCC1F", "C[N+](C)(C)CC(=O)[O-]", "OP(=O)(O)C(Cl)P(=O)(O)[O-]",
    "CN(C)C(=N)NC(=N)N", "C1COCCOCCOCCOCCO1", "[C-]#[N+]CC(=O)OC", "O", "[H][H]", "[Zn+2]", "O=C=O", "[NH4+]", "C#N",
    "F[P-](F)(F)(F)(F)F", "CO", "ClCl",
)  # fmt: skip


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
    return plus(system, extra)


def with_equal_phases(molecule: Molecule) -> MMSystem:
    """Class I with torsions of any phase; equal for atoms that the graph cannot tell apart."""
    system = model().parametrize(molecule)
    plain = system.bound("PeriodicProper")
    rows = torch.cat([plain.values.flip(1), 2.0 * plain.values + 0.3], dim=1)
    return plus(system, Bound(PeriodicProperPhase(), plain.tuples, rows))


def plus(system: MMSystem, bound: Bound) -> MMSystem:
    return MMSystem((*system.terms, bound), system.numbers, system.mol, system.molecules)


def only(system: MMSystem, bound: Bound) -> MMSystem:
    return MMSystem((bound,), system.numbers, system.mol, system.molecules)


def perturbed(molecule: Molecule, seed: int = 7) -> np.ndarray:
    """An embedded geometry [Å] `(A, 3)` with noise: nothing is planar, straight or symmetric."""
    xyz = chem.embed(molecule, 1, seed=seed)[0]
    return xyz + np.random.default_rng(seed).normal(0.0, 0.08, xyz.shape)


def reordered(molecule: Molecule, seed: int) -> Molecule:
    """The molecule with its atoms in another order."""
    place = np.random.default_rng(seed).permutation(molecule.n_atoms) + 1
    return chem.from_smiles(re.sub(r":(\d+)\]", lambda match: f":{place[int(match[1]) - 1]}]", molecule.smiles))


@functools.cache
def geometry(smiles: str) -> tuple[Molecule, np.ndarray]:
    """Molecule and a perturbed ETKDG geometry [Å] `(A, 3)`, to the digits that every engine's file keeps.

    It sits at the corner of the first octant: GROMACS would wrap the rest to the far side of the box, where single
    precision is coarser.
    """
    molecule = chem.from_smiles(smiles)
    xyz = chem.embed(molecule, 1, seed=7)[0]
    xyz = xyz + np.random.default_rng(7).normal(0.0, 0.03, xyz.shape)
    return molecule, np.round(xyz - xyz.min(0), 5)


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
    return molecule, perturbed(molecule), MMSystem((Bound(term, tuples, drawn),), batch.numbers, batch.mol, (molecule,))


POSITIVE = {"k": (300.0, 0.3), "k1": (9.0, 0.3), "k2": (9.0, 0.3), "depth": (100.0, 0.2), "sigma": (2.5, 0.1)}
"""Typical values of positive parameters and their spread as a logarithm (k1 and k2 of mixtures, far from the minimum).

Energies stay below some hundred kcal/mol: single precision has seven digits.
"""


def random_system(smiles: str, *terms: Term) -> MMSystem:
    """A system of these terms on all their tuples at `geometry`, with drawn parameters."""
    molecule, xyz = geometry(smiles)
    rng = np.random.default_rng(11)
    batch = batch_of([molecule], torch.float64)
    bound = []
    for term in terms:
        tuples = batch.tuples[term.kind]
        rows = molecule.n_atoms if isinstance(term, PairTerm) else len(tuples.idx)
        x = torch.from_numpy(xyz)[:, None]
        q = [
            coordinate(tuple(x[tuples.idx[:, a]] for a in coordinate.atoms))[0][:, 0] for coordinate in term.coordinates
        ]
        near = {f"{name}0": value.numpy() for name, value in zip(term.q_names, q, strict=True)}
        columns = [_column(param, rows, near, molecule, rng) for param in term.params]
        bound.append(Bound(term, tuples, torch.from_numpy(np.stack(columns, axis=1))))
    return MMSystem(tuple(bound), batch.numbers, batch.mol, (molecule,))


def _column(param: Param, rows: int, near: dict, molecule: Molecule, rng: np.random.Generator) -> np.ndarray:
    if param.name == "scale14":
        return np.full(rows, rng.uniform(0.3, 0.9))
    if param.link == "charge":
        charge = rng.normal(0.0, 0.3, rows)
        return charge - charge.mean() + molecule.net_charge / rows
    if param.name in near:
        return np.minimum(near[param.name] + rng.normal(0.0, 0.05, rows), math.pi)  # no angle is larger
    if param.link == "free":
        return rng.normal(0.0, 1.0, rows)
    mean, spread = POSITIVE.get(param.name, (0.1, 0.5))
    return mean * np.exp(rng.normal(0.0, spread, rows))


def reference(system: MMSystem, xyz: np.ndarray) -> tuple[float, np.ndarray]:
    """Energy [kcal/mol] and forces [kcal/mol/Å] by torch."""
    actual = energy(system, torch.from_numpy(xyz)[None])
    return actual.energy.item(), actual.forces[0].numpy()


def by_term(system: MMSystem, xyz: np.ndarray) -> dict[str, float]:
    """Our energies [kcal/mol], one per term, those of one name added."""
    actual: dict[str, float] = {}
    prediction = energy(system, torch.from_numpy(xyz)[None], forces=False)
    for bound, u in zip(system.terms, prediction.by_term, strict=True):
        actual[bound.term.name] = actual.get(bound.term.name, 0.0) + u.item()
    return actual


def agree(actual, expected) -> None:
    """Energies and forces are equal; the size of the largest force says what rounding is."""
    assert actual[0] == pytest.approx(expected[0], rel=1e-9, abs=1e-9)
    np.testing.assert_allclose(actual[1], expected[1], rtol=1e-9, atol=1e-10 * max(100.0, np.abs(expected[1]).max()))


def evaluate_all(system: openmm.System, points) -> list[tuple[float, np.ndarray]]:
    """Energy [kcal/mol] and forces [kcal/mol/Å] at several geometries by OpenMM's float64 platform.

    OpenMM compiles the expressions of custom forces once for all of them.
    """
    platform, results = openmm.Platform.getPlatform("Reference"), []
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), platform)
    for xyz in points:
        context.setPositions(np.asarray(xyz) / 10.0)
        state = context.getState(energy=True, forces=True)
        total = state.getPotentialEnergy()._value / KJ_PER_KCAL
        results.append((total, np.array(state.getForces(asNumpy=True)._value) / (KJ_PER_KCAL * 10.0)))
    return results


def evaluate(system: openmm.System, xyz: np.ndarray) -> tuple[float, np.ndarray]:
    """`evaluate_all` at one geometry."""
    return evaluate_all(system, [xyz])[0]


def to_ffxml(system: MMSystem, index: int | None = None, **settings) -> str:
    """The ForceField XML of one molecule."""
    return texts(system, "ffxml", index=index, **settings)[".xml"]


def from_ffxml(system: MMSystem, molecule: Molecule) -> openmm.System:
    """The XML read by `ForceField` and applied to the molecule's topology."""
    return app.ForceField(io.StringIO(to_ffxml(system))).createSystem(to_topology(molecule))
