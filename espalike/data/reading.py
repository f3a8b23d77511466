"""Reading the files of a store, each checked before anything relies on it: the manifest, and the shards."""

from __future__ import annotations

import json
import mmap
from collections.abc import Callable, Mapping, Set
from pathlib import Path
from typing import Any

import pyarrow as pa

from espalike.data.schema import FORMAT, SCHEMA, UNITS, check_schema
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
    """Compare the counts, splits, sources and levels of a manifest with the rows of its store.

    Molecules are not compared where the manifest has no checksum: it may be of a version that counted by another rule.

    Raises:
        StoreError: when they differ.
    """
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
