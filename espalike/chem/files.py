"""Files of molecules: SDF, MOL, MOL2, PDB, mmCIF and SMI, one `Entry` per record, broken ones included."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence

from espalike.chem import records
from espalike.chem.molecule import Molecule, graph_of
from espalike.chem.records import Entry, Record

_MAX_NAME = 100


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
