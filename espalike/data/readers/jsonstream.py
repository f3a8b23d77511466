"""Large JSON files an item at a time: a list, an object of named items, or document after document (JSON lines)."""

from __future__ import annotations

import bz2
import gzip
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TextIO

_CHUNK = 1 << 20
"""Characters read at first; more where an item is longer."""


class Cut(ValueError):
    """The text ends within an item, or is no JSON from some place on."""


def open_text(path: Path) -> TextIO:
    """A text file, compressed or not, by its suffix: `.gz`, `.bz2` or neither."""
    openers: dict[str, Callable] = {".gz": gzip.open, ".bz2": bz2.open}
    return openers.get(path.suffix, open)(path, "rt", encoding="utf-8")


class _Text:
    """A text that is read as far as needed."""

    def __init__(self, file: TextIO):
        self._file, self._text, self._at, self._more = file, "", 0, True
        self._decoder = json.JSONDecoder()

    def _read(self) -> bool:
        if self._more:
            kept = self._text[self._at :]
            added = self._file.read(max(_CHUNK, len(kept)))
            self._more = bool(added)
            self._text, self._at = kept + added, 0
        return self._more

    def peek(self) -> str:
        """The next character that is not blank; empty at the end."""
        while True:
            while self._at < len(self._text) and self._text[self._at] in " \t\r\n\ufeff":
                self._at += 1
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._read():
                return ""

    def take(self, characters: str) -> str:
        """The next character that is not blank, which must be one of these."""
        found = self.peek()
        if not found or found not in characters:
            raise Cut(f"expected one of {characters!r}, found {found!r}" if found else "it ends within an item")
        self._at += 1
        return found

    def value(self) -> Any:
        """The next value."""
        self.peek()
        while True:
            try:
                value, end = self._decoder.raw_decode(self._text, self._at)
            except json.JSONDecodeError as error:
                if self._read():
                    continue
                raise Cut(f"it ends within an item, or is no JSON there ({error.msg})") from error
            if end == len(self._text) and self._text[end - 1] not in '"}]' and self._read():
                continue  # a number may go on
            self._at = end
            return value


def items(file: TextIO, whole: frozenset[str]) -> Iterator[tuple[str, Any]]:
    """Name and value of each item; the name is empty where the items stand in a list or one after the other.

    Args:
        file: the text.
        whole: names of fields that tell an item from an object of named items, when they come first in it.

    Raises:
        Cut: where the text ends too soon or is no JSON; what stands before has been given.
    """
    text = _Text(file)
    while start := text.peek():
        if start == "[":
            text.take("[")
            yield from _members(text, "]")
        elif start == "{":
            text.take("{")
            yield from _object(text, whole)
        else:
            raise Cut(f"expected a JSON list or object, found {start!r}")


def _members(text: _Text, end: str) -> Iterator[tuple[str, Any]]:
    if text.peek() == end:
        text.take(end)
        return
    while True:
        name = ""
        if end == "}":
            name = str(text.value())
            text.take(":")
        yield name, text.value()
        if text.take(f",{end}") == end:
            return


def _object(text: _Text, whole: frozenset[str]) -> Iterator[tuple[str, Any]]:
    """One item, or the items of an object that names them; the first name tells."""
    members = _members(text, "}")
    first = next(members, None)
    if first is None:
        return
    if first[0] in whole:
        yield "", dict([first, *members])
    else:
        yield first
        yield from members
