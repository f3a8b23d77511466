"""Lennard-Jones 12-6."""

import torch
from torch import Tensor

from espalike.terms.base import LEARNED, Param
from espalike.terms.primitives import Primitive, TwelveSix
from espalike.terms.van_der_waals import EPSILON, SIGMA, VanDerWaals

WITHIN = ("shared", LEARNED)
"""Parameters of pairs of one molecule: those of pairs of different molecules, or separate learned ones."""


class LennardJones(VanDerWaals):
    """4 ε [(σ/r)¹² − (σ/r)⁶]; 1-4 pairs scaled by `scale14` (Amber's ½).

    J. E. Jones, Proc. R. Soc. A 106 (1924) 463.

    Args:
        scale14: factor on pairs three bonds apart, or `"learned"`.
        mixing: combining rule, one of `MIXING`.
        within: `"learned"`: pairs of one molecule have separate parameters, σ·exp(log_sigma) and ε·exp(log_epsilon)
            of each atom. σ and ε can then be those that liquids need, and the others those of conformers.

    Raises:
        ValueError: for an unknown combining rule or `within`, naming the known ones; for learned ones with another rule
            than Lorentz–Berthelot, which engines could not take.
    """

    params: tuple[Param, ...] = (SIGMA, EPSILON)
    own = (
        Param("log_sigma", "1", mean=0.0, std=0.1, link="range(-1,1)"),
        Param("log_epsilon", "1", mean=0.0, std=0.5, link="range(-3,3)"),
    )

    def __init__(self, scale14: float | str = 0.5, mixing: str = "lorentz-berthelot", within: str = "shared"):
        super().__init__(scale14, mixing)
        if within not in WITHIN:
            raise ValueError(f"{self.name}: within is {' or '.join(WITHIN)}; got {within!r}")
        if within == LEARNED and mixing != "lorentz-berthelot":
            raise ValueError(f"{self.name}: within={LEARNED} needs mixing lorentz-berthelot; got {mixing!r}")
        if within == LEARNED:
            self.params = (*type(self).params, *self.own, *self.params[self.n_combined :])
            self.has_own = True

    def within(self, columns: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Sigma and epsilon for pairs of one molecule."""
        sigma, epsilon = columns[:2]
        if not self.has_own:
            return sigma, epsilon
        return sigma * torch.exp(columns[2]), epsilon * torch.exp(columns[3])

    def primitives(self, p: tuple[Tensor, ...]) -> tuple[Primitive, ...]:
        """One 12-6 pair."""
        sigma, epsilon = p
        return (TwelveSix(0, sigma, epsilon),)

    def __repr__(self) -> str:
        plain = super().__repr__()
        return f"{plain[:-1]}, within={LEARNED})" if self.has_own else plain
