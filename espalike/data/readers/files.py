"""Opening files of arrays; what is wrong with one is said in words."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from espalike.data.readers.base import ReaderError
from espalike.data.schema import RecordError


def open_hdf5(path: Path) -> h5py.File:
    """An HDF5 file for reading.

    Raises:
        ReaderError: when it is cut short, damaged or something else.
    """
    try:
        return h5py.File(path, "r")
    except OSError as error:
        if path.is_file() and path.stat().st_size == 0:
            what = "it is empty"
        else:
            what = "it is cut short" if "truncated" in str(error) else "it is not HDF5 or is damaged"
        raise ReaderError(f"{path}: {what}; get the file again ({error})") from error


def open_npz(path: Path) -> np.lib.npyio.NpzFile:
    """A NumPy archive; its arrays are read when asked for, and nothing in it is unpickled.

    Raises:
        RecordError: when it is cut short, damaged or something else.
    """
    try:
        archive = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        start = path.read_bytes()[:4] if path.is_file() else b""
        what = (
            "is empty" if not start else "is cut short or damaged" if start == b"PK\x03\x04" else "is no NumPy archive"
        )
        raise RecordError(f"file {what}", f"{path.name}: it {what}; get the file again ({error})") from error
    if not isinstance(archive, np.lib.npyio.NpzFile):
        raise RecordError("file is no NumPy archive", f"{path.name}: one array, expected an archive of several")
    return archive


def array_of(archive: np.lib.npyio.NpzFile, key: str, name: str) -> np.ndarray:
    """An array of an archive.

    Raises:
        RecordError: when it is missing, damaged, or would have to be unpickled.
    """
    if key not in archive:
        found = ", ".join(archive.files)
        raise RecordError(f"no {key}", f"{name}: array {key!r} is missing; arrays found: {found}")
    try:
        return archive[key]
    except ValueError as error:
        raise RecordError(
            "pickled array", f"{name}: array {key!r} holds Python objects, which are not unpickled from a file"
        ) from error
    except (OSError, EOFError, zipfile.BadZipFile, zipfile.error) as error:
        raise RecordError("file is cut short or damaged", f"{name}: array {key!r} cannot be read ({error})") from error


def text(value: Any) -> str:
    """The text of an attribute or of a data set of one string, as HDF5 and NumPy give it."""
    if isinstance(value, np.ndarray):
        value = value.ravel()[0] if value.size else ""
    return value.decode() if isinstance(value, bytes) else str(value)
