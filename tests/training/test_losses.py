"""Losses on charges, torsion drives and the pull, each compared with an independent computation."""

import numpy as np
import pytest
import torch

from espalike.chem import embed, from_smiles
from espalike.chem.conformers import EspGrid
from espalike.energy import energy
from espalike.model import from_config
from espalike.system import MMSystem
from espalike.training import losses
from espalike.training.objective import Objective, Scales
from espalike.units import BOLTZMANN, KJ_PER_KCAL
from tests.batches import collate
from tests.training import common
from tests.training.common import CONFIG

F64 = torch.float64


def item(smiles, n, seed, **labels):
    """An entry with energies within 2 kcal/mol and without forces."""
    energies = 2.0 * np.random.default_rng(seed).random(n)
    return common.item(smiles, n, seed, **{"energy": energies, "forces": None, **labels})


def potential(xyz, counts, seed):
    """Points some Å off a molecule's conformers, with made-up values."""
    rng = np.random.default_rng(seed)
    points = [x.mean(0) + 6.0 * (d / np.linalg.norm(d)) for x, n in zip(xyz, counts, strict=True) for d in draw(rng, n)]
    return EspGrid(np.array(points).reshape(-1, 3), rng.standard_normal(sum(counts)), np.array(counts))


def draw(rng, n):
    return rng.standard_normal((n, 3))


def xyz_of(smiles, n, seed):
    return item(smiles, n, seed).xyz


@pytest.fixture(scope="module")
def batch():
    water = item("O", 3, 1, dipole=np.array([[0.1, 0.2, 0.3], [np.nan] * 3, [0.0, -0.4, 0.1]]))
    acetate = item("CC(=O)[O-]", 2, 2, dipole=np.ones((2, 3)), esp=potential(xyz_of("CC(=O)[O-]", 2, 2), [4, 3], 2))
    ethane = item("CC", 4, 3, scan=True)
    methanol = item("CO", 3, 4, scan=True, esp=potential(xyz_of("CO", 3, 4), [0, 5, 0], 4))
    return collate([water, acetate, ethane, methanol], dtype=F64)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return from_config(CONFIG).double()


@pytest.fixture(scope="module")
def charges(model, batch):
    with torch.no_grad():
        return losses.charges_of(model(batch))


def only(name, batch, model, **settings):
    """The objective that has this loss alone, and its losses."""
    weights = dict.fromkeys(("energy", "forces", "charge", "lj", "torsion", "coupling"), 0.0)
    objective = Objective(**{**weights, name: 1.0, **settings})
    system = model(batch)
    factors = objective.source_factors(["a"])
    return objective.losses(system, energy(system, batch.xyz, create_graph=True), batch, factors)


def test_dipole_loss_equals_numpys_and_skips_unknown_dipoles(batch, model, charges):
    q, xyz, mol = charges.numpy(), batch.xyz.numpy(), batch.mol.numpy()
    squares = []
    for m, rows in ((0, [0, 2]), (1, [0, 1])):
        for k in rows:
            moment = (q[mol == m, None] * xyz[k, mol == m]).sum(0)
            squares += [*((moment - batch.dipole[k, m].numpy()) / 0.1) ** 2]
    result = only("dipole", batch, model, scales=Scales(dipole=0.1))
    assert list(result) == ["dipole"]
    assert result["dipole"].item() == pytest.approx(np.mean(squares), rel=1e-10)


def test_dipoles_of_ions_move_with_the_origin_and_others_stay(batch, charges):
    from dataclasses import replace

    shift = torch.tensor([10.0, -3.0, 5.0], dtype=F64)
    change = losses.dipoles(charges, replace(batch, xyz=batch.xyz + shift)) - losses.dipoles(charges, batch)
    expected = torch.tensor([0.0, -1.0, 0.0, 0.0], dtype=F64).unsqueeze(-1) * shift
    torch.testing.assert_close(change, expected.expand_as(change), rtol=0, atol=1e-12)


