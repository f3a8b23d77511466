"""PDB and mmCIF as programs write them: names of residues and ions, bonds to metals and to copies, cut molecules."""

from collections.abc import Iterable

import pytest
from rdkit import Chem

from tests.chem.test_covalent_residues import complex_of, heavy
from tests.chem.test_structures import STORED, as_mmcif, built, canonical, helm, lines, only, read

DNA = "RNA1{[dR](A)P.[dR](T)P.[dR](G)P.[dR](C)}$$$$"
RNA = "RNA1{R(A)P.R(U)P.R(G)P.R(C)}$$$$"
HOMOSERINE = "*NC(CCO)C(*)=O"
CHARMM = "CAY CY OY N CA CB C O"
CAPPED = "PEPTIDE1{[ac].A.D.G.[am]}$$$$"


def renamed(text: str, names: dict[str, str]) -> str:
    """A PDB with other names of residues, in columns 18 to 21."""
    return "".join(
        f"{row[:17]}{names.get(row[17:20].strip(), row[17:20].strip()):4}{row[21:]}\n" for row in text.splitlines()
    )


OTHER_PROGRAMS = {
    "GROMACS with OPLS": "ASP ASPH GLU GLU HID HISD HIE HISE HIP HISH ASH ASPH GLH GLUH LYN LYSN LYS LYSH CYS CYSH",
    "CHARMM": "HID HSD HIE HSE HIP HSP ASH ASPP GLH GLUP LYN LSN",
    "mirror images": "ALA DAL ARG DAR ASN DSG ASP DAS CYS DCY GLN DGN GLU DGL HID DHI ILE DIL LEU DLE LYS DLY MET MED "
    "PHE DPN PRO DPR SER DSN THR DTH TRP DTR TYR DTY VAL DVA",
}


@pytest.mark.parametrize("program", OTHER_PROGRAMS)
def test_amino_acids_by_other_names(tmp_path, program):
    """Protonation follows from the hydrogens, whatever the name says."""
    words = OTHER_PROGRAMS[program].split()
    text = "".join(f"{row}\n" for row in (STORED / "protein.pdb").read_text().splitlines() if row.startswith("ATOM"))
    assert {row[17:20] for row in text.splitlines()} >= set(words[::2])
    other = renamed(text, dict(zip(words[::2], words[1::2], strict=True)))
    assert only(read(tmp_path, other)).smiles == only(read(tmp_path, text)).smiles


@pytest.mark.parametrize(
    ("helm_text", "names"),
    [
        (DNA, {"DA": "A", "DT": "T", "DG": "G", "DC": "C"}),  # PDB before version 3
        (DNA, {"DA": "ADE", "DT": "THY", "DG": "GUA", "DC": "CYT"}),
        (RNA, {"A": "ADE", "U": "URA", "G": "GUA", "C": "CYT"}),
        (RNA, {"A": "RA5", "U": "RU", "G": "RG", "C": "RC3"}),
    ],
)
def test_nucleotides_by_other_names(tmp_path, helm_text, names):
    """The sugar says whether it is DNA or RNA."""
    mol = helm(helm_text)
    assert canonical(only(read(tmp_path, renamed(lines(mol), names)))) == canonical(mol)
    old = renamed(lines(mol), names).replace("'", "*")
    assert canonical(only(read(tmp_path, old))) == canonical(mol)


def test_a_base_alone_is_no_nucleotide(tmp_path):
    mol = complex_of("Nc1ncnc2[nH]cnc12", heavy(("ADE", "N6 C6 N1 C2 N3 C4 N9 C8 N7 C5")))
    (entry,) = read(tmp_path, lines(mol))
    assert "is not a standard residue" in entry.error


@pytest.mark.parametrize(
    ("smiles", "atoms"),
    [
        ("CC(=O)N[C@@H](C)C(=O)N[C@@H](CO)C(=O)NC", (("ALA", CHARMM), ("SER", "N CA CB OG C O NT CAT"))),
        ("CC(=O)N[C@@H](C)C(N)=O", (("ALA", f"{CHARMM[:-1]}NT O"),)),
        ("C[C@H]([NH3+])C(=O)[O-]", (("ALA", "CB CA N C O1 O2"),)),
    ],
)  # fmt: skip
def test_ends_of_other_programs(tmp_path, smiles, atoms):
    """Caps of CHARMM are parts of the residues beside them; the ends of chains have their own names in GROMACS."""
    mol = complex_of(smiles, heavy(*atoms))
    assert canonical(only(read(tmp_path, lines(mol)))) == Chem.CanonSmiles(smiles)


