"""The plan of an epoch: which conformers of which entries form a batch, and in which process.

A training epoch is one of two things:

- `entries`: one random sample of at most `conformers` geometries of every entry. All molecules have the same weight,
  whether they have ten geometries or ten thousand frames of dynamics; further geometries come in further epochs.
- `conformers`: every geometry of every entry exactly once, each entry cut into random chunks of at most `conformers`.
  The weight of an entry is its number of geometries.

Each batch has every source in proportion: the chunks are laid out source by source, each source shuffled, and dealt to
the batches in turn. So a source with fewer chunks than there are batches is missing in some; with `every_source` it
comes once per batch, each time with another sample of its geometries; other sources come once.

The plan depends on `(seed, epoch)` alone, not on torch's generators, the number of workers or earlier epochs, so that a
resumed run sees what an uninterrupted one would have seen. The plan itself depends on the number of processes only in
how it is dealt out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch.distributed
from torch.utils.data import Sampler

from espalike.bounds import check_number
from espalike.data.columns import ranges

EPOCHS = ("entries", "conformers")
"""What an epoch contains once each."""

_TOGETHER = 16
"""Number of batches whose conformers are drawn together."""
_ROUNDS = 24
"""Rounds of the shuffle: with 24, both orders of two elements are equally likely to 1e-7."""


@dataclass(frozen=True, eq=False)
class Picks:
    """The conformers that a batch is made of.

    Attributes:
        entries: shape `(M,)`, int64.
        counts: number of conformers of each, shape `(M,)`, int64.
        conformers: their numbers, those of the first entry first, ascending in each, shape `(counts.sum(),)`, int64.
    """

    entries: np.ndarray
    counts: np.ndarray
    conformers: np.ndarray

    def split(self, sizes: np.ndarray) -> Iterator[Picks]:
        """Consecutive parts with `sizes` entries each."""
        ends = np.cumsum(sizes)
        bounds = np.concatenate([[0], np.cumsum(self.counts)])
        for first, last in zip((ends - sizes).tolist(), ends.tolist(), strict=True):
            conformers = self.conformers[bounds[first] : bounds[last]]
            yield Picks(self.entries[first:last], self.counts[first:last], conformers)

    def __len__(self) -> int:
        return len(self.entries)


def mixed(values: np.ndarray) -> np.ndarray:
    """A 64-bit hash of each unsigned integer (the finalizer of G. Steele's SplitMix64)."""
    z = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def shuffled(places: np.ndarray, counts: np.ndarray, size: np.ndarray, key: np.ndarray) -> np.ndarray:
    """Elements at some places of random orders of `0, …, size - 1`, without computing the whole orders.

    Swap-or-not: V. T. Hoang, B. Morris, P. Rogaway, CRYPTO 2012, doi:10.1007/978-3-642-32009-5_1.

    Args:
        places: places in the first order, then in the second and so on, shape `(C,)`.
        counts: number of places of each order, shape `(M,)`.
        size: size of each order, shape `(M,)`.
        key: one order for each key, shape `(M,)`, uint64.
    """
    rounds = np.arange(2 * _ROUNDS, dtype=np.uint64)[:, None] * np.uint64(0x9E3779B97F4A7C15)
    random = mixed(key + rounds)
    pivots = np.repeat((random[::2] % size.astype(np.uint64)).astype(np.int64), counts, axis=1)
    keys = np.repeat(random[1::2], counts, axis=1)
    size = np.repeat(size, counts)
    for pivot, key_of in zip(pivots, keys, strict=True):
        partner = pivot - places
        partner += size * (partner < 0)
        coin = (key_of + np.maximum(places, partner).astype(np.uint64)) * np.uint64(0xBF58476D1CE4E5B9)
        coin = (coin ^ (coin >> np.uint64(32))) * np.uint64(0x94D049BB133111EB)
        places = np.where(coin >> np.uint64(63), partner, places)
    return places


class EpochSampler(Sampler[Picks]):
    """Batches of an epoch, for a `DataLoader` as its `batch_sampler`; `set_epoch` before each epoch.

    All processes of a distributed run get the same number of batches, without repeating or leaving out anything: the
    chunks of an epoch are dealt evenly, so that the sizes of any two batches differ by at most one, instead of padding
    with repetitions as `torch.utils.data.DistributedSampler` does. Lightning must not put that one in
    (`use_distributed_sampler=False`).

    Args:
        counts: conformers of each entry, shape `(E,)`.
        batch_size: most chunks in a batch of one process; where 1 is set, batches of several processes may have 2.
        conformers: most conformers in a chunk; None for all conformers of its entry.
        epoch_of: `entries` or `conformers`, see the head of this module.
        seed: seed of the plan.
        sources: source of each entry, shape `(E,)`; None = one.
        every_source: whether every batch has every source, small ones several times per epoch (`data.every_source`).
        bucketed: whether chunks with equally many conformers come together, as far as sources stay in proportion, so
            that few slots of a batch are masked; nothing else is padded. The processes of a step get similar batches.
        rank: number of this process; None = that of `torch.distributed`, 0 where it is not used.
        world: number of processes; None as for `rank`.

    Attributes:
        start: an epoch, and the number of batches per process that are skipped in it; set by a run that is resumed
            in the middle of this epoch.

    Raises:
        ValueError: for unknown words or numbers out of range, or when there are no entries.
    """

    def __init__(
        self,
        counts: np.ndarray,
        batch_size: int,
        conformers: int | None = None,
        epoch_of: str = "entries",
        seed: int = 0,
        *,
        sources: np.ndarray | None = None,
        every_source: bool = False,
        bucketed: bool = False,
        rank: int | None = None,
        world: int | None = None,
    ):
        if epoch_of not in EPOCHS:
            raise ValueError(f"data.epoch={epoch_of}: expected {' or '.join(EPOCHS)}")
        check_number("data.batch_size", batch_size, 1)
        check_number("data.conformers", conformers, 1)
        if len(counts) == 0 or np.min(counts) < 1:
            raise ValueError("an epoch needs entries, each with at least one conformer")
        self.counts = np.asarray(counts, dtype=np.int64)
        self.batch_size, self.seed, self.every_source, self.bucketed = batch_size, seed, every_source, bucketed
        self.rank, self.world, self.epoch, self.start = rank, world, 0, (0, 0)
        most = self.counts.max() if conformers is None else conformers
        self._parts = -(-self.counts // most) if epoch_of == "conformers" else np.ones_like(self.counts)
        # Equal shares instead of full ones and a rest: a rest of one geometry would have no energy difference.
        self._shared = self.counts if epoch_of == "conformers" else np.minimum(self.counts, most)
        self._starts = np.concatenate([[0], np.cumsum(self._parts)])  # number of each entry's first chunk
        source = np.zeros(len(counts)) if sources is None else sources
        self._source = np.unique(source, return_inverse=True)[1].repeat(self._parts)  # of each chunk
        if every_source and batch_size <= self._source.max():
            raise ValueError(
                f"batches of {batch_size} entries cannot have each of {self._source.max() + 1} sources; make "
                "data.batch_size larger, or data.every_source=false"
            )

    @property
    def sampler(self) -> EpochSampler:
        """Itself, since Lightning calls `loader.batch_sampler.sampler.set_epoch`."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Draw the plan of this epoch from now on."""
        self.epoch = epoch

    def __len__(self) -> int:
        """Batches of an epoch in each process.

        Raises:
            ValueError: when there are fewer chunks than processes.
        """
        return self._steps(self._place()[1])

    def __iter__(self) -> Iterator[Picks]:
        rank, world = self._place()
        steps = self._steps(world)
        chunks, bounds = self._dealt(steps, world)
        start = self.start[1] if self.start[0] == self.epoch else 0
        steps_of_rank = np.arange(rank + start * world, steps * world, world)
        for some in np.split(steps_of_rank, range(_TOGETHER, len(steps_of_rank), _TOGETHER)):
            sizes = bounds[some + 1] - bounds[some]
            yield from self._picks(chunks[ranges(bounds[some], sizes)]).split(sizes)

    def _place(self) -> tuple[int, int]:
        """Rank and number of processes."""
        running = torch.distributed.is_available() and torch.distributed.is_initialized()
        rank = self.rank if self.rank is not None else torch.distributed.get_rank() if running else 0
        world = self.world if self.world is not None else torch.distributed.get_world_size() if running else 1
        if not 0 <= rank < world:
            raise ValueError(f"process {rank} of {world}; expected a number from 0 to {world - 1}")
        return rank, world

    def _steps(self, world: int) -> int:
        n = len(self._source)
        if n < world:
            raise ValueError(
                f"{n} chunks for {world} processes leave some without any; use fewer processes or, with "
                "data.epoch=conformers, a smaller data.conformers"
            )
        steps = min(-(-n // (world * self.batch_size)), n // world)  # the second matters for batches of one only
        if self.every_source:
            of_each, enough = np.bincount(self._source), 0
            while enough != steps:
                enough = steps
                steps = max(steps, -(-int(np.maximum(of_each, steps * world).sum()) // (world * self.batch_size)))
        return steps

    def _laid(self, batches: int, rng: np.random.Generator) -> np.ndarray:
        """Chunks in the order in which they are dealt; the n-th repetition of chunk c is c + n × number of chunks."""
        n = len(self._source)
        chunks = np.arange(n)
        if self.every_source:
            few = np.flatnonzero(np.bincount(self._source) < batches)
            for source in few.tolist():
                members = np.flatnonzero(self._source == source)
                again = [n * time + rng.permutation(members) for time in range(1, -(-batches // len(members)))]
                chunks = np.concatenate([chunks, *again])[: len(chunks) + batches - len(members)]
        order = rng.permutation(len(chunks))
        keys = [self._source[chunks[order] % n]]
        if self.bucketed:
            keys.insert(0, self._shared_by(chunks[order] % n)[2])
        return chunks[order[np.lexsort(keys)]]

    def _dealt(self, steps: int, world: int) -> tuple[np.ndarray, np.ndarray]:
        """Chunks of all batches, and where each begins; step `s` of process `r` is batch `s * world + r`."""
        rng = np.random.default_rng([self.seed, self.epoch])
        chunks = self._laid(steps * world, rng)
        batch = np.arange(len(chunks)) % (steps * world)
        if self.bucketed:  # batches of the same sizes, but neighbours together
            batch = batch[np.lexsort([batch, self._source[chunks % len(self._source)]])]
        batch = rng.permutation(steps)[batch // world] * world + batch % world
        sizes = np.bincount(batch, minlength=steps * world)
        # ascending within a batch, so that files are read in their order
        return chunks[np.lexsort([chunks % len(self._source), batch])], np.concatenate([[0], np.cumsum(sizes)])

    def _shared_by(self, chunks: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Entry of each chunk, first place of its conformers in the entry's order, and their number."""
        entries = np.searchsorted(self._starts, chunks, side="right") - 1
        part, parts, shared = chunks - self._starts[entries], self._parts[entries], self._shared[entries]
        first = part * shared // parts
        return entries, first, (part + 1) * shared // parts - first

    def _picks(self, chunks: np.ndarray) -> Picks:
        """Entries and conformers of some chunks: slices of each entry's own order."""
        time, chunks = np.divmod(chunks, len(self._source))
        entries, first, counts = self._shared_by(chunks)
        key = mixed(np.array([self.seed], np.uint64)) + np.uint64(self.epoch)
        key = mixed(mixed(key) + entries.astype(np.uint64)) + time.astype(np.uint64)
        chosen = shuffled(ranges(first, counts), counts, self.counts[entries], mixed(key))
        of = np.repeat(np.arange(len(entries)) << 40, counts)
        return Picks(entries, counts, np.sort(of + chosen) - of)


class WholeEntries(Sampler[Picks]):
    """Batches of whole entries in their order, for validation: all conformers of every entry, once.

    A batch holds `batch_size` entries, or as many as keep the coordinates, masked slots included, below a limit; an
    entry above the limit is a batch by itself. Every process of a distributed run gets all batches, so that its figures
    are those of the whole set.

    Args:
        counts: conformers of each entry, shape `(E,)`.
        atoms: atoms of each entry, shape `(E,)`.
        batch_size: most entries in a batch.
        most: limit on conformers × atoms of a batch.
    """

    def __init__(self, counts: np.ndarray, atoms: np.ndarray, batch_size: int, most: int = 2**20):
        bounds, longest, total = [0], 0, 0
        for i, (count, size) in enumerate(zip(counts.tolist(), atoms.tolist(), strict=True)):
            longest, total = max(longest, count), total + size
            if i > bounds[-1] and (i - bounds[-1] == batch_size or longest * total > most):
                bounds.append(i)
                longest, total = count, size
        self._bounds, self._counts = [*bounds, len(counts)], np.asarray(counts, dtype=np.int64)

    def __len__(self) -> int:
        return len(self._bounds) - 1

    def __iter__(self) -> Iterator[Picks]:
        for start, stop in zip(self._bounds[:-1], self._bounds[1:], strict=True):
            counts = self._counts[start:stop]
            yield Picks(np.arange(start, stop), counts, ranges(np.zeros_like(counts), counts))