def openmms_potential(charges, xyz, point):
    """What a probe of one unit charge adds to OpenMM's energy [kcal/mol]."""
    import openmm

    def total(positions, values):
        system, force = openmm.System(), openmm.NonbondedForce()
        for value in values:
            system.addParticle(1.0)
            force.addParticle(float(value), 0.1, 0.0)
        system.addForce(force)
        context = openmm.Context(system, openmm.VerletIntegrator(1.0), openmm.Platform.getPlatformByName("Reference"))
        context.setPositions(np.asarray(positions) * 0.1)
        return context.getState(getEnergy=True).getPotentialEnergy()._value / KJ_PER_KCAL

    with_probe = total(np.vstack([xyz, point]), [*charges, 1.0])
    return with_probe - total(xyz, charges)


def test_potentials_are_openmms(batch, charges):
    result = losses.potentials(charges, batch)
    assert len(result) == 4 + 3 + 5
    for g in range(len(result)):
        k, m = int(batch.esp.conformer[g]), int(batch.esp.mol[g])
        atoms = batch.mol == m
        expected = openmms_potential(charges[atoms].numpy(), batch.xyz[k, atoms].numpy(), batch.esp.points[g].numpy())
        assert float(result[g]) == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_esp_loss_is_the_mean_over_points(batch, model, charges):
    expected = ((losses.potentials(charges, batch) - batch.esp.values) ** 2).mean() / 4.0
    assert only("esp", batch, model, scales=Scales(esp=2.0))["esp"].item() == pytest.approx(float(expected), rel=1e-12)


def test_losses_without_labels_are_zero_and_differentiable(model):
    plain = collate([item("O", 2, 1), item("CO", 2, 2)], dtype=F64)
    for name in ("dipole", "esp", "profile", "hessian"):
        value = only(name, plain, model)[name]
        assert value.item() == 0.0
        assert all(g is None or bool((g == 0).all()) for g in gradients(value, model))


def gradients(value, model):
    return torch.autograd.grad(value, tuple(model.parameters()), allow_unused=True)


@pytest.mark.parametrize("name", ["dipole", "esp"])
def test_gradients_reach_the_charges(batch, model, charges, name):
    factors = torch.tensor([1.0, 0.5, 1.0, 2.0], dtype=F64)
    function = {"dipole": losses.dipole_loss, "esp": losses.esp_loss}[name]
    q = charges.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda q: function(q, batch, factors, 1.0), q)
    value = only(name, batch, model)[name]
    head = next(h for h in model.heads if type(h).__name__ == "Equilibration")
    moved = torch.autograd.grad(value, tuple(head.parameters()), retain_graph=True)
    assert all(float(g.abs().max()) > 0 for g in moved)


def test_profiles_are_boltzmann_weighted(batch, model):
    with torch.no_grad():
        predicted = energy(model(batch), batch.xyz).energy.numpy()
    expected = []
    for m, n in ((2, 4), (3, 3)):  # the drives
        reference = batch.energy[:n, m].numpy()
        w = np.exp(-(reference - reference.min()) / (BOLTZMANN * 500.0))
        error = predicted[:n, m] - reference
        expected.append(np.average((error - np.average(error, weights=w)) ** 2, weights=w) / 4.0)
    result = only("profile", batch, model, temperature=500.0, scales=Scales(energy=2.0))["profile"]
    assert result.item() == pytest.approx(np.mean(expected), rel=1e-10)
    assert any(
        g is not None and bool(g.isfinite().all()) and float(g.abs().max()) > 0 for g in gradients(result, model)
    )


def test_hot_profiles_are_energies(model):
    """At infinite temperature all points weigh the same."""
    drive = collate([item("CC", 5, 3, scan=True)], dtype=F64)
    hot, plain = only("profile", drive, model, temperature=1e9), only("energy", drive, model)
    assert hot["profile"].item() == pytest.approx(plain["energy"].item(), rel=1e-6)


