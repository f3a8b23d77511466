"""Residues of a protein in the files of GROMACS and Amber, and numbers that do not fit their columns."""

import dataclasses

import numpy as np
import parmed
import pytest
from openmm import app

import espalike
from espalike import chem, export
from espalike.export import structure
from tests.export.cases import evaluate
from tests.test_proteins import peptide


@pytest.fixture(scope="module")
def protein(tmp_path_factory):
    """A capped peptide: residue, number and name of its atoms, its parameters and its coordinates."""
    path = tmp_path_factory.mktemp("protein") / "p.pdb"
    peptide("AGSA", path)
    rows = [line for line in path.read_text().splitlines() if line.startswith(("ATOM", "HETATM"))]
    order = list(dict.fromkeys(row[22:26] for row in rows))  # RDKit writes the hydrogens after all residues
    rows.sort(key=lambda row: order.index(row[22:26]))
    path.write_text("\n".join([*(f"{row[:6]}{n:5d}{row[11:]}" for n, row in enumerate(rows, 1)), "END", ""]))
    (entry,) = chem.read_molecules(path)
    atoms = [(row[17:20].strip(), row[22:26].strip(), row[12:16].strip()) for row in rows]
    return atoms, espalike.load("espalike-small").double().parametrize(entry.molecule), entry.xyz


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # of OpenMM's reader
def test_files_of_a_protein_have_its_residues(protein, tmp_path):
    atoms, system, xyz = protein
    expected, numbers = [(residue, name) for residue, _, name in atoms], [number for _, number, _ in atoms]
    assert len(set(numbers)) == 6
    export.write(system, tmp_path / "p.prmtop", xyz=xyz)
    export.write(system, tmp_path / "p.top", xyz=xyz)
    top, prmtop = app.GromacsTopFile(str(tmp_path / "p.top")), app.AmberPrmtopFile(str(tmp_path / "p.prmtop"))
    for topology in (top.topology, prmtop.topology):  # OpenMM renames some atoms of standard residues
        assert [atom.residue.name for atom in topology.atoms()] == [residue for residue, _ in expected]
    gro = (tmp_path / "p.gro").read_text().splitlines()[2:-1]
    assert [(line[5:10].strip(), line[10:15].strip()) for line in gro] == expected
    assert [line[:5].strip() for line in gro] == numbers
    rows = (tmp_path / "p.itp").read_text().partition("[ atoms ]")[2].partition("\n\n")[0].splitlines()[2:]
    assert [tuple(row.split()[2:5]) for row in rows] == [
        (n, *names) for n, names in zip(numbers, expected, strict=True)
    ]
    read = parmed.amber.AmberParm(str(tmp_path / "p.prmtop"))
    assert [(str(a.residue.number), a.residue.name, a.name) for a in read.atoms] == [
        (n, *names) for n, names in zip(numbers, expected, strict=True)
    ]
    assert read.pointers["NRES"] == 6
    assert read.pointers["NMXRS"] == max(map(numbers.count, numbers))
    found = [evaluate(made.createSystem(nonbondedMethod=app.NoCutoff), xyz)[0] for made in (top, prmtop)]
    assert found == pytest.approx([evaluate(export.to_openmm(system), xyz)[0]] * 2, abs=2e-3)


def test_equal_residues_in_a_row_are_one_each(protein):
    _, system, _ = protein
    (molecule,) = system.molecules
    labels = tuple(label._replace(residue="ALA") for label in molecule.labels)
    same = dataclasses.replace(system, molecules=(dataclasses.replace(molecule, labels=labels),))
    text = export.texts(same, "amber", xyz=np.zeros((molecule.n_atoms, 3)))[".prmtop"]
    assert text.partition("%FLAG RESIDUE_LABEL")[2].split("%FLAG")[0].count("ALA") == 6


@pytest.mark.parametrize("chains", ["AAAAAA", "      ", "AAA   ", "   BBB", "AB    "])
def test_parmed_reads_residues_of_any_chains(protein, chains, tmp_path):
    """Files of tleap and GROMACS have no chains; ParmEd refused their `.prmtop`."""
    _, system, xyz = protein
    (molecule,) = system.molecules
    order = list(dict.fromkeys(label.number for label in molecule.labels))
    labels = tuple(label._replace(chain=chains[order.index(label.number)].strip()) for label in molecule.labels)
    same = dataclasses.replace(system, molecules=(dataclasses.replace(molecule, labels=labels),))
    export.write(same, tmp_path / "p.prmtop", xyz=xyz)
    read = parmed.load_file(str(tmp_path / "p.prmtop"), str(tmp_path / "p.inpcrd"))
    assert [(residue.number, residue.insertion_code) for residue in read.residues] == [(n, "") for n in order]
    assert [residue.chain for residue in read.residues] == (list(chains) if chains.isalpha() else [""] * 6)
    assert len((read * 2).residues) == 12


@pytest.fixture(scope="module")
def methanol():
    """A system of one residue."""
    molecule = chem.from_smiles("CO", "methanol")
    return espalike.load("espalike-small").double().parametrize(molecule), chem.embed(molecule)[0]


@pytest.mark.parametrize(
    ("kind", "x", "message"),
    [
        (".pdb", -1000.0, "-1000 does not fit its column of 8 characters, which holds -999.999 to 9999.999"),
        (".pdb", 9999.9996, "10000 does not fit its column of 8"),
        (".pdb", np.nan, "nan does not fit"),
        (".sdf", 1e5, "which holds -9999.9999 to 99999.9999"),
        ("amber", -1000.0, r"coordinates \[Å\] of the .inpcrd"),
        ("gromacs", 1e5, r"coordinates \[nm\] of the .gro"),
    ],
)
def test_coordinates_that_columns_do_not_hold_are_refused(methanol, kind, x, message):
    system, xyz = methanol
    moved = xyz + np.array([x - xyz[0, 0], 0.0, 0.0])
    with pytest.raises(ValueError, match=f"^methanol: .*{message}"):
        structure.text(kind, system.molecules[0], moved) if kind[0] == "." else export.texts(system, kind, xyz=moved)


def test_the_largest_coordinates_are_written(methanol):
    system, xyz = methanol
    moved = xyz - xyz.max(axis=0) + 9999.999
    text = structure.text(".pdb", system.molecules[0], moved)
    rows = [line for line in text.splitlines() if line.startswith("HETATM")]
    read = np.array([[float(row[n : n + 8]) for n in (30, 38, 46)] for row in rows])
    np.testing.assert_allclose(read, moved, atol=6e-4)


@pytest.mark.parametrize("number", [-1000, -12345, 10000, 123456])
def test_residue_numbers_without_room_keep_the_columns(methanol, number):
    """A PDB has four columns for them, a .gro five."""
    from espalike.chem.names import Label

    system, xyz = methanol
    (molecule,) = system.molecules
    names = [f"{'COHHHH'[i]}{i}" for i in range(6)]
    labels = tuple(Label("A", number + (name == "H5"), "", "MOH", name, True) for name in names)
    text = structure.text(".pdb", dataclasses.replace(molecule, labels=labels), xyz)
    rows = [line for line in text.splitlines() if line.startswith("HETATM")]
    assert [row[12:16].strip() for row in rows] == names
    assert [float(row[30:38]) for row in rows] == pytest.approx(xyz[:, 0].tolist(), abs=1e-3)
    assert len({row[22:26] for row in rows}) == 2
