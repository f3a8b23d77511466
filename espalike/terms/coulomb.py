"""Coulomb interaction of fixed point charges."""

from torch import Tensor

from espalike.geometry import Distance
from espalike.terms.base import PairTerm, Param
from espalike.terms.primitives import Charges, Primitive

CHARGES = ("equilibration", "increments", "input")
"""Charge models: equilibration of learned electronegativities, learned bond-charge increments, or given charges."""


class Coulomb(PairTerm):
    """qᵢ qⱼ / (4 π ε₀ r); 1-4 pairs scaled by `scale14`.

    1/(4 π ε₀) is CODATA 2018's (E. Tiesinga et al., Rev. Mod. Phys. 93 (2021) 025010).

    Args:
        scale14: factor on pairs three bonds apart (Amber's 1/1.2), or `"learned"`.
        charges: where a model takes the charges from, one of `CHARGES`; see `espalike.nn.charges`.

    Raises:
        ValueError: for an unknown charge model, naming the known ones.
    """

    coordinates = (Distance(0, 1),)
    q_names = ("r",)
    params = (Param("q", "e", mean=0.0, std=1.0, link="charge"),)
    combining = "qq=q1*q2"
    usual14 = 1 / 1.2

    def __init__(self, scale14: float | str = 1 / 1.2, charges: str = "equilibration"):
        super().__init__(scale14)
        if charges not in CHARGES:
            raise ValueError(f"{self.name}: unknown charge model {charges!r}; known: {', '.join(CHARGES)}")
        self.charges = charges

    def combine(self, first: tuple[Tensor, ...], second: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Product of the charges."""
        return (first[0] * second[0],)

    def primitives(self, p: tuple[Tensor, ...]) -> tuple[Primitive, ...]:
        """One product of charges over the distance."""
        return (Charges(0, p[0]),)
