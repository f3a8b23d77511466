"""Tuples against independent enumerations: RDKit's distance matrix and substructure matches, OpenMM's exceptions."""

import numpy as np
import openmm
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rdkit import Chem
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from espalike import chem
from espalike.batch import batch_of
from espalike.features import featurize
from espalike.topology import components, enumerate_tuples
from espalike.tuples import Kind
from tests.molecules import DRUGLIKE, RESONANCE_PAIRS, SMALL


def topology_of(smiles):
    molecule = chem.from_smiles(smiles)
    return molecule, enumerate_tuples(molecule.numbers, molecule.bonds, molecule.orders, molecule.charges)


def rows(array):
    return [tuple(row) for row in array.tolist()]


def matches(mol, smarts):
    """All substructure matches, each direction, as a set."""
    actual = mol.GetSubstructMatches(Chem.MolFromSmarts(smarts), uniquify=False, maxMatches=10**6)
    return {tuple(match) for match in actual}


@pytest.mark.parametrize("smiles", DRUGLIKE + SMALL)
def test_tuples_equal_brute_force(smiles):
    molecule, topology = topology_of(smiles)
    mol = chem.to_rdkit(molecule)
    distance = Chem.GetDistanceMatrix(mol)

    assert rows(topology.bonds) == rows(molecule.bonds)
    assert rows(topology.angles) == sorted(m for m in matches(mol, "*~*~*") if m[0] < m[2])
    linear = set(np.flatnonzero(topology.linear).tolist())
    propers = sorted(m for m in matches(mol, "*~*~*~*") if m[1] < m[2] and not linear & {m[1], m[2]})
    assert rows(topology.propers) == propers
    trigonal = matches(mol, "*~[#5X3,#6X3,#7X3](~*)~*")
    assert rows(topology.impropers) == sorted(m for m in trigonal if m[0] < m[2] < m[3])
    i, j = np.triu_indices(molecule.n_atoms, k=1)
    far = distance[i, j] >= 3
    assert rows(topology.pairs) == list(zip(i[far].tolist(), j[far].tolist(), strict=True))
    assert np.array_equal(topology.is14, distance[i, j][far] == 3)
    for array in (topology.bonds, topology.angles, topology.propers, topology.impropers, topology.pairs):
        assert array.dtype == np.int64
        assert len(set(rows(array))) == len(array)


@pytest.mark.parametrize("smiles", DRUGLIKE + SMALL)
def test_pairs_of_angles_and_of_propers_equal_substructure_matches(smiles):
    molecule, topology = topology_of(smiles)
    mol = chem.to_rdkit(molecule)
    linear = set(np.flatnonzero(topology.linear).tolist())

    # matched as (centre, a, shared, b): every ordered choice of three neighbours
    stars = {(a, c, s, b) for c, a, s, b in matches(mol, "*(~*)(~*)~*") if a < b}
    assert rows(topology.angle_pairs) == sorted(stars)
    chains = {m for m in matches(mol, "*~*~*~*~*") if m[1] < m[3] and not linear & set(m[1:4])}
    assert rows(topology.proper_pairs) == sorted(chains)

    angles, propers = set(rows(topology.angles)), set(rows(topology.propers))
    for a, c, s, b in rows(topology.angle_pairs):
        assert {(min(a, s), c, max(a, s)), (min(s, b), c, max(s, b))} <= angles
    for m in rows(topology.proper_pairs):
        assert all(p in propers or p[::-1] in propers for p in (m[:4], m[1:]))
    for array in (topology.angle_pairs, topology.proper_pairs):
        assert array.dtype == np.int64
        assert len(set(rows(array))) == len(array)


def test_how_many_pairs_of_angles_and_of_propers():
    """Counted by hand: a tetrahedral centre has 4 shared bonds with 3 pairs of others each, propane 3 · 3 H–C–C–C–H."""
    _, methane = topology_of("C")
    assert (len(methane.angle_pairs), len(methane.proper_pairs)) == (12, 0)
    _, water = topology_of("O")
    assert (len(water.angle_pairs), len(water.proper_pairs)) == (0, 0)
    _, propane = topology_of("CCC")
    assert (len(propane.angle_pairs), len(propane.proper_pairs)) == (36, 9)
    _, butyne = topology_of("CC#CC")
    assert len(butyne.proper_pairs) == 0
    for smiles, size, expected in (("C1CCC1", 4, 0), ("C1CCCC1", 5, 5), ("C1CCCCC1", 6, 6)):
        _, ring = topology_of(smiles)
        assert sum(set(row) <= set(range(size)) for row in rows(ring.proper_pairs)) == expected


