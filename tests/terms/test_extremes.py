"""Far from equilibrium: no well without a bottom within reach of 1,000 K dynamics, whatever a network says."""

import itertools

import pytest
import torch

from espalike import chem
from espalike.batch import batch_of
from espalike.energy import energy
from espalike.geometry import Angle, Dihedral, Distance
from espalike.nn.links import find
from espalike.system import Bound, MMSystem
from espalike.terms.angle import HarmonicAngle
from espalike.terms.base import Term
from espalike.terms.bond import HarmonicBond, QuarticBond
from espalike.terms.priors import _LJ, _LJ_ION
from espalike.terms.van_der_waals import RMIN, VanDerWaals
from espalike.tuples import Kind
from espalike.units import BOLTZMANN, COULOMB
from tests.terms.common import CLASSES, F64, TERMS, corners, values

STRETCH = [
    t for t in TERMS if t.kind in {Kind.BOND, Kind.ANGLE} and [type(c) for c in t.coordinates] in ([Distance], [Angle])
]
TORSIONS = [
    t for t in TERMS if t.kind in {Kind.PROPER, Kind.PROPER_PAIR} and {type(c) for c in t.coordinates} == {Dihedral}
]
WALLS = [t for t in TERMS if isinstance(t, VanDerWaals)]
COUPLINGS = [cls() for cls in CLASSES if any(p.borrows for p in cls.params)]
OUT_OF_REACH = 20.0 * BOLTZMANN * 1000.0
"""Energy [kcal/mol] that one degree of freedom at 1,000 K has once in e²⁰ vibrations, 50 µs."""


def scan(term, parameters, grid):
    """Energies and slopes, shape `(T, n)`, of a form with one coordinate."""
    q = grid.expand(len(parameters), -1).clone().requires_grad_()
    u = term.energy((q,), tuple(c.unsqueeze(-1) for c in parameters.unbind(-1)))
    (slopes,) = torch.autograd.grad(u.sum(), q)
    return u.detach(), slopes


@pytest.mark.parametrize("term", STRETCH, ids=repr)
def test_stretching_and_bending_have_one_minimum_and_no_energy_below_zero(term):
    """With every parameter within three spreads of its mean, or at three spreads."""
    length = isinstance(term.coordinates[0], Distance)
    grid = torch.linspace(0.3, 5.0, 941, dtype=F64) if length else torch.linspace(1e-3, torch.pi - 1e-3, 721, dtype=F64)
    parameters = torch.cat([values(term, 128, 1), corners(term, 128)])
    u, slopes = scan(term, parameters, grid)
    assert u.min() >= 0.0
    rising = slopes > 0
    assert ((rising[:, 1:] != rising[:, :-1]).sum(1) <= 1).all()
    assert (~rising[:, :-1] | rising[:, 1:]).all()  # down, then up
    inside = (~rising[:, 0]) & rising[:, -1]
    assert inside.float().mean() > 0.6  # the minimum is on the scan nearly always
    if "r0" in [p.name for p in term.params] or "theta0" in [p.name for p in term.params]:
        bottom, _ = scan(term, parameters, parameters[:, 1:2])
        torch.testing.assert_close(bottom, torch.zeros_like(bottom), rtol=0, atol=1e-12)


@pytest.mark.parametrize("term", [t for t in STRETCH if t.kind is Kind.BOND], ids=repr)
def test_a_bond_is_held_between_half_and_twice_its_length(term):
    carbons, grid = torch.tensor([[6, 6]]), torch.linspace(0.5, 5.0, 4501, dtype=F64)
    means = [p.mean(carbons, carbons) if callable(p.mean) else torch.tensor([p.mean]) for p in term.params]
    parameters = torch.stack([m.to(F64) for m in means], dim=-1)
    u, _ = scan(term, parameters, grid)
    length = grid[u[0].argmin()]
    assert float(length) == pytest.approx(1.52, abs=0.02)
    ends, _ = scan(term, parameters, length * torch.tensor([[0.5, 2.0]], dtype=F64))
    assert (ends - u.min() > OUT_OF_REACH).all()


@pytest.mark.parametrize("term", TORSIONS, ids=repr)
def test_torsions_are_bounded_by_their_coefficients(term):
    angles = torch.linspace(-torch.pi, torch.pi, 61, dtype=F64)
    grids = torch.meshgrid(*[angles] * len(term.coordinates), indexing="ij")
    parameters = values(term, 32, 2)
    q = tuple(g.reshape(1, -1) for g in grids)
    u = term.energy(q, tuple(c.unsqueeze(-1) for c in parameters.unbind(-1)))
    coefficients = [c for c, p in enumerate(term.params) if p.unit == "kcal/mol"]
    assert (u.abs() <= 2.0 * parameters[:, coefficients].abs().sum(-1, keepdim=True) + 1e-9).all()
    assert u.std() > 0.05


