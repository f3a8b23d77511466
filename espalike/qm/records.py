"""Files that several processes append records to; a process that is killed loses the record it is writing, no other.

A folder holds `records-0.bin`, `records-1.bin`, and so on: as many as processes ever wrote at the same time. A process
locks one of them, and appends to it. A record is

    4 bytes `ESR1`, CRC-32 of the header, CRC-32 of the body (4 bytes each), length of the header (4 bytes) and of the
    body (8 bytes), CRC-32 of these 24 bytes, all little-endian; the header, a JSON object; the body, arrays in the
    safetensors format.

A killed process can leave a record without its end. Readers stop there, and the next process that appends to the file
removes it. A changed length does not look like such a record, because the lengths have a checksum.
"""

from __future__ import annotations

import fcntl
import io
import json
import os
import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

_PREFIX, _CHECK = struct.Struct("<4sIIIQ"), struct.Struct("<I")
_BEFORE_HEADER = _PREFIX.size + _CHECK.size
_MAGIC = b"ESR1"


@dataclass(frozen=True)
class Place:
    """Where the body of a record is.

    Attributes:
        path: the file.
        offset: of the body's first byte.
        length: of the body [bytes].
        checksum: CRC-32 of the body.
    """

    path: Path
    offset: int
    length: int
    checksum: int

    def read(self) -> dict[str, np.ndarray]:
        """The arrays of the record.

        Raises:
            ValueError: when the bytes are not those that were written.
        """
        from safetensors.numpy import load

        with self.path.open("rb") as file:
            file.seek(self.offset)
            body = file.read(self.length)
        if zlib.crc32(body) != self.checksum:
            raise _damaged(self.path, self.offset)
        return load(body) if body else {}


class RecordFolder:
    """The record files of a folder, to read from the start and to append to.

    Args:
        folder: need not exist before the first record is appended.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self._ends: dict[Path, int] = {}
        self._file: io.FileIO | None = None

    def new(self) -> Iterator[tuple[dict[str, Any], Place]]:
        """Headers and places of the records appended by any process since the last call.

        Raises:
            ValueError: when a file is damaged, naming it.
        """
        for path in sorted(self.folder.glob("records-*.bin")):
            end = self._ends.get(path, 0)
            if path.stat().st_size > end:
                with path.open("rb") as file:
                    for header, place in _scan(file, path, end):
                        self._ends[path] = place.offset + place.length
                        yield header, place

    def append(self, header: Mapping[str, Any], arrays: Mapping[str, np.ndarray] | None = None) -> None:
        """Write a record at the end of the file of this process."""
        from safetensors.numpy import save

        text = json.dumps(dict(header)).encode()
        body = save({name: np.ascontiguousarray(array) for name, array in arrays.items()}) if arrays else b""
        prefix = _PREFIX.pack(_MAGIC, zlib.crc32(text), zlib.crc32(body), len(text), len(body))
        if self._file is None:
            self._file = self._locked()
        left = memoryview(prefix + _CHECK.pack(zlib.crc32(prefix)) + text + body)
        try:
            while left:
                left = left[self._file.write(left) :]
        except OSError as error:  # a full disk: the next record takes the place of the unfinished one
            self.close()
            raise OSError(error.errno, error.strerror, str(self.folder)) from error

    def close(self) -> None:
        """Let another process append to the file of this one."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _locked(self) -> io.FileIO:
        """The first file that no other process holds, at the end of its last whole record."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for number in count():
            path = self.folder / f"records-{number}.bin"
            file = io.FileIO(os.open(path, os.O_RDWR | os.O_CREAT, 0o644), "r+")
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                end = max((place.offset + place.length for _, place in _scan(file, path, 0)), default=0)
            except BlockingIOError:
                file.close()
                continue
            except ValueError:
                file.close()
                raise
            file.truncate(end)
            file.seek(end)
            return file
        raise AssertionError  # count() does not end


def _scan(file: io.FileIO | BinaryIO, path: Path, start: int) -> Iterator[tuple[dict[str, Any], Place]]:
    """Headers and places of the whole records of a file from byte `start`; bodies are not read."""
    size = os.fstat(file.fileno()).st_size
    while start + _BEFORE_HEADER <= size:
        file.seek(start)
        prefix, (of_prefix,) = file.read(_PREFIX.size), _CHECK.unpack(file.read(_CHECK.size))
        magic, of_header, of_body, header_length, body_length = _PREFIX.unpack(prefix)
        if magic != _MAGIC or zlib.crc32(prefix) != of_prefix:
            raise _damaged(path, start)
        place = Place(path, start + _BEFORE_HEADER + header_length, body_length, of_body)
        if place.offset + place.length > size:
            return
        text = file.read(header_length)
        if zlib.crc32(text) != of_header:
            raise _damaged(path, start)
        yield json.loads(text), place
        start = place.offset + place.length


def _damaged(path: Path, offset: int) -> ValueError:
    return ValueError(
        f"{path}: damaged at byte {offset}: not the bytes that were written. Remove the file, or cut it there "
        f"(truncate -s {offset}), and give the command again: what is lost is computed again"
    )
