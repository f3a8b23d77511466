"""Files of molecules: SDF, MOL, MOL2, PDB and SMI, one `Entry` a record; a broken record does not stop the others."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rdkit import Chem, rdBase

from espalike.chem.errors import ChemistryError
from espalike.chem.molecule import BOND_TYPES, Molecule, from_rdkit, from_smiles, sanitize, shorten, stereo_notes

SUFFIXES = (".sdf", ".sd", ".mol", ".mol2", ".pdb", ".ent", ".smi", ".smiles")
_CHARGE_TAG = "atom.dprop.PartialCharge"
_MAX_NAME = 100


@dataclass(frozen=True, eq=False)
class Entry:
    """One record of the input.

    Attributes:
        name: its title, else `<input stem>-<number>`.
        molecule: the molecule, or None if the record is broken.
        error: why it is broken, or None.
        notes: remarks on what was accepted.
        xyz: coordinates of the record [Å], shape `(A, 3)`, or None.
        charges: partial charges found in the record [e], shape `(A,)`, or None.
    """

    name: str
    molecule: Molecule | None = None
    error: str | None = None
    notes: tuple[str, ...] = ()
    xyz: np.ndarray | None = None
    charges: np.ndarray | None = None


def from_file(path: str | os.PathLike, smiles: str | None = None) -> Molecule:
    """The one molecule of a file.

    Args:
        path: SDF, MOL, MOL2, PDB or SMI file.
        smiles: for a PDB, the SMILES that fixes bond orders and charges.

    Raises:
        ChemistryError: if the file is unreadable, broken, or holds another number of molecules.
    """
    if not Path(path).is_file():
        raise ChemistryError(f"{path}: no such file")
    entries = list(read_molecules(path, smiles=smiles))
    if len(entries) != 1:
        raise ChemistryError(f"{path}: expected one molecule, got {len(entries)}; use `read_molecules` for all of them")
    if entries[0].molecule is None:
        raise ChemistryError(entries[0].error)
    return entries[0].molecule


def read_molecules(source: str | os.PathLike, smiles: str | None = None) -> Iterator[Entry]:
    """The records of a file, or the one molecule of a SMILES typed in place.

    Args:
        source: path of an SDF, MOL, MOL2, PDB or SMI file, or a SMILES.
        smiles: for a PDB, the SMILES that fixes bond orders and charges.

    Raises:
        ChemistryError: if the file itself is unreadable, empty or of an unknown kind. A broken record, and a broken
            SMILES, is an `Entry` with its error instead.
    """
    path = Path(source)
    suffix = path.suffix.lower()
    if not _exists(path) and suffix not in SUFFIXES:
        return iter([_typed_in_place(str(source))])
    if smiles is not None and suffix not in (".pdb", ".ent"):
        raise ChemistryError(f"{path}: --smiles fixes the bond orders of a PDB; this is not one")
    text = _read(path)
    if suffix in (".sdf", ".sd"):
        return _records(path, _split_sdf(text), from_molblock)
    if suffix == ".mol":
        return _records(path, [text], from_molblock)
    if suffix == ".mol2":
        return _records(path, _split_mol2(path, text), _from_mol2)
    if suffix in (".smi", ".smiles"):
        lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
        return _records(path, lines, _from_smi_line)
    if suffix in (".pdb", ".ent"):
        return _records(path, [text], lambda text, name: _from_pdb(text, name, smiles))
    raise ChemistryError(f"{path}: unknown kind of file; expected one of {' '.join(SUFFIXES)}")


def safe_names(names: Sequence[str]) -> list[str]:
    """File names for molecules: safe characters only, unique whatever the file system makes of case; order is kept."""
    result: list[str] = []
    taken: set[str] = set()
    for name in names:
        base = re.sub(r"[^A-Za-z0-9._+-]+", "_", name).strip("._-")[:_MAX_NAME] or "molecule"
        unique, number = base, 1
        while unique.lower() in taken:
            number += 1
            unique = f"{base}-{number}"
        taken.add(unique.lower())
        result.append(unique)
    return result


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a long SMILES is no file name
        return False


def _read(path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8", errors="replace")  # titles come in any encoding
    except FileNotFoundError:
        raise ChemistryError(f"{path}: no such file") from None
    except OSError as error:
        raise ChemistryError(f"{path}: cannot be read ({error.strerror})") from error
    if "\0" in text:
        raise ChemistryError(f"{path}: not a text file; a compressed file must be unpacked first")
    if not text.strip():
        raise ChemistryError(f"{path}: the file is empty")
    return text


def _records(path: Path, records: Sequence[str], read) -> Iterator[Entry]:
    if not records:
        raise ChemistryError(f"{path}: holds no molecule")
    return (_entry(path, number, record, read) for number, record in enumerate(records, start=1))


def _entry(path: Path, number: int, record: str, read) -> Entry:
    """One record's entry; `read(record, name)` returns it or raises `ChemistryError`."""
    title = _title(read, record)
    name = title or f"{path.stem}-{number}"
    try:
        with rdBase.BlockLogs():
            return read(record, name)
    except ChemistryError as error:
        where = f"{path}, record {number}" + (f" ({title})" if title else "")
        return Entry(name, error=f"{where}: {str(error).removeprefix(f'{name}: ')}")