@pytest.mark.parametrize(
    ("names", "formula"),
    [
        ((" SOD SOD", " CLA CLA", " POT POT", " CAL CAL", " CES CES"), "1 Na, 1 Cl, 1 K, 1 Ca, 1 Cs"),
        ((" NA   NA", " CL   CL", " K     K", " CA   CA", " ZN  ZN2"), "1 Na, 1 Cl, 1 K, 1 Ca, 1 Zn"),
        ((" Na+ Na+", " Cl- Cl-", " K+   K+", " MG   MG"), "1 Na, 1 Cl, 1 K, 1 Mg"),
    ],
)
def test_ions_without_elements(tmp_path, names, formula):
    """As CHARMM and GROMACS write them: ` NA ` is nitrogen elsewhere, ` CLA` carbon."""
    rows = [f"HETATM 90{n:02}{name[:4]:>5} {name[5:]}  {n:4}" for n, name in enumerate(names)]
    text = lines(helm(CAPPED)) + "".join(f"{row:30}{60.0:8.3f}{9.0 * n:8.3f}{0.0:8.3f}\n" for n, row in enumerate(rows))
    (entry,) = read(tmp_path, text)
    assert entry.error is None
    assert f"water and ions are left out ({formula}): they have the parameters of a water model" in entry.notes


@pytest.mark.parametrize("name", ["SOL", "TIP5", "OPC", "T4P"])
def test_names_of_water(tmp_path, name):
    """Their further sites are left out with them, but a solvent of this name is a molecule as others are."""
    peptide = lines(helm(CAPPED))
    sites = {" OW ": (40.0, 40.0), " HW1": (40.957, 40.0), " HW2": (39.76, 40.927), " MW ": (40.1, 40.1)}
    rows = [
        f"ATOM   90{n:02} {atom} {name:4}    1    {x:8.3f}{y:8.3f}{40.0:8.3f}"
        for n, (atom, (x, y)) in enumerate(sites.items())
    ]
    (entry,) = read(tmp_path, peptide + "\n".join(rows))
    assert entry.error is None
    assert any("water and ions are left out (1 H2O, 1 *)" in note for note in entry.notes)
    mol = complex_of("CC#N", heavy((name, "C1 C2 N1")))
    mol.GetConformer().SetPositions(mol.GetConformer().GetPositions() + 40.0)
    _, solvent = read(tmp_path, peptide + "TER\n" + lines(mol), "CC#N")
    assert canonical(solvent.molecule) == "CC#N"


def test_listed_bonds_to_metals_are_contacts(tmp_path):
    """CONECT records of the Protein Data Bank hold them."""
    mol = helm(CAPPED)
    rows = lines(mol).splitlines()
    (oxygen,) = (n for n, row in enumerate(rows, start=1) if row[12:16] == " OD1")
    place = [float(rows[oxygen - 1][n : n + 8]) for n in (30, 38, 46)]

    def ion(serial: int, name: str, x: float) -> str:
        return f"HETATM{serial:5} {name} A{serial:4}    {place[0] + x:8.3f}{place[1]:8.3f}{place[2]:8.3f}  1.00  0.00"

    water = f"{ion(902, ' O   HOH', 4.0)}           O"
    text = "\n".join([water, *rows, f"{ion(901, 'ZN    ZN', 2.0)}          ZN"])
    text += f"\nCONECT{oxygen:5}  901\nCONECT  901{oxygen:5}  902\n"
    (entry,) = read(tmp_path, text)
    assert canonical(only([entry])) == canonical(mol)
    assert entry.notes == ("water and ions are left out (1 O, 1 Zn): they have the parameters of a water model",)


def test_a_bond_to_a_copy_in_the_crystal_is_none(tmp_path):
    """`struct_conn` lists disulfides between a chain and its copy, too."""
    names = (
        "id conn_type_id ptnr1_auth_asym_id ptnr1_auth_seq_id ptnr1_label_atom_id ptnr1_symmetry ptnr2_auth_asym_id "
    )
    names += "ptnr2_auth_seq_id ptnr2_label_atom_id ptnr2_symmetry"
    table = "loop_\n" + "".join(f"_struct_conn.{name}\n" for name in names.split())
    text = as_mmcif((STORED / "protein.pdb").read_text())
    alone = only(read(tmp_path, text, suffix="cif"))
    text, copy = text + table, "x covale A 1 CB {} A 20 CZ2 {}\n#\n"
    assert only(read(tmp_path, text + copy.format("1_555", "2_655"), suffix="cif")).smiles == alone.smiles
    (entry,) = read(tmp_path, text + copy.format("1_555", "1_555"), suffix="cif")
    assert entry.error is not None


