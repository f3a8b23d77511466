"""What readers of arrays have in common: finite numbers, and graphs from mapped SMILES."""

from __future__ import annotations

import re

import numpy as np

from espalike.chem.molecule import Molecule
from espalike.data.readers.base import parsed
from espalike.data.readers.structure import check_numbers
from espalike.data.schema import RecordError

_MAPPED = re.compile(r":\d+\]")


def finite(name: str, what: str, values: np.ndarray) -> np.ndarray:
    """The values, all of which are numbers. The checks of a record take energies that are all NaN for a level without.

    Raises:
        RecordError: when one is NaN or infinite.
    """
    if not np.isfinite(values).all():
        raise RecordError(f"{what} not finite", f"{name}: {what} hold NaN or infinite values")
    return values


def is_mapped(smiles: str) -> bool:
    """Whether a SMILES numbers its atoms."""
    return bool(_MAPPED.search(smiles))


def mapped(
    name: str, smiles: str, numbers: np.ndarray | None = None, charge: int | None = None
) -> tuple[Molecule, str]:
    """Molecule of a mapped SMILES, and its connectivity key.

    Args:
        name: what messages call it.
        smiles: map number i+1 is atom i.
        numbers: atomic numbers, shape `(A,)`, where the file gives them, too.
        charge: total charge [e], where the file gives it.

    Raises:
        RecordError: for a SMILES without map numbers, several fragments, or elements or a charge that differ from it.
        ChemistryError: for molecules that are not supported.
    """
    if not is_mapped(smiles):
        raise RecordError(
            "SMILES not mapped", f"{name}: {smiles!r} does not number its atoms; expected map numbers, atom i has i+1"
        )
    if "." in smiles:
        raise RecordError("several fragments", f"{name}: {smiles.count('.') + 1} molecules; expected one")
    molecule, key = parsed(smiles, name)
    if charge is not None and charge != molecule.net_charge:
        raise RecordError("charge differs from SMILES", f"{name}: charge {charge}, {molecule.net_charge} in the SMILES")
    if numbers is not None:
        check_numbers(name, molecule, numbers)
    return molecule, key
