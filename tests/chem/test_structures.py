"""PDB and mmCIF: standard residues without a SMILES, CONECT records, missing columns, what the file does not hold."""

import io
import json
import xml.etree.ElementTree as ET
from collections import Counter
from pathlib import Path

import numpy as np
import openmm
import pytest
from openmm import app
from rdkit import Chem
from rdkit.Chem import rdDistGeom

from espalike import chem
from espalike.chem import residues, structures
from espalike.chem.molecule import Molecule
from espalike.cli.main import main

STORED = Path(__file__).parent / "stored"
WATER_AND_IONS = """\
HETATM 9001  O   HOH W   1      40.000  40.000  40.000  1.00  0.00           O
HETATM 9002  H1  HOH W   1      40.957  40.000  40.000  1.00  0.00           H
HETATM 9003  H2  HOH W   1      39.760  40.927  40.000  1.00  0.00           H
HETATM 9004  O   HOH W   2      50.000  40.000  40.000  1.00  0.00           O
HETATM 9005 NA    NA W   3      60.000  40.000  40.000  1.00  0.00          Na
"""


def built(mol: Chem.Mol) -> Chem.Mol:
    """With hydrogens, residues and coordinates."""
    Chem.SanitizeMol(mol)
    mol = Chem.AddHs(mol, addResidueInfo=True)
    assert rdDistGeom.EmbedMolecule(mol, randomSeed=7, useRandomCoords=True) == 0
    Chem.AssignStereochemistryFrom3D(mol)
    return mol


def helm(text: str) -> Chem.Mol:
    return built(Chem.MolFromHELM(text))


def lines(mol: Chem.Mol, conect: bool = False, **replaced: str) -> str:
    text = Chem.MolToPDBBlock(mol, flavor=4 | 8)
    for old, new in replaced.items():
        text = text.replace(f" {old} ", f" {new} ")
    return "".join(f"{line}\n" for line in text.splitlines() if conect or not line.startswith(("CONECT", "END")))


def read(tmp_path: Path, text: str, smiles: str | None = None, suffix: str = "pdb") -> list[chem.Entry]:
    path = tmp_path / f"x.{suffix}"
    path.write_text(text)
    return list(chem.read_molecules(path, smiles))


def only(entries: list[chem.Entry]) -> Molecule:
    assert [entry.error for entry in entries] == [None]
    return entries[0].molecule


def parametrized(tmp_path: Path, text: str, *options: str) -> tuple[str, list[str]]:
    """NAME.pdb of a PDB, and the notes in the report."""
    (tmp_path / "in.pdb").write_text(text)
    command = ["parametrize", str(tmp_path / "in.pdb"), "--out", str(tmp_path), "--report", str(tmp_path / "r.json")]
    assert main([*command, *options]) == 0
    row = json.loads((tmp_path / "r.json").read_text())["inputs"][0]
    return (tmp_path / f"{row['name']}.pdb").read_text(), row["warnings"]


def test_residues_of_a_protein_are_kept_in_its_pdb(tmp_path):
    """Names, numbers, insertion codes and chain; such a file is read as it was, without a SMILES."""
    text = (STORED / "protein.pdb").read_text()
    rows = [line for line in text.splitlines() if line.startswith("ATOM")]
    rows = [line[:21] + ("B  52A" if int(line[22:26]) == 2 else "B" + line[22:27]) + line[27:] for line in rows]
    written, notes = parametrized(tmp_path, "\n".join([*rows, "END", ""]))
    atoms = [line for line in written.splitlines() if line.startswith(("ATOM", "HETATM"))]
    assert [line[:54] for line in atoms] == [line[:54] for line in rows]
    assert not any("one residue" in note for note in notes)
    before, after = only(read(tmp_path, "\n".join(rows))), only(read(tmp_path, written))
    assert after.smiles == before.smiles
    assert after.labels == before.labels
    topology = app.PDBFile(io.StringIO(written)).topology
    assert topology.getNumResidues() == len({line[21:27] for line in rows})
    assert topology.getNumBonds() == len(before.bonds)


