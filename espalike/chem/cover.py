"""Choosing molecules so that each environment occurs in several of them: greedy multicover."""

from __future__ import annotations

import heapq
from collections.abc import Sequence

import numpy as np


def cover(
    patterns: Sequence[np.ndarray],
    needed: int = 5,
    costs: Sequence[float] | None = None,
    weights: np.ndarray | None = None,
    counts: np.ndarray | None = None,
    most: int | None = None,
) -> list[int]:
    """Candidates that together hold each pattern `needed` times, or as often as all candidates do.

    Greedy: the next candidate is the one that adds the most per cost, where it adds the weights of its patterns that
    occur too rarely so far. With equal costs and weights it needs at most 1 + ln(largest gain) times as many candidates
    as the best choice (Wolsey, Combinatorica 1982, 2, 385). A gain can only fall, so most candidates need not be looked
    at again. At the end those that turned out to be unnecessary are taken out. Among equals the first one is chosen.

    Args:
        patterns: numbers (from 0) of the patterns of each candidate, each once.
        needed: in how many chosen candidates a pattern has to occur.
        costs: cost of each candidate; None = all cost the same.
        weights: of the patterns, above 0, shape `(P,)`; None = all count the same.
        counts: how often each pattern occurs already, shape `(P,)`; None = never.
        most: largest number of candidates to choose; None = no limit.

    Returns:
        The chosen candidates, in the order in which they were chosen.

    Examples:
        >>> cover([np.array([0]), np.array([0, 1]), np.array([2])], needed=1)
        [1, 2]
    """
    total = max((int(p.max()) + 1 for p in patterns if len(p)), default=0)
    state = np.zeros(total, dtype=np.int64) if counts is None else np.array(counts, dtype=np.int64)
    worth = np.ones(len(state)) if weights is None else np.asarray(weights, dtype=np.float64)
    prices = np.ones(len(patterns)) if costs is None else np.asarray(costs, dtype=np.float64)

    def value(candidate: int) -> float:
        row = patterns[candidate]
        return float(worth[row][state[row] < needed].sum() / prices[candidate])

    heap = [(-value(c), c) for c in range(len(patterns))]
    heapq.heapify(heap)
    chosen: list[int] = []
    while heap and (most is None or len(chosen) < most):
        upper, candidate = heapq.heappop(heap)
        if upper == 0.0:
            break
        now = (-value(candidate), candidate)
        if heap and now > heap[0]:
            heapq.heappush(heap, now)
        elif now[0] < 0.0:
            chosen.append(candidate)
            state[patterns[candidate]] += 1
    return _needed_only(chosen, patterns, needed, state)


def _needed_only(chosen: list[int], patterns: Sequence[np.ndarray], needed: int, state: np.ndarray) -> list[int]:
    """The chosen candidates without those whose patterns occur often enough in the others; the last ones go first."""
    state = state.copy()
    kept = []
    for candidate in reversed(chosen):
        if (state[patterns[candidate]] > needed).all():
            state[patterns[candidate]] -= 1
        else:
            kept.append(candidate)
    return kept[::-1]
