"""Parameters of whole force fields: borrowed ones, universal ones, terms that share a head."""

import numpy as np
import pytest
import torch

from espalike.batch import batch_of
from espalike.chem import embed, from_smiles
from espalike.energy import energy
from espalike.model import ForceFieldModel, from_config, load
from espalike.nn.convs import SAGE
from espalike.nn.heads import TermHead
from espalike.terms.base import PairTerm
from espalike.terms.bond import HarmonicBond, LinearMixtureBond, MorseBond, QuarticBond
from espalike.terms.cross import BondAngle, BondBond
from espalike.tuples import Kind
from espalike.units import COULOMB
from tests.molecules import DRUGLIKE
from tests.nn.common import F64, FORCE_FIELDS, by_tuple, config, loud, model, renumbered

MOLECULES = (
    "CC(=O)Oc1ccccc1C(=O)[O-]",
    "NC(=[NH2+])NCCO",
    "CC#CC(=O)N",
    "C1C2CC12",
    "CS(=O)(=O)NC",
    "O",
    "[Na+]",
    "CC(C)(F)Cl",
)
COUPLED = ("class2", "class2_dexp", "class2_no14", "max")


def batch():
    return batch_of([from_smiles(s) for s in MOLECULES], F64)


@pytest.mark.parametrize("name", FORCE_FIELDS)
class TestEveryForceField:
    @torch.no_grad()
    def test_parameters_obey_their_links(self, name):
        for bound in model(name)(batch()).terms:
            assert bound.values.isfinite().all()
            for column, p in zip(bound.values.unbind(-1), bound.term.params, strict=True):
                if p.link == "positive":
                    assert (column > 0).all()
                if p.link.startswith("range"):
                    low, high = map(float, p.link[6:-1].split(","))
                    assert ((column >= low) & (column <= high)).all()

    @torch.no_grad()
    def test_borrowed_values_are_the_lenders(self, name):
        system, borrowed = model(name)(batch()), 0
        rows = {}  # the equilibrium value of every bond and angle, read in either direction
        for bound in system.terms:
            for c, p in enumerate(bound.term.params):
                if p.name in {"r0", "theta0"} and p.borrows is None and bound.term.kind in {Kind.BOND, Kind.ANGLE}:
                    if bound.term.name == "UreyBradley":
                        continue
                    for atoms, value in zip(bound.tuples.idx.tolist(), bound.values[:, c].tolist(), strict=True):
                        rows[tuple(atoms)] = rows[tuple(atoms[::-1])] = value
        for bound in system.terms:
            for c, p in enumerate(bound.term.params):
                if p.borrows is not None:
                    for atoms, value in zip(bound.tuples.idx.tolist(), bound.values[:, c].tolist(), strict=True):
                        assert value == rows[tuple(atoms[a] for a in p.borrows.atoms)]
                        borrowed += 1
        assert (borrowed > 500) == (name in COUPLED)

    def test_terms_on_the_same_tuples_share_one_head(self, name):
        made = model(name)
        kinds = [head.kind for head in made.heads if isinstance(head, TermHead)]
        assert len(set(kinds)) == len(kinds)
        assert {term.param_kind for term in made.terms} >= set(kinds)
        assert len(made.heads) == len(kinds) + sum(p.link == "charge" for t in made.terms for p in t.params)

    def test_every_weight_and_universal_parameter_has_a_gradient(self, name):
        made = model(name)
        made.zero_grad()
        molecules = [from_smiles(s) for s in MOLECULES[:2]]
        xyz = torch.from_numpy(np.concatenate([embed(m, 1, seed=0) for m in molecules], axis=1))
        system = made(batch_of(molecules, F64))
        prediction = energy(system, xyz, create_graph=True)
        (prediction.energy.sum() + (prediction.forces**2).mean()).backward()
        for key, weight in made.named_parameters():
            assert weight.grad is not None, key
            assert weight.grad.isfinite().all(), key
            assert weight.grad.abs().max() > 0, key

    @torch.no_grad()
    def test_universal_parameters_are_one_value(self, name):
        universal = 0
        for bound in model(name)(batch()).terms:
            for column, p in zip(bound.values.unbind(-1), bound.term.params, strict=True):
                assert (len(column.unique()) == 1) == p.universal or p.unit == "e"
                universal += p.universal
        assert universal == {"dexp": 2, "class2_dexp": 2, "max": 2}.get(name, 0)

    def test_file_round_trip(self, name, tmp_path):
        torch.manual_seed(1)
        made = from_config(config(name))
        loud(made).float().save(tmp_path / "m.espalike")
        molecule = from_smiles(MOLECULES[0])
        assert [p.name for p in tmp_path.iterdir()] == ["m.espalike"]
        before, after = made.parametrize(molecule), load(tmp_path / "m.espalike").parametrize(molecule)
        assert [repr(b.term) for b in before.terms] == [repr(a.term) for a in after.terms]
        for a, b in zip(before.terms, after.terms, strict=True):
            assert torch.equal(b.values, a.values)


