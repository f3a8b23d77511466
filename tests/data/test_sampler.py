"""What an epoch holds, by count: in one process and dealt to several, with and without worker processes."""

import math
from collections import Counter

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from espalike.data.batches import Batches, loader_of
from espalike.data.dataset import StoreDataset
from espalike.data.sampler import EpochSampler, WholeEntries, mixed, shuffled
from espalike.data.store import Store
from tests.batches import Pick, each, picks_of
from tests.batches import expected as plain_batch
from tests.data.common import assert_same
from tests.data.conftest import DFT, XTB

plans = st.fixed_dictionaries(
    {
        "counts": st.lists(st.integers(1, 40), min_size=4, max_size=30).map(np.array),
        "batch_size": st.integers(1, 9),
        "conformers": st.none() | st.integers(1, 12),
        "seed": st.integers(0, 2**40),
        "bucketed": st.booleans(),
    }
)


def of_ranks(plan, world, epoch=0, **kwargs):
    """Batches of each rank."""
    samplers = [EpochSampler(**plan, rank=rank, world=world, **kwargs) for rank in range(world)]
    for sampler in samplers:
        sampler.set_epoch(epoch)
    batches = [list(sampler) for sampler in samplers]
    assert {len(sampler) for sampler in samplers} == {len(of_rank) for of_rank in batches}
    return batches


def plain(batches):
    return [[(pick.entry, *pick.conformers.tolist()) for pick in each(batch)] for batch in batches]


def held(ranks):
    """How often an epoch holds each (entry, conformer)."""
    return Counter(
        (p.entry, c) for of_rank in ranks for batch in of_rank for p in each(batch) for c in p.conformers.tolist()
    )


@settings(max_examples=50, deadline=None)
@given(plans, st.integers(1, 4), st.integers(0, 5))
def test_each_conformer_exactly_once_over_all_processes(plan, world, epoch):
    ranks = of_ranks(plan, world, epoch, epoch_of="conformers")
    assert held(ranks) == {(e, c): 1 for e, count in enumerate(plan["counts"]) for c in range(count)}
    assert all(
        len(p.conformers) <= (plan["conformers"] or 40) for of_rank in ranks for batch in of_rank for p in each(batch)
    )


@settings(max_examples=50, deadline=None)
@given(plans, st.integers(1, 4), st.integers(0, 5))
def test_each_entry_exactly_once_over_all_processes(plan, world, epoch):
    ranks = of_ranks(plan, world, epoch, epoch_of="entries")
    picks = [pick for of_rank in ranks for batch in of_rank for pick in each(batch)]
    assert sorted(p.entry for p in picks) == list(range(len(plan["counts"])))
    for pick in picks:
        count = plan["counts"][pick.entry]
        assert len(pick.conformers) == min(count, plan["conformers"] or count)
        assert (np.diff(pick.conformers) > 0).all()
        assert pick.conformers[-1] < count


