"""Losses against numpy, in the presence of masked and missing labels."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from espalike.data.schema import KINDS
from espalike.energy import energy
from espalike.model import from_config
from espalike.training.diagnosis import entry_errors
from espalike.training.losses import centred
from espalike.training.objective import Objective, Scales
from tests.batches import collate
from tests.training.common import CONFIG, item

F64 = torch.float64


@pytest.fixture(scope="module")
def setup():
    torch.manual_seed(0)
    coupling = {"_target_": "espalike.terms.cross.BondBond"}
    model = from_config({**CONFIG, "terms": [*CONFIG["terms"], coupling]}).double()
    water = item(
        "O", 2, 1, ref_charge=np.array([-0.8, 0.4, 0.4]), ref_lj=np.array([[3.2, 0.15], [1.0, 0.0], [1.0, 0.0]])
    )
    ethanol = item("CCO", 5, 2, source=1)
    blind = item("CC#N", 3, 3, energy=np.full(3, np.nan), forces=np.zeros((3, 6, 3)))
    batch = collate([water, ethanol, blind], dtype=F64)
    with torch.no_grad():
        system = model(batch)
        return batch, system, energy(system, batch.xyz)


def test_losses_equal_numpys(setup):
    batch, system, prediction = setup
    objective = Objective(
        sources={"a": {"charge": 2.0, "lj": 3.0}, "b": {"energy": 0.5, "forces": 2.0}},
        scales=Scales(energy=2.0, forces=3.0, charge=0.1, sigma=0.1),
    )
    losses = objective.losses(system, prediction, batch, objective.source_factors(["a", "b"]))
    squares, count = 0.0, 0
    for mol, (n, weight) in enumerate([(2, 1.0), (5, 0.5)]):
        p, r = (v[:n, mol].detach().numpy() for v in (prediction.energy, batch.energy))
        squares += weight * (((p - p.mean()) - (r - r.mean())) ** 2).sum() / 4.0
        count += n
    assert float(losses["energy"]) == pytest.approx(squares / count, rel=1e-10)
    squares, count = 0.0, 0
    for mol, (n, weight) in enumerate([(2, 1.0), (5, 2.0), (3, 1.0)]):
        atoms = (batch.mol == mol).numpy()
        error = (prediction.forces - batch.forces).detach().numpy()[:n, atoms]
        squares, count = squares + weight * (error**2).sum() / 9.0, count + error.size
    assert float(losses["forces"]) == pytest.approx(squares / count, rel=1e-10)
    q = system.bound("Coulomb").values[:3, 0].detach().numpy()
    assert float(losses["charge"]) == pytest.approx(2.0 * (((q - [-0.8, 0.4, 0.4]) / 0.1) ** 2).mean(), rel=1e-10)
    lj = system.bound("LennardJones").values[:3].numpy()
    size = ((lj[:, 0] - [3.2, 1.0, 1.0]) / 0.1) * [1, 0, 0]  # a well of no depth has no size
    depth = (np.sqrt(lj[:, 1]) - np.sqrt([0.15, 0, 0])) / 0.02
    expected = 3.0 * (size**2 + depth**2).mean()
    assert float(losses["lj"]) == pytest.approx(expected, rel=1e-10)


def test_losses_do_not_depend_on_masked_slots(setup):
    batch, system, prediction = setup
    objective = Objective()
    factors = objective.source_factors(["a", "b"])
    reference = objective.losses(system, prediction, batch, factors)
    moved = prediction.energy.clone()
    moved[~batch.mask] += 100.0
    changed = type(prediction)(moved, prediction.forces, prediction.by_term)
    assert torch.equal(objective.losses(system, changed, batch, factors)["energy"], reference["energy"])


def test_an_entry_of_one_geometry_counts_in_forces_but_not_in_energies(setup):
    """Its energy relative to its own mean is zero; counting it would dilute the loss and the errors of the others."""
    several = [item("CCO", 5, 2), item("O", 2, 1)]
    single = item("CC#N", 1, 3, scan=True)
    with_it, without = (collate(items, dtype=F64) for items in ([*several, single], several))
    torch.manual_seed(0)
    model = from_config(CONFIG).double()
    objective = Objective(profile=1.0)
    losses, errors = [], []
    for batch in (with_it, without):
        with torch.no_grad():
            system = model(batch)
            prediction = energy(system, batch.xyz)
        losses.append(objective.losses(system, prediction, batch, objective.source_factors(["a"])))
        errors.append(entry_errors(batch, prediction))
    assert float(losses[0]["energy"]) == pytest.approx(float(losses[1]["energy"]), rel=1e-10)
    assert float(losses[0]["profile"]) == 0.0
    assert float(losses[0]["forces"]) != pytest.approx(float(losses[1]["forces"]), rel=1e-3)
    assert errors[0][2, 3].isnan()
    assert errors[0][2, 4] > 0
    torch.testing.assert_close(errors[0][:2, 3:], errors[1][:, 3:])


def test_geometries_of_high_energy_count_less_on_request(setup):
    batch, system, prediction = setup
    factors = Objective().source_factors(["a", "b"])
    weighted = Objective(half_weight_at=2.0).losses(system, prediction, batch, factors)
    squares, count = 0.0, 0
    for mol, n in enumerate([2, 5]):  # the third molecule has no energies
        p, r = (v[:n, mol].numpy() for v in (prediction.energy, batch.energy))
        w = 1 / (1 + (r - r.min()) / 2.0)
        error = (p - np.average(p, weights=w)) - (r - np.average(r, weights=w))
        squares, count = squares + (w * error**2).sum(), count + n
    assert float(weighted["energy"]) == pytest.approx(squares / count, rel=1e-10)
    squares, count = 0.0, 0
    for mol, n in enumerate([2, 5, 3]):
        error = (prediction.forces - batch.forces).numpy()[:n, (batch.mol == mol).numpy()]
        r = batch.energy[:n, mol].numpy()
        w = np.ones(n) if mol == 2 else 1 / (1 + (r - r.min()) / 2.0)
        squares, count = squares + (w[:, None, None] * error**2).sum() / 9.0, count + error.size
    assert float(weighted["forces"]) == pytest.approx(squares / count, rel=1e-10)
    plain = Objective().losses(system, prediction, batch, factors)
    assert {name for name in plain if weighted[name] != plain[name]} == {"energy", "forces"}
    with pytest.raises(ValueError, match=r"half_weight_at needs batches with `above`"):
        Objective(half_weight_at=2.0).losses(system, prediction, replace(batch, above=None), factors)
    with pytest.raises(ValueError, match=r"objective\.half_weight_at=0: .* expected a number above 0"):
        Objective(half_weight_at=0.0)
    with pytest.raises(ValueError, match=r"objective\.half_weight_at=-1: expected a number, 0 or more"):
        Objective(half_weight_at=-1)


def test_a_constant_in_the_energy_does_not_matter():
    mask = torch.tensor([[True, True], [True, False]])
    e = torch.tensor([[1.0, 5.0], [3.0, 9.0]], dtype=F64)
    torch.testing.assert_close(centred(e + 1e6, mask), torch.tensor([[-1.0, 0.0], [1.0, 0.0]], dtype=F64))


def test_total_is_the_weighted_sum(setup):
    batch, system, prediction = setup
    objective = Objective(energy=2.0, forces=0.3, charge=0.7, lj=0.1, torsion=5.0, coupling=3.0)
    losses = objective.losses(system, prediction, batch, objective.source_factors(["a", "b"]))
    weights = {"energy": 2.0, "forces": 0.3, "charge": 0.7, "lj": 0.1, "torsion": 5.0, "coupling": 3.0}
    expected = sum(weights[name] * loss for name, loss in losses.items())
    torch.testing.assert_close(objective.total(losses), expected)
    assert all(float(v) > 0 for v in losses.values())


def test_weights_follow_their_schedule():
    objective = Objective(energy=2.0, schedules={"energy": [[0.25, 0.5], [0.75, 1.5]]})
    weights = [objective.weight("energy", progress) for progress in (0.0, 0.25, 0.5, 0.625, 1.0)]
    assert weights == pytest.approx([1.0, 1.0, 2.0, 2.5, 3.0])
    assert objective.weight("forces", 0.3) == 1.0
    losses = {"energy": torch.tensor(3.0), "forces": torch.tensor(1.0)}
    assert float(objective.total(losses, 0.5)) == pytest.approx(7.0)


def test_a_loss_of_weight_zero_is_left_out_and_some_weight_is_needed(setup):
    batch, system, prediction = setup
    objective = Objective(charge=0.0, torsion=0.0)
    names = set(objective.losses(system, prediction, batch, objective.source_factors(["a", "b"])))
    assert names == {"energy", "forces", "lj", "coupling"}
    with pytest.raises(ValueError, match=r"all weights are zero; one of energy, .* must be positive"):
        Objective(**dict.fromkeys(("energy", "forces", "charge", "lj", "torsion", "coupling"), 0.0))
    with pytest.raises(ValueError, match=r"objective\.forces=-1\.0: expected a number, 0 or more"):
        Objective(forces=-1.0)


@pytest.mark.parametrize(
    "schedules",
    [
        {"force": [[0, 1]]},
        {"forces": []},
        {"forces": [[0, 1], [2, 1]]},
        {"forces": [[1, 0], [0, 1]]},
        {"forces": [[0]]},
    ],
)
def test_bad_schedules_are_refused(schedules):
    with pytest.raises(ValueError, match=r"objective\.schedules.*(unknown .*; losses are energy|expected points)"):
        Objective(schedules=schedules)


def test_couplings_are_penalised_in_units_of_their_spread_and_equilibrium_values_are_not(setup):
    batch, system, prediction = setup
    losses = Objective().losses(system, prediction, batch, Objective().source_factors(["a", "b"]))
    bound = system.bound("BondBond")
    assert bound.term.params[0].std == 20.0
    torch.testing.assert_close(losses["coupling"], ((bound.values[:, 0] / 20.0) ** 2).mean())


def test_factors_of_kinds_multiply_those_of_sources(setup):
    batch, system, prediction = setup
    batch = replace(batch, kind=torch.tensor([KINDS.index("thermal"), -1, KINDS.index("relaxed")]))
    sources = {"a": {"energy": 0.5}}
    kinds = {"thermal": {"energy": 0.1}, "relaxed": {"forces": 3.0}}
    objective = Objective(sources=sources, kinds=kinds)
    losses = objective.losses(system, prediction, batch, objective.source_factors(["a", "b"]))
    # the same by sources alone: one per molecule
    apart = replace(batch, source=torch.tensor([0, 1, 2]))
    alone = Objective(sources={"x": {"energy": 0.05}, "z": {"energy": 0.5, "forces": 3.0}})
    expected = alone.losses(system, prediction, apart, alone.source_factors(["x", "y", "z"]))
    torch.testing.assert_close(losses, expected)
    plain = Objective(sources=sources)
    assert losses["energy"] != plain.losses(system, prediction, batch, plain.source_factors(["a", "b"]))["energy"]
    with pytest.raises(ValueError, match=r"objective.kinds: unknown hot; the data has relaxed, scan"):
        Objective(kinds={"hot": {"energy": 0.1}})
    with pytest.raises(ValueError, match=r"objective.kinds.thermal takes energy.*got torsion"):
        Objective(kinds={"thermal": {"torsion": 0.1}})


@pytest.mark.parametrize(
    ("sources", "message"),
    [
        ({"x": {"energy": 1}}, "unknown x; the data has a, b"),
        ({"a": {"E": 1}}, "takes energy, forces, hessian, profile, dipole, esp, interaction, sapt, charge, lj; got E"),
    ],
)
def test_factors_of_unknown_sources_and_losses_are_refused(sources, message):
    with pytest.raises(ValueError, match=message):
        Objective(sources=sources).source_factors(["a", "b"])
