import io

import numpy as np
import openmm
import openmm.app
import pytest

import espalike
from espalike.chem import embed, from_smiles
from espalike.hybrid import multiple_time_step, overlap
from espalike.units import BOLTZMANN
from tests.bridge.cases import ETHANOL, NMA, mmff94, perturbed
from tests.bridge.test_openmmml import state_of


@pytest.fixture(scope="module")
def ethanol():
    return espalike.load("espalike-small").parametrize(ETHANOL)


def reference(system, integrator):
    return openmm.Context(system, integrator, openmm.Platform.getPlatformByName("Reference"))


@pytest.mark.parametrize("model", ["espalike-small", "espalike-class2"])
def test_both_groups_together_are_the_potential(model):
    system, _ = multiple_time_step(espalike.load(model).parametrize(NMA), "mmff94")
    xyz = perturbed(NMA)[0]
    energy, forces = state_of(system, xyz)
    expected, slopes = mmff94(NMA, xyz)
    assert energy == pytest.approx(expected, abs=1e-6)
    np.testing.assert_allclose(forces, slopes, atol=1e-6)


def test_equal_steps_are_plain_dynamics(ethanol):
    """Without friction, one inner step per outer step is velocity Verlet on the potential."""
    system, integrator = multiple_time_step(ethanol, "mmff94", outer=0.5, inner=0.5, friction=0.0)
    context = reference(system, integrator)
    x = perturbed(ETHANOL)[0]
    v = np.zeros_like(x)
    mass = np.array([system.getParticleMass(i)._value for i in range(9)])[:, None]
    context.setPositions(x / 10)
    context.setVelocities(v)
    integrator.step(20)
    scale = 4.184e-4  # kcal/mol/Å per dalton in Å/fs²
    for _ in range(20):
        v = v + 0.5 * 0.5 * scale * mmff94(ETHANOL, x)[1] / mass
        x = x + 0.5 * v
        v = v + 0.5 * 0.5 * scale * mmff94(ETHANOL, x)[1] / mass
    moved = context.getState(positions=True).getPositions(asNumpy=True)._value * 10
    np.testing.assert_allclose(moved, x, atol=1e-6)


def test_energy_is_kept_with_a_large_outer_step(ethanol):
    """The potential is computed once per outer step, and energy does not drift."""
    system, integrator = multiple_time_step(ethanol, "mmff94", outer=2.0, inner=0.25, friction=0.0)
    context = reference(system, integrator)
    context.setPositions(perturbed(ETHANOL)[0] / 10)
    context.setVelocitiesToTemperature(300, 1)
    totals = []
    for _ in range(300):
        integrator.step(1)
        state = context.getState(energy=True)
        totals.append((state.getPotentialEnergy() + state.getKineticEnergy())._value / 4.184)
    assert abs(np.mean(totals[:100]) - np.mean(totals[-100:])) < 0.2
    assert np.std(totals) < 1.0


def test_within_a_larger_system(ethanol):
    """The difference acts on the molecule's own particles."""
    alone = espalike.export.to_openmm(ethanol)
    larger = openmm.System()
    for mass in [10.0, *(alone.getParticleMass(i) for i in range(9))]:
        larger.addParticle(mass)
    bond = openmm.HarmonicBondForce()
    bond.addBond(0, 1, 0.3, 100.0)
    bond.setForceGroup(7)
    larger.addForce(bond)
    system, _ = multiple_time_step(ethanol, "mmff94", within=larger, atoms=range(1, 10))
    assert larger.getForce(0).getForceGroup() == 7  # the argument stays as it is
    xyz = np.concatenate([[[9.0, 0.0, 0.0]], perturbed(ETHANOL)[0]])
    mm = state_of(alone, xyz[1:])[0]
    assert state_of(system, xyz)[0] == pytest.approx(state_of(larger, xyz)[0] + mmff94(ETHANOL, xyz[1:])[0] - mm)


@pytest.fixture(scope="module")
def solvated(ethanol):
    """Ethanol behind a water in a periodic box, by ForceField files."""
    field = openmm.app.ForceField("tip3p.xml", io.StringIO(espalike.export.texts(ethanol, "ffxml")[".xml"]))
    modeller = openmm.app.Modeller(espalike.export.to_topology(ETHANOL), embed(ETHANOL, 1)[0] / 10)
    modeller.addSolvent(field, numAdded=1)
    other = openmm.app.Modeller(modeller.topology, modeller.positions)
    other.delete([residue for residue in other.topology.residues() if residue.name != "HOH"])
    modeller.delete([residue for residue in modeller.topology.residues() if residue.name == "HOH"])
    other.add(modeller.topology, modeller.positions)
    return field.createSystem(other.topology)


def test_particles_are_the_atoms_in_their_order(ethanol, solvated):
    assert solvated.getNumParticles() == 12
    system, _ = multiple_time_step(ethanol, "mmff94", within=solvated, atoms=range(3, 12))
    assert system.getNumForces() == solvated.getNumForces() + 1
    with pytest.raises(ValueError, match=r"particle 0 has a charge of -0\.8340 e, but atom 1 of the molecule has"):
        multiple_time_step(ethanol, "mmff94", within=solvated, atoms=range(9))
    with pytest.raises(ValueError, match=r"particle 5 has a charge of .* but atom 1 of .* in their order"):
        multiple_time_step(ethanol, "mmff94", within=solvated, atoms=[5, 4, 3, *range(6, 12)])
    with pytest.raises(ValueError, match=r"no particle 12; the system has 12"):
        multiple_time_step(ethanol, "mmff94", within=solvated, atoms=[*range(3, 11), 12])