@settings(max_examples=50, deadline=None)
@given(plans, st.integers(1, 4), st.sampled_from(["entries", "conformers"]))
def test_processes_have_equally_many_batches_of_equal_size(plan, world, epoch_of):
    ranks = of_ranks(plan, world, epoch_of=epoch_of)
    assert len({len(of_rank) for of_rank in ranks}) == 1
    sizes = [len(batch) for of_rank in ranks for batch in of_rank]
    assert max(sizes) - min(sizes) <= 1
    assert 1 <= max(sizes) <= max(plan["batch_size"], 2)
    assert len(ranks[0]) <= -(-sum(sizes) // (world * plan["batch_size"]))  # no more than a full batch each time takes


@settings(max_examples=50, deadline=None)
@given(plans, st.integers(1, 4), st.sampled_from(["entries", "conformers"]))
def test_the_cut_does_not_depend_on_the_number_of_processes(plan, world, epoch_of):
    one, several = (
        sorted(p for of_rank in of_ranks(plan, n, 2, epoch_of=epoch_of) for batch in plain(of_rank) for p in batch)
        for n in (1, world)
    )
    assert one == several


@settings(max_examples=30, deadline=None)
@given(plans, st.sampled_from(["entries", "conformers"]))
def test_seed_and_epoch_alone_make_the_plan(plan, epoch_of):
    first, resumed = (EpochSampler(**plan, epoch_of=epoch_of) for _ in range(2))
    for epoch in range(3):
        first.set_epoch(epoch)
        before = plain(first)
        torch.manual_seed(epoch)
        np.random.default_rng().random()
        assert plain(first) == before
    resumed.set_epoch(2)
    assert plain(resumed) == before


@pytest.mark.parametrize("epoch_of", ["entries", "conformers"])
def test_epochs_and_seeds_differ_in_order_and_in_cut(epoch_of):
    def plan(seed, epoch):
        (batches,) = of_ranks({"counts": np.full(20, 30), "batch_size": 4, "conformers": 8, "seed": seed}, 1, epoch,
                              epoch_of=epoch_of)  # fmt: skip
        picks = [pick for batch in plain(batches) for pick in batch]
        return [pick[0] for pick in picks], set(picks)

    (order, cut), (later_order, later_cut), (other_order, other_cut) = plan(0, 0), plan(0, 1), plan(1, 0)
    assert order != later_order != other_order
    assert len(cut & later_cut) + len(cut & other_cut) < 0.05 * len(cut)


@pytest.mark.parametrize("size", [2, 3, 4, 5])
def test_every_order_is_as_likely_as_any_other(size):
    keys = mixed(np.arange(20_000, dtype=np.uint64))
    sizes = np.full(len(keys), size)
    orders = shuffled(np.tile(np.arange(size), len(keys)), sizes, sizes, keys).reshape(-1, size)
    assert (np.sort(orders, axis=1) == np.arange(size)).all()
    result = list(Counter(map(tuple, orders.tolist())).values())
    assert len(result) == math.factorial(size)
    assert scipy.stats.chisquare(result).pvalue > 1e-4


def test_some_places_of_long_orders_are_those_of_the_whole():
    keys, size = mixed(np.arange(3, dtype=np.uint64)), np.array([1000, 1, 37])
    whole = np.split(shuffled(np.concatenate([np.arange(n) for n in size]), size, size, keys), np.cumsum(size)[:-1])
    assert [sorted(order.tolist()) for order in whole] == [list(range(n)) for n in size]
    part = shuffled(np.array([5, 999, 0, 36]), np.array([2, 1, 1]), size, keys)
    assert part.tolist() == [whole[0][5], whole[0][999], whole[1][0], whole[2][36]]
    neighbours = np.abs(np.diff(whole[0])) < 10
    assert 5 < neighbours.sum() < 40  # 20 are expected


def test_an_epoch_goes_on_where_it_was_left():
    sampler = EpochSampler(np.full(100, 30), 4, 8, "conformers")
    everything = plain(sampler)
    for start in (1, 15, 16, 17, 50, len(sampler)):
        sampler.start = (0, start)
        assert plain(sampler) == everything[start:]


@settings(max_examples=50, deadline=None)
@given(plans, st.data(), st.integers(1, 3), st.sampled_from(["entries", "conformers"]))
def test_each_batch_has_all_sources_in_proportion(plan, data, world, epoch_of):
    n = len(plan["counts"])
    sources = np.array(data.draw(st.lists(st.integers(0, 2), min_size=n, max_size=n)))
    ranks = of_ranks(plan, world, epoch_of=epoch_of, sources=sources)
    batches = [np.bincount(sources[batch.entries], minlength=3) for of_rank in ranks for batch in of_rank]
    for total, of_each in zip(np.sum(batches, axis=0), np.transpose(batches), strict=True):
        share = total / len(batches)
        assert (np.abs(of_each - share) < 1).all()


@settings(max_examples=50, deadline=None)
@given(plans, st.data(), st.integers(1, 3), st.sampled_from(["entries", "conformers"]))
def test_each_batch_has_each_source_where_every_source_is_set(plan, data, world, epoch_of):
    plan = {**plan, "batch_size": max(plan["batch_size"], 3)}
    n = len(plan["counts"])
    sources = np.array([0, 1, 2, *data.draw(st.lists(st.integers(0, 1), min_size=n - 3, max_size=n - 3))])
    ranks = of_ranks(plan, world, epoch_of=epoch_of, sources=sources, every_source=True)
    batches = [batch for of_rank in ranks for batch in of_rank]
    assert all(len(batch) <= plan["batch_size"] for batch in batches)
    assert max(map(len, batches)) - min(map(len, batches)) <= 1
    assert all(set(sources[batch.entries]) == {0, 1, 2} for batch in batches)
    once = of_ranks(plan, world, epoch_of=epoch_of, sources=sources)
    for source in range(3):
        alone, often = (
            [pick for of_rank in of for batch in of_rank for pick in each(batch) if sources[pick.entry] == source]
            for of in (once, ranks)
        )
        assert len(often) == max(len(alone), len(batches))
        if len(alone) >= len(batches):
            assert held([[picks_of(often)]]) == held([[picks_of(alone)]])
        else:
            assert {pick.entry for pick in often} == {pick.entry for pick in alone}


def test_a_small_source_comes_again_with_other_conformers():
    counts, sources = np.array([*[30] * 100, 30]), np.array([*[0] * 100, 1])
    batches = list(EpochSampler(counts, 5, 6, "entries", sources=sources, every_source=True))
    again = [tuple(p.conformers.tolist()) for batch in batches for p in each(batch) if p.entry == 100]
    assert len(batches) == len(again) == 25
    assert len(set(again)) > 20
    assert {c for chosen in again for c in chosen} == set(range(30))
    with pytest.raises(ValueError, match="batches of 1 entries cannot have each of 2 sources"):
        EpochSampler(counts, 1, 6, sources=sources, every_source=True)


@pytest.mark.parametrize("epoch_of", ["entries", "conformers"])
def test_bucketed_batches_mask_little_and_still_mix_sources(epoch_of):
    rng = np.random.default_rng(0)
    counts, sources = rng.integers(2, 40, 600), rng.integers(0, 3, 600)

    def masked(bucketed):
        options = {"sources": sources, "bucketed": bucketed}
        ranks = of_ranks({"counts": counts, "batch_size": 12, "conformers": 16}, 2, epoch_of=epoch_of, **options)
        slots = sum(batch.counts.max() * len(batch) for of_rank in ranks for batch in of_rank)
        pairs = [abs(int(a.counts.max() - b.counts.max())) for a, b in zip(*ranks, strict=True)]
        return slots / sum(batch.counts.sum() for of_rank in ranks for batch in of_rank) - 1, np.mean(pairs)

    (plain_share, _), (share, between) = masked(False), masked(True)
    assert share < 0.25 * plain_share
    assert between < 0.5  # the processes of a step do as much as each other


def test_picks_of_several_and_apart_again():
    picks = [Pick(3, np.array([0, 4])), Pick(1, np.array([2])), Pick(3, np.array([1]))]
    together = picks_of(picks)
    assert [*each(together)][2].conformers.tolist() == [1]
    parts = list(together.split(np.array([1, 2])))
    assert plain(parts) == [[(3, 0, 4)], [(1, 2), (3, 1)]]


def test_all_conformers_of_an_entry_come_in_turn():
    sampler = EpochSampler(np.array([9, 2]), 2, 4, "entries")
    seen = set()
    for epoch in range(30):
        sampler.set_epoch(epoch)
        seen |= {c for batch in sampler for pick in each(batch) if pick.entry == 0 for c in pick.conformers.tolist()}
    assert seen == set(range(9))


def test_an_entry_of_very_many_conformers_is_spread_over_the_epoch():
    counts = np.array([4000, *[4] * 250])
    batches = list(EpochSampler(counts, 10, 16, "conformers"))
    with_it = [any(pick.entry == 0 for pick in each(batch)) for batch in batches]
    assert sum(with_it) > 0.9 * len(batches)
    assert sum(len(batch) for batch in EpochSampler(counts, 10, 16, "entries")) == 251


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"epoch_of": "frames"}, "expected entries or conformers"),
        ({"batch_size": 0}, "data.batch_size=0: expected a number, 1 or more"),
        ({"conformers": 0}, "data.conformers=0: expected a number, 1 or more"),
        ({"counts": np.array([], int)}, "needs entries"),
        ({"counts": np.array([3, 0])}, "at least one conformer"),
        ({"rank": 2, "world": 2}, "process 2 of 2"),
        ({"rank": 0, "world": 3}, "2 chunks for 3 processes"),
    ],
)
def test_what_makes_no_epoch_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        len(EpochSampler(**{"counts": np.array([3, 4]), "batch_size": 2, "conformers": 4, **arguments}))


