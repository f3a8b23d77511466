"""Entries of several stores as one sequence; they stay on disk, and memory holds a few numbers per entry."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from espalike.chem.molecule import Molecule
from espalike.data.columns import Column
from espalike.data.schema import KINDS, Record
from espalike.data.split import check_leakage
from espalike.data.store import Store

_MAPPED = 128 * 2**20
"""Bytes of the stores' files that may stay in memory before they are released."""
PAGES = 2 * 2**16
"""Bytes that reading an entry brings into memory beside the entry itself: Linux maps 64 KiB at a time."""


def levels_of(stores: Sequence[Store], target: str | None) -> list[str]:
    """Levels of theory in the stores, the target first; `target` is None when there is only one level.

    Those of complexes do not count, unless there is nothing else: their energies do not depend on the equilibrium
    geometry that levels shift.

    Raises:
        ValueError: when no store holds the target level, or there are several and none is given; it lists the levels.
    """
    names = {level for store in stores for level in _levels(store)}
    names = names or {level for store in stores for level in store.manifest["levels"]}
    if target is None:
        if len(names) > 1:
            listed = ", ".join(sorted(names))
            raise ValueError(f"several levels of theory: {listed}; say which is the target: data.level=")
        return list(names)
    if target not in names:
        raise ValueError(f"no store holds level of theory {target!r}; found: {', '.join(sorted(names))}")
    return [target, *sorted(names - {target})]


def _levels(store: Store) -> list[str]:
    """Levels of theory of a store's entries, complexes excluded."""
    if "interaction" not in store.table.column_names:
        return list(store.manifest["levels"])
    return pc.unique(store.table.column("level").filter(pc.is_null(store.table.column("interaction")))).to_pylist()


def _entries(store: Store, split: str | None, splits: Mapping[str, str] | None) -> np.ndarray:
    """Entries of a split, as stored or as `splits` says by connectivity key; those without a split belong to none."""
    if split is None:
        return np.arange(len(store))
    stored = store.table.column("split")
    if splits is None:
        chosen = pc.equal(stored, split)
    else:
        keys = pa.array([key for key, of in splits.items() if of == split], pa.string())
        chosen = pc.and_(pc.is_in(store.table.column("key"), keys), pc.not_equal(stored, ""))
    return np.flatnonzero(chosen.to_numpy())


_ELEMENTS = 119
"""Atomic numbers from 0 to 118."""
_FEW = 5
"""Number of molecules with an element below which its shift between levels of theory is not known."""