@pytest.mark.parametrize("smiles", ["C1CC1C", "C1CCC1C", "C1CCCC1C", "C1CCCCC1", "C12C3C4C1C5C2C3C45", "C1C2CC12"])
def test_exclusions_in_rings_equal_openmm(smiles):
    molecule, topology = topology_of(smiles)
    force = openmm.NonbondedForce()
    for _ in range(molecule.n_atoms):
        force.addParticle(1.0, 1.0, 1.0)
    force.createExceptionsFromBonds(molecule.bonds.tolist(), 0.5, 0.5)
    excluded, scaled = set(), set()
    for index in range(force.getNumExceptions()):
        i, j, charge, _, _ = force.getExceptionParameters(index)
        (scaled if charge._value else excluded).add((min(i, j), max(i, j)))
    pairs = rows(topology.pairs)
    assert {pair for pair, is14 in zip(pairs, topology.is14, strict=True) if is14} == scaled
    assert set(pairs).isdisjoint(excluded)
    assert len(pairs) + len(excluded) == molecule.n_atoms * (molecule.n_atoms - 1) // 2


@pytest.mark.parametrize(
    ("smiles", "linear"),
    [
        ("CC#CC", [1, 2]),
        ("CC#N", [1]),
        ("CN=[N+]=[N-]", [2]),
        ("C[N-][N+]#N", [2]),
        ("C[N+]#[C-]", [1]),
        ("CN=C=O", [2]),
        ("C[N+]#C[O-]", [2]),
        ("C[N-]C#[O+]", [2]),
        ("CN=C=NC", [2]),
        ("C[N+]#C[N-]C", [2]),
        ("CC#[N+][O-]", [1, 2]),
        ("C[C-]=[N+]=O", [1, 2]),
        ("CC#[N+]C", [1, 2]),
        ("C=C=C=C", [1, 2]),
        ("C=[N+]=[N-]", [1]),
        ("[CH2-][N+]#N", [1]),
        ("O=C=O", [1]),
        ("C#N", [0]),
        ("c1ccncc1", []),
        ("CN=NC", []),
        ("[CH2-]C=[N+]=NC", []),
        ("CC#[N+][N-]C", [1, 2]),
        ("C[C-]=[N+]=NC", [1, 2]),
        ("C=CC=C", []),
        ("C=[C+]C", [1]),
        ("C=[C+]C=C", [1]),
        ("C=C=C[CH2+]", [1]),
        ("C=[C-]C", []),
        ("[CH-]=C", []),
        ("O=S=O", []),
        ("CSC#N", [2]),
        ("C[Si]#C", None),
    ],
)
def test_linear_centres(smiles, linear):
    if linear is None:  # a triple bond to silicon: the carbon has two neighbours, silicon is not asked
        smiles, linear = "C[Si]#CC", [2]
    _, topology = topology_of(smiles)
    assert np.flatnonzero(topology.linear).tolist() == linear


@pytest.mark.parametrize(("first", "second"), RESONANCE_PAIRS)
def test_drawing_does_not_matter(first, second):
    (_, one), (_, two) = topology_of(first), topology_of(second)
    kinds = ("bonds", "angles", "propers", "impropers", "angle_pairs", "proper_pairs", "pairs", "is14", "linear")
    for name in kinds:
        assert np.array_equal(getattr(one, name), getattr(two, name)), name


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(DRUGLIKE), st.randoms(use_true_random=False))
def test_renumbering_gives_the_same_tuples(smiles, random):
    molecule, topology = topology_of(smiles)
    new = np.array(random.sample(range(molecule.n_atoms), molecule.n_atoms))  # new[i]: new index of atom i
    shuffled = np.array(random.sample(range(len(molecule.bonds)), len(molecule.bonds)))
    numbers, charges = np.empty_like(molecule.numbers), np.empty_like(molecule.charges)
    numbers[new], charges[new] = molecule.numbers, molecule.charges
    flipped = new[molecule.bonds[shuffled]][:, :: random.choice((1, -1))]
    other = enumerate_tuples(numbers, flipped, molecule.orders[shuffled], charges)

    def undirected(array):
        return sorted(min(row, row[::-1]) for row in rows(array))

    for name in ("bonds", "angles", "propers", "proper_pairs", "pairs"):
        assert undirected(new[getattr(topology, name)]) == undirected(getattr(other, name)), name
    assert sorted((c, s, min(a, b), max(a, b)) for a, c, s, b in rows(new[topology.angle_pairs])) == sorted(
        (c, s, a, b) for a, c, s, b in rows(other.angle_pairs)
    )
    assert sorted((row[1], *sorted((row[0], row[2], row[3]))) for row in rows(new[topology.impropers])) == sorted(
        (row[1], row[0], row[2], row[3]) for row in rows(other.impropers)
    )
    assert np.array_equal(topology.linear, other.linear[new])
    assert topology.is14.sum() == other.is14.sum()


