"""Readers of arrays: a layout says where a file keeps what belongs to an entry, and one reader reads every layout."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from functools import cache, cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

from espalike.chem import connectivity_key
from espalike.chem.conformers import Conformers
from espalike.chem.molecule import Molecule
from espalike.data.readers.base import Reader, ReaderError, Units, like_forces, parse_units, some_finite
from espalike.data.readers.containers import Container, Group, groups_with_arrays, open_hdf5, open_npz, text
from espalike.data.readers.distances import frames_by_bonds, from_bonds
from espalike.data.readers.structure import SmilesOption, is_mapped, mapped, molecule_of
from espalike.data.schema import Record, RecordError

QUANTITIES = {
    "numbers": "atomic numbers",
    "coords": "coordinates",
    "smiles": "SMILES",
    "energy": "energies",
    "forces": "forces",
    "gradient": "gradient",
    "dipole": "dipoles",
    "charge": "charge",
    "charges": "partial charges",
    "name": "name",
    "level": "level of theory",
    "split": "split",
    "kind": "kind of geometries",
}
"""What an entry may hold, and what messages call it. Shapes, for `K` geometries of `A` atoms: numbers `(A,)`, coords
`(K, A, 3)`, energy `(K,)` or `(K, 1)`, forces (−dE/dx) or gradient (+dE/dx) `(K, A, 3)`, dipole `(K, 3)`, charges
`(A,)` or `(K, A)`; the others are one text or number."""
_NEEDED = ("numbers", "coords", "smiles", "energy", "forces", "gradient")
_UNIT_OF = {
    "coords": "coords", "energy": "energies", "forces": "forces", "gradient": "forces", "dipole": "dipoles",
    "charges": "charges",
}  # fmt: skip
_LOOKED_AT = 100
"""Geometries in which bonds are looked for."""


@dataclass(frozen=True)
class Layout:
    """Where a file keeps what belongs to an entry.

    Attributes:
        container: `hdf5`, a file with one group per entry, whose data sets and attributes are found by name; or `npz`,
            one archive per entry, a file or a folder of them.
        names: names of arrays by quantity, a key of `QUANTITIES`. A quantity that is not named is not read.
        optional: quantities that are named and may be missing. Dipoles, charges and texts always may.
        units: by quantity, as in `base.KNOWN_UNITS`.
        fixed: the format defines its units, so an option that differs is an error; else the option replaces them.
        level: level of theory, where the format has one.
        about: what the manifest says about data at that level, `origin` and `licence`.
        nested: groups with data sets at any depth are entries; else every item at the top of the file is one.
    """

    container: str
    names: Mapping[str, str]
    optional: Sequence[str] = ()
    units: Mapping[str, str] = field(default_factory=dict)
    fixed: bool = True
    level: str = ""
    about: Mapping[str, str] = field(default_factory=dict)
    nested: bool = False


class LayoutReader(Reader):
    """One group of an HDF5 file or one archive per entry, one entry in memory at a time.

    Bonds are those of a mapped SMILES, checked against the atomic numbers. An unmapped SMILES is laid on the bonds that
    most of the first geometries show by their distances; without a SMILES, bond orders are found for these bonds.

    Args:
        path: the file; for archives, also a folder of them and of folders of them.
        layout: where it keeps what.
        source: name of the data source in tables; None = the name of file or folder.
        level: level of theory of all entries; None = that of the layout, or of the entry.
        smiles: of the one molecule, or a CSV file with columns `name` and `smiles`; goes before the file's own.
        charges: read partial charges: their mean over geometries becomes the entry's reference charges.
        units: text such as `coords angstrom; energies kcal/mol; forces kcal/mol/angstrom`.

    Raises:
        ReaderError: when the file is missing, damaged, empty or of another format, its units contradict each other or
            nothing gives its level of theory.
    """

    names_option = ""
    """The option that gives names of arrays, for messages."""
    partial = False
    """Whether geometries without an energy are left out; else their entry is rejected."""

    def __init__(
        self,
        path: str | Path,
        layout: Layout,
        source: str | None = None,
        level: str | None = None,
        smiles: str | Mapping[str, str] | None = None,
        charges: bool = False,
        units: str | None = None,
    ):
        super().__init__(path, source)
        self.layout = layout
        self.level = level or layout.level
        self.charges = charges
        self._smiles = SmilesOption(smiles)
        self.attributes: dict[str, str] = {}
        self._all = self._names()
        if not self.level and "level" not in layout.names:
            raise ReaderError(f"{self.path}: nothing says its level of theory; give reader.level")
        replaced = () if layout.fixed else parse_units(units or "")
        of_layout = {key: unit for key, unit in layout.units.items() if key not in replaced}
        self._units = Units(
            self.path, {"charges": "e", **parse_units(self.attributes.get("units", "")), **of_layout}, units
        )

    def _names(self) -> list[str]:
        """Names of all entries of the file."""
        if self.layout.container == "npz":
            paths = LayoutReader.files(self)
            if not paths or paths[0].suffix != ".npz":
                raise ReaderError(f"{self.path}: {'not' if paths else 'nothing in it; expected'} files NAME.npz")
            return [path.relative_to(self._top).with_suffix("").as_posix() for path in paths]
        with open_hdf5(self.path) as file:
            self.attributes = {key: text(value) for key, value in file.attrs.items()}
            names = [name.strip("/") for name in groups_with_arrays(file)] if self.layout.nested else list(file.keys())
        if not names:
            raise ReaderError(f"{self.path}: nothing in it; expected one group per entry")
        return names

    @property
    def _top(self) -> Path:
        return self.path if self.path.is_dir() else self.path.parent

    def files(self) -> list[Path]:
        """Every file that is read, in a fixed order."""
        if self.layout.container == "npz" and self.path.is_dir():
            return sorted(self.path.rglob("*.npz"))
        return super().files()

    @cached_property
    def names(self) -> list[str]:
        """Names of the entries, in the order in which they are read."""
        return self._all

    def __len__(self) -> int:
        return len(self.names)

    @property
    def manifest(self) -> dict:
        """What file and layout say about the data: `origin`, `licence`, `description` and `level`, where they do."""
        names = {"origin": "source", "licence": "license", "description": "description", "level": "level_of_theory"}
        stated = {key: self.attributes.get(name, "") for key, name in names.items()}
        about = self.layout.about if self.level == self.layout.level else {}
        stated |= {**about, **({"level": self.level} if self.level else {})}
        return {"file": self.path.name, **{key: value for key, value in stated.items() if value}}

    def _raw(self) -> Iterator[tuple[str, Any]]:
        if self.layout.container == "npz":
            yield from ((name, self._top / f"{name}.npz") for name in self.names)
            return
        with open_hdf5(self.path) as file:
            yield from ((name, file) for name in self.names)

    def _open(self, name: str, raw: Any) -> AbstractContextManager[Container]:
        return open_npz(name, raw) if self.layout.container == "npz" else nullcontext(Group(raw, name))

    def _record(self, name: str, raw: Any) -> Record:
        with self._open(name, raw) as entry:
            charges = self._array(name, entry, "charges")
            coordinates = cache(partial(self._coordinates, name, entry))
            molecule, key = self._molecule(name, entry, self._charge(name, entry, charges), coordinates)
            if title := self._text(entry, "name"):
                molecule = replace(molecule, name=title)
            conformers = self._conformers(name, entry, coordinates())
            reference = None
            if self.charges and charges is not None and charges.size:
                reference = _mean(name, charges, coordinates())
            split, kind = (self._text(entry, quantity) for quantity in ("split", "kind"))
            return Record(name, molecule, conformers, split, key, reference, kind=kind)

    def _coordinates(self, name: str, entry: Container) -> np.ndarray:
        xyz = self._array(name, entry, "coords")
        assert xyz is not None  # coordinates are never optional
        if not len(xyz):
            raise RecordError("empty", f"{name}: no geometries")
        return xyz

    # ---- what a layout may read in another way

    def _molecule(
        self, name: str, entry: Container, charge: int | None, coordinates: Callable[[], np.ndarray]
    ) -> tuple[Molecule, str]:
        """The molecule of an entry and its connectivity key, from its total charge [e] and coordinates `(K, A, 3)`."""
        numbers = entry.array(self.layout.names["numbers"], np.int64)
        if numbers is None:
            raise self._missing(name, entry, "numbers")
        smiles = self._smiles_of(name, entry)
        if smiles and is_mapped(smiles):
            return mapped(name, smiles, numbers, charge)
        molecule = _by_distances(name, numbers, coordinates(), smiles, charge)
        return molecule, connectivity_key(molecule)

    def _smiles_of(self, name: str, entry: Container) -> str:
        """The SMILES of an entry; empty where bonds must be found by distance."""
        smiles = self._smiles.of(name) or self._text(entry, "smiles")
        if not smiles and "smiles" in self.layout.names and "smiles" not in self.layout.optional:
            raise self._missing(name, entry, "smiles")
        return smiles

    def _level(self, name: str, entry: Container) -> str:
        """The level of theory of an entry."""
        return self.level or self._text(entry, "level")

    def _labels(self, name: str, entry: Container) -> tuple[np.ndarray | None, np.ndarray | None]:
        """Energies [kcal/mol] and their gradient [kcal/mol/Å], where they are there."""
        energy, gradient = self._array(name, entry, "energy"), self._array(name, entry, "gradient")
        if gradient is None and (forces := self._array(name, entry, "forces")) is not None:
            gradient = -forces
        if gradient is None:
            self._refuse_unread_forces(name, entry)
        return energy, gradient

    def _refuse_unread_forces(self, name: str, entry: Container) -> None:
        """Refuse arrays of the coordinates' size whose name speaks of forces: the entry's forces would be lost."""
        expected = self.layout.names.get("gradient") or self.layout.names.get("forces")
        found = like_forces(self._of_labels(entry), ("dispersion", "correction")) if expected else []
        if not found:
            return
        size = np.size(entry.read(self.layout.names["coords"]))
        if same := [array for array in found if np.size(entry.read(array)) == size]:
            raise RecordError(
                "forces named otherwise",
                f"{name}: no array {expected!r}, but {', '.join(same)}; {self._renamed('gradient')}",
            )

    def _of_labels(self, entry: Container) -> list[str]:
        """Names of arrays that may hold labels of the level that is read."""
        return entry.names()

    def _renamed(self, what: str) -> str:
        """How to read an array of another name."""
        if self.names_option:
            return f"give its name, 'reader.{self.names_option}={{{what}: NAME}}'"
        return "reader=arrays reads arrays of any name (espalike ingest reader=arrays --cfg job)"

    def _chosen(self, name: str, what: str, values: np.ndarray) -> np.ndarray:
        """The rows of an array `(K, …)` that are read."""
        return values

    # ---- arrays of an entry

    def _conformers(self, name: str, entry: Container, xyz: np.ndarray) -> Conformers:
        energy, gradient = self._labels(name, entry)
        dipole = self._array(name, entry, "dipole")
        if energy is None:
            energy = np.full(len(xyz), np.nan)
        elif self.partial and energy.shape == xyz.shape[:1] and np.isfinite(energy).any():
            known = np.isfinite(energy)
            xyz, energy = xyz[known], energy[known]
            gradient, dipole = (None if values is None else values[known] for values in (gradient, dipole))
        else:
            some_finite(name, "energies", energy)
        forces = None if gradient is None else -gradient
        return Conformers(xyz, energy, forces, self._level(name, entry), self.source, dipole=dipole)

    def _array(self, name: str, entry: Container, what: str) -> np.ndarray | None:
        """A quantity in internal units, float64, or None where there is none."""
        array = self.layout.names.get(what)
        if not array:
            return None
        values = self._read(name, entry, array, _UNIT_OF[what])
        if values is None and what in _NEEDED and what not in self.layout.optional:
            raise self._missing(name, entry, what)
        return values

    def _read(self, name: str, entry: Container, array: str, quantity: str) -> np.ndarray | None:
        """An array in internal units, float64, or None where there is none; `quantity` is a key of `KNOWN_UNITS`."""
        values = entry.array(array)
        if values is None:
            return None
        if quantity != "charges":
            values = self._chosen(name, array, values)
        if quantity == "energies" and values.ndim == 2 and values.shape[1] == 1:  # as in MD17
            values = values[:, 0]
        return self._units.internal(name, array, values, entry.unit(array), quantity)

    def _missing(self, name: str, entry: Container, what: str) -> RecordError:
        return RecordError(
            f"no {QUANTITIES[what]}",
            f"{name}: array {self.layout.names[what]!r} is missing; arrays found: {', '.join(entry.names())}; "
            f"{self._renamed(what)}",
        )

    def _text(self, entry: Container, what: str) -> str:
        array = self.layout.names.get(what)
        return entry.text(array) if array else ""

    def _charge(self, name: str, entry: Container, charges: np.ndarray | None) -> int | None:
        """The total charge [e] that the entry states, or that its partial charges add up to."""
        array = self.layout.names.get("charge")
        stated = entry.array(array) if array else None
        if stated is not None:
            total = float(stated.ravel()[0]) if stated.size else np.nan
            if total != np.rint(total):
                raise RecordError("charge unreadable", f"{name}: its charge is {total}; expected a whole number")
            return int(total)
        if charges is None or not charges.size:
            return None
        total = float((charges[0] if charges.ndim > 1 else charges).sum())
        return round(total) if np.isfinite(total) else None


class ArraysReader(LayoutReader):
    """A layout of your own: names, units and the sign of the derivative are options.

    Args:
        path: the file, or for archives also a folder of them.
        source: name of the data source in tables; None = the name of file or folder.
        level: level of theory of all entries; None = the array or attribute that `names` calls `level`.
        container: `hdf5`, one group per entry at any depth; `npz`, one archive per entry.
        names: names of arrays and attributes by quantity, see `QUANTITIES`; `numbers` and `coords` are needed.
            `forces` are −dE/dx, `gradient` is +dE/dx.
        optional: quantities that an entry may lack.
        smiles: of the one molecule, or a CSV file with columns `name` and `smiles`, where the file has no SMILES.
        charges: partial charges become reference charges.
        units: units where the file does not state them, `coords bohr; energies hartree; forces hartree/bohr`.

    Raises:
        ReaderError: as `LayoutReader`; for a quantity or container that does not exist.
    """

    names_option = "names"

    def __init__(
        self,
        path: str | Path,
        source: str | None = None,
        level: str | None = None,
        container: str = "hdf5",
        names: Mapping[str, str] | None = None,
        optional: Sequence[str] | None = None,
        smiles: str | Mapping[str, str] | None = None,
        charges: bool = False,
        units: str | None = None,
    ):
        Reader.__init__(self, path, source)  # a missing file is reported before its layout is looked at
        names = {what: array for what, array in (names or {}).items() if array}
        if unknown := {*names, *(optional or ())} - set(QUANTITIES):
            known = ", ".join(QUANTITIES)
            raise ReaderError(f"{path}: names or optional has {', '.join(sorted(unknown))}; known: {known}")
        if missing := {"numbers", "coords"} - set(names):
            raise ReaderError(f"{path}: give the names of {', '.join(sorted(missing))}, 'reader.names={{NAME: ARRAY}}'")
        if "forces" in names and "gradient" in names:
            raise ReaderError(f"{path}: names has both forces and gradient; give one")
        if container not in ("hdf5", "npz"):
            raise ReaderError(f"{path}: reader.container is {container!r}; known: hdf5, npz")
        layout = Layout(container, names, tuple(optional or ()), nested=True)
        super().__init__(path, layout, source, level, smiles, charges, units)


def _by_distances(name: str, numbers: np.ndarray, xyz: np.ndarray, smiles: str | None, charge: int | None) -> Molecule:
    """The molecule of the bonds that most of the first geometries show."""
    if xyz.shape != (len(xyz), len(numbers), 3):
        raise RecordError(
            "shapes disagree", f"{name}: coordinates have shape {xyz.shape}, expected (K, {len(numbers)}, 3)"
        )
    first = some_finite(name, "coordinates", xyz)[np.isfinite(xyz).all(axis=(1, 2))][:_LOOKED_AT]
    bonds, frames = max(frames_by_bonds(numbers, first), key=lambda group: len(group[1]))
    if smiles:
        return molecule_of(name, numbers, first[frames[0]], smiles, charge)
    return from_bonds(name, numbers, bonds, charge or 0)


def _mean(name: str, charges: np.ndarray, xyz: np.ndarray) -> np.ndarray:
    """Partial charges of each atom [e], shape `(A,)`, from `(A,)` or from `(K, A)` or `(K, A, 1)`."""
    if charges.ndim > 1 and charges.size != xyz.shape[0] * xyz.shape[1]:
        raise RecordError(
            "shapes disagree", f"{name}: partial charges have shape {charges.shape}, coordinates {xyz.shape}"
        )
    return charges if charges.ndim == 1 else charges.reshape(len(xyz), -1).mean(0)
