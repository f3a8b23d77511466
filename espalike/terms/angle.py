"""Angle bending, and the Urey–Bradley distance across an angle."""

import math
from typing import ClassVar

from torch import Tensor

from espalike.geometry import Angle, Distance
from espalike.terms import priors
from espalike.terms.base import REVERSAL_3, Param, Straightened, Term
from espalike.terms.primitives import CosineHarmonic, Harmonic, Polynomial, Primitive
from espalike.tuples import Kind

K = Param("k", "kcal/mol", mean=110.0, std=0.3, link="positive")
THETA0 = Param(
    "theta0", "radian", mean=priors.bond_angle, std=0.1, link="range(0.6,3.141592653589793)", shifts=True, weight="k"
)


class _Angle(Term):
    kind = Kind.ANGLE
    coordinates = (Angle(0, 1, 2),)
    q_names = ("theta",)
    symmetry = REVERSAL_3


class HarmonicAngle(Straightened, _Angle):
    """½ k (θ − θ₀)².

    As in Amber (W. D. Cornell et al., J. Am. Chem. Soc. 117 (1995) 5179), which leaves out the ½.
    """

    params = (K, THETA0)
    at_linear: ClassVar = {"theta0": math.pi}

    def primitives(self, p: tuple[Tensor, ...]) -> tuple[Primitive, ...]:
        """One harmonic."""
        k, theta0 = p
        return (Harmonic(0, k, theta0),)


class QuarticAngle(Straightened, _Angle):
    """½ k d² (1 + c d + 7/12 c² d²), d = θ − θ₀: class II's quartic angle, with one minimum whatever c.

    The quartic coefficient is tied to the cubic one in the same way as in `QuarticBond`; c may have either sign.
    Quartic angles: H. Sun, J. Phys. Chem. B 102 (1998) 7338.
    """

    params = (K, THETA0, Param("c", "1/radian", mean=0.0, std=0.3, link="range(-2,2)"))
    at_linear: ClassVar = {"theta0": math.pi}

    def primitives(self, p: tuple[Tensor, ...]) -> tuple[Primitive, ...]:
        """One polynomial."""
        k, theta0, c = p
        return (Polynomial(0, theta0, 0.5 * k, 0.5 * k * c, 7.0 / 24.0 * k * c * c),)


class CosineAngle(_Angle):
    """½ k (cos θ − cos θ₀)², smooth at a straight angle.

    The angle of GROMOS (W. R. P. Scott et al., J. Phys. Chem. A 103 (1999) 3596).
    """

    params = (K, THETA0)

    def primitives(self, p: tuple[Tensor, ...]) -> tuple[Primitive, ...]:
        """One harmonic in the cosine."""
        k, theta0 = p
        return (CosineHarmonic(0, k, theta0),)


class LinearMixtureAngle(Straightened, _Angle):
    """½ k₁ (θ − c₁)² + ½ k₂ (θ − c₂)² with fixed centres: a harmonic angle that is linear in its parameters.

    As `LinearMixtureBond` (Y. Wang et al., Chem. Sci. 13 (2022) 12016).
    """

    centres = priors.ANGLE_CENTRES
    params = (
        Param("k1", "kcal/mol", mean=priors.angle_mixture_low, std=0.3, link="positive"),
        Param("k2", "kcal/mol", mean=priors.angle_mixture_high, std=0.3, link="positive"),
    )
    at_linear: ClassVar = {"k1": 0.0}  # the other centre is 180°

    def primitives(self, p: tuple[Tensor, ...]) -> tuple[Primitive, ...]:
        """Two harmonics."""
        return tuple(Harmonic(0, k, centre) for k, centre in zip(p, self.centres, strict=True))


class UreyBradley(Term):
    """½ k (r₁₃ − r₀)² between the outer atoms of an angle (H. C. Urey, C. A. Bradley, Phys. Rev. 38 (1931) 1969)."""

    kind = Kind.ANGLE
    coordinates = (Distance(0, 2),)
    q_names = ("r",)
    symmetry = REVERSAL_3
    params = (
        Param("k", "kcal/mol/angstrom**2", mean=20.0, std=0.4, link="positive"),
        Param("r0", "angstrom", mean=priors.distance_13, std=0.05, link="positive", shifts=True, weight="k"),
    )

    def primitives(self, p: tuple[Tensor, ...]) -> tuple[Primitive, ...]:
        """One harmonic."""
        k, r0 = p
        return (Harmonic(0, k, r0),)
