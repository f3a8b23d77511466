"""Partial charges from a text file of the user."""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np

from espalike.chem.errors import ChemistryError

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,2})?", re.ASCII)
"""A finite number; `float` also reads nan, 1_0 and digits of other scripts."""


def read_charges(path: str | os.PathLike) -> np.ndarray:
    """Partial charges [e] of a text file: plain numbers separated by white space, `#` starts a comment; shape `(A,)`.

    Raises:
        ChemistryError: if the file cannot be read or holds anything but numbers.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ChemistryError(f"{path}: cannot read charges ({error})") from error
    values = []
    for number, line in enumerate(lines, start=1):
        for token in line.partition("#")[0].split():
            if not _NUMBER.fullmatch(token):
                raise ChemistryError(
                    f"{path}, line {number}: expected plain numbers, one charge per atom in input order, got {token!r}"
                )
            values.append(float(token))
    if not values:
        raise ChemistryError(f"{path}: holds no charges; expected plain numbers, one per atom in input order")
    return np.array(values, dtype=np.float64)
