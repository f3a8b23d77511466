"""Class II couplings of bonds, angles and torsions.

Forms: A. T. Hagler, C. S. Ewig, Comput. Phys. Commun. 84 (1994) 131 and H. Sun, J. Phys. Chem. B 102 (1998) 7338
(COMPASS). Equilibrium values are those of the bond and angle terms of the same force field. Force constants are
bounded, so that a network's guess about unseen chemistry cannot outweigh the bonds and angles it couples.
"""

import torch
from torch import Tensor

from espalike.geometry import Angle, Dihedral, Distance
from espalike.terms import priors
from espalike.terms.base import ANGLE, LENGTH, REVERSAL_3, REVERSAL_4, Borrow, Op, Param, Term, swapping
from espalike.tuples import Kind

STRETCH, STRETCH_2 = "kcal/mol/angstrom", "kcal/mol/angstrom**2"
ORDERS = (1, 2, 3)
"""Periodicities in couplings with a torsion."""


def _coupling(name: str, unit: str, std: float, bound: float) -> Param:
    return Param(name, unit, mean=0.0, std=std, link=f"range({-bound},{bound})")


def _r0(name: str, *atoms: int) -> Param:
    lender = Borrow(Kind.BOND, "r0", atoms)
    return Param(name, "angstrom", mean=priors.bond_length, std=0.05, link="positive", shifts=True, borrows=lender)


def _theta0(name: str, *atoms: int) -> Param:
    lender, link = Borrow(Kind.ANGLE, "theta0", atoms), "range(0.6,3.141592653589793)"
    return Param(name, "radian", mean=priors.bond_angle, std=0.1, link=link, shifts=True, borrows=lender)


def _cosines(phi: Tensor, coefficients: tuple[Tensor, ...]) -> Tensor:
    """Σₙ cₙ cos nφ, n = 1, 2, 3, from one cosine."""
    c = torch.cos(phi)
    one, two, three = coefficients
    return one * c + two * (2.0 * c * c - 1.0) + three * (4.0 * c * c - 3.0) * c


