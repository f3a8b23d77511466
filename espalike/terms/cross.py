"""Class II couplings of bonds, angles and torsions.

Forms: A. T. Hagler, C. S. Ewig, Comput. Phys. Commun. 84 (1994) 131 and H. Sun, J. Phys. Chem. B 102 (1998) 7338
(COMPASS). Equilibrium values are those of the bond and angle terms of the same force field. Force constants are
bounded, so that a network's guess about unseen chemistry cannot outweigh the bonds and angles it couples; those of a
bond with its angles are also bounded together, relative to the force constants of both (`espalike.nn.readout`).
"""

from dataclasses import replace
from typing import ClassVar

from torch import Tensor

from espalike.geometry import Angle, Dihedral, Distance
from espalike.terms import priors
from espalike.terms.base import REVERSAL_3, REVERSAL_4, Borrow, Op, Param, Straightened, Term, swapping
from espalike.terms.fourier import Coupling
from espalike.terms.primitives import Primitive
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


def _bond_angle(name: str, *bond: int) -> Param:
    constants = Borrow(Kind.BOND, "k", bond), Borrow(Kind.ANGLE, "k", (0, 1, 2), "kcal/mol")
    return replace(_coupling(name, STRETCH, 15.0, 60.0), couples=constants)


class BondBond(Term):
    """k (rₐ − rₐ₀)(r_b − r_b₀) of two bonds that share an atom.

    Class II: H. Sun, J. Phys. Chem. B 102 (1998) 7338.
    """

    kind = Kind.ANGLE
    coordinates = (Distance(0, 1), Distance(1, 2))
    q_names = ("ra", "rb")
    symmetry = swapping(REVERSAL_3, (0, 2, 1))
    params = (_coupling("k", STRETCH_2, 20.0, 100.0), _r0("ra0", 0, 1), _r0("rb0", 1, 2))

    def primitives(self, p: tuple[Tensor, ...]) -> tuple[Primitive, ...]:
        """One coupling."""
        k, ra0, rb0 = p
        return (Coupling((0, 1), (ra0, rb0), (k,)),)


class BondAngle(Straightened):
    """(kₐ (rₐ − rₐ₀) + k_b (r_b − r_b₀)) (θ − θ₀): an angle with its two bonds.

    Class II: H. Sun, J. Phys. Chem. B 102 (1998) 7338.
    """

    kind = Kind.ANGLE
    coordinates = (Distance(0, 1), Distance(1, 2), Angle(0, 1, 2))
    q_names = ("ra", "rb", "theta")
    symmetry = swapping(REVERSAL_3, (1, 0, 3, 2, 4))
    params = (
        _bond_angle("ka", 0, 1),
        _bond_angle("kb", 1, 2),
        _r0("ra0", 0, 1),
        _r0("rb0", 1, 2),
        _theta0("theta0", 0, 1, 2),
    )
    at_linear: ClassVar = {"ka": 0.0, "kb": 0.0}

    def primitives(self, p: tuple[Tensor, ...]) -> tuple[Primitive, ...]:
        """One coupling per bond."""
        ka, kb, ra0, rb0, theta0 = p
        return Coupling((0, 2), (ra0, theta0), (ka,)), Coupling((1, 2), (rb0, theta0), (kb,))


class AngleAngle(Term):
    """k (θₐ − θₐ₀)(θ_b − θ_b₀) of two angles with the same centre that share a bond.

    Class II: H. Sun, J. Phys. Chem. B 102 (1998) 7338.
    """

    kind = Kind.ANGLE_PAIR
    coordinates = (Angle(0, 1, 2), Angle(2, 1, 3))
    q_names = ("ta", "tb")
    symmetry = (Op((0, 1, 2, 3)), Op((3, 1, 2, 0), columns=(0, 2, 1)))
    params = (_coupling("k", "kcal/mol", 5.0, 20.0), _theta0("ta0", 0, 1, 2), _theta0("tb0", 2, 1, 3))

    def primitives(self, p: tuple[Tensor, ...]) -> tuple[Primitive, ...]:
        """One coupling."""
        k, ta0, tb0 = p
        return (Coupling((0, 1), (ta0, tb0), (k,)),)


