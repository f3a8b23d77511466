"""Parameters of all van der Waals forms, the size and depth of an atom's well, and their combining rules."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from espalike.geometry import Distance
from espalike.terms import priors
from espalike.terms.base import PairTerm, Param

SIGMA = Param("sigma", "angstrom", mean=priors.lj_sigma, std=0.2, link="positive")
EPSILON = Param("epsilon", "kcal/mol", mean=priors.lj_epsilon, std=0.7, link="positive")
RMIN = 2.0 ** (1.0 / 6.0)
"""Distance of the minimum over sigma in every form, with the meaning that sigma has in Lennard-Jones."""

_Rule = Callable[[Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]


def _lorentz_berthelot(si: Tensor, sj: Tensor, ei: Tensor, ej: Tensor) -> tuple[Tensor, Tensor]:
    return 0.5 * (si + sj), torch.sqrt(ei * ej)


def _geometric(si: Tensor, sj: Tensor, ei: Tensor, ej: Tensor) -> tuple[Tensor, Tensor]:
    return torch.sqrt(si * sj), torch.sqrt(ei * ej)


def _waldman_hagler(si: Tensor, sj: Tensor, ei: Tensor, ej: Tensor) -> tuple[Tensor, Tensor]:
    i, j = si**3, sj**3
    six = 0.5 * (i * i + j * j)
    return six ** (1.0 / 6.0), torch.sqrt(ei * ej) * i * j / six


MIXING: dict[str, tuple[_Rule, str]] = {
    "lorentz-berthelot": (
        _lorentz_berthelot,
        "sigma=0.5*(sigma1+sigma2); epsilon=sqrt(epsilon1*epsilon2)",
    ),
    "geometric": (
        _geometric,
        "sigma=sqrt(sigma1*sigma2); epsilon=sqrt(epsilon1*epsilon2)",
    ),
    "waldman-hagler": (
        _waldman_hagler,
        "sigma=six^(1/6); epsilon=sqrt(epsilon1*epsilon2)*(sigma1*sigma2)^3/six; six=0.5*(sigma1^6+sigma2^6)",
    ),
}
"""Combining rules: sigma and epsilon of a pair, in torch and in OpenMM's syntax.

Waldman–Hagler: M. Waldman, A. T. Hagler, J. Comput. Chem. 14 (1993) 1077.
"""


class VanDerWaals(PairTerm):
    """A van der Waals form: sigma and epsilon first, then further parameters, which are averaged over the two atoms.

    Args:
        scale14: factor on pairs three bonds apart (Amber's ½), or `"learned"`.
        mixing: combining rule of sigma and epsilon, one of `MIXING`.

    Raises:
        ValueError: for an unknown combining rule, naming the known ones.
    """

    coordinates = (Distance(0, 1),)
    q_names = ("r",)
    params: tuple[Param, ...]

    def __init__(self, scale14: float | str = 0.5, mixing: str = "lorentz-berthelot"):
        super().__init__(scale14)
        if mixing not in MIXING:
            raise ValueError(f"{self.name}: unknown combining rule {mixing!r}; known: {', '.join(MIXING)}")
        self.mixing = mixing

    @property
    def combining(self) -> str:  # type: ignore[override]
        """Pair parameters from those of the two atoms, in OpenMM's syntax."""
        others = [f"{p.name}=0.5*({p.name}1+{p.name}2)" for p in type(self).params[2:]]
        return "; ".join([MIXING[self.mixing][1], *others])

    def combine(self, first: tuple[Tensor, ...], second: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Sigma and epsilon by the combining rule, the mean of the others."""
        rule, _ = MIXING[self.mixing]
        well = rule(first[0], second[0], first[1], second[1])
        return (*well, *(0.5 * (a + b) for a, b in zip(first[2:], second[2:], strict=True)))

    def __repr__(self) -> str:
        plain = super().__repr__()
        return plain if self.mixing == "lorentz-berthelot" else f"{plain[:-1]}, mixing={self.mixing})"
