"""The store: a directory with memory-mapped Arrow files, its shards, and a manifest.

`manifest.json` names the shards, whose names carry their content's hash. A store is replaced by replacing the
manifest in one step, so that a reader sees the old data or the new, never a mixture.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import shutil
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.resources import files
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from espalike.bounds import made_by
from espalike.chem.conformers import Conformers, EspGrid
from espalike.chem.molecule import Molecule
from espalike.data.reading import check_file, check_rows, check_summary, open_shard, read_manifest
from espalike.data.schema import SCHEMA, Record, RecordError, check, check_column, check_split, content_hash, row_digest
from espalike.data.shards import (
    MANIFEST,
    SHARD,
    ShardWriter,
    StoreError,
    check_manifest,
    commit,
    data_files,
    shard_path,
    summarise,
)
from espalike.files import names_in, only_one
from espalike.tables import html_table

__all__ = ["EMBEDDED", "MANIFEST", "Store", "StoreError", "embedded", "open_stores", "write_store"]

EMBEDDED = {"sample": "espalike.sample", "sample-aimnet2": "espalike.sample_aimnet2"}
"""Packages of the embedded data sets, by the names that open them."""


def embedded(path: str | os.PathLike) -> Path | None:
    """Directory of the embedded data set of a name; None for other names, and where there is a file of this name."""
    package = EMBEDDED.get(str(path))
    return Path(str(files(package))) if package and not os.path.exists(path) else None


@dataclass(frozen=True, eq=False)
class _Lists:
    """One list column of one record batch, as stored in the file: row `i` is `values[offsets[i]:offsets[i + 1]]`."""

    offsets: np.ndarray
    values: np.ndarray
    valid: np.ndarray | None

    @staticmethod
    def of(array: pa.ListArray) -> _Lists:
        valid = array.is_valid().to_numpy(zero_copy_only=False) if array.null_count else None
        return _Lists(array.offsets.to_numpy(), array.values.to_numpy(zero_copy_only=True), valid)


@made_by('Store.open("sample") opens a store')
class Store:
    """Entries of one store, read from a memory map. Open it with `Store.open`.

    Attributes:
        path: the directory.
        manifest: contents, origin, units, numbers of rejected entries, hash.
        mapped: its files, in which every array of `table` lies.
        table: all rows, as stored.

    Examples:
        >>> store = Store.open("sample")
        >>> store
        Store 'sample': 169 molecules, 2625 conformers, B3LYP-D3BJ/DZVP, hash 204a7bfce470
        >>> record = store.record(0)
        >>> record.conformers.xyz.shape[1:] == (record.molecule.n_atoms, 3)  # [Å]
        True
        >>> len(store.indices("test"))
        148
    """

    def __init__(self, path: Path, manifest: dict, table: pa.Table, mapped: Sequence[mmap.mmap] = ()):
        self.path = path
        self.manifest = manifest
        self.mapped = tuple(mapped)
        self._lists: dict[tuple[int, str], _Lists | None] = {}
        self._batches = table.to_batches()
        self._starts = [0, *accumulate(batch.num_rows for batch in self._batches)]
        self.table = table

    @staticmethod
    def open(path: str | os.PathLike | Store) -> Store:
        """Open a store by its directory, or an embedded one by its name, `sample` or `sample-aimnet2`.

        The checksum of every file is compared with the manifest's; a store from before there were checksums is
        compared with the hash of its content.

        Raises:
            StoreError: when there is none, it is damaged, of another format, or a column's unit is missing or wrong.
        """
        if isinstance(path, Store):
            return path
        return _open(embedded(path) or Path(path))

    @cached_property
    def counts(self) -> dict[str, Any]:
        """Numbers of molecules, connectivities, entries and conformers, also by split; see `shards.summarise`.

        They are counted here where the manifest has no checksum: it may be of a version with another rule.
        """
        counted = self.manifest if "checksum" in self.manifest else summarise([self.table])
        return {name: counted[name] for name in ("molecules", "connectivities", "entries", "conformers", "splits")}

    def _row(self) -> dict[str, str]:
        """The store in one line, by column."""
        return {
            "molecules": str(self.counts["molecules"]),
            "conformers": str(self.counts["conformers"]),
            "levels": ", ".join(self.manifest["levels"]),
            "hash": self.hash[:12],
        }

    def __repr__(self) -> str:
        row = self._row()
        numbers = f"{row['molecules']} molecules, {row['conformers']} conformers"
        return f"Store {self.name!r}: {numbers}, {row['levels']}, hash {row['hash']}"

    def _repr_html_(self) -> str:
        """The same as a table, for notebooks."""
        return html_table([{"store": self.name, **self._row()}])

    @property
    def hash(self) -> str:
        """Hash of the content, SHA-256."""
        return self.manifest["hash"]

    @property
    def name(self) -> str:
        """Name of the store in messages: its directory's name."""
        return self.path.name

    def __len__(self) -> int:
        return self._starts[-1]

    def __fspath__(self) -> str:
        return str(self.path)  # a store can be given where its path can

    def __reduce__(self):
        return _reopen, (self.path, self.hash)  # a worker process maps the files itself

    def column(self, name: str) -> list:
        """One text column (`id`, `key`, `split`, `level`, `source`, `smiles`, `name`) for all entries."""
        return self.table.column(name).to_pylist()

    def lengths(self, column: str) -> np.ndarray:
        """Length of every entry's list in a column that has no gaps, e.g. conformers (`energy`), atoms (`numbers`)."""
        return np.concatenate([np.diff(batch.column(column).offsets.to_numpy()) for batch in self._batches])

    def release(self) -> None:
        """Release the files' pages, which count as memory once they were read; reading maps them again."""
        if hasattr(mmap, "MADV_DONTNEED"):
            for mapped in self.mapped:
                mapped.madvise(mmap.MADV_DONTNEED)

    def flat(self, i: int, column: str) -> np.ndarray | None:
        """An entry's array as stored, flat and read-only, without a copy; None where the entry has none."""
        b, row = self._locate(i)
        if (b, column) not in self._lists:
            batch = self._batches[b]
            known = column in batch.schema.names  # a store from before this column has none
            check_column(column)
            self._lists[b, column] = _Lists.of(batch.column(column)) if known else None
        lists = self._lists[b, column]
        if lists is None or (lists.valid is not None and not lists.valid[row]):
            return None
        return lists.values[lists.offsets[row] : lists.offsets[row + 1]]

    def array(self, i: int, column: str) -> np.ndarray | None:
        """An entry's `xyz` or `forces` `(K, A, 3)` or `bonds` `(B, 2)` without a copy, in storage precision."""
        flat = self.flat(i, column)
        if flat is None or column not in ("xyz", "forces", "bonds"):
            return flat
        return flat.reshape((-1, 2) if column == "bonds" else (-1, len(self.flat(i, "numbers")), 3))  # type: ignore[arg-type]

    def _locate(self, i: int) -> tuple[int, int]:
        """Record batch of an entry and its row there."""
        if not 0 <= i < len(self):
            raise IndexError(f"entry {i} of a store of {len(self)}")
        b = bisect_right(self._starts, i) - 1
        return b, i - self._starts[b]

    def _text(self, i: int, column: str) -> str:
        b, row = self._locate(i)
        known = column in self._batches[b].schema.names  # a store from before this column has none
        return (self._batches[b].column(column)[row].as_py() or "") if known else ""

    def _copy(self, i: int, column: str) -> np.ndarray | None:
        """A copy of an entry's flat array, or None where it has none."""
        values = self.flat(i, column)
        return None if values is None else values.copy()

    def molecule(self, i: int) -> Molecule:
        """The graph of entry `i`."""
        return Molecule(
            name=self._text(i, "name"),
            smiles=self._text(i, "smiles"),
            numbers=self.flat(i, "numbers").astype(np.int64),  # type: ignore[union-attr]
            charges=self.flat(i, "charges").astype(np.int64),  # type: ignore[union-attr]
            bonds=self.array(i, "bonds").astype(np.int64),  # type: ignore[union-attr]
            orders=self.flat(i, "orders").astype(np.int64),  # type: ignore[union-attr]
        )

    def reference(self, i: int) -> tuple[np.ndarray | None, np.ndarray | None]:
        """Reference charges [e] `(A,)` and Lennard-Jones sigma [Å], epsilon [kcal/mol] `(A, 2)`, or None."""
        charge, sigma, epsilon = (self.flat(i, c) for c in ("ref_charge", "ref_sigma", "ref_epsilon"))
        return charge, None if sigma is None or epsilon is None else np.stack([sigma, epsilon], axis=1)

    def potential(self, i: int) -> EspGrid | None:
        """Electrostatic potential of an entry, float64 copies, or None."""
        points, values, count = (self.flat(i, c) for c in ("esp_points", "esp_values", "esp_count"))
        if points is None or values is None or count is None:
            return None
        return EspGrid(points.reshape(-1, 3).astype(np.float64), values.astype(np.float64), count.astype(np.int64))

    def record(self, i: int) -> Record:
        """Entry `i`, its arrays as float64 copies."""
        forces = self.array(i, "forces")
        charge, lj = self.reference(i)
        dipole, dihedral = self.flat(i, "dipole"), self.flat(i, "dihedral")
        conformers = Conformers(
            xyz=self.array(i, "xyz").astype(np.float64),  # type: ignore[union-attr]
            energy=np.array(self.flat(i, "energy")),
            forces=None if forces is None else forces.astype(np.float64),
            level=self._text(i, "level"),
            source=self._text(i, "source"),
            dipole=None if dipole is None else dipole.reshape(-1, 3).copy(),
            esp=self.potential(i),
            interaction=self._copy(i, "interaction"),
            sapt=None if (sapt := self._copy(i, "sapt")) is None else sapt.reshape(-1, 4),
            scaling=self._copy(i, "scaling"),
        )
        return Record(
            id=self._text(i, "id"),
            molecule=self.molecule(i),
            conformers=conformers,
            split=self._text(i, "split"),
            key=self._text(i, "key"),
            ref_charge=None if charge is None else charge.copy(),
            ref_lj=lj,
            dihedral=None if dihedral is None else dihedral.astype(np.int64),
            group=self._text(i, "group"),
            kind=self._text(i, "kind"),
        )

    def indices(self, split: str | None = None) -> list[int]:
        """Entries of a split (`train`, `val`, `test`; empty: those without one), or all; see `schema.check_split`."""
        check_split(split or "")
        return [i for i, name in enumerate(self.column("split")) if split in (None, name)]

    def records(self, split: str | None = None) -> Iterator[Record]:
        """The records of a split, or all, in stored order."""
        return (self.record(i) for i in self.indices(split))

    def _stored_row(self, i: int) -> dict[str, Any]:
        """Entry `i` as `schema.to_row` gives it, without a copy."""
        row = {f.name: self.flat(i, f.name) if pa.types.is_list(f.type) else self._text(i, f.name) for f in SCHEMA}
        return {**row, "group": row["group"] or None, "kind": row["kind"] or None}

    def verify(self) -> None:
        """Compute the hash of all rows, the counts and the checksums of all files; compare them with the manifest's.

        Raises:
            StoreError: when they differ.
        """
        digest = content_hash([row_digest(self._stored_row(i)) for i in range(len(self))])
        if digest != self.hash:
            raise StoreError(
                f"{self.path}: {', '.join(data_files(self.manifest))} have content of hash {digest[:12]}, {MANIFEST} "
                f"says {self.hash[:12]}: damaged or changed; ingest the data again"
            )
        check_summary(self.path, self.manifest, self.table)
        for name, checksum in self.manifest.get("checksums", {}).items():
            check_file(self.path / Path(name).name, checksum)


