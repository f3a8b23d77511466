"""Whole batches from memory-mapped stores by index arithmetic, without a loop over molecules."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from espalike.batch import EspPoints, Graph, LabelledBatch, featurized
from espalike.data.columns import Column, MappedColumn, ranges
from espalike.data.dataset import PAGES, StoreDataset
from espalike.data.sampler import Picks
from espalike.data.table import GraphTable

CACHE = 256 * 2**20
"""Limit on the memory of cached molecular graphs [byte]: some 20,000 molecules of 40 atoms."""

_COLUMNS = ("xyz", "forces", "energy", "ref_charge", "ref_sigma", "ref_epsilon", "dipole", "esp_count", "esp_points",
            "esp_values", "interaction", "sapt")  # fmt: skip


def relative(energy: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Energies relative to each molecule's mean over its real conformers, NaN elsewhere; `(K, M)`, float64."""
    shift = energy - energy[0]  # differences are exact, so that the mean is one of small numbers
    return np.where(mask, shift - np.where(mask, shift, 0.0).sum(0) / mask.sum(0), np.nan)


def loader_of(
    batches: Batches, sampler: Sampler[Picks], workers: int = 0, start: str | None = None
) -> DataLoader[LabelledBatch]:
    """Loads the batches that a sampler plans.

    Args:
        batches: makes the batches.
        sampler: an `EpochSampler` or `WholeEntries`.
        workers: number of processes that make batches and stay between epochs; 0: this process makes them.
        start: how they are started, `fork` or `spawn`; None = the default of the system.
    """
    return DataLoader(
        batches,
        batch_sampler=sampler,  # type: ignore[arg-type]
        collate_fn=_as_it_is,
        num_workers=workers,
        persistent_workers=workers > 0,
        multiprocessing_context=start,
    )


def _triples(index: np.ndarray) -> np.ndarray:
    """Places of the three numbers of vectors `index`, shape `(..., 3 × the last axis)`."""
    return (3 * index[..., None] + np.arange(3)).reshape(*index.shape[:-1], -1)


def _as_it_is(batch: Any) -> Any:
    return batch