def _product(x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
    """Functions that k (x − a)(y − b) is a sum of."""
    return x, y, x * y


def _product_coefficients(k: Tensor, a: Tensor, b: Tensor) -> tuple[Tensor, ...]:
    """Their coefficients."""
    return -k * b, -k * a, k


def _with_cosines(d: tuple[Tensor, ...], phi: Tensor) -> tuple[Tensor, ...]:
    """Functions that Σ (dᵢ − sᵢ) Σₙ kᵢₙ cos nφ is a sum of."""
    cosines = [torch.cos(n * phi) for n in ORDERS]
    return *(x * c for x in d for c in cosines), *cosines


def _cosine_coefficients(k: tuple[Tensor, ...], s: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Their coefficients; `k` are those of the first d, then those of the second."""
    of = [k[start : start + len(ORDERS)] for start in range(0, len(k), len(ORDERS))]
    return *k, *(-sum(x * y for x, y in zip(each, s, strict=True)) for each in zip(*of, strict=True))


def _series(letter: str) -> str:
    return "(" + "+".join(f"{letter}{n}*cos({n}*phi)" for n in ORDERS) + ")"


class BondBond(Term):
    """k (rₐ − rₐ₀)(r_b − r_b₀) of two bonds that share an atom."""

    kind = Kind.ANGLE
    coordinates = (Distance(0, 1), Distance(1, 2))
    q_names = ("ra", "rb")
    symmetry = swapping(REVERSAL_3, (0, 2, 1))
    params = (_coupling("k", STRETCH_2, 20.0, 100.0), _r0("ra0", 0, 1), _r0("rb0", 1, 2))
    expression = "k*(ra-ra0)*(rb-rb0)"

    def energy(self, q: tuple[Tensor, ...], p: tuple[Tensor, ...]) -> Tensor:
        """Energy [kcal/mol]."""
        (ra, rb), (k, ra0, rb0) = q, p
        return k * (ra - ra0) * (rb - rb0)

    def basis(self, q: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """As in `Term.basis`."""
        return _product(q[0] - LENGTH, q[1] - LENGTH)

    def coefficients(self, p: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """As in `Term.coefficients`."""
        k, a0, b0 = p
        return _product_coefficients(k, a0 - LENGTH, b0 - LENGTH)


class BondAngle(Term):
    """(kₐ (rₐ − rₐ₀) + k_b (r_b − r_b₀)) (θ − θ₀): an angle with its two bonds."""

    kind = Kind.ANGLE
    coordinates = (Distance(0, 1), Distance(1, 2), Angle(0, 1, 2))
    q_names = ("ra", "rb", "theta")
    symmetry = swapping(REVERSAL_3, (1, 0, 3, 2, 4))
    params = (
        _coupling("ka", STRETCH, 15.0, 60.0),
        _coupling("kb", STRETCH, 15.0, 60.0),
        _r0("ra0", 0, 1),
        _r0("rb0", 1, 2),
        _theta0("theta0", 0, 1, 2),
    )
    expression = "(ka*(ra-ra0)+kb*(rb-rb0))*(theta-theta0)"

    def energy(self, q: tuple[Tensor, ...], p: tuple[Tensor, ...]) -> Tensor:
        """Energy [kcal/mol]."""
        (ra, rb, theta), (ka, kb, ra0, rb0, theta0) = q, p
        return (ka * (ra - ra0) + kb * (rb - rb0)) * (theta - theta0)

    def basis(self, q: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """As in `Term.basis`."""
        a, b, t = q[0] - LENGTH, q[1] - LENGTH, q[2] - ANGLE
        return a, b, t, a * t, b * t

    def coefficients(self, p: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """As in `Term.coefficients`."""
        ka, kb, a, b, t = p[0], p[1], p[2] - LENGTH, p[3] - LENGTH, p[4] - ANGLE
        return -ka * t, -kb * t, -(ka * a + kb * b), ka, kb


class AngleAngle(Term):
    """k (θₐ − θₐ₀)(θ_b − θ_b₀) of two angles with the same centre that share a bond."""

    kind = Kind.ANGLE_PAIR
    coordinates = (Angle(0, 1, 2), Angle(2, 1, 3))
    q_names = ("ta", "tb")
    symmetry = (Op((0, 1, 2, 3)), Op((3, 1, 2, 0), columns=(0, 2, 1)))
    params = (_coupling("k", "kcal/mol", 5.0, 20.0), _theta0("ta0", 0, 1, 2), _theta0("tb0", 2, 1, 3))
    expression = "k*(ta-ta0)*(tb-tb0)"

    def energy(self, q: tuple[Tensor, ...], p: tuple[Tensor, ...]) -> Tensor:
        """Energy [kcal/mol]."""
        (ta, tb), (k, ta0, tb0) = q, p
        return k * (ta - ta0) * (tb - tb0)

    def basis(self, q: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """As in `Term.basis`."""
        return _product(q[0] - ANGLE, q[1] - ANGLE)

    def coefficients(self, p: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """As in `Term.coefficients`."""
        k, a0, b0 = p
        return _product_coefficients(k, a0 - ANGLE, b0 - ANGLE)


class BondBond13(Term):
    """k (rₐ − rₐ₀)(r_b − r_b₀) of the first and the last bond of a torsion."""

    kind = Kind.PROPER
    coordinates = (Distance(0, 1), Distance(2, 3))
    q_names = ("ra", "rb")
    symmetry = swapping(REVERSAL_4, (0, 2, 1))
    params = (_coupling("k", STRETCH_2, 10.0, 40.0), _r0("ra0", 0, 1), _r0("rb0", 2, 3))
    expression = "k*(ra-ra0)*(rb-rb0)"

    def energy(self, q: tuple[Tensor, ...], p: tuple[Tensor, ...]) -> Tensor:
        """Energy [kcal/mol]."""
        (ra, rb), (k, ra0, rb0) = q, p
        return k * (ra - ra0) * (rb - rb0)

    def basis(self, q: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """As in `Term.basis`."""
        return _product(q[0] - LENGTH, q[1] - LENGTH)

    def coefficients(self, p: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """As in `Term.coefficients`."""
        k, a0, b0 = p
        return _product_coefficients(k, a0 - LENGTH, b0 - LENGTH)


class MiddleBondTorsion(Term):
    """(r − r₀) Σₙ fₙ cos nφ, n = 1, 2, 3: a torsion with the bond it turns about."""

    kind = Kind.PROPER
    coordinates = (Distance(1, 2), Dihedral(0, 1, 2, 3))
    q_names = ("r", "phi")
    symmetry = REVERSAL_4
    params = (*(_coupling(f"f{n}", STRETCH, 3.0, 15.0) for n in ORDERS), _r0("r0", 1, 2))
    expression = f"(r-r0)*{_series('f')}"

    def energy(self, q: tuple[Tensor, ...], p: tuple[Tensor, ...]) -> Tensor:
        """Energy [kcal/mol]."""
        (r, phi), (*f, r0) = q, p
        return (r - r0) * _cosines(phi, tuple(f))

    def basis(self, q: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """As in `Term.basis`."""
        return _with_cosines((q[0] - LENGTH,), q[1])

    def coefficients(self, p: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """As in `Term.coefficients`."""
        return _cosine_coefficients(p[:3], (p[3] - LENGTH,))


class EndBondTorsion(Term):
    """(rₐ − rₐ₀) Σₙ aₙ cos nφ + (r_b − r_b₀) Σₙ bₙ cos nφ, n = 1, 2, 3: a torsion with its two outer bonds."""

    kind = Kind.PROPER
    coordinates = (Distance(0, 1), Distance(2, 3), Dihedral(0, 1, 2, 3))
    q_names = ("ra", "rb", "phi")
    symmetry = swapping(REVERSAL_4, (3, 4, 5, 0, 1, 2, 7, 6))
    params = (
        *(_coupling(f"{side}{n}", STRETCH, 3.0, 15.0) for side in "ab" for n in ORDERS),
        _r0("ra0", 0, 1),
        _r0("rb0", 2, 3),
    )
    expression = f"(ra-ra0)*{_series('a')}+(rb-rb0)*{_series('b')}"

    def energy(self, q: tuple[Tensor, ...], p: tuple[Tensor, ...]) -> Tensor:
        """Energy [kcal/mol]."""
        ra, rb, phi = q
        return (ra - p[6]) * _cosines(phi, p[:3]) + (rb - p[7]) * _cosines(phi, p[3:6])

    def basis(self, q: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """As in `Term.basis`."""
        return _with_cosines((q[0] - LENGTH, q[1] - LENGTH), q[2])

    def coefficients(self, p: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """As in `Term.coefficients`."""
        return _cosine_coefficients(p[:6], (p[6] - LENGTH, p[7] - LENGTH))


class AngleTorsion(Term):
    """(θₐ − θₐ₀) Σₙ aₙ cos nφ + (θ_b − θ_b₀) Σₙ bₙ cos nφ, n = 1, 2, 3: a torsion with its two angles."""

    kind = Kind.PROPER
    coordinates = (Angle(0, 1, 2), Angle(1, 2, 3), Dihedral(0, 1, 2, 3))
    q_names = ("ta", "tb", "phi")
    symmetry = swapping(REVERSAL_4, (3, 4, 5, 0, 1, 2, 7, 6))
    params = (
        *(_coupling(f"{side}{n}", "kcal/mol", 2.0, 10.0) for side in "ab" for n in ORDERS),
        _theta0("ta0", 0, 1, 2),
        _theta0("tb0", 1, 2, 3),
    )
    expression = f"(ta-ta0)*{_series('a')}+(tb-tb0)*{_series('b')}"

    def energy(self, q: tuple[Tensor, ...], p: tuple[Tensor, ...]) -> Tensor:
        """Energy [kcal/mol]."""
        ta, tb, phi = q
        return (ta - p[6]) * _cosines(phi, p[:3]) + (tb - p[7]) * _cosines(phi, p[3:6])

    def basis(self, q: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """As in `Term.basis`."""
        return _with_cosines((q[0] - ANGLE, q[1] - ANGLE), q[2])

    def coefficients(self, p: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """As in `Term.coefficients`."""
        return _cosine_coefficients(p[:6], (p[6] - ANGLE, p[7] - ANGLE))


class AngleAngleTorsion(Term):
    """k (θₐ − θₐ₀)(θ_b − θ_b₀) cos φ."""

    kind = Kind.PROPER
    coordinates = (Angle(0, 1, 2), Angle(1, 2, 3), Dihedral(0, 1, 2, 3))
    q_names = ("ta", "tb", "phi")
    symmetry = swapping(REVERSAL_4, (0, 2, 1))
    params = (_coupling("k", "kcal/mol", 5.0, 20.0), _theta0("ta0", 0, 1, 2), _theta0("tb0", 1, 2, 3))
    expression = "k*(ta-ta0)*(tb-tb0)*cos(phi)"

    def energy(self, q: tuple[Tensor, ...], p: tuple[Tensor, ...]) -> Tensor:
        """Energy [kcal/mol]."""
        (ta, tb, phi), (k, ta0, tb0) = q, p
        return k * (ta - ta0) * (tb - tb0) * torch.cos(phi)

    def basis(self, q: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """As in `Term.basis`."""
        cosine = torch.cos(q[2])
        return cosine, *(f * cosine for f in _product(q[0] - ANGLE, q[1] - ANGLE))

    def coefficients(self, p: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """As in `Term.coefficients`."""
        k, a, b = p[0], p[1] - ANGLE, p[2] - ANGLE
        return k * a * b, *_product_coefficients(k, a, b)