@pytest.mark.parametrize(("options", "noted"), [(("--format", "ffxml"), True), (("--residue", "PEP"), False)])
def test_a_protein_is_one_residue_where_that_is_asked_for(tmp_path, options, noted):
    """The template of an ffxml is one residue, and finds it in NAME.pdb."""
    written, notes = parametrized(tmp_path, lines(helm("PEPTIDE1{[ac].A.[am]}$$$$")), *options)
    topology = app.PDBFile(io.StringIO(written)).topology
    assert [residue.name for residue in topology.residues()] == ["LIG" if noted else "PEP"]
    assert any("has one residue, as the template in" in note for note in notes) == noted
    if noted:
        (xml,) = tmp_path.glob("*.xml")
        assert app.ForceField(str(xml)).createSystem(topology).getNumParticles() == topology.getNumAtoms()


def canonical(mol: Chem.Mol | Molecule) -> str:
    mol = chem.to_rdkit(mol) if isinstance(mol, Molecule) else mol
    return Chem.MolToSmiles(Chem.RemoveHs(mol))


def as_mmcif(text: str) -> str:
    pdb, file = app.PDBFile(io.StringIO(text)), io.StringIO()
    app.PDBxFile.writeFile(pdb.topology, pdb.positions, file)
    return file.getvalue()


def test_residues_have_the_bonds_that_openmm_knows():
    path = Path(app.__file__).parent / "data" / "residues.xml"
    compared = []
    for residue in ET.parse(path).getroot():
        ends = [(bond.get("from"), bond.get("to")) for bond in residue]
        expected = {frozenset(pair) for pair in ends if not any(end[0] in "-+H" for end in pair)}
        template = residues.template(residue.get("name"))
        if template is not None:
            assert {frozenset(pair) for pair, order in template.items() if order} == expected, residue.get("name")
            compared.append(residue.get("name"))
    assert len(compared) == 20 + 4 + 4 + 4  # amino acids, RNA, DNA, caps


@pytest.mark.parametrize("suffix", ["pdb", "cif"])
@pytest.mark.parametrize("name", ["protein", "dna"])
def test_charges_and_bonds_are_those_of_amber(name, suffix, tmp_path):
    """Files of tleap: all amino acids in all protonation states, charged termini; nucleotides."""
    text = (STORED / f"{name}.pdb").read_text()
    pdb = app.PDBFile(io.StringIO(text.replace("LYN", "LYS").replace("CYM", "CYS")))  # the names that OpenMM has
    molecule = only(read(tmp_path, as_mmcif(text) if suffix == "cif" else text, suffix=suffix))
    bonds = {tuple(sorted((a.index, b.index))) for a, b in pdb.topology.bonds()}
    assert set(map(tuple, molecule.bonds.tolist())) == bonds
    system = app.ForceField("amber14-all.xml").createSystem(pdb.topology)
    (nonbonded,) = (force for force in system.getForces() if isinstance(force, openmm.NonbondedForce))
    charge = [nonbonded.getParticleParameters(n)[0]._value for n in range(molecule.n_atoms)]
    for residue in pdb.topology.residues():
        atoms = [atom.index for atom in residue.atoms()]
        expected = sum(charge[n] for n in atoms) if name == "protein" else molecule.charges[atoms].sum()
        assert molecule.charges[atoms].sum() == pytest.approx(expected, abs=1e-3), residue
    assert molecule.net_charge == pytest.approx(sum(charge), abs=1e-3)


@pytest.mark.parametrize(
    "text",
    [
        "PEPTIDE1{A.C.G.H.C.W}$PEPTIDE1,PEPTIDE1,2:R3-5:R3$$$",  # a disulfide
        "PEPTIDE1{A.C.F}|PEPTIDE2{G.C.Y}$PEPTIDE1,PEPTIDE2,2:R3-2:R3$$$",  # between chains
        "PEPTIDE1{A.P.G.S.V.G}$PEPTIDE1,PEPTIDE1,1:R1-6:R2$$$",  # a ring
        "PEPTIDE1{R.K.D.E.N.Q.M.T}$$$$",  # neutral side chains and termini
        "RNA1{R(A)P.R(U)P.R(G)P.R(C)}$$$$",
        "RNA1{[dR](A)P.[dR](T)P.[dR](G)P.[dR](C)}$$$$",
    ],
)
def test_peptides_and_nucleic_acids(text, tmp_path):
    mol = helm(text)
    molecule = only(read(tmp_path, lines(mol)))
    assert canonical(molecule) == canonical(mol)  # stereo included
    assert molecule.numbers.tolist() == [atom.GetAtomicNum() for atom in mol.GetAtoms()]


