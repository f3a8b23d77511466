"""Reader of ANI-style HDF5: the ANI-1x release, and the layout of ANI-1, COMP6 (`pyanitools`) and ANI-2x.

ANI-1x (github.com/aiqm/ANI1x_datasets; Smith et al., Sci. Data 7, 134 (2020), table 1): one group per formula with
`atomic_numbers (A,)`, `coordinates (K, A, 3)` [Å] and for each method `METHOD.energy (K,)` [hartree] and
`METHOD.forces (K, A, 3)` [hartree/Å], NaN where the method was not applied. The others: groups, nested or not, with
`species` (element symbols; or numbers, one row per conformer), `coordinates`, `energies`, where present `forces`, and
`smiles` cut into characters. The `forces` of COMP6 are +dE/dx (github.com/isayev/COMP6/issues/2): that is an option.

There is no graph, and one group holds frames of different isomers. So bonds are found by distance, frames of equal
bonds are an entry, `FORMULA-0`, `FORMULA-1`, … in the order of their first frame, and bond orders are found once for
each; its atoms stand in the file's order. Everything is taken as neutral (or of the charge of `smiles`) with a closed
shell: broken bonds, radicals and clusters are rejected, and the message says how many frames they are. Stereo is
ignored. ANI-1's frames of high energy, `coordinatesHE`, are not read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import cache, cached_property
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from rdkit import Chem

from espalike.chem import connectivity_key
from espalike.chem.molecule import Molecule
from espalike.data.readers.arrays import Layout, LayoutReader
from espalike.data.readers.base import Reader, ReaderError
from espalike.data.readers.containers import FAULTS, Container, Group, check_stored, groups_with_arrays, open_hdf5, text
from espalike.data.readers.distances import frames_by_bonds, from_bonds
from espalike.data.schema import RecordError, whole

LEVELS = {"wb97x_dz": "wB97X/6-31G(d)", "wb97x_tz": "wB97X/def2-TZVPP", "ccsd(t)_cbs": "CCSD(T)*/CBS"}
"""Level of theory of the methods of the ANI-1x release that give total energies."""
UNITS = {"coords": "angstrom", "energies": "hartree", "forces": "hartree/angstrom", "dipoles": "e*angstrom"}
"""The format's."""
_HEAVIEST = 118


@dataclass(frozen=True, eq=False)
class _Frames:
    """An entry: frames of a group that have the same bonds, or what is wrong with the group.

    Attributes:
        name: identifier.
        path: the group.
        numbers: atomic numbers, shape `(A,)`.
        bonds: bonded pairs, shape `(B, 2)`.
        rows: its frames in the group's arrays, shape `(n,)`.
        error: why they cannot be read.
    """

    name: str
    path: str
    numbers: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    bonds: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    rows: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    error: RecordError | None = None


class _Rows(Container):
    """The frames of an entry in the arrays of its group."""

    def __init__(self, frames: _Frames, group: Group, read: Callable[[str], Any]):
        self.where, self.frames, self._group, self._read = frames.name, frames, group, read

    def names(self) -> list[str]:
        return self._group.names()

    def unit(self, name: str) -> str:
        return self._group.unit(name)

    def read(self, name: str) -> Any:
        values = self._read(name)
        if values is None or name == "smiles" or not np.ndim(values):
            return values
        if len(values) <= self.frames.rows.max():
            rows = int(self.frames.rows.max()) + 1
            raise RecordError(
                "shapes disagree", f"{self.where}: {name} has {len(values)} rows, expected {rows} or more"
            )
        return values[self.frames.rows]