def test_input_order_of_bonds_does_not_matter():
    molecule, topology = topology_of(DRUGLIKE[0])
    other = enumerate_tuples(molecule.numbers, molecule.bonds[::-1, ::-1], molecule.orders[::-1], molecule.charges)
    kinds = ("bonds", "angles", "propers", "impropers", "angle_pairs", "proper_pairs", "pairs", "is14", "linear")
    for name in kinds:
        assert np.array_equal(getattr(topology, name), getattr(other, name)), name


def test_atom_and_diatomic():
    _, ion = topology_of("[Na+]")
    _, hydrogen = topology_of("[H][H]")
    for topology, bonds in ((ion, 0), (hydrogen, 1)):
        assert topology.bonds.shape == (bonds, 2)
        assert topology.angles.shape == (0, 3)
        assert topology.propers.shape == topology.impropers.shape == (0, 4)
        assert topology.pairs.shape == (0, 2)
        assert topology.is14.shape == (0,)


def test_peptide_of_two_thousand_atoms():
    topology = topology_of("NCC(=O)" + "N[C@@H](C)C(=O)" * 200 + "O")[1]
    assert topology.n_atoms == 2010
    assert len(topology.pairs) + len(topology.bonds) + len(topology.angles) == 2010 * 2009 // 2  # a tree: no rings


@pytest.mark.parametrize(
    ("bonds", "orders", "message"),
    [
        ([(0, 3)], [1], r"expected bond indices 0…2, got 0…3"),
        ([(1, 1)], [1], "atom 1 is bonded to itself"),
        ([(0, 1), (1, 0)], [1, 1], r"bond \(0, 1\) is listed twice"),
        ([(0, 1), (1, 2)], [1], "got 1 orders for 2 bonds"),
    ],
)
def test_bad_bonds(bonds, orders, message):
    with pytest.raises(ValueError, match=message):
        enumerate_tuples([6, 6, 6], bonds, orders)


def test_several_molecules_side_by_side_have_the_tuples_of_each():
    smiles = ["CCO", "[Na+]", *DRUGLIKE[:3], "O"]
    molecules = [chem.from_smiles(text) for text in smiles]
    batch, offset = batch_of(molecules), 0
    for number, molecule in enumerate(molecules):
        alone = enumerate_tuples(molecule.numbers, molecule.bonds, molecule.orders, molecule.charges)
        expected = {
            Kind.BOND: alone.bonds, Kind.ANGLE: alone.angles, Kind.PROPER: alone.propers, Kind.PAIR: alone.pairs,
            Kind.IMPROPER: alone.impropers, Kind.ANGLE_PAIR: alone.angle_pairs, Kind.PROPER_PAIR: alone.proper_pairs,
        }  # fmt: skip
        for kind, rows_alone in expected.items():
            tuples = batch.tuples[kind]
            mine = tuples.mol == number
            assert np.array_equal(tuples.idx[mine].numpy() - offset, rows_alone), kind
        pairs = batch.tuples[Kind.PAIR]
        assert np.array_equal(pairs.is14[pairs.mol == number].numpy(), alone.is14)
        mine = batch.mol == number
        np.testing.assert_array_equal(batch.x[mine].numpy(), featurize(molecule, alone))
        offset += molecule.n_atoms
    assert len(batch.tuples[Kind.PAIR]) == len(batch.tuples[Kind.PAIR].idx)


def test_components_equal_those_of_scipy():
    rng = np.random.default_rng(0)
    for n, bonds in ((1, 0), (30, 12), (300, 150), (2000, 1900)):
        ends = rng.integers(0, n, (bonds, 2))
        _, expected = connected_components(coo_array((np.ones(bonds), tuple(ends.T)), (n, n)), directed=False)
        actual = components(n, ends)
        assert len(set(zip(expected.tolist(), actual.tolist(), strict=True))) == len(set(expected)) == len(set(actual))
        assert actual[np.unique(actual, return_index=True)[1]].tolist() == list(range(actual.max() + 1))
    chain = rng.permutation(5000)
    assert not components(5000, np.stack([chain[:-1], chain[1:]], axis=1)).any()


def test_pairs_of_a_large_molecule_are_not_listed_before_they_are_used():
    molecule = chem.from_smiles("C" * 3000)
    pairs = batch_of([molecule]).tuples[Kind.PAIR]
    assert len(pairs) == 9002 * 9001 // 2 - len(pairs.excluded)
    assert len(pairs.excluded) == 9001 + 3000 * 6  # bonds, and six angles at each carbon
    assert "_listed" not in vars(pairs)
