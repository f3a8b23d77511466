"""The greedy cover against all subsets of small pools, and against the same rule without its short cuts."""

from itertools import combinations
from math import log

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from espalike.chem.cover import cover

pools = st.lists(st.sets(st.integers(0, 6), max_size=5), min_size=1, max_size=8)
needs = st.integers(1, 3)


def arrays(pool):
    return [np.array(sorted(patterns), dtype=np.int64) for patterns in pool]


def covers(pool, chosen, needed):
    """Whether each pattern occurs `needed` times in the chosen ones, or as often as in the pool."""

    def often(pattern, members):
        return sum(pattern in pool[i] for i in members)

    patterns = set().union(*pool)
    return all(often(p, chosen) >= min(needed, often(p, range(len(pool)))) for p in patterns)


def plain_greedy(pool, needed, costs, weights):
    counts, chosen = dict.fromkeys(set().union(*pool), 0), []
    while True:
        values = {
            i: sum(weights[p] * (counts[p] < needed) for p in pool[i]) / costs[i]
            for i in range(len(pool))
            if i not in chosen
        }
        best = min(values, key=lambda i: (-values[i], i), default=None)
        if best is None or values[best] == 0:
            break
        chosen.append(best)
        for pattern in pool[best]:
            counts[pattern] += 1
    for i in chosen[::-1]:
        if all(counts[p] > needed for p in pool[i]):
            chosen.remove(i)
            for pattern in pool[i]:
                counts[pattern] -= 1
    return chosen


@given(pools, needs)
def test_against_all_subsets(pool, needed):
    chosen = cover(arrays(pool), needed)
    assert len(set(chosen)) == len(chosen)
    assert covers(pool, chosen, needed)
    sizes = range(len(pool) + 1)
    best = next(
        size for size in sizes if any(covers(pool, some, needed) for some in combinations(range(len(pool)), size))
    )
    gain = max(map(len, pool))
    assert len(chosen) <= (1 + log(gain)) * best if gain else not chosen
    assert not any(covers(pool, [i for i in chosen if i != left_out], needed) for left_out in chosen if needed == 1)


@given(pools, needs, st.data())
def test_short_cuts_change_nothing(pool, needed, data):
    costs = data.draw(st.lists(st.sampled_from([1.0, 2.0, 5.0]), min_size=len(pool), max_size=len(pool)))
    weights = data.draw(st.lists(st.sampled_from([1.0, 0.5, 0.25]), min_size=7, max_size=7))
    assert cover(arrays(pool), needed, costs, np.array(weights)) == plain_greedy(pool, needed, costs, weights)


def test_counts_are_where_it_starts():
    pool = arrays([{0, 1}, {1}, {2}])
    assert cover(pool, needed=1, counts=np.array([1, 1, 0])) == [2]
    assert cover(pool, needed=2, counts=np.array([1, 1, 1])) == [0, 2]


def test_no_more_than_the_most_and_those_first_that_add_most():
    assert cover(arrays([{0}, {1, 2}, {3, 4, 5}]), needed=1, most=2) == [2, 1]


def test_a_cheap_candidate_goes_before_a_dear_one():
    assert cover(arrays([{0, 1}, {0, 1}]), needed=1, costs=[2.0, 1.0]) == [1]


def test_nothing_to_choose():
    assert cover([], needed=3) == []
    assert cover(arrays([set(), set()]), needed=3) == []


def test_a_large_pool_is_covered():
    draw = np.random.default_rng(1)
    pool = [np.unique(draw.zipf(1.3, 60) % 20_000) for _ in range(20_000)]
    chosen = cover(pool, needed=5)
    after, before = (np.bincount(np.concatenate(p), minlength=20_000) for p in ([pool[i] for i in chosen], pool))
    assert (after >= np.minimum(before, 5)).all()
    assert len(chosen) < len(pool)