def test_a_protein_that_is_cut_is_not_embedded(tmp_path):
    """An atom on the other side of a periodic box: an embedded protein has another fold, or takes for ever."""
    mol = helm(CAPPED)
    rows = [
        f"{row[:30]}{float(row[30:38]) + 30.0:8.3f}{row[38:]}" if row[12:20] == " O   ALA" else row
        for row in lines(mol).splitlines()
    ]
    (entry,) = read(tmp_path, "\n".join(rows))
    assert "x.pdb, record 1: coordinates cannot be used: 1 of " in entry.error
    assert "gmx trjconv -pbc whole" in entry.error
    (entry,) = read(tmp_path, "\n".join(rows), canonical(mol))  # the SMILES says the bonds
    assert canonical(only([entry])) == canonical(mol)
    assert entry.xyz is None


def test_a_residue_that_is_not_standard_in_a_chain_says_what_is_wanted(tmp_path):
    smiles = "CC(=O)N[C@@H](COP(=O)([O-])[O-])C(=O)NC"
    atoms = heavy(("ACE", "CH3 C O"), ("SEP", "N CA CB OG P O1P O2P O3P C O"), ("NME", "N C"))
    mol = complex_of(smiles, atoms)
    (entry,) = read(tmp_path, lines(mol))
    assert "SEP 2 is not a standard residue; give its SMILES with --smiles, in which * stands for" in entry.error
    assert canonical(only(read(tmp_path, lines(mol), "*N[C@@H](COP(=O)([O-])[O-])C(=O)*"))) == Chem.CanonSmiles(smiles)


@pytest.mark.parametrize(
    ("smiles", "atoms", "ligand"),
    [
        ("CC(=O)N[C@@H](CCO)C(=O)NC", (("ACE", "CH3 C O"), ("HSE", "N CA CB CG OD C O"), ("NME", "N C")), HOMOSERINE),
        ("OS(=O)(=O)CCNC1CCCCC1", (("NHE", "O1 S O2 O3 C1 C2 N C1' C2' C3' C4' C5' C6'"),), "OS(=O)(=O)CCNC1CCCCC1"),
        ("CC(=O)N[C@@H](CS)C(=O)[O-]", (("NAC", "C1 C2 O3 N CA CB SG C O1 O2"),), "CC(=O)NC(CS)C(=O)[O-]"),
    ],
    ids=["homoserine", "buffer", "acetylcysteine"],
)  # fmt: skip
def test_other_residues_with_names_of_standard_ones(tmp_path, smiles, atoms, ligand):
    """Beside a peptide, so that the SMILES is not that of the whole file."""
    mol = complex_of(smiles, heavy(*atoms))
    peptide = helm(CAPPED)
    peptide.GetConformer().SetPositions(peptide.GetConformer().GetPositions() + 40.0)
    one, two = read(tmp_path, lines(mol) + "TER\n" + lines(peptide), ligand)
    assert (one.error, two.error) == (None, None)
    assert [canonical(one.molecule), canonical(two.molecule)] == [canonical(mol), canonical(peptide)]


def test_names_that_begin_in_the_first_column(tmp_path):
    """`HG  ` and `HE  ` in a standard residue are hydrogens, whatever the columns say."""
    rows = [row for row in (STORED / "protein.pdb").read_text().splitlines() if row.startswith("ATOM")]
    moved = "\n".join(f"{row[:12]}{row[12:16].strip():4}{row[16:66]}" for row in rows)
    assert only(read(tmp_path, moved)).smiles == only(read(tmp_path, "\n".join(rows))).smiles


@pytest.mark.parametrize("factor", [0.75, 1.27])
def test_long_bonds_of_hydrogens_before_minimisation(tmp_path, factor):
    """PDBFixer leaves bonds of hydrogens up to 1.23 Å long; here all are longer by a factor."""
    mol = helm("PEPTIDE1{[ac].S.K.H.C.[am]}$$$$")
    there = canonical(mol)
    xyz = mol.GetConformer().GetPositions()
    for atom in mol.GetAtoms():
        if atom.GetAtomicNum() == 1:
            heavy = atom.GetNeighbors()[0].GetIdx()
            xyz[atom.GetIdx()] = xyz[heavy] + factor * (xyz[atom.GetIdx()] - xyz[heavy])
    mol.GetConformer().SetPositions(xyz)
    assert canonical(only(read(tmp_path, lines(mol)))) == there


PARACETAMOL = "CC(=O)Nc1ccc(O)cc1"


def columns(xyz: Iterable[float]) -> str:
    """Coordinates [Å] in columns 31 to 54."""
    return "".join(f"{x:8.3f}" for x in xyz)


def located(rows: list[str], letters: str) -> str:
    """Rows of atoms at several locations, the later ones 0.3 Å farther."""
    moved = (f"{row[:30]}{float(row[30:38]) + 0.3 * n:8.3f}{row[38:]}" for row in rows for n in range(len(letters)))
    return "".join(f"{row[:16]}{letters[n % len(letters)]}{row[17:]}\n" for n, row in enumerate(moved))


