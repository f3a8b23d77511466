"""Errors of entries against the evaluator's, gradient norms against torch's."""

import numpy as np
import pytest
import torch

from espalike.data.sampler import EpochSampler
from espalike.evaluation.metrics import energy_errors, force_errors
from espalike.model import from_config
from espalike.training.diagnosis import _frames, _picks, entry_errors, heads
from espalike.training.lightning import TrainingModule
from espalike.training.objective import Objective
from tests.batches import collate
from tests.training.common import CONFIG, item


@pytest.fixture(scope="module")
def module():
    torch.manual_seed(0)
    return TrainingModule(from_config(CONFIG).double(), Objective(), torch.optim.Adam, ["a"])


def test_errors_of_entries_are_the_evaluators(module):
    items = [item("CCO", 4, 0, entry=10), item("CCS", 2, 1, entry=11), item("c1ccncc1", 3, 2, entry=12)]
    items[1].energy[:] = np.nan
    items[2].forces[:, 0] = np.nan
    batch = collate(items, dtype=torch.float64)
    _, prediction = module.predict(batch)
    result = entry_errors(batch, prediction).detach().numpy()
    np.testing.assert_array_equal(result[:, :3], [[10, 0, 4], [11, 0, 2], [12, 0, 3]])
    for m, (entry, ours) in enumerate(zip(items, result[:, 3:], strict=True)):
        n, atoms = len(entry.energy), (batch.mol == m).numpy()
        energies = prediction.energy[:n, m].detach().numpy()
        forces = prediction.forces[:n, atoms].detach().numpy()
        e, f = energy_errors(energies, entry.energy), force_errors(forces, entry.forces)
        assert ours[0] == pytest.approx(np.sqrt((e**2).mean()) if len(e) else np.nan, nan_ok=True)
        assert ours[1] == pytest.approx(np.sqrt((f**2).mean()))


def test_frames_are_real_conformers_of_each_molecule():
    items = [item("CCO", 5, 0), item("O", 1, 1)]
    frames = _frames(collate(items, dtype=torch.float64)).numpy()
    np.testing.assert_array_equal(frames[:, :9], items[0].xyz[[0, 2]])
    np.testing.assert_array_equal(frames[:, 9:], items[1].xyz[[0, 0]])


def test_heads_share_out_all_weights():
    learned = {"_target_": "espalike.terms.lennard_jones.LennardJones", "scale14": "learned"}
    model = from_config({**CONFIG, "terms": [*CONFIG["terms"][:4], learned, CONFIG["terms"][5]]})
    parts = heads(model)
    assert set(parts) >= {"encoder", "HarmonicBond", "PeriodicImproper", "Coulomb", "LennardJones_scale14"}
    listed = [id(weight) for weights in parts.values() for weight in weights]
    assert sorted(listed) == sorted(id(weight) for weight in model.parameters())


def test_the_picks_of_a_batch_are_found_again_in_a_resumed_epoch():
    sampler = EpochSampler(np.array([5, 3, 4, 6, 2, 7]), 2, 3, seed=1)
    sampler.set_epoch(4)
    loader = torch.utils.data.DataLoader(range(6), batch_sampler=sampler)
    third = [*sampler][2]
    for start in ((0, 0), (4, 1), (4, 2), (3, 2)):
        sampler.start = start
        picks = _picks(loader, 2)
        np.testing.assert_array_equal(picks.entries, third.entries)
        np.testing.assert_array_equal(picks.conformers, third.conformers)
    assert _picks(torch.utils.data.DataLoader(range(6)), 0) is None
