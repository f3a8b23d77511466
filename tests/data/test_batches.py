"""Whole batches by index arithmetic: the same as item by item, in bounded memory."""

import pickle
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from espalike.batch import featurized
from espalike.data.batches import Batches, loader_of
from espalike.data.columns import Column, ranges
from espalike.data.dataset import StoreDataset
from espalike.data.sampler import Picks, WholeEntries
from tests.batches import Pick, collate, expected, item_of, picks_of
from tests.data.common import assert_same
from tests.data.conftest import DFT


def drawn(varied, seed, size):
    """Parts of some entries, in any order, also several of one."""
    rng = np.random.default_rng(seed)
    picks = []
    for entry in rng.integers(len(varied), size=size).tolist():
        count = int(varied.counts[entry])
        picks.append(Pick(entry, np.sort(rng.permutation(count)[: rng.integers(1, count + 1)])))
    return picks


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 2**30), st.integers(1, 12), st.sampled_from([torch.float32, torch.float64]))
def test_equal_to_item_by_item(varied, seed, size, dtype):
    picks = drawn(varied, seed, size)
    batch = Batches(varied, dtype).__getitems__(picks_of(picks))
    assert_same(batch, expected(varied, picks, dtype))


def test_the_labels_are_all_there(varied):
    batch = Batches(varied, torch.float64).__getitems__(
        picks_of([Pick(i, np.arange(n)) for i, n in enumerate(varied.counts)])
    )
    for name in ("xyz", "energy", "forces", "ref_charge", "ref_lj", "dipole"):
        known = getattr(batch, name).isfinite()
        assert known.any()
        assert known.all() == (name == "xyz")
    assert len(batch.esp.values) > 50
    assert 0 < batch.scan.sum() < len(batch.scan)
    for i in range(len(varied)):
        s, row = varied.refs[i]
        record = varied.stores[s].record(row)
        xyz = batch.xyz[: varied.counts[i], batch.mol == i]
        np.testing.assert_array_equal(xyz, record.conformers.xyz)
        assert varied.name_of(i) == f"{varied.stores[s].name}: {record.id}"


def test_labels_that_no_molecule_has_are_left_out(varied):
    batches = Batches(varied)
    batch = batches.__getitems__(picks_of([Pick(0, np.array([0])), Pick(3, np.array([0]))]))
    assert (batch.dipole, batch.esp) == (None, None)
    assert batch.scan.tolist() == [False, True]
    assert batch.to("cpu", torch.float64).esp is None
    record = varied.record(1)
    (bare, *_) = np.flatnonzero(record.conformers.esp.count == 0)  # a conformer without points
    assert batches.__getitems__(picks_of([Pick(1, np.array([bare]))])).esp is None


def test_labels_move_with_the_batch(varied):
    batch = Batches(varied).__getitems__(picks_of([Pick(i, np.arange(varied.counts[i])) for i in range(6)]))
    moved = batch.to("cpu", torch.float64)
    assert batch.esp.points.dtype == batch.dipole.dtype == torch.float32
    assert moved.esp.points.dtype == moved.esp.values.dtype == moved.dipole.dtype == torch.float64
    assert moved.esp.mol.dtype == moved.entry.dtype == torch.int64
    assert moved.scan.dtype == torch.bool
    torch.testing.assert_close(moved.esp.points.float(), batch.esp.points, rtol=0, atol=0)


def test_whole_entries(varied):
    batches = list(loader_of(Batches(varied), WholeEntries(varied.counts, varied.atoms, 8)))
    assert torch.cat([batch.entry for batch in batches]).tolist() == list(range(len(varied)))
    assert torch.cat([batch.mask.sum(0) for batch in batches]).tolist() == varied.counts.tolist()
    entries = batches[1].entry.tolist()
    assert_same(batches[1], collate([item_of(varied, i) for i in entries]))


def test_no_molecules_are_refused(varied):
    none = np.array([], np.int64)
    with pytest.raises(ValueError, match="at least one molecule"):
        Batches(varied).__getitems__(Picks(none, none, none))


def test_graphs_are_computed_once_a_molecule(varied, monkeypatch):
    calls = []
    monkeypatch.setattr("espalike.data.batches.featurized", lambda m: calls.append(m.smiles) or featurized(m))
    batches = Batches(varied)
    for seed in range(20):
        batches.__getitems__(picks_of(drawn(varied, seed, 8)))
    assert len(calls) == len(set(calls)) == len(varied.distinct()) == len(batches.graphs)


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_graphs_beyond_the_limit_are_not_kept_and_made_again(varied, share):
    whole = Batches(varied)
    whole.__getitems__(picks_of(drawn(varied, 0, 100)))
    limit = int(share * whole.graphs.nbytes)
    bounded = Batches(varied, cache=limit)
    for seed in range(30):
        picks = picks_of(drawn(varied, seed, 3))
        assert_same(bounded.__getitems__(picks), whole.__getitems__(picks))
        assert bounded.graphs.nbytes <= limit
    assert (len(bounded.graphs) > 0) == (share > 0)
    assert len(bounded.graphs) < len(whole.graphs)


def test_memory_of_the_table_is_what_it_says(varied):
    batches = Batches(varied)
    batches.__getitems__(picks_of(drawn(varied, 0, 100)))
    graphs = [featurized(varied.molecule(i)) for i in varied.distinct()]
    arrays = [(g.x, g.numbers, g.edges, g.is14, *g.tuples.values()) for g in graphs]
    known = sum(array.nbytes for parts in arrays for array in parts)
    assert 0.8 < batches.graphs.nbytes / (known + 100 * len(graphs)) < 1.2


def test_a_copy_in_another_process_is_small_and_gives_the_same(varied):
    batches, picks = Batches(varied), picks_of(drawn(varied, 0, 30))
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


def test_a_column_gathers_from_all_files(varied):
    column = Column.of(varied.stores, "forces", varied.refs)
    assert len(column.files) > 4
    assert Column.of(varied.stores[2:], "dipole", np.array([[0, 3]])) is None
    rng = np.random.default_rng(0)
    entries, width = rng.integers(len(varied), size=40), rng.integers(1, 3, size=40)
    index = rng.integers(3, size=(4, width.sum()))
    result = np.split(column.gather(entries, width, index), np.cumsum(width)[:-1], axis=1)
    asked = np.split(index, np.cumsum(width)[:-1], axis=1)
    for entry, values, places, known in zip(entries, result, asked, column.known(entries), strict=True):
        s, row = varied.refs[entry]
        flat = varied.stores[s].flat(row, "forces")
        assert known == (flat is not None)
        np.testing.assert_array_equal(values, np.full(places.shape, np.nan) if flat is None else flat[places])
