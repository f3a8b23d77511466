"""The HDF5 layout of this project's own exports: one group per entry.

A group has attributes `smiles` (mapped, explicit hydrogens; map number i+1 is row i), and optionally `charge`, `split`,
`kind` (relaxed, scan, thermal or distorted) and `level_of_theory`; data sets `atomic_numbers (A,)`, `coords (K, A, 3)`,
and where present `energies (K,)` and `forces (K, A, 3)` = −dE/dx. Units stand in an attribute `units` of each data set,
or in one of the file such as `coords Angstrom; energies kcal/mol; forces kcal/mol/Angstrom`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from espalike.chem.conformers import Conformers
from espalike.data.readers.arrays import Layout, LayoutReader
from espalike.data.readers.containers import Container
from espalike.data.schema import RecordError

NAMES = {
    "smiles": "smiles", "numbers": "atomic_numbers", "coords": "coords", "energy": "energies", "forces": "forces",
    "charge": "charge", "level": "level_of_theory", "split": "split", "kind": "kind",
}  # fmt: skip


def plain_level(text: str) -> str:
    """Level of theory without remarks, `PBE/def2-SVP (tight SCF)` → `PBE/def2-SVP`; empty for none or several."""
    words = text.split()
    return "" if not words or "/" in words or words[0].lower() == "see" else words[0]


class Hdf5Reader(LayoutReader):
    """One group per entry, one entry in memory at a time.

    Args:
        path: the file.
        source: name of the data source in tables; None = the file's name.
        level: level of theory of all entries; None = the entry's attribute, then the file's `level_of_theory`.
        level_attribute: attribute of an entry that says its level.
        level_names: level of theory by value of that attribute, where the value is not itself a level.
        energies: data set to take energies from (a file may carry several levels side by side). Conformers without
            a number there are an error of the entry, unless it is not the default one: then they are left out.
        units: text of the form of the file attribute `units`, for files that do not have it.
        zero_forces: give geometries without energies and forces a force of zero: they are minima of their level.

    Raises:
        ReaderError: as `LayoutReader`.
    """

    def __init__(
        self,
        path: str | Path,
        source: str | None = None,
        level: str | None = None,
        level_attribute: str = "level_of_theory",
        level_names: Mapping[str, str] | None = None,
        energies: str = "energies",
        units: str | None = None,
        zero_forces: bool = False,
    ):
        names = {**NAMES, "energy": energies, "level": level_attribute}
        super().__init__(path, Layout("hdf5", names, optional=("energy", "forces")), source, level, units=units)
        self.level_names = {str(key).lower(): value for key, value in (level_names or {}).items()}
        self.partial = energies != NAMES["energy"]
        self.zero_forces = zero_forces

    def _level(self, name: str, entry: Container) -> str:
        if self.level:
            return self.level
        stated = self._text(entry, "level")
        if stated:
            level = self.level_names.get(stated.lower(), "" if self.level_names else plain_level(stated))
        else:
            level = plain_level(self.attributes.get("level_of_theory", ""))
        if not level:
            raise RecordError(
                "level of theory unknown",
                f"{name}: neither its attribute {self.layout.names['level']!r} nor the file names one level of theory; "
                "give reader.level",
            )
        return level

    def _conformers(self, name: str, entry: Container, xyz: np.ndarray) -> Conformers:
        conformers = super()._conformers(name, entry, xyz)
        if self.zero_forces and conformers.forces is None and np.isnan(conformers.energy).all():
            return replace(conformers, forces=np.zeros_like(xyz))
        return conformers
