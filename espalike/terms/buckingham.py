"""Buckingham's exponential-6 van der Waals, guarded at short range."""

import torch
from torch import Tensor

from espalike.terms.base import Param
from espalike.terms.van_der_waals import EPSILON, RMIN, SIGMA, VanDerWaals

_ALPHA = 13.772  # the well's curvature is that of 12-6: 6α(α − 7)/(α − 6) = 72


class Buckingham(VanDerWaals):
    """ε/(α − 6) [6 e^(α (1 − ρ)) − α / (ρ⁶ + 0.25⁶)], ρ = r/r_min, r_min = 2^(1/6) σ.

    R. A. Buckingham, Proc. R. Soc. A 168 (1938) 264. The bare form falls to −∞ at short range; with the dispersion
    buffered by 0.25⁶ it rises all the way to r = 0, while the well changes by 0.02 %. Below α = 12 the wall is too soft
    to hold opposite charges apart.
    """

    params = (SIGMA, EPSILON, Param("alpha", "1", mean=_ALPHA, std=0.5, link="range(12,17)"))
    expression = f"epsilon/(alpha-6)*(6*exp(alpha*(1-x))-alpha/(x^6+{0.25**6!r})); x=r/({RMIN!r}*sigma)"

    def energy(self, q: tuple[Tensor, ...], p: tuple[Tensor, ...]) -> Tensor:
        """Energy [kcal/mol]."""
        (r,), (sigma, epsilon, alpha) = q, p
        x = r / (RMIN * sigma)
        return epsilon / (alpha - 6.0) * (6.0 * torch.exp(alpha * (1.0 - x)) - alpha / (x**6 + 0.25**6))
