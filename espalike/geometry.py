"""Internal coordinates and their Wilson B rows (∂q/∂x) in closed form, finite at singular geometries.

Reference: E. B. Wilson, J. C. Decius, P. C. Cross, Molecular Vibrations (1955), ch. 4. The dihedral's
sign is IUPAC's (and OpenMM's). Where a direction is undefined (coincident or collinear atoms) the row is finite.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

_TINY = 1e-6
"""Smallest length [Å] or cross product [Å²] divided by; below it B rows go smoothly to zero instead of to infinity."""


def _norm(v: Tensor) -> Tensor:
    return torch.linalg.vector_norm(v, dim=-1)


def _inverse_square(length: Tensor) -> Tensor:
    return 1.0 / (length * length).clamp_min(_TINY * _TINY)


@dataclass(frozen=True)
class Distance:
    """Distance [Å] between two atoms of a tuple."""

    i: int
    j: int

    @property
    def atoms(self) -> tuple[int, ...]:
        """Positions in the tuple, in the order of the B rows."""
        return (self.i, self.j)

    def __call__(self, xyz: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Value, shape `(K, T)`, and one B row an atom, each `(K, T, 3)`, from one `(K, T, 3)` an atom."""
        d = xyz[0] - xyz[1]
        r = _norm(d)
        row = d / r.clamp_min(_TINY).unsqueeze(-1)
        return r, (row, -row)


@dataclass(frozen=True)
class Angle:
    """Angle [rad] i–j–k at the middle atom, in [0, π]; accurate at 0 and π (atan2 form)."""

    i: int
    j: int
    k: int

    @property
    def atoms(self) -> tuple[int, ...]:
        """Positions in the tuple, in the order of the B rows."""
        return (self.i, self.j, self.k)

    def __call__(self, xyz: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Value and B rows, shapes as in `Distance`; at exactly 0 or π the rows are zero."""
        u, v = xyz[0] - xyz[1], xyz[2] - xyz[1]
        normal = torch.linalg.cross(u, v)
        size = _norm(normal)
        theta = torch.atan2(size, (u * v).sum(-1))
        normal = normal / size.clamp_min(_TINY).unsqueeze(-1)
        bi = torch.linalg.cross(u, normal) * _inverse_square(_norm(u)).unsqueeze(-1)
        bk = torch.linalg.cross(normal, v) * _inverse_square(_norm(v)).unsqueeze(-1)
        return theta, (bi, -(bi + bk), bk)


@dataclass(frozen=True)
class Dihedral:
    """Dihedral angle [rad] i–j–k–l in (−π, π], IUPAC sign."""

    i: int
    j: int
    k: int
    l: int  # noqa: E741 - the field's letter

    @property
    def atoms(self) -> tuple[int, ...]:
        """Positions in the tuple, in the order of the B rows."""
        return (self.i, self.j, self.k, self.l)

    def __call__(self, xyz: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Value and B rows, shapes as in `Distance`; rows vanish where three atoms are collinear.

        B rows after A. Blondel, M. Karplus, J. Comput. Chem. 17 (1996) 1132.
        """
        f, g, h = xyz[0] - xyz[1], xyz[1] - xyz[2], xyz[3] - xyz[2]
        a, b = torch.linalg.cross(f, g), torch.linalg.cross(h, g)
        g_size = _norm(g).clamp_min(_TINY)
        phi = torch.atan2((torch.linalg.cross(b, a) * g).sum(-1) / g_size, (a * b).sum(-1))
        a = a * _inverse_square(_norm(a)).unsqueeze(-1)
        b = b * _inverse_square(_norm(b)).unsqueeze(-1)
        bi, bl = -g_size.unsqueeze(-1) * a, g_size.unsqueeze(-1) * b
        s = ((f * g).sum(-1) / g_size).unsqueeze(-1) * a - ((h * g).sum(-1) / g_size).unsqueeze(-1) * b
        return phi, (bi, s - bi, -s - bl, bl)


Coordinate = Distance | Angle | Dihedral
