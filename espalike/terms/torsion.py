"""Proper and improper torsions as Fourier series."""

import math
from dataclasses import replace

import torch
from numpy.polynomial import chebyshev
from torch import Tensor

from espalike.bounds import check_number
from espalike.geometry import Angle, Dihedral
from espalike.terms.base import OUTER_3, REVERSAL_4, Param, Term
from espalike.terms.fourier import Fourier
from espalike.terms.primitives import OutOfPlane, Primitive
from espalike.tuples import Kind

PERIODS = (1, 2, 3, 4, 5, 6)
"""Periodicities of proper torsions."""
_ZEROS = (0.0,) * len(PERIODS)
_POWERS = torch.tensor(
    [chebyshev.poly2cheb([0.0] * m + [(-1.0) ** m]).tolist() + [0.0] * (5 - m) for m in range(6)],
    dtype=torch.float64,
    device="cpu",
)
"""cosᵐ(φ − π), m = 0…5, as Σₙ cₙ cos nφ: coefficients by row."""


class _Proper(Term):
    kind = Kind.PROPER
    coordinates = (Dihedral(0, 1, 2, 3),)
    q_names = ("phi",)
    symmetry = REVERSAL_4


class PeriodicProper(_Proper):
    """Σₙ kₙ (1 + cos nφ), n = 1…6, kₙ of either sign (a phase of 0 or 180° up to a constant).

    As in Amber (W. D. Cornell et al., J. Am. Chem. Soc. 117 (1995) 5179).

    Args:
        smallest: coefficients that are nearer to zero are left out, except in training [kcal/mol].

    Raises:
        ValueError: when `smallest` is negative or not a number.
    """

    params = tuple(Param(f"k{n}", "kcal/mol", mean=0.0, std=0.5 if n <= 3 else 0.1, link="free") for n in PERIODS)

    def __init__(self, smallest: float = 0.0):
        check_number(f"{self.name}.smallest", smallest, 0)
        if smallest:
            self.params = tuple(replace(param, smallest=float(smallest)) for param in type(self).params)

    def primitives(self, p: tuple[Tensor, ...]) -> tuple[Primitive, ...]:
        """One series of cosines."""
        return (Fourier((0,), PERIODS, _ZEROS, p),)


class PeriodicProperPhase(_Proper):
    """Σₙ kₙ (1 + cos(nφ − δₙ)), n = 1…6, any phase δₙ: the form of imported force fields.

    As in Amber (W. D. Cornell et al., J. Am. Chem. Soc. 117 (1995) 5179).
    """

    params = (
        *(Param(f"k{n}", "kcal/mol", mean=0.0, std=0.5, link="free") for n in PERIODS),
        *(Param(f"phase{n}", "radian", mean=0.0, std=0.1, link="free") for n in PERIODS),
    )

    def primitives(self, p: tuple[Tensor, ...]) -> tuple[Primitive, ...]:
        """One series."""
        half = len(PERIODS)
        return (Fourier((0,), PERIODS, p[half:], p[:half]),)


class PeriodicImproper(Term):
    """k/3 Σ (1 + cos(2φ − π)) over three dihedrals (centre, outer, outer, outer): SMIRNOFF's trefoil.

    Every cyclic order of the outer atoms counts once, so the energy does not depend on atom numbering
    (D. L. Mobley et al., J. Chem. Theory Comput. 14 (2018) 6076).
    """

    kind = Kind.IMPROPER
    coordinates = (Dihedral(1, 0, 2, 3), Dihedral(1, 2, 3, 0), Dihedral(1, 3, 0, 2))
    q_names = ("phi1", "phi2", "phi3")
    symmetry = OUTER_3
    params = (Param("k2", "kcal/mol", mean=2.0, std=3.0, link="free"),)

    def primitives(self, p: tuple[Tensor, ...]) -> tuple[Primitive, ...]:
        """The mean of one cosine over the three dihedrals."""
        return (Fourier((0, 1, 2), (2,), (math.pi,), p),)


class PeriodicProperOdd(_Proper):
    """Σₙ kₙ (1 + cos nφ) + sₙ sin nφ, n = 1…6.

    The sine part changes sign in the mirror image: right for a chiral environment only. A network that does not see
    stereochemistry gives both enantiomers the same sₙ, and hence different energies. The same series as that of a
    `PeriodicProperPhase` (W. D. Cornell et al., J. Am. Chem. Soc. 117 (1995) 5179).
    """

    params = (
        *PeriodicProper.params,
        *(Param(f"s{n}", "kcal/mol", mean=0.0, std=0.1, link="free") for n in PERIODS),
    )

    def primitives(self, p: tuple[Tensor, ...]) -> tuple[Primitive, ...]:
        """One series: s sin nφ is s (1 + cos(nφ − 90°)) − s."""
        sines = p[len(PERIODS) :]
        phases = (*_ZEROS, *(math.pi / 2,) * len(PERIODS))
        return (Fourier((0,), PERIODS * 2, phases, p, -torch.stack(sines).sum(0)),)


class RyckaertBellemans(_Proper):
    """Σₙ cₙ cosⁿ(φ − π), n = 0…5 (J.-P. Ryckaert, A. Bellemans, Chem. Phys. Lett. 30 (1975) 123)."""

    params = tuple(Param(f"c{n}", "kcal/mol", mean=0.0, std=0.5, link="free") for n in range(6))

    def primitives(self, p: tuple[Tensor, ...]) -> tuple[Primitive, ...]:
        """One series of cosines: powers of a cosine are sums of cosines of multiples."""
        zero, *k = (torch.stack(p, -1) @ _POWERS.to(p[0])).unbind(-1)
        return (Fourier((0,), PERIODS[:5], _ZEROS[:5], tuple(k), zero - torch.stack(k).sum(0)),)


class WilsonImproper(Term):
    """½ k χ², χ the mean of the three Wilson out-of-plane angles of a trigonal centre.

    Class II's improper (H. Sun, J. Phys. Chem. B 102 (1998) 7338).
    """

    kind = Kind.IMPROPER
    coordinates = (
        Angle(0, 1, 2), Dihedral(0, 1, 2, 3),
        Angle(2, 1, 3), Dihedral(2, 1, 3, 0),
        Angle(3, 1, 0), Dihedral(3, 1, 0, 2),
    )  # fmt: skip
    q_names = ("ta", "pa", "tb", "pb", "tc", "pc")
    symmetry = OUTER_3
    params = (Param("k", "kcal/mol", mean=30.0, std=0.5, link="positive"),)

    def primitives(self, p: tuple[Tensor, ...]) -> tuple[Primitive, ...]:
        """One out-of-plane bend."""
        return (OutOfPlane((0, 1, 2, 3, 4, 5), p[0]),)
