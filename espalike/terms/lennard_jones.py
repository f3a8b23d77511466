"""Lennard-Jones 12-6."""

from torch import Tensor

from espalike.terms.primitives import Primitive, TwelveSix
from espalike.terms.van_der_waals import EPSILON, SIGMA, VanDerWaals


class LennardJones(VanDerWaals):
    """4 ε [(σ/r)¹² − (σ/r)⁶]; 1-4 pairs scaled by `scale14` (Amber's ½).

    J. E. Jones, Proc. R. Soc. A 106 (1924) 463.
    """

    params = (SIGMA, EPSILON)

    def primitives(self, p: tuple[Tensor, ...]) -> tuple[Primitive, ...]:
        """One 12-6 pair."""
        sigma, epsilon = p
        return (TwelveSix(0, sigma, epsilon),)
