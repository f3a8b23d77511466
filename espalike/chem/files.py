"""Files of molecules: SDF, MOL, MOL2, PDB and SMI, one `Entry` per record; a broken record does not stop the others."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from espalike.chem import records
from espalike.chem.molecule import Molecule, graph_of

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
        charges: partial charges of the record [e], shape `(A,)`, or None.
    """

    name: str
    molecule: Molecule | None = None
    error: str | None = None
    notes: tuple[str, ...] = ()
    xyz: np.ndarray | None = None
    charges: np.ndarray | None = None


def read_molecules(source: str | os.PathLike, smiles: str | None = None) -> Iterator[Entry]:
    """The records of a file, or the one molecule of a SMILES given in its place.

    Args:
        source: path of an SDF, MOL, MOL2, PDB or SMI file, or a SMILES.
        smiles: for a PDB, the SMILES that fixes bond orders and charges.

    Raises:
        ChemistryError: if the file itself is unreadable, empty or of an unknown kind. A broken record, and a broken
            SMILES, is an `Entry` with its error instead.
    """
    return map(_entry, records.read_records(source, smiles))


def from_molblock(text: str, name: str) -> Entry:
    """The entry of one record of an SDF, without its `$$$$`.

    Raises:
        ChemistryError: when it cannot be read or is not supported.
    """
    return _entry(records.from_molblock(text, name))


def _entry(record: records.Record | records.BrokenRecord) -> Entry:
    if isinstance(record, records.BrokenRecord):
        return Entry(record.name, error=record.error)
    molecule = graph_of(record.mol, record.name)
    return Entry(record.name, molecule, notes=record.notes, xyz=record.xyz, charges=record.charges)


def safe_names(names: Sequence[str]) -> list[str]:
    """File names for molecules: safe characters only, unique also where case does not count; the order is kept."""
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
