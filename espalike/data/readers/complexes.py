"""Reader of packed HDF5 files of complexes with interaction energies, such as the Non-Covalent Interactions Atlas.

One array per quantity. Per complex: `name`, `smiles` (mapped, all molecules; map number i+1 is atom i), and optionally
`charge_a`, `charge_b`, `n_a` (atoms of the first molecule, which come first), `group`, `set`, `split`, `level`; always
`n_atoms` and `n_points`. Then one complex after the other: `atomic_numbers (Σ n_atoms,)`,
`coords (Σ n_points·n_atoms, 3)`, `interaction_energy (Σ n_points,)`, and optionally `scaling (Σ n_points,)` (distance
relative to equilibrium) and `sapt (Σ n_points, 6)` (electrostatics, exchange, induction, δHF, dispersion, total); NaN
where there is none. Units stand in the file's attribute `units`: `coords angstrom; energies and sapt kcal/mol`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from espalike.chem import connectivity_key
from espalike.chem.complexes import monomers
from espalike.chem.conformers import Conformers
from espalike.chem.molecule import Molecule
from espalike.data.readers.base import Reader, ReaderError, Units
from espalike.data.readers.containers import check_stored, open_hdf5
from espalike.data.readers.hdf5 import plain_level
from espalike.data.readers.monomers import check_charges, read_complex
from espalike.data.readers.structure import check_numbers
from espalike.data.schema import Record, RecordError, whole

_TEXTS = ("name", "smiles", "group", "set", "split", "level")
_COUNTS = ("n_atoms", "n_points", "n_a", "charge_a", "charge_b")
_NEEDED = ("name", "smiles", "n_atoms", "n_points", "atomic_numbers", "coords", "interaction_energy")

GROUPS: dict[str, str | dict[str, str]] = {
    "NCIA_HB375x10": {"noHB": "no hydrogen bond"},
    "NCIA_HB300SPXx10": "hydrogen bonds",
    "NCIA_IHB100x10": "ionic hydrogen bonds",
    "NCIA_D442x10": "dispersion",
    "NCIA_D1200": "dispersion",
    "NCIA_R739x5": "repulsive contacts",
    "NCIA_SH250x10": {
        **dict.fromkeys(("Cl", "Br", "I"), "halogen bonds"),
        **dict.fromkeys(("S", "Se"), "chalcogen bonds"),
        **dict.fromkeys(("P", "As"), "pnictogen bonds"),
    },
}
"""Kind of interaction by set and group of the Non-Covalent Interactions Atlas."""


def group_of(name: str, group: str) -> str:
    """Kind of interaction of a complex in a set of the atlas; of another set, its group as it is."""
    of_set = GROUPS.get(name, group)
    if isinstance(of_set, str):
        return of_set
    return of_set.get(group, "hydrogen bonds" if name.startswith("NCIA_HB") else group)


def _units(text: str) -> dict[str, str]:
    """Units by quantity from `coords angstrom; energies and sapt kcal/mol`."""
    units: dict[str, str] = {}
    for part in text.split(";"):
        *names, unit = [word for word in re.split(r"[\s,]+", part.strip()) if word != "and"] or [""]
        units |= dict.fromkeys(names, unit)
    return units


class ComplexesReader(Reader):
    """One record per complex: its geometries have rigid molecules, their energies are those of the interaction.

    Args:
        path: the file.
        source: name of the data source in tables; None = the set of each complex, or else the file's name.
        level: level of theory; None = the level of each complex, or else the file's `level_of_theory`.
        units: `coords angstrom; energies kcal/mol; sapt kcal/mol`, for files that do not say them.

    Raises:
        ReaderError: when the file is missing, no HDF5, lacks an array, or its arrays do not fit each other.
    """

    def __init__(self, path: str | Path, source: str | None = None, level: str | None = None, units: str | None = None):
        super().__init__(path, source)
        self.level, self._one_source = level, source
        with open_hdf5(self.path) as file:
            self.attributes = {key: str(value) for key, value in file.attrs.items()}
            missing = [name for name in _NEEDED if name not in file]
            if missing:
                raise ReaderError(f"{self.path}: no {', '.join(missing)} in it; expected a packed file of complexes")
            for name in file:
                _check_array(file[name], f"{self.path}, {name}")
            self._texts = {name: file[name].asstr()[:] for name in _TEXTS if name in file}
            self._numbers = {name: self._counts(file, name) for name in _COUNTS if name in file}
            shapes = {name: file[name].shape for name in file}
        self._units = Units(self.path, _units(self.attributes.get("units", "")), units)
        self._check(shapes)

    def _counts(self, file: h5py.File, name: str) -> np.ndarray:
        """An array of whole numbers."""
        try:
            return whole(str(self.path), name, file[name][:])
        except RecordError as error:
            raise ReaderError(str(error)) from error

    def _check(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Check that every array is as long as the numbers of atoms and points say."""
        atoms, points = self._numbers["n_atoms"], self._numbers["n_points"]
        rows = dict.fromkeys((*_TEXTS, *_COUNTS), len(atoms))
        rows |= {"atomic_numbers": int(atoms.sum()), "coords": int(atoms @ points) if len(atoms) == len(points) else -1}
        rows |= dict.fromkeys(("interaction_energy", "scaling", "sapt"), int(points.sum()))
        for name, shape in shapes.items():
            if name in rows and shape[0] != rows[name]:
                raise ReaderError(
                    f"{self.path}: {name} has {shape[0]} rows, expected {rows[name]} by n_atoms and n_points; "
                    "get the file again"
                )

    def __len__(self) -> int:
        return len(self._numbers["n_atoms"])

    @property
    def manifest(self) -> dict:
        """What the file states: `origin`, `licence`, description and level, where it has them."""
        names = {"origin": "source", "licence": "license", "description": "description", "level": "level_of_theory"}
        return {"file": self.path.name} | {k: self.attributes[n] for k, n in names.items() if n in self.attributes}

    def _raw(self) -> Iterator[tuple[str, Any]]:
        atoms, points = self._numbers["n_atoms"], self._numbers["n_points"]
        starts = [np.concatenate([[0], np.cumsum(n)]) for n in (atoms, atoms * points, points)]
        with open_hdf5(self.path) as file:
            for i, name in enumerate(self._texts["name"]):
                yield str(name), (file, i, *(slice(start[i], start[i + 1]) for start in starts))

    def _text(self, name: str, i: int) -> str:
        return str(self._texts[name][i]) if name in self._texts else ""

    def _molecule(self, name: str, i: int, numbers: np.ndarray) -> Molecule:
        """The complex, its atoms and charges compared with what the file says of them."""
        molecule = read_complex(name, self._text("smiles", i))
        check_numbers(name, molecule, numbers)
        if "n_a" in self._numbers:
            n_a, (_, first) = int(self._numbers["n_a"][i]), monomers(molecule)[0]
            if not np.array_equal(first, np.arange(n_a)):
                raise RecordError(
                    "atom count differs from SMILES",
                    f"{name}: the first molecule has {n_a} atoms, in the SMILES {len(first)}, the last of which is "
                    f"atom {first[-1] + 1}",
                )
        if {"charge_a", "charge_b"} <= self._numbers.keys():
            check_charges(name, molecule, [int(self._numbers[key][i]) for key in ("charge_a", "charge_b")])
        return molecule

    def _record(self, name: str, raw: Any) -> Record:
        file, i, atoms, rows, points = raw
        molecule = self._molecule(name, i, whole(name, "atomic_numbers", file["atomic_numbers"][atoms]))
        energy = self._units.internal(name, "interaction_energy", file["interaction_energy"][points], "", "energies")
        components = None
        if "sapt" in file:
            components = self._units.internal(name, "sapt", file["sapt"][points], "", "energies")
            components = np.concatenate(
                [components[:, :2], components[:, 2:4].sum(1, keepdims=True), components[:, 4:5]], 1
            )
            components[np.isnan(components).any(axis=1)] = np.nan
        own_set = self._text("set", i)
        conformers = Conformers(
            xyz=self._units.internal(name, "coords", file["coords"][rows]).reshape(-1, molecule.n_atoms, 3),
            energy=np.full(len(energy), np.nan),
            forces=None,
            level=self.level or self._text("level", i) or plain_level(self.attributes.get("level_of_theory", "")),
            source=self._one_source or own_set or self.source,
            interaction=energy,
            sapt=None if components is None or np.isnan(components).all() else components,
            scaling=file["scaling"][points].astype(np.float64) if "scaling" in file else None,
        )
        key = connectivity_key(molecule)
        return Record(
            name, molecule, conformers, self._text("split", i), key, group=group_of(own_set, self._text("group", i))
        )


def _check_array(item: h5py.Dataset | h5py.Group, where: str) -> None:
    """Check that an array is stored in the file.

    Raises:
        ReaderError: when it is not.
    """
    if isinstance(item, h5py.Dataset):
        try:
            check_stored(item.id, where)
        except RecordError as error:
            raise ReaderError(str(error)) from error
