"""Records of SDF, MOL, MOL2, PDB, mmCIF and SMI files as RDKit molecules, each parsed and sanitized once."""

from __future__ import annotations

import dataclasses
import itertools
import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np
from rdkit import Chem, rdBase

from espalike.chem import assembled, coordinates, mol2, molfile
from espalike.chem import sanitize as rd
from espalike.chem.errors import ChemistryError
from espalike.files import is_stream

_STRUCTURES = (*assembled.PDB, *assembled.MMCIF)
_SMI_LINE = re.compile(r"(\S+(?:[ \t]+\|[^|]*\|(?=\s|$))?)\s*(.*)", re.DOTALL)
_BLOCK = 2**20
"""Characters that are read at once."""
_NULS = 0.1
"""Largest share of NUL bytes of a text file; a file that is not UTF-8 may have none."""

TYPED = "molecule"
"""Name of a molecule that is given as a SMILES."""
_NOT_TEXT = {
    **dict.fromkeys((b"\xff\xfe", b"\xfe\xff"), "is written in UTF-16; save it as UTF-8"),
    **dict.fromkeys((b"\x1f\x8b", b"BZh", b"PK\x03\x04", b"\xfd7zX", b"\x28\xb5\x2f\xfd"), "is compressed; unpack it"),
}
"""First bytes of files that are not plain text."""

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Entry(Generic[T]):
    """One record of the input.

    Attributes:
        name: its title, else `<input stem>-<number>`.
        molecule: the molecule, a sanitized and checked one of RDKit in this module, or None if the record is broken.
        error: why it is broken, or None.
        notes: remarks on what was accepted.
        xyz: coordinates of the record [Å], shape `(A, 3)`, or None.
        charges: partial charges of the record [e], shape `(A,)`, or None.
    """

    name: str
    molecule: T | None = None
    error: str | None = None
    notes: tuple[str, ...] = ()
    xyz: np.ndarray | None = None
    charges: np.ndarray | None = None


Record = Entry[Chem.Mol]


@dataclass(frozen=True)
class _Format:
    """How a kind of file is cut into records, where a record has its title, and how it is read."""

    split: Callable[[Iterable[str]], Iterator[str]]
    title: Callable[[str], str]
    read: Callable[[str, str], Record]


def read_one(path: str | os.PathLike, smiles: str | None = None) -> tuple[str, Chem.Mol]:
    """Name and molecule of the only record of a file.

    Raises:
        ChemistryError: if the file is unreadable, broken, or holds another number of records.
    """
    if not exists(Path(path)):
        raise ChemistryError(f"{path}: no such file")
    entries = list(read_records(path, smiles))
    if len(entries) != 1:
        raise ChemistryError(f"{path}: expected one molecule, got {len(entries)}; use `read_molecules` for all of them")
    if entries[0].molecule is None:
        raise ChemistryError(entries[0].error)
    return entries[0].name, entries[0].molecule


def read_records(source: str | os.PathLike, smiles: str | None = None) -> Iterator[Record]:
    """The records of a file, or the one molecule of a SMILES given in its place.

    Raises:
        ChemistryError: if the file itself is unreadable, empty or of an unknown kind.
    """
    if not str(source).strip():
        raise ChemistryError("an empty name: expected a file or a SMILES")
    path = Path(source)
    suffix = path.suffix.lower()
    if not exists(path) and suffix not in SUFFIXES:
        return iter([_from_typed(str(source))])
    if exists(path) and is_stream(path):
        raise ChemistryError(f"{path}: a stream, which can be read once only; write it to a file, and give its name")
    if smiles is not None and suffix not in _STRUCTURES:
        raise ChemistryError(f"{path}: --smiles fixes the bond orders of a PDB or mmCIF; this is not one")
    _check_text(path, suffix in _STRUCTURES)
    if suffix not in SUFFIXES:
        raise ChemistryError(
            f"{path}: unknown kind of file; expected one of {' '.join(SUFFIXES)}. Convert it to an SDF with all "
            "hydrogens, for example with Open Babel"
        )
    if suffix in _STRUCTURES:
        return _from_structure(path, "".join(_lines(path)), smiles)
    kind = _FORMATS[suffix]
    texts = kind.split(_lines(path))
    first = next(texts, None)
    if first is None:
        raise ChemistryError(f"{path}: holds no molecule")
    return (
        _record(path, number, kind.title(text).replace("\0", "\ufffd"), partial(_read, kind.read, text))
        for number, text in enumerate(itertools.chain([first], texts), start=1)
    )


