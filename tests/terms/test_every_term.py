"""The suite every term inherits: whatever subclass of `Term` exists is tested, with no list to edit."""

import math
import re

import pytest
import torch

from espalike.energy import energy
from espalike.geometry import Distance
from espalike.system import Bound, MMSystem
from espalike.terms import coulomb, primitives
from espalike.terms.base import Op, PairTerm, Param, Term, is_group
from espalike.terms.primitives import Expression, Polynomial
from espalike.tuples import Kind, Tuples
from espalike.units import COULOMB, convert, factor
from tests.terms.common import (
    CLASSES,
    F64,
    N_ATOMS,
    TERMS,
    of_atoms,
    plain_energy,
    positions,
    system_of,
    values,
    with_values,
)


def test_every_kind_of_tuple_has_a_term():
    assert {cls.kind for cls in CLASSES} == set(Kind) - {Kind.ATOM}


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_the_docstring_gives_formula_and_source(cls):
    """docs/terms.md shows them: the first line is a formula, and a reference with its year follows."""
    text = cls.__doc__.partition("Args:")[0]
    assert any(symbol in text.splitlines()[0] for symbol in "rρθφχ")
    assert re.search(r"\((?:19|20)\d\d\)", text), f"{cls.__name__}: no source"


def in_other_units(unit):
    return unit.replace("kcal/mol", "kJ/mol").replace("angstrom", "nm").replace("radian", "degree")


