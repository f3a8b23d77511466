"""Small tables and lists: aligned text for terminals and `repr`, HTML for notebooks; CSV that people write."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Mapping, Sequence
from html import escape

Rows = Sequence[Mapping[str, object]]
"""Rows by column; all rows have the columns of the first."""


def text_table(rows: Rows) -> str:
    """Rows as text, columns aligned, under their heads.

    Examples:
        >>> print(text_table([{"term": "HarmonicBond", "tuples": 8}, {"term": "Coulomb", "tuples": 36}]))
        term          tuples
        HarmonicBond  8
        Coulomb       36
    """
    return aligned([list(rows[0]), *(list(row.values()) for row in rows)])


def aligned(lines: Sequence[Sequence[object]]) -> str:
    """Lines of cells as text, columns aligned."""
    texts = [[str(cell) for cell in line] for line in lines]
    widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in texts)


def html_table(rows: Rows) -> str:
    """Rows as an HTML table under their heads."""

    def line(tag: str, cells: Iterable[object]) -> str:
        return f"<tr>{''.join(f'<{tag}>{escape(str(cell))}</{tag}>' for cell in cells)}</tr>"

    return f"<table>{line('th', rows[0])}{''.join(line('td', row.values()) for row in rows)}</table>"


def read_csv(path: str | os.PathLike, columns: Sequence[str]) -> list[dict[str, str]]:
    """The rows of a CSV file (UTF-8, with or without a byte order mark) that a person wrote.

    Raises:
        ValueError: naming the file, when it is not CSV, lacks a column, has one twice, or a row has more cells than the
            head, or none in one of the columns.
    """
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            rows = csv.DictReader(file, strict=True)
            names = list(rows.fieldnames or [])
            if not set(columns) <= set(names) or len(set(names)) < len(names):
                raise ValueError(f"{path}: expected columns {' and '.join(columns)}, each once, got {names}")
            content = list(rows)
    except (UnicodeDecodeError, csv.Error, IsADirectoryError) as error:
        raise ValueError(f"{path}: cannot be read as CSV ({error})") from error
    for number, row in enumerate(content, start=1):
        if None in row or None in map(row.get, columns):
            raise ValueError(f"{path}: row {number} under the head has too many or too few cells; the head has {names}")
    return content


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """A number and its noun, whose plural ends in s unless it is given.

    Examples:
        >>> counted(1, "molecule"), counted(2, "molecule"), counted(2, "entry", "entries")
        ('1 molecule', '2 molecules', '2 entries')
    """
    return f"{number} {noun if number == 1 else plural or f'{noun}s'}"


def first_few(names: Sequence[str], most: int = 5) -> str:
    """The first names, and how many more there are.

    Examples:
        >>> first_few(["a", "b", "c", "d"], most=2)
        'a, b and 2 more'
    """
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + rest
