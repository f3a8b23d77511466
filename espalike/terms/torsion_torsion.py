"""Coupling of consecutive torsions."""

import torch
from torch import Tensor

from espalike.geometry import Dihedral
from espalike.terms.base import REVERSAL_5, Param, Term, swapping
from espalike.tuples import Kind

ORDERS = ((1, 1), (1, 2), (2, 1), (2, 2))


class TorsionTorsion(Term):
    """Σ c_mn cos mφ cos nψ + s_mn sin mφ sin nψ, m, n = 1, 2, for torsions φ, ψ that share three atoms.

    The low orders of the two-dimensional Fourier series of a CMAP grid (A. D. MacKerell, M. Feig, C. L. Brooks,
    J. Comput. Chem. 25 (2004) 1400), without the products of sine and cosine: these change sign in the mirror image.
    """

    kind = Kind.PROPER_PAIR
    coordinates = (Dihedral(0, 1, 2, 3), Dihedral(1, 2, 3, 4))
    q_names = ("phi", "psi")
    symmetry = swapping(REVERSAL_5, (0, 2, 1, 3, 4, 6, 5, 7))
    params = tuple(
        Param(f"{letter}{m}{n}", "kcal/mol", mean=0.0, std=0.2, link="range(-2,2)")
        for letter in "cs"
        for m, n in ORDERS
    )
    expression = "+".join(
        [f"c{m}{n}*cos({m}*phi)*cos({n}*psi)" for m, n in ORDERS]
        + [f"s{m}{n}*sin({m}*phi)*sin({n}*psi)" for m, n in ORDERS]
    )

    def energy(self, q: tuple[Tensor, ...], p: tuple[Tensor, ...]) -> Tensor:
        """Energy [kcal/mol]."""
        (c1, s1), (d1, t1) = ((torch.cos(a), torch.sin(a)) for a in q)
        c2, s2, d2, t2 = 2.0 * c1 * c1 - 1.0, 2.0 * s1 * c1, 2.0 * d1 * d1 - 1.0, 2.0 * t1 * d1
        cosines = c1 * (p[0] * d1 + p[1] * d2) + c2 * (p[2] * d1 + p[3] * d2)
        return cosines + s1 * (p[4] * t1 + p[5] * t2) + s2 * (p[6] * t1 + p[7] * t2)
