"""Dynamics: thermal averages are right, geometries keep their bonds, results are reproducible."""

from itertools import islice

import numpy as np
import pytest

from espalike.chem import embed, from_smiles
from espalike.qm.base import CalculatorError
from espalike.qm.mmff import MMFFCalculator
from espalike.qm.models import ModelCalculator
from espalike.qm.sampling import (
    ETKDG,
    Distort,
    Modes,
    Scan,
    Shapes,
    Thermal,
    Wavefront,
    intact,
    langevin_batch,
    masses,
    minimised,
    minimised_batch,
)
from espalike.qm.sampling.shapes import gyration
from espalike.qm.xtb import XTBCalculator
from espalike.units import BOLTZMANN


class Spring:
    """½ k (r − r₀)² between two atoms."""

    level = program = "spring"
    k, r0 = 300.0, 1.2

    def __call__(self, molecule, xyz):
        delta = xyz[0] - xyz[1]
        r = np.linalg.norm(delta)
        pull = -self.k * (r - self.r0) * delta / r
        return 0.5 * self.k * (r - self.r0) ** 2, np.array([pull, -pull])


class Push:
    """Drives every atom outward, whatever the geometry."""

    level = program = "push"

    def __call__(self, molecule, xyz):
        return 0.0, 500.0 * (xyz - xyz.mean(0))


@pytest.mark.parametrize(("timestep", "hydrogen_mass"), [(0.5, 1.008), (1.5, 3.0)])
def test_langevin_samples_the_canonical_distribution(timestep, hydrogen_mass):
    spring, molecule = Spring(), from_smiles("[H]Cl")
    start = np.array([[0.0, 0.0, 0.0], [0.0, 0.0, spring.r0]])
    temperature = 500.0
    run = langevin_batch(
        spring,
        molecule,
        start[None],
        rng=np.random.default_rng(5),
        temperature=temperature,
        timestep=timestep,
        friction=0.05,
        hydrogen_mass=hydrogen_mass,
    )
    r = np.array([np.linalg.norm(x[0, 0] - x[0, 1]) for x in islice(run, 30000)])
    weight_r = np.linspace(0.9, 1.5, 2001)
    weight = weight_r**2 * np.exp(-0.5 * spring.k * (weight_r - spring.r0) ** 2 / (BOLTZMANN * temperature))
    mean = (weight * weight_r).sum() / weight.sum()
    std = np.sqrt((weight * (weight_r - mean) ** 2).sum() / weight.sum())
    assert r.mean() == pytest.approx(mean, abs=0.004)
    assert r.std() == pytest.approx(std, rel=0.06)


def test_the_centre_of_mass_stays():
    molecule = from_smiles("CO")
    xyz = embed(molecule, seed=1)
    (end,) = next(islice(langevin_batch(MMFFCalculator(), molecule, xyz, rng=np.random.default_rng(0)), 200, None))
    mass = masses(molecule, 1.008)[:, None]
    # the first half step still carries the drawn velocities' own drift
    np.testing.assert_allclose((mass * (end - xyz[0])).sum(0) / mass.sum(), 0, atol=0.02)


def test_frames_keep_their_bonds_and_are_reproducible():
    molecule = from_smiles("CC(=O)NC")
    sampler = Thermal(MMFFCalculator(), frames=7, temperature=500.0)
    frames = sampler(molecule)
    assert frames.shape == (7, molecule.n_atoms, 3)
    assert all(intact(molecule, frame) for frame in frames)
    np.testing.assert_array_equal(frames, frames.astype(np.float32))
    np.testing.assert_array_equal(frames, sampler(molecule))
    assert np.abs(frames - Thermal(MMFFCalculator(), frames=7, seed=1)(molecule)).max() > 0.01
    sizes = [np.sqrt(np.mean(MMFFCalculator()(molecule, frame)[1] ** 2)) for frame in frames]
    assert sizes[0] < 0.5
    assert min(sizes[1:]) > 5.0


def test_given_starts_are_used():
    molecule = from_smiles("CCCC")
    starts = embed(molecule, 4, seed=3)
    frames = Thermal(MMFFCalculator(), frames=5, starts=2, minimise=0)(molecule, starts)
    np.testing.assert_allclose(frames[0], starts[0], atol=1e-6)
    assert len(frames) == 5


def test_one_atom_has_one_geometry():
    assert Thermal(XTBCalculator(), frames=5)(from_smiles("[Na+]")).shape == (1, 1, 3)


def test_minimisation_ends_at_small_forces():
    molecule = from_smiles("C=CO")
    calculator = XTBCalculator()
    start = embed(molecule, seed=2)[0]
    end = minimised(calculator, molecule, start)
    assert calculator(molecule, end)[0] < calculator(molecule, start)[0]
    assert np.abs(calculator(molecule, end)[1]).max() < 0.5


def test_broken_and_formed_bonds_are_seen():
    molecule = from_smiles("[O-]CO")  # O- C O, then hydrogens; the last one is the hydroxyl's
    xyz = minimised(XTBCalculator(), molecule, embed(molecule, seed=1)[0])
    assert intact(molecule, xyz)
    hydrogen = next(i for i, j in molecule.bonds[:, ::-1] if j == 2 and molecule.numbers[i] == 1)
    stretched = xyz.copy()
    stretched[hydrogen] += 3.0
    assert not intact(molecule, stretched)
    transferred = xyz.copy()
    transferred[hydrogen] = 0.6 * xyz[0] + 0.4 * xyz[2]  # between the oxygens, nearer to the other one
    assert not intact(molecule, transferred)


