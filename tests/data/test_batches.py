"""Whole batches by index arithmetic: the same as item by item, in bounded memory."""

import pickle
import sys
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from espalike.batch import featurized
from espalike.chem.conformers import EspGrid
from espalike.data.batches import Batches, loader_of
from espalike.data.columns import Column, ranges
from espalike.data.dataset import StoreDataset
from espalike.data.sampler import Picks, WholeEntries
from espalike.data.store import Store
from tests.batches import Pick, collate, expected, item_of, picks_of
from tests.data.common import assert_same

DFT, XTB = "B3LYP-D3BJ/DZVP", "GFN2-xTB"
SMILES = ["CC(=O)Nc1ccccc1", "[Cl-]", "C#CCO", "O", "C1CC1[NH3+]", "[H][H]", "CCO", "CO"]


def with_labels(record, rng, *kinds):
    """The record with labels that few records have."""
    conf, n = record.conformers, record.molecule.n_atoms
    k = len(conf.xyz)
    if "esp" in kinds:
        count = rng.integers(0, 5, k)
        g = int(count.sum())
        esp = EspGrid(rng.normal(size=(g, 3)).astype("f4"), rng.normal(size=g).astype("f4"), count)
        conf = replace(conf, esp=esp)
    if "dipole" in kinds:
        conf = replace(conf, dipole=rng.normal(size=(k, 3)))
    if "no forces" in kinds:
        conf = replace(conf, forces=None)
    if "no energy" in kinds:
        conf = replace(conf, energy=np.full(k, np.nan))
    record = replace(record, conformers=conf)
    if "reference" in kinds:
        record = replace(record, ref_charge=rng.normal(size=n), ref_lj=rng.uniform(size=(n, 2)))
    return replace(record, dihedral=np.arange(4)) if "scan" in kinds else record


def drop_columns(store, names):
    """The store as it would be if it were from before these columns."""
    for path in store.path.glob("*.arrow"):
        table = pa.ipc.open_file(path.read_bytes()).read_all().drop_columns(names)
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)
    return Store.open(store.path)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """Stores of several files or record batches; entries of 1 to 9 conformers with all kinds of labels and gaps."""
    from espalike.data.store import write_store
    from tests.data.conftest import MANIFEST, build_record

    rng, folder, stores = np.random.default_rng(0), tmp_path_factory.mktemp("batches"), []
    kinds = [(), ("esp",), ("dipole", "reference"), ("no forces", "scan"), ("no energy",), ("esp", "dipole", "scan")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("espalike.data.shards._CHUNK", 3000)
        for n in range(3):
            source = {"source": "ab"[n % 2], "level": [DFT, XTB][n % 2], "split": "train"}
            records = []
            for i in range(14):
                record = build_record(SMILES[(3 * n + i) % 8], int(rng.integers(1, 10)), seed=100 * n + i, **source)
                records.append(with_labels(record, rng, *(kinds[i % 6] if n < 2 else ())))
            store = write_store(folder / f"{n}", records, manifest=MANIFEST, shard=0.004 if n == 1 else 128)
            stores.append(store if n < 2 else drop_columns(store, ["dipole", "esp_points", "esp_values", "esp_count"]))
    assert len(list((folder / "1").glob("*.arrow"))) > 2
    assert len(stores[0].text("id").chunks) > 2
    return StoreDataset(stores, "train", [DFT, XTB])


def drawn(dataset, seed, size):
    """Parts of some entries, in any order, also several of one."""
    rng = np.random.default_rng(seed)
    picks = []
    for entry in rng.integers(len(dataset), size=size).tolist():
        count = int(dataset.counts[entry])
        picks.append(Pick(entry, np.sort(rng.permutation(count)[: rng.integers(1, count + 1)])))
    return picks


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 2**30), st.integers(1, 12), st.sampled_from([torch.float32, torch.float64]))
def test_equal_to_item_by_item(dataset, seed, size, dtype):
    picks = drawn(dataset, seed, size)
    batch = Batches(dataset, dtype).__getitems__(picks_of(picks))
    assert_same(batch, expected(dataset, picks, dtype))


def test_the_labels_are_all_there(dataset):
    batch = Batches(dataset, torch.float64).__getitems__(
        picks_of([Pick(i, np.arange(n)) for i, n in enumerate(dataset.counts)])
    )
    for name in ("xyz", "energy", "forces", "ref_charge", "ref_lj", "dipole"):
        known = getattr(batch, name).isfinite()
        assert known.any()
        assert known.all() == (name == "xyz")
    assert len(batch.esp.values) > 50
    assert 0 < batch.scan.sum() < len(batch.scan)
    for i in range(len(dataset)):
        s, row = dataset.refs[i]
        record = dataset.stores[s].record(row)
        xyz = batch.xyz[: dataset.counts[i], batch.mol == i]
        np.testing.assert_array_equal(xyz, record.conformers.xyz)
        assert dataset.name_of(i) == f"{dataset.stores[s].name}: {record.id}"


