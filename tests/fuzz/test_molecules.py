"""Files of molecules: each record is an error that names it, or the molecule that the text says; none is lost."""

import io
import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
from hypothesis import strategies as st
from openmm import app
from rdkit import Chem
from rdkit.Chem import rdDistGeom

from espalike import chem
from espalike.cli.main import main
from espalike.export import structure
from tests.cli.inputs import save_model
from tests.fuzz.changes import changed_bytes, changed_text
from tests.fuzz.guard import amounts, bounded, explore, files, limited
from tests.test_chem import MOL2

SMILES = ("C[C@H](F)Cl", "CC(=O)[O-]", "C[NH3+]")
Facts = list[dict | None]


def molecules() -> list[tuple[chem.molecule.Molecule, np.ndarray]]:
    """Three molecules: a stereocentre, an anion, a cation; and their geometries."""
    made = [chem.from_smiles(smiles, f"name {number}") for number, smiles in enumerate(SMILES)]
    return [(molecule, chem.embed(molecule)[0]) for molecule in made]


def sdf() -> str:
    texts = []
    for molecule, xyz in molecules():
        charges = np.full(molecule.n_atoms, molecule.net_charge / molecule.n_atoms)
        texts.append(structure.texts(molecule, xyz, charges)[".sdf"])
    return "".join(texts)


def v3000() -> str:
    texts = []
    for molecule, xyz in molecules():
        mol = chem.to_rdkit(molecule, xyz)
        mol.SetProp("_Name", molecule.name)
        texts.append(f"{Chem.MolToV3KMolBlock(mol)}$$$$\n")
    return "".join(texts)


def smi() -> str:
    return "# three molecules\n" + "".join(f"{smiles} name {n}\n" for n, smiles in enumerate(SMILES))


def cif() -> str:
    """A capped glycine."""
    mol = Chem.MolFromHELM("PEPTIDE1{[ac].G.[am]}$$$$")
    Chem.SanitizeMol(mol)
    mol = Chem.AddHs(mol, addResidueInfo=True)
    assert rdDistGeom.EmbedMolecule(mol, randomSeed=1) == 0
    pdb, file = app.PDBFile(io.StringIO(Chem.MolToPDBBlock(mol))), io.StringIO()
    app.PDBxFile.writeFile(pdb.topology, pdb.positions, file)
    return file.getvalue()


DOORS = {
    "sdf": ("x.sdf", sdf),
    "v3000": ("x.sdf", v3000),
    "mol": ("x.mol", lambda: sdf().split("$$$$")[0]),
    "mol2": ("x.mol2", lambda: MOL2 + MOL2.replace("methanol", "other")),
    "pdb": ("x.pdb", lambda: structure.texts(*molecules()[0])[".pdb"]),
    "cif": ("x.cif", cif),
    "smi": ("x.smi", smi),
}
"""Names of files, and their content."""


@pytest.fixture(scope="module")
def contents():
    """The content of each file, made once."""
    return {name: (file, make().encode()) for name, (file, make) in DOORS.items()}


def facts(name: str, text: str) -> Facts:
    """What the records of a file say, read by columns; None for a record that is not plain."""
    return [_plainly(name, record) for record in records(name, text)]


def records(name: str, text: str) -> list[str]:
    """The records of a file."""
    text = re.sub(r"\r\n|\r", "\n", text.removeprefix("\ufeff"))
    if name in ("sdf", "v3000", "mol"):
        parts = re.split(r"^\$\$\$\$.*\n?", text, flags=re.MULTILINE)
        return parts if parts[-1].strip() else parts[:-1]
    if name == "mol2":
        first, *parts = re.split(r"^@<TRIPOS>MOLECULE", text, flags=re.MULTILINE)
        return [first, *parts] if "TRIPOS>" in first else parts
    if name == "smi":
        return [line for line in text.split("\n") if line.strip() and not line.lstrip().startswith("#")]
    return [text]


def _plainly(name: str, record: str) -> dict | None:
    try:
        return {"sdf": _v2000, "mol": _v2000, "v3000": _v3000, "mol2": _mol2, "pdb": _pdb, "cif": _cif, "smi": _smi}[
            name
        ](record)
    except (ValueError, IndexError, KeyError, TypeError, StopIteration):
        return None


def positions(rows: list[list[str]]) -> list[list[float]] | None:
    """Coordinates; None where one is not a number."""
    try:
        return [[number(word) for word in row] for row in rows]
    except ValueError:
        return None


