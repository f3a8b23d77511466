"""Records of MOL files and SDF (V2000 and V3000), read by RDKit; what it would read wrongly is refused."""

from __future__ import annotations

import re

import numpy as np
from rdkit import Chem, rdBase

from espalike.chem.errors import ChemistryError
from espalike.chem.names import ALIASES
from espalike.chem.sanitize import shorten

_CHARGE_TAG = "atom.dprop.PartialCharge"
_NAME_TAGS = ("atom.prop.AtomName", "atom.prop.atom_name")
_FIELDS = re.compile(r"^>.*\n(?:.+\n?)*", re.MULTILINE)
"""Data fields of a record of an SDF."""
_SECOND = re.compile(r"^M  END|V[23]000\s*$", re.MULTILINE)
"""Lines of another MOL record in the rest of a record."""
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_COMPLAINT = re.compile(r"ERROR: (.+)")
"""What RDKit writes to its log where it cannot read a record."""

Read = tuple[Chem.Mol, np.ndarray | None, tuple[str, ...]]
"""A molecule that is not sanitized, its partial charges [e] `(A,)` if it has any, and remarks."""


def read(text: str, name: str) -> Read:
    """The molecule of one record.

    Raises:
        ChemistryError: for a record that cannot be read, or that holds another one.
    """
    after = _FIELDS.sub("", text.partition("\nM  END")[2])
    if _SECOND.search(after):
        raise ChemistryError(f"{name}: another molecule follows it; expected a line $$$$ between the two")
    is_v3000 = "V3000" in _line(text, 3)
    if is_v3000:
        _check_v3000(text, name)
    mol = _parsed(text)
    if mol is None:
        raise ChemistryError(
            f"{name}: not a readable MOL record{_complaint(text)}; expected a V2000 or V3000 connection table"
        )
    if not is_v3000:
        _check_v2000(text, mol, name)
    for tag in _NAME_TAGS:
        names = mol.GetProp(tag).split() if mol.HasProp(tag) else []
        if len(names) == mol.GetNumAtoms():
            for atom, atom_name in zip(mol.GetAtoms(), names, strict=True):
                atom.SetProp(ALIASES[0], atom_name)
    return mol, *_charges(mol)


def is_flat(text: str) -> bool:
    """Whether a record says that it is a drawing."""
    return _line(text, 1)[20:22].upper() == "2D"


def _line(text: str, number: int) -> str:
    """A line of the head; the first is 0."""
    lines = text.split("\n", number + 1)
    return lines[number] if number < len(lines) else ""


def _charges(mol: Chem.Mol) -> tuple[np.ndarray | None, tuple[str, ...]]:
    """Partial charges [e] in a data field, or a note that they are not numbers."""
    if not mol.HasProp(_CHARGE_TAG):
        return None, ()
    tokens = mol.GetProp(_CHARGE_TAG).split()
    try:
        return np.array([float(token) for token in tokens], dtype=np.float64), ()
    except ValueError:
        return None, (f"<{_CHARGE_TAG}> is ignored: expected numbers, got {shorten(' '.join(tokens), 60)!r}",)


def _parsed(text: str) -> Chem.Mol | None:
    """The molecule of a record as RDKit reads it; None where it cannot."""
    supplier = Chem.SDMolSupplier()
    supplier.SetProcessPropertyLists(False)
    supplier.SetData(text + "\n$$$$\n", sanitize=False, removeHs=False, strictParsing=True)
    return supplier[0] if len(supplier) else None


def _complaint(text: str) -> str:
    """What RDKit says of a record that it cannot read, in brackets; numbers of lines are those of the record."""
    with rdBase.CaptureErrorLog() as log:
        _parsed(text)
    why = _COMPLAINT.search(log.messages)
    return f" ({why[1]})" if why else ""


def _check_v3000(text: str, name: str) -> None:
    """Check the coordinates of a V3000 record: RDKit reads what is not a number as zero.

    Raises:
        ChemistryError: where one is not a number.
    """
    atoms = text.partition("V30 COUNTS")[2].partition("V30 END ATOM")[0].replace("-\nM  V30 ", "")  # a long line
    rows = [line.split() for line in atoms.split("\n")[1:] if "BEGIN ATOM" not in line]
    if odd := [word for row in rows for word in row[4:7] if not _NUMBER.fullmatch(word)]:
        raise ChemistryError(f"{name}: coordinate {odd[0]!r} of an atom is not a number")


def _check_v2000(text: str, mol: Chem.Mol, name: str) -> None:
    """Check the coordinates of a V2000 record: RDKit reads what is not a number as zero, and shifted columns in part.

    Raises:
        ChemistryError: where those that were read are not what the line says, in columns of ten and in words.
    """
    lines = text.split("\n")[4:]
    for number, position in enumerate(mol.GetConformer().GetPositions().tolist()):
        line = lines[number]
        readings = [_numbers([line[:10], line[10:20], line[20:30]]), _numbers(line.split(None, 3)[:3])]
        if any(reading not in (None, position) for reading in readings) or readings == [None, None]:
            raise ChemistryError(
                f"{name}: coordinates of atom {number + 1} cannot be read from {shorten(line, 60)!r}; expected "
                "three numbers in columns of ten characters"
            )


def _numbers(words: list[str]) -> list[float] | None:
    """Words as numbers; None where one is not."""
    try:
        return [float(word) for word in words]
    except ValueError:
        return None
