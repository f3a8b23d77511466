"""Angle bending."""

from torch import Tensor

from espalike.geometry import Angle
from espalike.terms import priors
from espalike.terms.base import REVERSAL_3, Param, Term
from espalike.types import Kind


class HarmonicAngle(Term):
    """½ k (θ − θ₀)²."""

    kind = Kind.ANGLE
    coordinates = (Angle(0, 1, 2),)
    q_names = ("theta",)
    symmetry = REVERSAL_3
    params = (
        Param("k", "kcal/mol/radian**2", mean=110.0, std=0.3, link="positive"),
        Param("theta0", "radian", mean=priors.bond_angle, std=0.1, link="range(0.6,3.141592653589793)", shifts=True),
    )
    expression = "0.5*k*(theta-theta0)^2"
    native = "HarmonicAngleForce"

    def energy(self, q: tuple[Tensor, ...], p: tuple[Tensor, ...]) -> Tensor:
        """Energy [kcal/mol]."""
        (theta,), (k, theta0) = q, p
        return 0.5 * k * (theta - theta0) ** 2
