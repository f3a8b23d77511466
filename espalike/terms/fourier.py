"""Primitives with cosines of multiples of a dihedral: torsions, and couplings of class II."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from espalike.terms.primitives import Primitive, Slopes, Value


@functools.cache
def chebyshev(n: tuple[int, ...]) -> Tensor:
    """cos nφ, for each of `n`, as polynomials of cos φ: coefficients of cosᵐφ by row, shape `(len(n), max(n) + 1)`."""
    rows = [[1.0], [0.0, 1.0]]
    while len(rows) <= max(n):
        twice, before = [0.0, *(2.0 * c for c in rows[-1])], rows[-2]
        rows.append([a - b for a, b in zip(twice, [*before, 0.0, 0.0], strict=True)])
    padded = [rows[m] + [0.0] * (max(n) + 1 - len(rows[m])) for m in n]
    return torch.tensor(padded, dtype=torch.float64, device="cpu")


class CosinePolynomial(torch.autograd.Function):
    """Σₘ aₘ cosᵐφ and its derivative by φ, with the derivatives of both by the coefficients written out.

    Coefficients `(T, m)`, angles `(T, K)`. Autograd would keep every power and every product.
    """

    @staticmethod
    def forward(ctx, phi: Tensor, a: Tensor) -> tuple[Tensor, Tensor]:
        """Horner's scheme for the polynomial and for its derivative."""
        c, s = torch.cos(phi), torch.sin(phi)
        ctx.save_for_backward(c, s)
        ctx.terms = a.shape[1]
        columns = a.unsqueeze(1).unbind(-1)
        value, slope = columns[-1].expand_as(c), torch.zeros_like(c)
        for column in columns[-2::-1]:
            slope = torch.addcmul(value, slope, c)
            value = torch.addcmul(column, value, c)
        return value, -slope * s

    @staticmethod
    @once_differentiable
    def backward(ctx, of_value: Tensor, of_slope: Tensor):
        """Derivatives by the coefficients only: sums over conformers of a loss's derivative times a power of cos φ."""
        c, s = ctx.saved_tensors
        first, second = of_value, -of_slope * s
        slopes = [first.sum(-1)]
        for m in range(1, ctx.terms):
            slopes.append(m * second.sum(-1))
            first, second = first * c, second * c
            slopes[-1] = slopes[-1] + first.sum(-1)
        return None, torch.stack(slopes, -1)


def cosines(phi: Tensor, n: Sequence[int]) -> list[Tensor]:
    """cos nφ for each of `n`, by the Chebyshev recurrence from one cosine."""
    c = torch.cos(phi)
    multiples = [torch.ones_like(c), c]
    while len(multiples) <= max(n):
        multiples.append(2.0 * c * multiples[-1] - multiples[-2])
    return [multiples[m] for m in n]


@dataclass(frozen=True, eq=False)
class Fourier(Primitive):
    """Σⱼ kⱼ ⟨1 + cos(nⱼφ − δⱼ)⟩ + constant; ⟨…⟩ is the mean over the dihedrals `q`, three for an improper.

    Attributes:
        q: positions of the dihedrals.
        n: periodicities.
        phase: phases δ [rad]; 0.0 or π as plain numbers are the fastest.
        k: amplitudes [kcal/mol], of either sign.
        constant: a constant [kcal/mol], or None.
    """

    q: tuple[int, ...]
    n: tuple[int, ...]
    phase: tuple[Value, ...]
    k: tuple[Tensor, ...]
    constant: Tensor | None = None

    @property
    def is_even(self) -> bool:
        """Whether it is a series of cosines of one dihedral."""
        return len(self.q) == 1 and all(isinstance(phase, float) and phase == 0.0 for phase in self.phase)

    @property
    def expression(self) -> str:
        """Energy [kcal/mol] in OpenMM's syntax."""
        waves = []
        for j, n in enumerate(self.n, 1):
            total = "+".join(f"cos({n}*{q}-phase{j})" for q in self.names)
            waves.append(f"k{j}/{len(self.q)}*({len(self.q)}+{total})")
        return "+".join([*waves, *(["constant"] if self.constant is not None else [])])

    def energy(self, q: tuple[Tensor, ...]) -> Tensor:
        """Energies [kcal/mol]."""
        if not self.is_even:
            return self._waves(q)[0]
        total: Value = 0.0 if self.constant is None else self.constant
        for k, cosine in zip(self.k, cosines(q[0], self.n), strict=True):
            total = total + k * (1.0 + cosine)
        return _tensor(total, q[0])

    def slopes(self, q: tuple[Tensor, ...]) -> Slopes:
        """Energies and slopes; a series of cosines as one polynomial in cos φ."""
        if not self.is_even:
            return self._waves(q)
        constant = torch.stack(self.k).sum(0)
        if self.constant is not None:
            constant = constant + self.constant
        k = torch.cat([constant, *self.k], -1)
        u, slope = CosinePolynomial.apply(q[0], k @ chebyshev((0, *self.n)).to(k))
        return u, (slope,)

    def _waves(self, q: tuple[Tensor, ...]) -> Slopes:
        size, u = len(q), self.constant
        slopes: list[Tensor] = []
        for n, phase, k in zip(self.n, self.phase, self.k, strict=True):
            waves = [_wave(n, phi, phase) for phi in q]
            total: Value = float(size)
            for cosine, _ in waves:
                total = total + cosine
            part = k / size * total
            u = part if u is None else u + part
            parts = [-(n / size) * k * sine for _, sine in waves]
            slopes = [a + b for a, b in zip(slopes, parts, strict=True)] if slopes else parts
        return _tensor(u, q[0]), tuple(slopes)


