"""Reader of tables: parquet, Arrow IPC (file, stream, feather), one file or a folder of them.

A row holds one or several conformers: `coords` has 3·A numbers per conformer (flat, or nested lists), `energy` one
number or a list, `forces` (−dE/dx) as `coords`. Rows of the same molecule and level are one entry, wherever they stand;
where they stand apart, all rows are copied to the disk in the order of entries. Units stand in the metadata of the
fields, `unit`, or are given. The tables of smee and descent, `smiles`, `coords`, `energy`, `forces` [Å, kcal/mol,
kcal/mol/Å], state none: `reader=descent` gives them. Where a column holds +dE/dx, say `columns: {gradient: forces}`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from espalike.chem.conformers import Conformers
from espalike.data.readers.base import Reader, ReaderError, Units, first_finite, like_forces, parse_units, some_finite
from espalike.data.readers.gather import Runs, gathered
from espalike.data.readers.structure import is_mapped, mapped, molecule_of
from espalike.data.schema import Record, RecordError, whole

COLUMNS = {
    "smiles": "smiles",
    "coords": "coords",
    "energy": "energy",
    "forces": "forces",
    "gradient": "gradient",
    "dipole": "dipole",
    "numbers": "atomic_numbers",
    "charge": "charge",
    "id": "id",
    "level": "level",
    "split": "split",
}
"""What columns are called; all but the first three may be missing."""
_NEEDED = ("smiles", "coords", "energy")
_QUANTITY = {"coords": "coords", "energy": "energies", "forces": "forces", "gradient": "forces", "dipole": "dipoles"}
_SUFFIXES = {".parquet", ".pq", ".arrow", ".feather", ".ipc"}
_ROWS = 1024
"""Rows of a parquet file in memory at a time, besides those of the entry."""


class TableReader(Reader):
    """The rows of one molecule are an entry; one entry is in memory at a time, or a part of the table (`gather`).

    Rows are of the same entry when their SMILES, and `id` and `level` where these columns are there, are equal. Where
    each row has an `id` of its own, it names conformers: the first one of an entry names the entry. A first pass over
    these columns finds the entries.

    Args:
        path: the file, or a folder of files, read in the order of their names.
        source: name of the data source in tables; None = the file's or folder's name.
        level: level of theory; None = the column `level`.
        columns: names of columns that differ from `COLUMNS`; None = not to be read. SMILES are mapped, map number i+1
            being row i of `coords`; unmapped ones need the column of atomic numbers.
        units: units where fields do not say them, `coords angstrom; energies kcal/mol; forces kcal/mol/angstrom`.
        resolution: energies that are stored in single precision more coarsely than this [kcal/mol] are refused.

    Raises:
        ReaderError: when there is no file, no table, a column or the level is missing, or units contradict.
    """

    def __init__(
        self,
        path: str | Path,
        source: str | None = None,
        level: str | None = None,
        columns: Mapping[str, str | None] | None = None,
        units: str | None = None,
        resolution: float = 0.05,
    ):
        super().__init__(path, source)
        if unknown := set(columns or ()) - set(COLUMNS):
            raise ReaderError(f"{path}: reader.columns names {', '.join(sorted(unknown))}; known: {', '.join(COLUMNS)}")
        self.resolution = resolution
        self.level = level
        self._paths = self.files()
        if not self._paths:
            raise ReaderError(f"{self.path}: nothing in it; expected files {', '.join(sorted(_SUFFIXES))}")
        self.columns, stated = self._stated(self._paths[0], columns or {})
        for other in self._paths[1:]:
            if self._stated(other, columns or {}) != (self.columns, stated):
                raise ReaderError(f"{other}: columns or units differ from those of {self._paths[0].name}")
        if not level and "level" not in self.columns:
            raise ReaderError(f"{self.path}: nothing says the level of theory; give reader.level")
        self._units = Units(self.path, stated, units)

    def _stated(self, path: Path, given: Mapping[str, str | None]) -> tuple[dict[str, str], dict[str, str]]:
        """Names of the columns by what they hold, and the units that they state."""
        with _opened(path) as (schema, _):
            names = {**COLUMNS, **given}
            if given.get("gradient") and "forces" not in given:
                del names["forces"]
            columns = {what: name for what, name in names.items() if name is not None and name in schema.names}
            for what in (*_NEEDED, *given):
                if what not in columns and (names[what] or what in _NEEDED):
                    raise ReaderError(
                        f"{path}: column {names[what]!r} is missing; columns found: {', '.join(schema.names)}; "
                        f"give its name, 'reader.columns={{{what}: NAME}}'"
                    )
            if "forces" in columns and "gradient" in columns:
                raise ReaderError(f"{path}: both forces and gradients; say reader.columns={{gradient: null}}")
            if not {"forces", "gradient"} & {*columns, *given}:
                _refuse_unread_forces(path, schema)
            units = {}
            for what, quantity in _QUANTITY.items():
                metadata = (what in columns and schema.field(columns[what]).metadata) or {}
                if unit := metadata.get(b"unit", metadata.get(b"units", b"")).decode():
                    units[quantity] = "".join(parse_units(f"{quantity} {unit}").values())
            return columns, units

    def files(self) -> list[Path]:
        """The tables, sorted by name."""
        if not self.path.is_dir():
            return [self.path]
        return sorted(p for p in self.path.rglob("*") if p.is_file() and p.suffix.lower() in _SUFFIXES)

    @property
    def manifest(self) -> dict:
        """File, and the level where it is one for all."""
        return {"file": self.path.name, **({"level": self.level} if self.level else {})}

    def __len__(self) -> int:
        return len(self._index[0].first)

    def _batches(self, names: list[str]) -> Iterator[pa.RecordBatch]:
        for path in self._paths:
            with _opened(path) as (_, batches):
                for batch in batches(names):
                    batch.validate(full=True)  # Arrow trusts what it reads, and damaged offsets would end the process
                    yield batch

    @cached_property
    def _index(self) -> tuple[Runs, dict[int, int]]:
        """The entries' rows; and for entries with a name again, by their first rows, the row that had it."""
        if self.level and "level" in self.columns:
            self._refuse_several_levels()
        runs, repeated = self._runs_by(("smiles", "id", "level"))
        if "id" not in self.columns or repeated or len(runs.first) < runs.starts[-1]:
            return runs, repeated
        return self._runs_by(("smiles", "level"))  # each row has an identifier of its own

    def _refuse_several_levels(self) -> None:
        """Refuse a table whose column of levels has several, which the option would make one."""
        column = self.columns["level"]
        levels = sorted({str(v) for b in self._batches([column]) for v in b.column(column).unique().to_pylist()})
        if len(levels) > 1:
            raise ReaderError(
                f"{self.path}: column {column!r} has {len(levels)} levels of theory, {', '.join(levels[:4])}, which "
                f"reader.level={self.level} would mix; leave it out, or say 'reader.columns={{level: null}}'"
            )

    def _runs_by(self, what: Iterable[str]) -> tuple[Runs, dict[int, int]]:
        """As `_index`, for rows that are of one entry where these columns are equal."""
        keys = [self.columns[name] for name in what if name in self.columns]
        starts: list[int] = []
        entries: list[int] = []
        first: list[int] = []
        known: dict[bytes, int] = {}
        seen: dict[str, int] = {}
        repeated: dict[int, int] = {}
        rows = 0
        for batch in self._batches(keys):
            columns = [pc.fill_null(pc.cast(batch.column(key), pa.string()), "") for key in keys]
            new = np.zeros(len(batch), dtype=bool)
            new[:1] = True
            for column in columns:
                new[1:] |= pc.not_equal(column[1:], column[:-1]).to_numpy(zero_copy_only=False)
            for row in np.flatnonzero(new).tolist():
                key = blake2b(repr([column[row].as_py() for column in columns]).encode(), digest_size=16).digest()
                entry = known.setdefault(key, len(first))
                if entry == len(first):
                    first.append(rows + row)
                    name = self._name(batch, row, rows + row) if self.columns.get("id") in keys else ""
                    if name and seen.setdefault(name, rows + row) != rows + row:
                        repeated[rows + row] = seen[name]
                if not entries or entry != entries[-1]:
                    starts.append(rows + row)
                    entries.append(entry)
            rows += len(batch)
        if not starts:
            raise ReaderError(f"{self.path}: no rows in it")
        return Runs(np.array([*starts, rows]), np.array(entries), np.array(first)), repeated

    def _name(self, batch: pa.RecordBatch | pa.Table, row: int, start: int) -> str:
        """Identifier of the entry that begins with a row of a batch, row `start` of all."""
        values = {
            what: batch.column(self.columns[what])[row].as_py() for what in ("id", "level") if what in self.columns
        }
        return "/".join(str(v) for v in values.values()) if values.get("id") else f"{self.path.stem}-{start}"

    def _raw(self) -> Iterator[tuple[str, Any]]:
        runs, repeated = self._index
        batches = self._batches(list(self.columns.values()))
        tables = gathered(batches, runs) if runs.scattered else _consecutive(batches, runs.starts)
        for start, table in zip(runs.first.tolist(), tables, strict=True):
            name, before = self._name(table, 0, start), repeated.get(start)
            yield name if before is None else f"{name}, row {start}", (before, table)

    def _one(self, name: str, table: pa.Table, what: str) -> Any:
        """The value that all rows have in a column, or None where there is no such column."""
        if what not in self.columns:
            return None
        values = table[self.columns[what]].unique().to_pylist()
        if len(values) > 1:
            raise RecordError(f"several values of {what}", f"{name}: {what} is {values[:3]}; expected one for all rows")
        return values[0]

    def _array(self, name: str, table: pa.Table, what: str, shape: tuple[int, ...], each: np.ndarray) -> np.ndarray:
        """A column in internal units, float64; `each` are the numbers that every row must have."""
        column = table[self.columns[what]]
        values, counts = _flat(column)
        if _is_list(column.type) and column.null_count:  # a geometry without them is left out, as one with NaN
            values, counts = _filled(values, counts, column.is_null().to_numpy(), each)
        wrong = np.flatnonzero(counts != each)
        if len(wrong):
            row = int(wrong[0])
            raise RecordError(
                "shapes disagree",
                f"{name}: {what} of its row {row + 1} are {counts[row]} numbers, expected {each[row]}",
            )
        internal = self._units.internal(name, what, values, quantity=_QUANTITY[what])
        if what == "energy":
            self._check_resolution(name, values, internal)
        return internal.reshape(shape)

    def _check_resolution(self, name: str, values: np.ndarray, internal: np.ndarray) -> None:
        if values.dtype.kind != "f" or values.dtype == np.float64 or not np.isfinite(internal).all():
            return
        largest = np.abs(values).max()
        step = float(np.spacing(largest)) * float(np.abs(internal).max()) / max(float(largest), 1e-30)
        if step > self.resolution:
            raise RecordError(
                "energies too coarse",
                f"{name}: energies are {values.dtype}, steps of {step:.2g} kcal/mol at this size; store them in double "
                f"precision or relative to their mean, or raise reader.resolution={self.resolution}",
            )

    def _numbers(self, name: str, table: pa.Table) -> np.ndarray | None:
        """Atomic numbers, shape `(A,)`, the same in all rows, or None where there is no such column."""
        if "numbers" not in self.columns:
            return None
        values, counts = _flat(table[self.columns["numbers"]])
        if (counts != counts[0]).any() or (values.reshape(len(counts), -1) != values[: counts[0]]).any():
            raise RecordError("several orders of atoms", f"{name}: atomic numbers differ between its rows")
        return whole(name, "atomic numbers", values[: counts[0]])

    def _record(self, name: str, raw: Any) -> Record:
        before, table = raw
        if before is not None:
            raise RecordError(
                "identifier repeated",
                f"{name}: row {before} has the same name and another SMILES; rename one, or say 'reader.columns={{id: "
                "null}' if the column numbers conformers",
            )
        smiles, charge = self._one(name, table, "smiles") or "", self._one(name, table, "charge")
        numbers, molecule, key = self._numbers(name, table), None, ""
        if numbers is None or is_mapped(smiles):
            molecule, key = mapped(name, smiles, numbers, charge)
            numbers = molecule.numbers
        _, conformers = _flat(table[self.columns["energy"]])
        shape = (int(conformers.sum()), len(numbers), 3)
        arrays = {
            what: self._array(name, table, what, form, size * conformers)
            for what, form, size in (
                ("energy", shape[:1], 1),
                ("coords", shape, 3 * len(numbers)),
                ("forces", shape, 3 * len(numbers)),
                ("gradient", shape, 3 * len(numbers)),
                ("dipole", (-1, 3), 3),
            )
            if what in self.columns
        }
        xyz = some_finite(name, "coordinates", arrays["coords"]) if len(arrays["coords"]) else arrays["coords"]
        energy = some_finite(name, "energies", arrays["energy"])
        if not len(xyz):
            raise RecordError("empty", f"{name}: no conformers")
        if molecule is None:
            molecule = molecule_of(name, numbers, xyz[first_finite(xyz)], smiles, charge)
        forces = -arrays["gradient"] if "gradient" in arrays else arrays.get("forces")
        level = self.level or self._one(name, table, "level") or ""
        return Record(
            id=name,
            molecule=molecule,
            conformers=Conformers(xyz, energy, forces, level, self.source, dipole=arrays.get("dipole")),
            split=self._one(name, table, "split") or "",
            key=key,
        )