def test_another_force_field_in_the_system_is_refused(solvated):
    """Its energy would not cancel."""
    other = espalike.load("espalike-2").parametrize(ETHANOL)
    with pytest.raises(ValueError, match="with its force field"):
        multiple_time_step(other, "mmff94", within=solvated, atoms=range(3, 12))


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        ({"outer": 2.5, "inner": 1.0}, "must be a multiple"),
        ({"inner": -1.0}, "must be a multiple"),
        ({"outer": float("nan")}, "must be a multiple"),
        ({"outer": float("inf")}, "must be a multiple"),
        ({"friction": -1.0}, "a number per picosecond"),
        ({"temperature": 0.0}, "a positive number of kelvin"),
        ({"within": openmm.System()}, "0 particles"),
        ({"atoms": [0, 1]}, "9 atoms, but 2 particles"),
        ({"atoms": [0, 0, *range(2, 9)]}, "different numbers from 0 on"),
        ({"atoms": range(-1, 8)}, "different numbers from 0 on"),
    ],
)
def test_settings_that_cannot_be_meant(ethanol, settings, fault):
    with pytest.raises(ValueError, match=fault):
        multiple_time_step(ethanol, "mmff94", **settings)


def test_several_molecules_are_refused():
    two = espalike.load("espalike-small").parametrize([ETHANOL, NMA])
    with pytest.raises(ValueError, match="one molecule, got 2"):
        multiple_time_step(two, "mmff94")


def test_overlap_with_itself_and_with_a_tilted_potential(ethanol):
    xyz = perturbed(ETHANOL, 50)
    same = overlap(ethanol, espalike.load("espalike-small"), xyz)
    assert same.effective == pytest.approx(1.0)
    assert same.free_energy == pytest.approx(0.0, abs=1e-9)

    class Tilted:
        level, program = "tilted", "test"

        def __call__(self, molecule, point):
            from espalike.potential import ForceFieldCalculator

            energy, forces = ForceFieldCalculator(ethanol, ETHANOL)(molecule, point)
            return energy + 3.0 * (point[0, 0] > mean), forces

    mean = np.median(xyz[:, 0, 0])
    tilted = overlap(ethanol, Tilted(), xyz, temperature=300.0)
    boltzmann = np.exp(-np.where(xyz[:, 0, 0] > mean, 3.0, 0.0) / (BOLTZMANN * 300.0))
    np.testing.assert_allclose(tilted.weights, boltzmann / boltzmann.sum(), rtol=1e-6)
    assert tilted.effective == pytest.approx(boltzmann.sum() ** 2 / (boltzmann**2).sum() / 50)
    assert tilted.free_energy == pytest.approx(-BOLTZMANN * 300.0 * np.log(boltzmann.mean()) - 1.5)


def test_a_molecule_that_the_potential_lacks():
    from espalike.qm.base import CalculatorError

    boron = from_smiles("CB(O)O", "boronic acid")
    system = espalike.load("espalike-small").parametrize(boron)
    with pytest.raises(CalculatorError, match="boronic acid"):
        overlap(system, "mmff94", perturbed(boron))


@pytest.mark.parametrize(
    ("xyz", "temperature", "fault"),
    [
        (np.zeros((9, 3)), 300.0, r"expected frames of shape \(K, 9, 3\), got \(9, 3\)"),
        (np.zeros((0, 9, 3)), 300.0, r"got \(0, 9, 3\)"),
        (np.zeros((1, 9, 3)), -1.0, "a positive number of kelvin"),
    ],
)
def test_frames_that_cannot_be_reweighted(ethanol, xyz, temperature, fault):
    with pytest.raises(ValueError, match=fault):
        overlap(ethanol, "mmff94", xyz, temperature)


def test_quantities_of_openmm(ethanol):
    """As OpenMM's own integrators take them."""
    from openmm import unit

    times = {"outer": 0.004 * unit.picosecond, "inner": 1.0 * unit.femtosecond}
    heat = {"temperature": 310.0 * unit.kelvin, "friction": 2.0 / unit.picosecond}
    given = multiple_time_step(ethanol, "mmff94", **times, **heat)[1]
    plain = multiple_time_step(ethanol, "mmff94", outer=4.0, inner=1.0, temperature=310.0, friction=2.0)[1]
    for step in range(plain.getNumComputations()):
        assert given.getComputationStep(step) == plain.getComputationStep(step)
    names = [plain.getGlobalVariableName(i) for i in range(plain.getNumGlobalVariables())]
    assert [given.getGlobalVariableByName(n) for n in names] == [plain.getGlobalVariableByName(n) for n in names]
    assert given.getStepSize() == plain.getStepSize()
    xyz = perturbed(ETHANOL, 5)
    expected = overlap(ethanol, "mmff94", xyz).weights
    in_nm = overlap(ethanol, "mmff94", (xyz / 10) * unit.nanometer, 300.0 * unit.kelvin).weights
    np.testing.assert_allclose(in_nm, expected, rtol=1e-6)
    assert np.ptp(expected) > 0.01


def test_overlap_of_several_molecules_is_refused():
    two = espalike.load("espalike-small").parametrize([ETHANOL, ETHANOL])
    with pytest.raises(ValueError, match="one molecule, got 2"):
        overlap(two, "mmff94", np.zeros((1, 9, 3)))