@given(
    st.lists(st.tuples(st.integers(1, 300), st.integers(1, 30)), min_size=1, max_size=40),
    st.integers(1, 8),
    st.integers(50, 5000),
)
def test_validation_batches_hold_every_entry_once_and_are_bounded(entries, batch_size, most):
    counts, atoms = np.array(entries).T
    sampler = WholeEntries(counts, atoms, batch_size, most)
    batches = list(sampler)
    assert len(sampler) == len(batches)
    assert [(p.entry, p.conformers.tolist()) for batch in batches for p in each(batch)] == [
        (i, list(range(count))) for i, count in enumerate(counts)
    ]
    for batch in batches:
        assert 1 <= len(batch) <= batch_size
        assert len(batch) == 1 or counts[batch.entries].max() * atoms[batch.entries].sum() <= most


def test_validation_batches_of_small_entries_are_those_of_a_plain_loader():
    counts, atoms = np.full(70, 24), np.full(70, 30)
    assert [len(batch) for batch in WholeEntries(counts, atoms, 32)] == [32, 32, 6]


def frames(batches):
    """How often batches hold each geometry, known by its first coordinates."""
    result = Counter()
    for batch in batches:
        starts = torch.searchsorted(batch.mol, torch.arange(batch.n_mols))
        for k, m in batch.mask.nonzero().tolist():
            result[tuple(batch.xyz[k, starts[m]].tolist())] += 1
    return result


