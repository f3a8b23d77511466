"""Partial charges from a text file of the user."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from espalike.chem.errors import ChemistryError


def read_charges(path: str | os.PathLike) -> np.ndarray:
    """Partial charges [e] of a text file: plain numbers separated by white space, `#` starts a comment; shape `(A,)`.

    Raises:
        ChemistryError: if the file cannot be read or holds anything but numbers.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ChemistryError(f"{path}: cannot read charges ({error})") from error
    values = []
    for number, line in enumerate(lines, start=1):
        for token in line.partition("#")[0].split():
            try:
                values.append(float(token))
            except ValueError:
                raise ChemistryError(
                    f"{path}, line {number}: expected plain numbers, one charge per atom in input order, got {token!r}"
                ) from None
    if not values:
        raise ChemistryError(f"{path}: holds no charges; expected plain numbers, one per atom in input order")
    return np.array(values, dtype=np.float64)
