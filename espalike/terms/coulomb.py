"""Coulomb interaction of fixed point charges."""

from torch import Tensor

from espalike.geometry import Distance
from espalike.terms.base import PairTerm, Param
from espalike.units import COULOMB


class Coulomb(PairTerm):
    """qᵢ qⱼ / (4 π ε₀ r); 1-4 pairs scaled by `scale14` (Amber's 1/1.2)."""

    coordinates = (Distance(0, 1),)
    q_names = ("r",)
    params = (Param("q", "e", mean=0.0, std=1.0, link="charge"),)
    expression = f"{COULOMB!r}*qq/r"
    native = "NonbondedForce"

    def __init__(self, scale14: float = 1 / 1.2):
        super().__init__(scale14)

    def combine(self, first: tuple[Tensor, ...], second: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Product of the charges."""
        return (first[0] * second[0],)

    def energy(self, q: tuple[Tensor, ...], p: tuple[Tensor, ...]) -> Tensor:
        """Energy [kcal/mol]."""
        (r,), (qq,) = q, p
        return COULOMB * qq / r
