"""Environments: each is the SMARTS of what it counts, whatever the order of atoms."""

import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rdkit import Chem

from espalike.chem.environments import KINDS, environments, surroundings
from tests.molecules import DRUGLIKE, SMALL


def found_by_rdkit(mol, kind, smarts):
    """Number of places where a SMARTS matches: centres of atoms, rows of atoms in one direction."""
    matches = mol.GetSubstructMatches(Chem.MolFromSmarts(smarts), uniquify=False, maxMatches=100_000)
    return len({match[0] for match in matches} if kind == "atom" else {min(match, match[::-1]) for match in matches})


@pytest.mark.parametrize("smiles", DRUGLIKE + SMALL)
def test_an_environment_is_the_smarts_of_what_it_counts(smiles):
    mol = Chem.MolFromSmiles(smiles)
    counted = environments(mol)
    assert tuple(counted) == KINDS
    for kind, texts in counted.items():
        assert dict(texts) == {text: found_by_rdkit(mol, kind, text) for text in texts}


@pytest.mark.parametrize("smiles", DRUGLIKE + SMALL)
def test_every_atom_bond_angle_and_torsion_is_counted(smiles):
    mol = Chem.MolFromSmiles(smiles)
    linear = "[!^1]" if mol.GetNumAtoms() > 1 else "*"
    everything = {"atom": "*", "bond": "*~*", "angle": "*~*~*", "torsion": f"*~{linear}~{linear}~*"}
    counted = environments(mol)
    assert {kind: found_by_rdkit(mol, kind, smarts) for kind, smarts in everything.items()} == {
        kind: counted[kind].total() for kind in KINDS
    }


@settings(deadline=None)
@given(st.sampled_from(DRUGLIKE), st.randoms(use_true_random=False), st.booleans())
def test_neither_the_order_of_atoms_nor_explicit_hydrogens_matter(smiles, draw: random.Random, explicit):
    mol = Chem.MolFromSmiles(smiles)
    other = Chem.AddHs(mol) if explicit else mol
    order = list(range(other.GetNumAtoms()))
    draw.shuffle(order)
    assert environments(Chem.RenumberAtoms(other, order)) == environments(mol)


def test_ethanol():
    assert environments(Chem.MolFromSmiles("CCO")) == {
        "atom": Counter(
            [
                "[CX4H3+0^3R0](-;!@[C+0^3])",
                "[CX4H2+0^3R0](-;!@[C+0^3])(-;!@[O+0^3])",
                "[OX2H1+0^3R0](-;!@[C+0^3])",
            ]
        ),
        "bond": Counter(["[CX4H2+0^3R0]-;!@[CX4H3+0^3R0]", "[CX4H2+0^3R0]-;!@[OX2H1+0^3R0]"]),
        "angle": Counter(["[C+0^3]-;!@[CX4H2+0^3R0]-;!@[O+0^3]"]),
        "torsion": Counter(),
    }


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("CC(=O)[O-]", "CC(=O)O"),  # charge
        ("C1CCCCC1", "c1ccccc1"),  # aromaticity
        ("C1CCC1", "C1CCCC1"),  # ring size
        ("C1CCCCCC1", "C1CCCCCCCCC1"),
        ("CC", "C=C"),  # hybridisation
        ("CCCN", "CCC[NH3+]"),
    ],
)
def test_what_tells_environments_apart(first, second):
    one, other = (environments(Chem.MolFromSmiles(smiles)) for smiles in (first, second))
    assert one["atom"] != other["atom"]
    assert one["bond"] != other["bond"]


@pytest.mark.parametrize(
    ("drawn", "plain"), [("[H]/N=C(/C)N", "N=C(C)N"), ("C/C=N/[H]", "CC=N"), ("[H]/N=N/C", "N=NC")]
)
def test_a_hydrogen_that_defines_stereo_is_no_neighbour(drawn, plain):
    """RDKit's `RemoveHs` keeps it."""
    with_stereo, without = (Chem.AddHs(Chem.MolFromSmiles(smiles)) for smiles in (drawn, plain))
    assert Chem.MolToSmiles(with_stereo) != Chem.MolToSmiles(without)
    assert environments(with_stereo) == environments(without)
    assert sorted(surroundings(with_stereo).values()) == sorted(surroundings(without).values())


def test_hydrogen_molecules_have_surroundings():
    assert surroundings(Chem.AddHs(Chem.MolFromSmiles("[H][H]")))[1] == ("[#1X1H1+0R0](-;!@[#1+0R0])",)


@pytest.mark.parametrize("smiles", DRUGLIKE + SMALL)
def test_surroundings_are_the_smarts_of_their_atom(smiles):
    """Of exactly the atoms that have them, explicit hydrogens or not."""
    plain = Chem.MolFromSmiles(smiles)
    for mol in (plain, Chem.AddHs(plain)):
        found = surroundings(mol)
        assert found == surroundings(plain)
        for text in set().union(*found.values()):
            matches = {match[0] for match in plain.GetSubstructMatches(Chem.MolFromSmarts(text), uniquify=False)}
            assert matches >= {i for i, texts in found.items() if text in texts}
            if "~*~" not in text:
                assert len({found[i][0].split("(")[0] for i in matches}) == 1
