"""What files of molecules can lose in silence: records, atoms, and numbers that are none."""

import bz2
import gzip
import os

import numpy as np
import pytest
from rdkit import Chem

from espalike import chem
from espalike.export import structure
from tests.test_chem import MOL2


def sdf(smiles, name):
    molecule = chem.from_smiles(smiles, name)
    return structure.texts(molecule, chem.embed(molecule)[0])[".sdf"]


def read(path, content, encoding="utf-8"):
    path.write_text(content, encoding=encoding)
    return list(chem.read_molecules(path))


def v2000(smiles):
    molecule = chem.from_smiles(smiles, "of V3000")
    return Chem.MolToMolBlock(chem.to_rdkit(molecule, chem.embed(molecule)[0]))


def test_a_record_that_holds_another_one_is_refused(tmp_path):
    first, second = sdf("CO", "one"), sdf("CC", "two")
    (entry,) = read(tmp_path / "x.sdf", first.replace("$$$$", "$$$") + second)
    assert "x.sdf, record 1 (one): another molecule follows it; expected a line $$$$" in entry.error
    assert [entry.name for entry in read(tmp_path / "x.mol", first + second)] == ["one", "two"]


@pytest.mark.parametrize("suffix", ["sdf", "mol2", "smi"])
def test_a_nul_byte_is_the_fault_of_its_record(tmp_path, suffix):
    texts = {"sdf": sdf("CO", "methanol"), "mol2": MOL2, "smi": "CO methanol\n"}
    bad, good = texts[suffix].replace("methanol", "b\0d", 1), texts[suffix]
    first, second, third = read(tmp_path / f"x.{suffix}", good + bad + good)
    assert (first.error, third.error) == (None, None)
    assert f"x.{suffix}, record 2 (b\ufffdd): holds a NUL byte" in second.error


@pytest.mark.parametrize("content", ["CO methanol\n".encode("utf-16-le"), b"XK\x03\x04\x00\x00\xff\xfeCO methanol\n"])
def test_a_file_that_is_no_text_is_refused_as_a_whole(tmp_path, content):
    (tmp_path / "x.smi").write_bytes(content)
    with pytest.raises(chem.ChemistryError, match=r"x\.smi: not a text file"):
        list(chem.read_molecules(tmp_path / "x.smi"))


def test_a_data_field_may_hold_a_mol_record(tmp_path):
    block = "\n".join(line or " " for line in sdf("CC", "two").partition("M  END")[0].split("\n"))
    field = f">  <docked to>\n{block}M  END\n\n$$$$"
    (entry,) = read(tmp_path / "x.sdf", sdf("CO", "one").replace("$$$$", field))
    assert (entry.error, entry.molecule.n_atoms) == (None, 6)


@pytest.mark.parametrize("word", ["$$$$", "nan", "0.1x", "1,5"])
def test_a_coordinate_of_a_v3000_record_that_is_not_a_number(tmp_path, word):
    molecule = chem.from_smiles("CO", "methanol")
    block = Chem.MolToV3KMolBlock(chem.to_rdkit(molecule, np.full((6, 3), 0.25)))
    assert "0.250000" in block
    (entry,) = read(tmp_path / "x.mol", block.replace("0.250000", word, 1))
    assert f"coordinate {word!r} of an atom is not a number" in entry.error


@pytest.mark.parametrize(
    "change", [("M  V30 BEGIN ATOM\n", ""), (" 0.250000 0\n", " 0.250000 CFG=2\n"), ("V30 1 C", "V30 1x C")]
)
def test_a_coordinate_of_a_v3000_record_of_odd_lines_that_is_not_a_number(tmp_path, change):
    """RDKit reads such lines, and of 0.25x it reads 0.25."""
    molecule = chem.from_smiles("CO", "methanol")
    block = Chem.MolToV3KMolBlock(chem.to_rdkit(molecule, np.full((6, 3), 0.25)))
    assert change[0] in block
    changed = block.replace(*change, 1)
    (entry,) = read(tmp_path / "x.mol", changed.replace("0.250000", "0.25x", 1))
    assert "coordinate '0.25x' of an atom is not a number" in entry.error