class Batches(Dataset[LabelledBatch]):
    """Batches of a data set's entries.

    Memory is bounded, whatever the size of the stores: it holds some numbers per entry, graphs of molecules up to
    `cache`, and the part of the files that was read last. Each worker process has its own copy.

    A chosen conformer fills one slot, a row and a molecule of the batch: `chosen (K, M)` is its number in its entry,
    `mask (K, M)` says whether the slot is filled. Any column that is stored per conformer can be gathered as the
    coordinates are, by a `Column` and `chosen`. Tuples of a kind come molecule by molecule, in the order of
    `topology.enumerate_tuples`.

    Args:
        dataset: the entries.
        dtype: type of all floating tensors.
        cache: limit on the memory of cached graphs [byte].
        instead: columns that replace the stores' columns, by name.
    """

    def __init__(
        self,
        dataset: StoreDataset,
        dtype: torch.dtype = torch.float32,
        cache: int = CACHE,
        instead: Mapping[str, MappedColumn] | None = None,
    ):
        self.dataset, self.dtype, self.cache = dataset, dtype, cache
        self.instead = dict(instead or {})
        self._first = dataset.distinct()
        self.graphs = GraphTable(len(self._first), int(dataset.atoms.max()), cache, self._graph)

    def __reduce__(self):
        return Batches, (self.dataset, self.dtype, self.cache, self.instead)  # another process maps the files itself

    def __len__(self) -> int:
        return len(self.dataset)

    def _graph(self, molecule: int) -> Graph:
        return featurized(self.dataset.molecule(self._first[molecule]))

    @cached_property
    def _columns(self) -> dict[str, Column | None]:
        stored = {name: Column.of(self.dataset.stores, name, self.dataset.refs) for name in _COLUMNS}
        return stored | {name: column.open() for name, column in self.instead.items()}

    @cached_property
    def _energies(self) -> Column:
        """Energies as stored, also where a column replaces them."""
        column = Column.of(self.dataset.stores, "energy", self.dataset.refs)
        assert column is not None  # the schema forbids it
        return column

    def __getitems__(self, picks: Picks) -> LabelledBatch:
        """The batch of some conformers of some entries.

        Raises:
            ValueError: when there are none.
        """
        if not len(picks):
            raise ValueError("a batch needs at least one molecule")
        data, entries, counts = self.dataset, picks.entries, picks.counts
        data.account(int((counts * data.atoms[entries] * 24 + PAGES).sum()))
        slot = np.arange(counts.max())[:, None]
        mask = slot < counts
        chosen = picks.conformers[np.cumsum(counts) - counts + np.where(mask, slot, 0)]  # of the entry, (K, M)
        return LabelledBatch(
            **self.graphs.fields(data.molecules[entries], self.dtype),
            **self._per_atom(entries, chosen, mask),
            **self._per_molecule(entries, chosen, mask),
            esp=self._potentials(picks),
            mask=torch.from_numpy(mask),
            level=torch.from_numpy(data.level[entries].astype(np.int64)),
            source=torch.from_numpy(data.source[entries].astype(np.int64)),
            scan=torch.from_numpy(data.scan[entries]),
            kind=torch.from_numpy(data.kind[entries].astype(np.int64)),
            entry=torch.from_numpy(entries.astype(np.int64)),
        )

    def _gather(self, name: str, entries: np.ndarray, width: np.ndarray | int, index: np.ndarray) -> np.ndarray:
        """Values of a column, NaN where there are none; see `Column.gather`."""
        column = self._columns[name]
        return np.full(index.shape, np.nan) if column is None else column.gather(entries, width, index)

    def _tensor(self, array: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(array).to(self.dtype)

    def _per_atom(self, entries: np.ndarray, chosen: np.ndarray, mask: np.ndarray) -> dict[str, Any]:
        """Coordinates, forces and reference parameters. A masked slot holds the first chosen geometry."""
        atoms = self.dataset.atoms[entries]
        width = 3 * atoms  # numbers of one geometry
        index = np.repeat(chosen * width, width, axis=1) + ranges(np.zeros_like(width), width)
        xyz, forces = (self._gather(name, entries, width, index) for name in ("xyz", "forces"))
        full = int(mask.sum(0).min())  # rows without a gap
        forces[full:][~np.repeat(mask[full:], width, axis=1)] = np.nan
        index = ranges(np.zeros_like(atoms), atoms)[None]
        names = ("ref_charge", "ref_sigma", "ref_epsilon")
        charge, sigma, epsilon = (self._gather(name, entries, atoms, index)[0] for name in names)
        shape = (len(mask), -1, 3)
        return {
            "xyz": self._tensor(xyz.reshape(shape)),
            "forces": self._tensor(forces.reshape(shape)),
            "ref_charge": self._tensor(charge),
            "ref_lj": self._tensor(np.stack([sigma, epsilon], axis=1)),
        }

    def _per_molecule(self, entries: np.ndarray, chosen: np.ndarray, mask: np.ndarray) -> dict[str, Any]:
        """Energies (relative to the mean of those chosen, and above the entry's lowest), dipole moments, interaction
        energies and their components."""
        fields: dict[str, Any] = {"energy": self._tensor(relative(self._gather("energy", entries, 1, chosen), mask))}
        above = self._energies.gather(entries, 1, chosen) - self.dataset.lowest[entries]
        fields["above"] = self._tensor(np.where(mask, above, np.nan))
        column = self._columns["dipole"]
        if column is not None and column.known(entries).any():
            dipole = column.gather(entries, 3, _triples(chosen)).reshape(*chosen.shape, 3)
            dipole[~mask] = np.nan
            fields["dipole"] = self._tensor(dipole)
        for name, width in (("interaction", 1), ("sapt", 4)):
            column = self._columns[name]
            if column is not None and column.known(entries).any():
                index = (width * chosen[..., None] + np.arange(width)).reshape(len(chosen), -1)
                values = column.gather(entries, width, index).reshape(*chosen.shape, width)
                values[~mask] = np.nan
                fields[name] = self._tensor(values if width > 1 else values[..., 0])
        return fields

    def _potentials(self, picks: Picks) -> EspPoints | None:
        """Points and potentials of the chosen conformers of the entries that have any."""
        column = self._columns["esp_count"]
        mol = np.flatnonzero(column.known(picks.entries)) if column is not None else np.array([], np.int64)
        if column is None or not len(mol):
            return None
        entries, chosen, stored = picks.entries[mol], picks.counts[mol], self.dataset.counts[picks.entries[mol]]
        # number of points of each conformer of these entries, and where they begin among the points of its entry
        count = column.gather(entries, stored, ranges(np.zeros_like(stored), stored)[None])[0].astype(np.int64)
        first, before = np.cumsum(stored) - stored, np.cumsum(count) - count
        before -= np.repeat(before[first], stored)
        # the same for the chosen conformers
        places = ranges((np.cumsum(picks.counts) - picks.counts)[mol], chosen)
        at = np.repeat(first, chosen) + picks.conformers[places]
        count, before = count[at], before[at]
        if not count.any():
            return None
        index, points = ranges(before, count), np.add.reduceat(count, np.cumsum(chosen) - chosen)
        self.dataset.account(16 * len(index))
        return EspPoints(
            points=self._tensor(self._gather("esp_points", entries, 3 * points, _triples(index)[None]).reshape(-1, 3)),
            values=self._tensor(self._gather("esp_values", entries, points, index[None])[0]),
            conformer=torch.from_numpy(np.repeat(ranges(np.zeros_like(chosen), chosen), count)),
            mol=torch.from_numpy(np.repeat(mol, points)),
        )
