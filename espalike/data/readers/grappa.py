"""Reader of Grappa's data sets: a folder of `.npz`, one a molecule.

Arrays: `xyz (K, A, 3)` [Å], `energy_qm (K,)` [kcal/mol], `gradient_qm (K, A, 3)` [kcal/mol/Å], which is +dE/dx,
`atomic_numbers (A,)`, `mapped_smiles`, `partial_charges (A,)` [e], `mol_id`. Their names and units are settings, since
no description of the format is published beside the data. `energy_ref` and `gradient_ref` are not fallen back on: a
reference may have the nonbonded part of a classical force field taken off.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from espalike.chem import connectivity_key
from espalike.chem.conformers import Conformers
from espalike.chem.molecule import Molecule
from espalike.data.readers.base import ReaderError, Units, parse_units
from espalike.data.readers.distances import frames_by_bonds, from_bonds
from espalike.data.readers.files import text
from espalike.data.readers.npz import NpzReader, array_of, open_npz
from espalike.data.readers.structure import molecule_of
from espalike.data.readers.values import finite
from espalike.data.schema import Record, RecordError

UNITS = "coords angstrom; energies kcal/mol; forces kcal/mol/angstrom"
"""The format's."""
KEYS = {
    "xyz": "xyz",
    "energy": "energy_qm",
    "gradient": "gradient_qm",
    "numbers": "atomic_numbers",
    "smiles": "mapped_smiles",
    "charges": "partial_charges",
    "name": "mol_id",
}
"""What arrays are called; gradient, smiles, charges and name may be missing."""


class GrappaReader(NpzReader):
    """A folder of archives, or one, a molecule an entry.

    Args:
        path: the folder or file.
        source: name of the data source in tables; None = the folder's or file's name.
        level: level of theory of all entries; the files do not say it.
        keys: names of arrays that differ from `KEYS`.
        charges: the partial charges become the entry's reference charges.
        units: units that differ from `UNITS`, in its form.

    Raises:
        ReaderError: when there is no file, the level is not given, or a key or unit is unknown.
    """

    def __init__(
        self,
        path: str | Path,
        source: str | None = None,
        level: str | None = None,
        keys: Mapping[str, str] | None = None,
        charges: bool = False,
        units: str | None = None,
    ):
        super().__init__(path, source)
        if not level:
            raise ReaderError(f"{self.path}: nothing says its level of theory; give reader.level")
        if unknown := set(keys or ()) - set(KEYS):
            raise ReaderError(f"{self.path}: reader.keys names {', '.join(sorted(unknown))}; known: {', '.join(KEYS)}")
        self.level = level
        self.keys = {**KEYS, **(keys or {})}
        self.charges = charges
        self._units = Units(self.path, {**parse_units(UNITS), **parse_units(units or "")})

    @property
    def manifest(self) -> dict:
        """File and level."""
        return {"file": self.path.name, "level": self.level}

    def _array(self, archive: np.lib.npyio.NpzFile, what: str, name: str) -> np.ndarray | None:
        """An array that may be missing."""
        return array_of(archive, self.keys[what], name) if self.keys[what] in archive else None

    def _needed(self, archive: np.lib.npyio.NpzFile, what: str, name: str) -> np.ndarray:
        if self.keys[what] not in archive:
            hint = "; a reference energy must be the total energy" if what == "energy" else ""
            raise RecordError(
                f"no {what}",
                f"{name}: array {self.keys[what]!r} is missing; arrays found: {', '.join(archive.files)}; "
                f"give its name, reader.keys.{what}{hint}",
            )
        return array_of(archive, self.keys[what], name)

    def _molecule(
        self, name: str, archive: np.lib.npyio.NpzFile, xyz: np.ndarray, charges: np.ndarray | None
    ) -> Molecule:
        numbers = self._needed(archive, "numbers", name).astype(np.int64)
        if xyz.shape[1:] != (len(numbers), 3) or not len(xyz):
            raise RecordError(
                "shapes disagree", f"{name}: coordinates have shape {xyz.shape}, expected (K, {len(numbers)}, 3)"
            )
        total = None if charges is None or not np.isfinite(charges).all() else round(float(charges.sum()))
        smiles, title = self._array(archive, "smiles", name), self._array(archive, "name", name)
        if smiles is not None:
            molecule = molecule_of(name, numbers, xyz[0], text(smiles), total)
        else:
            bonds, _ = max(frames_by_bonds(numbers, finite(name, "coordinates", xyz)), key=lambda group: len(group[1]))
            molecule = from_bonds(name, numbers, bonds, total or 0)
        return molecule if title is None else replace(molecule, name=text(title))

    def _record(self, name: str, raw: Any) -> Record:
        with open_npz(raw) as archive:
            xyz = self._units.internal(name, "coords", self._needed(archive, "xyz", name))
            energy = self._units.internal(name, "energies", self._needed(archive, "energy", name))
            gradient = self._array(archive, "gradient", name)
            charges = self._array(archive, "charges", name)
            molecule = self._molecule(name, archive, xyz, charges)
        forces = None if gradient is None else -self._units.internal(name, "forces", gradient)
        return Record(
            id=name,
            molecule=molecule,
            conformers=Conformers(xyz, finite(name, "energies", energy), forces, self.level, self.source),
            key=connectivity_key(molecule),
            ref_charge=np.asarray(charges, np.float64) if self.charges and charges is not None else None,
        )