def _from_structure(path: Path, text: str, smiles: str | None) -> Iterator[Record]:
    """The molecules of a PDB or mmCIF file."""
    try:
        molecules = assembled.molecules(text, path.suffix.lower(), smiles)
    except Exception as error:  # a file that cannot be read has one record
        return iter([_failed(Record(f"{path.stem}-1"), f"{path}, record 1", error)])

    def read(molecule: Callable[[str], assembled.Assembled], name: str) -> Record:
        mol, notes = molecule(name)
        return _checked(mol, name, notes=notes)

    return (_record(path, number, "", partial(read, molecule)) for number, molecule in enumerate(molecules, start=1))


def exists(path: Path) -> bool:
    """Whether there is such a file or folder."""
    try:
        return path.exists()
    except OSError:  # a long SMILES is not a file name
        return False


def _check_text(path: Path, whole: bool) -> None:
    """Check that a file is a text and not empty; a NUL byte in a record is that record's fault, unless `whole`."""
    empty = True
    try:
        with path.open("rb") as start:
            first = start.read(4)
        if what := next((what for mark, what in _NOT_TEXT.items() if first.startswith(mark)), None):
            raise ChemistryError(f"{path}: {what}")
        with path.open(encoding="utf-8-sig", errors="replace") as file:
            for block in iter(lambda: file.read(_BLOCK), ""):
                empty = empty and not block.strip()
                nuls = block.count("\0")
                if nuls and (whole or nuls > _NULS * len(block) or "\ufffd" in block):
                    raise ChemistryError(f"{path}: not a text file")
    except FileNotFoundError:
        raise ChemistryError(f"{path}: no such file") from None
    except OSError as error:
        raise ChemistryError(f"{path}: cannot be read ({error.strerror})") from error
    if empty:
        raise ChemistryError(f"{path}: the file is empty")


def _lines(path: Path) -> Iterator[str]:
    """The lines of a file, each with one newline at its end whatever the file has there, read as they are needed."""
    with path.open(encoding="utf-8-sig", errors="replace") as file:  # titles come in any encoding
        yield from file


def _record(path: Path, number: int, title: str, read: Callable[[str], Record]) -> Record:
    name = title or f"{path.stem}-{number}"
    try:
        with rdBase.BlockLogs():
            return read(name)
    except Exception as error:  # whatever one record raises, the others are read
        return _failed(Record(name), f"{path}, record {number}" + (f" ({title})" if title else ""), error)


def _read(read: Callable[[str, str], Record], text: str, name: str) -> Record:
    if "\0" in text:
        raise ChemistryError(f"{name}: holds a NUL byte; expected a text, remove the byte")
    return read(text, name)


def _failed(record: Record, where: str, error: Exception) -> Record:
    unexpected = "" if isinstance(error, ChemistryError) else f"cannot be read, {type(error).__name__}: "
    reason = str(error).removeprefix(f"{record.name}: ")
    return dataclasses.replace(record, error=f"{where}: {unexpected}{reason}")


def _from_typed(smiles: str) -> Record:
    try:
        return _from_smiles(smiles, TYPED)
    except ChemistryError as error:
        reason = str(error).removeprefix(f"{TYPED}: ").replace("is not a valid", "is neither a file nor a valid")
        return Record(TYPED, error=f"{rd.shorten(smiles)}: {reason}")


def _from_smiles(smiles: str, name: str) -> Record:
    with rdBase.BlockLogs():
        mol = rd.from_smiles(smiles, name)
        xyz = coordinates.of_atropisomer(mol) if "|" in smiles else None
        return Record(name, mol, notes=rd.mixture_notes(mol) + rd.remarks(mol), xyz=xyz)


def from_rdkit(mol: Chem.Mol) -> Record:
    """A molecule of RDKit as a record, with the coordinates of its first conformer. The argument is not changed."""
    title = mol.GetProp("_Name").strip() if mol.HasProp("_Name") else ""
    name = title or f"molecule of {mol.GetNumAtoms()} atoms"
    mol = Chem.Mol(mol)
    try:
        with rdBase.BlockLogs():
            record = _checked(mol, name, flat=True)
    except ChemistryError as error:
        return Record(name, error=str(error).removeprefix(f"{name}: "))
    return dataclasses.replace(record, name=title or rd.plain_name(mol))