def _open(root: Path, check_content: bool = True) -> Store:
    """The store in a folder, its content checked."""
    manifest = read_manifest(root)
    checksums = manifest.get("checksums")
    shards = []
    for name in data_files(manifest):
        if check_content and checksums is not None:
            check_file(root / name, checksums.get(name))
        shards.append(open_shard(root / name))
        if check_content:
            check_rows(root / name, shards[-1][0])
    table = pa.concat_tables([table for table, _ in shards])
    if table.num_rows != manifest["entries"]:
        raise StoreError(f"{root}: {table.num_rows} entries, {manifest['entries']} in {MANIFEST}; ingest it again")
    store = Store(root, manifest, table, [mapped for _, mapped in shards])
    if check_content:
        check_summary(root, manifest, table)
    if check_content and checksums is None:
        store.verify()
    return store


def _reopen(path: Path, digest: str) -> Store:
    """The store that another process has open and has checked."""
    store = _open(path, check_content=False)
    if store.hash != digest:
        raise StoreError(f"{path}: was replaced since it was opened; start again")
    return store


def open_stores(paths: str | os.PathLike | Store | Sequence) -> list[Store]:
    """Open several stores, given as a list or as one text separated by commas."""
    parts = names_in(paths) if isinstance(paths, str) else paths
    return [Store.open(part) for part in (parts if isinstance(parts, Sequence) else [parts])]