@pytest.mark.parametrize("kind", ["DAT", "SRU"])
def test_groups_of_atoms_in_a_v3000_record(tmp_path, kind):
    mol = Chem.AddHs(Chem.MolFromSmiles(f"COCCOC |{'SgD:2,3,4:name:yes:::' if kind == 'DAT' else 'Sg:n:2,3,4:n:ht'}|"))
    mol.AddConformer(Chem.Conformer(mol.GetNumAtoms()))
    block = Chem.MolToV3KMolBlock(mol)
    assert f"M  V30 1 {kind} 0 ATOMS=(3 3 4 5)" in block
    (entry,) = read(tmp_path / "x.mol", block)
    refused = f"{tmp_path / 'x.mol'}, record 1: has a repeating unit, as a polymer; expected all atoms, write each"
    assert entry.error is None if kind == "DAT" else entry.error.startswith(refused)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda text: text.replace("@<TRIPOS>BOND", " 6 H4 1.33 0.91 0.00 H 1 MOL 0.39\n@<TRIPOS>BOND"),
            "ATOM has 7 lines, the record's head says 6",
        ),
        (lambda text: text + " 6 5 6 1\n", "BOND has 6 lines, the record's head says 5"),
        (lambda text: text.replace(" 5 2 6 1", " 5 2 1 1"), "the bond between atoms 1 and 2 is listed twice"),
        (lambda text: text + text.replace("MOLECULE", "MOLECULX"), "2 tables ATOM"),
        (lambda text: text.replace("MOLECULE", "MOLECULX", 1), "x.mol2, record 1"),
        (lambda text: text.replace("@<TRIPOS>", "<TRIPOS>", 1).replace("@<TRIPOS>", " @<TRIPOS>"), "x.mol2, record 1"),
    ],
)
def test_a_mol2_that_holds_more_than_is_read(tmp_path, change, message):
    *_, bad, good = read(tmp_path / "x.mol2", change(MOL2) + MOL2.replace("methanol", "other"))
    assert message in bad.error
    assert (good.name, good.error) == ("other", None)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_smiles_whose_titles_hold_separators(tmp_path, encoding):
    entries = read(tmp_path / "x.smi", "CO a\x0cb\nCC c\x85d\u2028e\r\nN f\n", encoding)
    assert [entry.error for entry in entries] == [None, None, None]
    assert [entry.molecule.n_atoms for entry in entries] == [6, 8, 4]


@pytest.mark.parametrize("head", ["", "SMILES Name\n", "# made by a program\nsmiles\tname\tMW\n"])
def test_a_line_of_headings_is_no_molecule(tmp_path, head):
    entries = read(tmp_path / "x.smi", head + "CO\tmethanol\t32.04\nCC ethane gas\nN\n")
    assert [(entry.name, entry.error) for entry in entries] == [("methanol", None), ("ethane gas", None), ("x-3", None)]


@pytest.mark.parametrize("separator", [" ", "\t"])
def test_an_extension_belongs_to_its_smiles(tmp_path, separator):
    """CXSMILES: what stands between two bars after the SMILES describes the molecule further, and is not a title."""
    lines = [
        "C[C@H](F)Cl |&1:1| mixture",
        "C[C@H](F)Cl |w:1.0| unknown",
        "COCCOC |Sg:n:2,3,4:n:ht|",
        "NCC |C:0.0| dative",
    ]
    entries = read(tmp_path / "x.smi", "\n".join(line.replace(" ", separator) for line in lines))
    assert [entry.name for entry in entries] == ["mixture", "unknown", "x-3", "dative"]
    assert [entry.notes[0][:24] for entry in entries[:2]] == ["1 stereocentre of a mixt", "undefined stereo: 1 atom"]
    assert "record 3: has a repeating unit" in entries[2].error
    assert "bond 1-2 is of type dative" in entries[3].error


def test_a_comment_among_charges_ends_with_its_line(tmp_path):
    path = tmp_path / "q.txt"
    path.write_text("-0.8 # O\x0c9\x0b8\x1c7\x857\u20286\r\n0.4 0.4 # H\r", encoding="utf-8")
    assert chem.read_charges(path).tolist() == [-0.8, 0.4, 0.4]


@pytest.mark.parametrize("word", ["nan", "inf", "1_0", "1e999", "١"])
def test_charges_that_are_not_numbers(tmp_path, word):
    path = tmp_path / "q.txt"
    path.write_text(f"0.1\n{word}\n", encoding="utf-8-sig")
    with pytest.raises(chem.ChemistryError, match=r"q\.txt, line 2: expected plain numbers"):
        chem.read_charges(path)


