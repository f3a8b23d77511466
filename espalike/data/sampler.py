"""What an epoch is made of: which conformers of which entries come together in a batch, and in which process.

A training epoch is one of two things:

- `entries`: of every entry one random sample of at most `conformers` geometries. A molecule counts as much as another,
  be it known by ten geometries or by ten thousand frames of dynamics; many geometries are seen over many epochs.
- `conformers`: every geometry of every entry exactly once, each entry cut into random chunks of at most `conformers`.
  An entry counts by its number of geometries.

Both follow from `(seed, epoch)` alone: not from torch's generators, the number of workers, nor what ran before, so that
a resumed run sees what an uninterrupted one would have seen. The plan itself depends on the number of processes only in
how it is dealt out.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch.distributed
from torch.utils.data import Sampler

EPOCHS = ("entries", "conformers")
"""What an epoch may hold once."""


class Pick(NamedTuple):
    """An index into a `StoreDataset`: an entry and some of its conformers, ascending, shape `(C,)`."""

    entry: int
    conformers: np.ndarray


class EpochSampler(Sampler[list[Pick]]):
    """Batches of an epoch, for a `DataLoader` as its `batch_sampler`; `set_epoch` before each epoch.

    Batches are shuffled over all entries, so they mix sources. All processes of a distributed run get the same number
    of batches, without repeating or leaving out anything: the chunks of an epoch are dealt evenly, so that the
    sizes of any two batches differ by at most one, instead of padding with repetitions as
    `torch.utils.data.DistributedSampler` does. Lightning must not put that one in (`use_distributed_sampler=False`).

    Args:
        counts: conformers of each entry, shape `(E,)`.
        batch_size: most chunks in a batch of one process; of one, several processes may have to make two.
        conformers: most conformers in a chunk, None for all of its entry.
        epoch_of: `entries` or `conformers`, see the head of this module.
        seed: of the plan.
        rank: number of this process; None = what `torch.distributed` says when asked, 0 where it is not used.
        world: number of processes; None as for `rank`.

    Attributes:
        start: an epoch, and how many batches of each process are left out of it: a run resumed in its middle sets this.

    Raises:
        ValueError: for other words or numbers, or when there is nothing to draw from.
    """

    def __init__(
        self,
        counts: np.ndarray,
        batch_size: int,
        conformers: int | None = None,
        epoch_of: str = "entries",
        seed: int = 0,
        rank: int | None = None,
        world: int | None = None,
    ):
        if epoch_of not in EPOCHS:
            raise ValueError(f"an epoch of {epoch_of!r}; expected {' or '.join(EPOCHS)}")
        if batch_size < 1 or (conformers is not None and conformers < 1):
            raise ValueError(f"batches of {batch_size} entries, {conformers} conformers each; both must be at least 1")
        if len(counts) == 0 or np.min(counts) < 1:
            raise ValueError("an epoch needs entries, each with at least one conformer")
        self.counts = np.asarray(counts, dtype=np.int64)
        self.batch_size, self.conformers, self.epoch_of, self.seed = batch_size, conformers, epoch_of, seed
        self.rank, self.world, self.epoch, self.start = rank, world, 0, (0, 0)
        cut = conformers is not None and epoch_of == "conformers"
        parts = -(-self.counts // conformers) if cut else np.ones_like(self.counts)  # type: ignore[operator]
        self._parts = parts.astype(np.int32)
        self._starts = np.concatenate([[0], np.cumsum(parts)])  # number of each entry's first chunk

    @property
    def sampler(self) -> EpochSampler:
        """Itself: Lightning tells the epoch to `loader.batch_sampler.sampler`."""
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

    def __iter__(self) -> Iterator[list[Pick]]:
        rank, world = self._place()
        n = int(self._starts[-1])
        order = np.random.default_rng([self.seed, self.epoch]).permutation(n)
        batches = self._steps(world) * world
        start = self.start[1] if self.start[0] == self.epoch else 0
        for b in range(rank + start * world, batches, world):
            yield [self._pick(int(chunk)) for chunk in order[b * n // batches : (b + 1) * n // batches]]

    def _place(self) -> tuple[int, int]:
        """Rank and number of processes."""
        running = torch.distributed.is_available() and torch.distributed.is_initialized()
        rank = self.rank if self.rank is not None else torch.distributed.get_rank() if running else 0
        world = self.world if self.world is not None else torch.distributed.get_world_size() if running else 1
        if not 0 <= rank < world:
            raise ValueError(f"process {rank} of {world}; expected a number from 0 to {world - 1}")
        return rank, world

    def _steps(self, world: int) -> int:
        n = int(self._starts[-1])
        if n < world:
            raise ValueError(
                f"{n} chunks for {world} processes leave some without any; use fewer processes or, with "
                "data.epoch=conformers, a smaller data.conformers"
            )
        return min(-(-n // (world * self.batch_size)), n // world)  # the second matters for batches of one only

    def _pick(self, chunk: int) -> Pick:
        """Entry and conformers of a chunk: a slice of the entry's own permutation, which is drawn again each time."""
        entry = int(np.searchsorted(self._starts, chunk, side="right")) - 1
        count, parts, part = int(self.counts[entry]), int(self._parts[entry]), chunk - int(self._starts[entry])
        if parts == 1 and (self.conformers is None or count <= self.conformers):
            return Pick(entry, np.arange(count))
        stream = np.array([0, 0, 0, 1 + entry], np.uint64)  # each entry's own, of a generator that starts anywhere
        bits = np.random.Philox(key=np.array([self.seed, self.epoch], np.uint64), counter=stream)
        order = np.random.Generator(bits).permutation(count)
        if self.epoch_of == "entries":
            return Pick(entry, np.sort(order[: self.conformers]))
        # Equal shares rather than full ones and a rest: a rest of one geometry has no energy difference to learn from.
        return Pick(entry, np.sort(order[part * count // parts : (part + 1) * count // parts]))


class WholeEntries(Sampler[list[int]]):
    """Batches of whole entries in their order, for validation: all conformers of every entry, once.

    A batch holds `batch_size` entries, or as many as keep the coordinates, masked slots included, below a limit; an
    entry above the limit comes alone. Every process of a distributed run gets all of them, so that figures are those
    of the whole set everywhere.

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
        self._bounds = np.array([*bounds, len(counts)])

    def __len__(self) -> int:
        return len(self._bounds) - 1

    def __iter__(self) -> Iterator[list[int]]:
        for start, stop in zip(self._bounds[:-1].tolist(), self._bounds[1:].tolist(), strict=True):
            yield list(range(start, stop))
