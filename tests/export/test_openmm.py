"""Torch, the exported `openmm.System` and the exported `ForceField` XML are one force field."""

import io

import numpy as np
import openmm
import pytest
import torch
from openmm import app, unit
from rdkit import Chem

from espalike import chem
from espalike.export import texts, to_openmm, to_topology
from espalike.export.ffxml import minimum
from espalike.export.ffxml_script import espalike_extend
from espalike.export.parts import bonded_parts, select
from espalike.export.recipes import Native, custom, native_force, power_less_mean
from espalike.geometry import Angle, Distance
from espalike.model import ForceFieldModel
from espalike.terms.base import PairTerm
from espalike.terms.fourier import Coupling
from tests.export.cases import (
    ASPIRIN,
    FIELDS,
    agree,
    case,
    evaluate,
    field_model,
    from_ffxml,
    model,
    only,
    perturbed,
    reference,
    to_ffxml,
    with_term,
)
from tests.molecules import DRUGLIKE, SMALL
from tests.terms.common import TERMS

BONDED = [term for term in TERMS if not isinstance(term, PairTerm)]
DEGENERATE = ("[Na+]", "O", "[H][H]", "C#C", "N#N")
RENUMBERED = (
    "CC(=O)Oc1ccccc1C(=O)[O-]",
    "NC(=[NH2+])NCCCC(N)C(=O)[O-]",
    "NS(=O)(=O)c1cc2c(cc1Cl)NCNS2(=O)=O",
    "CC(C)N=C=NC(C)C",
    "C12C3C4C1C5C2C3C45",
    "COP(=O)([O-])OCC1OC(n2cnc3c(N)ncnc32)C(O)C1O",
)


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


@pytest.mark.parametrize(("field", "smiles"), [("class2", RENUMBERED[0]), ("max", RENUMBERED[1])])
def test_renumbering_of_couplings(field, smiles):
    """Each order makes OpenMM compile long expressions; the slow tests have more orders and molecules."""
    renumbering(smiles, 1, field_model(field))


@pytest.mark.slow
@pytest.mark.parametrize("smiles", RENUMBERED)
@pytest.mark.parametrize("field", FIELDS)
def test_renumbering_of_every_force_field(field, smiles):
    renumbering(smiles, 5, field_model(field))


@pytest.mark.slow
@pytest.mark.parametrize("smiles", DRUGLIKE)
def test_renumbering_of_all(smiles):
    renumbering(smiles, 20, model())


@pytest.mark.parametrize("smiles", DEGENERATE)
def test_molecules_without_tuples_agree(smiles):
    for term in {type(term): term for term in TERMS}.values():
        molecule, xyz, system = with_term(term, smiles)
        expected = reference(system, xyz)
        agree(evaluate(to_openmm(system), xyz), expected)
        agree(evaluate(from_ffxml(system, molecule), xyz), expected)


def test_a_custom_force_without_rows_is_left_out():
    """OpenMM compiles the expressions of couplings for seconds, also for water, which has no torsions."""
    system = to_openmm(field_model("class2").parametrize(chem.from_smiles("O")))
    compounds = [force for force in system.getForces() if isinstance(force, openmm.CustomCompoundBondForce)]
    assert [(force.getName(), force.getNumBonds()) for force in compounds] == [("BondBond+BondAngle", 1)]


@pytest.mark.parametrize("term", BONDED, ids=repr)
def test_native_forces_equal_the_expression(term):
    """Nor is any form without a native force: its parts have custom forces alone, which other tests compare."""
    _, xyz, system = with_term(term, ASPIRIN)
    parts = [part for part in bonded_parts(select(system).terms) if native_force(part)]
    for part in parts:
        actual = []
        for recipe in (Native.of([part]).recipe(), custom(part)):
            built = openmm.System()
            for _ in range(len(system.numbers)):
                built.addParticle(1.0)
            assert espalike_extend(built, recipe, [list(range(len(system.numbers)))]).getName() == term.name
            actual.append(evaluate(built, xyz))
        agree(*actual)
    harmonic_or_periodic = term.name.startswith(("Harmonic", "LinearMixture", "Urey", "Periodic", "Ryckaert"))
    assert bool(parts) == harmonic_or_periodic


