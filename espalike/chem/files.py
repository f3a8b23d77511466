"""Files and objects of molecules, one `Entry` per molecule, broken ones included."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from rdkit import Chem

from espalike.chem import coordinates, records
from espalike.chem.errors import ChemistryError
from espalike.chem.molecule import Molecule, from_openff, graph_of, to_rdkit
from espalike.chem.records import Entry, Record
from espalike.units import magnitude

Source = str | os.PathLike | Molecule | Chem.Mol
"""A SMILES, a file of molecules, a molecule of espalike or RDKit; also one of OpenFF."""
_MAX_NAME = 100


def several(molecules: Any) -> tuple[bool, list[Any]]:
    """Whether one molecule or file is given and not a collection; and all that are given, as a list.

    Raises:
        TypeError: for a collection of other things, such as a table.
    """
    single = isinstance(molecules, str | os.PathLike | Molecule | Chem.Mol) or hasattr(molecules, "to_smiles")
    if isinstance(molecules, Mapping | bytes) or hasattr(molecules, "columns"):
        raise TypeError(
            f"expected a molecule or a list of molecules, got {type(molecules).__name__}; give a list, "
            "or one column of a table"
        )
    return single, list(molecules) if not single and isinstance(molecules, Iterable) else [molecules]


def read_any(given: Any, smiles: str | None = None) -> Iterator[Entry[Molecule]]:
    """The molecules of a file, or the one of a SMILES, an espalike, RDKit or OpenFF molecule.

    An entry has the coordinates of the first conformer of an RDKit or OpenFF molecule, and OpenFF's partial charges.

    Raises:
        TypeError: for anything else.
        ChemistryError: as `read_molecules`.
    """
    if isinstance(given, str | os.PathLike):
        return read_molecules(given, smiles)
    if isinstance(given, Molecule):
        return iter([Entry(given.name, given)])
    if isinstance(given, Chem.Mol):
        return iter([_entry(records.from_rdkit(given))])
    if hasattr(given, "to_smiles"):
        return iter([_from_openff(given)])
    reason = "; RDKit returns None for a molecule that it cannot read" if given is None else ""
    raise TypeError(
        f"expected a SMILES, a file, or an espalike, RDKit or OpenFF molecule; got {type(given).__name__}{reason}"
    )


def _from_openff(given: Any) -> Entry[Molecule]:
    try:
        molecule = from_openff(given)
    except ChemistryError as error:
        return Entry(given.name or "molecule", error=str(error))
    charges, conformers = getattr(given, "partial_charges", None), getattr(given, "conformers", None)
    values = None if charges is None else np.asarray(magnitude(charges, "elementary_charge"), dtype=np.float64)
    xyz = np.asarray(magnitude(conformers[0], "angstrom"), dtype=np.float64) if conformers else None
    fault = "" if xyz is None else coordinates.fault(to_rdkit(molecule), xyz)
    notes = (f"coordinates of the input are not used: {fault}",) if fault else ()
    return Entry(molecule.name, molecule, notes=notes, xyz=None if fault else xyz, charges=values)


def read_molecules(source: str | os.PathLike, smiles: str | None = None) -> Iterator[Entry[Molecule]]:
    """The records of a file, or the one molecule of a SMILES given in its place.

    Args:
        source: path of an SDF, MOL, MOL2, PDB, mmCIF or SMI file, or a SMILES.
        smiles: for a PDB or mmCIF, bond orders and charges of what is not a standard residue. `*` is an atom of a
            standard residue to which it is bonded; dots are between several SMILES.

    Raises:
        ChemistryError: if the file itself is unreadable, empty or of an unknown kind. A broken record, and a broken
            SMILES, is an `Entry` with its error instead.
    """
    return map(_entry, records.read_records(source, smiles))


def from_molblock(text: str, name: str) -> Entry[Molecule]:
    """The entry of one record of an SDF, without its `$$$$`.

    Raises:
        ChemistryError: when it cannot be read or is not supported.
    """
    return _entry(records.from_molblock(text, name))


def _entry(record: Record) -> Entry[Molecule]:
    molecule = None if record.molecule is None else graph_of(record.molecule, record.name)
    return Entry(record.name, molecule, record.error, record.notes, record.xyz, record.charges)


def safe_names(names: Sequence[str]) -> list[str]:
    """File names for molecules: safe characters only, unique also where case does not count; the order is kept."""
    make = SafeNames()
    return [make(name) for name in names]


class SafeNames:
    """Makes file names of molecules one after the other, as `safe_names` does."""

    def __init__(self) -> None:
        self._taken: set[str] = set()
        self._last: dict[str, int] = {}
        """Of each name in lower case, the number of its last copy, so that equal names take linear time."""

    def __call__(self, name: str) -> str:
        """The name in safe characters, unlike all names before."""
        base = re.sub(r"[^A-Za-z0-9._+-]+", "_", name).strip("._-")[:_MAX_NAME] or "molecule"
        unique, number = base, self._last.get(base.lower(), 1)
        while unique.lower() in self._taken:
            number += 1
            unique = f"{base}-{number}"
        self._last[base.lower()] = number
        self._taken.add(unique.lower())
        return unique