def _typed_in_place(smiles: str) -> Entry:
    try:
        molecule = from_smiles(smiles, "molecule")
    except ChemistryError as error:
        reason = str(error).removeprefix("molecule: ").replace("is not a valid", "is neither a file nor a valid")
        return Entry("molecule", error=f"{shorten(smiles)}: {reason}")
    return Entry("molecule", molecule, notes=stereo_notes(molecule))


def _title(read, record: str) -> str:
    if read is _from_smi_line:
        return " ".join(record.split(maxsplit=1)[1:]).strip()
    if read is from_molblock:
        return record.partition("\n")[0].strip()
    if read is _from_mol2:
        title = record.split("\n")[1].strip() if record.count("\n") else ""
        return "" if title.strip("*") == "" else title
    return ""


def _from_smi_line(line: str, name: str) -> Entry:
    molecule = from_smiles(line.split()[0], name)
    return Entry(name, molecule, notes=stereo_notes(molecule))


def _split_sdf(text: str) -> list[str]:
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    records = re.split(r"^\$\$\$\$.*\n?", text, flags=re.MULTILINE)
    return records if records[-1].strip() else records[:-1]


def from_molblock(record: str, name: str) -> Entry:
    """The entry of one record of an SDF, without its `$$$$`.

    Raises:
        ChemistryError: when it cannot be read or is not supported.
    """

    def parse(clean: bool) -> Chem.Mol | None:
        supplier = Chem.SDMolSupplier()
        supplier.SetProcessPropertyLists(False)
        supplier.SetData(record + "\n$$$$\n", sanitize=clean, removeHs=False, strictParsing=True)
        return supplier[0] if len(supplier) else None

    mol = parse(clean=False)
    if mol is None:
        raise ChemistryError(f"{name}: not a readable MOL record; expected a V2000 or V3000 connection table")
    sanitize(mol, name)  # for its error; the second reading interprets wedges and double-bond geometry too
    mol = parse(clean=True)
    assert mol is not None
    charges: np.ndarray | None = None
    notes: tuple[str, ...] = ()
    if mol.HasProp(_CHARGE_TAG):
        tokens = mol.GetProp(_CHARGE_TAG).split()
        try:
            charges = np.array([float(token) for token in tokens], dtype=np.float64)
        except ValueError:
            notes = (f"<{_CHARGE_TAG}> is ignored: expected numbers, got {shorten(' '.join(tokens), 60)!r}",)
    return _finish(mol, name, charges, notes)


def _split_mol2(path: Path, text: str) -> list[str]:
    parts = text.replace("\r\n", "\n").split("@<TRIPOS>MOLECULE")
    return [f"@<TRIPOS>MOLECULE{part}" for part in parts[1:]]


