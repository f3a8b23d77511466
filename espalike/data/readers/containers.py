"""What holds the arrays of an entry: a group of an HDF5 file, or a NumPy archive."""

from __future__ import annotations

import zipfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from espalike.data.readers import walk
from espalike.data.readers.base import ReaderError
from espalike.data.schema import RecordError, whole

FAULTS = (OSError, RuntimeError, KeyError, UnicodeDecodeError)
"""What h5py raises for a damaged file."""
_LARGE, _DENSE = 64 * 2**20, 500
"""An array of more than `_LARGE` bytes must take at least 1/`_DENSE` of them in the file. Real labels do not compress
further, and the memory for an array that only claims to be large could end the process."""
Number = type[np.float64] | type[np.int64]
_TYPES = {np.float64: h5py.h5t.NATIVE_DOUBLE, np.int64: h5py.h5t.NATIVE_INT64}
_CLASSES = {np.float64: (h5py.h5t.FLOAT, h5py.h5t.INTEGER), np.int64: (h5py.h5t.INTEGER,)}


class Container(ABC):
    """Arrays and texts by name.

    Attributes:
        where: what messages call it.
    """

    where: str

    @abstractmethod
    def names(self) -> list[str]:
        """What it holds."""

    @abstractmethod
    def read(self, name: str) -> Any:
        """An array as it is stored, or None where there is none.

        Raises:
            RecordError: when it cannot be read.
        """

    def array(self, name: str, kind: Number = np.float64) -> np.ndarray | None:
        """An array as numbers of this kind, or None where there is none.

        Raises:
            RecordError: when it does not hold such numbers or cannot be read.
        """
        values = self.read(name)
        if values is None:
            return None
        values = np.asarray(values)
        if values.dtype.kind not in "iuf":
            raise RecordError("not numbers", f"{self.where}/{name}: expected numbers, got {values.dtype}")
        return whole(self.where, name, values) if kind is np.int64 else values.astype(kind, copy=False)

    def text(self, name: str) -> str:
        """A text; empty where there is none."""
        value = self.read(name)
        return "" if value is None else text(value)

    def unit(self, name: str) -> str:
        """The unit that stands beside an array; empty where none does."""
        return ""


def text(value: Any) -> str:
    """The text of an attribute or of an array of one string, as HDF5 and NumPy give it."""
    if isinstance(value, np.ndarray):
        value = value.ravel()[0] if value.size else ""
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


@contextmanager
def open_hdf5(path: Path) -> Iterator[h5py.File]:
    """An HDF5 file for reading.

    Raises:
        ReaderError: when it is empty, cut short or of another format, when HDF5's library would loop or crash, or when
            it turns out to be damaged while it is open.
    """
    status = path.stat()
    key = (str(path.resolve()), status.st_size, status.st_mtime_ns)
    if key not in _INTACT and (what := walk.fault(path)):
        raise ReaderError(f"{path}: {what}: it is damaged; get the file again")
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        if path.is_file() and path.stat().st_size == 0:
            what = "it is empty"
        else:
            what = "it is cut short" if "truncated" in str(error) else "it is not HDF5 or is damaged"
        raise ReaderError(f"{path}: {what}; get the file again ({error})") from error
    with file:
        try:
            if key not in _INTACT:
                _refuse_links(file, path)
                _INTACT.add(key)
            yield file
        except FAULTS as error:
            raise ReaderError(f"{path}: it is damaged; get the file again ({error})") from error


_INTACT: set[tuple[str, int, int]] = set()
"""Files that were looked through: name, size and time of change."""


def _refuse_links(file: h5py.File, path: Path) -> None:
    """Refuse links to other files: what they lead to is not part of the data set.

    Raises:
        ReaderError: naming the link.
    """

    def external(name: bytes, info: Any) -> str | None:
        return text(name) if info.type == h5py.h5l.TYPE_EXTERNAL else None

    found = file.id.links.visit(external, info=True)
    if found is not None:
        raise ReaderError(f"{path}: {found} is a link to another file; copy the data into one file (h5repack, h5copy)")


def check_stored(data: h5py.h5d.DatasetID, where: str) -> None:
    """Check, before it is read, that a data set was written, to its own file, and is as large as it claims to be.

    Raises:
        RecordError: naming the data set.
    """
    layout = data.get_create_plist()
    if layout.get_external_count() or layout.get_layout() == h5py.h5d.VIRTUAL:
        raise RecordError(
            "stored in another file", f"{where}: its numbers lie in another file; copy them into one file (h5repack)"
        )
    claimed = int(np.prod(data.shape or (), dtype=object)) * data.dtype.itemsize
    stored = data.get_storage_size()
    _check_size(where, claimed, stored)
    if data.shape is not None and claimed and not stored:  # HDF5 would give its fill value, zero
        raise RecordError("never written", f"{where}: its numbers were never written; get the file again")


def _check_size(where: str, claimed: int, stored: int) -> None:
    if claimed > _LARGE and claimed > _DENSE * stored:
        raise RecordError(
            "size not believable",
            f"{where}: claims {claimed:,} bytes of numbers, but only {stored:,} are stored; get the file again",
        )


