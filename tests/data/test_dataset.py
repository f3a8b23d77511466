import pickle

import numpy as np
import pytest
import torch

from espalike.batch import batch_of
from espalike.data.batches import Batches
from espalike.data.dataset import StoreDataset, levels_of
from espalike.data.describe import describe
from espalike.data.schema import RecordError, check
from espalike.data.split import LeakageError, resolve_splits
from espalike.tuples import Kind
from tests.batches import Pick, picks_of
from tests.data.conftest import DFT, XTB


def test_batch_equals_singles(varied):
    molecules = [varied.molecule(i) for i in varied.distinct()]
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


def test_energies_are_centred_in_float64_before_the_cast(record_of, store_of):
    """Near −6e5 kcal/mol float32 resolves 0.06; differences must survive to 1e-5."""
    relative = np.array([0.0, 0.01, 0.02, 7.5])
    store = store_of(record_of("CCO", 4, energy=-612345.678 + relative))
    batch = Batches(StoreDataset([store], "train", [DFT])).__getitems__(picks_of([Pick(0, np.arange(4))]))
    assert batch.energy.dtype == batch.xyz.dtype == batch.x.dtype == torch.float32
    np.testing.assert_allclose(batch.energy[:, 0], relative - relative.mean(), atol=1e-6)


def test_travels_to_a_worker_as_a_path(varied):
    sent = pickle.dumps(varied.stores[0])
    assert len(sent) < 300
    np.testing.assert_array_equal(pickle.loads(sent).array(5, "xyz"), varied.stores[0].array(5, "xyz"))


def test_elements_that_are_rare_at_the_target_level_have_no_shift(record_of, store_of):
    """A shift that only entries of another level determine would leave the target's own geometry arbitrary."""
    chlorides = [record_of("C" * n + "Cl", level=XTB) for n in range(1, 11)]
    others = [record_of("CO", level=XTB), record_of("CBr", level=XTB)]
    target = [record_of("CCO"), record_of("ClCCCl"), record_of("BrC=C")]
    data = StoreDataset([store_of(*target, *chlorides, *others)], "train", [DFT, XTB])
    shifted = dict(zip((data.name_of(i).split(": ")[1] for i in range(len(data))), data.level.tolist(), strict=True))
    assert shifted == dict.fromkeys((r.id for r in (*target, *chlorides)), 0) | dict.fromkeys((r.id for r in others), 1)
    assert data.alone.sum() == len(chlorides)
    more = [record_of(smiles) for smiles in ("ClC=C", "ClCC=C", "ClC#C", "OCCl")]  # five molecules at the target level
    data = StoreDataset([store_of(*target, *more, *chlorides, *others, name="more")], "train", [DFT, XTB])
    assert not data.alone.any()


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


def test_keys_and_distinct_molecules_of_items(varied):
    records = [varied.record(i) for i in range(len(varied))]
    assert varied.keys() == [record.key for record in records]
    assert varied.counts.tolist() == [len(record.conformers.xyz) for record in records]
    assert varied.atoms.tolist() == [record.molecule.n_atoms for record in records]
    assert [records[i].molecule.smiles for i in varied.distinct()] == list(
        dict.fromkeys(record.molecule.smiles for record in records)
    )
    assert len(varied.distinct()) == 8 < len(records)


def test_a_store_replaced_while_in_use_is_noticed(record_of, store_of):
    sent = pickle.dumps(StoreDataset([store_of(record_of("CO", 3))], "train", [DFT]))
    store_of(record_of("CCO", 3))
    with pytest.raises(ValueError, match="replaced"):
        pickle.loads(sent)


def test_kinds_of_geometries_are_stored_and_in_the_batch(record_of, store_of):
    dihedral = np.array([2, 0, 1, 3])
    records = [
        record_of("CO", kind="thermal", id="a"),
        record_of("CCO", kind="relaxed", id="b"),
        record_of("CCN", id="c"),
        record_of("CCS", id="d", dihedral=dihedral),
    ]
    kinds, old = store_of(*records, name="new"), store_of(record_of("CC", id="e"), name="old")
    assert {record.id: record.kind for record in kinds.records()} == {"a": "thermal", "b": "relaxed", "c": "", "d": ""}
    data = StoreDataset([kinds, old], "train", [DFT])
    names = [data.record(i).id for i in range(len(data))]
    of_entry = dict(zip(names, data.kind.tolist(), strict=True))
    assert of_entry == {"a": 2, "b": 0, "c": -1, "d": 1, "e": -1}
    batch = Batches(data).__getitems__(picks_of([Pick(i, np.arange(4)) for i in range(len(data))]))
    assert batch.kind.tolist() == data.kind.tolist()
    assert describe(kinds)["kinds"] == {
        "not stated": {"entries": 2, "conformers": 8},
        "relaxed": {"entries": 1, "conformers": 4},
        "thermal": {"entries": 1, "conformers": 4},
    }
    with pytest.raises(RecordError, match="kind of geometries 'hot'"):
        check(record_of("CO", kind="hot"))
    plain, same = store_of(records[2], name="plain"), store_of(record_of("CCN", id="c"), name="same")
    assert plain.hash == same.hash
