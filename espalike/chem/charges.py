"""Partial charges that users give: from a text file, and their sum."""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np

from espalike.chem.errors import ChemistryError
from espalike.chem.molecule import Molecule
from espalike.units import magnitude

_LARGEST_ERROR = 0.01
"""Largest difference of given charges from the formal charge that counts as rounding [e]."""
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,2})?", re.ASCII)
"""A finite number; `float` also reads nan, 1_0 and digits of other scripts."""


def read_charges(path: str | os.PathLike) -> np.ndarray:
    """Partial charges [e] of a text file: plain numbers separated by white space, `#` starts a comment; shape `(A,)`.

    Raises:
        ChemistryError: if the file cannot be read or holds anything but numbers.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").split("\n")
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


def fit_to_formal(molecule: Molecule, charges: np.ndarray) -> np.ndarray:
    """Charges [e] whose sum is the formal charge; a rounding error is spread evenly.

    Raises:
        ValueError: when the count is wrong, a value is not finite, all are zero, or the sum is off by more than 0.01 e.
        TypeError: for a text.
    """
    if isinstance(charges, str):
        raise TypeError(
            f"{molecule.name}: expected numbers, got {charges!r}; espalike.parametrize takes sources by name"
        )
    charges = np.asarray(magnitude(charges, "elementary_charge"), dtype=np.float64)
    if charges.shape != (molecule.n_atoms,):
        got = charges.size if charges.ndim == 1 else f"an array of shape {charges.shape}"
        raise ValueError(f"{molecule.name}: expected {molecule.n_atoms} charges, one per atom; got {got}")
    if not np.isfinite(charges).all():
        raise ValueError(f"{molecule.name}: charges hold values that are not finite numbers")
    if not charges.any() and len(set(molecule.numbers.tolist())) > 1:
        raise ValueError(
            f"{molecule.name}: all given charges are zero, which no molecule of several elements has; give its partial "
            "charges, or leave them to the model"
        )
    error = charges.sum() - molecule.net_charge
    if abs(error) > _LARGEST_ERROR:
        raise ValueError(
            f"{molecule.name}: charges sum to {charges.sum():+.4f} e, but the molecule's formal charge is "
            f"{molecule.net_charge:+d}; give charges of this molecule in this protonation state"
        )
    return charges - error / molecule.n_atoms