def test_chains_are_molecules(tmp_path):
    one, two = helm("PEPTIDE1{A.G}$$$$"), helm("PEPTIDE1{S.V}$$$$")
    two.GetConformer().SetPositions(two.GetConformer().GetPositions() + 30.0)
    text = lines(one) + "TER\n" + lines(two) + "TER\n" + WATER_AND_IONS
    entries = read(tmp_path, text)
    assert [canonical(entry.molecule) for entry in entries] == [canonical(one), canonical(two)]
    assert [entry.name for entry in entries] == ["x-1", "x-2"]
    note = "water and ions are left out (1 H2O, 1 O, 1 Na): they have the parameters of a water model"
    assert [entry.notes for entry in entries] == [(note,), (note,)]
    (bad,) = read(tmp_path, WATER_AND_IONS)
    assert "x.pdb, record 1: holds water and ions only" in bad.error
    sodium = WATER_AND_IONS.splitlines()[-1] + "\n"
    assert only(read(tmp_path, sodium, "[Na+]")).net_charge == 1


def test_a_ligand_beside_a_protein_has_the_smiles(tmp_path):
    ligand = built(Chem.MolFromSmiles("CC(=O)[O-]"))
    ligand.GetConformer().SetPositions(ligand.GetConformer().GetPositions() + 30.0)
    text = lines(helm("PEPTIDE1{A.G}$$$$")) + lines(ligand)
    protein, acetate = read(tmp_path, text, "CC(=O)[O-]")
    assert (protein.error, acetate.error) == (None, None)
    assert acetate.molecule.net_charge == -1
    protein, acetate = read(tmp_path, text)
    assert protein.error is None
    assert "x.pdb, record 2: a PDB holds no bond orders, and UNL 1 is not a standard residue; give" in acetate.error


def test_what_is_missing_is_named(tmp_path):
    text = (STORED / "protein.pdb").read_text()

    def error(*left_out: tuple[str, str]) -> str:
        kept = [row for row in text.splitlines() if (row[12:16].strip(), row[22:26].strip()) not in left_out]
        (entry,) = read(tmp_path, "\n".join(kept))
        return entry.error

    assert "x.pdb, record 1: ARG 2: hydrogens or neighbours are missing: CB lacks 1" in error(("HB2", "2"))
    assert "ASN 3: heavy atoms are missing: CG" in error(("CG", "3"))
    assert "TYR 27: hydrogens or neighbours are missing: C lacks 1" in error(("OXT", "27"))
    assert "CYS 5: hydrogens or neighbours are missing: SG lacks 1" in error(("HG", "5"))
    bare = [row for row in text.splitlines() if row[76:78].strip() != "H"]
    (entry,) = read(tmp_path, "\n".join(bare))
    assert "; and 22 residues more. Complete the structure, for example with PDBFixer" in entry.error
    (entry,) = read(tmp_path, text.replace(" CB  ASN", " CX  ASN"))
    assert "ASN 3: heavy atoms are missing: CB" in entry.error


def without_elements(text: str) -> str:
    return "".join(f"{row[:66]}\n" for row in text.splitlines())