class BondBond13(Term):
    """k (rₐ − rₐ₀)(r_b − r_b₀) of the first and the last bond of a torsion.

    Class II: H. Sun, J. Phys. Chem. B 102 (1998) 7338.
    """

    kind = Kind.PROPER
    coordinates = (Distance(0, 1), Distance(2, 3))
    q_names = ("ra", "rb")
    symmetry = swapping(REVERSAL_4, (0, 2, 1))
    params = (_coupling("k", STRETCH_2, 10.0, 40.0), _r0("ra0", 0, 1), _r0("rb0", 2, 3))

    def primitives(self, p: tuple[Tensor, ...]) -> tuple[Primitive, ...]:
        """One coupling."""
        k, ra0, rb0 = p
        return (Coupling((0, 1), (ra0, rb0), (k,)),)


class MiddleBondTorsion(Term):
    """(r − r₀) Σₙ fₙ cos nφ, n = 1, 2, 3: a torsion with its middle bond.

    Class II: H. Sun, J. Phys. Chem. B 102 (1998) 7338.
    """

    kind = Kind.PROPER
    coordinates = (Distance(1, 2), Dihedral(0, 1, 2, 3))
    q_names = ("r", "phi")
    symmetry = REVERSAL_4
    params = (*(_coupling(f"f{n}", STRETCH, 3.0, 15.0) for n in ORDERS), _r0("r0", 1, 2))

    def primitives(self, p: tuple[Tensor, ...]) -> tuple[Primitive, ...]:
        """One coupling."""
        return (Coupling((0,), (p[3],), p[:3], 1, ORDERS),)


class EndBondTorsion(Term):
    """(rₐ − rₐ₀) Σₙ aₙ cos nφ + (r_b − r_b₀) Σₙ bₙ cos nφ, n = 1, 2, 3: a torsion with its two outer bonds.

    Class II: H. Sun, J. Phys. Chem. B 102 (1998) 7338.
    """

    kind = Kind.PROPER
    coordinates = (Distance(0, 1), Distance(2, 3), Dihedral(0, 1, 2, 3))
    q_names = ("ra", "rb", "phi")
    symmetry = swapping(REVERSAL_4, (3, 4, 5, 0, 1, 2, 7, 6))
    params = (
        *(_coupling(f"{side}{n}", STRETCH, 3.0, 15.0) for side in "ab" for n in ORDERS),
        _r0("ra0", 0, 1),
        _r0("rb0", 2, 3),
    )

    def primitives(self, p: tuple[Tensor, ...]) -> tuple[Primitive, ...]:
        """One coupling per bond."""
        return Coupling((0,), (p[6],), p[:3], 2, ORDERS), Coupling((1,), (p[7],), p[3:6], 2, ORDERS)


class AngleTorsion(Term):
    """(θₐ − θₐ₀) Σₙ aₙ cos nφ + (θ_b − θ_b₀) Σₙ bₙ cos nφ, n = 1, 2, 3: a torsion with its two angles.

    Class II: H. Sun, J. Phys. Chem. B 102 (1998) 7338.
    """

    kind = Kind.PROPER
    coordinates = (Angle(0, 1, 2), Angle(1, 2, 3), Dihedral(0, 1, 2, 3))
    q_names = ("ta", "tb", "phi")
    symmetry = swapping(REVERSAL_4, (3, 4, 5, 0, 1, 2, 7, 6))
    params = (
        *(_coupling(f"{side}{n}", "kcal/mol", 2.0, 10.0) for side in "ab" for n in ORDERS),
        _theta0("ta0", 0, 1, 2),
        _theta0("tb0", 1, 2, 3),
    )

    def primitives(self, p: tuple[Tensor, ...]) -> tuple[Primitive, ...]:
        """One coupling per angle."""
        return Coupling((0,), (p[6],), p[:3], 2, ORDERS), Coupling((1,), (p[7],), p[3:6], 2, ORDERS)


class AngleAngleTorsion(Term):
    """k (θₐ − θₐ₀)(θ_b − θ_b₀) cos φ.

    Class II: H. Sun, J. Phys. Chem. B 102 (1998) 7338.
    """

    kind = Kind.PROPER
    coordinates = (Angle(0, 1, 2), Angle(1, 2, 3), Dihedral(0, 1, 2, 3))
    q_names = ("ta", "tb", "phi")
    symmetry = swapping(REVERSAL_4, (0, 2, 1))
    params = (_coupling("k", "kcal/mol", 5.0, 20.0), _theta0("ta0", 0, 1, 2), _theta0("tb0", 1, 2, 3))

    def primitives(self, p: tuple[Tensor, ...]) -> tuple[Primitive, ...]:
        """One coupling."""
        k, ta0, tb0 = p
        return (Coupling((0, 1), (ta0, tb0), (k,), 2, (1,)),)
