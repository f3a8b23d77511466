"""Classes of equal atoms against neighbourhoods that are written out."""

import dataclasses
import itertools

import pytest
import torch

from espalike.batch import batch_of
from espalike.chem import from_smiles
from espalike.nn.orbits import Orbits, _scrambled
from tests.molecules import DRUGLIKE

F64 = torch.float64
MOLECULES = (*DRUGLIKE[:3], "CCO", "CCCO", "CC(=O)[O-]", "c1ccccc1", "C1CCCCC1", "[Na+]")


def unrolled(x, neighbours, atom, hops):
    """An atom's surroundings as nested tuples."""
    features = tuple(x[atom].tolist())
    if not hops:
        return features, len(neighbours[atom])
    parts = sorted((unrolled(x, neighbours, n, hops - 1) for n in neighbours[atom]), key=repr)
    return unrolled(x, neighbours, atom, hops - 1), tuple(parts)


@pytest.mark.parametrize("hops", [0, 1, 2, 3])
def test_atoms_are_equal_where_their_unrolled_surroundings_are(hops):
    batch = batch_of([from_smiles(s) for s in MOLECULES], F64)
    neighbours = [[] for _ in batch.numbers]
    for source, target in batch.edges.T.tolist():
        neighbours[target].append(source)
    seen = [repr(unrolled(batch.x, neighbours, atom, hops)) for atom in range(len(batch.numbers))]
    first = [seen.index(label) for label in seen]
    orbits = Orbits.of_batch(batch, hops)
    assert orbits.atom[orbits.of].tolist() == first
    assert orbits.numbers.tolist() == batch.numbers[orbits.atom].tolist()
    assert orbits.degrees.tolist() == [len(neighbours[atom]) for atom in orbits.atom]


def test_classes_only_split_from_layer_to_layer_and_keep_every_bond_of_one_atom():
    batch = batch_of([from_smiles(s) for s in MOLECULES], F64)
    layers = [Orbits.of_batch(batch, n) for n in range(4)]
    for coarse, fine in itertools.pairwise(layers):
        hop = fine.hops[-1]
        assert (hop.parent[fine.of] == coarse.of).all()
        assert torch.bincount(hop.edges[1], minlength=len(fine.atom)).tolist() == fine.degrees.tolist()


def test_sources_of_another_level_of_theory_are_not_the_same():
    batch = batch_of([from_smiles("CCO"), from_smiles("CCO")], F64)
    one, two = (Orbits.of_batch(dataclasses.replace(batch, level=torch.tensor(level)), 2) for level in ([1, 1], [0, 1]))
    assert (one.of[:9] == one.of[9:]).all()
    assert not set(two.of[:9].tolist()) & set(two.of[9:].tolist())


def test_each_atom_for_itself():
    batch = batch_of([from_smiles("CC")], F64)
    plain = Orbits.of_batch(batch, 2, alike=False)
    assert plain.of.tolist() == plain.atom.tolist() == list(range(8))
    assert all((hop.edges == batch.edges).all() for hop in plain.hops)


def test_the_hash_spreads_and_does_not_collide():
    hashed = _scrambled(torch.arange(200_000))
    assert len(hashed.unique()) == 200_000
    bits = (hashed.unsqueeze(-1) >> torch.arange(64)) & 1
    assert (bits.double().mean(0) - 0.5).abs().max() < 0.01
