"""Dipoles, potentials and scans on their way from a store to a batch."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from espalike.chem.conformers import EspGrid
from espalike.data.batches import Batches
from espalike.data.dataset import StoreDataset
from tests.batches import Pick, picks_of

DFT = "B3LYP-D3BJ/DZVP"
SMILES = ["CCO", "O", "CC", "CO"]
POINTS = {0: [3, 0, 2, 4], 3: [1, 5]}
"""Points of each conformer, by entry."""


def labelled(record, i):
    """The record with what few have: 0 has dipoles and potentials, 2 is a scan, 3 has a dipole that is not known."""
    conf, rng = record.conformers, np.random.default_rng(i)
    k = len(conf.xyz)
    if i in POINTS:
        count, g = np.array(POINTS[i]), sum(POINTS[i])
        esp = EspGrid(rng.normal(size=(g, 3)).astype("f4"), rng.normal(size=g).astype("f4"), count)
        dipole = rng.normal(size=(k, 3))
        dipole[1] = np.nan
        conf = replace(conf, dipole=dipole, esp=esp)
    return replace(record, conformers=conf, dihedral=np.array([0, 1, 2, 3]) if i == 2 else None)


@pytest.fixture
def records(record_of):
    return [labelled(record_of(s, n, id=f"r{i}"), i) for i, (s, n) in enumerate(zip(SMILES, (4, 3, 5, 2), strict=True))]


@pytest.fixture
def dataset(records, store_of):
    return StoreDataset([store_of(*records[:2], name="a"), store_of(*records[2:], name="b")], "train", [DFT])


def entries(dataset, *numbers):
    """The batch of all conformers of some entries."""
    return Batches(dataset).__getitems__(picks_of([Pick(i, np.arange(dataset.counts[i])) for i in numbers]))


PICKS = [Pick(3, np.array([0, 1])), Pick(2, np.array([1, 4])), Pick(0, np.array([0, 1, 3])), Pick(1, np.array([2]))]


def test_labels_of_the_chosen_conformers(dataset, records):
    batch = Batches(dataset, torch.float64).__getitems__(picks_of(PICKS))
    assert batch.entry.tolist() == [3, 2, 0, 1]
    assert batch.scan.tolist() == [False, True, False, False]
    assert batch.dipole.shape == (3, 4, 3)
    points = {}
    for m, pick in enumerate(PICKS):
        conf = records[pick.entry].conformers
        for k, chosen in enumerate(pick.conformers):
            expected = np.full(3, np.nan) if conf.dipole is None else conf.dipole[chosen]
            np.testing.assert_array_equal(batch.dipole[k, m], expected)
            if conf.esp is not None:
                start = conf.esp.count[:chosen].sum()
                here = slice(start, start + conf.esp.count[chosen])
                points[m, k] = conf.esp.points[here], conf.esp.values[here]
        assert torch.isnan(batch.dipole[len(pick.conformers) :, m]).all()
    assert len(batch.esp.points) == 1 + 5 + 3 + 0 + 4
    for (m, k), (xyz, values) in points.items():
        mine = (batch.esp.mol == m) & (batch.esp.conformer == k)
        np.testing.assert_array_equal(batch.esp.points[mine], xyz)
        np.testing.assert_array_equal(batch.esp.values[mine], values)
    assert batch.esp.mol.dtype == batch.esp.conformer.dtype == batch.entry.dtype == torch.int64
    assert (batch.esp.mol.diff() >= 0).all()


def test_what_no_molecule_has_is_left_out(dataset):
    batch = entries(dataset, 1, 2)
    assert batch.dipole is None
    assert batch.esp is None
    assert Batches(dataset).__getitems__(picks_of([Pick(0, np.array([1]))])).esp is None  # has none of this conformer
    assert batch.scan.tolist() == [False, True]


def test_entries_are_named(dataset):
    batch = entries(dataset, 2, 0)
    assert [dataset.name_of(int(entry)) for entry in batch.entry] == ["b: r2", "a: r0"]


def test_labels_move_with_the_batch(dataset):
    batch = entries(dataset, 0, 1, 2, 3)
    moved = batch.to("cpu", torch.float64)
    assert batch.esp.points.dtype == batch.dipole.dtype == torch.float32
    assert moved.esp.points.dtype == moved.esp.values.dtype == moved.dipole.dtype == torch.float64
    assert moved.esp.mol.dtype == torch.int64
    assert moved.scan.dtype == torch.bool
    torch.testing.assert_close(moved.esp.points.float(), batch.esp.points, rtol=0, atol=0)
    assert entries(dataset, 1).to("cpu", torch.float64).esp is None
