"""Symmetric heads, links, charge equilibration."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from espalike.nn.charges import equilibrate
from espalike.nn.heads import READOUTS, SymmetricHead, TermHead
from espalike.nn.links import find
from espalike.nn.orbits import Orbits, Reads, distinct
from espalike.terms.angle import HarmonicAngle
from espalike.terms.base import OUTER_3, REVERSAL_4, Op
from espalike.terms.bond import HarmonicBond

F64 = torch.float64


def orbits_of(numbers, degrees):
    """Atoms that are all different."""
    everyone = torch.arange(len(numbers))
    return Orbits(everyone, (), everyone, everyone, torch.tensor(numbers), torch.tensor(degrees))


@pytest.mark.parametrize("readout", READOUTS)
@pytest.mark.parametrize("ops", [REVERSAL_4, OUTER_3], ids=["reversal", "outer atoms"])
def test_head_is_invariant(ops, readout):
    torch.manual_seed(0)
    head = SymmetricHead(4, 3, 8, 8, ops, readout).double()
    h, idx = torch.randn(5, 8, dtype=F64), torch.tensor([[0, 1, 2, 3], [4, 1, 0, 2]])
    for op in ops:
        torch.testing.assert_close(head(h, idx[:, list(op.atoms)]), head(h, idx), rtol=1e-12, atol=1e-12)
    assert not torch.allclose(head(h, idx[:, [1, 0, 2, 3]]), head(h, idx))  # not a symmetry of either


@pytest.mark.parametrize("readout", READOUTS)
def test_head_moves_columns_and_signs_with_the_operation(readout):
    """Reversing an angle swaps its two bond columns and flips the sign of the third."""
    torch.manual_seed(0)
    ops = (Op((0, 1, 2)), Op((2, 1, 0), columns=(1, 0, 2), signs=(1, 1, -1)))
    head = SymmetricHead(3, 3, 8, 8, ops, readout).double()
    h, idx = torch.randn(4, 8, dtype=F64), torch.tensor([[0, 1, 2]])
    forward, backward = head(h, idx), head(h, idx.flip(1))
    torch.testing.assert_close(backward, forward[:, [1, 0, 2]] * torch.tensor([1.0, 1.0, -1.0], dtype=F64))


@pytest.mark.parametrize("readout", READOUTS)
@pytest.mark.parametrize("ops", [REVERSAL_4, OUTER_3], ids=["reversal", "outer atoms"])
def test_blocks_of_tuples_have_the_values_of_all_at_once(ops, readout):
    torch.manual_seed(0)
    head = SymmetricHead(4, 3, 8, 8, ops, readout).double()
    h, idx = torch.randn(50, 8, dtype=F64), torch.randint(0, 50, (1000, 4))
    idx[:500] = idx[:500] % 3 + 5  # many are equal, and some atoms are in some positions only
    idx[:, 1] = idx[:, 1] % 20
    orbits = orbits_of([6] * 50, [4] * 50)
    whole = head(h, idx)
    with torch.no_grad():
        for known in (None, orbits, orbits):
            torch.testing.assert_close(head(h, idx, known), whole, rtol=1e-13, atol=1e-13)
        assert head(h, idx[:0]).shape == (0, 3)


def test_equal_rows_of_tuples_are_read_once():
    """Both directions of an angle between equal atoms are one row; its centre is not read as an outer atom."""
    reads = Reads.of(torch.tensor([[0, 2, 0], [0, 2, 1]]), [(0, 1, 2), (2, 1, 0)], (0, 1, 2), 3)
    rows = torch.stack([atoms[column] for atoms, column in zip(reads.atoms, reads.columns, strict=True)], 1)
    assert [atoms.tolist() for atoms in reads.atoms] == [[0, 1], [2], [0, 1]]
    assert sorted(rows.tolist()) == [[0, 2, 0], [0, 2, 1], [1, 2, 0]]
    assert rows[reads.row].tolist() == [[0, 2, 0], [0, 2, 1], [0, 2, 0], [1, 2, 0]]


def test_untrained_values_are_near_the_means():
    torch.manual_seed(0)
    head = TermHead([HarmonicBond()], [[0, 1]], 16, 16).double()
    idx = torch.tensor([[0, 1], [0, 2]])
    k, r0 = head(torch.randn(3, 16, dtype=F64), idx, orbits_of([6, 1, 8], [2, 1, 1]), None).unbind(-1)
    torch.testing.assert_close(r0, torch.tensor([1.07, 1.42], dtype=F64), rtol=0.02, atol=0)
    torch.testing.assert_close(k, torch.full((2,), 700.0, dtype=F64), rtol=0.1, atol=0)


def test_levels_shift_equilibrium_geometry_only_and_only_away_from_the_target():
    torch.manual_seed(0)
    head = TermHead([HarmonicAngle()], [[0, 1]], 8, 8, n_levels=2).double()
    h = torch.randn(3, 8, dtype=F64).repeat(2, 1)
    idx = torch.tensor([[0, 1, 2], [3, 4, 5]])
    orbits = orbits_of([1, 8, 1] * 2, [1, 2, 1] * 2)
    plain = head(h, idx, orbits, None)
    both = head(h, idx, orbits, torch.tensor([0, 0, 0, 1, 1, 1]))
    torch.testing.assert_close(both[0], plain[0], rtol=0, atol=0)
    assert both[1, 0] == plain[1, 0]  # k does not shift
    assert both[1, 1] != plain[1, 1]


@given(raw=st.floats(-50, 50), mean=st.floats(0.7, 3.1))
def test_range_link_stays_inside(raw, mean):
    value = find("range(0.6,3.2)")(torch.tensor(raw, dtype=F64), torch.tensor(mean, dtype=F64), 0.1)
    assert 0.6 <= value <= 3.2


@pytest.mark.parametrize("name", ["free", "positive", "range(0.5,3.0)"])
def test_links_pass_through_the_mean_with_slope_std(name):
    mean, std = torch.tensor(1.3, dtype=F64), 0.2
    raw = torch.zeros((), dtype=F64, requires_grad=True)
    value = find(name)(raw, mean, std)
    (slope,) = torch.autograd.grad(value, raw)
    assert float(value.detach()) == pytest.approx(1.3, rel=1e-12)
    assert float(slope) == pytest.approx(std * (1.3 if name == "positive" else 1.0), rel=1e-9)


def test_positive_link_is_bounded():
    value = find("positive")(torch.tensor([-1e6, 1e6], dtype=F64), torch.tensor(2.0, dtype=F64), 1.0)
    torch.testing.assert_close(value, 2.0 * torch.tensor([math.exp(-3), math.exp(3)], dtype=F64))


@pytest.mark.parametrize("bad", ["square", "range(2,1)", "range(a)", ""])
def test_unknown_links_are_named(bad):
    with pytest.raises(ValueError, match=r"link|convert"):
        find(bad)


@settings(max_examples=50)
@given(st.integers(0, 10_000), st.integers(-3, 3))
def test_equilibration_minimises_the_energy_under_the_constraint(seed, net):
    """Against the linear system of the Lagrangian, solved by torch."""
    generator = torch.Generator().manual_seed(seed)
    e = torch.randn(6, generator=generator, dtype=F64)
    s = 0.1 + torch.rand(6, generator=generator, dtype=F64)
    q = equilibrate(e, s, torch.zeros(6, dtype=torch.long), torch.tensor([float(net)]))
    matrix = torch.zeros(7, 7, dtype=F64)
    matrix[:6, :6] = torch.diag(s)
    matrix[6, :6] = matrix[:6, 6] = 1.0
    expected = torch.linalg.solve(matrix, torch.cat([-e, torch.tensor([float(net)], dtype=F64)]))[:6]
    torch.testing.assert_close(q, expected, rtol=1e-9, atol=1e-9)


def test_distinct_tuples():
    idx = torch.tensor([[0, 1, 2], [2, 1, 0], [0, 2, 1], [0, 1, 2], [3, 3, 3]])
    tuples, inverse = distinct(idx, [(0, 1, 2), (2, 1, 0)], 4)
    assert len(tuples) == 3
    assert inverse[0] == inverse[1] == inverse[3] != inverse[2]
    forwards, backwards = (tuples[inverse] == idx).all(-1), (tuples[inverse] == idx.flip(1)).all(-1)
    assert (forwards | backwards).all()
    plain, back = distinct(idx, [(0, 1, 2)], 4)
    assert len(plain) == 4
    assert torch.equal(plain[back], idx)
    huge, back = distinct(idx * 10**6, [(0, 1, 2), (2, 1, 0)], 4 * 10**6)  # beyond 64-bit keys
    assert torch.equal(huge[back], idx * 10**6)


def test_unknown_readout():
    with pytest.raises(ValueError, match="lean or deep; got 'wide'"):
        SymmetricHead(2, 1, 8, 8, REVERSAL_4[:1], "wide")