class StoreDataset:
    """Entries of several stores in one split; `batches.Batches` makes batches of them.

    Entries of all stores form one sequence, so a shuffled batch mixes all sources. Memory is bounded, whatever the size
    of the stores: it holds a few numbers per entry, and the part of the files that was read last.

    Args:
        stores: the stores.
        split: `train`, `val` or `test`, or None for all entries.
        levels: levels of theory; `levels[0]` is the target, the index of each is what a batch carries.
        sources: names the batch's source index counts in; None = those in the stores, sorted.
        splits: split by connectivity key instead of the stored ones, from `split.resolve_splits`.

    Attributes:
        refs: store number and entry number of each entry, shape `(E, 2)`.
        counts: conformers of each entry, shape `(E,)`.
        atoms: atoms of each entry, shape `(E,)`.
        complexes: which entries are complexes, shape `(E,)`, bool.
        referenced: which entries have reference charges, shape `(E,)`, bool.
        level: index of each entry's level of theory, shape `(E,)`; 0, the target, also for complexes and where `alone`.
        alone: which entries of other levels have an element that is rare at the target level, shape `(E,)`, bool. How
            equilibrium geometries differ between the levels is not known for them, so they have no shift.
        source: index of each entry's source, shape `(E,)`.
        scan: which entries are a torsion drive, shape `(E,)`, bool.
        kind: index in `schema.KINDS` of what each entry's geometries are, −1 where it is not known, shape `(E,)`.
        molecules: number of each entry's molecule among the distinct ones, shape `(E,)`.

    Raises:
        ValueError: when the split is empty, or an entry's level or source is not listed.
        LeakageError: when a molecule sits on several splits of these stores and `splits` does not resolve it.
    """

    def __init__(
        self,
        stores: Sequence[Store],
        split: str | None,
        levels: Sequence[str],
        sources: Sequence[str] | None = None,
        splits: Mapping[str, str] | None = None,
    ):
        self.stores = tuple(stores)
        self.levels = tuple(levels)
        known = sources if sources is not None else sorted({s for store in stores for s in store.manifest["sources"]})
        self.sources = tuple(known)
        if splits is None:
            check_leakage(self.stores)
        chosen = [_entries(store, split, splits) for store in self.stores]
        refs = [np.stack([np.full_like(rows, s), rows], axis=1) for s, rows in enumerate(chosen)]
        self.refs = np.concatenate(refs).astype(np.int32)
        if not len(self.refs):
            names = ", ".join(s.name for s in stores)
            raise ValueError(
                f"no entries in split {split!r} of {names}; ingest with split=hash, which gives each molecule a split "
                "(fractions=), or train and validate on all entries: data.held_out=false"
            )
        self.counts = self._of_each([store.lengths("energy") for store in self.stores])
        self.atoms = self._of_each([store.lengths("numbers") for store in self.stores])
        self.complexes = self._known("interaction")
        level = self._codes("level", self.levels, self.complexes)
        self.alone = (level > 0) & self._has_rare_elements() if level.any() else np.zeros(len(level), dtype=bool)
        self.level = np.where(self.alone, 0, level).astype(level.dtype)
        self.source = self._codes("source", self.sources)
        smiles = pa.chunked_array([chunk for store in self.stores for chunk in store.table.column("smiles").chunks])
        codes = smiles.dictionary_encode().combine_chunks().indices.to_numpy()
        bounds = np.cumsum([len(store) for store in self.stores])[:-1]
        _, self._first, self.molecules = np.unique(
            self._of_each(np.split(codes, bounds)), return_index=True, return_inverse=True
        )
        self.referenced = self._known("ref_charge")
        self.scan = self._known("dihedral")
        self.kind = np.where(self.scan, KINDS.index("scan"), self._kinds())
        self._read = _MAPPED  # reading the text columns has mapped pages everywhere in the files

    def __len__(self) -> int:
        return len(self.refs)

    @cached_property
    def lowest(self) -> np.ndarray:
        """The lowest energy of each entry [kcal/mol], shape `(E,)`; NaN where it has none."""
        self.account(_MAPPED)  # all energies are read

        def of(lists: pa.ListArray) -> np.ndarray:
            bounds = lists.offsets.to_numpy()
            return np.fmin.reduceat(lists.values.to_numpy()[: bounds[-1]], bounds[:-1])

        batches = [store.table.to_batches() for store in self.stores]
        return self._of_each(
            [np.concatenate([of(batch.column("energy")) for batch in of_store]) for of_store in batches]
        )

    def record(self, index: int) -> Record:
        """The stored record of an entry."""
        s, i = self.refs[index].tolist()
        self.account(int(self.counts[index] * self.atoms[index]) * 24 + PAGES)
        return self.stores[s].record(i)

    def keys(self) -> list[str]:
        """Connectivity key of each entry."""
        rows = [self.refs[self.refs[:, 0] == s, 1] for s in range(len(self.stores))]
        columns = [
            store.table.column("key").take(pa.array(of_store))
            for store, of_store in zip(self.stores, rows, strict=True)
        ]
        return [key for column in columns for key in column.to_pylist()]

    def name_of(self, entry: int) -> str:
        """Name of an entry in messages, `store: record id`; `LabelledBatch.entry` holds its number."""
        s, i = self.refs[entry].tolist()
        return f"{self.stores[s].name}: {self.stores[s].table.column('id')[i].as_py()}"

    def molecule(self, index: int) -> Molecule:
        """The graph of an entry, for messages and baselines."""
        s, i = self.refs[index].tolist()
        self.account(PAGES)
        return self.stores[s].molecule(i)

    def distinct(self) -> list[int]:
        """The first entry of each distinct molecule, by its number in `molecules`."""
        return self._first.tolist()

    def _of_each(self, columns: Sequence[np.ndarray]) -> np.ndarray:
        """Values of all stores' entries, by store, → those of the entries."""
        values = np.concatenate(columns)
        starts = np.cumsum([0, *(len(column) for column in columns)])
        return values[starts[self.refs[:, 0]] + self.refs[:, 1]]

    def _has_rare_elements(self) -> np.ndarray:
        """Which entries have an element that is rare among molecules at the target level, shape `(E,)`, bool.

        Rare: of less than `_FEW` molecules in all splits, and of a tenth or less of the number at other levels.
        """
        by_store = []
        found: tuple[set, set] = set(), set()  # (molecule, element) at other levels, at the target
        for store in self.stores:
            has = np.zeros((len(store), _ELEMENTS), dtype=bool)
            rows = np.repeat(np.arange(len(store)), store.lengths("numbers"))
            atoms = [batch.column("numbers").flatten().to_numpy() for batch in store.table.to_batches()]
            has[rows, np.concatenate(atoms)] = True
            at_target = pc.equal(store.table.column("level"), self.levels[0]).to_numpy()
            single, keys = store.table.column("interaction").is_null().to_numpy(), store.table.column("key").to_numpy()
            for i, number in np.argwhere(has & single[:, None]).tolist():
                found[int(at_target[i])].add((keys[i], number))
            by_store.append(has)
        others, at = (np.bincount([number for _, number in pairs], minlength=_ELEMENTS) for pairs in found)
        rare = (at < _FEW) & (10 * at <= others)
        return self._of_each([np.any(has[:, rare], axis=1) for has in by_store])

    def _known(self, column: str) -> np.ndarray:
        """Which entries have a value in a list column, shape `(E,)`, bool."""
        stored = Column.of(self.stores, column, self.refs)
        return np.zeros(len(self), dtype=bool) if stored is None else stored.known(np.arange(len(self)))

    def _codes(self, name: str, listed: Sequence[str], first: np.ndarray | bool = False) -> np.ndarray:
        """Index in `listed` of each entry's value in a text column, 0 where `first` says so, shape `(E,)`."""
        values = pa.array(listed, pa.string())
        columns = [pc.index_in(store.table.column(name), values).fill_null(-1).to_numpy() for store in self.stores]
        codes = np.where(first, 0, self._of_each(columns))
        if (codes < 0).any():
            s, i = self.refs[np.argmax(codes < 0)].tolist()
            value = self.stores[s].table.column(name)[i].as_py()
            raise ValueError(f"{self.stores[s].name}: {name} {value!r} is not listed; listed: {', '.join(listed)}")
        return codes.astype(np.int16)

    def _kinds(self) -> np.ndarray:
        """Index in `KINDS` of each entry's kind as stored, −1 where there is none, shape `(E,)`."""
        unknown = [np.full(len(store), -1) for store in self.stores]
        columns = [
            pc.index_in(store.table.column("kind"), pa.array(KINDS, pa.string())).fill_null(-1).to_numpy()
            if "kind" in store.table.column_names
            else missing
            for store, missing in zip(self.stores, unknown, strict=True)
        ]
        return self._of_each(columns)

    def account(self, nbytes: int) -> None:
        """Note that `nbytes` will be read now; the stores' files are released from memory after `_MAPPED` bytes."""
        self._read += nbytes
        if self._read > _MAPPED:
            self._read = nbytes
            for store in self.stores:
                store.release()
