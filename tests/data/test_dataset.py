import pickle

import numpy as np
import pytest
import torch

from espalike.batch import batch_of
from espalike.data.batches import Batches
from espalike.data.dataset import StoreDataset, levels_of
from espalike.data.split import LeakageError, resolve_splits
from espalike.tuples import Kind
from tests.batches import Pick, picks_of
from tests.data.common import assert_same

DFT, XTB = "B3LYP-D3BJ/DZVP", "GFN2-xTB"
SMILES = ["CC(=O)Nc1ccccc1", "[Cl-]", "C#CCO", "O", "C1CC1[NH3+]", "[H][H]"]


@pytest.fixture
def dataset(record_of, store_of):
    """Two sources, one molecule in both, 1 to 6 conformers, with and without energies, forces and references."""
    rng = np.random.default_rng(3)
    first = [record_of(s, n, source="a") for n, s in enumerate(SMILES, start=1)]
    n = first[0].molecule.n_atoms
    second = [
        record_of(SMILES[0], 5, source="b", level=XTB, forces=None, ref_charge=rng.normal(size=n), id="x"),
        record_of("CCO", 3, source="b", level=XTB, energy=np.full(3, np.nan), forces=np.zeros((3, 9, 3)), seed=4),
    ]
    stores = [store_of(*first, name="a"), store_of(*second, name="b")]
    return StoreDataset(stores, "train", [DFT, XTB])


def every(dataset, dtype=torch.float64):
    """All conformers of all entries in one batch."""
    picks = [Pick(i, np.arange(count)) for i, count in enumerate(dataset.counts)]
    return Batches(dataset, dtype).__getitems__(picks_of(picks))


def test_batch_equals_singles(dataset):
    molecules = [dataset.molecule(i) for i in range(len(dataset))]
    batch = batch_of(molecules, dtype=torch.float64)
    offset, seen = 0, dict.fromkeys(Kind, 0)
    for m, molecule in enumerate(molecules):
        single, atoms = batch_of([molecule], dtype=torch.float64), slice(offset, offset + molecule.n_atoms)
        torch.testing.assert_close(batch.x[atoms], single.x, rtol=0, atol=0)
        assert (batch.numbers[atoms] == single.numbers).all()
        assert (batch.mol[atoms] == m).all()
        assert batch.net_charge[m] == single.net_charge[0] == molecule.net_charge
        assert set(batch.tuples) == set(Kind)
        for kind, tuples in batch.tuples.items():
            mine, alone = tuples.mol == m, single.tuples[kind]
            torch.testing.assert_close(tuples.idx[mine] - offset, alone.idx, rtol=0, atol=0)
            if kind is Kind.PAIR:
                assert (tuples.is14[mine] == alone.is14).all()
            else:
                assert tuples.is14 is None
            seen[kind] += int(mine.sum())
        mine = batch.mol[batch.edges[0]] == m
        torch.testing.assert_close(batch.edges[:, mine] - offset, single.edges, rtol=0, atol=0)
        offset += molecule.n_atoms
    assert seen == {kind: len(tuples.idx) for kind, tuples in batch.tuples.items()}
    assert offset == len(batch.x)
    assert batch.n_mols == len(molecules)
    assert batch.level.tolist() == [0] * len(molecules)


def test_edges_go_both_ways_and_give_degrees(molecule_of):
    molecule, _ = molecule_of("CC(C)(C)O")
    batch = batch_of([molecule])
    pairs = {tuple(e) for e in batch.edges.T.tolist()}
    assert pairs == {(j, i) for i, j in pairs}
    assert len(pairs) == 2 * len(molecule.bonds) == batch.edges.shape[1]
    assert torch.bincount(batch.edges[1]).tolist() == np.bincount(molecule.bonds.ravel()).tolist()


def test_empty_batch_is_refused():
    with pytest.raises(ValueError, match="at least one molecule"):
        batch_of([])


def test_all_conformers_with_masks(dataset):
    batch = every(dataset)
    k, m = 6, 8
    assert batch.mask.shape == batch.energy.shape == (k, m)
    assert batch.mask.sum(0).tolist() == [1, 2, 3, 4, 5, 6, 5, 3]
    assert batch.level.tolist() == [0, 0, 0, 0, 0, 0, 1, 1]
    assert batch.source.tolist() == [0, 0, 0, 0, 0, 0, 1, 1]
    assert torch.isfinite(batch.xyz).all()
    assert (torch.isfinite(batch.energy) == (batch.mask & (torch.arange(m) != 7))).all()
    real = batch.mask[:, batch.mol]
    has_forces = batch.mol != 6
    assert (torch.isfinite(batch.forces).all(-1) == (real & has_forces)).all()
    for j in range(m):
        s, i = dataset.refs[j]
        record = dataset.stores[s].record(i)
        n, atoms = len(record.conformers.xyz), batch.mol == j
        np.testing.assert_array_equal(batch.xyz[:n, atoms], record.conformers.xyz)
        np.testing.assert_array_equal(
            batch.xyz[n:, atoms], np.broadcast_to(record.conformers.xyz[0], (k - n, *record.conformers.xyz.shape[1:]))
        )
        if record.conformers.forces is not None:
            np.testing.assert_array_equal(batch.forces[:n, atoms], record.conformers.forces)


