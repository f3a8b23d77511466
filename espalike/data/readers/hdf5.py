"""Reader of HDF5 files with one group an entry.

A group has attributes `smiles` (mapped, explicit hydrogens; map number i+1 is row i), and optionally `charge`, `split`,
`level_of_theory`; data sets `atomic_numbers (A,)`, `coords (C, A, 3)`, and where present `energies (C,)` and
`forces (C, A, 3)` = −dE/dx. Units stand in an attribute `units` of each data set, or in one of the file such as
`coords Angstrom; energies kcal/mol; forces kcal/mol/Angstrom`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from espalike.chem.conformers import Conformers
from espalike.chem.molecule import Molecule
from espalike.data.readers.base import Reader, ReaderError, Units, parse_units, parsed
from espalike.data.schema import Record, RecordError


def _text(value) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


# h5py's own objects of groups, data sets and attributes cost several times what reading a small one does
def _dataset(group: h5py.h5g.GroupID, name: str) -> h5py.h5d.DatasetID | None:
    """A data set of a group, or None where there is none."""
    key = name.encode()
    try:
        return h5py.h5d.open(group, key)
    except KeyError:
        if key in group:  # it cannot be opened
            raise
        return None


_TYPES = {np.float64: h5py.h5t.NATIVE_DOUBLE, np.int64: h5py.h5t.NATIVE_INT64}


def _values(data: h5py.h5d.DatasetID, kind: type[np.float64] | type[np.int64]) -> np.ndarray:
    """All values of a data set, as numbers of this kind."""
    try:
        values = np.empty(data.shape, kind)
        if values.size:
            data.read(h5py.h5s.ALL, h5py.h5s.ALL, values, _TYPES[kind])
    except (OSError, TypeError) as error:
        if isinstance(error, OSError) and data.dtype.kind in "biuf":  # numbers, on a damaged disk or in a damaged file
            raise
        name = h5py.h5i.get_name(data).decode()
        raise RecordError("no numbers", f"{name}: expected numbers, found {data.dtype} ({error})") from error
    return values


def _attribute(group: h5py.h5g.GroupID, name: str) -> Any:
    """An attribute's value, or None where there is none."""
    key = name.encode()
    if not h5py.h5a.exists(group, key):
        return None
    found = h5py.h5a.open(group, key)
    value = np.empty(found.shape, found.dtype)
    found.read(value)
    return value[()]


def plain_level(text: str) -> str:
    """Level of theory without remarks, `PBE/def2-SVP (tight SCF)` → `PBE/def2-SVP`; empty for none or several."""
    words = text.split()
    return "" if not words or "/" in words or words[0].lower() == "see" else words[0]


