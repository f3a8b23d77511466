"""Proper and improper torsions as Fourier series."""

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from espalike.geometry import Angle, Dihedral
from espalike.terms.base import OUTER_3, REVERSAL_4, Param, Term, powers
from espalike.tuples import Kind

PERIODS = (1, 2, 3, 4, 5, 6)
"""Periodicities of proper torsions."""
_STEEPEST = 1.0 - 1e-9
"""Sine of the largest out-of-plane angle that has a slope."""


_CHEBYSHEV = torch.tensor(
    [
        [1, 0, 0, 0, 0, 0, 0],
        [0, 1, 0, 0, 0, 0, 0],
        [-1, 0, 2, 0, 0, 0, 0],
        [0, -3, 0, 4, 0, 0, 0],
        [1, 0, -8, 0, 8, 0, 0],
        [0, 5, 0, -20, 0, 16, 0],
        [-1, 0, 18, 0, -48, 0, 32],
    ]
)
"""cos nφ, n = 0…6, as polynomials of cos φ: coefficients of cosᵐ φ by row."""


class CosinePolynomial(torch.autograd.Function):
    """Σₘ aₘ cosᵐφ and its derivative by φ, with the derivatives of both by the coefficients written out.

    Coefficients `(T, m)`, angles `(T, K)`. By autograd every power and every product would be kept and passed again.
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
        """By the coefficients only: Σ over conformers of what a loss says, times a power of the cosine."""
        c, s = ctx.saved_tensors
        first, second = of_value, -of_slope * s
        slopes = [first.sum(-1)]
        for m in range(1, ctx.terms):
            slopes.append(m * second.sum(-1))
            first, second = first * c, second * c
            slopes[-1] = slopes[-1] + first.sum(-1)
        return None, torch.stack(slopes, -1)


class PeriodicProper(Term):
    """Σₙ kₙ (1 + cos nφ), n = 1…6, kₙ of either sign (a phase of 0 or 180° up to a constant)."""

    kind = Kind.PROPER
    coordinates = (Dihedral(0, 1, 2, 3),)
    q_names = ("phi",)
    symmetry = REVERSAL_4
    params = tuple(Param(f"k{n}", "kcal/mol", mean=0.0, std=0.5 if n <= 3 else 0.1, link="free") for n in PERIODS)
    expression = "+".join(f"k{n}*(1+cos({n}*phi))" for n in PERIODS)
    native = "PeriodicTorsionForce"

    def energy(self, q: tuple[Tensor, ...], p: tuple[Tensor, ...]) -> Tensor:
        """Energy [kcal/mol]; cos nφ by the Chebyshev recurrence, one cosine a torsion."""
        (phi,) = q
        c = torch.cos(phi)
        before, cosine = torch.ones_like(c), c
        total = p[0] * (1.0 + c)
        for k in p[1:]:
            before, cosine = cosine, 2.0 * c * cosine - before
            total = total + k * (1.0 + cosine)
        return total

    def slopes(self, q: tuple[Tensor, ...], p: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """As in `Term.slopes`."""
        k = torch.cat([torch.stack(p).sum(0), *p], -1)
        u, slope = CosinePolynomial.apply(q[0], k @ _CHEBYSHEV.to(k))
        return u, (slope,)

    def basis(self, q: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """As in `Term.basis`."""
        return tuple(torch.cos(n * q[0]) for n in PERIODS)

    def coefficients(self, p: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """As in `Term.coefficients`."""
        return p


class PeriodicProperPhase(Term):
    """Σₙ kₙ (1 + cos(nφ − δₙ)), n = 1…6, any phase δₙ: what imported force fields hold."""

    kind = Kind.PROPER
    coordinates = (Dihedral(0, 1, 2, 3),)
    q_names = ("phi",)
    symmetry = REVERSAL_4
    params = (
        *(Param(f"k{n}", "kcal/mol", mean=0.0, std=0.5, link="free") for n in PERIODS),
        *(Param(f"phase{n}", "radian", mean=0.0, std=0.1, link="free") for n in PERIODS),
    )
    expression = "+".join(f"k{n}*(1+cos({n}*phi-phase{n}))" for n in PERIODS)
    native = "PeriodicTorsionForce"

    def energy(self, q: tuple[Tensor, ...], p: tuple[Tensor, ...]) -> Tensor:
        """Energy [kcal/mol]."""
        (phi,) = q
        terms = [k * (1.0 + torch.cos(n * phi - phase)) for n, k, phase in zip(PERIODS, p[:6], p[6:], strict=True)]
        return torch.stack(terms).sum(0)

    def basis(self, q: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """As in `Term.basis`."""
        return tuple(f(n * q[0]) for f in (torch.cos, torch.sin) for n in PERIODS)

    def coefficients(self, p: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """As in `Term.coefficients`."""
        return tuple(k * f(phase) for f in (torch.cos, torch.sin) for k, phase in zip(p[:6], p[6:], strict=True))


class PeriodicImproper(Term):
    """k/3 Σ (1 + cos(2φ − π)) over three dihedrals (centre, outer, outer, outer): SMIRNOFF's trefoil.

    Every cyclic order of the outer atoms counts once, so the energy does not depend on atom numbering.
    """

    kind = Kind.IMPROPER
    coordinates = (Dihedral(1, 0, 2, 3), Dihedral(1, 2, 3, 0), Dihedral(1, 3, 0, 2))
    q_names = ("phi1", "phi2", "phi3")
    symmetry = OUTER_3
    params = (Param("k2", "kcal/mol", mean=2.0, std=3.0, link="free"),)
    expression = "k2/3*(3-cos(2*phi1)-cos(2*phi2)-cos(2*phi3))"
    native = "PeriodicTorsionForce"

    def energy(self, q: tuple[Tensor, ...], p: tuple[Tensor, ...]) -> Tensor:
        """Energy [kcal/mol]."""
        (k,) = p
        return k / 3.0 * (3.0 - torch.cos(2.0 * q[0]) - torch.cos(2.0 * q[1]) - torch.cos(2.0 * q[2]))

    def slopes(self, q: tuple[Tensor, ...], p: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """As in `Term.slopes`."""
        (k,) = p
        return self.energy(q, p), tuple(2.0 / 3.0 * k * torch.sin(2.0 * phi) for phi in q)

    def basis(self, q: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """As in `Term.basis`."""
        return (torch.stack([torch.cos(2.0 * phi) for phi in q]).sum(0),)

    def coefficients(self, p: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """As in `Term.coefficients`."""
        return (-p[0] / 3.0,)


class PeriodicProperOdd(Term):
    """Σₙ kₙ (1 + cos nφ) + sₙ sin nφ, n = 1…6.

    The sine part changes sign in the mirror image: right for a chiral environment only. A network that does not see
    stereochemistry gives both enantiomers the same sₙ, and hence different energies.
    """

    kind = Kind.PROPER
    coordinates = (Dihedral(0, 1, 2, 3),)
    q_names = ("phi",)
    symmetry = REVERSAL_4
    params = (
        *PeriodicProper.params,
        *(Param(f"s{n}", "kcal/mol", mean=0.0, std=0.1, link="free") for n in PERIODS),
    )
    expression = "+".join(f"k{n}*(1+cos({n}*phi))+s{n}*sin({n}*phi)" for n in PERIODS)
    native = "PeriodicTorsionForce"

    def energy(self, q: tuple[Tensor, ...], p: tuple[Tensor, ...]) -> Tensor:
        """Energy [kcal/mol]."""
        (phi,) = q
        terms = [
            k * (1.0 + torch.cos(n * phi)) + s * torch.sin(n * phi)
            for n, k, s in zip(PERIODS, p[:6], p[6:], strict=True)
        ]
        return torch.stack(terms).sum(0)

    def basis(self, q: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """As in `Term.basis`."""
        return tuple(f(n * q[0]) for f in (torch.cos, torch.sin) for n in PERIODS)

    def coefficients(self, p: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """As in `Term.coefficients`."""
        return p


class RyckaertBellemans(Term):
    """Σₙ cₙ cosⁿ(φ − π), n = 0…5 (J.-P. Ryckaert, A. Bellemans, Chem. Phys. Lett. 30 (1975) 123)."""

    kind = Kind.PROPER
    coordinates = (Dihedral(0, 1, 2, 3),)
    q_names = ("phi",)
    symmetry = REVERSAL_4
    params = tuple(Param(f"c{n}", "kcal/mol", mean=0.0, std=0.5, link="free") for n in range(6))
    expression = "c0+u*(c1+u*(c2+u*(c3+u*(c4+u*c5)))); u=-cos(phi)"
    native = "RBTorsionForce"

    def energy(self, q: tuple[Tensor, ...], p: tuple[Tensor, ...]) -> Tensor:
        """Energy [kcal/mol], by Horner's scheme; cos(φ − π) is −cos φ."""
        u = -torch.cos(q[0])
        total = p[5] * u + p[4]
        for c in (p[3], p[2], p[1], p[0]):
            total = total * u + c
        return total

    def slopes(self, q: tuple[Tensor, ...], p: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """As in `Term.slopes`."""
        u, slope = CosinePolynomial.apply(q[0], torch.cat([(-1) ** n * c for n, c in enumerate(p)], -1))
        return u, (slope,)

    def basis(self, q: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """As in `Term.basis`."""
        return powers(-torch.cos(q[0]), 5)

    def coefficients(self, p: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """As in `Term.coefficients`."""
        return p[1:]


class WilsonImproper(Term):
    """½ k χ², χ the mean of the three Wilson out-of-plane angles of a trigonal centre, as in class II force fields.

    The angle χ_l between bond c–l and the plane of i, c, k obeys sin χ_l = sin θ(l,c,i) sin φ(l,c,i,k), φ being the
    dihedral about c–i (E. B. Wilson, J. C. Decius, P. C. Cross, Molecular Vibrations (1955), ch. 4). Each l is taken
    with i, k in cyclic order, so that the three have one sign.
    """

    kind = Kind.IMPROPER
    coordinates = (
        Angle(0, 1, 2), Dihedral(0, 1, 2, 3),
        Angle(2, 1, 3), Dihedral(2, 1, 3, 0),
        Angle(3, 1, 0), Dihedral(3, 1, 0, 2),
    )  # fmt: skip
    q_names = ("ta", "pa", "tb", "pb", "tc", "pc")
    symmetry = OUTER_3
    params = (Param("k", "kcal/mol", mean=30.0, std=0.5, link="positive"),)
    expression = "k/18*(asin(sin(ta)*sin(pa))+asin(sin(tb)*sin(pb))+asin(sin(tc)*sin(pc)))^2"

    def energy(self, q: tuple[Tensor, ...], p: tuple[Tensor, ...]) -> Tensor:
        """Energy [kcal/mol]."""
        return p[0] * self.basis(q)[0]

    def basis(self, q: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """As in `Term.basis`."""
        sines = (torch.sin(theta) * torch.sin(phi) for theta, phi in zip(q[::2], q[1::2], strict=True))
        # at 90° out of plane the slope of the arc sine is infinite
        chi = torch.stack([torch.asin(s.clamp(-_STEEPEST, _STEEPEST)) for s in sines]).mean(0)
        return (0.5 * chi * chi,)

    def coefficients(self, p: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """As in `Term.coefficients`."""
        return p
