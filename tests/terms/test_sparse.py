"""Torsions with few cosines: small coefficients are left out of a trained model, and cost while it is trained."""

import numpy as np
import openmm
import pytest
import torch

from espalike import export
from espalike.chem import from_smiles
from espalike.model import Ensemble, from_config
from espalike.terms.torsion import PeriodicProper
from espalike.training.losses import sizes
from tests.batches import collate
from tests.training.common import CONFIG, item

SMALLEST = 0.004
MOLECULE = from_smiles("CC(=O)NCCO", "amide")


def model(seed, smallest=SMALLEST):
    terms = [
        {**term, "smallest": smallest} if term["_target_"].endswith("PeriodicProper") else term
        for term in CONFIG["terms"]
    ]
    torch.manual_seed(seed)
    return from_config({**CONFIG, "terms": terms}).double()


def coefficients(system):
    return system.bound("PeriodicProper").values.detach()


def test_small_coefficients_are_left_out_except_in_training():
    trained, full = model(0), model(0, 0.0)
    batch = collate([item("CC(=O)NCCO", 2, 1)], dtype=torch.float64)
    every = coefficients(full(batch))
    assert torch.equal(coefficients(trained.train()(batch)), every)
    small = every.abs() < SMALLEST
    assert 0 < small.sum() < small.numel()
    left = coefficients(trained.eval()(batch))
    assert torch.equal(left == 0.0, small)
    assert torch.equal(left[~small], every[~small])


def test_an_ensemble_leaves_out_what_is_small_in_the_mean():
    members = [model(seed).eval() for seed in (0, 1)]
    left = coefficients(Ensemble(members).parametrize(MOLECULE))
    mean = torch.stack([coefficients(member.parametrize(MOLECULE)) for member in members]).mean(0)
    assert torch.equal(left, torch.where(mean.abs() < SMALLEST, 0.0, mean))


def test_what_is_left_out_is_not_exported():
    system = model(0).parametrize(MOLECULE)
    (force,) = [f for f in export.to_openmm(system).getForces() if isinstance(f, openmm.PeriodicTorsionForce)]
    impropers = 3 * len(system.bound("PeriodicImproper").tuples)
    assert force.getNumTorsions() == int((coefficients(system) != 0.0).sum()) + impropers


def test_the_loss_is_the_mean_of_sums_of_sizes():
    system = model(0).train()(collate([item("CCO", 2, 1), item("CCCO", 2, 2)], dtype=torch.float64))
    values = coefficients(system).numpy()
    assert float(sizes(system, torch.zeros((), dtype=torch.float64), 2.0).detach()) == pytest.approx(
        np.abs(values).sum() / len(values) / 2.0, rel=1e-12
    )
    plain = model(0, 0.0)(collate([item("CCO", 2, 1)], dtype=torch.float64))
    assert float(sizes(plain, torch.zeros(()), 2.0)) == 0.0


def test_a_smallest_coefficient_that_cannot_be_meant():
    with pytest.raises(ValueError, match=r"PeriodicProper\.smallest=-1"):
        PeriodicProper(smallest=-1)