class Hdf5Reader(Reader):
    """One group an entry, one entry in memory at a time.

    Args:
        path: the file.
        source: name of the data source in tables; None = the file's name.
        level: level of theory of all entries; None = the entry's attribute, then the file's `level_of_theory`.
        level_attribute: attribute of an entry that says its level.
        level_names: level of theory by value of that attribute, where the value is not itself a level.
        energies: data set to take energies from (a file may carry several levels side by side). Conformers without
            a number there are an error of the entry, unless it is not the default one: then they are left out.
        units: text of the form of the file attribute `units`, for files that do not say them.
        zero_forces: give geometries without energies and forces a force of zero: they are minima of their level.

    Raises:
        ReaderError: when the file is missing, no HDF5, cut short, empty, or contradicts itself about units.
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
        super().__init__(path, source)
        self.level = level
        self.level_attribute = level_attribute
        self.level_names = {str(key).lower(): value for key, value in (level_names or {}).items()}
        self.energies = energies
        self.zero_forces = zero_forces
        with self._open() as file:
            self.attributes = {key: _text(value) for key, value in file.attrs.items()}
            self.names = list(file.keys())
        if not self.names:
            raise ReaderError(f"{self.path}: nothing in it; expected one group an entry")
        self._units = Units(self.path, parse_units(self.attributes.get("units", "")), units)

    def __len__(self) -> int:
        return len(self.names)

    @property
    def manifest(self) -> dict:
        """What the file says about itself: `origin`, `licence`, description and level, where it does."""
        names = {"origin": "source", "licence": "license", "description": "description", "level": "level_of_theory"}
        found = {key: self.attributes.get(name, "") for key, name in names.items()}
        return {"file": self.path.name, **{key: value for key, value in found.items() if value}}

    def _raw(self) -> Iterator[tuple[str, Any]]:
        with self._open() as file:
            yield from ((name, file) for name in self.names)

    def _open(self) -> h5py.File:
        try:
            return h5py.File(self.path, "r")
        except OSError as error:
            what = "it is cut short" if "truncated" in str(error) else "it is not HDF5 or is damaged"
            raise ReaderError(f"{self.path}: {what}; get the file again ({error})") from error

    def _array(self, where: str, group: h5py.h5g.GroupID, name: str, dataset: str | None = None) -> np.ndarray | None:
        """A data set in internal units, float64, or None where there is none; messages call the group `where`."""
        dataset = dataset or name
        data = _dataset(group, dataset)
        if data is None:
            return None
        own = ""
        if h5py.h5a.get_num_attrs(data):
            attributes = h5py.Dataset(data).attrs
            own = _text(attributes.get("units", attributes.get("unit", "")))
        return self._units.internal(where, dataset, _values(data, np.float64), own, quantity=name)

    def _level(self, name: str, group: h5py.h5g.GroupID) -> str:
        if self.level:
            return self.level
        own = _attribute(group, self.level_attribute)
        if own is not None:
            value = _text(own)
            level = self.level_names.get(value.lower(), "" if self.level_names else plain_level(value))
        else:
            level = plain_level(self.attributes.get("level_of_theory", ""))
        if not level:
            raise RecordError(
                "level of theory unknown",
                f"{name}: neither its attribute {self.level_attribute!r} nor the file names one level of theory; "
                "give reader.level",
            )
        return level

    def _molecule(self, name: str, group: h5py.h5g.GroupID) -> tuple[Molecule, str]:
        """The graph and its connectivity key."""
        smiles = _attribute(group, "smiles")
        if smiles is None:
            raise RecordError("no SMILES", f"{name}: attribute 'smiles' is missing")
        molecule, key = parsed(_text(smiles), name)
        numbers = _values(h5py.h5d.open(group, b"atomic_numbers"), np.int64)
        if numbers.shape != molecule.numbers.shape:
            raise RecordError(
                "shapes disagree", f"{name}: {len(numbers)} atomic numbers, {molecule.n_atoms} atoms in the SMILES"
            )
        if (numbers != molecule.numbers).any():
            i = int(np.flatnonzero(numbers != molecule.numbers)[0])
            raise RecordError(
                "atomic numbers differ from SMILES",
                f"{name}: atom {i + 1} has atomic number {numbers[i]}, {molecule.numbers[i]} in the SMILES",
            )
        charge = _attribute(group, "charge")
        if charge is not None and int(charge) != molecule.net_charge:
            raise RecordError(
                "charge differs from SMILES", f"{name}: charge {int(charge)}, {molecule.net_charge} in the SMILES"
            )
        return molecule, key

    def _record(self, name: str, raw: Any) -> Record:
        group = h5py.h5o.open(raw.id, name.encode())
        if not isinstance(group, h5py.h5g.GroupID):
            raise RecordError("no group", f"{name}: not a group; expected one group an entry")
        molecule, key = self._molecule(name, group)
        where = f"/{name}"
        xyz, energy = self._array(where, group, "coords"), self._array(where, group, "energies", self.energies)
        forces = self._array(where, group, "forces")
        if xyz is None:
            raise RecordError("no coordinates", f"{name}: data set 'coords' is missing")
        if energy is not None and np.isnan(energy).any():
            if self.energies == "energies" or np.isnan(energy).all() or energy.shape != xyz.shape[:1]:
                raise RecordError("energies not finite", f"{name}: {int(np.isnan(energy).sum())} energies are NaN")
            known = np.isfinite(energy)
            xyz, energy, forces = xyz[known], energy[known], None if forces is None else forces[known]
        if energy is None:
            energy = np.full(len(xyz), np.nan)
            if forces is None and self.zero_forces:
                forces = np.zeros_like(xyz)
        return Record(
            id=name,
            molecule=molecule,
            conformers=Conformers(xyz, energy, forces, self._level(name, group), self.source),
            split=_text(_attribute(group, "split") or ""),
            key=key,
        )