def test_a_molecule_that_falls_apart_is_an_error_that_names_it():
    molecule = from_smiles("CC", "my-ethane")
    with pytest.raises(CalculatorError, match=r"my-ethane.*500") as caught:
        Thermal(Push(), frames=4, minimise=0)(molecule, embed(molecule))
    assert caught.value.reason == "bonds broken"


@pytest.fixture(scope="module")
def force_field():
    """A calculator that computes batches."""
    return ModelCalculator("espalike-small")


def test_walkers_side_by_side_have_their_own_temperatures():
    spring, molecule = Spring(), from_smiles("[H]Cl")
    starts = np.array([[[0.0, 0.0, 0.0], [0.0, 0.0, spring.r0]]] * 2)
    kelvin = np.array([200.0, 800.0])
    run = langevin_batch(
        spring, molecule, starts, rng=np.random.default_rng(5), temperature=kelvin, friction=0.05, timestep=1.5,
        hydrogen_mass=3.0,
    )  # fmt: skip
    r = np.array([np.linalg.norm(x[:, 0] - x[:, 1], axis=-1) for x in islice(run, 15000)])
    np.testing.assert_allclose(r[500:].std(0), np.sqrt(BOLTZMANN * kelvin / spring.k), rtol=0.08)


def test_thermal_frames_of_a_calculator_of_batches(force_field):
    molecule = from_smiles("CC(=O)NCCO")
    sampler = Thermal(force_field, frames=9, starts=4, temperature=300.0, highest=700.0, interval=15.0, minimise=500)
    frames = sampler(molecule)
    assert frames.shape == (9, molecule.n_atoms, 3)
    assert all(intact(molecule, frame) for frame in frames)
    np.testing.assert_array_equal(frames, sampler(molecule))
    assert np.abs(force_field(molecule, frames[0])[1]).max() < 0.5
    assert np.sqrt((force_field.batch(molecule, frames[1:])[1] ** 2).mean((1, 2))).min() > 5.0


def test_minimisation_of_many_geometries_ends_where_that_of_each_does(force_field):
    molecule = from_smiles("CC(=O)NCCO")
    starts = embed(molecule, 5, seed=2)
    ends = minimised_batch(force_field, molecule, starts, steps=1000)
    energies, forces = force_field.batch(molecule, ends)
    assert np.abs(forces).max() < 0.5
    single = [force_field(molecule, minimised(force_field, molecule, start, steps=1000))[0] for start in starts]
    assert (energies < np.array(single) + 0.3).all()
    assert np.median(np.abs(energies - single)) < 0.05
    few = minimised_batch(force_field, molecule, starts, steps=3)
    assert (force_field.batch(molecule, few)[0] < force_field.batch(molecule, starts)[0]).all()


def test_shapes_reach_from_compact_to_extended(force_field):
    molecule = from_smiles("CC(=O)NCC(=O)NCCCCO")
    sampler = Shapes(force_field, frames=5, pool=12, minimise=1500)
    frames = sampler(molecule)
    radii = gyration(frames)
    assert len(frames) == 5
    assert (np.diff(radii) > 0).all()
    assert all(intact(molecule, frame) for frame in frames)
    energies, forces = force_field.batch(molecule, frames)
    assert np.abs(forces).max() < 1.0
    assert np.ptp(energies) <= 25.0
    plain = gyration(embed(molecule, 12, seed=1))
    assert radii[0] < plain.min()
    assert radii[-1] > 0.95 * plain.max()
    short = Shapes(force_field, frames=3, pool=6, minimise=50)
    np.testing.assert_array_equal(short(molecule), short(molecule))
    assert Shapes(force_field)(from_smiles("[Na+]")).shape == (1, 1, 3)


def test_nothing_left_of_a_molecule_that_falls_apart(force_field):
    molecule = from_smiles("CCO", "my-ethanol")
    starts = embed(molecule, 3, seed=1)
    starts[:, 0] += 8.0
    with pytest.raises(CalculatorError, match="my-ethanol"):
        Shapes(Push(), minimise=2)(molecule, starts)


@pytest.mark.parametrize(
    ("sampler", "settings"),
    [
        (Thermal, {"frames": 0}), (Thermal, {"temperature": -5.0}), (Thermal, {"temperature": 0.0}),
        (Thermal, {"timestep": -1.0}), (Thermal, {"starts": 0}), (Thermal, {"highest": float("inf")}),
        (ETKDG, {"frames": -1}), (Distort, {"bond": -0.1}), (Modes, {"step": 0.0}), (Scan, {"rounds": 0}),
        (Wavefront, {"minimise": -1}),
    ],
)  # fmt: skip
def test_numbers_that_cannot_be_meant_are_refused(sampler, settings):
    ((name, value),) = settings.items()
    with pytest.raises(ValueError, match=rf"^sampler\.{name}={value}: expected a number"):
        sampler(MMFFCalculator(), **settings)