def write_store(
    path: str | os.PathLike,
    records: Iterable[Record],
    *,
    manifest: Mapping,
    rejected: Mapping[str, int] | None = None,
    shard: float = SHARD,
) -> Store:
    """Write records as a store, replacing an existing one in one step; a failure leaves nothing behind.

    Args:
        path: directory; it is made if it does not exist, and other files in it are kept.
        records: the records, consumed once.
        manifest: at least `licence`, `origin` (where the data comes from) and `command` (what made it); further
            entries are kept. Counts, levels, units and the hash are added.
        rejected: numbers of rejected entries by reason; read after the last record, so a generator may fill it.
        shard: size at which a new file begins [MB].

    Raises:
        RecordError: for a record that does not pass `schema.check`, or an identifier that occurs twice.
        StoreError: when the manifest lacks something, there are no records, or another process writes this store.
    """
    check_manifest(path, manifest)
    root, work = Path(path), Path(path) / f".write-{os.getpid()}"
    is_new = not root.exists()
    root.mkdir(parents=True, exist_ok=True)
    with only_one(root, "job", StoreError):
        try:
            digests = _write_shards(work, records, shard)
            if not digests:
                raise StoreError(f"{path}: no record is left to store; rejected: {dict(rejected or {})}")
            commit(root, work, digests, manifest, rejected or {})
        except BaseException:
            shutil.rmtree(work, ignore_errors=True)
            if is_new:
                with contextlib.suppress(OSError):
                    root.rmdir()
            raise
    return Store.open(root)


def _write_shards(work: Path, records: Iterable[Record], shard: float) -> list[list[bytes]]:
    """Write all records to shards in `work`; their digests."""
    work.mkdir(exist_ok=True)  # a killed process may have had this number
    digests: list[list[bytes]] = []
    ids: set[str] = set()
    writer = None
    try:
        for record in records:
            check(record)
            if record.id in ids:
                raise RecordError("identifier twice", f"{record.id}: this identifier occurs twice")
            ids.add(record.id)
            if not record.key:
                from espalike.chem import connectivity_key  # rdkit is not needed to read

                record = replace(record, key=connectivity_key(record.molecule))
            if writer is None:
                writer = ShardWriter(shard_path(work, len(digests)))
            writer.add(record)
            if writer.size >= shard * 2**20:
                writer.close()
                digests.append(writer.digests)
                writer = None
    finally:
        if writer is not None:
            writer.close()
    return digests if writer is None else [*digests, writer.digests]