def test_locations_that_are_no_alternatives_are_both_there(tmp_path):
    """Two groups of one residue, each in two places; the letters of the second group have other atoms."""
    mol = built(Chem.MolFromSmiles(PARACETAMOL))
    rows = lines(mol).splitlines()
    text = located(rows[:1], "AB") + located(rows[1:4], " ") + located(rows[4:11], "CD") + located(rows[11:], " ")
    (entry,) = read(tmp_path, text, PARACETAMOL)
    assert canonical(only([entry])) == PARACETAMOL
    assert entry.notes == ("8 atoms of other alternative locations left out",)
    assert entry.xyz == pytest.approx(mol.GetConformer().GetPositions(), abs=1e-3)


def test_locations_with_other_names_of_atoms_are_alternatives(tmp_path):
    """SHELX gives the atoms of each location names of their own."""
    mol = built(Chem.MolFromSmiles(PARACETAMOL))
    rows = located(lines(mol).splitlines(), "AB").splitlines()
    first, second = rows[::2], [f"{row[:12]}{row[12:16].strip() + 'B':>4}{row[16:]}" for row in rows[1::2]]
    (entry,) = read(tmp_path, "\n".join([*first, *second]), PARACETAMOL)
    assert canonical(only([entry])) == PARACETAMOL
    assert entry.notes == (f"{len(second)} atoms of other alternative locations left out",)
    assert entry.xyz == pytest.approx(mol.GetConformer().GetPositions(), abs=1e-3)


def test_a_proton_in_two_places_is_there_once(tmp_path):
    """On both nitrogens of histidine, it would be a charge."""
    mol = helm("PEPTIDE1{[ac].H.[am]}$$$$")
    (nitrogen,) = (atom for atom in mol.GetAtoms() if atom.GetPDBResidueInfo().GetName().strip() == "NE2")
    (hydrogen,) = (n.GetIdx() for n in nitrogen.GetNeighbors() if n.GetAtomicNum() == 1)
    rows = lines(mol).splitlines()
    other = only(read(tmp_path, lines(mol)))
    assert other.net_charge == 0
    xyz = mol.GetConformer().GetPositions()
    ring = {atom.GetPDBResidueInfo().GetName().strip(): xyz[atom.GetIdx()] for atom in mol.GetAtoms()}
    place = ring["ND1"] + 1.01 * (ring["ND1"] - (ring["CG"] + ring["CE1"]) / 2.0)
    rows[hydrogen] = rows[hydrogen][:16] + "A" + rows[hydrogen][17:]
    second = f"{rows[hydrogen][:12]} HD1B{rows[hydrogen][17:30]}" + columns(place)
    rows.insert(hydrogen + 1, second + rows[hydrogen][54:])
    (entry,) = read(tmp_path, "\n".join(rows))
    assert only([entry]).smiles == other.smiles
    assert entry.notes == ("1 atom of other alternative locations left out",)


def test_water_in_the_place_of_another_location_is_not_bonded(tmp_path):
    """Where the ligand is at its second location, or absent, water is in its place."""
    mol = built(Chem.MolFromSmiles(PARACETAMOL))
    first = mol.GetConformer().GetPositions()[0]
    atoms = {" O  ": (0.9, 0.0, 0.0), " H1 ": (1.5, 0.7, 0.0), " H2 ": (1.5, -0.7, 0.0)}
    water = "".join(f"HETATM 9001 {name}BHOH W   1    {columns(first + shift)}\n" for name, shift in atoms.items())
    (entry,) = read(tmp_path, located(lines(mol).splitlines(), "A") + water, PARACETAMOL)
    assert canonical(only([entry])) == PARACETAMOL
    assert any("water and ions are left out (1 H2O)" in note for note in entry.notes)


def test_a_metal_of_a_residue_is_no_ion_of_a_water_model(tmp_path):
    """As the iron of a haem; here, zinc between the nitrogens of a diamine."""
    mol = complex_of("NCCN", heavy(("EDA", "N1 C1 C2 N2")))
    rows = lines(mol).splitlines()
    place = mol.GetConformer().GetPositions()[[0, 3]].mean(axis=0) + 1.2
    zinc = f"{rows[0][:6]}  901 ZN  {rows[0][16:30]}{''.join(f'{x:8.3f}' for x in place)}  1.00  0.00          ZN"
    (entry,) = read(tmp_path, "\n".join([*rows, zinc, ""]), "NCCN")
    assert canonical(entry.molecule) == "NCCN"
    assert entry.notes == ("ZN of EDA 1: left out with the bonds to it; metals have no parameters",)
    (entry,) = read(tmp_path, "\n".join([*rows, zinc, "CONECT  901    1    4", ""]), "NCCN")
    assert "EDA 1: bonds of Zn have no parameters; leave the atom out of the PDB, or the records" in entry.error
