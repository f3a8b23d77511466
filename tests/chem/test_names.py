"""Names of atoms and residues: kept where they are unique, made otherwise, cut to the width of a field."""

import pytest
from rdkit import Chem
from rdkit.Chem import rdDistGeom

from espalike import chem
from espalike.chem.names import fitted, made, unique


def test_names_that_occur_once_are_kept_and_the_others_are_made():
    assert unique(["C1", "H", "H", "", "a b", "H1"], ["C", "H", "H", "O", "N", "H"]) == (
        "C1", "H2", "H3", "O1", "N1", "H1",
    )  # fmt: skip
    assert unique(["C", "C"], ["C", "C"]) == ()
    assert made(["C", "Cl", "C"]) == ("C1", "Cl1", "C2")


def test_names_fit_a_field_and_stay_unique():
    assert fitted(("CA", "LONGER", "C1"), ["C", "C", "C"], 4) == ("CA", "C2", "C1")
    names = made(["H"] * 3000 + ["Cl"] * 200)
    for width in (4, 5):
        short = fitted(names, ["H"] * 3000 + ["Cl"] * 200, width)
        assert len(set(short)) == 3200
        assert max(map(len, short)) <= width


@pytest.mark.parametrize("residues", [("ABC", "ABC"), ("ABC", "DEF")])
def test_an_rdkit_molecule_keeps_its_names_and_its_only_residue(residues):
    mol = Chem.MolFromSmiles("[O-][Cl]")
    for atom, residue in zip(mol.GetAtoms(), residues, strict=True):
        number = 1 + (residue == "DEF")
        info = Chem.AtomPDBResidueInfo(f" {atom.GetSymbol()}9 ", residueName=residue, residueNumber=number)
        atom.SetMonomerInfo(info)
    molecule = chem.from_rdkit(mol, "hypochlorite")
    assert molecule.atom_names == ("O9", "Cl9")
    assert molecule.residue == ("ABC" if len(set(residues)) == 1 else "")


@pytest.mark.parametrize(("smiles", "name", "kept"), [("CC#N", "SOL", ""), ("CC#N", "ACN", "ACN"), ("O", "HOH", "HOH")])
def test_a_name_of_water_is_for_water(smiles, name, kept):
    """OpenMM keeps residues of such names rigid, whatever their atoms are."""
    mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
    for atom in mol.GetAtoms():
        atom.SetMonomerInfo(Chem.AtomPDBResidueInfo(f"X{atom.GetIdx()}", residueName=name, residueNumber=1))
    assert chem.from_rdkit(mol, "molecule").residue == kept


@pytest.mark.parametrize(("name", "count"), [("SOL", 1), ("ACN", 0)])
def test_a_name_that_is_not_kept_has_a_note(name, count, tmp_path):
    mol = Chem.AddHs(Chem.MolFromSmiles("CC#N"))
    rdDistGeom.EmbedMolecule(mol, randomSeed=1)
    for atom in mol.GetAtoms():
        atom.SetMonomerInfo(Chem.AtomPDBResidueInfo(f" X{atom.GetIdx()} ", residueName=name, residueNumber=1))
    (tmp_path / "x.pdb").write_text(Chem.MolToPDBBlock(mol))
    (entry,) = chem.read_any(tmp_path / "x.pdb", "CC#N")
    assert entry.molecule.residue == ("" if count else name)
    assert [note for note in entry.notes if "water" in note] == [
        f"residue '{name}' is not kept: it is a name of water, whose bonds OpenMM makes rigid"
    ][:count]