ELEMENTS = torch.tensor(sorted(_LJ))
IONS = torch.tensor(sorted(_LJ_ION))


def wells(term, size, seed=0):
    """Parameters of all pairs of elements, each `size` spreads up or down; their elements; whether both are bonded."""
    generator = torch.Generator().manual_seed(seed)
    numbers = torch.cat([ELEMENTS, IONS])
    degrees = torch.cat([torch.ones(len(ELEMENTS)), torch.zeros(len(IONS))]).long()
    columns = []
    for p in type(term).params:
        mean = p.mean(numbers[:, None], degrees[:, None]) if callable(p.mean) else torch.full((len(numbers),), p.mean)
        signs = torch.randint(2, numbers.shape, generator=generator) * 2.0 - 1.0
        raw = size * (signs[:1].expand(len(numbers)) if p.universal else signs)
        columns.append(find(p.link)(raw.to(F64), mean.to(F64), p.std))
    i, j = torch.tensor(list(itertools.combinations_with_replacement(range(len(numbers)), 2))).T
    pair = term.combine(tuple(c[i] for c in columns), tuple(c[j] for c in columns))
    return pair, torch.stack([numbers[i], numbers[j]], -1), (degrees[i] > 0) & (degrees[j] > 0)


@pytest.mark.parametrize("term", WALLS, ids=repr)
class TestVanDerWaals:
    def test_sigma_and_epsilon_are_the_wells_place_and_depth(self, term):
        """In every form within 1 %, so that one prior serves all."""
        pair, *_ = wells(term, 1.0)
        rho = torch.linspace(0.8, 1.3, 5001, dtype=F64)
        u, _ = scan(term, torch.stack([torch.ones_like(pair[0]) / RMIN, *pair[1:]], -1), rho)
        depth, place = u.min(1)
        torch.testing.assert_close(rho[place], torch.ones_like(depth), rtol=0, atol=0.01)
        torch.testing.assert_close(-depth / pair[1], torch.ones_like(depth), rtol=0, atol=0.01)

    def test_the_wall_rises_all_the_way_in(self, term):
        """From the well to a fifth of its distance, for all elements and ions, up to three spreads off their means."""
        rho = torch.linspace(0.2, 0.99, 400, dtype=F64)
        for size, seed in ((0.0, 0), (1.0, 1), (3.0, 2), (3.0, 3), (3.0, 4)):
            pair, *_ = wells(term, size, seed)
            u, slopes = scan(term, torch.stack([torch.ones_like(pair[0]) / RMIN, *pair[1:]], -1), rho)
            assert (slopes < 0).all()
            assert (u[:, 0] > 1000.0 * pair[1]).all()

    @pytest.mark.parametrize(("scale", "scale_charges"), [(1.0, 1.0), (0.5, 1 / 1.2)], ids=["1-5", "1-4"])
    def test_opposite_charges_do_not_fall_into_each_other(self, term, scale, scale_charges):
        """Charges of ±0.5 meet a wall that 1,000 K dynamics does not climb, and behind it is nothing to fall into.

        Parameters up to one spread off their means; all pairs of bonded elements but two hydrogens, which bear no such
        charges. Atoms nearer than a tenth of their well's distance are beyond the wall.
        """
        rho = torch.linspace(0.1, 1.5, 1401, dtype=F64)
        for size, seed in ((0.0, 0), *((1.0, seed) for seed in range(8))):
            pair, numbers, bonded = wells(term, size, seed)
            r = RMIN * pair[0].unsqueeze(-1) * rho
            u = scale * term.energy((r,), tuple(c.unsqueeze(-1) for c in pair)) - scale_charges * COULOMB * 0.25 / r
            asked = bonded & (numbers > 1).any(1)
            (wall, inner), (contact, outer) = u[asked].max(1), u[asked].min(1)
            assert (rho[inner] < 1 / 3).all()
            assert (rho[outer] > 1 / 3).all()  # in contact, not within each other
            assert (wall - contact).min() > OUT_OF_REACH

    def test_soft_forms_are_finite_where_atoms_coincide(self, term):
        pair, *_ = wells(term, 0.0)
        at_zero = term.energy((torch.zeros(1, dtype=F64),), pair)
        if type(term).__name__ == "LennardJones":
            assert not at_zero.isfinite().any()
        else:
            assert at_zero.isfinite().all()
            assert (at_zero > 1000.0 * pair[1]).all()


MOLECULES = ("CCO", "CC(=O)NC", "Cc1ccccc1", "CC(C)(C)C")
TYPICAL = (700.0, 110.0)
"""Force constants k of ½ k d² for bonds [kcal/mol/Å²] and angles [kcal/mol]: a C–C or C–H bond, an H–C–C angle."""


