"""Names of atoms and residues, titles, and rows of numbers as text."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from rdkit.Chem import GetPeriodicTable

from espalike.chem.molecule import Molecule
from espalike.chem.names import Label, fitted, made

STEM = "@STEM@"
"""Stands for the stem of the written files in the texts of a format of several files."""
NAME = "@NAME@"
"""Stands for the same stem as one word, which names the molecule inside the files."""
SDF_PROGRAM = "  espalike          3D"
"""The second line of an SDF; no clock: equal input, equal file."""
PDB_REMARK = "REMARK     the molecule as espalike parametrized it"
"""The first line of a PDB."""
_SIGNATURE = " (espalike)"
"""The end of the first line of files whose only text is a title."""
_MARKS = (b"Source: espalike ", b'<Fact name="Source">espalike ')
"""Provenance in the other files."""
_SYMBOLS = [GetPeriodicTable().GetElementSymbol(number) for number in range(119)]
_UNPRINTABLE = re.compile("[^\x20-\x7e\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def symbols(molecule: Molecule) -> list[str]:
    """Element symbols."""
    return [_SYMBOLS[number] for number in molecule.numbers.tolist()]


@lru_cache(maxsize=2)  # the files of a molecule are written one after the other
def atom_names(molecule: Molecule, width: int | None = None) -> tuple[str, ...]:
    """Names unique in the molecule: the input's, or element symbol and a count, in atom order (C1, H1, H2, …).

    Args:
        molecule: the molecule.
        width: longest name that a format has room for; None: any.
    """
    names = molecule.atom_names or made(symbols(molecule))
    return names if width is None else fitted(names, symbols(molecule), width)


def residue_name(molecule: Molecule) -> str:
    """Name of the residue: the input's, or `LIG`."""
    return molecule.residue or "LIG"


def labels_of(molecule: Molecule, width: int) -> Sequence[Label]:
    """Residue and name of each atom: those of an input of several residues, else of the one residue.

    It is in chain A: OpenMM writes mmCIF files that it cannot read where a chain has no name.

    Args:
        molecule: the molecule.
        width: longest name of an atom that a format has room for.
    """
    if molecule.labels:
        return [label._replace(name=label.name[:width]) for label in molecule.labels]
    residue = residue_name(molecule)
    return [Label("A", 1, "", residue, name, True) for name in atom_names(molecule, width)]


def residue_starts(labels: Sequence[Label]) -> list[int]:
    """The first atom of each residue: residues are atoms in a row with the same chain, number and name."""
    return [n for n, label in enumerate(labels) if not n or label[:4] != labels[n - 1][:4]]


def require_room(values: np.ndarray, width: int, decimals: int, where: str) -> None:
    """Refuse numbers that do not fit columns of a fixed width, where they would run into their neighbours.

    Args:
        values: the numbers.
        width: characters of a column.
        decimals: digits after the point.
        where: begins the message: name of the molecule, what the numbers are, and their unit.

    Raises:
        ValueError: naming the first of them and the range.
    """
    nines, fraction = "9" * (width - decimals - 2), "9" * decimals
    lowest, highest = float(f"-{nines}.{fraction}"), float(f"9{nines}.{fraction}")
    rounded = np.round(values, decimals).ravel()
    odd = rounded[~((rounded >= lowest) & (rounded <= highest))]
    if len(odd):
        raise ValueError(
            f"{where}: {odd[0]:g} does not fit its column of {width} characters, which holds {lowest} to {highest}; "
            "move the molecule nearer to the origin"
        )


def printable(text: str) -> str:
    """The text in one line, without characters that XML does not allow: control characters and halves of pairs."""
    return " ".join(_UNPRINTABLE.sub(" ", text).split())


def one_line(text: str) -> str:
    """A title: one line of at most 200 characters that does not begin like a directive and holds no comment."""
    return printable(text.translate({ord(c): " " for c in ';"\\&'})).lstrip("[#*%@!$ ")[:200].strip() or "molecule"


def signed(text: str) -> str:
    """A title that says which program wrote the file, for files that have room for nothing else."""
    return f"{one_line(text)}{_SIGNATURE}"


def is_foreign(path: Path) -> bool:
    """Whether something exists at a path that espalike did not write: a user's own file, which is kept."""
    if not path.exists():
        return False
    if not path.is_file():
        return True
    content = path.read_bytes()
    first, second, *_ = [*content[:1000].split(b"\n"), b"", b""]
    return not (
        first == PDB_REMARK.encode()
        or second == SDF_PROGRAM.encode()
        or first.endswith(_SIGNATURE.encode())
        or any(mark in content for mark in _MARKS)
    )


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows of text as aligned lines."""
    row = " " + "  ".join(f"%{max(map(len, column))}s" for column in zip(*rows, strict=True))
    return [row % tuple(texts) for texts in rows]


def element(tag: str, rows: Sequence[str], attributes: str = "") -> str:
    """An XML element with one line for each of its children; `attributes` begin with a space."""
    if not rows:
        return f"  <{tag}{attributes} />\n"
    return f"  <{tag}{attributes}>\n    " + "\n    ".join(rows) + f"\n  </{tag}>\n"


def rows_text(row: str, *columns: np.ndarray | Sequence[object]) -> str:
    """A line for each row of columns: all are formatted at once by a template such as `<Bond p1="%d" d="%r"/>`."""
    lists = [column.tolist() if isinstance(column, np.ndarray) else column for column in columns]
    return f"{row}\n" * len(lists[0]) % tuple(itertools.chain.from_iterable(zip(*lists, strict=True)))