@pytest.mark.parametrize("n", [(1,), (1, 2, 3), (2, 6), (1, 3, 4, 5)])
def test_a_coupling_is_a_sum_of_powers_less_their_means(n):
    """What stands in the energy of a compound force is the series of cosines."""
    k = tuple(torch.randn(4, 1, dtype=torch.float64) for _ in n)
    coupling = Coupling((0,), (0.0,), k, 1, n)
    phi = torch.linspace(-3.0, 3.0, 50, dtype=torch.float64).expand(4, 50)
    powers = {m: power_less_mean("c", m).replace("^", "**") for m in coupling.by_power()}
    actual = sum(a * eval(powers[m], {"c": torch.cos(phi)}) for m, a in coupling.by_power().items())
    torch.testing.assert_close(actual, coupling.energy((torch.ones_like(phi), phi)), rtol=0.0, atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("smiles", DRUGLIKE + SMALL)
def test_each_force_field_agrees_for_all_molecules(smiles):
    molecule = chem.from_smiles(smiles)
    for field in FIELDS:
        system, xyz = field_model(field).parametrize(molecule), perturbed(molecule)
        for one in (system, *(only(system, bound) for bound in system.terms)):
            expected = reference(one, xyz)
            agree(evaluate(to_openmm(one), xyz), expected)
            agree(evaluate(from_ffxml(one, molecule), xyz), expected)


@pytest.mark.parametrize(
    "term", [t for t in BONDED if t.coordinates in ((Distance(0, 1),), (Angle(0, 1, 2),))], ids=repr
)
def test_rest_values_are_where_the_energy_is_least(term):
    """What constraints are set to."""
    _, _, system = with_term(term, ASPIRIN)
    values = system.terms[0].values
    actual = minimum(list(bonded_parts(system.terms)))
    names = [p.name for p in term.params]
    if "r0" in names or "theta0" in names:
        expected = values[:, names.index("r0" if "r0" in names else "theta0")]
    else:  # linear mixtures
        low, high = term.centres
        expected = (values[:, 0] * low + values[:, 1] * high) / values.sum(1)
    torch.testing.assert_close(actual, expected, rtol=0.0, atol=1e-6)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
@pytest.mark.parametrize("program", ["parmed", "openff.interchange"])
def test_other_programs_read_a_class_one_system(program):
    """They know native forces only."""
    pytest.importorskip(program, reason="scripts/install_engines.sh installs it")
    molecule = chem.from_smiles("CC(=O)Nc1ccc(O)cc1")
    system, xyz = model().parametrize(molecule), perturbed(molecule)
    built, topology = to_openmm(system), to_topology(molecule)
    if program == "parmed":
        import parmed

        read = parmed.openmm.load_topology(topology, built, xyz).createSystem()
    else:
        from openff.interchange import Interchange

        built.setDefaultPeriodicBoxVectors(*(np.eye(3) * 4.0))  # Interchange imports periodic systems only
        next(f for f in built.getForces() if isinstance(f, openmm.NonbondedForce)).setNonbondedMethod(4)
        topology.setPeriodicBoxVectors(np.eye(3) * 4.0 * unit.nanometer)
        read = Interchange.from_openmm(system=built, topology=topology, positions=xyz * unit.angstrom).to_openmm()
        next(f for f in read.getForces() if isinstance(f, openmm.NonbondedForce)).setNonbondedMethod(0)
    assert evaluate(read, xyz)[0] == pytest.approx(reference(system, xyz)[0], abs=1e-4)


@pytest.mark.parametrize("smiles", [*DEGENERATE, ASPIRIN, *RENUMBERED[:3]])
def test_the_text_of_a_system_is_the_one_that_openmm_writes(smiles):
    """Rows of native forces are written from arrays; every number must be the same to its last bit."""
    system = model().parametrize(chem.from_smiles(smiles))
    read = openmm.XmlSerializer.deserialize(texts(system, "system")[".system.xml"])
    assert openmm.XmlSerializer.serialize(read) == openmm.XmlSerializer.serialize(to_openmm(system))
