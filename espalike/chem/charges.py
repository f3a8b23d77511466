"""Partial charges a user brings: read, checked against the molecule, made to sum to the formal charge."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from espalike.chem.errors import ChemistryError
from espalike.types import Molecule

SUM_TOLERANCE = 0.01
"""Largest deviation of the sum from the formal charge [e] that is taken for rounding and corrected."""


def read_charges(path: str | os.PathLike) -> np.ndarray:
    """Partial charges [e] of a text file: plain numbers separated by white space, `#` starts a comment; shape `(A,)`.

    Raises:
        ChemistryError: if the file cannot be read or holds something else than numbers.
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
                    f"{path}, line {number}: expected plain numbers, one charge an atom in input order, got {token!r}"
                ) from None
    if not values:
        raise ChemistryError(f"{path}: holds no charges; expected plain numbers, one an atom in input order")
    return np.array(values, dtype=np.float64)


def check_charges(molecule: Molecule, charges: np.ndarray, source: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """Charges that sum to the formal charge exactly, and notes on what was corrected.

    A deviation within `SUM_TOLERANCE` is rounding and is spread evenly over the atoms.

    Raises:
        ChemistryError: for a wrong count, a number that is not finite, or a sum further off.
    """
    charges = np.asarray(charges, dtype=np.float64)
    if charges.shape != (molecule.n_atoms,):
        raise ChemistryError(
            f"{molecule.name}: {source} holds {charges.size} charges, "
            f"expected {molecule.n_atoms}, one an atom in input order"
        )
    if not np.isfinite(charges).all():
        atom = int(np.flatnonzero(~np.isfinite(charges))[0])
        raise ChemistryError(
            f"{molecule.name}: {source} has {charges[atom]} for atom {atom + 1}; expected a finite number"
        )
    excess = charges.sum() - molecule.net_charge
    if abs(excess) > SUM_TOLERANCE:
        raise ChemistryError(
            f"{molecule.name}: the charges of {source} sum to {charges.sum():+.4f} e, expected the formal charge "
            f"{molecule.net_charge:+d} within {SUM_TOLERANCE}; correct the charges or the formal charges"
        )
    notes: tuple[str, ...] = ()
    if abs(excess) > 1e-9:
        notes = (
            f"charges of {source} summed to {charges.sum():+.6f} e; {-excess / len(charges):+.2e} e added to each atom",
        )
    return charges - excess / len(charges), notes
