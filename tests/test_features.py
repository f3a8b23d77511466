"""Features do not move with the resonance form, the atom order or stereochemistry, and tell apart what differs."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rdkit import Chem

from espalike import chem
from espalike.chem.molecule import Molecule
from espalike.features import ELEMENTS, FEATURES, featurize, pi_components
from espalike.topology import enumerate_tuples
from tests.molecules import DRUGLIKE, RESONANCE, RESONANCE_PAIRS, SMALL


def features_of(molecule):
    if isinstance(molecule, str):
        molecule = chem.from_smiles(molecule)
    return featurize(molecule, enumerate_tuples(molecule.numbers, molecule.bonds, molecule.orders, molecule.charges))


def column(features, name):
    return features[:, FEATURES.index(name)]


def renumbered(molecule, new):
    """The molecule with atom i at new[i]."""
    numbers, charges = np.empty_like(molecule.numbers), np.empty_like(molecule.charges)
    numbers[new], charges[new] = molecule.numbers, molecule.charges
    bonds = np.sort(new[molecule.bonds], axis=1)
    order = np.lexsort(bonds.T[::-1])
    return Molecule("renumbered", "", numbers, charges, bonds[order], molecule.orders[order])


@pytest.mark.parametrize(("first", "second"), RESONANCE_PAIRS)
def test_drawing_does_not_matter(first, second):
    one, two = chem.from_smiles(first), chem.from_smiles(second)
    assert np.array_equal(one.numbers, two.numbers)
    assert np.array_equal(one.bonds, two.bonds)
    assert np.array_equal(features_of(one), features_of(two))


def as_drawn(smiles):
    """The molecule with bond orders and charges exactly as written: no clean-up by RDKit, pentavalent nitrogen kept."""
    mol = Chem.MolFromSmiles(smiles, sanitize=False)
    mol.UpdatePropertyCache(strict=False)
    mol = Chem.AddHs(mol)
    if any(atom.GetIsAromatic() for atom in mol.GetAtoms()):
        Chem.Kekulize(mol, clearAromaticFlags=True)
    bonds = sorted(
        (*sorted((b.GetBeginAtomIdx(), b.GetEndAtomIdx())), int(b.GetBondTypeAsDouble())) for b in mol.GetBonds()
    )
    numbers = np.array([atom.GetAtomicNum() for atom in mol.GetAtoms()])
    charges = np.array([atom.GetFormalCharge() for atom in mol.GetAtoms()])
    return Molecule(smiles, smiles, numbers, charges, np.array(bonds)[:, :2], np.array(bonds)[:, 2])


@pytest.mark.parametrize(("first", "second"), RESONANCE_PAIRS)
def test_drawing_does_not_matter_without_clean_up(first, second):
    one, two = as_drawn(first), as_drawn(second)
    assert np.array_equal(one.bonds, two.bonds)
    if "[cH]" not in second:  # an aromatic drawing has some Kekulé form, perhaps the other's
        assert not (np.array_equal(one.orders, two.orders) and np.array_equal(one.charges, two.charges))
    assert np.array_equal(features_of(one), features_of(two))


@pytest.mark.parametrize("smiles", DRUGLIKE)
def test_resonance_forms_rdkit_enumerates(smiles):
    """RDKit's resonance enumerator: Kekulé and charge-separated forms, but not those with adjacent cations."""
    molecule = chem.from_smiles(smiles)
    reference = features_of(molecule)
    forms = Chem.ResonanceMolSupplier(chem.to_rdkit(molecule), Chem.ALLOW_CHARGE_SEPARATION | Chem.KEKULE_ALL, 24)
    seen = 0
    for form in forms:
        if form is None or form.HasSubstructMatch(Chem.MolFromSmarts("[+]~[+]")):
            continue
        orders = {
            tuple(sorted((b.GetBeginAtomIdx(), b.GetEndAtomIdx()))): int(b.GetBondTypeAsDouble())
            for b in form.GetBonds()
        }
        drawn = dataclasses.replace(
            molecule,
            charges=np.array([atom.GetFormalCharge() for atom in form.GetAtoms()]),
            orders=np.array([orders[tuple(bond)] for bond in molecule.bonds.tolist()]),
        )
        assert drawn.net_charge == molecule.net_charge
        different = np.argwhere(features_of(drawn) != reference)
        assert not len(different), (Chem.MolToSmiles(form), [(int(a), FEATURES[f]) for a, f in different])
        seen += 1
    assert seen


