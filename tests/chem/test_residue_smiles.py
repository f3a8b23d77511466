"""SMILES of residues that are not standard ones: several that are bonded to one another, and their names."""

import pytest
from rdkit import Chem

from espalike import chem
from tests.chem.test_covalent_residues import complex_of, energy, heavy
from tests.chem.test_structures import built, canonical, helm, lines, only, read

PHOSPHOSERINE = "*N[C@@H](COP(=O)([O-])[O-])C(=O)*"
PHOSPHOTHREONINE = "*N[C@@H]([C@@H](C)OP(=O)([O-])[O-])C(=O)*"
INNER = "*[C@@H]1O[C@H](CO)[C@@H](O*)[C@H](O)[C@H]1NC(C)=O"
OUTER = "*[C@@H]1O[C@H](CO)[C@@H](O)[C@H](O)[C@H]1NC(C)=O"
CASES = {
    "phosphates": (
        "CC(=O)N[C@@H](COP(=O)([O-])[O-])C(=O)N[C@@H]([C@@H](C)OP(=O)([O-])[O-])C(=O)N"
        "[C@@H](COP(=O)([O-])[O-])C(=O)NC",
        heavy(
            ("ACE", "CH3 C O"), ("SEP", "N CA CB OG P O1P O2P O3P C O"), ("TPO", "N CA CB CG2 OG1 P O1P O2P O3P C O"),
            ("SEP2", "N CA CB OG P O1P O2P O3P C O"), ("NME", "N C"),
        ),
        f"{PHOSPHOSERINE}.{PHOSPHOTHREONINE}",
    ),
    "glycan": (
        "CC(=O)N[C@@H](CC(=O)N[C@@H]1O[C@H](CO)[C@@H](O[C@@H]2O[C@H](CO)[C@@H](O)[C@H](O)[C@H]2NC(C)=O)[C@H](O)"
        "[C@H]1NC(C)=O)C(=O)NC",
        heavy(
            ("ACE", "CH3 C O"), ("ASN", "N CA CB CG OD1 ND2"), ("NAG", "C1 O5 C5 C6 O6 C4 O4"),
            ("NAG2", "C1 O5 C5 C6 O6 C4 O4 C3 O3 C2 N2 C7 C8 O7"), ("NAG", "C3 O3 C2 N2 C7 C8 O7"), ("ASN", "C O"),
            ("NME", "N C"),
        ),
        f"{OUTER}.{INNER}",
    ),
    "a double bond between residues": (
        "CC(=O)C=CCO", heavy(("LA", "C1 C2 O1 C3"), ("LB", "C1 C2 O1")), "*=CC(C)=O.*=CCO"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_residues_that_are_bonded_have_one_smiles_each(tmp_path, name):
    """Energy and stereo are those of the molecule in full, which was never cut into residues."""
    smiles, atoms, ligands = CASES[name]
    mol = complex_of(smiles, atoms)
    molecule, whole = only(read(tmp_path, lines(mol), ligands)), chem.from_rdkit(mol)
    assert canonical(molecule) == canonical(mol)
    xyz = mol.GetConformer().GetPositions()
    assert energy(molecule, xyz) == pytest.approx(energy(whole, xyz), rel=1e-9)


@pytest.mark.parametrize(
    ("name", "ligands", "message"),
    [
        ("phosphates", None, "SEP 2, TPO 3, SEP 4 are not standard residues; give their SMILES with --smiles, one for"),
        ("phosphates", PHOSPHOSERINE, "TPO 3: the PDB has C4H6NO5P and 2 bonds to other residues, the SMILES with its"),
        ("glycan", INNER, "NAG 4: the PDB has C8H14NO5 and a bond to another residue, the SMILES with its hydrogens"),
        ("glycan", "CCO", "NAG 3, NAG 4: the PDB has C16H27N2O10 and a bond to a standard residue, the SMILES with"),
        (
            "a double bond between residues",
            "*=CC(C)=O.*[CH]CO",
            "the SMILES of LA 1 and LB 2 have bonds of different orders between them",
        ),
    ],
)
def test_what_does_not_fit_is_named(tmp_path, name, ligands, message):
    smiles, atoms, _ = CASES[name]
    (entry,) = read(tmp_path, lines(complex_of(smiles, atoms)), ligands)
    assert message in entry.error


@pytest.mark.parametrize("residue", ["ALA", "A", "U", "DA", "ACE", "NH2", "NA", "CYS"])
def test_a_ligand_with_the_name_of_a_standard_residue(tmp_path, residue):
    """Its atoms say that it is none, with and without bonds in the file."""
    mol = built(Chem.MolFromSmiles("CC(=O)Nc1ccc(O)cc1"))
    for atom in mol.GetAtoms():
        name = f" {atom.GetSymbol()}{atom.GetIdx() + 1}".ljust(4)
        atom.SetMonomerInfo(Chem.AtomPDBResidueInfo(name, residueName=residue, residueNumber=1, isHeteroAtom=True))
    peptide = helm("PEPTIDE1{[ac].A.D.G.[am]}$$$$")
    peptide.GetConformer().SetPositions(peptide.GetConformer().GetPositions() + 40.0)
    for text in (lines(mol), lines(mol) + "TER\n" + lines(peptide), lines(mol, conect=True)):
        first, *others = read(tmp_path, text, "CC(=O)Nc1ccc(O)cc1")
        assert canonical(only([first])) == canonical(mol)
        assert [canonical(entry.molecule) for entry in others] == [canonical(peptide)] * len(others)
    error = read(tmp_path, lines(mol))[0].error
    assert f"{residue} 1 is not a standard residue" in error
    assert (f"(the atoms are not those of {residue})" in error) == (residue != "NA")
