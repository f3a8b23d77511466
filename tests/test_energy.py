"""Pooled internal coordinates and Wilson B rows against the plain way: each tuple from positions, by autograd."""

import numpy as np
import pytest
import torch

from espalike.batch import batch_of
from espalike.chem import embed, from_smiles
from espalike.energy import energy
from espalike.geometry import Angle, Dihedral, Distance
from espalike.internal import pooled_coordinates, rows_of
from espalike.system import Bound, MMSystem
from espalike.tuples import Kind
from tests.nn.common import F64, model
from tests.terms.common import plain_energy

MOLECULES = ("CC(=O)NCC#N", "C1C2CC12", "CS(=O)(=O)[O-]", "O", "c1ccsc1", "[Na+]", "CC(F)C")


def system_of(name):
    """Several molecules side by side, with parameters that can be differentiated by; coordinates far from planar."""
    molecules = [from_smiles(s) for s in MOLECULES]
    with torch.no_grad():
        system = model(name)(batch_of(molecules, F64))
    terms = tuple(Bound(b.term, b.tuples, b.values.clone().requires_grad_()) for b in system.terms)
    rng = np.random.default_rng(5)
    xyz = [embed(m, 1, seed=2) if m.n_atoms > 1 else np.zeros((1, 1, 3)) for m in molecules]
    xyz = np.concatenate(xyz, axis=1)
    xyz = torch.from_numpy(xyz + rng.normal(0.0, 0.1, (2, *xyz.shape[1:])))
    return MMSystem(terms, system.numbers, system.mol), xyz


def plainly(system, xyz):
    """Energies by term `(K, M)` and forces, with a graph."""
    x = xyz.transpose(0, 1).clone().requires_grad_()
    by_term = []
    for bound in system.terms:
        u = plain_energy(bound, x)
        by_term.append(torch.zeros(system.n_mols, len(xyz), dtype=F64).index_add(0, bound.tuples.mol, u).T)
    (gradient,) = torch.autograd.grad(torch.stack(by_term).sum(), x, create_graph=True)
    return by_term, -gradient.transpose(0, 1)


def close(actual, expected):
    torch.testing.assert_close(
        actual, expected, rtol=1e-10, atol=1e-10 * max(1.0, float(expected.detach().abs().max()))
    )


@pytest.mark.parametrize("name", ["class1", "class2", "max"])
class TestPooling:
    def test_energies_and_forces(self, name):
        system, xyz = system_of(name)
        by_term, forces = plainly(system, xyz)
        actual = energy(system, xyz)
        for bound, one, expected in zip(system.terms, actual.by_term, by_term, strict=True):
            assert expected.detach().abs().max() > 1e-3, bound.term
            close(one, expected.detach())
        close(actual.energy, torch.stack(by_term).sum(0).detach())
        close(actual.forces, forces.detach())

    def test_parameter_gradients_of_a_loss_on_energies_and_forces(self, name):
        system, xyz = system_of(name)
        rows = [bound.values for bound in system.terms]
        by_term, forces = plainly(system, xyz)
        expected = torch.autograd.grad((torch.stack(by_term).sum(0) ** 2).sum() + (forces**2).sum(), rows)
        actual = energy(system, xyz, create_graph=True)
        slopes = torch.autograd.grad((actual.energy**2).sum() + (actual.forces**2).sum(), rows)
        for one, other in zip(slopes, expected, strict=True):
            assert other.abs().max() > 0
            close(one, other)

    def test_energies_without_forces(self, name):
        system, xyz = system_of(name)
        with torch.no_grad():
            actual = energy(system, xyz, forces=False)
        assert actual.forces is None
        close(actual.energy, energy(system, xyz).energy)


def test_each_coordinate_is_computed_once():
    """Class II uses a bond's length in up to seven terms: it is computed once, among the bonds."""
    system, xyz = system_of("class2")
    needed, places = pooled_coordinates(system.terms, xyz.shape[1])
    assert [(w.kind, type(w.coordinate)) for w in needed if w.kind is not Kind.IMPROPER] == [
        (Kind.BOND, Distance),
        (Kind.ANGLE, Angle),
        (Kind.PROPER, Dihedral),
        (Kind.PAIR, Distance),
    ]
    assert len(places) > 2 * len(needed)
    for bound in system.terms:
        for coordinate in bound.term.coordinates:
            atoms = bound.tuples.idx[:, coordinate.atoms]
            pool, rows = places[id(bound.tuples.idx), coordinate]
            actual = needed[pool].idx if rows is None else needed[pool].idx[rows]
            assert ((actual == atoms).all(-1) | (actual == atoms.flip(1)).all(-1)).all()


@pytest.mark.parametrize("n_atoms", [6, 100_000])
def test_tuples_are_found_in_either_direction(n_atoms):
    """Beyond the size at which four indices fit one integer, rows are compared instead."""
    listed = torch.tensor([[3, 1, 0, 2], [0, 1, 2, 3], [5, 4, 3, 2]])
    asked = torch.tensor([[2, 3, 4, 5], [2, 0, 1, 3], [0, 1, 2, 3], [3, 2, 1, 0]])
    assert rows_of(asked, listed, n_atoms).tolist() == [2, 0, 1, 1]
    assert rows_of(torch.tensor([[0, 1, 3, 2]]), listed, n_atoms) is None
    assert rows_of(asked[:0], listed[:0], n_atoms).tolist() == []
    assert rows_of(asked, listed[:0], n_atoms) is None


@pytest.mark.parametrize("name", ["class1", "class2"])
def test_inference_mode_changes_nothing(name):
    """Some terms need autograd for their forces, which takes no tensors that were made in this mode."""
    system, xyz = system_of(name)
    with torch.no_grad():
        expected = energy(system, xyz)
    with torch.inference_mode():
        copied = MMSystem(
            tuple(Bound(b.term, b.tuples, b.values.clone()) for b in system.terms), system.numbers, system.mol
        )
        inside = energy(copied, xyz.clone())
    for found in (inside, energy(copied, xyz)):
        torch.testing.assert_close(found.energy, expected.energy, rtol=0, atol=1e-10)
        torch.testing.assert_close(found.forces, expected.forces, rtol=0, atol=1e-10)


def test_coordinates_that_are_no_floating_point_tensor_are_refused():
    system, xyz = system_of("class1")
    for wrong, kind in ((xyz.long(), "torch.int64"), (xyz.numpy(), "ndarray")):
        with pytest.raises(ValueError, match=f"a tensor of floating-point numbers, .*; got {kind}"):
            energy(system, wrong)