@pytest.mark.parametrize(
    ("name", "equal"),
    [
        ("carboxylate", (2, 3)),
        ("nitro", (2, 3)),
        ("amidinium", (2, 3)),
        ("sulfonate", (2, 3, 4)),
        ("phosphate", (3, 4, 5)),
        ("guanidinium", (3, 4)),
        ("beta-diketonate", (2, 5)),
        ("cyanine", (1, 6)),
        ("perchlorate", (0, 2, 3, 4)),
        ("imidazolide", (0, 3)),
    ],
)
def test_equivalent_atoms_are_equal(name, equal):
    for smiles in RESONANCE[name]:
        features = features_of(smiles)
        for atom in equal[1:]:
            assert np.array_equal(features[equal[0]], features[atom])


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(DRUGLIKE), st.randoms(use_true_random=False))
def test_renumbering_only_permutes(smiles, random):
    molecule = chem.from_smiles(smiles)
    new = np.array(random.sample(range(molecule.n_atoms), molecule.n_atoms))
    assert np.array_equal(features_of(molecule), features_of(renumbered(molecule, new))[new])


def test_stereoisomers_are_equal():
    assert np.array_equal(features_of("C[C@H](N)C(=O)O"), features_of("C[C@@H](N)C(=O)O"))
    assert np.array_equal(features_of("C/C=C/C"), features_of("C/C=C\\C"))


@pytest.mark.parametrize(
    ("first", "second", "atom"),
    [
        ("CC(=O)[O-]", "CC(=O)O", 2),  # charge
        ("CN", "C[NH3+]", 1),
        ("C1CC1", "CCC", 0),  # rings
        ("C1CCC1", "C1CCCC1", 0),
        ("c1ccccc1", "C1CCCCC1", 0),
        ("C1=CCCC=C1", "c1ccccc1", 0),
        ("CC", "C=C", 0),
        ("C=C", "C#C", 0),
        ("CNC", "CC(=O)NC", 1),
    ],
)
def test_what_differs_is_told_apart(first, second, atom):
    assert not np.array_equal(features_of(first)[atom], features_of(second)[atom])


def test_ring_columns_equal_rdkit():
    for smiles in DRUGLIKE:
        molecule = chem.from_smiles(smiles)
        features, mol = features_of(molecule), chem.to_rdkit(molecule)
        info = mol.GetRingInfo()
        for atom in range(molecule.n_atoms):
            size = info.MinAtomRingSize(atom)
            name = "none" if size == 0 else "8+" if size >= 8 else str(size)
            assert column(features, f"ring={name}")[atom] == 1
            in_ring = sum(bond.IsInRing() for bond in mol.GetAtomWithIdx(atom).GetBonds())
            assert column(features, "ring_bonds")[atom] == in_ring / 4
        # What RDKit calls aromatic is conjugated: the invariant flag covers aromaticity in rings of five to seven.
        aromatic = [a.GetIdx() for a in mol.GetAtoms() if a.GetIsAromatic()]
        assert (column(features, "conjugated_ring")[aromatic] == 1).all(), smiles


@pytest.mark.parametrize("smiles", DRUGLIKE + SMALL)
def test_matrix_is_well_formed(smiles):
    molecule = chem.from_smiles(smiles)
    features = features_of(molecule)
    assert features.shape == (molecule.n_atoms, len(FEATURES))
    assert features.dtype == np.float32
    assert np.isfinite(features).all()
    for group in ("element=", "degree=", "ring="):
        chosen = [i for i, name in enumerate(FEATURES) if name.startswith(group)]
        assert (features[:, chosen].sum(axis=1) == 1).all()
    component, charge, _ = pi_components(molecule)
    totals = {label: charge[component == label][0] for label in set(component.tolist()) - {-1}}
    assert sum(totals.values()) == molecule.net_charge  # no formal charge lies outside the components


def test_components_are_separated_by_saturated_carbon_and_ammonium():
    glycine = features_of("[NH3+]CC(=O)[O-]")
    assert column(glycine, "pi_charge")[:5].tolist() == [1, 0, -1, -1, -1]
    assert column(glycine, "pi_charge_share")[3] == pytest.approx(-1 / 3)
    anilinium = features_of("[NH3+]c1ccccc1")
    assert column(anilinium, "pi_charge")[:3].tolist() == [1, 0, 0]


def test_unknown_element():
    molecule = chem.from_smiles("C")
    strange = dataclasses.replace(molecule, numbers=np.array([34, 1, 1, 1, 1]))
    with pytest.raises(ValueError, match=r"C: atom 1 has atomic number 34; supported are \[1, 3, 5"):
        features_of(strange)
    assert len(ELEMENTS) == 18
