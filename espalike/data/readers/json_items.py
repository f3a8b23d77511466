"""The items of large JSON files, one at a time: of a list, of an object of named items, or of one document per line."""

from __future__ import annotations

import bz2
import gzip
import re
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any, BinaryIO

import ijson

_CHUNK = 1 << 16
"""Bytes read at once."""
_DEEPEST = 200
"""Largest number of lists and objects in one another; QCSchema has about ten."""
_NOT_FINITE = re.compile(rb"(?<=[\s\[:,])-?(?:NaN|Infinity)(?=[\s\]},]|\Z)")
_SEPARATOR = re.compile(rb"[\[:,]")


class BrokenJsonError(ValueError):
    """The text ends within an item, or is not JSON."""


class _Text:
    """A JSON text for ijson. NaN and Infinity, which Python writes and JSON does not have, become 1e999: infinite."""

    def __init__(self, file: BinaryIO):
        self._file, self._rest, self.blank = file, b"", True

    def read(self, size: int) -> bytes:
        """About `size` bytes, cut where no number is; empty at the end."""
        if not size:
            return b""
        while new := self._file.read(_CHUNK):
            if self.blank:
                new = new.removeprefix(b"\xef\xbb\xbf").lstrip()
            data = self._rest + new
            self.blank = not data
            ends = [match.start() for match in _SEPARATOR.finditer(data, max(0, len(data) - 200))]
            cut = ends[-1] if ends else len(data)
            self._rest = data[cut:]
            if cut:
                return _NOT_FINITE.sub(b"1e999", data[:cut])
        data, self._rest = self._rest, b""
        return _NOT_FINITE.sub(b"1e999", data)


def items(path: Path, whole: frozenset[str]) -> Iterator[tuple[str, Any]]:
    """Name and value of each item; the name is empty for items of a list and for documents one after the other.

    Args:
        path: the file; compressed where it ends in `.gz` or `.bz2`.
        whole: names of fields. An object whose first field is one of them is an item; others hold named items.

    Raises:
        BrokenJsonError: where the text ends too soon or is not JSON; the items before have been given by then, except
            those in the last 64 kB.
    """
    openers: dict[str, Callable[[Path, str], Any]] = {".gz": gzip.open, ".bz2": bz2.open}
    with openers.get(path.suffix, open)(path, "rb") as file:
        text = _Text(file)
        try:
            yield from _items(ijson.basic_parse(text, multiple_values=True), whole)
        except ijson.JSONError as error:
            if not text.blank:
                message = error.args[0].decode(errors="replace") if isinstance(error.args[0], bytes) else str(error)
                raise BrokenJsonError(message.splitlines()[0]) from error


def _items(events: Iterator[tuple[str, Any]], whole: frozenset[str]) -> Iterator[tuple[str, Any]]:
    parents: list[Any] = []  # lists and objects that are not complete, the outermost first
    keys: list[str | None] = []  # the current field of each; None in a list and before the first field
    is_item = False
    for event, value in events:
        if event == "map_key":
            if len(parents) == 1 and keys[0] is None:
                is_item = value in whole
            keys[-1] = value
            continue
        if event in ("start_map", "start_array"):
            parents.append({} if event == "start_map" else [])
            keys.append(None)
            if len(parents) > _DEEPEST:
                raise BrokenJsonError(f"more than {_DEEPEST} lists and objects in one another")
            continue
        if event in ("end_map", "end_array"):
            value = parents.pop()
            keys.pop()
            if not parents:
                if is_item:
                    yield "", value
                is_item = False
                continue
        elif isinstance(value, Decimal):
            value = float(value)
        if not parents:
            raise BrokenJsonError(f"expected a JSON list or object, got {value!r}")
        if len(parents) == 1 and not is_item:
            yield keys[0] or "", value
        elif keys[-1] is not None:
            parents[-1][keys[-1]] = value
        else:
            parents[-1].append(value)