class AniReader(LayoutReader):
    """An entry for each set of frames of one formula that have the same bonds; one formula in memory at a time.

    Finding out what entries there are takes a first pass over coordinates and energies.

    Args:
        path: the file.
        source: name of the data source in tables; None = the file's name.
        level: level of theory; None = what ANI-1x calls `method`. Other files do not say theirs.
        method: whose energies, forces and dipoles to read where a file has several; conformers without an energy of
            it are left out. Brackets in its name may be missing: `ccsdt_cbs`, which a shell needs no quotes for.
        gradients: `forces` are +dE/dx, as in COMP6; needed where they are not ANI-1x's.
        units: what the file's units are, as a check: the format gives them, and they may not contradict it.

    Raises:
        ReaderError: when the file is missing, no HDF5, cut short, empty, has no such method, or the units contradict;
            when the level or the sign of the forces must be said.
    """

    def __init__(
        self,
        path: str | Path,
        source: str | None = None,
        level: str | None = None,
        method: str = "wb97x_dz",
        gradients: bool | None = None,
        units: str | None = None,
    ):
        Reader.__init__(self, path, source)
        with open_hdf5(self.path) as file:
            self._paths = list(groups_with_arrays(file))
            arrays = {name for path in self._paths for name in file[path]}
        if not self._paths:
            raise ReaderError(f"{self.path}: nothing in it; expected groups with coordinates")
        methods = {name.removesuffix(".energy") for name in arrays if name.endswith(".energy")}
        old = next((name for name in ("energies", "energy") if name in arrays and not methods), "")
        self.method = next((m for m in methods if _bare(m) == _bare(method)), "")
        if not old and not self.method:
            known = ", ".join(sorted(methods)) or "none"
            raise ReaderError(f"{self.path}: no energies of method {method!r}; methods found: {known}")
        names = {what: what if old else f"{self.method}.{what}" for what in ("energy", "forces", "dipole")}
        if gradients:
            names["gradient"] = names.pop("forces")
        names |= {"coords": "coordinates", **({"energy": old} if old else {})}
        optional = ("forces", "gradient")
        layout = Layout("hdf5", names, optional, UNITS, level="" if old else LEVELS.get(self.method, ""))
        super().__init__(path, layout, source, level, units=units)
        if old and "forces" in arrays and gradients is None:
            raise ReaderError(
                f"{self.path}: its forces may be +dE/dx, as COMP6's are, or -dE/dx; say reader.gradients=true or false"
            )

    def _names(self) -> list[str]:
        return self._paths

    @cached_property
    def names(self) -> list[str]:
        """Names of the entries: formula or group, and a number."""
        return [entry.name for entry in self._index]

    @property
    def manifest(self) -> dict:
        """File, level and method."""
        return super().manifest | ({"method": self.method} if self.method else {})

    @cached_property
    def _index(self) -> list[_Frames]:
        with open_hdf5(self.path) as file:
            return [entry for path in self._paths for entry in self._entries(path, file[path])]

    def _entries(self, path: str, group: h5py.Group) -> list[_Frames]:
        """The entries of a group."""
        name = path.strip("/")
        try:
            kinds, xyz = self._frames(name, group)
        except RecordError as error:
            return [_Frames(name, path, error=error)]
        except FAULTS as error:
            what = f"{name}: cannot be read from {self.path.name} ({error})"
            return [_Frames(name, path, error=RecordError("unreadable", what))]
        entries: list[_Frames] = []
        for numbers, known in kinds:
            finite = np.isfinite(xyz[known]).all(axis=(1, 2))
            rows, lost = known[finite], known[~finite]
            groups = frames_by_bonds(numbers, self._units.internal(name, "coords", xyz[rows])) if len(rows) else []
            for bonds, frames in groups:
                entry = _Frames(f"{name}-{len(entries)}", path, numbers, bonds, rows[frames].astype(np.int32))
                entries.append(entry)
            if len(lost):
                what = f"{name}: coordinates of {len(lost)} of {len(known)} conformers hold NaN or infinite values"
                fault = RecordError("coordinates not finite", what)
                entries.append(_Frames(f"{name}-{len(entries)}", path, error=fault))
        return entries

    def _frames(self, name: str, group: h5py.Group) -> tuple[list[tuple[np.ndarray, np.ndarray]], np.ndarray]:
        """Atomic numbers with the conformers that have them and an energy; coordinates in the file's unit."""
        key = self.layout.names["energy"]
        for needed in ("coordinates", key):
            if not isinstance(group.get(needed), h5py.Dataset):
                raise RecordError(f"no {needed}", f"{name}: data set {needed!r} is missing")
        for item in (item for item in group.values() if isinstance(item, h5py.Dataset)):
            check_stored(item.id, item.name.strip("/"))
        numbers, energy = _numbers(name, group), _values(name, group, key)
        if len(odd := numbers[(numbers < 1) | (numbers > _HEAVIEST)]):
            raise RecordError(
                "unknown element", f"{name}: no element has the atomic number {odd[0]}; expected 1 to {_HEAVIEST}"
            )
        xyz = _values(name, group, "coordinates")
        shape, atoms = xyz.shape, numbers.shape[-1]
        if shape[1:] != (atoms, 3) or energy.shape != shape[:1] or numbers.shape[:-1] not in ((), shape[:1]):
            raise RecordError(
                "shapes disagree",
                f"{name}: coordinates have shape {shape}, {key} {energy.shape}, for {atoms} atoms",
            )
        unit = text(group["coordinates"].attrs.get("units", ""))
        self._units.internal(name, "coords", np.empty(0), unit)  # a wrong unit is reported before bonds are looked for
        known = np.flatnonzero(~np.isnan(energy))
        if numbers.ndim == 1:
            return [(numbers, known)], xyz
        different, which = np.unique(numbers[known], axis=0, return_inverse=True)
        kinds = [(row, known[which.ravel() == i]) for i, row in enumerate(different)]
        return sorted(kinds, key=lambda kind: int(kind[1][0])), xyz

    def _raw(self) -> Iterator[tuple[str, Any]]:
        with open_hdf5(self.path) as file:
            for path, entries in groupby(self._index, key=attrgetter("path")):
                group = Group(file, path)
                read = cache(group.read)  # once for all entries of the group
                yield from ((entry.name, (entry, group, read)) for entry in entries)

    def _open(self, name: str, raw: Any) -> AbstractContextManager[Container]:
        frames, group, read = raw
        if frames.error:
            raise frames.error
        return nullcontext(_Rows(frames, group, read))

    def _molecule(
        self, name: str, entry: Any, charge: int | None, coordinates: Callable[[], np.ndarray]
    ) -> tuple[Molecule, str]:
        smiles = _smiles(entry)
        molecule = self._of_bonds(entry.frames, Chem.GetFormalCharge(smiles) if smiles else 0)
        if smiles and _flat(smiles) != (of_bonds := _flat(Chem.MolFromSmiles(molecule.smiles))):
            raise RecordError(
                "bonds differ from SMILES",
                f"{name}: {len(entry.frames.rows)} conformers have the bonds of {of_bonds}, "
                f"the file says {_flat(smiles)}",
            )
        return molecule, connectivity_key(molecule)

    def _of_labels(self, entry: Container) -> list[str]:
        return [name for name in entry.names() if name.startswith(self.method)]  # other methods have theirs

    @staticmethod
    def _of_bonds(entry: _Frames, charge: int) -> Molecule:
        try:
            return from_bonds(entry.name, entry.numbers, entry.bonds, charge)
        except RecordError as error:
            raise RecordError(error.reason, f"{error} ({len(entry.rows)} conformers)") from error


