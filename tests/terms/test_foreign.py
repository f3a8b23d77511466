"""Forms of one's own: what a form states of itself has to agree, or no network and no file is made of it."""

import pytest
import torch

from espalike.energy import energy
from espalike.export.expressions import check_expression
from espalike.export.parts import ExportError
from espalike.geometry import Angle, Distance
from espalike.model import ForceFieldModel
from espalike.nn.convs import SAGE
from espalike.nn.forms import check_form
from espalike.system import Bound, MMSystem
from espalike.terms.base import REVERSAL_2, REVERSAL_3, Op, PairTerm, Param, Term
from espalike.terms.bond import R0, HarmonicBond, K
from espalike.terms.primitives import Harmonic
from espalike.tuples import Kind, Tuples
from tests.terms.common import TERMS


class Spring(Term):
    """½ k (r − r₀)² by an expression."""

    kind = Kind.BOND
    coordinates = (Distance(0, 1),)
    q_names = ("r",)
    symmetry = REVERSAL_2
    params = (K, R0)
    expression = "0.5*k*d^2; d=r-r0"

    def energy(self, q, p):
        (r,), (k, r0) = q, p
        return 0.5 * k * (r - r0) ** 2


class Gradient(Spring):
    def slopes(self, q, p):
        (r,), (k, r0) = q, p
        return self.energy(q, p), (-k * (r - r0),)


class Kilojoules(HarmonicBond):
    params = (Param("k", "kJ/mol/nm**2", mean=3e5, std=0.3, link="positive"), R0)

    def primitives(self, p):
        return (Harmonic(0, *p),)


class Total(Spring):
    def energy(self, q, p):
        return super().energy(q, p).sum()


class OneBond(Term):
    """c (r₁ − r₀)(θ − 1.9): the other bond has no part in it."""

    kind = Kind.ANGLE
    coordinates = (Distance(0, 1), Distance(1, 2), Angle(0, 1, 2))
    q_names = ("r1", "r2", "theta")
    symmetry = REVERSAL_3
    params = (
        Param("c", "kcal/mol/angstrom/radian", mean=20.0, std=5.0, link="free"),
        Param("r0", "angstrom", mean=1.2, std=0.05, link="positive"),
    )
    expression = "c*(r1-r0)*(theta-1.9)"

    def energy(self, q, p):
        return p[0] * (q[0] - p[1]) * (q[2] - 1.9)


class OneWay(OneBond):
    symmetry = (Op((0, 1, 2)),)


class FirstAtom(PairTerm):
    """A repulsion of the first atom's strength."""

    coordinates = (Distance(0, 1),)
    q_names = ("r",)
    params = (Param("b", "kcal/mol", mean=1.0, std=0.5, link="positive"),)
    combining = "b=b1"
    expression = "b*exp(-r)"

    def combine(self, first, second):
        return (first[0],)

    def energy(self, q, p):
        return p[0] * torch.exp(-q[0])


class Product(FirstAtom):
    def combine(self, first, second):
        return (first[0] * second[0],)


class RightProduct(Product):
    combining = "b=b1*b2"


class NoNumber(Spring):
    def energy(self, q, p):
        return super().energy(q, p) * torch.nan


class NoSlope(Spring):
    def slopes(self, q, p):
        energy, slopes = Term.slopes(self, q, p)
        return energy, tuple(torch.full_like(slope, torch.nan) for slope in slopes)


FAULTS = {
    NoNumber: "not finite at any geometry",
    NoSlope: "the slope by r is nan",
    Gradient: "the slope by r is",
    Kilojoules: "k is in kJ/mol/nm",
    Total: "energies have shape",
    OneBond: r"order of atoms \(2, 1, 0\)",
    OneWay: r"lacks \(2, 1, 0\)",
    FirstAtom: r"order of atoms \(1, 0\)",
}


@pytest.mark.parametrize("cls", FAULTS, ids=lambda cls: cls.__name__)
def test_no_network_is_built_for_a_form_that_contradicts_itself(cls):
    with pytest.raises(ValueError, match=f"{cls.__name__}: .*{FAULTS[cls]}"):
        ForceFieldModel([cls()], SAGE, width=8, layers=1, hidden=8)


@pytest.mark.parametrize("cls", [Spring, Product, RightProduct], ids=lambda cls: cls.__name__)
def test_sound_forms_are_taken(cls):
    ForceFieldModel([cls()], SAGE, width=8, layers=1, hidden=8)


@pytest.mark.parametrize("term", TERMS, ids=repr)
def test_the_forms_of_espalike_are_sound(term):
    check_form(term)


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("k*(r-r0)^2", "its expression gives"),
        ("0.5*k*(r-r0)^2+sqrt(-r)", "its expression gives nan"),
        ("0.5*k*(r-r_0)^2", "has r_0; its coordinates and parameters are r, k, r0"),
        ("0.5*k*(r-r0", "OpenMM cannot compute"),
    ],
)
def test_an_expression_that_is_not_the_energy_is_not_exported(expression, message):
    class Other(Spring):
        pass

    Other.expression = expression
    with pytest.raises(ExportError, match=f"Other: .*{message}"):
        check_expression(Other())


def test_expressions_that_are_the_energy_are_exported():
    for term in (Spring(), RightProduct(), HarmonicBond()):
        check_expression(term)
    with pytest.raises(ExportError, match=r"Product: at r = .*, b1 = .*, b2 = .* its energy is"):
        check_expression(Product())


def test_a_coordinate_may_have_no_part_in_the_energy():
    """Forces of such a form equal finite differences."""
    tuples = Tuples(torch.tensor([[0, 1, 2]]), torch.zeros(1, dtype=torch.long))
    values, zeros = torch.tensor([[20.0, 1.2]], dtype=torch.float64), torch.zeros(3, dtype=torch.long)
    system = MMSystem((Bound(OneBond(), tuples, values),), zeros + 6, zeros)
    xyz = torch.tensor([[[1.4, 0.1, 0.0], [0.0, 0.0, 0.0], [-0.3, 1.3, 0.2]]], dtype=torch.float64)
    steps = 1e-5 * torch.eye(9, dtype=torch.float64).view(9, 3, 3)
    up, down = (energy(system, xyz + sign * steps, forces=False).energy for sign in (1, -1))
    torch.testing.assert_close(energy(system, xyz).forces[0], -((up - down) / 2e-5).view(3, 3), rtol=1e-6, atol=1e-6)
