"""Writing a store: shards of rows in a work folder, then one step that replaces the old store.

The work folder lies in the store's directory. `commit` first writes the plan of the new store to it, then moves the
shards and last the manifest; `publish` can be repeated until it completes, so a process killed anywhere in between
leaves the old store, or one that the next run completes.

A shard's name contains the hash of its rows: equal names mean equal content. The manifest has the SHA-256 of every
file and of its own computed entries, so a changed bit is noticed when the store is opened.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from espalike import files
from espalike.data.schema import FORMAT, SCHEMA, UNITS, Record, content_hash, row_digest, to_row

MANIFEST = "manifest.json"
SHARD = 128
"""Default size of a shard [MB]; a killed ingest repeats at most this much."""

_CHUNK = 16 * 2**20
"""Bytes of arrays gathered in memory before they are written."""
_PLAN = "commit.json"
_COMPUTED = (
    "format", "molecules", "connectivities", "entries", "conformers", "splits", "sources", "levels", "units", "hash",
    "data", "checksums", "rejections",
)  # fmt: skip
"""Entries of a manifest that its own checksum covers; people may edit the others, such as the licence."""


class StoreError(ValueError):
    """A store that cannot be read or written."""


def file_checksum(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def manifest_checksum(manifest: Mapping) -> str:
    """SHA-256 of a manifest's computed entries."""
    covered = {name: manifest[name] for name in _COMPUTED if name in manifest}
    return hashlib.sha256(json.dumps(covered, sort_keys=True).encode()).hexdigest()


def shard_path(work: Path, number: int) -> Path:
    """Path of a finished shard in the work folder."""
    return work / f"shard-{number:05d}.arrow"


class ShardWriter:
    """Writes rows to one Arrow file; `close` makes it last.

    Args:
        path: a temporary name.

    Attributes:
        digests: digests of the rows so far.
        size: bytes of arrays so far; it depends on the records alone.
    """

    def __init__(self, path: Path):
        self.path = path
        self.digests: list[bytes] = []
        self.size = 0
        self._rows: list[dict] = []
        self._held = 0
        self._sink = pa.OSFile(str(path), "wb")
        self._writer = pa.ipc.new_file(self._sink, SCHEMA)

    def add(self, record: Record) -> None:
        """Add a record; it has passed `schema.check` and has its key."""
        row = to_row(record)
        self.digests.append(row_digest(row))
        self._rows.append(row)
        size = sum(value.nbytes for value in row.values() if isinstance(value, np.ndarray))
        self.size += size
        self._held += size
        if self._held > _CHUNK:
            self._flush()

    def _flush(self) -> None:
        if self._rows:
            columns = [_column(f.type, [row[f.name] for row in self._rows]) for f in SCHEMA]
            with files.named(self.path):
                self._writer.write_batch(pa.record_batch(columns, schema=SCHEMA))
        self._rows, self._held = [], 0

    def close(self) -> None:
        """Write the rows in memory, and wait until they are on the disk."""
        self._flush()
        with files.named(self.path):
            self._writer.close()
            self._sink.close()
        file = os.open(self.path, os.O_RDONLY)
        try:
            os.fsync(file)
        finally:
            os.close(file)


def _column(kind: pa.DataType, values: list) -> pa.Array:
    if not pa.types.is_list(kind):
        return pa.array(values, type=kind)
    given = [value for value in values if value is not None]
    if not given:
        return pa.nulls(len(values), kind)
    offsets = np.cumsum([0, *(0 if value is None else len(value) for value in values)]).astype(np.int32)
    mask = pa.array([value is None for value in values]) if len(given) < len(values) else None
    flat = pa.array(np.concatenate(given), type=kind.value_type)
    return pa.ListArray.from_arrays(pa.array(offsets), flat, type=kind, mask=mask)


def map_shard(path: Path) -> pa.Table:
    """A finished shard, memory-mapped."""
    return pa.ipc.open_file(pa.memory_map(str(path), "r")).read_all()


def _net_charges(table: pa.Table) -> list[int]:
    """Net charge of each row."""
    charges: list[int] = []
    for chunk in table.column("charges").chunks:
        total = np.concatenate([[0], np.cumsum(chunk.values.to_numpy(), dtype=np.int64)])
        offsets = chunk.offsets.to_numpy()
        charges += (total[offsets[1:]] - total[offsets[:-1]]).tolist()
    return charges


