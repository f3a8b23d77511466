"""Buffered 14-7 van der Waals: finite at any distance."""

from torch import Tensor

from espalike.terms.van_der_waals import EPSILON, RMIN, SIGMA, VanDerWaals


class Buffered147(VanDerWaals):
    """ε (1.07/(ρ + 0.07))⁷ (1.12/(ρ⁷ + 0.12) − 2), ρ = r/r_min, r_min = 2^(1/6) σ.

    T. A. Halgren, J. Am. Chem. Soc. 114 (1992) 7827; the form of MMFF94 and AMOEBA.
    """

    params = (SIGMA, EPSILON)
    expression = f"epsilon*(1.07/(x+0.07))^7*(1.12/(x^7+0.12)-2); x=r/({RMIN!r}*sigma)"

    def energy(self, q: tuple[Tensor, ...], p: tuple[Tensor, ...]) -> Tensor:
        """Energy [kcal/mol]."""
        (r,), (sigma, epsilon) = q, p
        x = r / (RMIN * sigma)
        return epsilon * (1.07 / (x + 0.07)) ** 7 * (1.12 / (x**7 + 0.12) - 2.0)
