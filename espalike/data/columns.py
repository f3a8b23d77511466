"""List columns of memory-mapped stores as flat arrays: values of many entries are gathered by index arithmetic.

A column of a store is stored in pieces, one per record batch of each file. Each file is mapped as a whole, so the place
of a value in its file is known for all pieces, and one gather per file gives the values of all its entries.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from espalike.data.schema import SCHEMA
from espalike.data.store import Store


def ranges(starts: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """`starts[i], …, starts[i] + counts[i] - 1`, one range after the other, shape `(counts.sum(),)`, int64."""
    ends = np.cumsum(counts, dtype=np.int64)
    return np.arange(ends[-1] if len(ends) else 0) + np.repeat(starts - (ends - counts), counts)


@dataclass(frozen=True, eq=False)
class Column:
    """One list column of several entries.

    Attributes:
        files: each mapped file as one array of the column's type.
        file: number of the file that an entry's list lies in, −1 where it has none, shape `(E,)`.
        start: place of its first value there, shape `(E,)`.
    """

    files: tuple[np.ndarray, ...]
    file: np.ndarray
    start: np.ndarray

    @staticmethod
    def of(stores: Sequence[Store], name: str, refs: np.ndarray) -> Column | None:
        """The column of entries `refs`, (store, entry) `(E, 2)`; None where none of them has a value."""
        views: list[np.ndarray] = []
        parts, bounds = [], [0]
        for store in stores:
            maps = [np.frombuffer(mapped, np.uint8) for mapped in store.mapped]
            parts += [_placed(array, maps, len(views)) for array in _pieces(store, name)]
            bounds.append(bounds[-1] + len(store))
            views += maps
        chosen = np.array(bounds)[refs[:, 0]] + refs[:, 1]
        file, start = (np.concatenate(column)[chosen] for column in zip(*parts, strict=True))
        if (file < 0).all():
            return None
        kind = np.dtype(SCHEMA.field(name).type.value_type.to_pandas_dtype())
        typed = tuple(view[: view.size // kind.itemsize * kind.itemsize].view(kind) for view in views)
        return Column(typed, file, start // kind.itemsize)

    def gather(self, entries: np.ndarray, width: np.ndarray | int, index: np.ndarray) -> np.ndarray:
        """Values of entries, NaN where an entry has none. Consecutive entries of one file are gathered in one step.

        Args:
            entries: the entries, shape `(M,)`.
            width: number of columns of `index` of each entry; those of one entry are side by side, shape `(M,)`.
            index: places in the lists of the entries, shape `(R, C)`.

        Returns:
            Shape `(R, C)`, in the type of the files.
        """
        file = self.file[entries]
        width = np.broadcast_to(width, file.shape)
        index = index + np.repeat(self.start[entries], width)
        bounds = np.concatenate([[0], np.cumsum(width)])
        cuts = np.concatenate([[0], np.flatnonzero(np.diff(file)) + 1, [len(file)]])
        out = np.empty(index.shape, self.files[0].dtype)
        for first, last in zip(cuts[:-1].tolist(), cuts[1:].tolist(), strict=True):
            here, number = slice(bounds[first], bounds[last]), file[first]
            out[:, here] = np.nan if number < 0 else self.files[number].take(index[:, here])
        return out

    def known(self, entries: np.ndarray) -> np.ndarray:
        """Whether each entry has a value in the column, shape `(M,)`, bool."""
        return self.file[entries] >= 0


@dataclass(frozen=True, eq=False)
class MappedColumn:
    """A column in a separate NumPy file, entry after entry; other processes get its path.

    Attributes:
        path: the file.
        start: place of each entry's first value, shape `(E,)`.
    """

    path: Path
    start: np.ndarray

    def open(self) -> Column:
        """The column, mapped."""
        values = np.load(self.path, mmap_mode="r", allow_pickle=False)
        return Column((values,), np.zeros(len(self.start), np.int32), self.start)


def _pieces(store: Store, name: str) -> Iterator[pa.ListArray]:
    """The column's arrays, one per record batch; all are empty if the store was written before the column existed."""
    for batch in store.table.to_batches():
        if name in batch.schema.names:
            yield batch.column(name)
        else:
            yield pa.nulls(batch.num_rows, pa.list_(pa.uint8()))


def _placed(array: pa.ListArray, maps: Sequence[np.ndarray], first: int) -> tuple[np.ndarray, np.ndarray]:
    """File of each list of one piece, and place of its first byte there; `first` is the number of `maps[0]`."""
    values = array.values.to_numpy(zero_copy_only=True)
    valid = array.is_valid().to_numpy(zero_copy_only=False)
    start, where = array.offsets.to_numpy()[:-1] * np.int64(values.itemsize), 0
    if len(values):
        address = values.ctypes.data
        where = next(i for i, m in enumerate(maps) if m.ctypes.data <= address < m.ctypes.data + m.size)
        start += address - maps[where].ctypes.data
    return np.where(valid, first + where, -1).astype(np.int32), start
