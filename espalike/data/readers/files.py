"""Opening HDF5 files; what is wrong with one is said in words."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from espalike.data.readers.base import ReaderError

FAULTS = (OSError, RuntimeError, KeyError, UnicodeDecodeError)
"""What h5py raises for a damaged file."""


@contextmanager
def open_hdf5(path: Path) -> Iterator[h5py.File]:
    """An HDF5 file for reading.

    Raises:
        ReaderError: when it is cut short or something else, or turns out to be damaged while it is open.
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


def text(value: Any) -> str:
    """The text of an attribute or of a data set of one string, as HDF5 and NumPy give it."""
    if isinstance(value, np.ndarray):
        value = value.ravel()[0] if value.size else ""
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