@pytest.mark.parametrize("term", TERMS, ids=repr)
class TestEveryTerm:
    def test_columns_are_named_once_and_the_symmetry_is_a_group(self, term):
        names = [p.name for p in term.params]
        assert len(set(names)) == len(names)
        assert len(term.coordinates) == len(term.q_names)
        assert max(a for c in term.coordinates for a in c.atoms) < term.kind.size
        assert is_group(term.symmetry, len(term.params))
        assert all(sorted(op.atoms) == list(range(term.param_kind.size)) for op in term.symmetry)

    def test_forces_equal_finite_differences(self, term):
        system, xyz, h = system_of(term), positions(term), 1e-5
        steps = h * torch.eye(N_ATOMS * 3, dtype=F64).view(-1, 1, N_ATOMS, 3)
        up, down = ((xyz + s).reshape(-1, N_ATOMS, 3) for s in (steps, -steps))
        difference = energy(system, up, forces=False).energy - energy(system, down, forces=False).energy
        numeric = -(difference / (2 * h)).view(N_ATOMS, 3, len(xyz)).permute(2, 0, 1)
        assert numeric.abs().max() > 1e-3
        torch.testing.assert_close(energy(system, xyz).forces, numeric, rtol=1e-6, atol=1e-6)

    def test_energy_and_forces_equal_autograd_through_positions(self, term):
        system, xyz = system_of(term), positions(term, 1)
        x = xyz.transpose(0, 1).clone().requires_grad_()
        u = plain_energy(system.terms[0], x)
        (gradient,) = torch.autograd.grad(u.sum(), x)
        actual = energy(system, xyz)
        torch.testing.assert_close(actual.energy[:, 0], u.sum(0), rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(actual.forces, -gradient.transpose(0, 1), rtol=1e-10, atol=1e-10)

    def test_gradcheck_in_coordinates_and_parameters(self, term):
        p = values(term, 3, 3)
        if isinstance(term, PairTerm):
            rows = [row.unbind() for row in of_atoms(term, p).unsqueeze(-1)]
            p = torch.stack([torch.stack(term.combine(rows[0], rows[i])) for i in range(3)]).squeeze(-1)
        p = tuple(c.clone().requires_grad_() for c in p.unbind(-1))
        x = positions(term, 2).transpose(0, 1)
        q = tuple(c(tuple(x[a] for a in c.atoms))[0].clone().requires_grad_() for c in term.coordinates)
        n = len(q)
        assert torch.autograd.gradcheck(lambda *a: term.energy(a[:n], a[n:]), (*q, *p), rtol=1e-4)

    def test_slopes_are_those_of_the_energy(self, term):
        """Values and parameter gradients of what a form gives in closed form, against autograd."""
        x, p = positions(term, 3).permute(1, 2, 0), tuple(c.unsqueeze(-1) for c in values(term, 3, 3).unbind(-1))
        if isinstance(term, PairTerm):
            p = term.within(p)
            p = term.combine(p, tuple(c.flip(0) for c in p))
        p = tuple(c.clone().requires_grad_() for c in p)
        turns = torch.tensor([[0, 1, 2, 3, 4], [3, 1, 0, 5, 2], [5, 4, 3, 1, 2]])
        q = tuple(c(tuple(x[turns[:, a]] for a in c.atoms), dim=1)[0] for c in term.coordinates)
        outcomes = []
        for u, slopes in (term.slopes(q, p), Term.slopes(term, q, p)):
            loss = (torch.sin(u) + sum(torch.cos(i + s) for i, s in enumerate(slopes))).sum()
            outcomes.append([u, *slopes, *torch.autograd.grad(loss, p)])
        for actual, expected in zip(*outcomes, strict=True):
            torch.testing.assert_close(actual, expected, rtol=1e-10, atol=1e-10 * float(expected.detach().abs().max()))
        with torch.no_grad():
            assert not any(actual.requires_grad for actual in (term.slopes(q, p)[0], *term.slopes(q, p)[1]))

    def test_a_loss_on_forces_has_exact_parameter_gradients(self, term):
        system, xyz = system_of(term), positions(term, 4)

        def loss(rows):
            return (energy(with_values(system, rows), xyz, create_graph=True).forces ** 2).mean()

        rows = system.terms[0].values.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(loss(rows), rows)
        numeric = torch.zeros_like(gradient)
        for place in [(r, c) for r in range(2) for c in range(rows.shape[1])]:
            step = torch.zeros_like(gradient)
            step[place] = 1e-5 * max(1.0, abs(float(rows[place].detach())))
            numeric[place] = (loss(rows.detach() + step) - loss(rows.detach() - step)).detach() / (2 * step[place])
        assert gradient[:2].abs().max() > 0
        scale = float(gradient.abs().max())
        torch.testing.assert_close(gradient[:2], numeric[:2], rtol=1e-5, atol=1e-8 * scale)

    def test_invariant_under_each_symmetry_operation(self, term):
        system, xyz = system_of(term), positions(term, 6)
        (bound,), reference = system.terms, energy(system, xyz)
        tuples = bound.tuples
        if isinstance(term, PairTerm):
            flipped = Bound(term, Tuples(tuples.idx.flip(1), tuples.mol, tuples.is14), bound.values)
            written = [flipped]
        else:
            written = []
            for op in term.symmetry:
                columns = list(op.columns or range(len(term.params)))
                signs = torch.tensor(op.signs or (1,) * len(columns))
                rewritten = Tuples(tuples.idx[:, list(op.atoms)], tuples.mol)
                written.append(Bound(term, rewritten, bound.values[:, columns] * signs))
        for other in written:
            actual = energy(MMSystem((other,), system.numbers, system.mol), xyz)
            torch.testing.assert_close(actual.energy, reference.energy, rtol=1e-11, atol=1e-11)
            torch.testing.assert_close(actual.forces, reference.forces, rtol=1e-9, atol=1e-9)

    def test_invariant_under_renumbering_of_atoms(self, term):
        system, xyz = system_of(term), positions(term, 8)
        (bound,) = system.terms
        new = torch.tensor([3, 0, 5, 1, 4, 2])  # new number of each atom
        moved = torch.empty_like(xyz)
        moved[:, new] = xyz
        rows = bound.values
        if isinstance(term, PairTerm):
            rows = torch.empty_like(bound.values)
            rows[new] = bound.values
        tuples = Tuples(new[bound.tuples.idx], bound.tuples.mol, bound.tuples.is14)
        actual = energy(MMSystem((Bound(term, tuples, rows),), system.numbers, system.mol), moved)
        reference = energy(system, xyz)
        torch.testing.assert_close(actual.energy, reference.energy, rtol=1e-11, atol=1e-11)
        torch.testing.assert_close(actual.forces[:, new], reference.forces, rtol=1e-9, atol=1e-9)

    @pytest.mark.parametrize("shape", ["collinear", "folded", "planar", "coincident"])
    def test_finite_at_singular_geometry(self, term, shape):
        line = torch.arange(N_ATOMS, dtype=F64)
        zero, zigzag = torch.zeros_like(line), line % 2
        xyz = {
            "collinear": torch.stack([1.5 * line, zero, zero], -1),
            "folded": torch.stack([zigzag + 0.01 * line, zero, zero], -1),
            "planar": torch.stack([1.3 * line, zigzag, zero], -1),
            "coincident": positions(term, 5)[0],
        }[shape].clone()
        if shape == "coincident":  # neighbours and ends of tuples; of pairs, atoms that do not interact
            xyz[[4] if term.kind is Kind.PAIR else [2, 4]] = xyz[3].clone()
        system = system_of(term)
        rows = system.terms[0].values.clone().requires_grad_()
        prediction = energy(with_values(system, rows), xyz.unsqueeze(0), create_graph=True)
        loss = prediction.energy.sum() + (prediction.forces**2).sum()
        (gradient,) = torch.autograd.grad(loss, rows)
        for tensor in (prediction.energy, prediction.forces, gradient):
            assert tensor.isfinite().all()

    def test_units_round_trip(self, term):
        rows = values(term, 4, 9)
        for c, p in enumerate(term.params):
            assert factor(p.unit) == 1.0  # internal units: what is stored is what is computed with
            converted = convert(rows[:, c], p.unit, in_other_units(p.unit))
            if in_other_units(p.unit) != p.unit:
                assert not torch.allclose(converted, rows[:, c])
            back = convert(converted, in_other_units(p.unit), p.unit)
            torch.testing.assert_close(back, rows[:, c], rtol=1e-14, atol=0)

    def test_units_fit_the_energy(self, term, monkeypatch):
        """With lengths in nm and energies in kJ/mol, in coordinates and parameters alike, the energy is in kJ/mol."""
        x, p = positions(term, 3).transpose(0, 1), values(term, 1, 3)
        q = tuple(c(tuple(x[a] for a in c.atoms))[0] for c in term.coordinates)
        in_nm = tuple(
            convert(v, "angstrom", "nm") if isinstance(c, Distance) else v
            for v, c in zip(q, term.coordinates, strict=True)
        )
        columns = p.unbind(-1)
        units = [p.unit for p in term.params]
        if isinstance(term, PairTerm):
            columns, units = columns[: term.n_combined], units[: term.n_combined]
        foreign = tuple(
            convert(c, unit, unit.replace("kcal/mol", "kJ/mol").replace("angstrom", "nm"))
            for c, unit in zip(columns, units, strict=True)
        )
        if isinstance(term, PairTerm):
            columns, foreign = term.combine(columns, columns), term.combine(foreign, foreign)
        expected = convert(term.energy(q, columns), "kcal/mol", "kJ/mol")
        if term.kind is Kind.BOND and hasattr(term, "centres"):  # numbers that carry a unit go along
            monkeypatch.setattr(type(term), "centres", convert(torch.tensor(term.centres), "angstrom", "nm"))
        if isinstance(term, coulomb.Coulomb):
            monkeypatch.setattr(primitives, "COULOMB", convert(COULOMB, "kcal/mol*angstrom", "kJ/mol*nm"))
        torch.testing.assert_close(term.energy(in_nm, foreign), expected, rtol=1e-6, atol=1e-8)

    def test_float32_follows_the_coordinates(self, term):
        system, xyz = system_of(term), positions(term, 7)
        single, double = energy(system, xyz.float()), energy(system, xyz)
        assert single.energy.dtype == single.forces.dtype == torch.float32
        for a, b in ((single.energy, double.energy), (single.forces, double.forces)):
            torch.testing.assert_close(a.double(), b, rtol=1e-4, atol=1e-5 * float(double.forces.abs().max()))


def test_harmonic_forces_near_180_degrees_stay_right():
    """The force of an angle at 179.99° towards 180° is k δ / r, perpendicular to the bond."""
    from espalike.terms.angle import HarmonicAngle

    delta, k = 1e-4, 100.0
    xyz = torch.tensor([[[1.0, 0, 0], [0, 0, 0], [-math.cos(delta), math.sin(delta), 0]]], dtype=F64)
    tuples = Tuples(torch.tensor([[0, 1, 2]]), torch.zeros(1, dtype=torch.long))
    rows = torch.tensor([[k, torch.pi]], dtype=F64)
    zeros = torch.zeros(3, dtype=torch.long)
    system = MMSystem((Bound(HarmonicAngle(), tuples, rows),), zeros + 6, zeros)
    assert energy(system, xyz).forces[0, 0].norm() == pytest.approx(k * delta, rel=1e-6)


def test_wrong_coordinates_are_refused():
    from espalike.terms.bond import HarmonicBond

    with pytest.raises(ValueError, match=r"shape \(K, 6, 3\); got \(1, 5, 3\)"):
        energy(system_of(HarmonicBond()), torch.zeros(1, 5, 3))


def test_groups():
    assert is_group((Op((0, 1)), Op((1, 0))), 2)
    assert is_group((Op((0, 1, 2)), Op((2, 1, 0), columns=(1, 0))), 2)
    assert not is_group((Op((0, 1, 2)), Op((1, 2, 0))), 1)  # not closed
    assert not is_group((Op((1, 0)),), 1)  # no identity
    assert is_group((Op((0, 1)), Op((1, 0), signs=(-1,))), 1)


def test_a_term_whose_operations_form_no_group_cannot_be_defined():
    with pytest.raises(TypeError, match="not a group"):

        class Broken(Term):
            """Not closed."""

            kind = Kind.ANGLE
            coordinates = ()
            q_names = ()
            symmetry = (Op((0, 1, 2)), Op((1, 2, 0)))
            params = (Param("k", "1", 0.0, 1.0, "free"),)
            expression = "0"


@pytest.mark.parametrize(
    ("arguments", "message"), [({"scale14": "half"}, "scale14"), ({"mixing": "arithmetic"}, "combining rule")]
)
def test_wrong_settings_of_a_pair_term_are_named(arguments, message):
    from espalike.terms.lennard_jones import LennardJones

    with pytest.raises(ValueError, match=f"LennardJones: .*{message}"):
        LennardJones(**arguments)


def test_a_form_with_an_energy_of_its_own_does_not_inherit_slopes():
    class Screened(coulomb.Coulomb):
        def energy(self, q, p):
            return super().energy(q, p) * torch.exp(-q[0])

    q, p = (torch.tensor([[2.0]], dtype=F64),), (torch.tensor([[0.1]], dtype=F64),)
    assert [type(primitive) for primitive in Screened().primitives(p)] == [Expression]
    u, (slope,) = Screened().slopes(q, p)
    torch.testing.assert_close(u, COULOMB * 0.1 / q[0] * torch.exp(-q[0]))
    torch.testing.assert_close(slope, -u * (1.0 + 1.0 / q[0]))


def test_a_form_that_states_nothing_cannot_be_defined():
    with pytest.raises(TypeError, match="Nothing states neither `primitives` nor `energy`"):

        class Nothing(Term):
            """No energy."""

            kind = Kind.BOND
            coordinates = (Distance(0, 1),)
            q_names = ("r",)
            symmetry = (Op((0, 1)),)
            params = (Param("k", "1", 0.0, 1.0, "free"),)


def test_powers_that_a_polynomial_lacks_cost_nothing_and_change_nothing():
    q, c = (torch.tensor([[1.3, 0.2]], dtype=F64),), torch.tensor([[2.0]], dtype=F64)
    for given in ((c, None, None), (c, 3.0 * c, None), (c, None, 5.0 * c), (c, 3.0 * c, 5.0 * c)):
        lacking = Polynomial(0, 0.5, *given)
        whole = Polynomial(0, 0.5, *(torch.zeros_like(c) if x is None else x for x in given))
        assert "None" not in lacking.expression
        assert lacking.columns().keys() == {"q0", *(f"c{n}" for n, x in enumerate(given, 2) if x is not None)}
        torch.testing.assert_close(lacking.energy(q), whole.energy(q), rtol=1e-14, atol=0)
        for actual, expected in zip(lacking.slopes(q), whole.slopes(q), strict=True):
            torch.testing.assert_close(actual, expected, rtol=1e-14, atol=0)
