"""Double-exponential van der Waals: finite at any distance."""

import torch
from torch import Tensor

from espalike.terms.base import Param
from espalike.terms.van_der_waals import EPSILON, RMIN, SIGMA, VanDerWaals

_ALPHA, _BETA = (16.766, 4.427)  # X. Wu, B. R. Brooks, J. Chem. Theory Comput. 15 (2019) 6183: closest to 12-6
_EXPRESSION = f"epsilon*(beta*exp(alpha*x)-alpha*exp(beta*x))/(alpha-beta); x=1-r/({RMIN!r}*sigma)"


def _steepness(universal: bool) -> tuple[Param, Param]:
    """Bounded, and bounded away from each other: at α = β the form has no well."""
    return (
        Param("alpha", "1", mean=_ALPHA, std=1.0, link="range(11,24)", universal=universal),
        Param("beta", "1", mean=_BETA, std=0.5, link="range(2,8)", universal=universal),
    )


class _DoubleExponential(VanDerWaals):
    def energy(self, q: tuple[Tensor, ...], p: tuple[Tensor, ...]) -> Tensor:
        """Energy [kcal/mol]."""
        (r,), (sigma, epsilon, alpha, beta) = q, p
        x = 1.0 - r / (RMIN * sigma)
        return epsilon * (beta * torch.exp(alpha * x) - alpha * torch.exp(beta * x)) / (alpha - beta)


class DoubleExponential(_DoubleExponential):
    """ε (β e^(α x) − α e^(β x)) / (α − β), x = 1 − r/r_min, r_min = 2^(1/6) σ; α and β one for all atoms.

    X. Wu, B. R. Brooks, J. Chem. Theory Comput. 15 (2019) 6183; as a force field's form: J. T. Horton et al., Digital
    Discovery 2 (2023) 1178.
    """

    params = (SIGMA, EPSILON, *_steepness(universal=True))
    expression = _EXPRESSION


class DoubleExponentialPerAtom(_DoubleExponential):
    """ε (β e^(α x) − α e^(β x)) / (α − β), x = 1 − r/r_min, α and β of each atom; a pair has their means.

    `DoubleExponential` (X. Wu, B. R. Brooks, J. Chem. Theory Comput. 15 (2019) 6183) with parameters per atom.
    """

    params = (SIGMA, EPSILON, *_steepness(universal=False))
    expression = _EXPRESSION
