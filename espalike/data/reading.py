"""Reading the files of a store, each checked before anything relies on it: the manifest, and the shards."""

from __future__ import annotations

import json
import mmap
from collections.abc import Callable, Mapping, Set
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from espalike.data.schema import FORMAT, SCHEMA, SPLITS, UNITS, check_schema
from espalike.data.shards import MANIFEST, StoreError, data_files, file_checksum, manifest_checksum, summarise

_TYPES: dict[str, type | tuple[type, ...]] = {
    "data": (str, list), "hash": str, "entries": int, "conformers": int, "splits": dict, "sources": dict,
    "levels": list, "units": dict,
}  # fmt: skip
"""What a manifest needs in order to be opened."""


def _are_verdicts(value: object) -> bool:
    """Whether a value is a list of what audits found, see `espalike.data.audit.Verdict`."""
    keys = ("audit", "where", "outcome", "message")
    return isinstance(value, list) and all(
        isinstance(each, dict) and all(isinstance(each.get(key), str) for key in keys) for each in value
    )


_OPTIONAL: dict[str, Callable[[Any], bool]] = {
    "checksums": lambda value: isinstance(value, dict),
    "rejected": lambda value: isinstance(value, dict) and all(type(count) is int for count in value.values()),
    "audits": _are_verdicts,
}
"""Entries that a manifest may lack, and whether a value can be one."""