def summarise(tables: Sequence[pa.Table]) -> dict:
    """Molecules, connectivities, entries and conformers in all, by split and by source, and the levels of theory.

    The rule for counts: `connectivities` are distinct connectivity keys (first InChIKey block), the unit of splits.
    `molecules` are distinct pairs of connectivity key and net charge: an acid and its anion are two molecules of one
    connectivity; stereoisomers, and the same molecule from two sources, are one molecule.
    """
    keys: dict[str, set[tuple[str, int]]] = defaultdict(set)
    counts: dict[str, Counter] = defaultdict(Counter)
    sources: dict[str, dict] = {}
    for table in tables:
        columns = [table.column(name).to_pylist() for name in ("key", "split", "source", "level")]
        sizes = pc.list_value_length(table.column("energy")).to_pylist()
        for key, split, name, level, charge, n in zip(*columns, _net_charges(table), sizes, strict=True):
            for where in ("all", split or "none"):
                counts[where].update(entries=1, conformers=n)
                keys[where].add((key, charge))
            source = sources.setdefault(name, {"entries": 0, "conformers": 0, "levels": []})
            source["entries"] += 1
            source["conformers"] += n
            if level not in source["levels"]:
                source["levels"] = sorted([*source["levels"], level])
    totals = {
        where: {
            "molecules": len(keys[where]),
            "connectivities": len({key for key, _ in keys[where]}),
            **counts[where],
        }
        for where in counts
    }
    return {
        **totals["all"],
        "splits": {split: totals[split] for split in ("train", "val", "test", "none") if split in totals},
        "sources": {name: sources[name] for name in sorted(sources)},
        "levels": sorted({level for source in sources.values() for level in source["levels"]}),
        "units": UNITS,
    }


def check_manifest(path: str | os.PathLike, manifest: Mapping) -> None:
    """Check that the manifest gives the licence, the origin and the command.

    Raises:
        StoreError: listing the missing entries.
    """
    missing = [key for key in ("licence", "origin", "command") if not manifest.get(key)]
    if missing:
        raise StoreError(
            f"{path}: a store states its {' and '.join(missing)}: give {' '.join(f'{key}=…' for key in missing)}"
        )


def commit(
    root: Path,
    work: Path,
    digests: Sequence[Sequence[bytes]],
    manifest: Mapping,
    rejected: Mapping[str, int],
    rejections: bytes = b"",
) -> None:
    """Make the shards in `work` the store at `root`.

    Args:
        root: directory of the store.
        work: folder in it, which holds the shards `shard_path(work, i)`; it is removed.
        digests: row digests of each shard.
        manifest: entries of the manifest other than the counts.
        rejected: numbers of rejected entries and conformers, by reason.
        rejections: JSON lines of the rejections, kept beside the shards.
    """
    hashes = [content_hash(list(part)) for part in digests]
    names = [f"entries-{digest[:12]}-{i:05d}.arrow" for i, digest in enumerate(hashes)]
    if len(names) == 1:
        names = [f"entries-{hashes[0][:12]}.arrow"]
    counted = summarise([map_shard(shard_path(work, i)) for i in range(len(names))])
    plan = {
        "format": FORMAT,
        "espalike": version("espalike"),
        **manifest,
        **counted,
        "rejected": dict(sorted(rejected.items())),
        "hash": content_hash([digest for part in digests for digest in part]),
        "data": names[0] if len(names) == 1 else names,
    }
    checksums = {name: file_checksum(shard_path(work, i)) for i, name in enumerate(names)}
    if rejections:
        plan["rejections"] = f"rejected-{plan['hash'][:12]}.jsonl"
        files.write(work / "rejected.jsonl", rejections, sync=True)
        checksums[plan["rejections"]] = file_checksum(work / "rejected.jsonl")
    plan["checksums"] = checksums
    plan["checksum"] = manifest_checksum(plan)
    files.write(work / _PLAN, json.dumps(plan, indent=1, ensure_ascii=False) + "\n", sync=True)
    publish(root, work)


def planned(work: Path) -> bool:
    """Whether a commit was begun in this work folder; `publish` finishes it. A damaged plan is none."""
    try:
        plan = json.loads((work / _PLAN).read_text(encoding="utf-8"))
        return plan["checksum"] == manifest_checksum(plan)
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return False


def publish(root: Path, work: Path) -> None:
    """Carry out the commit that was begun in `work`, wherever it was interrupted, and remove the old store's files."""
    plan = json.loads((work / _PLAN).read_text(encoding="utf-8"))
    names = data_files(plan)
    moves = [(shard_path(work, i), root / name) for i, name in enumerate(names)]
    if "rejections" in plan:
        moves.append((work / "rejected.jsonl", root / plan["rejections"]))
    for source, target in moves:
        if source.exists():  # otherwise it was moved before
            os.replace(source, target)
    # the manifest becomes a copy of the plan, which stays until the old files are removed, too
    files.write(root / MANIFEST, (work / _PLAN).read_bytes(), sync=True)
    kept = {target.name for _, target in moves}
    for pattern in ("entries-*.arrow", "rejected-*.jsonl"):
        for old in root.glob(pattern):
            if old.name not in kept:
                old.unlink()
    shutil.rmtree(work)
    for old in [*root.glob(".ingest-*"), *root.glob(".write-*")]:  # unfinished work with other settings
        shutil.rmtree(old, ignore_errors=True)


def data_files(manifest: Mapping) -> list[str]:
    """Names of a store's shards, in order."""
    data = manifest["data"]
    return [data] if isinstance(data, str) else list(data)