ATOM = "    1.2500   -0.5000    0.2500 C "


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text.replace(" O ", " Ph", 1), "(Element 'Ph' not found)"),
        (lambda text: text.replace("  6  5", "  5  5", 1), "on line 10)"),
    ],
)
def test_what_is_wrong_with_a_record_is_said(tmp_path, change, message):
    (entry,) = read(tmp_path / "x.mol", change(v2000("CO")))
    assert "not a readable MOL record (" in entry.error
    assert message in entry.error


@pytest.mark.parametrize("kind", ["SRU", "MON", "COP"])
def test_parts_of_polymers_are_refused(tmp_path, kind):
    group = f"M  STY  1   1 {kind}\nM  SAL   1  2   1   2\n"
    (entry,) = read(tmp_path / "x.mol", v2000("CO").replace("M  END", group + "M  END"))
    assert "has a repeating unit, as a polymer" in entry.error


@pytest.mark.parametrize(
    "line",
    [
        "    1.2500   -0.50000   0.2500 C ",  # RDKit reads z as zero
        "    1.2500    -0.5000    0.2500 C ",  # columns and words differ
        "    1.2500   -0.5000           C ",
    ],
)
def test_a_coordinate_of_a_v2000_record_that_is_not_plain(tmp_path, line):
    first = sdf("CO", "one")
    atoms = first.split("\n")
    atoms[4] = line + atoms[4][len(ATOM) :]
    broken, good = read(tmp_path / "x.sdf", "\n".join(atoms) + sdf("CC", "two"))
    assert "x.sdf, record 1 (one): coordinates of atom 1 cannot be read from" in broken.error
    assert good.error is None


def test_coordinates_without_space_between_their_columns_are_read(tmp_path):
    lines = sdf("O", "water").split("\n")
    for n in (4, 5, 6):
        x, y, z = (float(lines[n][at : at + 10]) - 1000.0 for at in (0, 10, 20))
        lines[n] = f"{x:10.4f}{y:10.4f}{z:10.4f}{lines[n][30:]}"
    (entry,) = read(tmp_path / "x.sdf", "\n".join(lines))
    assert entry.error is None
    assert (entry.xyz < -990.0).all()


def test_a_record_without_atoms_is_refused(tmp_path):
    empty = "none\n\n\n  0  0  0  0  0  0  0  0  0  0999 V2000\nM  END\n$$$$\n"
    broken, good = read(tmp_path / "x.sdf", empty + sdf("CC", "two"))
    assert "x.sdf, record 1 (none): no atoms" in broken.error
    assert good.error is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("CO one\n".encode("utf-16"), "x.smi: is written in UTF-16; save it as UTF-8"),
        (gzip.compress(b"CO one\n", mtime=0), "x.smi: is compressed; unpack it"),
        (bz2.compress(b"CO one\n"), "x.smi: is compressed; unpack it"),
    ],
)
def test_what_a_file_is_that_is_no_text(tmp_path, content, message):
    (tmp_path / "x.smi").write_bytes(content)
    with pytest.raises(chem.ChemistryError, match=message):
        chem.read_molecules(tmp_path / "x.smi")


@pytest.mark.parametrize("name", ["", " "])
def test_an_empty_name(name):
    with pytest.raises(chem.ChemistryError, match="an empty name: expected a file or a SMILES"):
        chem.read_molecules(name)


def test_a_crystal_is_no_mmcif(tmp_path):
    text = (
        "data_1\nloop_\n_atom_site_label\n_atom_site_fract_x\n_atom_site_fract_y\n_atom_site_fract_z\nC1 0.1 0.2 0.3\n"
    )
    (tmp_path / "x.cif").write_text(text)
    (entry,) = chem.read_molecules(tmp_path / "x.cif", "C")
    assert (
        "x.cif, record 1: holds fractional coordinates of a crystal (core CIF), and is not an mmCIF file" in entry.error
    )


def test_a_stream_is_called_so(tmp_path):
    """It is opened more than once: a pipe was empty then, and one with a name was waited for."""
    os.mkfifo(tmp_path / "pipe.smi")
    for stream in ("/dev/stdin", tmp_path / "pipe.smi"):
        with pytest.raises(chem.ChemistryError, match=f"{stream}: a stream, which can be read once only"):
            list(chem.read_molecules(stream))
    with pytest.raises(chem.ChemistryError, match="a stream, which can be read once only"):
        chem.from_file("/dev/stdin")
