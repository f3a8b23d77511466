"""Internal coordinates and B rows of all conformers of a data set, measured once and memory-mapped beside the data.

Some 9 kB a conformer of 43 atoms for class I in single precision, 22 kB with all pair distances: `slim` leaves those
out, to be measured in each step. The file's name says what it was made of, so that it is never used for other data.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from espalike.batch import featurized
from espalike.data.columns import Column, MappedColumn, code_digest, ranges, write_whole
from espalike.data.dataset import StoreDataset
from espalike.geometry import Coordinate
from espalike.internal import CoordinateValues, coordinate_values, required_coordinates
from espalike.terms.base import Term
from espalike.tuples import Kind

FORMS = ("computed", "stored", "slim")
"""Where internal coordinates come from in training: measured in each step, stored, or stored but for pairs."""

Needed = tuple[tuple[Kind, Coordinate], ...]


def default_folder() -> Path:
    """Where coordinates are stored unless told otherwise: the user's cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "espalike" / "coordinates"


def _columns(coordinate: Coordinate) -> int:
    """Numbers a tuple: its value, and the rows of all its atoms but the last."""
    return 1 + 3 * (len(coordinate.atoms) - 1)


@dataclass(frozen=True, eq=False)
class Coordinates:
    """The mapped file, and where in it each conformer's coordinates are.

    Attributes:
        path: the file.
        needed: what is stored, in this order within a conformer.
        tuples: tuples of each entry by what is stored, shape `(E, len(needed))`.
        column: the numbers, conformer by conformer.
    """

    path: Path
    needed: Needed
    tuples: np.ndarray
    column: Column

    @staticmethod
    def of(
        dataset: StoreDataset,
        terms: Sequence[Term],
        form: str,
        folder: Path | None = None,
        dtype: torch.dtype = torch.float32,
        progress: Callable[[Iterable[int]], Iterable[int]] = iter,
    ) -> Coordinates | None:
        """Coordinates that the terms need of a data set's entries; measured now unless that was done before.

        Args:
            dataset: the entries.
            terms: functional forms of the force field.
            form: one of `FORMS`; None is returned for `computed`.
            folder: where the file is or will be; None = the user's cache.
            dtype: of the numbers.
            progress: wraps the iteration over entries.

        Raises:
            ValueError: for another form.
            OSError: when the folder cannot be written, or the disk is full.
        """
        if form not in FORMS:
            raise ValueError(f"data.coordinates={form!r}: expected {', '.join(FORMS)}")
        if form == "computed":
            return None
        needed = tuple(need for need in required_coordinates(terms) if form == "stored" or need[0] is not Kind.PAIR)
        folder = folder or default_folder()
        path = folder / f"{_name(dataset, needed, dtype)}.npy"
        counts = path.with_suffix(".tuples.npy")
        if not (path.exists() and counts.exists()):
            folder.mkdir(parents=True, exist_ok=True)
            tuples = _counted(dataset, needed)
            write_whole(counts, tuples)
            _measure(dataset, needed, tuples, path, dtype, progress)
        return _opened(path, needed, dataset)

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopened, (MappedColumn(self.path, self.column.start), self.needed, self.tuples)

    @property
    def nbytes(self) -> int:
        """Size of the file's numbers [byte]."""
        return self.column.files[0].nbytes

    def batch(self, entries: np.ndarray, chosen: np.ndarray) -> dict[tuple[Kind, Coordinate], CoordinateValues]:
        """Coordinates of conformers `chosen` `(K, M)` of entries `(M,)`, as the tuples of a batch come."""
        widths = self.tuples[entries] * np.array([_columns(c) for _, c in self.needed])
        found = {}
        for number, (kind, coordinate) in enumerate(self.needed):
            width = widths[:, number]
            first = chosen * widths.sum(1) + widths[:, :number].sum(1)
            index = np.repeat(first, width, axis=1) + ranges(np.zeros_like(width), width)
            flat = torch.from_numpy(np.ascontiguousarray(self.column.gather(entries, width, index).T))
            parts = flat.view(-1, _columns(coordinate), len(chosen))
            rows = tuple(parts[:, start : start + 3] for start in range(1, parts.shape[1], 3))
            found[kind, coordinate] = CoordinateValues(parts[:, 0], rows)
        return found


def _name(dataset: StoreDataset, needed: Needed, dtype: torch.dtype) -> str:
    """A hash of all that the numbers depend on."""
    parts = [code_digest(), [store.hash for store in dataset.stores], repr(needed), str(dtype)]
    return hashlib.sha256(repr(parts).encode() + dataset.refs.tobytes()).hexdigest()[:20]


def _counted(dataset: StoreDataset, needed: Needed) -> np.ndarray:
    """Tuples of each entry by what is stored."""
    first = dataset.distinct()
    rows = [
        [len(graph.tuples[kind]) for kind, _ in needed] for graph in (featurized(dataset.molecule(i)) for i in first)
    ]
    return np.array(rows, np.int64).reshape(len(first), len(needed))[dataset.molecules]


def _starts(dataset: StoreDataset, needed: Needed, tuples: np.ndarray) -> np.ndarray:
    """Place of each entry's first number, and behind them the number of all, shape `(E + 1,)`."""
    width = (tuples * np.array([_columns(c) for _, c in needed])).sum(1)
    return np.concatenate([[0], np.cumsum(width * dataset.counts)])


def _measure(
    dataset: StoreDataset,
    needed: Needed,
    tuples: np.ndarray,
    path: Path,
    dtype: torch.dtype,
    progress: Callable[[Iterable[int]], Iterable[int]],
) -> None:
    """Write all numbers, measured in double precision."""
    starts = _starts(dataset, needed, tuples)
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    numbers = np.lib.format.open_memmap(temporary, "w+", torch.empty(0, dtype=dtype).numpy().dtype, (int(starts[-1]),))
    try:
        for entry in progress(range(len(dataset))):
            numbers[starts[entry] : starts[entry + 1]] = np.concatenate(
                list(_of_entry(dataset, entry, needed)), 1
            ).reshape(-1)
        numbers.flush()
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _of_entry(dataset: StoreDataset, entry: int, needed: Needed) -> Iterator[np.ndarray]:
    """Each coordinate of all conformers, conformers leading, `(C, T × columns)`."""
    item = dataset[entry]
    x = torch.from_numpy(np.array(item.xyz)).double().permute(1, 2, 0).contiguous()
    for kind, coordinate in needed:
        idx = torch.from_numpy(item.graph.tuples[kind].astype(np.int64))[:, list(coordinate.atoms)]
        values = coordinate_values(coordinate, idx, x)
        parts = torch.cat([values.q.unsqueeze(1), *values.rows], 1)  # (T, columns, C)
        yield parts.permute(2, 0, 1).reshape(x.shape[2], -1).numpy()


def _opened(path: Path, needed: Needed, dataset: StoreDataset) -> Coordinates:
    tuples = np.load(path.with_suffix(".tuples.npy"), allow_pickle=False)
    return _reopened(MappedColumn(path, _starts(dataset, needed, tuples)[:-1]), needed, tuples)


def _reopened(mapped: MappedColumn, needed: Needed, tuples: np.ndarray) -> Coordinates:
    return Coordinates(mapped.path, needed, tuples, mapped.open())
