"""Items to batches: conformers sampled and masked, energies centred, everything concatenated."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from espalike.batch import Batch, EspPoints, joined
from espalike.data.dataset import Item


def _sampled(item: Item, k: int | None, rng: np.random.Generator) -> Item:
    """The item with at most `k` of its conformers, none twice, in their order; all of them for None."""
    n = len(item.energy)
    return item if k is None or n <= k else item.take(np.sort(rng.choice(n, size=k, replace=False)))


def _per_atom(items: Sequence[Item], name: str, shape: tuple[int, ...]) -> np.ndarray:
    """A reference column of all items, NaN where an item has none."""
    parts = [getattr(item, name) for item in items]
    return np.concatenate(
        [
            np.full((len(item.graph.numbers), *shape), np.nan) if part is None else part
            for item, part in zip(items, parts, strict=True)
        ]
    )


def relative(energy: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Energies relative to each molecule's mean over what the mask marks, NaN elsewhere; both are `(K, M)`, float64."""
    shift = energy - energy[0]  # differences are exact, so that the mean is one of small numbers
    return np.where(mask, shift - np.where(mask, shift, 0.0).sum(0) / mask.sum(0), np.nan)


def _potentials(items: Sequence[Item], dtype: torch.dtype) -> EspPoints | None:
    """Electrostatic potentials of all items one after the other, or None where no item has any."""
    known = [(m, item.esp) for m, item in enumerate(items) if item.esp is not None and item.esp.count.any()]
    if not known:
        return None
    return EspPoints(
        points=torch.from_numpy(np.concatenate([esp.points for _, esp in known])).to(dtype),
        values=torch.from_numpy(np.concatenate([esp.values for _, esp in known])).to(dtype),
        conformer=torch.from_numpy(np.concatenate([np.repeat(np.arange(len(e.count)), e.count) for _, e in known])),
        mol=torch.from_numpy(np.repeat([m for m, _ in known], [e.count.sum() for _, e in known])),
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
    and forces are NaN, as is its dipole moment.

    Args:
        items: entries of a `StoreDataset`, or parts of entries.
        conformers: most conformers of an entry, None for all.
        rng: source of the sample; None draws a seed from torch's generator, so that torch's seed governs it, in
            workers of a DataLoader too.
        dtype: of all floating tensors.
    """
    if rng is None:
        rng = np.random.default_rng(int(torch.randint(2**31, (1,))))
    items = [_sampled(item, conformers, rng) for item in items]
    fields = joined([item.graph for item in items], dtype)
    k, n, m = max(len(item.energy) for item in items), len(fields["numbers"]), len(items)
    floating = torch.empty(0, dtype=dtype).numpy().dtype
    xyz = np.empty((k, n, 3), floating)
    forces = np.full((k, n, 3), np.nan, floating)
    energy, dipole = np.full((k, m), np.nan), np.full((k, m, 3), np.nan)
    mask = np.zeros((k, m), dtype=bool)
    start = 0
    for j, item in enumerate(items):
        c, stop = len(item.energy), start + len(item.graph.numbers)
        xyz[:c, start:stop] = item.xyz
        xyz[c:, start:stop] = item.xyz[0]
        if item.forces is not None:
            forces[:c, start:stop] = item.forces
        if item.dipole is not None:
            dipole[:c, j] = item.dipole
        energy[:c, j] = item.energy
        mask[:c, j] = True
        start = stop
    return Batch(
        **fields,
        xyz=torch.from_numpy(xyz),
        energy=torch.from_numpy(relative(energy, mask)).to(dtype),
        forces=torch.from_numpy(forces),
        mask=torch.from_numpy(mask),
        level=torch.tensor([item.level for item in items]),
        source=torch.tensor([item.source for item in items]),
        ref_charge=torch.from_numpy(_per_atom(items, "ref_charge", ())).to(dtype),
        ref_lj=torch.from_numpy(_per_atom(items, "ref_lj", (2,))).to(dtype),
        dipole=torch.from_numpy(dipole).to(dtype) if any(item.dipole is not None for item in items) else None,
        esp=_potentials(items, dtype),
        scan=torch.tensor([item.scan for item in items]),
        entry=torch.tensor([item.entry for item in items]),
    )
