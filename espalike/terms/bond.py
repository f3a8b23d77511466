"""Bond stretching."""

from torch import Tensor

from espalike.geometry import Distance
from espalike.terms import priors
from espalike.terms.base import REVERSAL_2, Param, Term
from espalike.types import Kind


class HarmonicBond(Term):
    """½ k (r − r₀)²."""

    kind = Kind.BOND
    coordinates = (Distance(0, 1),)
    q_names = ("r",)
    symmetry = REVERSAL_2
    params = (
        Param("k", "kcal/mol/angstrom**2", mean=700.0, std=0.3, link="positive"),
        Param("r0", "angstrom", mean=priors.bond_length, std=0.05, link="positive", shifts=True),
    )
    expression = "0.5*k*(r-r0)^2"
    native = "HarmonicBondForce"

    def energy(self, q: tuple[Tensor, ...], p: tuple[Tensor, ...]) -> Tensor:
        """Energy [kcal/mol]."""
        (r,), (k, r0) = q, p
        return 0.5 * k * (r - r0) ** 2
