"""Mixed precision: the network in bfloat16, the physics in the precision of the coordinates."""

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.plugins import MixedPrecision

from espalike.energy import energy
from espalike.model import from_config
from espalike.training.diagnosis import Diagnosis, NotFinite, StopOnFault
from espalike.training.lightning import TrainingModule
from espalike.training.objective import Objective
from tests.batches import collate
from tests.training.common import CONFIG, item

SIZES = {"CCO": 9, "CC(=O)N": 9, "c1ccncc1": 11}
"""Molecules and their numbers of atoms."""


def stepped(conv, dtype, mixed):
    """System, prediction and gradients of a training step."""
    torch.manual_seed(0)
    module = TrainingModule(from_config({**CONFIG, "conv": conv}).to(dtype), Objective(), torch.optim.Adam, ["a"])
    batch = collate([item(s, ref_charge=np.linspace(-0.1, 0.1, n)) for s, n in SIZES.items()], dtype=dtype)
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


def trained(tmp_path, plugin, spoil=None, steps=6):
    """A module after some steps in a precision; `spoil` is done to gradients within the network."""
    torch.manual_seed(0)
    module = TrainingModule(from_config(CONFIG), Objective(), torch.optim.Adam, ["a"])
    if spoil is not None:
        module.model.encoder.enter.weight.register_hook(spoil)
    trainer = pl.Trainer(
        max_steps=steps,
        accelerator="cpu",
        plugins=[plugin],
        callbacks=[StopOnFault(tmp_path / "last.ckpt"), Diagnosis(tmp_path / "worst.csv")],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    batches = [collate([item(s) for s in ("CCO", "CC(=O)N")])] * steps
    trainer.fit(module, torch.utils.data.DataLoader(batches, batch_size=None))
    return module


QUIET = pytest.mark.filterwarnings(
    "ignore:.*(does not have many workers|val_dataloader|validation_step|LeafSpec|lr_scheduler.step).*"
)


@QUIET
def test_in_float16_a_step_that_overflows_is_left_out_and_is_no_fault(tmp_path):
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**60, backoff_factor=2.0**-15)
    module = trained(tmp_path, MixedPrecision("16-mixed", "cpu", scaler))
    assert scaler.get_scale() < 2.0**60
    torch.manual_seed(0)
    before = from_config(CONFIG).state_dict()
    assert all(weight.isfinite().all() for weight in module.parameters())
    assert any((weight != before[name]).any() for name, weight in module.model.state_dict().items())
    assert np.isfinite([*module.means["train"].pop().values()]).all()


@QUIET
@pytest.mark.parametrize("precision", ["bf16-mixed", "16-mixed"])
def test_a_fault_is_one_in_any_precision(tmp_path, precision):
    """In float16 when the scale is down to one."""
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0) if precision == "16-mixed" else None
    with pytest.raises(NotFinite, match=r"gradients of encoder\.enter\.weight are not finite, first for "):
        trained(tmp_path, MixedPrecision(precision, "cpu", scaler), lambda gradient: gradient * torch.nan)
    assert scaler is None or scaler.get_scale() == 1.0