def read_manifest(root: Path) -> dict:
    """The manifest of a store, checked.

    Raises:
        StoreError: when there is none, it is damaged, or of another format.
    """
    try:
        manifest = json.loads((root / MANIFEST).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise StoreError(
            f"{root}: not a store, there is no {MANIFEST}; make one with `espalike ingest` (docs/data.md says where "
            "the data of the recipes come from)"
        ) from error
    except (ValueError, RecursionError, OSError) as error:  # not JSON, not UTF-8, nested too deeply, or not a file
        raise StoreError(f"{root}: not a store, {MANIFEST} cannot be read ({error})") from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        given = manifest.get("format") if isinstance(manifest, dict) else None
        raise StoreError(f"{root}: store format {given!r}, this version reads {FORMAT}; ingest the data again")
    missing = {name for name, kind in _TYPES.items() if not isinstance(manifest.get(name), kind)}
    missing |= {name for name, fits in _OPTIONAL.items() if name in manifest and not fits(manifest[name])}
    names = [] if "data" in missing else data_files(manifest)
    if missing or not names or any(not isinstance(name, str) or Path(name).name != name for name in names):
        raise StoreError(f"{root}: {MANIFEST} is damaged (no {', '.join(sorted(missing)) or 'valid file name'})")
    if {"checksum", "checksums"} & manifest.keys() and manifest.get("checksum") != manifest_checksum(manifest):
        raise StoreError(
            f"{root}: {MANIFEST} does not have the checksum that it states: it is damaged or was changed; copy the "
            "store again, or ingest the data again"
        )
    units = manifest["units"]
    if any(UNITS.get(column) != unit for column, unit in units.items()):
        raise StoreError(f"{root}: {MANIFEST} states units {units}, this version has {UNITS}; ingest the data again")
    return manifest


def check_file(path: Path, expected: str | None) -> None:
    """Compare a file of a store with its checksum in the manifest.

    Raises:
        StoreError: when it is missing or differs.
    """
    try:
        checksum = file_checksum(path)
    except FileNotFoundError as error:
        raise StoreError(f"{path}: {MANIFEST} lists this file, but it is missing; ingest the data again") from error
    except OSError as error:
        raise StoreError(f"{path}: cannot be read ({error})") from error
    if checksum != expected:
        raise StoreError(
            f"{path}: its SHA-256 is {checksum[:12]}, {MANIFEST} says {str(expected)[:12]}: the file is cut short, "
            "damaged or was changed; copy the store again, or ingest the data again"
        )


def check_summary(root: Path, manifest: Mapping, table: pa.Table) -> None:
    """Compare the counts, splits, sources and levels of a manifest with the rows of its store, which are different.

    Molecules are not compared where the manifest has no checksum: it may be of a version that counted by another rule.

    Raises:
        StoreError: when they differ.
    """
    if (count := pc.count_distinct(table.column("id")).as_py()) < table.num_rows:
        raise StoreError(f"{root}: {table.num_rows} entries have {count} identifiers; ingest the data again")
    ignored = {"units"} if "checksum" in manifest else {"units", "molecules", "connectivities"}
    for name, value in summarise([table]).items():
        stated = manifest.get(name)
        if name not in ignored and _without(stated, ignored) != _without(value, ignored):
            raise StoreError(f"{root}: {MANIFEST} says {name} {stated}, the content has {value}; ingest the data again")


def _without(value: Any, names: Set[str]) -> Any:
    """Nested dicts without some names."""
    if not isinstance(value, Mapping):
        return value
    return {key: _without(item, names) for key, item in value.items() if key not in names}


def open_shard(path: Path) -> tuple[pa.Table, mmap.mmap]:
    """The rows of a shard, and the memory map in which they lie.

    Raises:
        StoreError: when it is missing or damaged, or has other columns or units.
    """
    try:
        with path.open("rb") as file:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        table = pa.ipc.open_file(pa.py_buffer(mapped)).read_all()
        table.validate(full=True)  # Arrow trusts what it reads, and damaged offsets would end the process
    except FileNotFoundError as error:
        raise StoreError(f"{path}: {MANIFEST} lists this file, but it is missing; ingest the data again") from error
    except (OSError, ValueError, pa.ArrowException) as error:
        raise StoreError(f"{path}: cannot be read, it may be cut short ({error}); ingest it again") from error
    if twice := next((name for name in table.column_names if table.column_names.count(name) > 1), ""):
        raise StoreError(f"{path}: has several columns {twice!r}; ingest the data again")
    try:
        check_schema(table.schema, str(path))
    except UnicodeDecodeError as error:
        raise StoreError(f"{path}: its schema is damaged ({error}); ingest the data again") from error
    except ValueError as error:
        raise StoreError(str(error)) from error
    for field in SCHEMA:
        column = table.column(field.name) if field.name in table.column_names else None
        if column is None:
            continue
        missing = column.null_count and not field.nullable
        if missing or (pa.types.is_list(field.type) and any(chunk.values.null_count for chunk in column.chunks)):
            raise StoreError(f"{path}: column {field.name!r} lacks values; the file is damaged, ingest the data again")
    return table, mapped


def check_rows(path: Path, table: pa.Table) -> None:
    """Check that the rows of a shard are records: lists of the lengths that the schema states, and molecules.

    Raises:
        StoreError: naming the shard, the entry and the column.
    """
    lengths = {name: _lengths(table, name) for name in SCHEMA.names if pa.types.is_list(SCHEMA.field(name).type)}
    sizes = {"A": lengths["numbers"], "B": lengths["orders"], "K": lengths["energy"], "G": lengths["esp_values"]}

    def refuse(wrong: np.ndarray, name: str, text: str) -> None:
        if wrong.any():
            row = int(np.flatnonzero(wrong)[0])
            values = f"its {lengths[name][row]} {name} {text}"
            raise StoreError(f"{path}: entry {table.column('id')[row].as_py()!r}: {values}; ingest the data again")

    for name, length in lengths.items():
        shape = (SCHEMA.field(name).metadata or {})[b"shape"].decode().split(",")
        expected = np.prod([sizes[part] if part in sizes else np.full(len(table), int(part)) for part in shape], axis=0)
        refuse((length >= 0) & (length != expected), name, f"do not fit the shape ({', '.join(shape)})")
    atoms, bonds = lengths["numbers"], lengths["orders"]
    refuse(lengths["energy"] < 1, "energy", "are none")
    refuse(atoms < 1, "numbers", "are none")
    numbers, orders, ends = (pc.list_flatten(table.column(name)).to_numpy() for name in ("numbers", "orders", "bonds"))
    refuse(_any(~((numbers > 0) & (numbers <= 118)), atoms), "numbers", "are no atomic numbers")
    refuse(_any(~((orders > 0) & (orders <= 3)), bonds), "orders", "are not 1, 2 and 3")
    refuse(_any((ends < 0) | (ends >= np.repeat(atoms, 2 * bonds)), 2 * bonds), "bonds", "name atoms that it lacks")
    if "esp_count" in table.column_names:
        counts, known = pc.list_flatten(table.column("esp_count")).to_numpy(), np.maximum(lengths["esp_count"], 0)
        total = np.bincount(np.repeat(np.arange(len(table)), known), counts, len(table))
        refuse(
            _any(counts < 0, known) | ((known > 0) & (total != sizes["G"])), "esp_count", "are not those of its points"
        )
    if odd := sorted(set(pc.unique(table.column("split")).to_pylist()).difference(("", *SPLITS))):
        raise StoreError(f"{path}: split {odd[0]!r}; expected {', '.join(SPLITS)}, or none; ingest the data again")


def _lengths(table: pa.Table, name: str) -> np.ndarray:
    """Length of each list of a column, -1 where there is none."""
    if name not in table.column_names:
        return np.full(len(table), -1)
    return pc.fill_null(pc.list_value_length(table.column(name)), -1).to_numpy().astype(np.int64)


def _any(wrong: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """For each list, whether anything is wrong with one of its values, which are side by side."""
    return np.bincount(np.repeat(np.arange(len(lengths)), lengths)[wrong], minlength=len(lengths)) > 0
