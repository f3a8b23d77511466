"""Validation of entries with very many conformers: in bounded pieces, and the same figures."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from espalike.batch import batch_of
from espalike.chem import from_smiles
from espalike.data.batches import Batches, loader_of
from espalike.data.dataset import StoreDataset
from espalike.data.sampler import WholeEntries
from espalike.data.store import write_store
from espalike.energy import energy
from espalike.model import from_config
from espalike.training import lightning
from espalike.training.lightning import TrainingModule, sliced_energy
from espalike.training.objective import Objective
from tests.data.conftest import MANIFEST, build_record
from tests.training.common import CONFIG


def entry(smiles, n, seed):
    """An entry whose energies drift, as along a scan."""
    energy = -1e5 + np.linspace(0, 20, n) + np.random.default_rng(seed).standard_normal(n)
    return build_record(smiles, n, split="val", seed=seed, energy=energy, level="HF")


@pytest.fixture(scope="module")
def module():
    torch.manual_seed(0)
    return TrainingModule(from_config(CONFIG), Objective(), torch.optim.Adam, ["made-up"])


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    records = [entry("CCO", 300, 1), entry("CO", 3, 2), entry("CC#N", 7, 3), entry("O", 40, 4)]
    return StoreDataset([write_store(tmp_path_factory.mktemp("val"), records, manifest=MANIFEST)], "val", ["HF"])


def figures(module, loader, monkeypatch):
    """Root mean square errors as validation logs them, and the loss of each batch with its number of conformers."""
    logged, losses = {}, []
    monkeypatch.setattr(module, "log", lambda name, value, **_: logged.__setitem__(name, float(value)))
    for i, batch in enumerate(loader):
        with torch.no_grad():  # as Lightning does
            module.validation_step(batch, i)
        losses.append((module.means["val"].pop()["energy_loss"], int(batch.mask.sum())))
    module.on_validation_epoch_end()
    return {name: value for name, value in logged.items() if name.endswith("rmse")}, losses


def test_slices_equal_the_whole(module, monkeypatch):
    batch = batch_of([from_smiles("CCO"), from_smiles("O")], torch.float64)
    xyz = torch.randn(23, 12, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 3
    with torch.no_grad():
        system = replace(module.model.double()(batch))
    module.model.float()
    whole = energy(system, xyz)
    monkeypatch.setattr(lightning, "_MOST_ROWS", 60)
    seen = []
    monkeypatch.setattr(lightning, "energy", lambda s, x: seen.append(len(x)) or energy(s, x))
    parts = sliced_energy(system, xyz)
    assert seen == [5, 5, 5, 5, 3]
    torch.testing.assert_close(parts.energy, whole.energy)
    torch.testing.assert_close(parts.forces, whole.forces)
    assert len(parts.by_term) == len(whole.by_term)
    for ours, other in zip(parts.by_term, whole.by_term, strict=True):
        torch.testing.assert_close(ours, other)


def test_figures_do_not_depend_on_how_entries_are_batched_and_sliced(module, dataset, monkeypatch):
    """Energies are centred per entry however long it is: pieces centred alone would hide the drift between them."""
    whole, losses = figures(
        module, loader_of(Batches(dataset), WholeEntries(dataset.counts, dataset.atoms, 4)), monkeypatch
    )
    assert len(losses) == 1
    bounded = WholeEntries(dataset.counts, dataset.atoms, 4, most=500)
    assert [picks.entries.tolist() for picks in bounded] == [[0], [1, 2], [3]]
    monkeypatch.setattr(lightning, "_MOST_ROWS", 450)
    loader = loader_of(Batches(dataset), bounded)
    pieces, parts = figures(module, loader, monkeypatch)
    assert pieces == pytest.approx(whole, rel=1e-5)
    assert set(whole) == {"val/made-up/energy_rmse", "val/made-up/forces_rmse"}
    (loss, n), total = losses[0], sum(count for _, count in parts)
    assert n == total == 350
    assert sum(value * count for value, count in parts) / total == pytest.approx(loss, rel=1e-5)


def test_an_entry_of_one_geometry_is_not_among_the_energy_errors(module, dataset, tmp_path, monkeypatch):
    records = [dataset.record(i) for i in range(len(dataset))]
    store = write_store(tmp_path / "more", [*records, entry("CCF", 1, 5)], manifest=MANIFEST)
    more = StoreDataset([store], "val", ["HF"])
    with_it, without = (
        figures(module, loader_of(Batches(data), WholeEntries(data.counts, data.atoms, 8)), monkeypatch)[0]
        for data in (more, dataset)
    )
    assert with_it["val/made-up/energy_rmse"] == pytest.approx(without["val/made-up/energy_rmse"], rel=1e-6)
    assert with_it["val/made-up/forces_rmse"] != pytest.approx(without["val/made-up/forces_rmse"], rel=1e-5)