def test_elements_follow_from_the_columns_of_the_names(tmp_path):
    mol = built(Chem.MolFromSmiles("FC(Cl)(Cl)CC#N"))
    names = [" F1 ", " CA ", "CL1 ", "CL2 ", " CD ", " CE ", " N1 ", "1HD ", "2HD "]
    for atom, name in zip(mol.GetAtoms(), names, strict=True):
        atom.SetMonomerInfo(Chem.AtomPDBResidueInfo(name, residueName="LIG", residueNumber=1, isHeteroAtom=True))
    (entry,) = read(tmp_path, without_elements(lines(mol)), "FC(Cl)(Cl)CC#N")
    assert canonical(only([entry])) == canonical(mol)
    assert entry.notes == ("elements of 9 atoms, which the PDB does not name, are derived from columns 13-14",)
    (entry,) = read(tmp_path, without_elements(lines(mol)).replace(" CA ", "CA  "), "FC(Cl)(Cl)CC#N")
    assert "the PDB has C2H2N, the SMILES" in entry.error
    text = (STORED / "protein.pdb").read_text()
    assert canonical(only(read(tmp_path, without_elements(text)))) == canonical(only(read(tmp_path, text)))
    for name, number in {"HG21": 1, "1HB ": 1, " CA ": 6, "CA  ": 20, "CL12": 17, " HG ": 1, "HG  ": 80}.items():
        row = f"HETATM    1 {name} LIG A   1       0.000   0.000   0.000"
        assert structures.read_pdb(row).atoms[0].number == number


def test_a_remark_ends_with_its_line():
    row = "HETATM    1  O   HOH A   1       0.000   0.000   0.000  1.00  0.00           O"
    assert len(structures.read_pdb(f"REMARK a\x0c{row}\nREMARK b\u2028{row}\x85{row}\n{row}\nEND\n").atoms) == 1


def test_conect_records_decide_bonds(tmp_path):
    """Atoms may be nearer or farther than bonds are."""
    mol = built(Chem.MolFromSmiles("CCOC=O"))
    xyz = mol.GetConformer().GetPositions()
    xyz[4] = xyz[0] + (1.3, 0.0, 0.0)  # the last oxygen beside the first carbon
    mol.GetConformer().SetPositions(xyz)
    assert "not those of the same molecule" in read(tmp_path, lines(mol), "CCOC=O")[0].error
    assert canonical(only(read(tmp_path, lines(mol, conect=True), "CCOC=O"))) == canonical(mol)


def test_conect_records_of_heavy_atoms_only(tmp_path):
    mol = built(Chem.MolFromSmiles("CCOC=O"))
    rows = [row for row in lines(mol, conect=True).splitlines() if not row.startswith("CONECT")]
    bonds = [(1, 2), (2, 3), (3, 4), (4, 5)]
    text = "\n".join([*rows, *(f"CONECT{i:5}{j:5}" for i, j in bonds)])
    assert canonical(only(read(tmp_path, text, "CCOC=O"))) == canonical(mol)


def test_equal_serial_numbers_make_no_bonds(tmp_path):
    mol = built(Chem.MolFromSmiles("CCO"))
    text = lines(mol, conect=True).replace("HETATM    2", "HETATM    1")
    (entry,) = read(tmp_path, text, "CCO")
    assert canonical(only([entry])) == "CCO"
    assert any("CONECT records are left out: several atoms have the same serial number" in n for n in entry.notes)


def test_bonds_of_an_mmcif(tmp_path):
    """`chem_comp_bond` decides, as CONECT does."""
    mol = built(Chem.MolFromSmiles("CCOC=O"))
    xyz = mol.GetConformer().GetPositions()
    xyz[4] = xyz[0] + (1.3, 0.0, 0.0)
    names = [f"{atom.GetSymbol()}{n}" for n, atom in enumerate(mol.GetAtoms())]
    columns = "group_PDB type_symbol label_atom_id label_comp_id auth_asym_id auth_seq_id Cartn_x Cartn_y Cartn_z"
    text = "data_x\n#\nloop_\n" + "".join(f"_atom_site.{column}\n" for column in columns.split())
    for atom, name, (x, y, z) in zip(mol.GetAtoms(), names, xyz, strict=True):
        text += f"HETATM {atom.GetSymbol()} {name} LIG A 1 {x:.3f} {y:.3f} {z:.3f}\n"
    bonds = "#\nloop_\n_chem_comp_bond.comp_id\n_chem_comp_bond.atom_id_1\n_chem_comp_bond.atom_id_2\n"
    bonds += "".join(f"LIG {names[b.GetBeginAtomIdx()]} {names[b.GetEndAtomIdx()]}\n" for b in mol.GetBonds())
    assert "of the mmCIF and of the SMILES are not those" in read(tmp_path, text, "CCOC=O", "cif")[0].error
    (entry,) = read(tmp_path, text + bonds, "CCOC=O", "mmcif")
    assert canonical(only([entry])) == canonical(mol)
    assert entry.molecule.atom_names == tuple(names)
    assert entry.molecule.residue == "LIG"
    assert "not a readable mmCIF" in read(tmp_path, "data_x\n_a.b 'x\ny' z\nloop_ 3\n", None, "cif")[0].error
    assert "holds no atoms" in read(tmp_path, "data_x\n_a.b c\n", None, "cif")[0].error


