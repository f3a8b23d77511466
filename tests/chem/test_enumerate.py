"""Molecules made from molecules: known states, fragments as parts of their parent, recombinations within limits."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rdkit import Chem

from espalike.chem import pool
from espalike.chem.enumerate import Limits, pieces, recombined, states, tautomers
from espalike.chem.errors import ChemistryError
from espalike.chem.pool import FRAGMENT, GIVEN, STATE, TAUTOMER, Recipe, components, derive, embeddable, examine
from espalike.chem.protonation import RULES, protonation_state
from tests.molecules import DRUGLIKE

AT_7 = {
    "CC(=O)O": "CC(=O)[O-]",
    "CN": "C[NH3+]",
    "CN(C)C": "C[NH+](C)C",
    "NCC(=O)O": "[NH3+]CC(=O)[O-]",  # amino acid: zwitterion
    "c1c[nH]cn1": "c1c[nH]cn1",  # imidazole, pKa 7.0
    "N[C@@H](Cc1c[nH]cn1)C(=O)O": "[NH3+][C@@H](Cc1c[nH]cn1)C(=O)[O-]",  # histidine
    "NC(N)=N": "NC(N)=[NH2+]",
    "CNC(=NC)NC": "CNC(NC)=[NH+]C",
    "CC(N)=N": "CC(N)=[NH2+]",
    "CN(C)C(=N)NC(=N)N": "CN(C)C(=N)NC(N)=[NH2+]",  # metformin: pKa 12 and 3
    "CS(=O)(=O)NC": "CNS(C)(=O)=O",  # sulfonamide, pKa 10
    "NS(=O)(=O)c1ccccc1": "NS(=O)(=O)c1ccccc1",
    "CC(=O)NS(C)(=O)=O": "CC(=O)[N-]S(C)(=O)=O",
    "Cc1nnn[nH]1": "Cc1nnn[n-]1",
    "Cc1nn[nH]n1": "Cc1nn[n-]n1",
    "COP(=O)(O)OC": "COP(=O)([O-])OC",
    "COP(=O)(O)O": "COP(=O)([O-])[O-]",  # pKa 1.5 and 6.3
    "CP(=O)(O)O": "CP(=O)([O-])O",  # pKa 2.4 and 7.7
    "CS(=O)(=O)O": "CS(=O)(=O)[O-]",
    "C1CNCCN1": "C1C[NH2+]CCN1",  # piperazine, pKa 9.7 and 5.3
    "C1COCCN1": "C1COCC[NH2+]1",
    "Nc1ccccc1": "Nc1ccccc1",
    "c1ccncc1": "c1ccncc1",
    "CN(C)c1ccncc1": "CN(C)c1cc[nH+]cc1",
    "CC(N)=O": "CC(N)=O",
    "CC#N": "CC#N",
    "Oc1ccccc1": "Oc1ccccc1",
    "CCS": "CCS",
    "NCC(F)(F)F": "NCC(F)(F)F",  # pKa 5.7
    "NN": "NN",
    "CN(C)Cn1cccn1": "CN(C)Cn1cccn1",  # an aminal
    "C[N+](C)(C)CC(=O)O": "C[N+](C)(C)CC(=O)[O-]",
    "C[N+](=O)[O-]": "C[N+](=O)[O-]",
    "O=[N+]([O-])c1cc(CN)ccc1": "[NH3+]Cc1cccc([N+](=O)[O-])c1",  # a nitro group is not a cation nearby
    "[NH3+]CC(=O)[O-]": "[NH3+]CC(=O)[O-]",
    "CC[NH3+]": "CC[NH3+]",
    "[O-]c1ccccc1": "Oc1ccccc1",
}


def smiles_of(mols):
    return [Chem.MolToSmiles(mol) for mol in mols]


@pytest.mark.parametrize(("given_as", "expected"), AT_7.items())
def test_protonation_at_ph_7(given_as, expected):
    state = protonation_state(Chem.MolFromSmiles(given_as))
    assert Chem.MolToSmiles(state) == Chem.CanonSmiles(expected)
    again = protonation_state(state)
    assert Chem.MolToSmiles(again) == Chem.MolToSmiles(state)


def test_every_rule_is_smarts_of_one_proton():
    for rule in RULES:
        assert rule.query is not None, rule.name
        assert rule.change in (-1, 1)


@given(st.sampled_from(DRUGLIKE), st.randoms(use_true_random=False))
def test_states_do_not_depend_on_the_order_of_atoms(smiles, draw: random.Random):
    mol = Chem.MolFromSmiles(smiles)
    order = list(range(mol.GetNumAtoms()))
    draw.shuffle(order)
    assert sorted(smiles_of(states(Chem.RenumberAtoms(mol, order)))) == sorted(smiles_of(states(mol)))


def test_groups_with_a_pka_near_the_ph_occur_in_both_states():
    assert smiles_of(states(Chem.MolFromSmiles("c1c[nH]cn1"))) == ["c1c[nH]cn1", "c1c[nH+]c[nH]1"]
    assert smiles_of(states(Chem.MolFromSmiles("c1c[nH]cn1"), margin=0.0)) == ["c1c[nH]cn1"]
    assert smiles_of(states(Chem.MolFromSmiles("CC(=O)O"))) == ["CC(=O)[O-]"]


@pytest.mark.parametrize(
    ("smiles", "expected"),
    [
        ("Oc1ncccc1", ["O=c1cccc[nH]1"]),
        ("Cc1c[nH]cn1", ["Cc1cnc[nH]1"]),
        ("CC(C)=O", []),  # no enol
        ("CC(N)=O", []),  # no imidic acid
        ("Nc1ccccn1", []),  # no imine
        ("C[C@H](N)C(=O)NC", []),  # the same without its stereocentre is not a tautomer
    ],
)
def test_tautomers(smiles, expected):
    assert smiles_of(tautomers(Chem.MolFromSmiles(smiles))) == [Chem.CanonSmiles(text) for text in expected]


@pytest.mark.parametrize("smiles", DRUGLIKE)
def test_fragments_are_parts_of_their_parent(smiles):
    mol = Chem.MolFromSmiles(smiles)
    fragments, open_ends = pieces(mol)
    assert all(mol.HasSubstructMatch(fragment) and fragment.GetNumAtoms() < mol.GetNumAtoms() for fragment in fragments)
    assert len(set(smiles_of(fragments))) == len(fragments)
    assert all("*" in text for text in open_ends)
    more = smiles_of(pieces(mol, joined=2)[0])
    assert set(more) <= set(smiles_of(fragments))


def test_fragments_of_one_to_three_pieces():
    mol = Chem.MolFromSmiles("CC(=O)Nc1ccccc1")  # acetyl, NH, phenyl
    assert smiles_of(pieces(mol, joined=1)[0]) == ["CC=O", "N", "c1ccccc1"]
    assert smiles_of(pieces(mol, joined=2)[0]) == ["CC=O", "N", "c1ccccc1", "CC(N)=O", "Nc1ccccc1"]
    assert pieces(Chem.MolFromSmiles("c1ccccc1")) == ([], [])


def test_no_fragment_has_hydrogen_on_a_sulfonyl():
    for fragment in pieces(Chem.MolFromSmiles("CCNS(=O)(=O)c1ccccc1"))[0]:
        assert not fragment.HasSubstructMatch(Chem.MolFromSmarts("[SX4;!H0]"))


OPEN_ENDS = sorted({end for smiles in DRUGLIKE for end in pieces(Chem.MolFromSmiles(smiles))[1]})


def test_recombinations_are_molecules_within_the_limits():
    limits = Limits(atoms=30, charge=0)
    found = list(recombined(OPEN_ENDS, 500, 1, limits))
    assert len(found) > 100
    assert len(set(found)) == len(found)
    for smiles in found:
        mol = Chem.MolFromSmiles(smiles)  # None if it does not sanitize
        assert mol is not None
        assert Chem.MolToSmiles(mol) == smiles
        assert limits.reason(mol) is None
        assert Chem.AddHs(mol).GetNumAtoms() <= 30
        assert len(Chem.GetMolFrags(mol)) == 1
        assert all(atom.GetAtomicNum() for atom in mol.GetAtoms())


def test_recombinations_are_those_of_the_seed():
    first, again, other = (list(recombined(OPEN_ENDS, 100, seed, Limits())) for seed in (1, 1, 2))
    assert first == again != other
    assert list(recombined(OPEN_ENDS[::-1] * 2, 100, 1, Limits())) == first
    assert list(recombined([], 100, 1, Limits())) == []


def test_a_bond_of_a_recombination_is_one_that_brics_makes():
    both = list(recombined(["[5*]N(C)C", "[1*]C(C)=O"], 50, 0, Limits()))
    assert both == ["CC(=O)N(C)C"]
    assert list(recombined(["[3*]OC", "[3*]OCC"], 50, 0, Limits())) == []  # no peroxides
    assert sorted(recombined(["[7*]C[8*]", "[7*]CC"], 50, 0, Limits())) == ["C=C", "C=CC", "CC=CC"]


@pytest.mark.parametrize(
    ("smiles", "changed", "reason"),
    [
        ("CCO", {}, None),
        ("CCO", {"elements": ["C", "H"]}, "element"),
        ("CCO", {"elements": ["C", "O"]}, "element"),
        ("CCO", {"atoms": 9}, None),
        ("CCO", {"atoms": 8}, "too many atoms"),
        ("C1CCCCCCCCC1", {"atoms": 8}, None),  # a macrocycle
        ("C1CCCCCCCCC1", {"macrocycle_atoms": 29}, "too many atoms"),
        ("C1CCCCCCCCC1CCCCCC", {"rotatable_bonds": 1}, None),
        ("CCCCCC", {"rotatable_bonds": 2}, "too many rotatable bonds"),
        ("CC", {"heavy_atoms": 3}, "too few atoms"),
        ("[O-]P([O-])([O-])=O", {}, "charge"),
        ("C[CH2]", {}, "radical"),
    ],
)
def test_limits(smiles, changed, reason):
    assert Limits(**changed).reason(Chem.MolFromSmiles(smiles)) == reason


def test_what_is_made_of_a_molecule():
    made = derive("acid", "OC(=O)CCNC(=O)c1c[nH]cn1", Recipe(Limits()))
    what = dict(made.candidates)
    assert made.reason is None
    assert what[Chem.CanonSmiles("OC(=O)CCNC(=O)c1c[nH]cn1")] == GIVEN
    assert what[Chem.CanonSmiles("[O-]C(=O)CCNC(=O)c1c[nH]cn1")] == STATE
    assert what[Chem.CanonSmiles("OC(=O)CCNC(=O)c1cnc[nH]1")] == TAUTOMER
    assert what["NC(=O)c1c[nH]cn1"] == FRAGMENT
    assert what["CCC(=O)[O-]"] == FRAGMENT
    assert made.key == examine("OC(=O)CCNC(=O)c1c[nH]cn1").key
    nothing = derive("acid", "OC(=O)CCNC(=O)c1c[nH]cn1", Recipe(Limits(), ph=None, tautomers=0, joined=0))
    assert dict(nothing.candidates) == {Chem.CanonSmiles("OC(=O)CCNC(=O)c1c[nH]cn1"): GIVEN}


def test_a_molecule_that_rdkit_cannot_change_stays_as_it_is(monkeypatch):
    def fail(*arguments):
        raise Chem.KekulizeException("Can't kekulize mol")

    for name in ("states", "tautomers", "pieces"):
        monkeypatch.setattr(pool, name, fail)
    assert derive("ester", "CC(=O)OC", Recipe(Limits())).candidates == (("COC(C)=O", GIVEN),)


def test_a_large_molecule_is_known_by_its_fragments():
    large = "CCCCCCCCCCCCCCCCCCCCNC(=O)c1ccc(N=[N+]=[N-])cc1"
    made = derive("large", large, Recipe(Limits()))
    assert made.reason == "too many atoms"
    assert "[N-]=[N+]=Nc1ccc(C=O)cc1" in dict(made.candidates)
    assert Chem.CanonSmiles(large) not in dict(made.candidates)
    assert set(made.patterns) == set(examine(large).patterns)


def test_what_the_program_does_not_support_is_said():
    assert derive("gold", "[Au]C", Recipe(Limits())).reason == "not supported"
    assert examine("[Au]C").reason == "not supported"
    assert examine("CCO").atoms == 9


def test_components_of_a_salt():
    assert components("[Na+].CC(=O)[O-]") == ["CC(=O)[O-]"]
    assert components("[CH3:1][13CH3:2]") == ["CC"]
    assert components("C[NH3+].CC(=O)[O-]") == ["C[NH3+]", "CC(=O)[O-]"]
    assert components("C") == ["C"]
    assert components("CO[P+]([O-])(O)O") == ["COP(=O)(O)O"]
    assert components("C[S+](C)[O-]") == ["CS(C)=O"]
    assert components("C[N+](C)(C)[O-]") == ["C[N+](C)(C)[O-]"]
    with pytest.raises(ChemistryError, match="C1CC"):
        components("C1CC")


def test_a_molecule_without_coordinates_is_noticed():
    assert embeddable("CCO")
    assert not embeddable("[C@H]12CC[C@@H](CC1)C2")