@pytest.mark.parametrize("kind", [Kind.BOND, Kind.ANGLE])
def test_borrowed_values_teach_the_lender_alone(kind):
    made = model("max")
    made.zero_grad()
    borrowed = [
        bound.values[:, c].sum()
        for bound in made(batch_of([from_smiles("CCO")], F64)).terms
        for c, p in enumerate(bound.term.params)
        if p.borrows is not None and p.borrows.kind is kind
    ]
    torch.stack(borrowed).sum().backward()
    taught = {
        head.kind if isinstance(head, TermHead) else None
        for head in made.heads
        for weight in head.parameters()
        if weight.grad is not None and weight.grad.abs().max() > 0
    }
    assert taught == {kind}


@torch.no_grad()
def test_without_a_lender_equilibrium_values_are_learned():
    """Linear mixtures have no r₀, and here is no angle term."""
    torch.manual_seed(0)
    made = loud(ForceFieldModel([LinearMixtureBond(), BondBond(), BondAngle()], SAGE, width=16, layers=2, hidden=16))
    molecule = from_smiles("CC(=O)NC")
    system = made.parametrize(molecule)
    for term, column, prior in (("BondBond", 1, 1.4), ("BondAngle", 2, 1.4), ("BondAngle", 4, 2.0)):
        values = system.bound(term).values[:, column]
        assert values.std() > 1e-3
        assert float(values.mean()) == pytest.approx(prior, rel=0.3)
    assert not torch.equal(system.bound("BondBond").values[:, 1], system.bound("BondAngle").values[:, 2])
    order = np.arange(molecule.n_atoms)[::-1]
    other = renumbered(molecule, order)
    first, second = (by_tuple(made.parametrize(m), o) for m, o in ((molecule, order[::-1]), (other, order)))
    assert max(float((first[k] - second[k]).abs().max()) for k in first) < 1e-10


@pytest.mark.parametrize("lender", [HarmonicBond(), QuarticBond(), MorseBond()], ids=repr)
@torch.no_grad()
def test_whatever_bond_term_has_an_equilibrium_length_lends_it(lender):
    torch.manual_seed(0)
    made = loud(ForceFieldModel([BondBond(), lender], SAGE, width=16, layers=2, hidden=16))
    system = made.parametrize(from_smiles("CO"))
    lengths = {tuple(i): float(v[1]) for i, v in zip(system.terms[1].tuples.idx.tolist(), system.terms[1].values)}  # noqa: B905
    for (a, b, c), (_, ra0, rb0) in zip(*(t.tolist() for t in (system.terms[0].tuples.idx, system.terms[0].values))):  # noqa: B905
        assert (ra0, rb0) == (lengths[min(a, b), max(a, b)], lengths[min(b, c), max(b, c)])


def test_learned_scales_enter_energies_as_a_hand_sum_says():
    made, molecule = model("max"), from_smiles("CC(=O)NC")
    made.zero_grad()
    xyz = torch.from_numpy(embed(molecule, 1, seed=3))
    system = made(batch_of([molecule], F64))
    by_term = dict(zip([b.term.name for b in system.terms], energy(system, xyz, forces=False).by_term, strict=True))
    coulomb = system.bound("Coulomb")
    raw = made.heads.get_parameter("Coulomb_scale14")
    scale = 1 / (1 + torch.exp(-(np.log(5.0) + raw * 0.3 / (5 / 36))))  # 5/6 at raw = 0, slope 0.3
    assert float(coulomb.scale14.detach()) == pytest.approx(float(scale.detach()), rel=1e-12)
    assert abs(float(scale.detach()) - 5 / 6) > 0.01
    q, near, far = coulomb.values[:, 0].detach(), 0.0, 0.0
    for (i, j), is14 in zip(coulomb.tuples.idx.tolist(), coulomb.tuples.is14.tolist(), strict=True):
        u = float(COULOMB * q[i] * q[j] / (xyz[0, i] - xyz[0, j]).norm())
        near, far = (near + u, far) if is14 else (near, far + u)
    total = by_term["Coulomb"].sum()
    assert float(total.detach()) == pytest.approx(far + float(scale.detach()) * near, rel=1e-10)
    (slope,) = torch.autograd.grad(total, raw)
    d_scale = float((scale * (1 - scale)).detach()) * 0.3 / (5 / 36)
    assert float(slope) == pytest.approx(near * d_scale, rel=1e-9)


