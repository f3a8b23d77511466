"""Mixed precision: the network in bfloat16, the physics in the precision of the coordinates."""

import numpy as np
import pytest
import torch

from espalike.chem import embed, from_smiles
from espalike.data.collate import Item, collate, featurized
from espalike.energy import energy
from espalike.model import from_config
from espalike.train.lightning import TrainingModule
from espalike.train.objective import Objective
from tests.train.common import CONFIG


def item(smiles):
    molecule, rng = from_smiles(smiles), np.random.default_rng(0)
    xyz = embed(molecule, 3, seed=0) + 0.03 * rng.standard_normal((3, molecule.n_atoms, 3))
    charge = rng.standard_normal(molecule.n_atoms)
    return Item(featurized(molecule), xyz, rng.standard_normal(3), rng.standard_normal(xyz.shape), charge, None, 0, 0)


def stepped(conv, dtype, mixed):
    """System, prediction and gradients of a training step."""
    torch.manual_seed(0)
    module = TrainingModule(from_config({**CONFIG, "conv": conv}).to(dtype), Objective(), torch.optim.Adam, ["a"])
    batch = collate([item(s) for s in ("CCO", "CC(=O)N", "c1ccncc1")], dtype=dtype)
    with torch.autocast("cpu", torch.bfloat16, enabled=mixed):  # what Lightning does for precision=bf16-mixed
        _, total, system, prediction = module._step(batch, training=True)
    total.backward()
    return batch, system, prediction, torch.cat([p.grad.flatten() for p in module.parameters()])


@pytest.mark.parametrize("conv", ["SAGE", "GIN", "GAT"])
def test_the_physics_is_not_in_bfloat16(conv):
    conv = {"_target_": f"espalike.nn.convs.{conv}", "_partial_": True}
    batch, system, prediction, gradients = stepped(conv, torch.float32, mixed=True)
    assert all(bound.values.dtype in (torch.float32, torch.float64) for bound in system.terms)
    assert prediction.energy.dtype == prediction.forces.dtype == gradients.dtype == torch.float32
    with torch.no_grad():
        again = energy(system, batch.xyz)  # from the parameters as they came, in float32
    torch.testing.assert_close(prediction.energy.detach(), again.energy, rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(prediction.forces.detach(), again.forces, rtol=1e-5, atol=1e-3)
    _, exact, _, reference = stepped(conv, torch.float32, mixed=False)
    bonds, expected = (s.bound("HarmonicBond").values.detach() for s in (system, exact))
    assert 0 < float((bonds / expected - 1).abs().max()) < 1e-3  # the network was in bfloat16, the links were not
    cosine = torch.nn.functional.cosine_similarity(gradients, reference, dim=0)
    assert float(cosine) > 0.99


def test_without_mixed_precision_nothing_changes():
    conv = CONFIG["conv"]
    *_, single = stepped(conv, torch.float32, mixed=False)
    *_, double = stepped(conv, torch.float64, mixed=False)
    torch.testing.assert_close(single.double(), double, rtol=1e-3, atol=1e-4 * float(double.abs().max()))