def test_a_residue_that_is_bonded_to_standard_ones(tmp_path):
    """`*` in the SMILES is an atom of a standard residue."""
    mol = built(Chem.MolFromSmiles("CC(=O)N[C@@H](CSCC(=O)[O-])C(=O)NC"))
    names = {"ACE": "CH3 C O", "CYX": "N CA CB SG", "LIG": "C1 C2 O1 O2"}, {"CYX": "C O", "NME": "N C"}
    heavy = [(residue, name) for part in names for residue, text in part.items() for name in text.split()]
    numbers = {"ACE": 1, "CYX": 2, "LIG": 3, "NME": 4}
    for atom in mol.GetAtoms():
        index = atom.GetIdx() if atom.GetAtomicNum() > 1 else atom.GetNeighbors()[0].GetIdx()
        residue, name = heavy[index]
        name = name if atom.GetAtomicNum() > 1 else f"H{atom.GetIdx()}"
        info = Chem.AtomPDBResidueInfo(f" {name:3}", residueName=residue, residueNumber=numbers[residue])
        atom.SetMonomerInfo(info)
    molecule = only(read(tmp_path, lines(mol), "*CC(=O)[O-]"))
    assert canonical(molecule) == canonical(mol)
    assert molecule.net_charge == -1
    (entry,) = read(tmp_path, lines(mol), "CC(=O)[O-]")
    assert "has C2H2O2 and a bond to a standard residue, the SMILES with its hydrogens C2H3O2" in entry.error
    assert "with * for each such bond" in entry.error


def test_alternative_locations_and_models(tmp_path):
    text = lines(helm("PEPTIDE1{A.G}$$$$"))
    rows = text.splitlines()
    other = [row[:16] + "B" + row[17:] for row in rows if row[12:16] == " CB "]
    first = [row[:16] + "A" + row[17:] if row[12:16] == " CB " else row for row in rows]
    (entry,) = read(tmp_path, "\n".join([*first, *other]))
    assert entry.notes == ("1 atom of other alternative locations left out",)
    (entry,) = read(tmp_path, f"MODEL 1\n{text}ENDMDL\nMODEL 2\n{text}ENDMDL\n")
    assert entry.notes == ("the first of 2 models is read",)
    assert Counter(entry.molecule.numbers.tolist())[6] == 5
    (entry,) = read(tmp_path, text.replace(rows[3][30:38], " 1.x3   "))
    assert "x.pdb, record 1: line 4: expected coordinates in columns 31 to 54" in entry.error


def test_coordinates_and_names_are_kept(tmp_path):
    (entry,) = read(tmp_path, (STORED / "dna.pdb").read_text())
    rows = (STORED / "dna.pdb").read_text().splitlines()[:126]
    expected = np.array([[float(row[n : n + 8]) for n in (30, 38, 46)] for row in rows])
    np.testing.assert_allclose(entry.xyz, expected)


@pytest.mark.parametrize("between", ["", "END", "ENDMDL", "TER"])
def test_chains_without_letters_are_told_apart(tmp_path, between):
    """A dimer as GROMACS writes it: the second chain has the residues of the first one again."""
    mol = helm("PEPTIDE1{[ac].A.S.[am]}$$$$")
    rows = [f"{line[:21]} {line[22:]}" for line in lines(mol).splitlines()]
    moved = [f"{line[:30]}{float(line[30:38]) + 40.0:8.3f}{line[38:]}" for line in rows]
    entries = read(tmp_path, "\n".join([*rows, *filter(None, [between]), *moved, "END", ""]))
    assert [entry.error for entry in entries] == [None, None]
    assert [canonical(entry.molecule) for entry in entries] == [canonical(mol)] * 2
    np.testing.assert_allclose(entries[1].xyz - entries[0].xyz, np.tile([40.0, 0.0, 0.0], (len(rows), 1)))