def at_rest(term: Term, batch, xyz, coefficient):
    """The term with its equilibrium values read off the geometry; `coefficient(param, n)` gives the other columns."""
    tuples, x = batch.tuples[term.kind], xyz.transpose(0, 1)
    columns = []
    for p in term.params:
        if p.shifts:
            atoms = tuples.idx[:, p.borrows.atoms] if p.borrows else tuples.idx
            coordinate = Distance(0, 1) if atoms.shape[1] == 2 else Angle(0, 1, 2)
            columns.append(coordinate(tuple(x[a] for a in atoms.T))[0][:, 0])
        else:
            columns.append(coefficient(p, len(tuples.idx)))
    return Bound(term, tuples, torch.stack(columns, dim=-1))


def softest_mode(terms, batch, xyz):
    """Lowest eigenvalue [kcal/mol/Å²] of the Cartesian second derivatives."""
    system, size = MMSystem(tuple(terms), batch.numbers, batch.mol), xyz.shape[1] * 3
    steps = 1e-4 * torch.eye(size, dtype=F64).view(size, -1, 3)
    up, down = (energy(system, xyz + s).forces.reshape(size, size) for s in (steps, -steps))
    second = (down - up) / 2e-4
    return float(torch.linalg.eigvalsh(0.5 * (second + second.T))[0])


def bound_of(param):
    return float(param.link.removesuffix(")").split(",")[1])


BILINEAR = [
    t for t in COUPLINGS if all(p.link != "range(-15.0,15.0)" and p.link != "range(-10.0,10.0)" for p in t.params)
]


@pytest.mark.parametrize("smiles", MOLECULES)
def test_couplings_leave_the_equilibrium_a_minimum(smiles):
    """One kind of coupling at its bound, or all at twice their spread: no direction of typical bonds and angles gives.

    Of either sign, all alike and at random. Torsions are left out: no direction is stiff for their sake.
    """
    molecule = chem.from_smiles(smiles)
    batch, xyz = batch_of([molecule], F64), torch.from_numpy(chem.embed(molecule, 1, seed=1))
    generator = torch.Generator().manual_seed(0)
    stiff = [
        at_rest(term, batch, xyz, lambda p, n, k=k: torch.full((n,), k, dtype=F64))
        for term, k in zip((HarmonicBond(), HarmonicAngle()), TYPICAL, strict=True)
    ]

    def signs(n):
        return torch.randint(2, (n,), generator=generator) * 2.0 - 1.0

    patterns = [torch.ones, lambda n: -torch.ones(n), signs, signs]
    for pattern in patterns:
        alone = [at_rest(t, batch, xyz, lambda p, n, of=pattern: bound_of(p) * of(n).to(F64)) for t in BILINEAR]
        together = [at_rest(t, batch, xyz, lambda p, n, of=pattern: 2.0 * p.std * of(n).to(F64)) for t in BILINEAR]
        for extra in (*([one] for one in alone), together):
            assert softest_mode([*stiff, *extra], batch, xyz) > -1e-3
    assert softest_mode([*stiff, *(scaled(b, 5.0) for b in alone)], batch, xyz) < -10.0  # the test can fail


def scaled(bound, by):
    rows = bound.values.clone()
    rows[:, [c for c, p in enumerate(bound.term.params) if not p.shifts]] *= by
    return Bound(bound.term, bound.tuples, rows)


@pytest.mark.parametrize("term", COUPLINGS, ids=repr)
def test_couplings_are_bounded(term):
    """Whatever the network says; and an untrained force field has none."""
    learned = [p for p in term.params if not p.borrows]
    for p in learned:
        actual = find(p.link)(torch.tensor([-1e6, 0.0, 1e6], dtype=F64), torch.zeros(3, dtype=F64), p.std)
        torch.testing.assert_close(actual, bound_of(p) * torch.tensor([-1.0, 0.0, 1.0], dtype=F64), atol=1e-9, rtol=0)
        assert p.std <= 0.5 * bound_of(p)


def test_a_torsion_cannot_tear_the_bond_it_is_coupled_to():
    """Nine torsions about a bond, each at the bound of its coupling and all in phase: a quartic bond stays a bond."""
    from espalike.terms.cross import MiddleBondTorsion

    (f3,) = [p for p in MiddleBondTorsion.params if p.name == "f3"]
    r = torch.linspace(1.0, 3.0, 4001, dtype=F64)
    quartic = QuarticBond().energy((r,), (torch.tensor(TYPICAL[0]), torch.tensor(1.5), torch.tensor(2.0)))
    longest = float(r[(quartic - 9 * bound_of(f3) * (r - 1.5)).argmin()])
    assert 1.05 < longest / 1.5 < 1.3
