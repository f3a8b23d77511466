"""Reader of HDF5 files with one group an entry.

A group has attributes `smiles` (mapped, explicit hydrogens; map number i+1 is row i), and optionally `charge`, `split`,
`level_of_theory`; data sets `atomic_numbers (A,)`, `coords (C, A, 3)`, and where present `energies (C,)` and
`forces (C, A, 3)` = −dE/dx. Units stand in an attribute `units` of each data set, or in one of the file such as
`coords Angstrom; energies kcal/mol; forces kcal/mol/Angstrom`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import h5py
import numpy as np

from espalike import units
from espalike.chem import ChemistryError, connectivity_key, from_smiles
from espalike.data.schema import Record, RecordError, Rejection, check
from espalike.types import Conformers, Molecule

_LENGTHS = ("angstrom", "angstroms", "å", "nanometer", "nm", "bohr", "a0")
_ENERGIES = ("kcal/mol", "kj/mol", "hartree", "eh", "ev")
_KNOWN = {
    "coords": set(_LENGTHS),
    "energies": set(_ENERGIES),
    "forces": {f"{e}/{length}" for e in _ENERGIES for length in _LENGTHS},
}
_INTERNAL = {"coords": "angstrom", "energies": "kcal/mol", "forces": "kcal/mol/angstrom"}


class ReaderError(ValueError):
    """A file that cannot be read as a whole."""


def _text(value) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def parse_units(text: str) -> dict[str, str]:
    """Units by data set from `coords Angstrom; energies kcal/mol; ...`; remarks in brackets are dropped."""
    parts = (re.sub(r"\(.*?\)", "", part).split() for part in text.split(";"))
    return {words[0]: "".join(words[1:]) for words in parts if len(words) > 1}


def plain_level(text: str) -> str:
    """Level of theory without remarks, `PBE/def2-SVP (tight SCF)` → `PBE/def2-SVP`; empty for none or several."""
    words = text.split()
    return "" if not words or "/" in words or words[0].lower() == "see" else words[0]


class Hdf5Reader:
    """Iterates over a file's entries, one in memory at a time: a `Record`, or a `Rejection` with its reason.

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
        self.path = Path(path)
        self.source = source or self.path.stem
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
        self._units = self._agreed(parse_units(self.attributes.get("units", "")), parse_units(units or ""))

    def __len__(self) -> int:
        return len(self.names)

    @property
    def manifest(self) -> dict:
        """What the file says about itself: `origin`, `licence`, description and level, where it does."""
        names = {"origin": "source", "licence": "license", "description": "description", "level": "level_of_theory"}
        found = {key: self.attributes.get(name, "") for key, name in names.items()}
        return {"file": self.path.name, **{key: value for key, value in found.items() if value}}

    def __iter__(self) -> Iterator[Record | Rejection]:
        with self._open() as file:
            for name in self.names:
                try:
                    record = self._record(name, file[name])
                    check(record)
                    yield record
                except RecordError as error:
                    yield Rejection(name, error.reason, str(error))
                except ChemistryError as error:
                    yield Rejection(name, "chemistry", f"{name}: {error}")
                except (OSError, RuntimeError, KeyError) as error:
                    yield Rejection(name, "unreadable", f"{name}: cannot be read from {self.path.name} ({error})")

    def _open(self) -> h5py.File:
        if not self.path.is_file():
            raise ReaderError(f"{self.path}: no such file")
        try:
            return h5py.File(self.path, "r")
        except OSError as error:
            what = "it is cut short" if "truncated" in str(error) else "it is not HDF5 or is damaged"
            raise ReaderError(f"{self.path}: {what}; get the file again ({error})") from error

    def _agreed(self, said: dict[str, str], given: dict[str, str]) -> dict[str, str]:
        """Units by data set from the file and from the option, which may not contradict each other."""
        for name in said.keys() & given.keys():
            if said[name].lower() != given[name].lower():
                raise ReaderError(
                    f"{self.path}: {name} are in {said[name]!r}, but the option units says {given[name]!r}"
                )
        for name, unit in (said | given).items():
            if name in _KNOWN and unit.lower() not in _KNOWN[name]:
                known = ", ".join(sorted(_KNOWN[name]))
                raise ReaderError(f"{self.path}: {name} are in unit {unit!r}; known units for them: {known}")
        return said | given

    def _array(self, group: h5py.Group, name: str, dataset: str | None = None) -> np.ndarray | None:
        """A data set in internal units, float64, or None where there is none."""
        dataset = dataset or name
        if dataset not in group:
            return None
        data = group[dataset]
        own = _text(data.attrs.get("units", data.attrs.get("unit", ""))).replace(" ", "")
        unit = own or self._units.get(dataset, self._units.get(name, ""))
        if not unit:
            raise ReaderError(
                f"{self.path}: nothing says the unit of {dataset!r}; give it, e.g. reader.units='coords angstrom; "
                "energies kcal/mol; forces kcal/mol/angstrom'"
            )
        if unit.lower() not in _KNOWN[name]:
            raise RecordError("unit unknown", f"{group.name}: {dataset} are in unit {unit!r}, which is not known")
        told = self._units.get(name)
        if own and told and units.factor(own) != units.factor(told):
            raise RecordError(
                "units contradict", f"{group.name}: {dataset} are in {own!r}, the file as a whole says {told!r}"
            )
        return units.convert(data[()].astype(np.float64), unit, _INTERNAL[name])

    def _level(self, name: str, group: h5py.Group) -> str:
        if self.level:
            return self.level
        if self.level_attribute in group.attrs:
            value = _text(group.attrs[self.level_attribute])
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

    def _molecule(self, name: str, group: h5py.Group) -> Molecule:
        if "smiles" not in group.attrs:
            raise RecordError("no SMILES", f"{name}: attribute 'smiles' is missing")
        molecule = from_smiles(_text(group.attrs["smiles"]), name=name)
        numbers = group["atomic_numbers"][()].astype(np.int64)
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
        if "charge" in group.attrs and int(group.attrs["charge"]) != molecule.net_charge:
            raise RecordError(
                "charge differs from SMILES",
                f"{name}: charge {int(group.attrs['charge'])}, {molecule.net_charge} in the SMILES",
            )
        return molecule

    def _record(self, name: str, group: h5py.Group) -> Record:
        if not isinstance(group, h5py.Group):
            raise RecordError("no group", f"{name}: not a group; expected one group an entry")
        molecule = self._molecule(name, group)
        xyz, energy = self._array(group, "coords"), self._array(group, "energies", self.energies)
        forces = self._array(group, "forces")
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
            split=_text(group.attrs.get("split", "")),
            key=connectivity_key(molecule),
        )