def test_references_or_nan(dataset):
    batch = every(dataset)
    assert (torch.isfinite(batch.ref_charge) == (batch.mol == 6)).all()
    np.testing.assert_array_equal(batch.ref_charge[batch.mol == 6], dataset.stores[1].record(0).ref_charge)
    assert batch.ref_lj.shape == (len(batch.x), 2)
    assert torch.isnan(batch.ref_lj).all()


def test_energies_are_centred_in_float64_before_the_cast(record_of, store_of):
    """Near −6e5 kcal/mol float32 resolves 0.06; differences must survive to 1e-5."""
    relative = np.array([0.0, 0.01, 0.02, 7.5])
    store = store_of(record_of("CCO", 4, energy=-612345.678 + relative))
    batch = every(StoreDataset([store], "train", [DFT]), torch.float32)
    assert batch.energy.dtype == batch.xyz.dtype == batch.x.dtype == torch.float32
    np.testing.assert_allclose(batch.energy[:, 0], relative - relative.mean(), atol=1e-6)


def test_energies_forces_and_geometries_stay_together(record_of, store_of):
    record = record_of("CO", 9)
    dataset = StoreDataset([store_of(record)], "train", [DFT])
    batch = Batches(dataset, torch.float64).__getitems__(picks_of([Pick(0, np.array([1, 2, 4, 7, 8]))]))
    conf = record.conformers
    pick = [int(np.flatnonzero((conf.xyz == frame).all((1, 2)))[0]) for frame in batch.xyz.numpy()]
    assert pick == [1, 2, 4, 7, 8]
    np.testing.assert_array_equal(batch.forces, conf.forces[pick])
    np.testing.assert_allclose(batch.energy[:, 0], conf.energy[pick] - conf.energy[pick].mean(), atol=1e-9)


def test_travels_to_a_worker_as_a_path(dataset):
    sent = pickle.dumps(dataset.stores[0])
    assert len(sent) < 300
    np.testing.assert_array_equal(pickle.loads(sent).array(5, "xyz"), dataset.stores[0].array(5, "xyz"))


def test_levels(record_of, store_of):
    stores = [store_of(record_of("CO", level=XTB), name="a"), store_of(record_of("CC", level="HF"), name="b")]
    assert levels_of(stores, "HF") == ["HF", XTB]
    with pytest.raises(ValueError, match=r"'MP2'; found: GFN2-xTB, HF"):
        levels_of(stores, "MP2")
    with pytest.raises(ValueError, match=r"level 'HF' is not listed"):
        StoreDataset(stores, "train", [XTB])
    with pytest.raises(ValueError, match="no entries in split 'val'"):
        StoreDataset(stores, "val", ["HF", XTB])


def test_leaking_stores_are_refused_or_resolved(record_of, store_of):
    stores = [
        store_of(record_of("CO"), record_of("CC"), name="a"),
        store_of(record_of("CO", split="test"), name="b"),
    ]
    with pytest.raises(LeakageError, match="KEY-CO"):
        StoreDataset(stores, "train", [DFT])
    splits = resolve_splits(stores).splits
    assert len(StoreDataset(stores, "train", [DFT], splits=splits)) == 1
    assert len(StoreDataset(stores, "test", [DFT], splits=splits)) == 2
    assert len(StoreDataset(stores, None, [DFT], splits=splits)) == 3


def test_a_copy_in_another_process_is_small_and_gives_the_same(dataset):
    batch = every(dataset)
    sent = pickle.dumps(dataset)
    assert len(sent) < 5000
    copy = pickle.loads(sent)
    assert_same(every(copy), batch)


def test_keys_and_distinct_molecules_of_items(dataset):
    records = [dataset.stores[s].record(i) for s, i in dataset.refs.tolist()]
    assert dataset.keys() == [record.key for record in records]
    assert dataset.counts.tolist() == [len(record.conformers.xyz) for record in records]
    assert dataset.atoms.tolist() == [record.molecule.n_atoms for record in records]
    assert [records[i].molecule.smiles for i in dataset.distinct()] == list(
        dict.fromkeys(record.molecule.smiles for record in records)
    )
    assert len(dataset.distinct()) == len(records) - 1


def test_a_store_replaced_while_in_use_is_noticed(record_of, store_of):
    dataset = StoreDataset([store_of(record_of("CO", 3))], "train", [DFT])
    sent = pickle.dumps(dataset)
    store_of(record_of("CCO", 3))
    with pytest.raises(ValueError, match="replaced"):
        pickle.loads(sent)
