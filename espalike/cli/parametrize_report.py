"""The report of `espalike parametrize`: a line of JSON per input while it runs, from which a stopped run continues."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from espalike import files

_RUN = "run"
"""Key of what identifies a run in the first line; it is left out of a report in one document."""


class Report:
    """Lines of settings, of each input as it is finished, and of counts at the end.

    `FILE.jsonl` consists of these lines, as does what a pipe or device gets. For another name, the lines are beside it
    in `NAME.unfinished` while the program runs, and become one JSON document at the end. Lines of the same run without
    the line of counts belong to a run that was stopped. Each row has a checksum of itself, its number and the run, so
    that only rows are continued from that are what was written, and whose files have not changed since. A file that
    cannot be written stops nothing; `error` is the reason then.

    Args:
        path: the report; None: no report is written.
        head: settings of the run.
        run: what identifies the run: all that its results depend on.
    """

    def __init__(self, path: Path | None, head: Mapping[str, Any], run: str):
        self.path = path
        self.error: OSError | None = None
        self._head, self._run = dict(head), run
        self._file: IO[bytes] | None = None
        self._count = 0
        itself = path is None or path.suffix == ".jsonl" or files.is_stream(path)
        self.lines = path if path is None or itself else path.with_name(f"{path.name}.unfinished")

    def __enter__(self) -> Report:
        return self

    def __exit__(self, *error: object) -> None:
        if self._file is not None:
            with suppress(OSError):  # what could not be written is in `error`
                self._file.close()

    def begin(self) -> Iterator[dict[str, Any]]:
        """Open the report; the rows of inputs that a stopped run has finished are kept, and given in order.

        Raises:
            ValueError: when another run writes this report.
        """
        if self.lines is None:
            return
        end = 0
        try:
            self.lines.parent.mkdir(parents=True, exist_ok=True)
            self._file = self.lines.open("wb" if files.is_stream(self.lines) else "ab")  # nothing is lost so far
        except OSError as error:
            self.error = error
            return
        if not files.lock(self._file.fileno()):
            raise ValueError(f"{self.path}: another run writes this report; wait, or give another --report")
        for row, place in self._rows():
            yield row
            self._count, end = self._count + 1, place
        try:
            if not files.is_stream(self.lines):
                self._file.truncate(end)
        except OSError as error:
            self.error = error
        if not end:
            self._write([self._head | {_RUN: self._run}])

    def add(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write the rows of finished inputs."""
        first, self._count = self._count, self._count + len(rows)
        self._write([files.sealed(row, self._of(number)) for number, row in enumerate(rows, first)])

    def end(self, counts: Mapping[str, int]) -> None:
        """Write the counts, and the whole as one document unless the report is of lines."""
        self._write([counts])
        if self._file is None or self.error is not None:
            return
        self._file.close()
        if self.path != self.lines:
            try:
                self._write_document(counts)
            except OSError as error:
                self.error = error

    def _write(self, rows: Sequence[Mapping[str, Any]]) -> None:
        if self._file is None or self.error is not None:
            return
        try:
            self._file.write(b"".join(_encoded(row) + b"\n" for row in rows))
            self._file.flush()
        except OSError as error:
            self.error = error

    def _rows(self) -> Iterator[tuple[dict[str, Any], int]]:
        """Rows of a stopped run with the same settings while their files are its own, and where each ends."""
        if self.lines is None or not self.lines.is_file() or self._is_complete():
            return
        with self.lines.open("rb") as file:
            if (_decoded(file.readline()) or {}).get(_RUN) != self._run:
                return
            written = files.version_of(self.lines)[1]
            for number, line in enumerate(iter(file.readline, b"")):
                row = files.unsealed(line, self._of(number)) if line.endswith(b"\n") else None
                # files that are newer than the report are of another run
                if row is None or not all(0 < files.version_of(name)[1] <= written for name in row["files"]):
                    return
                if "[Errno " in str(row.get("reason")):  # a full disk, for instance: it is tried again
                    return
                yield row, file.tell()

    def _of(self, number: int) -> str:
        """What the row of an input belongs to."""
        return f"{self._run} {number}"

    def _is_complete(self) -> bool:
        """Whether the last line is that of the counts."""
        assert self.lines is not None
        with self.lines.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(size - 1000, 0))
            last = file.read().splitlines()[-1:]
        return bool(last) and "failed" in (_decoded(last[0] + b"\n") or {})

    def _write_document(self, counts: Mapping[str, int]) -> None:
        assert self.path is not None
        assert self.lines is not None
        head = _encoded(self._head | dict(counts), indent=1).removesuffix(b"\n}")
        with files.replacing(self.path) as temporary, temporary.open("wb") as document, self.lines.open("rb") as lines:
            document.write(head + b',\n "inputs": [')
            next(lines)
            separator = b"\n  "
            for row in map(_decoded, lines):
                if row is not None and "name" in row:
                    del row[files.SEAL]
                    document.write(separator + _encoded(row))
                    separator = b",\n  "
            document.write(b"\n ]\n}\n")
        self.lines.unlink()


def is_report(path: Path) -> bool:
    """Whether a file is empty, or begins as a report does."""
    with path.open("rb") as file:
        start = file.read(100).split()
    return start[:1] in ([], [b'{"espalike":']) or start[:2] == [b"{", b'"espalike":']


def _encoded(content: Mapping[str, Any], indent: int | None = None) -> bytes:
    text = json.dumps(content, indent=indent, ensure_ascii=False)
    return text.encode("utf-8", "backslashreplace")  # halves of pairs become JSON's own escapes


def _decoded(line: bytes) -> dict[str, Any] | None:
    """The content of a whole line; None for a part of one."""
    try:
        content = json.loads(line) if line.endswith(b"\n") else None
    except (ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None
