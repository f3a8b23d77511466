"""Notes on molecules that were accepted: undefined stereo where there are isomers only, atoms that were rewritten."""

import pytest
from rdkit import Chem
from rdkit.Chem import AllChem

from espalike import chem

ONE_ISOMER = {
    "cubane": "C12C3C4C1C5C2C3C45",
    "adamantane": "C1C2CC3CC1CC(C2)C3",
    "norbornane": "C1CC2CCC1C2",
    "quinuclidine": "C1CN2CCC1CC2",
    "bicyclobutane": "C1C2CC12",
    "azide": "CN=[N+]=[N-]",
    "diazo": "CC=[N+]=[N-]",
    "allene": "CC=C=CC",
    "carbodiimide": "CCN=C=NCC",
    "isocyanate": "CN=C=O",
    "ketene": "CC=C=O",
    "amidine": "CC(=N)N",
    "amidinium": "CC(=[NH2+])N",
    "phosphate": "CCOP(=O)([O-])OC",
    "phosphonic acid": "CP(=O)(O)OC",
    "sulfone": "CS(=O)(=O)CC",
    "cyclohexene": "C1=CCCCC1",
    "amine oxide": "C[N+](C)(CC)[O-]",
}
ISOMERS = {
    "CC(F)Cl": "1 atom, 0 double bonds",
    "FC=CF": "0 atoms, 1 double bond",
    "CC=NO": "0 atoms, 1 double bond",
    "CN=NC": "0 atoms, 1 double bond",
    "CS(=O)CC": "1 atom, 0 double bonds",
    "CC1CCC(C)CC1": "2 atoms, 0 double bonds",  # cis and trans
    "C1CCC2CCCCC2C1": "2 atoms, 0 double bonds",  # decalin
    "CC1(C)C2CCC1(C)C(=O)C2": "2 atoms, 0 double bonds",  # camphor and its mirror image
    "C1CC2C1C1CCC21": "4 atoms, 0 double bonds",  # syn and anti
    "CC(F)C12CC3CC(CC(C3)C1)C2": "1 atom, 0 double bonds",  # beside a cage
    "CC(=C)C1CCC2(C)CCC3(C)C(CCC4C5(C)CCC(O)C(C)(C)C5CCC34C)C12": "10 atoms, 0 double bonds",  # lupeol
}


@pytest.mark.parametrize("smiles", ONE_ISOMER.values(), ids=ONE_ISOMER)
def test_no_note_where_there_is_one_isomer(smiles):
    (entry,) = chem.read_molecules(smiles)
    assert (entry.error, entry.notes) == (None, ())


@pytest.mark.parametrize(("smiles", "counts"), ISOMERS.items())
def test_a_note_where_there_are_isomers(smiles, counts):
    (entry,) = chem.read_molecules(smiles)
    assert entry.notes == (f"undefined stereo: {counts}; parameters do not depend on it",)


@pytest.mark.parametrize(
    ("smiles", "rewritten"),
    [
        ("CN(=O)=O", "2 (N)"),
        ("CN=N#N", "3 (N)"),
        ("CC=N(=O)C", "3 (N)"),
        ("O=N(=O)c1ccncc1", "2 (N)"),
        ("[H:1][C:2]([H:3])([H:4])[N:6](=[O:5])=[O:7]", "6 (N)"),  # in the order of the map numbers
    ],
)
def test_nitrogen_of_five_bonds_is_said_to_be_rewritten(smiles, rewritten):
    (entry,) = chem.read_molecules(smiles)
    note = f"atom {rewritten} had more bonds than its valence allows and is written with charge +1"
    assert [text for text in entry.notes if "stereo" not in text] == [note]


@pytest.mark.parametrize("smiles", ["C[N+](=O)[O-]", "CS(C)(=O)=O", "CP(C)(C)=O", "O=S(=O)=O"])
def test_usual_drawings_have_no_note(smiles):
    (entry,) = chem.read_molecules(smiles)
    assert entry.notes == ()


@pytest.mark.parametrize(
    ("groups", "count"), [("&1:1,3", "2 stereocentres"), ("o1:3", "1 stereocentre"), ("a:1,3", "")]
)
@pytest.mark.parametrize("block", [False, True])
def test_one_isomer_of_a_mixture_is_noted(groups, count, block, tmp_path):
    """Enhanced stereochemistry, of SMILES and of mol blocks V3000: a racemate, or one isomer that is not known."""
    source = f"C[C@H](F)[C@@H](Cl)Br |{groups}|"
    if block:
        mol = Chem.AddHs(Chem.MolFromSmiles(source))
        AllChem.EmbedMolecule(mol, randomSeed=1)
        source = tmp_path / "x.sdf"
        source.write_text(Chem.MolToV3KMolBlock(mol) + "$$$$\n")
    (entry,) = chem.read_molecules(source)
    notes = (f"{count} of a mixture or of unknown configuration (& or o): one isomer is written",)
    assert entry.notes == (notes if count else ())