def _refuse_unread_forces(path: Path, schema: pa.Schema) -> None:
    """Refuse lists of numbers whose name speaks of forces: the table's forces would be lost.

    Raises:
        ReaderError: naming them.
    """
    if found := like_forces(field.name for field in schema if _is_list(field.type)):
        raise ReaderError(
            f"{path}: no column 'forces' or 'gradient', but {', '.join(found)}; say 'reader.columns={{forces: "
            f"{found[0]}}}' if it holds -dE/dx, gradient if it holds +dE/dx, or 'reader.columns={{forces: null}}'"
        )


def _is_list(kind: pa.DataType) -> bool:
    return pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)


def _consecutive(batches: Iterable[pa.RecordBatch], starts: np.ndarray) -> Iterator[pa.Table]:
    """The rows from each start to the next."""
    number, at = 0, 0
    parts: list[pa.RecordBatch] = []
    for batch in batches:
        taken = 0
        while taken < len(batch):
            n = min(int(starts[number + 1]) - at, len(batch) - taken)
            parts.append(batch.slice(taken, n))
            at, taken = at + n, taken + n
            if at == starts[number + 1]:
                yield pa.Table.from_batches(parts)
                number, parts = number + 1, []


def _flat(column: pa.ChunkedArray) -> tuple[np.ndarray, np.ndarray]:
    """All numbers of a column of numbers or of lists of them, nested or not, and how many each row has."""
    array = column.combine_chunks()
    bounds = np.arange(len(array) + 1)
    while True:
        if isinstance(array.type, pa.BaseExtensionType):
            array = array.storage
        if not _is_list(array.type):
            break
        lengths = pc.fill_null(pc.list_value_length(array), 0).to_numpy(zero_copy_only=False)
        bounds = np.concatenate([[0], np.cumsum(lengths)])[bounds]
        array = array.flatten()
    return array.to_numpy(zero_copy_only=False), np.diff(bounds)