def _bare(method: str) -> str:
    return method.replace("(", "").replace(")", "")


def _values(name: str, group: h5py.Group, key: str) -> np.ndarray:
    """The numbers of a data set."""
    values = np.asarray(group[key][()])  # HDF5's null gives no array
    if values.dtype.kind not in "iuf":
        raise RecordError("not numbers", f"{name}/{key}: expected numbers, got {values.dtype}")
    return values


def _numbers(name: str, group: h5py.Group) -> np.ndarray:
    """Atomic numbers, shape `(A,)` or `(K, A)`, from numbers or element symbols."""
    for key in ("atomic_numbers", "species"):
        if isinstance(group.get(key), h5py.Dataset):
            values = np.asarray(group[key][()])
            if values.dtype.kind in "iufb" and values.ndim in (1, 2):
                return whole(name, key, values)
            if values.ndim != 1:
                raise RecordError("shapes disagree", f"{name}: {key} have shape {values.shape}, expected (A,)")
            table = Chem.GetPeriodicTable()
            try:
                return np.array([table.GetAtomicNumber(text(v).strip()) for v in values], dtype=np.int64)
            except RuntimeError as error:
                symbols = " ".join(text(v) for v in values)
                raise RecordError("unknown element", f"{name}: {key} are {symbols}") from error
    raise RecordError("no atomic_numbers", f"{name}: data set 'atomic_numbers' or 'species' is missing")


def _smiles(entry: Container) -> Chem.Mol | None:
    """The molecule that the group names, in one text or letter by letter, or None."""
    letters = entry.read("smiles")
    return None if letters is None else Chem.MolFromSmiles("".join(text(c) for c in np.atleast_1d(letters)))


def _flat(mol: Chem.Mol) -> str:
    """SMILES without hydrogens, stereo and numbers."""
    mol = Chem.Mol(mol)
    for atom in mol.GetAtoms():
        atom.SetAtomMapNum(0)
    return Chem.MolToSmiles(Chem.RemoveHs(mol), isomericSmiles=False)
