"""NumPy archives: a file or a folder of them, one an entry; nothing in them is unpickled."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from espalike.data.readers.base import Reader, ReaderError
from espalike.data.schema import RecordError


class NpzReader(Reader):
    """Base of readers of archives of one molecule each: an entry a file, called as the file is, in sorted order.

    Args:
        path: the file, or a folder of them and of folders of them.
        source: name of the data source in tables; None = the file's or folder's name.

    Raises:
        ReaderError: when there is no archive at `path`.
    """

    def __init__(self, path: str | Path, source: str | None = None):
        super().__init__(path, source)
        self._paths = sorted(self.path.rglob("*.npz")) if self.path.is_dir() else [self.path]
        if not self._paths:
            raise ReaderError(f"{self.path}: nothing in it; expected files NAME.npz")

    def __len__(self) -> int:
        return len(self._paths)

    def files(self) -> list[Path]:
        """The archives."""
        return list(self._paths)

    def _raw(self) -> Iterator[tuple[str, Any]]:
        top = self.path if self.path.is_dir() else self.path.parent
        yield from ((path.relative_to(top).with_suffix("").as_posix(), path) for path in self._paths)


@contextmanager
def open_npz(path: Path) -> Iterator[np.lib.npyio.NpzFile]:
    """A NumPy archive; its arrays are read when asked for.

    Raises:
        RecordError: when it is cut short, damaged or something else.
    """
    with path.open("rb") as file:  # np.load would leave it open when it fails
        start = file.read(4)
        file.seek(0)
        try:
            archive = np.load(file, allow_pickle=False)
        except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
            zipped = "is cut short or damaged" if start == b"PK\x03\x04" else "is no NumPy archive"
            what = zipped if start else "is empty"
            raise RecordError(f"file {what}", f"{path.name}: it {what}; get the file again ({error})") from error
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise RecordError("file is no NumPy archive", f"{path.name}: one array, expected an archive of several")
        yield archive


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
    except (OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise RecordError("file is cut short or damaged", f"{name}: array {key!r} cannot be read ({error})") from error