def number(text: str) -> float:
    """A number as formats write it."""
    if not re.fullmatch(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*", text, re.ASCII):
        raise ValueError(text)
    return float(text)


def blocks(record: str) -> int:
    """The number of connection tables in a record of an SDF."""
    return min(len(re.findall(pattern, record, re.M)) for pattern in (r"V[23]000\s*$", r"^M  END"))


def _v2000(record: str) -> dict:
    lines = record.split("\n")
    atoms, bonds = int(lines[3][:3]), int(lines[3][3:6])
    rows, links = lines[4 : 4 + atoms], lines[4 + atoms : 4 + atoms + bonds]
    end = next(i for i, line in enumerate(lines) if line.startswith("M  END"))
    charge: dict[str, int] = {}
    for line in lines[4 + atoms + bonds : end]:
        if line.startswith("M  CHG"):
            words = line[9:].split()
            charge |= zip(words[::2], map(int, words[1::2]), strict=True)
    return {
        "symbols": [row[31:34].strip() for row in rows],
        "xyz": positions([[row[i : i + 10] for i in (0, 10, 20)] for row in rows])
        or positions([row.split()[:3] for row in rows]),
        "bonds": {tuple(sorted((int(line[:3]), int(line[3:6])))) for line in links},
        "charge": sum(charge.values()),
        "mol blocks": blocks(record),
    }


def _v3000(record: str) -> dict:
    rows = [re.split(r"[ \t]+", line)[2:] for line in record.split("\n")[4:] if line.startswith("M  V30 ")]
    lines = [" ".join(row[:2])[: 10 if row[0] == "BEGIN" else 8] for row in rows]
    counts = next(n for n, line in enumerate(lines) if line.startswith("COUNTS"))
    first = lines.index("BEGIN ATOM") if "BEGIN ATOM" in lines else counts  # RDKit does not ask for the line
    atoms = rows[first + 1 : lines.index("END ATOM")]
    bonds = rows[lines.index("BEGIN BOND") + 1 : lines.index("END BOND")]
    place = {int(re.match(r"\d+", row[0])[0]): n for n, row in enumerate(atoms, 1)}
    return {
        "symbols": [row[1] for row in atoms],
        "xyz": positions([row[2:5] for row in atoms]),
        "bonds": {tuple(sorted(place[int(re.match(r"\d+", word)[0])] for word in row[2:4])) for row in bonds},
        "charge": sum(int(word[4:]) for row in atoms for word in row if word.startswith("CHG=")),
        "mol blocks": blocks(record),
    }


def _mol2(record: str) -> dict:
    parts = [part.partition("\n") for part in record.split("@<TRIPOS>")[1:]]
    sections = {name.split()[0]: rows for name, _, rows in parts}  # readers pass over words after a section's name
    tables = ([line.split() for line in sections[name].split("\n") if line.strip()] for name in ("ATOM", "BOND"))
    atoms, bonds = ([row for row in table if not row[0].startswith("#")] for table in tables)
    place = {row[0]: n for n, row in enumerate(atoms, 1)}
    return {
        "symbols": [row[5].split(".")[0] for row in atoms],
        "xyz": positions([row[2:5] for row in atoms]),
        "bonds": {tuple(sorted((place[row[1]], place[row[2]]))) for row in bonds},
        "mol blocks": record.count("@<TRIPOS>ATOM"),
    }


def _pdb(record: str) -> dict:
    rows = [line for line in record.split("\n") if line.startswith(("ATOM  ", "HETATM"))]
    return {
        "xyz": positions([[row[i : i + 8] for i in (30, 38, 46)] for row in rows]),
    }


def _cif(record: str) -> dict:
    lines = record.split("\n")
    names = [line.strip().removeprefix("_atom_site.") for line in lines if line.startswith("_atom_site.")]
    rows = [dict(zip(names, line.split(), strict=True)) for line in lines if line.startswith(("ATOM ", "HETATM "))]
    return {"xyz": positions([[row[f"Cartn_{axis}"] for axis in "xyz"] for row in rows])}


def _smi(record: str) -> dict:
    return {"smiles": record.split()[0]}


def agrees(entry: chem.Entry, fact: dict | None, whole: str) -> None:
    """An accepted molecule is the one that the text says."""
    assert fact is not None, f"read, although the text is not plain:\n{whole}"
    molecule = entry.molecule
    symbol = Chem.GetPeriodicTable().GetElementSymbol
    symbols = [symbol(int(z)) for z in molecule.numbers]
    assert fact.get("mol blocks", 1) <= 1, f"one of two molecules is lost:\n{whole}"
    if "smiles" in fact:
        expected = chem.from_smiles(fact["smiles"])
        assert expected.smiles == molecule.smiles
        return
    assert symbols == fact.get("symbols", symbols), whole
    if "bonds" in fact:
        assert {(int(i) + 1, int(j) + 1) for i, j in molecule.bonds} == fact["bonds"], whole
    if "charge" in fact:
        assert molecule.net_charge == fact["charge"], whole
    if fact.get("xyz", ()) is None:
        assert entry.xyz is None, whole
        assert any("coordinates" in note for note in entry.notes), whole
    elif entry.xyz is not None:
        assert np.allclose(entry.xyz, fact["xyz"], atol=1e-9), whole


@amounts(few=10, share=0.04)
@pytest.mark.parametrize("name", DOORS)
def test_every_record_is_read_or_named(contents, tmp_path, name, examples):
    file, content = contents[name]
    path = tmp_path / file

    def check(data: st.DataObject) -> None:
        changed = changed_text(data, content)
        path.write_bytes(changed)
        try:
            with limited(), bounded():
                entries = list(chem.read_molecules(path, smiles=SMILES[0] if name == "pdb" else None))
        except chem.ChemistryError as error:
            assert file in str(error), error
            return
        text = changed.decode("utf-8", "replace")
        expected = facts(name, text)
        if name in ("pdb", "cif") and len(entries) > 1:  # what a lost atom leaves
            assert all(file in entry.error for entry in entries)
            return
        assert len(entries) == len(expected), text
        for entry, fact, record in zip(entries, expected, records(name, text), strict=True):
            if entry.molecule is None:
                assert file in entry.error, entry.error
            else:
                agrees(entry, fact, record)

    explore(check, examples)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A small model file."""
    return save_model(tmp_path_factory.mktemp("model") / "model.espalike", trained_on=(*SMILES, "CO"))


@amounts(few=4, share=0.01)
@pytest.mark.parametrize("name", ["sdf", "mol2", "smi"])
def test_the_command(contents, model, tmp_path, capsys, name, examples):
    """Status, messages and files of `espalike parametrize` on a changed file; titles go where they may."""
    file, content = contents[name]
    (tmp_path / "in").mkdir()
    path = tmp_path / "in" / file

    def check(data: st.DataObject) -> None:
        path.write_bytes(changed_text(data, content))
        before, out = files(tmp_path), tmp_path / f"out-{data.draw(st.integers(0, 10**9))}"
        source = data.draw(st.sampled_from(["model", "input"] if name != "smi" else ["model"]))
        formats = data.draw(st.sampled_from(["system,ffxml", "amber", "gromacs,lammps"]))
        report = out / "report.json"
        with limited(30.0), bounded():
            options = {"model": model, "format": formats, "charges": source, "out": out, "report": report}
            status = main(["parametrize", str(path), *(f"--{name}={value}" for name, value in options.items())])
        printed = capsys.readouterr()
        assert status in (0, 1, 2)
        assert "Traceback" not in printed.err
        assert "(--debug shows where)" not in printed.err, printed.err
        new = {name for name in files(tmp_path) if name not in before}
        assert all(name.startswith(out.name) for name in new), new
        if not report.exists():
            assert status == 2
            return
        inputs = json.loads(report.read_text())["inputs"]
        assert sum(result["status"] != "ok" for result in inputs) == 0 or status, inputs
        for result in inputs:
            if result["status"] == "failed":
                names = [file, result["name"], result["name"].replace("_", " "), "charges"]
                assert any(name in result["reason"] for name in names), result
                assert not re.match(r"\w*(Error|Exception): ", result["reason"]), result["reason"]
            for written in map(Path, result["files"]):
                assert written.parent == out
                if written.suffix == ".xml":
                    ET.parse(written)

    explore(check, examples)


@amounts(few=10, share=0.01)
def test_charges_of_a_file(tmp_path, examples):
    content = b"# charges\n0.1 -0.2\n0.3 # last\n-0.2\n"
    path = tmp_path / "charges.txt"

    def check(data: st.DataObject) -> None:
        change = data.draw(st.sampled_from([changed_text, changed_bytes]))
        path.write_bytes(change(data, content))
        try:
            with limited():
                charges = chem.read_charges(path)
        except chem.ChemistryError as error:
            assert "charges.txt" in str(error)
            return
        text = path.read_bytes().decode("utf-8-sig")
        words = [word for line in re.split(r"\r\n|\r|\n", text) for word in line.partition("#")[0].split()]
        assert np.isfinite(charges).all()
        assert [number(word) for word in words] == charges.tolist(), text

    explore(check, examples)
