"""Tuples of atoms and their kinds, and the base class of the dataclasses of tensors."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from typing import TYPE_CHECKING, Self

import numpy as np

if TYPE_CHECKING:
    import torch


class Kind(Enum):
    """Kind of a tuple of atoms; the value is its name in tables and files."""

    ATOM = "atom"
    BOND = "bond"
    ANGLE = "angle"
    PROPER = "proper"
    IMPROPER = "improper"  # centre second: (outer, centre, outer, outer), SMIRNOFF's order
    ANGLE_PAIR = "angle-angle"  # (a, centre, shared, b): the angles a-centre-shared and shared-centre-b
    PROPER_PAIR = "torsion-torsion"  # (i, j, k, l, m): the torsions i-j-k-l and j-k-l-m
    PAIR = "pair"  # nonbonded pairs three (1-4) or more bonds apart

    @property
    def size(self) -> int:
        """Atoms in a tuple."""
        return _SIZES[self]


_SIZES = {
    Kind.ATOM: 1, Kind.BOND: 2, Kind.ANGLE: 3, Kind.PROPER: 4, Kind.IMPROPER: 4, Kind.ANGLE_PAIR: 4,
    Kind.PROPER_PAIR: 5, Kind.PAIR: 2,
}  # fmt: skip


def _move(value, device, dtype):
    import torch  # here, so that an ingest need not import it

    if isinstance(value, torch.Tensor):
        return value.to(device=device, dtype=dtype if value.is_floating_point() else None)
    if isinstance(value, Moves):
        return value.to(device, dtype)
    if isinstance(value, dict):
        return {key: _move(item, device, dtype) for key, item in value.items()}
    if isinstance(value, tuple):
        return tuple(_move(item, device, dtype) for item in value)
    return value


class Moves:
    """Mixin: field-wise `.to(device, dtype)`; `dtype` applies to floating tensors only."""

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Self:
        """A copy with every tensor moved, of all fields of the dataclass."""
        return type(self)(**{f.name: _move(getattr(self, f.name), device, dtype) for f in dataclasses.fields(self)})  # type: ignore[arg-type]


@dataclass(frozen=True, eq=False)
class Tuples(Moves):
    """Tuples of one kind in a batch, each physical tuple once.

    Attributes:
        idx: atom indices into the batch, shape `(T, k)`, int64.
        mol: molecule index of each tuple, shape `(T,)`, int64.
        is14: for pairs, whether the atoms are exactly three bonds apart, shape `(T,)`, bool; else None.
        across: for pairs, whether the atoms are in different components of a complex, shape `(T,)`, bool; None: no.
    """

    idx: torch.Tensor
    mol: torch.Tensor
    is14: torch.Tensor | None = None
    across: torch.Tensor | None = None

    def __len__(self) -> int:
        return len(self.idx)

    def with_across(self, component: torch.Tensor) -> Tuples:
        """Pairs that know which of them are between components.

        Args:
            component: connected component of each atom, shape `(N,)`.
        """
        first, second = component[self.idx].unbind(-1)
        return Tuples(self.idx, self.mol, self.is14, first != second)


def list_pairs(sizes: np.ndarray, excluded: np.ndarray, pairs14: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """All pairs of atoms of the same molecule but the excluded ones, one molecule after the other, sorted.

    Their number grows with the square of the number of atoms.

    Args:
        sizes: number of atoms of each molecule, shape `(M,)`.
        excluded: pairs that are left out, rows sorted, shape `(P, 2)`.
        pairs14: pairs three bonds apart, rows sorted, shape `(Q, 2)`.

    Returns:
        The pairs `(T, 2)`, int64, and which of them are three bonds apart `(T,)`, bool.
    """
    idx, is14, start = [np.zeros((0, 2), np.int64)], [np.zeros(0, bool)], 0
    for n in sizes.tolist():
        kept, flags = np.ones(n * (n - 1) // 2, dtype=bool), np.zeros(n * (n - 1) // 2, dtype=bool)
        for pairs, marked, value in ((excluded, kept, False), (pairs14, flags, True)):
            low, high = np.searchsorted(pairs[:, 0], [start, start + n])
            i, j = (pairs[low:high] - start).T
            marked[i * (2 * n - i - 1) // 2 + j - i - 1] = value  # place among the pairs in order
        first, second = np.triu_indices(n, k=1)
        idx.append(np.stack([first[kept], second[kept]], axis=1) + start)
        is14.append(flags[kept])
        start += n
    return np.concatenate(idx), np.concatenate(is14)


class Pairs(Tuples):
    """All pairs of atoms of the same molecule but those one or two bonds apart, listed only when they are asked for.

    Args:
        excluded: pairs one or two bonds apart, smaller index first, rows sorted, shape `(P, 2)`, int64.
        pairs14: pairs exactly three bonds apart, smaller index first, rows sorted, shape `(Q, 2)`, int64.
        atom_mol: molecule of each atom, ascending, shape `(N,)`, int64.
    """

    def __init__(self, excluded: torch.Tensor, pairs14: torch.Tensor, atom_mol: torch.Tensor):
        vars(self).update(excluded=excluded, pairs14=pairs14, atom_mol=atom_mol)

    excluded: torch.Tensor
    pairs14: torch.Tensor
    atom_mol: torch.Tensor

    def __len__(self) -> int:
        sizes = np.bincount(self.atom_mol.cpu().numpy())
        return int((sizes * (sizes - 1)).sum()) // 2 - len(self.excluded)

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Pairs:
        """A copy with every tensor moved."""
        return Pairs(*(_move(part, device, dtype) for part in (self.excluded, self.pairs14, self.atom_mol)))

    @cached_property
    def _listed(self) -> tuple[torch.Tensor, torch.Tensor]:
        import torch

        sizes, *near = (part.cpu().numpy() for part in (self.atom_mol.bincount(), self.excluded, self.pairs14))
        idx, is14 = (torch.from_numpy(array).to(self.atom_mol.device) for array in list_pairs(sizes, *near))
        return idx, is14

    @property
    def idx(self) -> torch.Tensor:  # type: ignore[override] # the field of a frozen dataclass
        """Shape `(T, 2)`, where T grows with the square of the number of atoms."""
        return self._listed[0]

    @property
    def is14(self) -> torch.Tensor:  # type: ignore[override]
        """Shape `(T,)`, bool."""
        return self._listed[1]

    @cached_property
    def mol(self) -> torch.Tensor:  # type: ignore[override]
        """Shape `(T,)`."""
        return self.atom_mol[self.idx[:, 0]]
