"""What holds the arrays of an entry: a group of an HDF5 file, or a NumPy archive."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import h5py
import numpy as np

from espalike.data.readers.base import ReaderError
from espalike.data.schema import RecordError

FAULTS = (OSError, RuntimeError, KeyError, UnicodeDecodeError)
"""What h5py raises for a damaged file."""
Number = type[np.float64] | type[np.int64]
_TYPES = {np.float64: h5py.h5t.NATIVE_DOUBLE, np.int64: h5py.h5t.NATIVE_INT64}


class Container(Protocol):
    """Arrays and texts by name."""

    def names(self) -> list[str]:
        """What it holds."""

    def array(self, name: str, kind: Number = np.float64) -> np.ndarray | None:
        """An array as numbers of this kind, or None where there is none.

        Raises:
            RecordError: when it does not hold numbers or cannot be read.
        """

    def text(self, name: str) -> str | None:
        """A text, or None where there is none."""

    def unit(self, name: str) -> str:
        """The unit that stands beside an array; empty where none does."""


def text(value: Any) -> str:
    """The text of an attribute or of an array of one string, as HDF5 and NumPy give it."""
    if isinstance(value, np.ndarray):
        value = value.ravel()[0] if value.size else ""
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


@contextmanager
def open_hdf5(path: Path) -> Iterator[h5py.File]:
    """An HDF5 file for reading.

    Raises:
        ReaderError: when it is empty, cut short or of another format, or turns out to be damaged while it is open.
    """
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
            yield file
        except FAULTS as error:
            raise ReaderError(f"{path}: it is damaged; get the file again ({error})") from error


def groups_with_arrays(group: h5py.Group) -> Iterator[str]:
    """Paths of the groups that hold data sets, at any depth, in the file's order."""
    items = [group[key] for key in group]
    if any(isinstance(item, h5py.Dataset) for item in items) and group.name != "/":
        yield group.name
    for item in items:
        if isinstance(item, h5py.Group):
            yield from groups_with_arrays(item)


class Group:
    """Data sets of an HDF5 group; where it has no data set of a name, its attribute of that name.

    It is read by h5py's low level, whose objects cost a fraction of what a `Group`, `Dataset` or `attrs` of h5py does.

    Raises:
        RecordError: when there is something else than a group of that name.
    """

    def __init__(self, file: h5py.File, name: str):
        group = h5py.h5o.open(file.id, name.encode())
        if not isinstance(group, h5py.h5g.GroupID):
            raise RecordError("not a group", f"{name}: not a group; expected one group per entry")
        self._group = group
        self._arrays = set(group)

    def names(self) -> list[str]:
        """Data sets and attributes."""
        return [name.decode() for name in self._group] + list(h5py.Group(self._group).attrs)

    def array(self, name: str, kind: Number = np.float64) -> np.ndarray | None:
        """As `Container.array`."""
        data = self._dataset(name)
        if data is None:
            value = self._attribute(name)
            return None if value is None else _numbers(f"attribute {name}", np.asarray(value), kind)
        try:
            values = np.empty(data.shape, kind)
            if values.size:
                data.read(h5py.h5s.ALL, h5py.h5s.ALL, values, _TYPES[kind])
        except (OSError, TypeError) as error:
            if isinstance(error, OSError) and data.dtype.kind in "biuf":  # the disk or the file is damaged
                raise
            name = h5py.h5i.get_name(data).decode()
            raise RecordError("not numbers", f"{name}: expected numbers, got {data.dtype} ({error})") from error
        return values

    def text(self, name: str) -> str | None:
        """As `Container.text`."""
        data = self._dataset(name)
        value = self._attribute(name) if data is None else h5py.Dataset(data)[()]
        return None if value is None else text(value)

    def unit(self, name: str) -> str:
        """The attribute `units` or `unit` of a data set."""
        data = self._dataset(name)
        if data is None or not h5py.h5a.get_num_attrs(data):
            return ""
        attributes = h5py.Dataset(data).attrs
        return text(attributes.get("units", attributes.get("unit", "")))

    def _dataset(self, name: str) -> h5py.h5d.DatasetID | None:
        key = name.encode()
        return h5py.h5d.open(self._group, key) if key in self._arrays else None

    def _attribute(self, name: str) -> Any:
        key = name.encode()
        if not h5py.h5a.exists(self._group, key):
            return None
        attribute = h5py.h5a.open(self._group, key)
        value = np.empty(attribute.shape, attribute.dtype)
        attribute.read(value)
        return value[()]


class Archive:
    """Arrays of an open NumPy archive, read when asked for; nothing is unpickled.

    Args:
        name: what messages call the entry.
        archive: the open file.
    """

    def __init__(self, name: str, archive: np.lib.npyio.NpzFile):
        self._name, self._archive = name, archive

    def names(self) -> list[str]:
        """The arrays."""
        return list(self._archive.files)

    def array(self, name: str, kind: Number = np.float64) -> np.ndarray | None:
        """As `Container.array`."""
        values = self._read(name)
        return None if values is None else _numbers(f"{self._name}: array {name!r}", values, kind)

    def text(self, name: str) -> str | None:
        """As `Container.text`."""
        values = self._read(name)
        return None if values is None else text(values)

    def unit(self, name: str) -> str:
        """Empty: archives have no place for units."""
        return ""

    def _read(self, name: str) -> np.ndarray | None:
        if name not in self._archive:
            return None
        try:
            return self._archive[name]
        except ValueError as error:
            raise RecordError(
                "pickled array",
                f"{self._name}: array {name!r} holds Python objects, which are not unpickled from a file",
            ) from error
        except (OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            message = f"{self._name}: array {name!r} cannot be read ({error})"
            raise RecordError("file is cut short or damaged", message) from error


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


def _numbers(what: str, values: np.ndarray, kind: Number) -> np.ndarray:
    if values.dtype.kind not in "biuf":
        raise RecordError("not numbers", f"{what}: expected numbers, got {values.dtype}")
    return values.astype(kind)
