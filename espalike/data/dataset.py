"""Entries of several stores as a torch data set: mapped from disk, nothing kept an entry but a few numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from torch.utils.data import Dataset

from espalike.batch import Graph, featurized
from espalike.chem.conformers import EspGrid
from espalike.chem.molecule import Molecule
from espalike.data.columns import Column
from espalike.data.sampler import Pick
from espalike.data.split import check_leakage
from espalike.data.store import Store

_MAPPED = 128 * 2**20
"""Bytes of the stores' files that may stay in memory before they are taken out."""
PAGES = 2 * 2**16
"""Bytes that reading an entry brings into memory beside what was wanted: Linux maps 64 KiB at a time."""


@dataclass(frozen=True, eq=False)
class Item:
    """One entry, or some conformers of one, as the data set hands it out.

    Attributes:
        graph: the molecule's arrays.
        xyz: coordinates [Å], shape `(C, A, 3)`.
        energy: energies [kcal/mol], shape `(C,)`, float64; NaN where unknown.
        forces: forces [kcal/mol/Å], shape `(C, A, 3)`, or None.
        ref_charge: reference charges [e], shape `(A,)`, or None.
        ref_lj: reference sigma [Å] and epsilon [kcal/mol], shape `(A, 2)`, or None.
        level: index of the level of theory, 0 = target.
        source: index of the source.
        dipole: dipole moments about the origin of the coordinates [e Å], shape `(C, 3)`, NaN where unknown; or None.
        esp: electrostatic potential around each conformer, or None.
        scan: whether the conformers are a torsion drive.
        entry: its number in the data set, −1 where it comes from none.
    """

    graph: Graph
    xyz: np.ndarray
    energy: np.ndarray
    forces: np.ndarray | None
    ref_charge: np.ndarray | None
    ref_lj: np.ndarray | None
    level: int
    source: int
    dipole: np.ndarray | None = None
    esp: EspGrid | None = None
    scan: bool = False
    entry: int = -1

    def take(self, conformers: np.ndarray) -> Item:
        """The item with these of its conformers, ascending, copied."""
        chosen = np.zeros(len(self.energy), dtype=bool)
        chosen[conformers] = True
        return replace(
            self,
            xyz=self.xyz[conformers],
            energy=self.energy[conformers],
            forces=None if self.forces is None else self.forces[conformers],
            dipole=None if self.dipole is None else self.dipole[conformers],
            esp=None if self.esp is None else self.esp.take(chosen),
        )


def levels_of(stores: Sequence[Store], target: str | None) -> list[str]:
    """Levels of theory in the stores, the target first; None for the only one there is.

    Raises:
        ValueError: when no store holds the target level, or it is not said which of several it is, naming those there
            are.
    """
    found = {level for store in stores for level in store.manifest["levels"]}
    if target is None:
        if len(found) > 1:
            names = ", ".join(sorted(found))
            raise ValueError(f"several levels of theory: {names}; say which is the target: data.level=")
        return list(found)
    if target not in found:
        raise ValueError(f"no store holds level of theory {target!r}; found: {', '.join(sorted(found))}")
    return [target, *sorted(found - {target})]


def _entries(store: Store, split: str | None, splits: Mapping[str, str] | None) -> np.ndarray:
    """Entries of a split, as stored or as `splits` says by connectivity key."""
    if split is None:
        return np.arange(len(store))
    if splits is None:
        chosen = pc.equal(store.text("split"), split)
    else:
        chosen = pc.is_in(store.text("key"), pa.array([key for key, of in splits.items() if of == split], pa.string()))
    return np.flatnonzero(chosen.to_numpy())