def test_pull_measures_parameters_in_units_of_their_spread(batch, model):
    with torch.no_grad():
        system = model(batch)
    assert float(losses.pull_loss(system, system, 0.02)) == 0.0

    def moved(name, change):
        terms = [b if b.term.name != name else type(b)(b.term, b.tuples, change(b.values)) for b in system.terms]
        return MMSystem(tuple(terms), system.numbers, system.mol)

    bond = system.bound("HarmonicBond").term
    assert [p.name for p in bond.params] == ["k", "r0"]
    assert [p.link for p in bond.params] == ["positive", "positive"]
    scaled = moved("HarmonicBond", lambda v: v * torch.exp(2.0 * torch.tensor([p.std for p in bond.params], dtype=F64)))
    assert float(losses.pull_loss(scaled, system, 0.02)) == pytest.approx(8.0)  # two spreads of each
    shifted = moved("PeriodicProper", lambda v: v + torch.tensor([0.5, 0, 0, 0, 0, 0], dtype=F64))
    assert float(losses.pull_loss(shifted, system, 0.02)) == pytest.approx(1.0)
    charged = moved("Coulomb", lambda v: v + 0.06)
    assert float(losses.pull_loss(charged, system, 0.02)) == pytest.approx(9.0)


def test_the_pull_has_a_gradient_where_a_parameter_is_zero(batch, model):
    """Hydrogens without a well have no ln ε."""
    torch.manual_seed(1)
    other = from_config(CONFIG).double()
    value = losses.pull_loss(model(batch), other(batch), 0.02)
    assert value.item() > 0
    assert all(g is None or bool(g.isfinite().all()) for g in gradients(value, model))


def hessian(model, molecule, x, step=1e-4):
    """Second derivatives of the energy [kcal/mol/Å²], by differences of forces."""
    from espalike.batch import batch_of

    with torch.no_grad():
        system = model(batch_of([molecule], F64))
    moves = step * np.eye(x.size).reshape(x.size, *x.shape)
    plus, minus = (energy(system, torch.from_numpy(x + sign * moves)).forces.reshape(x.size, -1) for sign in (1, -1))
    return -((plus - minus) / (2 * step)).numpy()


def test_hessian_loss_is_that_of_the_second_derivatives(model):
    """Labels are the forces of another model near one geometry, so both Hessians are known."""
    torch.manual_seed(1)
    other = from_config(CONFIG).double()
    molecule, rng = from_smiles("CO"), np.random.default_rng(0)
    x = embed(molecule, 1, seed=0)[0]
    moves = rng.standard_normal((3, *x.shape))
    moves = 0.03 * np.concatenate([moves, -moves]) / np.linalg.norm(moves, axis=(1, 2)).mean()
    with torch.no_grad():
        system = other(collate([item("CO", 1, 0)], dtype=F64))
    forces = energy(system, torch.from_numpy(x + moves)).forces.numpy()
    far = np.concatenate([x + moves, x[None] + 3.0])[[0, 6]]  # a mean of two geometries is far from both
    entries = [
        item("CO", 6, 0, xyz=x + moves, forces=forces),
        item("CO", 2, 0, xyz=far, forces=forces[:2], energy=np.zeros(2)),
        item("O", 2, 0),
    ]
    near = collate(entries, dtype=F64)
    difference = hessian(model, molecule, x) - hessian(other, molecule, x)
    along = [difference @ (move / np.linalg.norm(move)).ravel() for move in moves]
    expected = np.mean([(column**2).sum() for column in along]) / 50.0**2
    result = only("hessian", near, model, scales=Scales(hessian=50.0))["hessian"]
    assert result.item() == pytest.approx(expected, rel=0.02)
    assert any(
        g is not None and bool(g.isfinite().all()) and float(g.abs().max()) > 0 for g in gradients(result, model)
    )