def test_whole_entries(dataset):
    batches = list(loader_of(Batches(dataset), WholeEntries(dataset.counts, dataset.atoms, 8)))
    assert torch.cat([batch.entry for batch in batches]).tolist() == list(range(len(dataset)))
    assert torch.cat([batch.mask.sum(0) for batch in batches]).tolist() == dataset.counts.tolist()
    entries = batches[1].entry.tolist()
    assert_same(batches[1], collate([item_of(dataset, i) for i in entries]))


def test_no_molecules_are_refused(dataset):
    none = np.array([], np.int64)
    with pytest.raises(ValueError, match="at least one molecule"):
        Batches(dataset).__getitems__(Picks(none, none, none))


def test_graphs_are_computed_once_a_molecule(dataset, monkeypatch):
    calls = []
    monkeypatch.setattr("espalike.data.batches.featurized", lambda m: calls.append(m.smiles) or featurized(m))
    batches = Batches(dataset)
    for seed in range(20):
        batches.__getitems__(picks_of(drawn(dataset, seed, 8)))
    assert len(calls) == len(set(calls)) == len(dataset.distinct()) == len(batches.graphs)


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_graphs_beyond_the_limit_are_not_kept_and_made_again(dataset, share):
    whole = Batches(dataset)
    whole.__getitems__(picks_of(drawn(dataset, 0, 100)))
    limit = int(share * whole.graphs.nbytes)
    bounded = Batches(dataset, cache=limit)
    for seed in range(30):
        picks = picks_of(drawn(dataset, seed, 3))
        assert_same(bounded.__getitems__(picks), whole.__getitems__(picks))
        assert bounded.graphs.nbytes <= limit
    assert (len(bounded.graphs) > 0) == (share > 0)
    assert len(bounded.graphs) < len(whole.graphs)


def test_memory_of_the_table_is_what_it_says(dataset):
    batches = Batches(dataset)
    batches.__getitems__(picks_of(drawn(dataset, 0, 100)))
    graphs = [featurized(dataset.molecule(i)) for i in dataset.distinct()]
    arrays = [(g.x, g.numbers, g.edges, g.is14, *g.tuples.values()) for g in graphs]
    known = sum(array.nbytes for own in arrays for array in own)
    assert 0.8 < batches.graphs.nbytes / (known + 100 * len(graphs)) < 1.2


def test_a_copy_in_another_process_is_small_and_gives_the_same(dataset):
    batches, picks = Batches(dataset), picks_of(drawn(dataset, 0, 30))
    batch = batches.__getitems__(picks)
    sent = pickle.dumps(batches)
    assert len(sent) < 10_000
    assert_same(pickle.loads(sent).__getitems__(picks), batch)


def _resident_file_memory():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("RssFile"))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize("bounded", [True, False])
def test_what_was_read_leaves_memory(record_of, store_of, monkeypatch, bounded):
    if bounded:
        monkeypatch.setattr("espalike.data.dataset._MAPPED", 4 * 2**20)
    record = record_of("CCCCCCO", 10)
    many = np.tile(record.conformers.xyz, (5000, 1, 1))  # 25 MB of coordinates, as many of forces
    conformers = replace(record.conformers, xyz=many, energy=np.zeros(len(many)), forces=many)
    batches = Batches(StoreDataset([store_of(replace(record, conformers=conformers))], "train", [DFT]))
    before, peak, total = _resident_file_memory(), 0, 0.0
    for start in range(0, len(many), 500):
        batch = batches.__getitems__(picks_of([Pick(0, np.arange(start, start + 500))]))
        total += float(batch.xyz.double().sum())
        peak = max(peak, _resident_file_memory() - before)
    assert total == pytest.approx(many.astype(np.float32).sum(dtype=np.float64))
    assert (peak < 10 * 2**20) == bounded, peak


def test_ranges():
    assert ranges(np.array([5, 0, 7]), np.array([2, 0, 3])).tolist() == [5, 6, 7, 8, 9]
    assert ranges(np.array([], int), np.array([], int)).tolist() == []


def test_a_column_gathers_from_all_files(dataset):
    column = Column.of(dataset.stores, "forces", dataset.refs)
    assert len(column.files) > 4
    assert Column.of(dataset.stores[2:], "dipole", np.array([[0, 3]])) is None
    rng = np.random.default_rng(0)
    entries, width = rng.integers(len(dataset), size=40), rng.integers(1, 3, size=40)
    index = rng.integers(3, size=(4, width.sum()))
    result = np.split(column.gather(entries, width, index), np.cumsum(width)[:-1], axis=1)
    own = np.split(index, np.cumsum(width)[:-1], axis=1)
    for entry, values, places, known in zip(entries, result, own, column.known(entries), strict=True):
        s, row = dataset.refs[entry]
        flat = dataset.stores[s].flat(row, "forces")
        assert known == (flat is not None)
        np.testing.assert_array_equal(values, np.full(places.shape, np.nan) if flat is None else flat[places])