class StoreDataset(Dataset[Item]):
    """Entries of several stores in one split; `batches.Batches` makes batches of them.

    Entries of all stores form one sequence, so a shuffled batch mixes all sources. An index is the number of an entry,
    or a `Pick` of some conformers of one: `collate` makes a batch of such items one by one, slower than `Batches`.

    What is kept in memory is bounded, whatever the stores' size: a few numbers an entry, and the part of the files read
    last.

    Args:
        stores: the stores.
        split: `train`, `val` or `test`, or None for all entries.
        levels: levels of theory; `levels[0]` is the target, the index of each is what a batch carries.
        sources: names the batch's source index counts in; None = those in the stores, sorted.
        splits: split by connectivity key instead of the stored ones, from `split.resolve_splits`.

    Attributes:
        refs: store number and entry number of each item, shape `(E, 2)`.
        counts: conformers of each item, shape `(E,)`.
        atoms: atoms of each item, shape `(E,)`.
        level: index of each item's level of theory, shape `(E,)`.
        source: index of each item's source, shape `(E,)`.
        scan: which items are a torsion drive, shape `(E,)`, bool.
        molecules: number of each item's molecule among the distinct ones, shape `(E,)`.

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
        own = [_entries(store, split, splits) for store in self.stores]
        refs = [np.stack([np.full_like(rows, s), rows], axis=1) for s, rows in enumerate(own)]
        self.refs = np.concatenate(refs).astype(np.int32)
        if not len(self.refs):
            raise ValueError(f"no entries in split {split!r} of {', '.join(s.name for s in stores)}")
        self.counts = self._of_each([store.lengths("energy") for store in self.stores])
        self.atoms = self._of_each([store.lengths("numbers") for store in self.stores])
        self.level = self._codes("level", self.levels)
        self.source = self._codes("source", self.sources)
        smiles = pa.chunked_array([chunk for store in self.stores for chunk in store.text("smiles").chunks])
        codes = smiles.dictionary_encode().combine_chunks().indices.to_numpy()
        bounds = np.cumsum([len(store) for store in self.stores])[:-1]
        _, self._first, self.molecules = np.unique(
            self._of_each(np.split(codes, bounds)), return_index=True, return_inverse=True
        )
        driven = Column.of(self.stores, "dihedral", self.refs)
        self.scan = np.zeros(len(self), dtype=bool) if driven is None else driven.known(np.arange(len(self)))
        self._read = _MAPPED  # text columns were read all through the files

    def __len__(self) -> int:
        return len(self.refs)

    def __getitem__(self, index: int | Pick) -> Item:
        if not isinstance(index, Pick):
            return self._item(index, int(self.counts[index]))
        return self._item(index.entry, len(index.conformers)).take(index.conformers)

    def keys(self) -> list[str]:
        """Connectivity key of each item."""
        rows = [self.refs[self.refs[:, 0] == s, 1] for s in range(len(self.stores))]
        found = [store.text("key").take(pa.array(own)) for store, own in zip(self.stores, rows, strict=True)]
        return [key for column in found for key in column.to_pylist()]

    def name_of(self, entry: int) -> str:
        """What messages call an item, `store: record id`; `Batch.entry` has its number."""
        s, i = self.refs[entry].tolist()
        return f"{self.stores[s].name}: {self.stores[s].text('id')[i].as_py()}"

    def molecule(self, index: int) -> Molecule:
        """The graph of an item, for messages and baselines."""
        s, i = self.refs[index].tolist()
        self.account(PAGES)
        return self.stores[s].molecule(i)

    def distinct(self) -> list[int]:
        """The first item of each distinct molecule, by its number in `molecules`."""
        return self._first.tolist()

    def _of_each(self, columns: Sequence[np.ndarray]) -> np.ndarray:
        """Values of all stores' entries, by store, → those of the items."""
        values = np.concatenate(columns)
        starts = np.cumsum([0, *(len(column) for column in columns)])
        return values[starts[self.refs[:, 0]] + self.refs[:, 1]]

    def _codes(self, name: str, listed: Sequence[str]) -> np.ndarray:
        """Index in `listed` of each item's value in a text column, shape `(E,)`."""
        values = pa.array(listed, pa.string())
        columns = [pc.index_in(store.text(name), values).fill_null(-1).to_numpy() for store in self.stores]
        codes = self._of_each(columns)
        if (codes < 0).any():
            s, i = self.refs[np.argmax(codes < 0)].tolist()
            found = self.stores[s].text(name)[i].as_py()
            raise ValueError(f"{self.stores[s].name}: {name} {found!r} is not listed; listed: {', '.join(listed)}")
        return codes.astype(np.int16)

    def _item(self, index: int, conformers: int) -> Item:
        """An entry's arrays as they lie in the file; `conformers`: how many of its geometries will be read."""
        s, i = self.refs[index].tolist()
        store = self.stores[s]
        self.account(conformers * int(self.atoms[index]) * 24 + PAGES)
        charge, lj = store.reference(i)
        xyz, energy, dipole = store.array(i, "xyz"), store.flat(i, "energy"), store.flat(i, "dipole")
        assert xyz is not None  # the schema forbids it
        assert energy is not None
        return Item(
            graph=featurized(store.molecule(i)),
            xyz=xyz,
            energy=energy,
            forces=store.array(i, "forces"),
            ref_charge=charge,
            ref_lj=lj,
            level=int(self.level[index]),
            source=int(self.source[index]),
            dipole=None if dipole is None else dipole.reshape(-1, 3),
            esp=store.potential(i),
            scan=bool(self.scan[index]),
            entry=int(index),
        )

    def account(self, nbytes: int) -> None:
        """Say that so much will be read now; the stores' files are taken out of memory once it was enough."""
        self._read += nbytes
        if self._read > _MAPPED:
            self._read = nbytes
            for store in self.stores:
                store.release()
