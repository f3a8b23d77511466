"""The suite every term inherits: whatever subclass of `Term` exists is tested, with no list to edit."""

import importlib
import pkgutil

import pytest
import torch

import espalike.terms
from espalike.energy import energy
from espalike.terms.base import Op, PairTerm, Param, Term, is_group
from espalike.types import Bound, Kind, MMSystem, Tuples
from espalike.units import COULOMB, factor

for module in pkgutil.iter_modules(espalike.terms.__path__):
    importlib.import_module(f"espalike.terms.{module.name}")


def concrete(cls=Term):
    found = [] if "params" not in cls.__dict__ else [cls]
    return found + [leaf for child in cls.__subclasses__() for leaf in concrete(child)]


TERMS = [cls for cls in concrete() if cls.__module__.startswith("espalike.")]
SIZE = {Kind.BOND: 2, Kind.ANGLE: 3, Kind.PROPER: 4, Kind.IMPROPER: 4, Kind.PAIR: 2}


def physical(term, n, seed):
    """Random parameters of a sane size, shape `(n, P)`."""
    noise = torch.rand(n, len(term.params), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    base = torch.tensor([1.0 if callable(p.mean) else p.mean for p in term.params], dtype=torch.float64)
    return base * (0.8 + 0.4 * noise) + (noise - 0.3 if term.params[0].link in {"free", "charge"} else 0.2 * noise)


def system_of(term, seed=0, n=4):
    """One tuple over the first atoms of four; pairs get a 1-4 and a further one."""
    idx = torch.arange(SIZE[term.kind]).unsqueeze(0)
    is14 = None
    if isinstance(term, PairTerm):
        idx, is14 = torch.tensor([[0, 1], [2, 3]]), torch.tensor([True, False])
    rows = n if isinstance(term, PairTerm) else len(idx)
    tuples = Tuples(idx, torch.zeros(len(idx), dtype=torch.long), is14)
    zeros = torch.zeros(n, dtype=torch.long)
    return MMSystem((Bound(term, tuples, physical(term, rows, seed)),), zeros + 6, zeros)


def positions(seed=0, k=3):
    """A distorted, non-planar four-atom skeleton [Å], shape `(k, 4, 3)`."""
    base = torch.tensor([[1.1, 0.3, 0.2], [0.0, 0.0, 0.0], [-0.6, 1.3, 0.1], [-0.8, -1.0, 0.5]], dtype=torch.float64)
    noise = torch.randn(k, 4, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return base + 0.25 * noise


@pytest.mark.parametrize("cls", TERMS, ids=lambda c: c.__name__)
class TestEveryTerm:
    def test_units_are_known_and_columns_named_once(self, cls):
        names = [p.name for p in cls.params]
        assert len(set(names)) == len(names)
        assert all(factor(p.unit) > 0 for p in cls.params)

    def test_forces_equal_finite_differences(self, cls):
        system, xyz, h = system_of(cls()), positions(), 1e-5
        numeric = torch.zeros_like(xyz)
        for atom in range(4):
            for axis in range(3):
                step = torch.zeros_like(xyz)
                step[:, atom, axis] = h
                up, down = (energy(system, xyz + s, forces=False).energy for s in (step, -step))
                numeric[:, atom, axis] = -(up - down)[:, 0] / (2 * h)
        forces = energy(system, xyz).forces
        assert numeric.abs().max() > 1e-3
        torch.testing.assert_close(forces, numeric, rtol=1e-6, atol=1e-6)

    def test_forces_equal_autograd_through_positions(self, cls):
        term, xyz = cls(), positions(1)
        system = system_of(term)
        x = xyz.transpose(0, 1).clone().requires_grad_()
        bound = system.terms[0]
        values = bound.values
        q = tuple(c(tuple(x[bound.tuples.idx[:, a]] for a in c.atoms))[0] for c in term.coordinates)
        if isinstance(term, PairTerm):
            i, j = bound.tuples.idx.T
            p = term.combine(values[i].unbind(-1), values[j].unbind(-1))
            scale = torch.tensor([1.0, term.scale14], dtype=torch.float64)[bound.tuples.is14.long()].unsqueeze(-1)
        else:
            p, scale = values.unbind(-1), 1.0
        u = (term.energy(q, tuple(c.unsqueeze(-1) for c in p)) * scale).sum()
        (gradient,) = torch.autograd.grad(u, x)
        torch.testing.assert_close(energy(system, xyz).forces, -gradient.transpose(0, 1), rtol=1e-10, atol=1e-10)

    def test_gradcheck_in_coordinates_and_parameters(self, cls):
        term = cls()
        p = tuple(c.clone().requires_grad_() for c in physical(term, 1, 3).unbind(-1))
        if isinstance(term, PairTerm):
            p = tuple(c.detach().clone().requires_grad_() for c in term.combine(p, p))
        xyz = positions(2)
        q = tuple(c(tuple(xyz[:, a] for a in c.atoms))[0].clone().requires_grad_() for c in term.coordinates)
        n = len(q)
        assert torch.autograd.gradcheck(lambda *a: term.energy(a[:n], a[n:]), (*q, *p))

    def test_a_loss_on_forces_has_exact_parameter_gradients(self, cls):
        system, xyz, h = system_of(cls()), positions(4), 1e-6
        bound = system.terms[0]

        def loss(values):
            replaced = MMSystem((Bound(bound.term, bound.tuples, values),), system.numbers, system.mol)
            return (energy(replaced, xyz, create_graph=True).forces ** 2).sum()

        values = bound.values.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(loss(values), values)
        for place in [(0, c) for c in range(values.shape[1])]:
            step = torch.zeros_like(bound.values)
            step[place] = h
            numeric = (loss(bound.values + step) - loss(bound.values - step)) / (2 * h)
            torch.testing.assert_close(gradient[place], numeric, rtol=1e-4, atol=1e-4)

    def test_invariant_under_each_symmetry_operation(self, cls):
        term = cls()
        if isinstance(term, PairTerm):
            a, b = physical(term, 2, 5)
            torch.testing.assert_close(term.combine(a.unbind(), b.unbind()), term.combine(b.unbind(), a.unbind()))
            return
        system, xyz = system_of(term), positions(6)
        bound, reference = system.terms[0], energy(system_of(term), xyz).energy
        for op in term.symmetry:
            columns = list(op.columns or range(len(term.params)))
            signs = torch.tensor(op.signs or (1,) * len(columns))
            moved = Bound(
                term, Tuples(bound.tuples.idx[:, list(op.atoms)], bound.tuples.mol), bound.values[:, columns] * signs
            )
            value = energy(MMSystem((moved,), system.numbers, system.mol), xyz).energy
            torch.testing.assert_close(value, reference, rtol=1e-12, atol=1e-12)

    @pytest.mark.parametrize("shape", ["collinear", "folded"])
    def test_finite_at_singular_geometry(self, cls, shape):
        line = torch.tensor([0.0, 1.0, 2.0, 3.0] if shape == "collinear" else [0.0, 1.0, 0.1, 1.2], dtype=torch.float64)
        xyz = torch.stack([line, torch.zeros(4), torch.zeros(4)], -1).unsqueeze(0)
        prediction = energy(system_of(cls()), xyz)
        assert prediction.energy.isfinite().all()
        assert prediction.forces.isfinite().all()

    def test_float32_follows_the_coordinates(self, cls):
        system, xyz = system_of(cls()), positions(7)
        single = energy(system, xyz.float())
        assert single.energy.dtype == torch.float32
        torch.testing.assert_close(single.energy.double(), energy(system, xyz).energy, rtol=1e-4, atol=1e-4)


def test_harmonic_forces_near_180_degrees_stay_right():
    """The force of an angle at 179.9° towards 180° is k δ / r, perpendicular to the bond."""
    from espalike.terms.angle import HarmonicAngle

    delta, k = 1e-4, 100.0
    xyz = torch.tensor([[[1.0, 0, 0], [0, 0, 0], [-torch.cos(torch.tensor(delta)), torch.sin(torch.tensor(delta)), 0]]])
    tuples = Tuples(torch.tensor([[0, 1, 2]]), torch.zeros(1, dtype=torch.long))
    values = torch.tensor([[k, torch.pi]], dtype=torch.float64)
    zeros = torch.zeros(3, dtype=torch.long)
    system = MMSystem((Bound(HarmonicAngle(), tuples, values),), zeros + 6, zeros)
    forces = energy(system, xyz.double()).forces[0]
    assert forces[0].norm() == pytest.approx(k * delta, rel=1e-3)


def test_wrong_coordinates_are_refused():
    from espalike.terms.bond import HarmonicBond

    with pytest.raises(ValueError, match=r"shape \(K, 4, 3\); got \(1, 5, 3\)"):
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


def test_coulomb_constant_of_the_engine():
    """Two unit charges at 1 Å in OpenMM give our constant."""
    import openmm as mm
    from openmm import unit

    system, force = mm.System(), mm.NonbondedForce()
    for charge in (1.0, 1.0):
        system.addParticle(1.0)
        force.addParticle(charge, 1.0, 0.0)
    system.addForce(force)
    context = mm.Context(system, mm.VerletIntegrator(1.0), mm.Platform.getPlatformByName("Reference"))
    context.setPositions([[0, 0, 0], [0.1, 0, 0]])
    value = context.getState(getEnergy=True).getPotentialEnergy().value_in_unit(unit.kilocalorie_per_mole)
    assert value == pytest.approx(COULOMB, rel=1e-9)
