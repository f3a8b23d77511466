"""Molecules and systems for the engine tests: class I from a model, and every other form with drawn parameters."""

import functools
import math

import numpy as np
import pytest
import torch

from espalike import chem
from espalike.chem.molecule import Molecule
from espalike.energy import energy
from espalike.system import Bound, MMSystem
from espalike.terms.base import Param, Term
from espalike.terms.coulomb import Coulomb
from espalike.terms.lennard_jones import LennardJones
from espalike.topology import enumerate_tuples
from espalike.tuples import Kind, Tuples
from tests.export.common import model, with_phases
from tests.molecules import DRUGLIKE

FAST = (
    "CC(=O)Oc1ccccc1C(=O)[O-]",
    "NC(=[NH2+])NCCCC(N)C(=O)[O-]",
    "CC#CC(=O)N",
    "C12C3C4C1C5C2C3C45",
    "C1C2CC12",
    "Cc1ncc([N+](=O)[O-])n1CCO",
    "C[N+](C)(C)CCO",
    "CC(C)N=C=NC(C)C",
    "[Na+]",
)
ALL = tuple(dict.fromkeys((*FAST, *DRUGLIKE[:28], "O", "O=C=O", "C#N", "CO", "ClCl", "C=C=C=C")))
"""Rings of three to six, linear centres, ions, pairs that are 1-4 twice, a lone atom: more than 25 molecules."""
each_molecule = pytest.mark.parametrize(
    "smiles", [pytest.param(smiles, marks=() if smiles in FAST else pytest.mark.slow) for smiles in ALL]
)
"""Marks a test to run for every molecule, most of them among the slow tests."""


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


@functools.cache
def class_one(smiles: str) -> MMSystem:
    """Harmonic bonds and angles, propers of any phase, trefoil impropers, Lennard-Jones, Coulomb."""
    molecule, _ = geometry(smiles)
    return with_phases(model().parametrize(molecule), np.random.default_rng(5))


POSITIVE = {"k": (300.0, 0.3), "k1": (9.0, 0.3), "k2": (9.0, 0.3), "depth": (100.0, 0.2), "sigma": (2.5, 0.1)}
"""Typical values of positive parameters and their spread as a logarithm (k1 and k2 of mixtures, far from the minimum).

Energies stay below some hundred kcal/mol: single precision has seven digits.
"""


def by_chance(smiles: str, *terms: Term) -> MMSystem:
    """A system of these terms on all their tuples, with drawn parameters."""
    molecule, xyz = geometry(smiles)
    rng = np.random.default_rng(11)
    numbers = torch.from_numpy(molecule.numbers)
    bound = [_bound(term, molecule, xyz, rng) for term in terms]
    return MMSystem(tuple(bound), numbers, torch.zeros_like(numbers), (molecule,))


def _bound(term: Term, molecule: Molecule, xyz: np.ndarray, rng: np.random.Generator) -> Bound:
    graph = enumerate_tuples(molecule.numbers, molecule.bonds, molecule.orders)
    idx = {
        Kind.BOND: graph.bonds,
        Kind.ANGLE: graph.angles,
        Kind.PROPER: graph.propers,
        Kind.IMPROPER: graph.impropers,
        Kind.PAIR: graph.pairs,
        Kind.ANGLE_PAIR: graph.angle_pairs,
        Kind.PROPER_PAIR: graph.proper_pairs,
    }[term.kind]
    is14 = torch.from_numpy(graph.is14) if term.kind is Kind.PAIR else None
    mol = torch.zeros(len(idx), dtype=torch.int64)
    tuples = Tuples(torch.from_numpy(np.ascontiguousarray(idx, dtype=np.int64)), mol, is14)
    rows = molecule.n_atoms if term.kind is Kind.PAIR else len(idx)
    x = torch.from_numpy(xyz)[:, None]
    q = [coordinate(tuple(x[tuples.idx[:, a]] for a in coordinate.atoms))[0][:, 0] for coordinate in term.coordinates]
    measured = {f"{name}0": value.numpy() for name, value in zip(term.q_names, q, strict=True)}
    columns = [_column(param, rows, measured, molecule, rng) for param in term.params]
    return Bound(term, tuples, torch.from_numpy(np.stack(columns, axis=1)))


def _column(param: Param, rows: int, measured: dict, molecule: Molecule, rng: np.random.Generator) -> np.ndarray:
    if param.name == "scale14":
        return np.full(rows, rng.uniform(0.3, 0.9))
    if param.link == "charge":
        charge = rng.normal(0.0, 0.3, rows)
        return charge - charge.mean() + molecule.net_charge / rows
    if param.name in measured:
        return measured[param.name] + rng.normal(0.0, 0.05, rows)
    if param.link == "free":
        return rng.normal(0.0, 1.0, rows)
    mean, spread = POSITIVE.get(param.name, (0.1, 0.5))
    return mean * np.exp(rng.normal(0.0, spread, rows))


def by_term(system: MMSystem, xyz: np.ndarray) -> dict[str, float]:
    """Our energies [kcal/mol], one a term, those of one name added."""
    found: dict[str, float] = {}
    prediction = energy(system, torch.from_numpy(xyz)[None], forces=False)
    for bound, u in zip(system.terms, prediction.by_term, strict=True):
        found[bound.term.name] = found.get(bound.term.name, 0.0) + u.item()
    return found


def compare(ours: dict[str, float], theirs: dict[str, float], names: dict[str, tuple[str, ...]], tolerance: float):
    """Each engine name's energy is the sum of our terms that it stands for, and the totals are equal."""
    for name, terms in names.items():
        expected = sum(ours.get(term, 0.0) for term in terms)
        found = theirs.get(name, 0.0)
        assert math.isclose(found, expected, abs_tol=tolerance), f"{name}: engine {found}, ours {expected}"
    total = sum(ours.values())
    assert math.isclose(theirs["total"], total, abs_tol=tolerance), f"total: engine {theirs['total']}, ours {total}"


LEARNED = (LennardJones(scale14="learned", mixing="geometric"), Coulomb(scale14="learned"))