def smi_lines(lines: Iterable[str]) -> Iterator[str]:
    """The lines of a SMILES file that hold a molecule: no comments, and no line of headings (`SMILES Name`)."""
    full = (line for line in lines if line.strip() and not line.lstrip().startswith("#"))
    first = next(full, "SMILES")
    return full if first.split()[0].upper() == "SMILES" else itertools.chain([first], full)


def smi_columns(line: str) -> tuple[str, str]:
    """SMILES with its extension between two bars (CXSMILES), and the title; of a table with tabs its second column."""
    smiles, title = _SMI_LINE.fullmatch(line.strip()).groups()  # type: ignore[union-attr] # matches every full line
    return smiles, title.partition("\t")[0].strip()


def _smi_title(line: str) -> str:
    return smi_columns(line)[1]


def _from_smi_line(line: str, name: str) -> Record:
    return _from_smiles(smi_columns(line)[0], name)


def _split_sdf(lines: Iterable[str]) -> Iterator[str]:
    record: list[str] = []
    for line in lines:
        if line.startswith("$$$$"):
            yield "".join(record)
            record = []
        else:
            record.append(line)
    if any(line.strip() for line in record):
        yield "".join(record)


def _first_line(text: str) -> str:
    return text.partition("\n")[0].strip()


def from_molblock(text: str, name: str) -> Record:
    """The molecule of one record of an SDF, without its `$$$$`.

    Raises:
        ChemistryError: when it cannot be read or is not supported.
    """
    mol, charges, notes = molfile.read(text, name)
    return _checked(mol, name, charges, notes, drawn=True, flat=molfile.is_flat(text))


def _split_mol2(lines: Iterable[str]) -> Iterator[str]:
    record: list[str] = []
    for line in lines:
        if line.startswith("@<TRIPOS>MOLECULE"):
            yield from _with_sections(record)
            record = []
        record.append(line)
    yield from _with_sections(record)


def _with_sections(record: list[str]) -> list[str]:
    """The text of a MOL2 record, however damaged its first line is; none for comments before the first."""
    return ["".join(record)] if any("TRIPOS>" in line for line in record) else []


def _mol2_title(text: str) -> str:
    title = text.split("\n")[1].strip() if text.count("\n") else ""
    return "" if title.strip("*") == "" else title


def _from_mol2(text: str, name: str) -> Record:
    mol, charges, notes = mol2.read(text, name)
    return _checked(mol, name, charges, notes)


def _checked(
    mol: Chem.Mol,
    name: str,
    charges: np.ndarray | None = None,
    notes: tuple[str, ...] = (),
    drawn: bool = False,
    flat: bool = False,
) -> Record:
    """Sanitizes and checks a record's molecule, whose stereo is that of its 3D coordinates where it has them.

    Coordinates that no geometry of the molecule has (see `espalike.chem.coordinates`) are left out, with a note.

    Args:
        mol: the molecule.
        name: its name in messages.
        charges: partial charges of the record [e], shape `(A,)`, or None.
        notes: remarks on the record.
        drawn: whether it may be a drawing; see `espalike.chem.sanitize.sanitize`.
        flat: whether the record says that it is one.
    """
    if not mol.GetNumAtoms():
        raise ChemistryError(f"{name}: no atoms")
    notes += rd.mixture_notes(mol)
    rd.sanitize(mol, name, drawn)
    xyz = None
    if mol.GetNumConformers() and (mol.GetConformer().Is3D() or mol.GetNumAtoms() == 1 or not flat):
        xyz = mol.GetConformer().GetPositions()
        fault = coordinates.fault(mol, xyz)
        if fault:
            notes = (*notes, f"coordinates of the input are not used: {fault}")
            xyz = None
            mol.RemoveAllConformers()
        else:
            rd.take_stereo_of_coordinates(mol)
    rd.check_structure(mol, name)
    if xyz is None:
        xyz = coordinates.of_atropisomer(mol)
    return Record(name, mol, None, notes + rd.remarks(mol), xyz, charges)


_SDF = _Format(_split_sdf, _first_line, from_molblock)
_SMI = _Format(smi_lines, _smi_title, _from_smi_line)
_FORMATS = {
    ".sdf": _SDF,
    ".sd": _SDF,
    ".mol": _SDF,
    ".mol2": _Format(_split_mol2, _mol2_title, _from_mol2),
    ".smi": _SMI,
    ".smiles": _SMI,
}
SUFFIXES = (".sdf", ".sd", ".mol", ".mol2", *_STRUCTURES, ".smi", ".smiles")
"""Suffixes of the files that can be read."""