def groups_with_arrays(group: h5py.Group) -> Iterator[str]:
    """Paths of the groups that hold data sets, at any depth, in the file's order."""
    items = [group[key] for key in group]
    if any(isinstance(item, h5py.Dataset) for item in items) and group.name != "/":
        yield group.name
    for item in items:
        if isinstance(item, h5py.Group):
            yield from groups_with_arrays(item)


class Group(Container):
    """Data sets of an HDF5 group; where it has no data set of a name, its attribute of that name.

    It is read by h5py's low level, whose objects cost a fraction of what a `Group`, `Dataset` or `attrs` of h5py does.

    Raises:
        RecordError: when there is something else than a group of that name.
    """

    def __init__(self, file: h5py.File, name: str):
        self.where = name
        group = h5py.h5o.open(file.id, name.encode())
        if not isinstance(group, h5py.h5g.GroupID):
            raise RecordError("not a group", f"{name}: not a group; expected one group per entry")
        self._group = group
        self._arrays = set(group)

    def names(self) -> list[str]:
        """Data sets and attributes."""
        return [name.decode() for name in self._group] + list(h5py.Group(self._group).attrs)

    def array(self, name: str, kind: Number = np.float64) -> np.ndarray | None:
        """As `Container.array`; HDF5 converts the numbers."""
        key = name.encode()
        if key in self._arrays:
            data = h5py.h5d.open(self._group, key)
            check_stored(data, f"{self.where}/{name}")
            try:
                if data.get_type().get_class() in _CLASSES[kind]:  # HDF5 would cut off fractions
                    values = np.empty(data.shape, kind)
                    if values.size:
                        data.read(h5py.h5s.ALL, h5py.h5s.ALL, values, _TYPES[kind])
                    return values
            except (OSError, TypeError):
                pass  # other things than numbers, or damage: reported by the slow way
        return super().array(name, kind)

    def read(self, name: str) -> Any:
        """As `Container.read`."""
        key = name.encode()
        item: Any
        if key in self._arrays:
            item = h5py.h5d.open(self._group, key)
            check_stored(item, f"{self.where}/{name}")
        elif h5py.h5a.exists(self._group, key):
            item = h5py.h5a.open(self._group, key)
        else:
            return None
        if item.shape is None:  # HDF5's null: neither numbers nor text
            return np.array(None)
        values = np.empty(item.shape, item.dtype)
        if values.size:
            item.read(*([h5py.h5s.ALL] * 2 if key in self._arrays else []), values)
        return values

    def unit(self, name: str) -> str:
        """The attribute `units` or `unit` of a data set."""
        key = name.encode()
        if key not in self._arrays:
            return ""
        data = h5py.h5d.open(self._group, key)
        if not h5py.h5a.get_num_attrs(data):
            return ""
        attributes = h5py.Dataset(data).attrs
        return text(attributes.get("units", attributes.get("unit", "")))


class Archive(Container):
    """Arrays of an open NumPy archive, read when asked for; nothing is unpickled.

    Args:
        where: what messages call the entry.
        archive: the open file.
    """

    def __init__(self, where: str, archive: np.lib.npyio.NpzFile):
        self.where, self._archive = where, archive

    def names(self) -> list[str]:
        """The arrays."""
        return list(self._archive.files)

    def read(self, name: str) -> Any:
        """As `Container.read`."""
        if name not in self._archive:
            return None
        members = self._archive.zip
        assert members is not None  # it is open
        packed = members.getinfo(f"{name}.npy" if f"{name}.npy" in members.namelist() else name)
        _check_size(f"{self.where}/{name}", packed.file_size, packed.compress_size)
        try:
            array = self._archive[name]
        except ValueError as error:
            raise RecordError(
                "pickled array",
                f"{self.where}: array {name!r} holds Python objects, which are not unpickled from a file",
            ) from error
        except (OSError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
            message = f"{self.where}: array {name!r} cannot be read ({error})"
            raise RecordError("file is cut short or damaged", message) from error
        if not isinstance(array, np.ndarray):  # bytes without the head of an array
            message = f"{self.where}: array {name!r} is not in NumPy's format"
            raise RecordError("file is cut short or damaged", message)
        return array


@contextmanager
def open_npz(name: str, path: Path) -> Iterator[Archive]:
    """A NumPy archive.

    Raises:
        RecordError: when it is empty, cut short, damaged or of another format.
    """
    with path.open("rb") as file:  # np.load would leave it open when it fails
        start = file.read(4)
        file.seek(0)
        try:
            archive = np.load(file, allow_pickle=False)
        except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
            zipped = "is cut short or damaged" if start == b"PK\x03\x04" else "is not a NumPy archive"
            what = zipped if start else "is empty"
            raise RecordError(f"file {what}", f"{path.name}: it {what}; get the file again ({error})") from error
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise RecordError("file is not a NumPy archive", f"{path.name}: one array, expected an archive of several")
        yield Archive(name, archive)
