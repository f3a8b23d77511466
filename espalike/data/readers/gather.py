"""Rows of a table in the order of their entries, in bounded memory: they are dealt out to files on the disk first."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa

_ROWS = 20_000
"""Rows of a file, which is in memory as a whole; an entry with more rows has a file of its own."""
_FILES = 256
"""Files at most."""
_ENTRY = "number of the entry"
"""Name of the column that is added."""


@dataclass(frozen=True, eq=False)
class Runs:
    """Runs of consecutive rows of one entry.

    Attributes:
        starts: first row of each run, and the number of all rows, shape `(R + 1,)`.
        entries: the entry of each run, shape `(R,)`; entries are numbered in the order of their first rows.
        first: first row of each entry, shape `(E,)`.
    """

    starts: np.ndarray
    entries: np.ndarray
    first: np.ndarray

    @property
    def scattered(self) -> bool:
        """Whether the rows of an entry stand apart."""
        return len(self.first) < len(self.entries)

    def of_rows(self, start: int, stop: int) -> np.ndarray:
        """The entry of each of these rows."""
        return self.entries[np.searchsorted(self.starts, np.arange(start, stop), side="right") - 1]


def gathered(batches: Iterable[pa.RecordBatch], runs: Runs) -> Iterator[pa.Table]:
    """The rows of each entry, in the order of `runs`; the disk holds all rows for a while.

    Args:
        batches: the rows.
        runs: which entry they are of.
    """
    rows = np.bincount(runs.entries, weights=np.diff(runs.starts)).astype(np.int64)
    size = max(_ROWS, -(-int(rows.sum()) // _FILES))
    file_of_entry = (np.cumsum(rows) - rows) // size
    with tempfile.TemporaryDirectory(prefix="espalike-rows-") as folder:
        paths = _deal(batches, runs, file_of_entry, Path(folder))
        for path in paths:
            with pa.OSFile(str(path)) as source:
                table = pa.ipc.open_stream(source).read_all()
            path.unlink()
            entries = table.column(_ENTRY).to_numpy()
            order = np.argsort(entries, kind="stable")
            table = table.drop_columns([_ENTRY]).take(order)
            bounds = np.flatnonzero(np.diff(entries[order], prepend=-1, append=-1))
            for start, stop in pairwise(bounds.tolist()):
                yield table.slice(start, stop - start)


def _deal(batches: Iterable[pa.RecordBatch], runs: Runs, file_of_entry: np.ndarray, folder: Path) -> list[Path]:
    """Write each row to the file of its entry, with the entry's number; the files in the order of their entries."""
    writers: dict[int, pa.RecordBatchStreamWriter] = {}
    at = 0
    with ExitStack() as stack:
        for batch in batches:
            entries = runs.of_rows(at, at + len(batch))
            at += len(batch)
            batch = batch.append_column(_ENTRY, pa.array(entries))
            files = file_of_entry[entries]
            for number in np.unique(files).tolist():
                if number not in writers:
                    sink = stack.enter_context(pa.OSFile(str(folder / f"{number}"), "wb"))
                    writers[number] = stack.enter_context(pa.ipc.new_stream(sink, batch.schema))
                writers[number].write_batch(batch.filter(pa.array(files == number)))
    return [folder / f"{number}" for number in sorted(writers)]
