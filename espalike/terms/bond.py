"""Bond stretching."""

import torch
from torch import Tensor

from espalike.geometry import Distance
from espalike.terms import priors
from espalike.terms.base import LENGTH, REVERSAL_2, Param, Term, expanded, harmonic, powers
from espalike.tuples import Kind

K = Param("k", "kcal/mol/angstrom**2", mean=700.0, std=0.3, link="positive")
R0 = Param("r0", "angstrom", mean=priors.bond_length, std=0.05, link="positive", shifts=True)


class _Bond(Term):
    kind = Kind.BOND
    coordinates = (Distance(0, 1),)
    q_names = ("r",)
    symmetry = REVERSAL_2


class HarmonicBond(_Bond):
    """½ k (r − r₀)²."""

    params = (K, R0)
    expression = "0.5*k*(r-r0)^2"
    native = "HarmonicBondForce"

    def energy(self, q: tuple[Tensor, ...], p: tuple[Tensor, ...]) -> Tensor:
        """Energy [kcal/mol]."""
        (r,), (k, r0) = q, p
        return 0.5 * k * (r - r0) ** 2

    def slopes(self, q: tuple[Tensor, ...], p: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """As in `Term.slopes`."""
        (r,), (k, r0) = q, p
        return harmonic(r - r0, k)

    def basis(self, q: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """As in `Term.basis`."""
        return powers(q[0] - LENGTH, 2)

    def coefficients(self, p: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """As in `Term.coefficients`."""
        k, r0 = p
        return expanded(r0 - LENGTH, 0.5 * k)


class QuarticBond(_Bond):
    """½ k d² (1 − a d + 7/12 a² d²), d = r − r₀: class II's quartic bond, with one minimum whatever a.

    The cubic and quartic coefficients are tied as in MM3 (N. L. Allinger, Y. H. Yuh, J.-H. Lii, J. Am. Chem. Soc. 111
    (1989) 8551), the expansion of a Morse curve; there a is 2.55 Å⁻¹ for all bonds.
    """

    params = (K, R0, Param("a", "1/angstrom", mean=2.0, std=0.2, link="positive"))
    expression = "0.5*k*d^2*(1-a*d+7/12*(a*d)^2); d=r-r0"

    def energy(self, q: tuple[Tensor, ...], p: tuple[Tensor, ...]) -> Tensor:
        """Energy [kcal/mol]."""
        (r,), (k, r0, a) = q, p
        d = r - r0
        ad = a * d
        return 0.5 * k * d * d * (1.0 - ad + 7.0 / 12.0 * ad * ad)

    def slopes(self, q: tuple[Tensor, ...], p: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """As in `Term.slopes`."""
        (r,), (k, r0, a) = q, p
        d = r - r0
        ad, kd = a * d, k * d
        slope = kd * (1.0 - 1.5 * ad + 7.0 / 6.0 * ad * ad)
        return 0.5 * kd * d * (1.0 - ad + 7.0 / 12.0 * ad * ad), (slope,)

    def basis(self, q: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """As in `Term.basis`."""
        return powers(q[0] - LENGTH, 4)

    def coefficients(self, p: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """As in `Term.coefficients`."""
        k, r0, a = p
        return expanded(r0 - LENGTH, 0.5 * k, -0.5 * k * a, 7.0 / 24.0 * k * a * a)


class MorseBond(_Bond):
    """D (1 − e^(−a (r − r₀)))², a = √(k / 2D) (P. M. Morse, Phys. Rev. 34 (1929) 57); k is the curvature at r₀."""

    params = (K, R0, Param("depth", "kcal/mol", mean=100.0, std=0.2, link="positive"))
    expression = "depth*(1-exp(-sqrt(0.5*k/depth)*(r-r0)))^2"

    def energy(self, q: tuple[Tensor, ...], p: tuple[Tensor, ...]) -> Tensor:
        """Energy [kcal/mol]."""
        (r,), (k, r0, depth) = q, p
        return depth * (1.0 - torch.exp(-torch.sqrt(0.5 * k / depth) * (r - r0))) ** 2


class LinearMixtureBond(_Bond):
    """½ k₁ (r − c₁)² + ½ k₂ (r − c₂)² with fixed centres: a harmonic bond that is linear in its parameters.

    Force constant k₁ + k₂, minimum (k₁ c₁ + k₂ c₂) / (k₁ + k₂) (Y. Wang et al., Chem. Sci. 13 (2022) 12016).
    """

    centres = priors.BOND_CENTRES
    params = (
        Param("k1", "kcal/mol/angstrom**2", mean=priors.bond_mixture_low, std=0.3, link="positive"),
        Param("k2", "kcal/mol/angstrom**2", mean=priors.bond_mixture_high, std=0.3, link="positive"),
    )
    expression = f"0.5*k1*(r-{centres[0]!r})^2+0.5*k2*(r-{centres[1]!r})^2"

    def energy(self, q: tuple[Tensor, ...], p: tuple[Tensor, ...]) -> Tensor:
        """Energy [kcal/mol]."""
        (r,), (k1, k2) = q, p
        low, high = self.centres
        return 0.5 * k1 * (r - low) ** 2 + 0.5 * k2 * (r - high) ** 2

    def basis(self, q: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """As in `Term.basis`."""
        low, high = self.centres
        return 0.5 * (q[0] - low) ** 2, 0.5 * (q[0] - high) ** 2

    def coefficients(self, p: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """As in `Term.coefficients`."""
        return p
