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


def _dot(a: Tensor, b: Tensor, dim: int) -> Tensor:
    return (a * b).sum(dim)


def _norm(v: Tensor, dim: int) -> Tensor:
    return _dot(v, v, dim).sqrt()


def _cross(a: Tensor, b: Tensor, dim: int) -> Tensor:
    """Cross product; by components, which is several times faster than `torch.linalg.cross` on a CPU."""
    (ax, ay, az), (bx, by, bz) = a.unbind(dim), b.unbind(dim)
    return torch.stack([ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx], dim)


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

    def __call__(self, xyz: tuple[Tensor, ...], dim: int = -1) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Value and B rows.

        Args:
            xyz: positions [Å] of each atom, e.g. each of shape `(K, T, 3)`.
            dim: axis of the three components.

        Returns:
            Values [Å], e.g. `(K, T)`, and one B row per atom, each of the shape of its positions.
        """
        d = xyz[0] - xyz[1]
        r = _norm(d, dim)
        row = d / r.clamp_min(_TINY).unsqueeze(dim)
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

    def __call__(self, xyz: tuple[Tensor, ...], dim: int = -1) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Value [rad] and B rows; see `Distance`. At exactly 0 or π the rows are zero."""
        u, v = xyz[0] - xyz[1], xyz[2] - xyz[1]
        normal = _cross(u, v, dim)
        size = _norm(normal, dim)
        theta = torch.atan2(size, _dot(u, v, dim))
        normal = normal / size.clamp_min(_TINY).unsqueeze(dim)
        bi = _cross(u, normal, dim) * _inverse_square(_norm(u, dim)).unsqueeze(dim)
        bk = _cross(normal, v, dim) * _inverse_square(_norm(v, dim)).unsqueeze(dim)
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

    def __call__(self, xyz: tuple[Tensor, ...], dim: int = -1) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Value [rad] and B rows; see `Distance`. Rows vanish where three atoms are collinear.

        B rows after A. Blondel, M. Karplus, J. Comput. Chem. 17 (1996) 1132.
        """
        f, g, h = xyz[0] - xyz[1], xyz[1] - xyz[2], xyz[3] - xyz[2]
        a, b = _cross(f, g, dim), _cross(h, g, dim)
        g_size = _norm(g, dim).clamp_min(_TINY)
        phi = torch.atan2(_dot(_cross(b, a, dim), g, dim) / g_size, _dot(a, b, dim))
        a = a * _inverse_square(_norm(a, dim)).unsqueeze(dim)
        b = b * _inverse_square(_norm(b, dim)).unsqueeze(dim)
        bi, bl = -g_size.unsqueeze(dim) * a, g_size.unsqueeze(dim) * b
        s = (_dot(f, g, dim) / g_size).unsqueeze(dim) * a - (_dot(h, g, dim) / g_size).unsqueeze(dim) * b
        return phi, (bi, s - bi, -s - bl, bl)


Coordinate = Distance | Angle | Dihedral
