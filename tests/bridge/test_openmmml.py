import io

import numpy as np
import openmm
import pytest
from openmm import app, unit

import espalike
from espalike.chem import from_smiles
from tests.bridge.cases import ETHANOL, NMA, mmff94, perturbed

pytest.importorskip("openmmml")

from openmmml import MLPotential

from espalike.openmmml import molecule_of

KJ = 4.184


def state_of(system, xyz, **parameters):
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatformByName("Reference"))
    context.setPositions(xyz / 10)
    for name, value in parameters.items():
        context.setParameter(name, value)
    state = context.getState(energy=True, forces=True)
    forces = state.getForces(asNumpy=True).value_in_unit(unit.kilocalorie_per_mole / unit.angstrom)
    return state.getPotentialEnergy().value_in_unit(unit.kilocalorie_per_mole), forces


def test_a_calculator_is_a_potential():
    xyz = perturbed(NMA)[0]
    system = MLPotential("espalike-calculator", calculator="mmff94").createSystem(espalike.export.to_topology(NMA))
    energy, forces = state_of(system, xyz)
    expected, slopes = mmff94(NMA, xyz)
    assert energy == pytest.approx(expected, rel=1e-8)
    np.testing.assert_allclose(forces, slopes, atol=1e-6)


@pytest.mark.parametrize("forcefield", ["espalike-small", "espalike-class2"])
def test_mixed_systems_are_the_sum_of_their_parts(forcefield):
    """Two molecules in one system: the ligand by ML, the other one and what is between them by the force field."""
    other, distance = ETHANOL, np.array([0.0, 0.0, 4.5])
    model = espalike.load(forcefield)
    topology, mm = _pair(model, NMA, other)
    xyz = np.concatenate([perturbed(NMA)[0], perturbed(other, seed=1)[0] + distance])
    potential = MLPotential("espalike-calculator", calculator="mmff94")
    mixed = potential.createMixedSystem(topology, mm, list(range(NMA.n_atoms)))
    energy, forces = state_of(mixed, xyz)
    whole, whole_forces = state_of(mm, xyz)
    alone, alone_forces = state_of(espalike.export.to_openmm(model.parametrize(NMA)), xyz[: NMA.n_atoms])
    ml, ml_forces = mmff94(NMA, xyz[: NMA.n_atoms])
    assert energy == pytest.approx(whole - alone + ml, abs=1e-6)
    expected = whole_forces.copy()
    expected[: NMA.n_atoms] += ml_forces - alone_forces
    np.testing.assert_allclose(forces, expected, atol=1e-6)


def _pair(model, *molecules):
    """Topology and system of molecules side by side, by the ffxml files that `parametrize` writes."""
    files = [io.StringIO(espalike.export.texts(model.parametrize(one), "ffxml")[".xml"]) for one in molecules]
    topology = side_by_side(*molecules)
    return topology, app.ForceField(*files).createSystem(topology, nonbondedMethod=app.NoCutoff)


def side_by_side(*molecules):
    nowhere = [np.zeros((molecule.n_atoms, 3)) * unit.nanometer for molecule in molecules]
    modeller = app.Modeller(espalike.export.to_topology(molecules[0]), nowhere[0])
    for molecule, positions in zip(molecules[1:], nowhere[1:], strict=True):
        modeller.add(espalike.export.to_topology(molecule), positions)
    return modeller.topology


def test_interpolation_from_the_force_field_to_the_calculator():
    model = espalike.load("espalike-small")
    topology, mm = _pair(model, NMA, ETHANOL)
    xyz = np.concatenate([perturbed(NMA)[0], perturbed(ETHANOL, seed=1)[0] + [0.0, 0.0, 4.5]])
    potential, atoms = MLPotential("espalike-calculator", calculator="mmff94"), list(range(NMA.n_atoms))
    both = potential.createMixedSystem(topology, mm, atoms, interpolate=True)
    mixed = potential.createMixedSystem(topology, mm, atoms)
    ends = [state_of(mm, xyz)[0], state_of(mixed, xyz)[0]]
    for fraction in (0.0, 0.4, 1.0):
        expected = ends[0] + fraction * (ends[1] - ends[0])
        assert state_of(both, xyz, lambda_interpolate=fraction)[0] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    "smiles",
    ["CC(=O)[O-]", "C[NH3+]", "c1ccc2[nH]ccc2c1", "O=[N+]([O-])c1ccccc1", "CS(=O)(=O)N", "C#N", "C[NH2+]CC([O-])=O"],
)
def test_molecules_of_topologies(smiles):
    """Bond orders come from elements, bonds and the net charge."""
    molecule = from_smiles(smiles, "MOL")
    found = molecule_of(espalike.export.to_topology(molecule), range(molecule.n_atoms), int(molecule.charges.sum()))
    assert found.numbers.tolist() == molecule.numbers.tolist()
    assert found.bonds.tolist() == molecule.bonds.tolist()
    assert found.charges.sum() == molecule.charges.sum()
    assert espalike.chem.connectivity_key(found) == espalike.chem.connectivity_key(molecule)


def test_what_is_no_whole_molecule_is_refused():
    topology = espalike.export.to_topology(NMA)
    with pytest.raises(ValueError, match="must be a whole molecule"):
        molecule_of(topology, range(4))
    with pytest.raises(ValueError, match="2 molecules by the bonds of the topology"):
        molecule_of(side_by_side(NMA, ETHANOL), range(NMA.n_atoms + ETHANOL.n_atoms))
    potential = MLPotential("espalike-calculator", calculator="mmff94")
    with pytest.raises(ValueError, match="ethanol: expected its 9 atoms in its order"):
        potential.createSystem(topology, molecule=ETHANOL)
    with pytest.raises(ValueError, match="no bond orders for a net charge of"):
        MLPotential("espalike-calculator", calculator="mmff94", charge=5).createSystem(topology)


def test_hydrogens_in_another_order_are_refused():
    """The elements are the same; energies of the molecule's graph at these positions would be wrong without a word."""
    topology, order = espalike.export.to_topology(ETHANOL), [0, 1, 2, 6, 4, 5, 3, 7, 8]
    atoms = list(topology.atoms())
    other = app.Topology()
    residue = other.addResidue("LIG", other.addChain())
    made = {index: other.addAtom(atoms[index].name, atoms[index].element, residue) for index in order}
    for first, second in topology.bonds():
        other.addBond(made[first.index], made[second.index])
    potential = MLPotential("espalike-calculator", calculator="mmff94")
    with pytest.raises(
        ValueError, match="in its order; the molecule has a bond between atoms 1 and 4, and the topology"
    ):
        potential.createSystem(other, molecule=ETHANOL)
    xyz = perturbed(ETHANOL)[0]
    own = molecule_of(other, range(9))
    energy = state_of(potential.createSystem(other, molecule=own), xyz[order])[0]
    assert energy == pytest.approx(mmff94(ETHANOL, xyz)[0], abs=1e-6)
