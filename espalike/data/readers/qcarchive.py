"""Reader of QCArchive's data: QCSchema JSON of versions 1 and 2, and data set views of qcportal (SQLite files).

Optimisations give a record with their trajectory, torsion drives one with the final geometries on the grid and the
driven torsion, and consecutive single points of the same molecule and level one record together. Geometries are in
bohr, energies in hartree, gradients dE/dx in hartree/bohr and dipoles in e·bohr; QCSchema has no other units.
"""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from rdkit import Chem, rdBase

from espalike.chem import connectivity_key
from espalike.chem.conformers import Conformers
from espalike.chem.molecule import Molecule
from espalike.data.readers.base import Reader, ReaderError, Units, first_finite, some_finite
from espalike.data.readers.distances import from_bonds
from espalike.data.readers.json_items import BrokenJsonError, items
from espalike.data.readers.qcschema import Point, Result, result_of
from espalike.data.readers.structure import SmilesOption, driven_torsion, molecule_of
from espalike.data.schema import Record, RecordError

FORMAT_UNITS = {"coords": "bohr", "energies": "hartree", "forces": "hartree/bohr", "dipoles": "e*bohr"}
_SUFFIXES = (".json", ".jsonl", ".json.gz", ".json.bz2", ".jsonl.gz", ".jsonl.bz2")
_SQLITE = b"SQLite format 3\0"
_FIELDS = frozenset(
    {
        "id", "schema_name", "schema_version", "molecule", "driver", "model", "keywords", "extras",
        "provenance", "properties", "wavefunction", "return_result", "stdout", "stderr", "native_files",
        "success", "error", "input_data", "protocols", "hash_index", "initial_molecule", "final_molecule",
        "trajectory", "trajectory_results", "trajectory_properties", "energies", "input_specification",
        "optimization_spec", "final_molecules", "final_energies", "optimization_history", "scan_properties",
        "scan_results",
    }
)  # fmt: skip
"""Fields of results: what begins with one of them is a result, not an object of named results."""


