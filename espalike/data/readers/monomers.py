"""Complexes in outside files: their molecules by SMILES, geometry or structure, and the charges stated for them."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from rdkit import Chem, rdBase

from espalike.chem import ChemistryError, from_rdkit
from espalike.chem.complexes import complex_from_smiles, joined, monomers
from espalike.chem.molecule import Molecule
from espalike.data.readers.structure import check_numbers, connectivity, molecule_of
from espalike.data.schema import RecordError
from espalike.topology import components

UNKNOWN = "monomer unknown"
"""Reason of a rejection: a molecule of a complex cannot be read, is not supported, or is not in its geometry."""


def read_complex(name: str, smiles: str) -> Molecule:
    """The complex of a SMILES.

    Raises:
        RecordError: when a molecule of it cannot be read or is not supported.
    """
    try:
        return complex_from_smiles(smiles, name)
    except ChemistryError as error:
        raise RecordError(UNKNOWN, str(error)) from error


def check_charges(name: str, molecule: Molecule, stated: Sequence[int]) -> None:
    """Check the charges that a file states for a complex: the total, or one for each molecule.

    Raises:
        RecordError: naming the molecule whose charge differs.
    """
    charges = [monomer.net_charge for monomer, _ in monomers(molecule)]
    if len(stated) == 1:
        charges = [sum(charges)]
    if len(stated) != len(charges):
        raise RecordError("charge differs from SMILES", f"{name}: {len(stated)} charges for {len(charges)} molecules")
    for i, (charge, expected) in enumerate(zip(stated, charges, strict=True), start=1):
        if charge != expected:
            which = f"molecule {i}" if len(stated) > 1 else "the complex"
            raise RecordError(
                "charge differs from SMILES", f"{name}: charge {charge:+d} of {which}, {expected:+d} in its graph"
            )


def complex_of(name: str, numbers: np.ndarray, xyz: np.ndarray, smiles: str | None) -> Molecule:
    """The complex of one geometry, in the geometry's atom order.

    Args:
        name: what messages call it.
        numbers: atomic numbers, shape `(A,)`.
        xyz: coordinates [Å], shape `(A, 3)`.
        smiles: molecules separated by dots; mapped, map number i+1 being row i, or unmapped: then each molecule is laid
            on one of those that the distances show.

    Raises:
        RecordError: when there is no SMILES, a molecule of it is unknown, or elements or bonds differ from it.
    """
    if smiles is None:
        raise RecordError("no SMILES", f"{name}: a complex needs a SMILES, its molecules separated by dots")
    molecule = read_complex(name, smiles)
    if re.search(r":\d+\]", smiles):  # mapped
        check_numbers(name, molecule, numbers)
        return molecule
    if len(numbers) != molecule.n_atoms:
        check_numbers(name, molecule, numbers)
    label = components(len(numbers), np.array(connectivity(numbers, xyz), dtype=np.int64).reshape(-1, 2))
    seen = [np.flatnonzero(label == i) for i in range(int(label.max()) + 1)]
    if len(seen) != smiles.count(".") + 1:
        raise RecordError(
            UNKNOWN,
            f"{name}: distances show {len(seen)} molecules, the SMILES has {smiles.count('.') + 1}; map the SMILES",
        )
    laid: list[Molecule] = []
    atoms: list[np.ndarray] = []
    for i, part in enumerate(smiles.split("."), start=1):
        for j, own in enumerate(seen):
            try:
                laid.append(molecule_of(f"{name}, molecule {i}", numbers[own], xyz[own], part))
            except (RecordError, ChemistryError):
                continue
            atoms.append(seen.pop(j))
            break
        else:
            raise RecordError(UNKNOWN, f"{name}: molecule {i} ({part}) is none of those that its geometry shows")
    return joined(laid, atoms, name)


def complex_of_structure(name: str, mol: Chem.Mol) -> Molecule:
    """The complex of a sanitized RDKit molecule with several fragments, in its atom order.

    Raises:
        RecordError: when there is one fragment only, or one is not supported.
    """
    places: list[tuple[int, ...]] = []
    with rdBase.BlockLogs():
        fragments = Chem.GetMolFrags(mol, asMols=True, fragsMolAtomMapping=places)
    if len(fragments) < 2:
        raise RecordError("no complex", f"{name}: one molecule; expected two or more in the record")
    try:
        parts = [from_rdkit(part, f"{name}, molecule {i}") for i, part in enumerate(fragments, start=1)]
    except ChemistryError as error:
        raise RecordError(UNKNOWN, str(error)) from error
    return joined(parts, [np.array(place) for place in places], name)
