"""Proper and improper torsions as Fourier series."""

import torch
from torch import Tensor

from espalike.geometry import Dihedral
from espalike.terms.base import OUTER_3, REVERSAL_4, Param, Term
from espalike.types import Kind

PERIODS = (1, 2, 3, 4, 5, 6)
"""Periodicities of proper torsions."""


class PeriodicProper(Term):
    """Σₙ kₙ (1 + cos nφ), n = 1…6, kₙ of either sign (a phase of 0 or 180° up to a constant)."""

    kind = Kind.PROPER
    coordinates = (Dihedral(0, 1, 2, 3),)
    q_names = ("phi",)
    symmetry = REVERSAL_4
    params = tuple(Param(f"k{n}", "kcal/mol", mean=0.0, std=0.5 if n <= 3 else 0.1, link="free") for n in PERIODS)
    expression = "+".join(f"k{n}*(1+cos({n}*phi))" for n in PERIODS)
    native = "PeriodicTorsionForce"

    def energy(self, q: tuple[Tensor, ...], p: tuple[Tensor, ...]) -> Tensor:
        """Energy [kcal/mol]; cos nφ by the Chebyshev recurrence, one cosine a torsion."""
        (phi,) = q
        c = torch.cos(phi)
        before, cosine = torch.ones_like(c), c
        total = p[0] * (1.0 + c)
        for k in p[1:]:
            before, cosine = cosine, 2.0 * c * cosine - before
            total = total + k * (1.0 + cosine)
        return total


class PeriodicProperPhase(Term):
    """Σₙ kₙ (1 + cos(nφ − δₙ)), n = 1…6, any phase δₙ: what imported force fields hold."""

    kind = Kind.PROPER
    coordinates = (Dihedral(0, 1, 2, 3),)
    q_names = ("phi",)
    symmetry = REVERSAL_4
    params = (
        *(Param(f"k{n}", "kcal/mol", mean=0.0, std=0.5, link="free") for n in PERIODS),
        *(Param(f"phase{n}", "radian", mean=0.0, std=0.1, link="free") for n in PERIODS),
    )
    expression = "+".join(f"k{n}*(1+cos({n}*phi-phase{n}))" for n in PERIODS)
    native = "PeriodicTorsionForce"

    def energy(self, q: tuple[Tensor, ...], p: tuple[Tensor, ...]) -> Tensor:
        """Energy [kcal/mol]."""
        (phi,) = q
        terms = [k * (1.0 + torch.cos(n * phi - phase)) for n, k, phase in zip(PERIODS, p[:6], p[6:], strict=True)]
        return torch.stack(terms).sum(0)


class PeriodicImproper(Term):
    """k/3 Σ (1 + cos(2φ − π)) over three dihedrals (centre, outer, outer, outer): SMIRNOFF's trefoil.

    Every cyclic order of the outer atoms counts once, so the energy does not depend on atom numbering.
    """

    kind = Kind.IMPROPER
    coordinates = (Dihedral(1, 0, 2, 3), Dihedral(1, 2, 3, 0), Dihedral(1, 3, 0, 2))
    q_names = ("phi1", "phi2", "phi3")
    symmetry = OUTER_3
    params = (Param("k2", "kcal/mol", mean=2.0, std=3.0, link="free"),)
    expression = "k2/3*(3-cos(2*phi1)-cos(2*phi2)-cos(2*phi3))"
    native = "PeriodicTorsionForce"

    def energy(self, q: tuple[Tensor, ...], p: tuple[Tensor, ...]) -> Tensor:
        """Energy [kcal/mol]."""
        (k,) = p
        return k / 3.0 * (3.0 - torch.cos(2.0 * q[0]) - torch.cos(2.0 * q[1]) - torch.cos(2.0 * q[2]))
