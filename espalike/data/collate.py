"""Records to batches: per-molecule arrays computed once, conformers sampled and masked, everything concatenated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.utils.data import Dataset

from espalike.data.split import check_leakage
from espalike.data.store import Store
from espalike.features import featurize
from espalike.topology import enumerate_tuples
from espalike.types import Batch, Kind, Molecule, Tuples


@dataclass(frozen=True, eq=False)
class Graph:
    """What a batch needs of one molecule, as arrays.

    Attributes:
        x: atom features, shape `(A, F)`, float32.
        numbers: atomic numbers, shape `(A,)`.
        edges: directed edges, both directions of each bond, shape `(2, E)`.
        net_charge: formal net charge [e].
        tuples: atom indices by kind, each `(T, k)`.
        is14: which pairs are exactly three bonds apart, shape `(T,)`.
    """

    x: np.ndarray
    numbers: np.ndarray
    edges: np.ndarray
    net_charge: int
    tuples: dict[Kind, np.ndarray]
    is14: np.ndarray


@dataclass(frozen=True, eq=False)
class Item:
    """One entry as the dataset hands it out: views into the store, nothing sampled yet.

    Attributes:
        graph: the molecule's arrays.
        xyz: coordinates [Å], shape `(C, A, 3)`.
        energy: energies [kcal/mol], shape `(C,)`, float64; NaN where unknown.
        forces: forces [kcal/mol/Å], shape `(C, A, 3)`, or None.
        ref_charge: reference charges [e], shape `(A,)`, or None.
        ref_lj: reference sigma [Å] and epsilon [kcal/mol], shape `(A, 2)`, or None.
        level: index of the level of theory, 0 = target.
        source: index of the source.
    """

    graph: Graph
    xyz: np.ndarray
    energy: np.ndarray
    forces: np.ndarray | None
    ref_charge: np.ndarray | None
    ref_lj: np.ndarray | None
    level: int
    source: int


def featurized(molecule: Molecule) -> Graph:
    """Features, edges and tuples of a molecule. Not cached here: `StoreDataset` keeps one per distinct molecule."""
    topology = enumerate_tuples(molecule.numbers, molecule.bonds, molecule.orders)
    tuples = {
        Kind.ATOM: np.arange(molecule.n_atoms, dtype=np.int64)[:, None],
        Kind.BOND: topology.bonds,
        Kind.ANGLE: topology.angles,
        Kind.PROPER: topology.propers,
        Kind.IMPROPER: topology.impropers,
        Kind.ANGLE_PAIR: topology.angle_pairs,
        Kind.PROPER_PAIR: topology.proper_pairs,
        Kind.PAIR: topology.pairs,
    }
    return Graph(
        x=featurize(molecule, topology),
        numbers=molecule.numbers,
        edges=np.concatenate([molecule.bonds, molecule.bonds[:, ::-1]]).T,
        net_charge=molecule.net_charge,
        tuples=tuples,
        is14=topology.is14,
    )


def _batch_of_graphs(graphs: Sequence[Graph], dtype: torch.dtype) -> dict:
    """Fields of a batch that need no coordinates."""
    if not graphs:
        raise ValueError("a batch needs at least one molecule")
    sizes = np.array([len(g.numbers) for g in graphs])
    offsets = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    index = np.arange(len(graphs))
    tuples = {}
    for kind in graphs[0].tuples:
        parts = [g.tuples[kind] for g in graphs]
        counts = [len(part) for part in parts]
        idx = np.concatenate(parts) + np.repeat(offsets, counts)[:, None]
        is14 = torch.from_numpy(np.concatenate([g.is14 for g in graphs])) if kind is Kind.PAIR else None
        tuples[kind] = Tuples(torch.from_numpy(idx), torch.from_numpy(np.repeat(index, counts)), is14)
    edges = np.concatenate([g.edges for g in graphs], axis=1)
    edges = edges + np.repeat(offsets, [g.edges.shape[1] for g in graphs])
    return {
        "x": torch.from_numpy(np.concatenate([g.x for g in graphs])).to(dtype),
        "numbers": torch.from_numpy(np.concatenate([g.numbers for g in graphs])),
        "edges": torch.from_numpy(np.ascontiguousarray(edges)),
        "mol": torch.from_numpy(np.repeat(index, sizes)),
        "net_charge": torch.tensor([g.net_charge for g in graphs], dtype=dtype),
        "tuples": tuples,
    }


def batch_of(molecules: Sequence[Molecule], dtype: torch.dtype = torch.float32) -> Batch:
    """Batch of molecules without coordinates, for parametrization.

    Raises:
        ValueError: when there are no molecules.
    """
    return Batch(**_batch_of_graphs([featurized(molecule) for molecule in molecules], dtype))


def _sample(n: int, k: int | None, rng: np.random.Generator) -> np.ndarray:
    """Indices of at most `k` of `n` conformers, none twice, ascending; all of them for None."""
    return np.arange(n) if k is None or n <= k else np.sort(rng.choice(n, size=k, replace=False))


def _per_atom(items: Sequence[Item], name: str, shape: tuple[int, ...]) -> np.ndarray:
    """A reference column of all items, NaN where an item has none."""
    parts = [getattr(item, name) for item in items]
    return np.concatenate(
        [
            np.full((len(item.graph.numbers), *shape), np.nan) if part is None else part
            for item, part in zip(items, parts, strict=True)
        ]
    )


def collate(
    items: Sequence[Item],
    *,
    conformers: int | None = None,
    rng: np.random.Generator | None = None,
    dtype: torch.dtype = torch.float32,
) -> Batch:
    """Batch of entries with at most `conformers` each, sampled without repetition; shorter entries are masked.

    Energies are relative to the entry's mean over the sampled conformers, subtracted in float64 before the cast. A
    masked slot holds the entry's first sampled geometry, so that whatever is computed there stays finite; its energy
    and forces are NaN.

    Args:
        items: entries of a `StoreDataset`.
        conformers: most conformers of an entry, None for all.
        rng: source of the sample; None draws a seed from torch's generator, so that torch's seed governs it, in
            workers of a DataLoader too.
        dtype: of all floating tensors.
    """
    if rng is None:
        rng = np.random.default_rng(int(torch.randint(2**31, (1,))))
    chosen = [_sample(len(item.energy), conformers, rng) for item in items]
    fields = _batch_of_graphs([item.graph for item in items], dtype)
    k, n, m = max(len(c) for c in chosen), len(fields["numbers"]), len(items)
    floating = torch.empty(0, dtype=dtype).numpy().dtype
    xyz = np.empty((k, n, 3), floating)
    forces = np.full((k, n, 3), np.nan, floating)
    energy = np.full((k, m), np.nan)
    mask = np.zeros((k, m), dtype=bool)
    start = 0
    for j, (item, pick) in enumerate(zip(items, chosen, strict=True)):
        c, stop = len(pick), start + len(item.graph.numbers)
        xyz[:c, start:stop] = item.xyz[pick]
        xyz[c:, start:stop] = item.xyz[pick[0]]
        if item.forces is not None:
            forces[:c, start:stop] = item.forces[pick]
        picked = item.energy[pick]
        energy[:c, j] = picked - picked.mean()
        mask[:c, j] = True
        start = stop
    return Batch(
        **fields,
        xyz=torch.from_numpy(xyz),
        energy=torch.from_numpy(energy).to(dtype),
        forces=torch.from_numpy(forces),
        mask=torch.from_numpy(mask),
        level=torch.tensor([item.level for item in items]),
        source=torch.tensor([item.source for item in items]),
        ref_charge=torch.from_numpy(_per_atom(items, "ref_charge", ())).to(dtype),
        ref_lj=torch.from_numpy(_per_atom(items, "ref_lj", (2,))).to(dtype),
    )


def levels_of(stores: Sequence[Store], target: str) -> list[str]:
    """Levels of theory in the stores, the target first.

    Raises:
        ValueError: when no store holds the target level, naming those there are.
    """
    found = {level for store in stores for level in store.manifest["levels"]}
    if target not in found:
        raise ValueError(f"no store holds level of theory {target!r}; found: {', '.join(sorted(found))}")
    return [target, *sorted(found - {target})]


def _entries(store: Store, split: str | None, splits: Mapping[str, str] | None) -> list[int]:
    """Entries of a split, as stored or as `splits` says by connectivity key."""
    if split is None or splits is None:
        return store.indices(split)
    return [i for i, key in enumerate(store.column("key")) if splits.get(key) == split]


class StoreDataset(Dataset):
    """Entries of several stores in one split, for a `DataLoader` with `collate` as its `collate_fn`.

    Entries of all stores form one sequence, so a shuffled batch mixes all sources.

    Args:
        stores: the stores.
        split: `train`, `val` or `test`, or None for all entries.
        levels: levels of theory; `levels[0]` is the target, the index of each is what a batch carries.
        sources: names the batch's source index counts in; None = those in the stores, sorted.
        splits: split by connectivity key instead of the stored ones, from `split.resolve_splits`.

    Attributes:
        refs: `(store number, entry number)` of each item.

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
        self.refs = [(s, i) for s, store in enumerate(self.stores) for i in _entries(store, split, splits)]
        if not self.refs:
            raise ValueError(f"no entries in split {split!r} of {', '.join(s.name for s in stores)}")
        self._columns = [{name: store.column(name) for name in ("level", "source", "smiles")} for store in stores]
        for name, listed in (("level", self.levels), ("source", self.sources)):
            for s, i in self.refs:
                if self._columns[s][name][i] not in listed:
                    found = self._columns[s][name][i]
                    raise ValueError(
                        f"{self.stores[s].name}: {name} {found!r} is not listed; listed: {', '.join(listed)}"
                    )
        self._graphs: dict[str, Graph] = {}
        self._items: dict[int, Item] = {}

    def __len__(self) -> int:
        return len(self.refs)

    def __getitem__(self, index: int) -> Item:
        if index not in self._items:
            self._items[index] = self._item(*self.refs[index])
        return self._items[index]

    def keys(self) -> list[str]:
        """Connectivity key of each item."""
        columns = [store.column("key") for store in self.stores]
        return [columns[s][i] for s, i in self.refs]

    def molecule(self, index: int) -> Molecule:
        """The graph of an item, for messages and baselines."""
        s, i = self.refs[index]
        return self.stores[s].molecule(i)

    def _item(self, s: int, i: int) -> Item:
        store, columns = self.stores[s], self._columns[s]
        smiles = columns["smiles"][i]
        if smiles not in self._graphs:
            self._graphs[smiles] = featurized(store.molecule(i))
        charge, lj = store.reference(i)
        xyz, energy = store.array(i, "xyz"), store.flat(i, "energy")
        assert xyz is not None  # the schema forbids it
        assert energy is not None
        return Item(
            graph=self._graphs[smiles],
            xyz=xyz,
            energy=energy,
            forces=store.array(i, "forces"),
            ref_charge=charge,
            ref_lj=lj,
            level=self.levels.index(columns["level"][i]),
            source=self.sources.index(columns["source"][i]),
        )
