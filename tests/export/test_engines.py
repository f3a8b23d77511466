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
from espalike.export.openmm import custom_force, native_force
from espalike.export.single import select
from espalike.types import MMSystem
from tests.export.common import case, evaluate, from_ffxml, model, only
from tests.molecules import DRUGLIKE, SMALL

RENUMBERED = (
    "CC(=O)Oc1ccccc1C(=O)[O-]",
    "NC(=[NH2+])NCCCC(N)C(=O)[O-]",
    "NS(=O)(=O)c1cc2c(cc1Cl)NCNS2(=O)=O",
    "CC(C)N=C=NC(C)C",
    "C12C3C4C1C5C2C3C45",
    "COP(=O)([O-])OCC1OC(n2cnc3c(N)ncnc32)C(O)C1O",
)


def reference(system: MMSystem, xyz: np.ndarray) -> tuple[float, np.ndarray]:
    found = energy(system, torch.from_numpy(xyz)[None])
    return found.energy.item(), found.forces[0].numpy()


def agree(found, expected) -> None:
    assert found[0] == pytest.approx(expected[0], rel=1e-9, abs=1e-9)
    np.testing.assert_allclose(found[1], expected[1], rtol=1e-9, atol=1e-8)


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


@pytest.mark.parametrize("smiles", ["CC(=O)Oc1ccccc1C(=O)[O-]", "CC#CC(=O)N", "CC1OC1C", "O", "[Na+]"])
def test_custom_forces_from_expressions_equal_native_ones(smiles):
    _, xyz, system = case(smiles)
    for bound in select(system).terms:
        if bound.term.native == "NonbondedForce":
            continue
        results = []
        for force in (native_force(bound), custom_force(bound)):
            built = openmm.System()
            for _ in range(len(system.numbers)):
                built.addParticle(1.0)
            assert force is not None
            assert force.getName() == bound.term.name
            built.addForce(force)
            results.append(evaluate(built, xyz))
        agree(*results)


def test_force_groups_split_the_energy_by_term():
    _, xyz, system = case("CC(=O)Nc1ccc(O)cc1")
    built = to_openmm(system)
    context = openmm.Context(built, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatform("Reference"))
    context.setPositions(xyz / 10.0)
    split = dict(
        zip((b.term.name for b in system.terms), energy(system, torch.from_numpy(xyz)[None]).by_term, strict=True)
    )
    for force in built.getForces():
        found = context.getState(energy=True, groups={force.getForceGroup()}).getPotentialEnergy()._value / 4.184
        assert found == pytest.approx(sum(split.pop(name).item() for name in force.getName().split("+")), rel=1e-9)
    assert not split


def test_system_has_particles_in_order_no_constraints_no_cutoff():
    molecule, _, system = case("CN1CCC[C@H]1c1cccnc1")
    built = to_openmm(system)
    masses = [built.getParticleMass(i)._value for i in range(built.getNumParticles())]
    weights = [Chem.GetPeriodicTable().GetAtomicWeight(int(z)) for z in molecule.numbers]
    np.testing.assert_allclose(masses, weights, atol=2e-3)
    assert built.getNumConstraints() == 0
    (nonbonded,) = (f for f in built.getForces() if isinstance(f, openmm.NonbondedForce))
    assert nonbonded.getNonbondedMethod() == openmm.NonbondedForce.NoCutoff


def renumbering(smiles: str, repeats: int) -> None:
    """Same parameters and energies whatever the atom order, also of an XML written in another order."""
    rng = np.random.default_rng(11)
    molecule, xyz, _ = case(smiles)
    system = model().parametrize(molecule)
    expected, _ = reference(system, xyz)
    original = app.ForceField(io.StringIO(to_ffxml(system)))
    graph = chem.to_rdkit(molecule)
    for _ in range(repeats):
        order = rng.permutation(molecule.n_atoms)
        other = chem.from_rdkit(Chem.RenumberAtoms(graph, order.tolist()))
        assert (other.numbers == molecule.numbers[order]).all()
        shuffled = model().parametrize(other)
        for name in ("LennardJones", "Coulomb"):
            difference = shuffled.bound(name).values - system.bound(name).values[torch.from_numpy(order)]
            assert difference.abs().max() < 1e-10
        moved = xyz[order]
        assert reference(shuffled, moved)[0] == pytest.approx(expected, rel=0, abs=1e-8)
        assert evaluate(to_openmm(shuffled), moved)[0] == pytest.approx(expected, rel=0, abs=1e-8)
        assert evaluate(from_ffxml(shuffled, other), moved)[0] == pytest.approx(expected, rel=0, abs=1e-8)
        mixed = original.createSystem(to_topology(other))
        assert evaluate(mixed, moved)[0] == pytest.approx(expected, rel=0, abs=1e-8)


@pytest.mark.parametrize("smiles", RENUMBERED)
def test_renumbering(smiles):
    renumbering(smiles, 20)


@pytest.mark.slow
@pytest.mark.parametrize("smiles", [s for s in DRUGLIKE if s not in RENUMBERED])
def test_renumbering_of_all(smiles):
    renumbering(smiles, 20)