def stored(stores):
    return Counter(
        tuple(np.asarray(frame[0], np.float32).tolist())
        for store in stores
        for i in range(len(store))
        for frame in store.array(i, "xyz")
    )


@pytest.mark.parametrize(
    ("workers", "start"), [(0, None), (2, "fork"), pytest.param(1, "spawn", marks=pytest.mark.slow)]
)
def test_loading_gives_each_conformer_once_whoever_loads(varied, workers, start):
    expected = stored(varied.stores)
    assert set(expected.values()) == {1}
    assert sum(expected.values()) == varied.counts.sum()
    result = Counter()
    for rank in range(2):
        sampler = EpochSampler(varied.counts, 5, 4, "conformers", rank=rank, world=2)
        loader = loader_of(Batches(varied, cache=3000), sampler, workers, start)
        for epoch in range(2 if rank == 0 else 1):
            sampler.set_epoch(epoch)
            batches = list(loader)
            for batch, picks in zip(batches, sampler, strict=True):
                assert_same(batch, plain_batch(varied, list(each(picks))))
            if epoch == 0:
                result += frames(batches)
    assert result == expected


def test_batches_mix_sources(varied):
    sampler = EpochSampler(varied.counts, 10, 3, "conformers", sources=varied.source)
    batches = list(loader_of(Batches(varied), sampler))
    assert len(batches) > 4
    assert all(set(batch.source.tolist()) == {0, 1} for batch in batches)


def test_random_access_to_parts_of_entries(varied):
    """In any order, repeatedly, alone or together: the same numbers as the record's."""
    batches = Batches(varied, torch.float64)
    rng = np.random.default_rng(1)
    for index in rng.integers(len(varied), size=200).tolist():
        record = varied.record(index).conformers
        chosen = np.sort(rng.permutation(len(record.xyz))[: rng.integers(1, 5)])
        batch = batches.__getitems__(picks_of([Pick(index, chosen)]))
        np.testing.assert_array_equal(batch.xyz, record.xyz[chosen])
        relative = record.energy[chosen] - record.energy[chosen].mean()
        np.testing.assert_allclose(batch.energy[:, 0], relative, rtol=0, atol=1e-9)
        forces = np.full_like(record.xyz, np.nan) if record.forces is None else record.forces
        np.testing.assert_array_equal(batch.forces, forces[chosen])
        assert varied.sources[batch.source[0]] == record.source
        assert varied.levels[batch.level[0]] == record.level


def _train_rank(rank, folder, paths, queue):
    """What one process of a distributed run loads."""
    import torch.distributed as dist

    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    dataset = StoreDataset([Store.open(path) for path in paths], "train", [DFT, XTB])
    sampler = EpochSampler(dataset.counts, 5, 4, "conformers")
    loader = loader_of(Batches(dataset), sampler)
    batches = list(loader)
    steps = [torch.zeros(1, dtype=torch.int64) for _ in range(2)]
    dist.all_gather(steps, torch.tensor([len(batches)]))
    queue.put((frames(batches), [int(n) for n in steps], len(loader)))
    dist.destroy_process_group()


def test_two_real_processes_share_an_epoch(varied, tmp_path):
    context = torch.multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    paths = [store.path for store in varied.stores]
    processes = [context.Process(target=_train_rank, args=(rank, tmp_path, paths, queue)) for rank in range(2)]
    for process in processes:
        process.start()
    loaded = [queue.get() for _ in processes]
    for process in processes:
        process.join()
        assert process.exitcode == 0
    assert loaded[0][0] + loaded[1][0] == stored(varied.stores)
    assert all(steps == [length, length] for _, steps, length in loaded)


@pytest.mark.parametrize("world", [1, 2])
def test_an_epoch_may_begin_in_its_middle(world):
    for rank in range(world):
        sampler = EpochSampler(np.full(20, 5), 3, 2, "conformers", rank=rank, world=world)
        whole = plain(sampler)
        sampler.start = (0, 4)
        assert plain(sampler) == plain(sampler) == whole[4:]  # a loader may begin twice
        assert len(sampler) == len(whole)
        sampler.set_epoch(1)
        assert len(plain(sampler)) == len(whole)
