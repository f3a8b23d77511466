"""Angle bending, and the Urey–Bradley distance across an angle."""

import torch
from torch import Tensor

from espalike.geometry import Angle, Distance
from espalike.terms import priors
from espalike.terms.base import ANGLE, LENGTH, REVERSAL_3, Param, Term, expanded, harmonic, powers
from espalike.tuples import Kind

K = Param("k", "kcal/mol", mean=110.0, std=0.3, link="positive")
THETA0 = Param("theta0", "radian", mean=priors.bond_angle, std=0.1, link="range(0.6,3.141592653589793)", shifts=True)


class _Angle(Term):
    kind = Kind.ANGLE
    coordinates = (Angle(0, 1, 2),)
    q_names = ("theta",)
    symmetry = REVERSAL_3


class HarmonicAngle(_Angle):
    """½ k (θ − θ₀)²."""

    params = (K, THETA0)
    expression = "0.5*k*(theta-theta0)^2"
    native = "HarmonicAngleForce"

    def energy(self, q: tuple[Tensor, ...], p: tuple[Tensor, ...]) -> Tensor:
        """Energy [kcal/mol]."""
        (theta,), (k, theta0) = q, p
        return 0.5 * k * (theta - theta0) ** 2

    def slopes(self, q: tuple[Tensor, ...], p: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """As in `Term.slopes`."""
        (theta,), (k, theta0) = q, p
        return harmonic(theta - theta0, k)

    def basis(self, q: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """As in `Term.basis`."""
        return powers(q[0] - ANGLE, 2)

    def coefficients(self, p: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """As in `Term.coefficients`."""
        k, theta0 = p
        return expanded(theta0 - ANGLE, 0.5 * k)


class QuarticAngle(_Angle):
    """½ k d² (1 + c d + 7/12 c² d²), d = θ − θ₀: class II's quartic angle, with one minimum whatever c.

    The quartic coefficient is tied to the cubic one as in `QuarticBond`; c may have either sign.
    """

    params = (K, THETA0, Param("c", "1/radian", mean=0.0, std=0.3, link="range(-2,2)"))
    expression = "0.5*k*d^2*(1+c*d+7/12*(c*d)^2); d=theta-theta0"

    def energy(self, q: tuple[Tensor, ...], p: tuple[Tensor, ...]) -> Tensor:
        """Energy [kcal/mol]."""
        (theta,), (k, theta0, c) = q, p
        d = theta - theta0
        cd = c * d
        return 0.5 * k * d * d * (1.0 + cd + 7.0 / 12.0 * cd * cd)

    def slopes(self, q: tuple[Tensor, ...], p: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """As in `Term.slopes`."""
        (theta,), (k, theta0, c) = q, p
        d = theta - theta0
        cd, kd = c * d, k * d
        slope = kd * (1.0 + 1.5 * cd + 7.0 / 6.0 * cd * cd)
        return 0.5 * kd * d * (1.0 + cd + 7.0 / 12.0 * cd * cd), (slope,)

    def basis(self, q: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """As in `Term.basis`."""
        return powers(q[0] - ANGLE, 4)

    def coefficients(self, p: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """As in `Term.coefficients`."""
        k, theta0, c = p
        return expanded(theta0 - ANGLE, 0.5 * k, 0.5 * k * c, 7.0 / 24.0 * k * c * c)


class CosineAngle(_Angle):
    """½ k (cos θ − cos θ₀)², as in GROMOS-96: smooth at a straight angle."""

    params = (K, THETA0)
    expression = "0.5*k*(cos(theta)-cos(theta0))^2"

    def energy(self, q: tuple[Tensor, ...], p: tuple[Tensor, ...]) -> Tensor:
        """Energy [kcal/mol]."""
        (theta,), (k, theta0) = q, p
        return 0.5 * k * (torch.cos(theta) - torch.cos(theta0)) ** 2

    def basis(self, q: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """As in `Term.basis`."""
        return powers(torch.cos(q[0]), 2)

    def coefficients(self, p: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """As in `Term.coefficients`."""
        k, theta0 = p
        return expanded(torch.cos(theta0), 0.5 * k)


class LinearMixtureAngle(_Angle):
    """½ k₁ (θ − c₁)² + ½ k₂ (θ − c₂)² with fixed centres: a harmonic angle that is linear in its parameters.

    Source as for `LinearMixtureBond`.
    """

    centres = priors.ANGLE_CENTRES
    params = (
        Param("k1", "kcal/mol", mean=priors.angle_mixture_low, std=0.3, link="positive"),
        Param("k2", "kcal/mol", mean=priors.angle_mixture_high, std=0.3, link="positive"),
    )
    expression = f"0.5*k1*(theta-{centres[0]!r})^2+0.5*k2*(theta-{centres[1]!r})^2"

    def energy(self, q: tuple[Tensor, ...], p: tuple[Tensor, ...]) -> Tensor:
        """Energy [kcal/mol]."""
        (theta,), (k1, k2) = q, p
        low, high = self.centres
        return 0.5 * k1 * (theta - low) ** 2 + 0.5 * k2 * (theta - high) ** 2

    def basis(self, q: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """As in `Term.basis`."""
        low, high = self.centres
        return 0.5 * (q[0] - low) ** 2, 0.5 * (q[0] - high) ** 2

    def coefficients(self, p: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """As in `Term.coefficients`."""
        return p


class UreyBradley(Term):
    """½ k (r₁₃ − r₀)² between the outer atoms of an angle."""

    kind = Kind.ANGLE
    coordinates = (Distance(0, 2),)
    q_names = ("r",)
    symmetry = REVERSAL_3
    params = (
        Param("k", "kcal/mol/angstrom**2", mean=20.0, std=0.4, link="positive"),
        Param("r0", "angstrom", mean=priors.distance_13, std=0.05, link="positive", shifts=True),
    )
    expression = "0.5*k*(r-r0)^2"

    def energy(self, q: tuple[Tensor, ...], p: tuple[Tensor, ...]) -> Tensor:
        """Energy [kcal/mol]."""
        (r,), (k, r0) = q, p
        return 0.5 * k * (r - r0) ** 2

    def basis(self, q: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """As in `Term.basis`."""
        return powers(q[0] - LENGTH, 2)

    def coefficients(self, p: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """As in `Term.coefficients`."""
        k, r0 = p
        return expanded(r0 - LENGTH, 0.5 * k)