def test_one_mean_for_all_atoms_is_asked_of_a_universal_parameter():
    from espalike.terms.base import Param
    from espalike.terms.lennard_jones import LennardJones
    from espalike.terms.van_der_waals import EPSILON, SIGMA

    term = LennardJones()
    term.params = (Param("sigma", "angstrom", SIGMA.mean, 0.1, "positive", universal=True), EPSILON)
    made = ForceFieldModel([term], SAGE, width=8, layers=1, hidden=8)
    with pytest.raises(TypeError, match=r"LennardJones.sigma is universal"):
        made.parametrize(from_smiles("C"))


def test_pair_terms_of_every_force_field_have_one_row_an_atom():
    for name in FORCE_FIELDS:
        for bound in model(name).parametrize(from_smiles("CCO")).terms:
            assert len(bound.values) == (9 if isinstance(bound.term, PairTerm) else len(bound.tuples.idx))


@pytest.mark.parametrize(
    ("forcefield", "conv", "readout"),
    [("class1", "sage", "lean"), ("class1", "gat", "deep"), ("max", "gin", "lean"), ("class2", "sage", "deep")],
)
def test_looking_at_equal_atoms_once_changes_nothing(forcefield, conv, readout):
    """Parameters, and the gradient of every weight, with and without the classes of equal atoms."""
    made = loud(from_config({**config(forcefield, f"conv={conv}"), "readout": readout}))
    batch = batch_of([from_smiles(s) for s in (*DRUGLIKE[:4], "CC(C)(C)O", "c1ccccc1", "C", "[Na+]")], F64)
    outcomes = []
    for alike in (True, False):
        for layer in made.encoder.convs:
            layer.local = alike
        assert (len(made.encoder.orbits(batch).atom) < 0.75 * len(batch.numbers)) == alike
        values = [bound.values for bound in made(batch).terms]
        weights = [torch.linspace(-1.0, 1.0, v.numel(), dtype=F64).view_as(v) for v in values]
        loss = sum((v * w).sum() for v, w in zip(values, weights, strict=True))
        outcomes.append([*values, *torch.autograd.grad(loss, list(made.parameters()), allow_unused=True)])
    for one, other in zip(*outcomes, strict=True):
        if one is not None or other is not None:
            torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)


def taken(system):
    """Share of the force constant of each bond that its angles can take away: the sum of κ² / (k k')."""
    bonds, angles, couplings = (
        next(b for b in system.terms if b.term.name == name) for name in ("QuarticBond", "QuarticAngle", "BondAngle")
    )
    stiff = {tuple(row): k for row, k in zip(bonds.tuples.idx.tolist(), bonds.values[:, 0].tolist(), strict=True)}
    shares = dict.fromkeys(stiff, 0.0)
    rows = zip(
        couplings.tuples.idx.tolist(), couplings.values[:, :2].tolist(), angles.values[:, 0].tolist(), strict=True
    )
    for (i, j, k), (first, second), angle in rows:
        for bond, value in ((tuple(sorted((i, j))), first), (tuple(sorted((j, k))), second)):
            shares[bond] += value**2 / (stiff[bond] * angle)
    return np.array(list(shares.values()))


@pytest.mark.parametrize("name", COUPLED)
@torch.no_grad()
def test_angles_leave_their_share_of_a_bond(name, monkeypatch):
    """Couplings are scaled down at the bonds where they take more than their share, and there alone."""
    free = model(name)(batch())
    before = taken(free)
    limit = float(np.median(before))
    monkeypatch.setattr("espalike.nn.readout._TAKEN", limit)
    bounded = model(name)(batch())
    np.testing.assert_allclose(taken(bounded), before.clip(max=limit), rtol=1e-9)
    for one, other in zip(free.terms, bounded.terms, strict=True):
        if one.term.name != "BondAngle":
            assert torch.equal(one.values, other.values)


@pytest.mark.parametrize(("share", "falls"), [(0.5, False), (0.53, True)])
def test_a_bond_has_no_barrier_while_its_angles_leave_half_of_it(share, falls):
    """With harmonic angles that follow the bond, whatever its anharmonicity."""
    d = torch.linspace(0.0, 4.0, 4001, dtype=F64)
    slopes = []
    for a in (0.3, 0.669, 1.0, 2.0, 3.0):
        k, r0, a = (torch.full((1,), value, dtype=F64) for value in (300.0, 2.0, a))
        energy = QuarticBond().energy((2.0 + d,), (k, r0, a)) - 0.5 * share * k * d**2
        slopes.append(energy.diff().min())
    assert (min(slopes) < 0) == falls
