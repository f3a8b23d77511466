"""Tuples of atoms and their kinds, and the base class of the dataclasses of tensors."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Self

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
    """

    idx: torch.Tensor
    mol: torch.Tensor
    is14: torch.Tensor | None = None
