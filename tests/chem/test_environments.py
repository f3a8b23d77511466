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


@pytest.mark.parametrize(
    ("smiles", "atoms"),
    [
        ("c1cc2ccc3ccc4ccc5ccc1c1c2c3c4c51", 5),  # corannulene
        ("C1c2ccc3c4c2c2c1ccc1Cc5ccc(C3)c4c5c21", 6),  # sumanene
        ("C1=Cc2ccc3C=Cc4ccc1c2c34", 2),  # pyracylene
        ("C1C23CC12C3", 2),  # propellanes: [1.1.1], [2.2.2], [3.2.1]
        ("C1CC23CCC12CC3", 2),
        ("C1CC23CC2(C1)C3", 2),
        ("C1CC23CCCC2(C1)CCC3", 0),  # [3.3.3]
        ("C1=Cc2cccc3cccc1c23", 0),  # acenaphthylene
        ("c1ccc2c(c1)c1cccc3cccc2c13", 0),  # fluoranthene
        ("O=C1NC(=O)c2cccc3cccc1c23", 0),  # naphthalimide
        ("c1cc2ccc3cccc4ccc(c1)c2c34", 0),  # pyrene
        ("c1cc2ccc3ccc4ccc5ccc6ccc1c1c2c3c4c5c61", 0),  # coronene
        ("c1ccc2c(c1)ccc1ccc3ccc4ccc5ccccc5c4c3c12", 0),  # hexahelicene
        ("C1C2CC3CC1CC(C2)C3", 0),  # adamantane, cubane, dodecahedrane
        ("C12C3C4C1C5C2C3C45", 0),
        ("C12C3C4C5C1C6C7C2C8C3C9C4C1C5C6C2C7C8C9C12", 0),
        ("CN1CC[C@]23c4c5ccc(O)c4O[C@H]2[C@@H](O)C=C[C@H]3[C@H]1C5", 0),  # morphine
    ],
)
def test_bonds_that_three_rings_force_out_of_shape(smiles, atoms):
    mol = Chem.MolFromSmiles(smiles)
    forced = {i: texts[-1] for i, texts in surroundings(mol).items() if "R3]~[" in texts[-1]}
    assert len(forced) == atoms
    for i, text in forced.items():
        assert i in {match[0] for match in mol.GetSubstructMatches(Chem.MolFromSmarts(text), uniquify=False)}