def _filled(
    values: np.ndarray, counts: np.ndarray, missing: np.ndarray, each: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The numbers of a column and how many each row has, with NaN in rows that have none."""
    full = np.where(missing, each, counts)
    filled = np.full(int(full.sum()), np.nan)
    filled[np.repeat(~missing, full)] = values
    return filled, full


@contextmanager
def _opened(path: Path) -> Iterator[tuple[pa.Schema, Callable[[list[str]], Iterator[pa.RecordBatch]]]]:
    """Schema of a table, and its batches with some of the columns; parquet or Arrow by its first bytes.

    Raises:
        ReaderError: when it is cut short, damaged or something else.
    """
    with path.open("rb") as file:
        start = file.read(6)
    try:
        if start[:4] == b"PAR1":
            with pq.ParquetFile(path) as parquet:
                yield parquet.schema_arrow, lambda names: parquet.iter_batches(_ROWS, columns=names)
        elif start == b"ARROW1":
            with pa.memory_map(str(path)) as source, pa.ipc.open_file(source) as table:
                every = range(table.num_record_batches)
                yield table.schema, lambda names: (table.get_batch(i).select(names) for i in every)
        else:
            with pa.memory_map(str(path)) as source, pa.ipc.open_stream(source) as stream:
                yield stream.schema, lambda names: (batch.select(names) for batch in stream)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        what = "is empty" if not start else "is cut short, damaged, or neither parquet nor Arrow"
        if path.suffix.lower() in (".csv", ".tsv", ".txt", ".dat"):
            raise ReaderError(f"{path}: a table of text; write it as parquet, with lists of numbers") from error
        raise ReaderError(f"{path}: it {what}; get the file again ({str(error).splitlines()[0]})") from error