def test_hydrogens_behind_their_residues_belong_to_them(tmp_path):
    mol = helm("PEPTIDE1{[ac].A.S.[am]}$$$$")
    rows = sorted(lines(mol).splitlines(), key=lambda line: line[76:78].strip() == "H")
    assert canonical(only(read(tmp_path, "\n".join(rows)))) == canonical(mol)


def ligand(smiles: str) -> str:
    mol = built(Chem.MolFromSmiles(smiles))
    return Chem.MolToPDBBlock(mol)


def test_an_atom_of_unknown_element_is_no_ion(tmp_path):
    row = "HETATM 9000  XX  UNX W   9      40.000  40.000  40.000  1.00  0.00           X\n"
    good, odd = read(tmp_path, ligand("CO").replace("END\n", row), "CO")
    assert (good.error, good.molecule.n_atoms) == (None, 6)
    assert "the element of atom XX of residue UNX 9 of chain W is unknown" in odd.error


@pytest.mark.parametrize("word", ["nan", "inf", "-inf"])
def test_coordinates_that_are_not_finite_are_named(tmp_path, word):
    text = ligand("CO")
    broken = "\n".join(row[:30] + word.rjust(8) + row[38:] if n == 2 else row for n, row in enumerate(text.split("\n")))
    (entry,) = read(tmp_path, broken, "CO")
    assert "x.pdb, record 1: line 3: expected coordinates in columns 31 to 54" in entry.error
    table = as_mmcif(text)
    x = f" {float(text.split(chr(10))[2][30:38]):10.4f}"
    assert x in table
    (entry,) = read(tmp_path, table.replace(x, f" {word}", 1), "CO", "cif")
    assert "expected numbers in Cartn_x, Cartn_y and Cartn_z" in entry.error


def test_data_blocks_of_an_mmcif(tmp_path):
    text = as_mmcif(ligand("CO"))
    (entry,) = read(tmp_path, text + text.replace("data_cell", "data_other"), "CO", "cif")
    assert (entry.error, entry.notes) == (None, ("the first of 2 data blocks with atoms is read",))
    (entry,) = read(tmp_path, "data_MOH\nloop_\n_chem_comp_atom.comp_id\n_chem_comp_atom.atom_id\nMOH C\n", "CO", "cif")
    assert "defines a residue and holds no atoms" in entry.error


@pytest.mark.parametrize(
    ("there", "given"),
    [
        ("C[C@H](O)CC", "C[C@@H](O)CC"),
        ("C/C=C/C", "C/C=C\\C"),
        ("C[C@H](O)[C@@H](O)C", "C[C@H](O)[C@H](O)C"),
        ("C[C@H]1CC[C@@H](C)CC1", "C[C@H]1CC[C@H](C)CC1"),
        ("C[S@](=O)CC", "C[S@@](=O)CC"),
    ],
)
def test_coordinates_of_another_stereoisomer_are_noted(tmp_path, there, given):
    (entry,) = read(tmp_path, ligand(there), given)
    assert canonical(entry.molecule) == Chem.CanonSmiles(there)
    (note,) = [note for note in entry.notes if "stereoisomer" in note]
    assert f"the SMILES is that of {Chem.CanonSmiles(given)}; it is the former" in note
    for same in (there, there.replace("@", "").replace("/", "")):
        (entry,) = read(tmp_path, ligand(there), same)
        assert not any("stereoisomer" in note for note in entry.notes)


@pytest.mark.parametrize("smiles", ["CP(=O)(O)OC", "[2H]C([2H])([2H])O", "C[C@]([2H])(O)CC", "C/C=N/O", "CC(=O)[O-]"])
def test_no_note_where_the_stereoisomer_is_the_same(tmp_path, smiles):
    (entry,) = read(tmp_path, ligand(smiles), smiles)
    assert (entry.error, [note for note in entry.notes if "stereoisomer" in note]) == (None, [])
