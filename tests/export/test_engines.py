"""Torch, the exported `openmm.System` and the exported `ForceField` XML are one force field."""

import io

import numpy as np
import openmm
import pytest
import torch
from openmm import app
from rdkit import Chem

from espalike import chem
from espalike.energy import energy
from espalike.export import to_openmm, to_topology
from espalike.export.ffxml import to_ffxml
from espalike.model import ForceFieldModel
from espalike.terms.base import PairTerm
from tests.export.common import FIELDS, agree, case, evaluate, field_model, from_ffxml, model, only, reference
from tests.molecules import DRUGLIKE, SMALL

RENUMBERED = (
    "CC(=O)Oc1ccccc1C(=O)[O-]",
    "NC(=[NH2+])NCCCC(N)C(=O)[O-]",
    "NS(=O)(=O)c1cc2c(cc1Cl)NCNS2(=O)=O",
    "CC(C)N=C=NC(C)C",
    "C12C3C4C1C5C2C3C45",
    "COP(=O)([O-])OCC1OC(n2cnc3c(N)ncnc32)C(O)C1O",
)


@pytest.mark.parametrize("smiles", DRUGLIKE + SMALL)
def test_each_term_and_the_total_agree(smiles):
    molecule, xyz, system = case(smiles)
    for bound in system.terms:
        one = only(system, bound)
        expected = reference(one, xyz)
        agree(evaluate(to_openmm(one), xyz), expected)
        agree(evaluate(from_ffxml(one, molecule), xyz), expected)
    expected = reference(system, xyz)
    agree(evaluate(to_openmm(system), xyz), expected)
    agree(evaluate(from_ffxml(system, molecule), xyz), expected)


def test_every_term_contributes_somewhere():
    """The comparison above would hold for zeros: it is not about zeros."""
    _, xyz, system = case(DRUGLIKE[0])
    by_term = energy(system, torch.from_numpy(xyz)[None]).by_term
    assert all(abs(u.item()) > 0.1 for u in by_term)


def test_system_has_particles_in_order_no_constraints_no_cutoff():
    molecule, _, system = case("CN1CCC[C@H]1c1cccnc1")
    built = to_openmm(system)
    masses = [built.getParticleMass(i)._value for i in range(built.getNumParticles())]
    weights = [Chem.GetPeriodicTable().GetAtomicWeight(int(z)) for z in molecule.numbers]
    np.testing.assert_allclose(masses, weights, atol=2e-3)
    assert built.getNumConstraints() == 0
    (nonbonded,) = (f for f in built.getForces() if isinstance(f, openmm.NonbondedForce))
    assert nonbonded.getNonbondedMethod() == openmm.NonbondedForce.NoCutoff


def renumbering(smiles: str, repeats: int, made: ForceFieldModel) -> None:
    """Same parameters and energies whatever the atom order, also of an XML written in another order."""
    rng = np.random.default_rng(11)
    molecule, xyz, _ = case(smiles)
    system = made.parametrize(molecule)
    expected, _ = reference(system, xyz)
    original = app.ForceField(io.StringIO(to_ffxml(system)))
    graph = chem.to_rdkit(molecule)
    for _ in range(repeats):
        order = rng.permutation(molecule.n_atoms)
        other = chem.from_rdkit(Chem.RenumberAtoms(graph, order.tolist()))
        assert (other.numbers == molecule.numbers[order]).all()
        shuffled = made.parametrize(other)
        for one, two in zip(system.terms, shuffled.terms, strict=True):
            if isinstance(one.term, PairTerm):
                assert (two.values - one.values[torch.from_numpy(order)]).abs().max() < 1e-10
        moved = xyz[order]
        assert reference(shuffled, moved)[0] == pytest.approx(expected, rel=0, abs=1e-8)
        assert evaluate(to_openmm(shuffled), moved)[0] == pytest.approx(expected, rel=0, abs=1e-8)
        assert evaluate(from_ffxml(shuffled, other), moved)[0] == pytest.approx(expected, rel=0, abs=1e-8)
        mixed = original.createSystem(to_topology(other))
        assert evaluate(mixed, moved)[0] == pytest.approx(expected, rel=0, abs=1e-8)


@pytest.mark.parametrize("smiles", RENUMBERED)
def test_renumbering(smiles):
    renumbering(smiles, 4, model())


@pytest.mark.parametrize("smiles", RENUMBERED[:2])
@pytest.mark.parametrize("field", ["class2", "max"])
def test_renumbering_of_couplings(field, smiles):
    renumbering(smiles, 2, field_model(field))


@pytest.mark.slow
@pytest.mark.parametrize("smiles", RENUMBERED)
@pytest.mark.parametrize("field", FIELDS)
def test_renumbering_of_every_force_field(field, smiles):
    renumbering(smiles, 20, field_model(field))


@pytest.mark.slow
@pytest.mark.parametrize("smiles", DRUGLIKE)
def test_renumbering_of_all(smiles):
    renumbering(smiles, 20, model())
