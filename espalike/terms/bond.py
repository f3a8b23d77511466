"""Bond stretching."""

import torch
from torch import Tensor

from espalike.geometry import Distance
from espalike.terms import priors
from espalike.terms.base import REVERSAL_2, Param, Term
from espalike.terms.primitives import Harmonic, Morse, Polynomial, Primitive
from espalike.tuples import Kind

K = Param("k", "kcal/mol/angstrom**2", mean=700.0, std=0.3, link="positive")
R0 = Param("r0", "angstrom", mean=priors.bond_length, std=0.05, link="positive", shifts=True, weight="k")


class _Bond(Term):
    kind = Kind.BOND
    coordinates = (Distance(0, 1),)
    q_names = ("r",)
    symmetry = REVERSAL_2


class HarmonicBond(_Bond):
    """½ k (r − r₀)².

    As in Amber (W. D. Cornell et al., J. Am. Chem. Soc. 117 (1995) 5179), which leaves out the ½.
    """

    params = (K, R0)

    def primitives(self, p: tuple[Tensor, ...]) -> tuple[Primitive, ...]:
        """One harmonic."""
        k, r0 = p
        return (Harmonic(0, k, r0),)


class QuarticBond(_Bond):
    """½ k d² (1 − a d + 7/12 a² d²), d = r − r₀: class II's quartic bond, with one minimum whatever a.

    The cubic and quartic coefficients are tied as in MM3 (N. L. Allinger, Y. H. Yuh, J.-H. Lii, J. Am. Chem. Soc. 111
    (1989) 8551), the expansion of a Morse curve; there a is 2.55 Å⁻¹ for all bonds.
    """

    params = (K, R0, Param("a", "1/angstrom", mean=2.0, std=0.2, link="positive"))

    def primitives(self, p: tuple[Tensor, ...]) -> tuple[Primitive, ...]:
        """One polynomial."""
        k, r0, a = p
        return (Polynomial(0, r0, 0.5 * k, -0.5 * k * a, 7.0 / 24.0 * k * a * a),)


class MorseBond(_Bond):
    """D (1 − e^(−a (r − r₀)))², a = √(k / 2D) (P. M. Morse, Phys. Rev. 34 (1929) 57); k is the curvature at r₀."""

    params = (K, R0, Param("depth", "kcal/mol", mean=100.0, std=0.2, link="positive"))

    def primitives(self, p: tuple[Tensor, ...]) -> tuple[Primitive, ...]:
        """One Morse curve."""
        k, r0, depth = p
        return (Morse(0, r0, depth, torch.sqrt(0.5 * k / depth)),)


class LinearMixtureBond(_Bond):
    """½ k₁ (r − c₁)² + ½ k₂ (r − c₂)² with fixed centres: a harmonic bond that is linear in its parameters.

    Force constant k₁ + k₂, minimum (k₁ c₁ + k₂ c₂) / (k₁ + k₂) (Y. Wang et al., Chem. Sci. 13 (2022) 12016).
    """

    centres = priors.BOND_CENTRES
    params = (
        Param("k1", "kcal/mol/angstrom**2", mean=priors.bond_mixture_low, std=0.3, link="positive"),
        Param("k2", "kcal/mol/angstrom**2", mean=priors.bond_mixture_high, std=0.3, link="positive"),
    )

    def primitives(self, p: tuple[Tensor, ...]) -> tuple[Primitive, ...]:
        """Two harmonics."""
        return tuple(Harmonic(0, k, centre) for k, centre in zip(p, self.centres, strict=True))