class QCArchiveReader(Reader):
    """One entry per computation; consecutive single points of the same molecule and level are one entry together.

    Args:
        path: a JSON file (also `.jsonl`, `.gz`, `.bz2`) with one result, a list of results, or an object of named
            results or lists of them; a data set view of qcportal; or a folder of such files.
        source: name of the data source in tables; None = the file's name.
        level: level of theory of all entries; None = the results' own.
        smiles: for results without a mapped SMILES: of the one molecule, or a CSV file with columns `name` and
            `smiles`. Where there is none either, bond orders are found from bonds or distances.
        trajectory: all geometries of an optimisation; false = the last one.
        specification: of a view's specifications, the one to read; None = all.
        units: may repeat the format's units; it cannot change them.

    Raises:
        ReaderError: when nothing is there, a file is of another format, or `units` contradicts the format.
    """

    def __init__(
        self,
        path: str | Path,
        source: str | None = None,
        level: str | None = None,
        smiles: str | Mapping[str, str] | None = None,
        trajectory: bool = True,
        specification: str | None = None,
        units: str | None = None,
    ):
        super().__init__(path, source)
        self.level = level
        self.smiles = SmilesOption(smiles)
        self.trajectory = trajectory
        self.specification = specification
        self._units = Units(self.path, FORMAT_UNITS, units)
        if not self.files():
            raise ReaderError(f"{self.path}: no file in it; expected JSON files or data set views")

    def files(self) -> list[Path]:
        """The JSON files and views that are read, in a fixed order."""
        if not self.path.is_dir():
            return [self.path]
        return sorted(p for p in self.path.rglob("*") if p.is_file() and (_is_json(p) or _is_view(p)))

    @cached_property
    def _groups(self) -> list[_Group]:
        """What each entry is made of; results that cannot be read are not counted, nor given by `_raw`."""
        groups: list[_Group] = []
        seen: dict[str, int] = {}
        last, current = None, None
        for title, item in self._items():
            fault = item if isinstance(item, RecordError) else None
            identity = item.identity if isinstance(item, Result) else None
            if fault and title and groups and title == groups[-1].name:
                groups[-1].faults.append(fault)
                continue
            if current and identity is not None and identity == last:  # broken ones between them are entries alone
                current.count += 1
                continue
            if not fault and title and groups and title == groups[-1].name and not groups[-1].count:
                last, current = identity, groups[-1]
                current.count = 1
                continue
            number = len(groups) + 1
            group = _Group(title or f"{self.path.stem.removesuffix('.json')}-{number}", 0 if fault else 1)
            if group.name in seen:
                group.error = RecordError(
                    "identifier repeated",
                    f"entries {seen[group.name]} and {number} have this name, are of other molecules or not "
                    "consecutive",
                )
            seen.setdefault(group.name, number)
            groups.append(group)
            if fault:
                group.faults.append(fault)
            else:
                last, current = identity, group
        if not groups:
            raise ReaderError(f"{self.path}: nothing in it; expected QCSchema results")
        if {"entries", "provenance"} <= seen.keys() or {"dataset", "dataset_name"} <= seen.keys():
            raise ReaderError(
                f"{self.path}: a file of openff-qcsubmit holds inputs or numbers of records, no results; write the "
                "records themselves, json.loads(record.to_qcschema_result().json()), or the data set by create_view()"
            )
        return groups

    def __len__(self) -> int:
        return len(self._groups)

    def _raw(self) -> Iterator[tuple[str, Any]]:
        results = (item for _, item in self._items() if isinstance(item, Result))
        for group in self._groups:
            yield group.name, (group, list(itertools.islice(results, group.count)))

    def _items(self) -> Iterator[tuple[str, Result | RecordError]]:
        for path in self.files():
            yield from self._of_view(path) if _is_view(path) else self._of_json(path)

    def _of_json(self, path: Path) -> Iterator[tuple[str, Result | RecordError]]:
        begun = False
        try:
            for key, value in items(path, _FIELDS):
                begun = True
                for result in value if isinstance(value, list) else [value]:
                    identifier = str(result.get("id") or "") if isinstance(result, dict) else ""
                    yield key or identifier, _checked(result)
        except (BrokenJsonError, EOFError, OSError, zlib.error) as error:
            message = f"{path.name} is cut short or damaged: {error}; get it again"
            if not begun and self.path == path:
                raise ReaderError(f"{path}: not QCSchema JSON, or {message}") from error
            yield f"{path.stem}, the rest", RecordError("cut short", message)

    def _of_view(self, path: Path) -> Iterator[tuple[str, Result | RecordError]]:
        from espalike.data.readers.qcview import view_items

        yield from view_items(path, self.specification)

    def _record(self, name: str, raw: Any) -> Record:
        group, results = raw
        try:
            if group.error or not results:
                raise group.error or group.faults[0]
            return self._joined(name, results, group.faults)
        except RecordError as error:
            raise RecordError(error.reason, f"{name}: {str(error).removeprefix(f'{name}: ')}") from error

    def _joined(self, name: str, results: list[Result], faults: list[RecordError]) -> Record:
        first = results[0]
        points = [point for result in results for point in result.points]
        if first.kind == "optimisation" and not self.trajectory:
            points = points[-1:]
        grid = first.grid if first.grid and all(len(angles) == 1 for angles in first.grid) else None
        points, without = _labelled(points)
        xyz = self._units.internal(name, "coords", np.stack([point.xyz for point in points]))
        some_finite(name, "coordinates", xyz)
        molecule = self._molecule(name, first, xyz[first_finite(xyz)])
        gradient = self._stacked(name, points, "forces", "gradient")
        dihedral = None
        if first.dihedrals:
            dihedral = driven_torsion(name, xyz, first.dihedrals, grid)
        conformers = Conformers(
            xyz=xyz,
            energy=some_finite(name, "energies", self._units.internal(name, "energies", [p.energy for p in points])),
            forces=None if gradient is None else -gradient,
            level=self.level or first.level,
            source=self.source,
            dipole=self._stacked(name, points, "dipoles", "dipole"),
        )
        key, left_out = connectivity_key(molecule), (*faults, *without)
        return Record(name, molecule, conformers, key=key, dihedral=dihedral, left_out=left_out)

    def _stacked(self, name: str, points: list[Point], quantity: str, what: str) -> np.ndarray | None:
        values = [getattr(point, what) for point in points]
        if all(value is None for value in values):
            return None
        if what == "dipole":
            values = [np.full(3, np.nan) if value is None else value for value in values]
        return self._units.internal(name, quantity, np.stack(values))

    def _molecule(self, name: str, result: Result, xyz: np.ndarray) -> Molecule:
        table = Chem.GetPeriodicTable()
        with rdBase.BlockLogs():
            try:
                numbers = np.array([table.GetAtomicNumber(symbol) for symbol in result.symbols])
            except RuntimeError as error:
                raise RecordError("element unknown", f"its atoms are {' '.join(result.symbols)[:80]}") from error
        smiles = result.smiles or self.smiles.of(name)
        if smiles or result.bonds is None:
            return molecule_of(name, numbers, xyz, smiles or None, result.charge)
        return from_bonds(name, numbers, np.array(result.bonds, dtype=np.int64).reshape(-1, 2), result.charge)


@dataclass
class _Group:
    """What an entry is made of.

    Attributes:
        name: of the entry.
        count: number of its results, one after the other among those that can be read.
        faults: of results that are called as it is and cannot be read.
        error: why it can make no record, or None.
    """

    name: str
    count: int
    faults: list[RecordError] = field(default_factory=list)
    error: RecordError | None = None


def _labelled(points: list[Point]) -> tuple[list[Point], list[RecordError]]:
    """The points that have energies, and gradients where most have one; and what is wrong with the others.

    Raises:
        RecordError: when no point has an energy, or most have no gradient and some have.
    """
    faults: list[RecordError] = []
    for what, name in (("energy", "no energy"), ("gradient", "gradient missing")):
        lacking = [k for k, point in enumerate(points) if getattr(point, what) is None]
        here = [
            RecordError(name, f"geometry {k + 1} of {len(points)} has no {what} in its properties") for k in lacking
        ]
        if what == "energy" and points and len(lacking) == len(points):
            raise here[0]
        if what == "gradient" and len(lacking) == len(points):
            continue
        if what == "gradient" and 2 * len(lacking) > len(points):
            raise RecordError(name, f"{len(lacking)} of {len(points)} geometries have no gradient, the others have")
        faults += here
        points = [point for point in points if getattr(point, what) is not None]
    return points, faults


def _checked(data: Any) -> Result | RecordError:
    try:
        if not isinstance(data, dict):
            raise RecordError("no QCSchema result", f"expected a QCSchema result, found a {type(data).__name__}")
        return result_of(data)
    except RecordError as error:
        return error


def _is_json(path: Path) -> bool:
    return path.name.lower().endswith(_SUFFIXES)


def _is_view(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(_SQLITE)) == _SQLITE
