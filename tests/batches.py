"""Batches built plainly, entry by entry: what `espalike.data.batches.Batches` must equal, and what tests train on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

from espalike.batch import Batch, EspPoints, Graph, LabelledBatch, featurized, joined
from espalike.chem.conformers import EspGrid
from espalike.chem.molecule import Molecule
from espalike.data.dataset import StoreDataset
from espalike.data.sampler import Picks
from espalike.data.schema import KINDS

_GRAPHS: dict[str, Graph] = {}


def graph_of(molecule: Molecule) -> Graph:
    """The graph of a molecule, made once."""
    if molecule.smiles not in _GRAPHS:  # mapped SMILES, which say all of a molecule
        _GRAPHS[molecule.smiles] = featurized(molecule)
    return _GRAPHS[molecule.smiles]


@dataclass(frozen=True, eq=False)
class Item:
    """One entry, or some conformers of one; labels as in `Record`, level and source as in `LabelledBatch`."""

    graph: Graph
    xyz: np.ndarray
    energy: np.ndarray
    forces: np.ndarray | None = None
    ref_charge: np.ndarray | None = None
    ref_lj: np.ndarray | None = None
    level: int = 0
    source: int = 0
    dipole: np.ndarray | None = None
    esp: EspGrid | None = None
    scan: bool = False
    kind: int = -1
    entry: int = -1
    interaction: np.ndarray | None = None
    sapt: np.ndarray | None = None
    lowest: float | None = None  # energy of the whole entry; None: that of the item


class Pick(NamedTuple):
    """An entry of a `StoreDataset` and some of its conformers, ascending, shape `(C,)`."""

    entry: int
    conformers: np.ndarray


def picks_of(picks: Sequence[Pick]) -> Picks:
    """Several picks as one `Picks`."""
    counts = np.array([len(pick.conformers) for pick in picks])
    return Picks(np.array([pick.entry for pick in picks]), counts, np.concatenate([p.conformers for p in picks]))


def each(picks: Picks) -> Iterator[Pick]:
    """One `Pick` per entry."""
    for entry, chosen in zip(picks.entries, np.split(picks.conformers, np.cumsum(picks.counts)[:-1]), strict=True):
        yield Pick(int(entry), chosen)


def item_of(dataset: StoreDataset, entry: int, conformers: np.ndarray | None = None) -> Item:
    """An entry of a data set, or some of its conformers, from its record."""
    record = dataset.record(entry)
    conf = record.conformers
    if conformers is not None:
        chosen = np.zeros(len(conf.xyz), dtype=bool)
        chosen[conformers] = True
        conf = conf.take(chosen)
    return Item(
        graph=graph_of(record.molecule),
        xyz=conf.xyz,
        energy=conf.energy,
        forces=conf.forces,
        ref_charge=record.ref_charge,
        ref_lj=record.ref_lj,
        level=0 if conf.interaction is not None else dataset.levels.index(conf.level),
        source=dataset.sources.index(conf.source),
        dipole=conf.dipole,
        esp=conf.esp,
        scan=record.dihedral is not None,
        kind=KINDS.index(kind) if (kind := record.kind or ("scan" if record.dihedral is not None else "")) else -1,
        entry=entry,
        interaction=conf.interaction,
        sapt=conf.sapt,
        lowest=float(record.conformers.energy.min()),
    )


def expected(dataset: StoreDataset, picks: Sequence[Pick], dtype: torch.dtype = torch.float32) -> LabelledBatch:
    """The batch that `Batches` must give for some picks."""
    return collate([item_of(dataset, *pick) for pick in picks], dtype)


def whole(dataset: StoreDataset, dtype: torch.dtype = torch.float32) -> LabelledBatch:
    """All conformers of all entries of a data set in one batch."""
    return collate([item_of(dataset, i) for i in range(len(dataset))], dtype)


def collate(items: Sequence[Item], dtype: torch.dtype = torch.float32) -> LabelledBatch:
    """All conformers of all items; energies are centred in float64 before the cast, masked slots repeat the first."""
    fields = joined([item.graph for item in items], dtype)
    k, n, m = max(len(item.energy) for item in items), len(fields["numbers"]), len(items)
    xyz, forces = np.empty((k, n, 3)), np.full((k, n, 3), np.nan)
    energy, above, dipole = np.full((k, m), np.nan), np.full((k, m), np.nan), np.full((k, m, 3), np.nan)
    mask = np.zeros((k, m), dtype=bool)
    start = 0
    for j, item in enumerate(items):
        c, stop = len(item.energy), start + len(item.graph.numbers)
        xyz[:c, start:stop], xyz[c:, start:stop] = item.xyz, item.xyz[0]
        if item.forces is not None:
            forces[:c, start:stop] = item.forces
        if item.dipole is not None:
            dipole[:c, j] = item.dipole
        relative = item.energy - item.energy[0]
        energy[:c, j], mask[:c, j] = relative - relative.sum() / c, True
        above[:c, j] = item.energy - (item.energy.min() if item.lowest is None else item.lowest)
        start = stop

    def tensor(values: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(values).to(dtype)

    def per_atom(name: str, shape: tuple[int, ...]) -> torch.Tensor:
        parts = [(getattr(item, name), (len(item.graph.numbers), *shape)) for item in items]
        return tensor(np.concatenate([np.full(size, np.nan) if part is None else part for part, size in parts]))

    return LabelledBatch(
        **fields,
        level=torch.tensor([item.level for item in items]),
        xyz=tensor(xyz),
        energy=tensor(energy),
        forces=tensor(forces),
        mask=torch.from_numpy(mask),
        source=torch.tensor([item.source for item in items]),
        ref_charge=per_atom("ref_charge", ()),
        ref_lj=per_atom("ref_lj", (2,)),
        scan=torch.tensor([item.scan for item in items]),
        kind=torch.tensor([item.kind for item in items]),
        entry=torch.tensor([item.entry for item in items]),
        dipole=tensor(dipole) if any(item.dipole is not None for item in items) else None,
        esp=_potentials(items, tensor),
        interaction=_of_complexes("interaction", items, (k, m), tensor),
        sapt=_of_complexes("sapt", items, (k, m, 4), tensor),
        above=tensor(above),
    )


def _of_complexes(name: str, items: Sequence[Item], shape: tuple[int, ...], tensor) -> torch.Tensor | None:
    values = np.full(shape, np.nan)
    for j, item in enumerate(items):
        if getattr(item, name) is not None:
            values[: len(item.energy), j] = getattr(item, name)
    return tensor(values) if any(getattr(item, name) is not None for item in items) else None


def _potentials(items: Sequence[Item], tensor) -> EspPoints | None:
    known = [(m, item.esp) for m, item in enumerate(items) if item.esp is not None and item.esp.count.any()]
    if not known:
        return None
    return EspPoints(
        points=tensor(np.concatenate([esp.points for _, esp in known])),
        values=tensor(np.concatenate([esp.values for _, esp in known])),
        conformer=torch.from_numpy(np.concatenate([np.repeat(np.arange(len(e.count)), e.count) for _, e in known])),
        mol=torch.from_numpy(np.repeat([m for m, _ in known], [e.count.sum() for _, e in known])),
    )


def labelled(batch: Batch, **labels: torch.Tensor) -> LabelledBatch:
    """A batch with some labels: one masked conformer with all other labels unknown."""
    n, m = len(batch.numbers), batch.n_mols
    unknown = {name: torch.full(shape, torch.nan, dtype=batch.x.dtype) for name, shape in {
        "energy": (1, m), "forces": (1, n, 3), "ref_charge": (n,), "ref_lj": (n, 2),
    }.items()}  # fmt: skip
    rest = {"xyz": torch.zeros(1, n, 3, dtype=batch.x.dtype), "mask": torch.zeros(1, m, dtype=torch.bool)}
    rest |= {"source": torch.zeros(m, dtype=torch.int64), "scan": torch.zeros(m, dtype=torch.bool)}
    rest |= {"entry": torch.full((m,), -1), "kind": torch.full((m,), -1)}
    return LabelledBatch(**vars(batch), **{**unknown, **rest, **labels})
