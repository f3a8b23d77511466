"""Planted faults are named: where they first appear, in which term, of which molecule."""

import numpy as np
import pytest
import torch

from espalike.model import from_config
from espalike.terms.angle import HarmonicAngle
from espalike.terms.base import Term
from espalike.terms.bond import HarmonicBond
from espalike.training.faults import find_fault
from espalike.training.lightning import TrainingModule
from espalike.training.objective import Objective
from tests.batches import collate
from tests.training.common import CONFIG, item

SMILES = ["CCO", "CCS", "c1ccncc1"]
LONG = 1.7
"""Bonds longer than this [Å] are between carbon and sulphur only."""


@pytest.fixture
def items():
    return [item(smiles, seed=number) for number, smiles in enumerate(SMILES)]


@pytest.fixture
def module():
    torch.manual_seed(0)
    return TrainingModule(from_config(CONFIG), Objective(), torch.optim.Adam, ["a"])


def alone(items):
    """Each item as a batch, with the numbers of its conformers."""
    return [(collate([item]), [10, 20, 30]) for item in items]


def plant(monkeypatch, extra):
    """Add to the energy of harmonic bonds; slopes are autograd's."""
    plain = HarmonicBond.energy
    monkeypatch.setattr(HarmonicBond, "slopes", Term.slopes)
    monkeypatch.setattr(HarmonicBond, "energy", lambda self, q, p: plain(self, q, p) + extra(q[0], p[0]))


def test_finite_numbers_have_no_fault(module, items):
    assert find_fault(module, alone(items)) is None


def test_atoms_on_top_of_each_other(module, items):
    items[2].xyz[1, 3] = items[2].xyz[1, 0]  # across the ring of pyridine
    fault = find_fault(module, alone(items))
    assert (fault.stage, fault.parts, fault.molecules) == ("energies", ("LennardJones", "Coulomb"), (2,))
    assert fault.detail == "conformer 20, whose nearest atoms, 0 and 3 (counted from 0), are 0 Å apart"
    message = fault.message(["store: ethanol", "store: ethanethiol", "store: pyridine"])
    assert message.startswith(
        "energies of LennardJones, Coulomb are not finite, first for store: pyridine: conformer 20"
    )


def test_atoms_on_top_of_each_other_in_validation(module, items):
    items[2].xyz[1, 3] = items[2].xyz[1, 0]
    with torch.no_grad():
        fault = find_fault(module, alone(items), training=False)
    assert (fault.stage, fault.molecules) == ("energies", (2,))


def test_a_coordinate(module, items):
    items[1].xyz[2, 4, 1] = np.nan
    fault = find_fault(module, alone(items))
    assert (fault.stage, fault.molecules, fault.detail) == ("coordinates", (1,), "atom 4 of conformer 30")


def test_a_feature(module, items):
    batches = alone(items)
    batches[1][0].x[1, 0] = torch.inf
    fault = find_fault(module, batches)
    assert (fault.stage, fault.molecules, fault.detail) == ("features", (1,), "atom 1")


def test_a_weight_of_a_head(module, items):
    head = module.model.heads.names.index("HarmonicAngle")
    name, bias = next((n, w) for n, w in module.model.heads[head].named_parameters() if w.shape == (2,))
    with torch.no_grad():
        bias[1] = torch.nan
    fault = find_fault(module, alone(items))
    assert (fault.stage, fault.parts, fault.molecules) == ("parameters", ("HarmonicAngle",), (0, 1, 2))
    assert fault.detail.startswith(f"{HarmonicAngle.params[1].name} of HarmonicAngle at atoms ")
    assert fault.detail.endswith(f"weights that are not finite: heads.{head}.{name}")


def test_a_weight_of_the_encoder_spoils_all_terms(module, items):
    with torch.no_grad():
        module.model.encoder.enter.weight[0, 0] = torch.nan
    fault = find_fault(module, alone(items))
    assert fault.stage == "parameters"
    assert set(fault.parts) == {term.name for term in module.model.terms}
    assert fault.detail.endswith("weights that are not finite: encoder.enter.weight")


@pytest.mark.parametrize(("dtype", "weight"), [(torch.bfloat16, 1.001), (torch.float16, 1e5)])
def test_faults_in_mixed_precision_only(module, items, dtype, weight):
    """1.001 is 1 in bfloat16, 10⁵ infinite in float16."""

    def spoil(encoder, inputs, h):
        one = torch.nn.functional.linear(torch.ones(1, 1), torch.tensor([[weight]])).float() - 1
        return h * (one / one)

    module.model.encoder.register_forward_hook(spoil)
    assert find_fault(module, alone(items)) is None
    fault = find_fault(module, alone(items), lambda: torch.autocast("cpu", dtype))
    assert (fault.stage, fault.molecules) == ("parameters", (0, 1, 2))


@pytest.mark.parametrize(("label", "size"), [("forces", "1e+30"), ("energy", None)])
def test_a_label_whose_square_overflows(module, items, label, size):
    getattr(items[1], label).flat[0] = 1e30
    fault = find_fault(module, alone(items))
    assert (fault.stage, fault.parts, fault.molecules) == ("losses", (label,), (1,))
    assert fault.detail.startswith(f"{label} is inf; forces there are up to ")
    assert size is None or f"and {size}, as labelled" in fault.detail


def test_forces_of_one_term(module, items, monkeypatch):
    plant(monkeypatch, lambda r, k: ((r - r.detach()).abs() + (r <= LONG)).sqrt())
    fault = find_fault(module, alone(items))
    assert (fault.stage, fault.parts, fault.molecules) == ("forces", ("HarmonicBond",), (1,))


def test_gradients_by_a_parameter(module, items, monkeypatch):
    plant(monkeypatch, lambda r, k: (k - k.detach() + (r <= LONG)).sqrt())
    fault = find_fault(module, alone(items))
    assert (fault.stage, fault.parts, fault.molecules) == ("gradients", ("HarmonicBond",), (1,))
    assert fault.detail == "k of HarmonicBond at atoms 1-2 (counted from 0)"


def test_gradients_within_the_network(module, items):
    module.model.encoder.enter.weight.register_hook(lambda gradient: gradient * torch.nan)
    fault = find_fault(module, alone(items))
    assert (fault.stage, fault.parts, fault.molecules) == ("gradients", ("encoder.enter.weight",), (0, 1, 2))
    assert fault.detail == "element [0, 0] of encoder.enter.weight"


def test_gradients_of_all_molecules_within_the_network(module, items):
    def spoil(encoder, inputs, h):
        h.register_hook(lambda gradient: gradient * torch.nan)

    module.model.encoder.register_forward_hook(spoil)
    fault = find_fault(module, alone(items))
    assert (fault.stage, fault.molecules) == ("gradients", (0, 1, 2))
    assert fault.parts[:2] == ("encoder.enter.weight", "encoder.enter.bias")
    assert len(fault.parts) > 3
    assert f" and {len(fault.parts) - 3} more are not finite, first for a; b; c: element" in fault.message(
        ["a", "b", "c"]
    )


def test_long_lists_are_cut(module, items):
    items[0].xyz[0] = np.nan
    message = find_fault(module, alone([items[0]] * 5)).message([f"entry {number}" for number in range(5)])
    assert "entry 0; entry 1; entry 2; and 2 more of the batch's 5: atom 0 of conformer 10" in message