def _from_mol2(record: str, name: str) -> Entry:
    mol = Chem.MolFromMol2Block(record, sanitize=False, removeHs=False)
    if mol is None:
        raise ChemistryError(
            f"{name}: not a readable MOL2 record; SYBYL atom types as Corina or antechamber write them are expected"
        )
    charges = None
    lines = record.split("\n")
    if (
        len(lines) > 4
        and lines[4].strip().upper() != "NO_CHARGES"
        and mol.GetAtomWithIdx(0).HasProp("_TriposPartialCharge")
    ):
        charges = np.array([float(atom.GetProp("_TriposPartialCharge")) for atom in mol.GetAtoms()])
    return _finish(mol, name, charges)


def _from_pdb(text: str, name: str, smiles: str | None) -> Entry:
    if smiles is None:
        raise ChemistryError(f"{name}: a PDB holds no bond orders; give the molecule's SMILES with --smiles")
    template = from_smiles(smiles, f"{name} (--smiles)")
    mol = Chem.MolFromPDBBlock(text, sanitize=False, removeHs=False)
    if mol is None or not mol.GetNumAtoms():
        raise ChemistryError(f"{name}: holds no atoms; expected ATOM or HETATM lines")
    numbers = np.array([atom.GetAtomicNum() for atom in mol.GetAtoms()])
    if not np.array_equal(np.sort(numbers), np.sort(template.numbers)):
        raise ChemistryError(
            f"{name}: the PDB has {formula(numbers)}, the SMILES with its hydrogens {formula(template.numbers)}; "
            "they must be the same molecule, hydrogens included"
        )
    match = skeleton(numbers, [(b.GetBeginAtomIdx(), b.GetEndAtomIdx()) for b in mol.GetBonds()]).GetSubstructMatch(
        skeleton(template.numbers, template.bonds.tolist())
    )
    if not match or mol.GetNumBonds() != len(template.bonds):
        raise ChemistryError(f"{name}: the bonds of the PDB and of the SMILES are not those of the same molecule")
    edit = Chem.RWMol(mol)
    for (i, j), order in zip(template.bonds.tolist(), template.orders.tolist(), strict=True):
        bond = edit.GetBondBetweenAtoms(match[i], match[j])
        bond.SetBondType(BOND_TYPES[order])
    for i, charge in enumerate(template.charges.tolist()):
        edit.GetAtomWithIdx(match[i]).SetFormalCharge(charge)
    for atom in edit.GetAtoms():
        atom.SetNoImplicit(True)
    return _finish(edit.GetMol(), name)


def skeleton(numbers, bonds) -> Chem.Mol:
    """Elements and connectivity alone, to be matched whatever the bond orders and charges."""
    mol = Chem.RWMol()
    for number in numbers:
        mol.AddAtom(Chem.Atom(int(number)))
    for i, j in bonds:
        mol.AddBond(int(i), int(j), Chem.BondType.SINGLE)
    return mol.GetMol()


def formula(numbers: np.ndarray) -> str:
    """Sum formula, by atomic number."""
    table = Chem.GetPeriodicTable()
    values, counts = np.unique(numbers, return_counts=True)
    return "".join(f"{table.GetElementSymbol(int(z))}{n}" for z, n in zip(values, counts, strict=True))


def _finish(mol: Chem.Mol, name: str, charges: np.ndarray | None = None, notes: tuple[str, ...] = ()) -> Entry:
    """Sanitizes a file's molecule, reads stereo off 3D coordinates, and makes the entry."""
    sanitize(mol, name)
    xyz = None
    if mol.GetNumConformers() and (mol.GetConformer().Is3D() or mol.GetNumAtoms() == 1):
        xyz = mol.GetConformer().GetPositions()
        Chem.AssignStereochemistryFrom3D(mol)
    molecule = from_rdkit(mol, name)
    return Entry(name, molecule, notes=notes + stereo_notes(molecule), xyz=xyz, charges=charges)