def _tensor(value: Value | None, like: Tensor) -> Tensor:
    """A value as a tensor where the others are; `torch.as_tensor` moves tensors to torch's default device."""
    return value if isinstance(value, Tensor) else like.new_tensor(value)


def _wave(n: int, phi: Tensor, phase: Value) -> tuple[Tensor, Tensor]:
    """Cosine and sine of nφ − δ; a phase of 0 or π costs no operation and no rounding."""
    if isinstance(phase, float) and phase == 0.0:
        return torch.cos(n * phi), torch.sin(n * phi)
    if isinstance(phase, float) and phase == math.pi:
        return -torch.cos(n * phi), -torch.sin(n * phi)
    return torch.cos(n * phi - phase), torch.sin(n * phi - phase)


@dataclass(frozen=True, eq=False)
class Coupling(Primitive):
    """k Πᵢ (qᵢ − qᵢ₀), or Πᵢ (qᵢ − qᵢ₀) Σⱼ kⱼ cos nⱼφ: the couplings of class II force fields.

    Attributes:
        q: positions of the coordinates of the product.
        q0: their equilibrium values.
        k: coupling constants: one, or one per periodicity.
        phi: position of the dihedral of the cosine series, or None.
        n: periodicities of the series.
    """

    q: tuple[int, ...]
    q0: tuple[Value, ...]
    k: tuple[Tensor, ...]
    phi: int | None = None
    n: tuple[int, ...] = ()

    @property
    def indices(self) -> tuple[int, ...]:
        """Positions of its coordinates among `Term.coordinates`: those of the product, then the dihedral."""
        return self.q if self.phi is None else (*self.q, self.phi)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of its coordinates in `expression`."""
        return super().names if self.phi is None else (*super().names, "phi")

    @property
    def expression(self) -> str:
        """Energy [kcal/mol] in OpenMM's syntax."""
        series = "+".join(f"k{j}*cos({n}*phi)" for j, n in enumerate(self.n, 1))
        return f"k1*{self._product}" if self.phi is None else f"{self._product}*({series})"

    @property
    def _product(self) -> str:
        return "*".join(f"(q{i}-q0{i})" for i in range(1, len(self.q) + 1))

    def by_power(self) -> dict[int, Tensor]:
        """The coefficient of each power of cos φ; without a dihedral, of the power 0.

        The mean of a series over a turn is zero, so that its constant follows from the other coefficients.
        """
        if self.phi is None:
            return {0: self.k[0]}
        of_n = chebyshev(self.n).to(self.k[0])
        powers = torch.stack(self.k, -1) @ of_n
        return {m: powers[..., m] for m in range(1, of_n.shape[1]) if of_n[:, m].any()}

    def energy(self, q: tuple[Tensor, ...]) -> Tensor:
        """Energies [kcal/mol]."""
        u: Tensor | None = None
        if self.phi is None:
            u = self.k[0]
        else:
            for k, cosine in zip(self.k, cosines(q[-1], self.n), strict=True):
                u = k * cosine if u is None else u + k * cosine
        assert u is not None
        for x, x0 in zip(q, self.q0, strict=False):
            u = u * (x - x0)
        return u

    def slopes(self, q: tuple[Tensor, ...]) -> Slopes:
        """Energies and slopes."""
        d = [x - x0 for x, x0 in zip(q, self.q0, strict=False)]
        product = math.prod(d[1:], start=d[0])
        last: list[Tensor] = []
        if self.phi is None:
            series = self.k[0]
        else:
            k = torch.cat(self.k, -1)
            series, slope = CosinePolynomial.apply(q[-1], k @ chebyshev(self.n).to(k))
            last = [slope * product]
        slopes = tuple(math.prod(d[:i] + d[i + 1 :], start=series) for i in range(len(d)))
        expanded = tuple(torch.broadcast_tensors(slope, product)[0] for slope in slopes)
        return series * product, (*expanded, *last)
