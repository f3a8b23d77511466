"""Stereochemistry of coordinates, also of phosphines, which RDKit reads off a SMILES, but not off coordinates."""

from __future__ import annotations

import numpy as np
from rdkit import Chem

_PHOSPHINE = Chem.MolFromSmarts("[PX3;+0]")
_FLAT = 0.1
"""Smallest volume that three unit vectors of a pyramid span; it is 0.7 in one with right angles of 100°."""
_TAGS = Chem.ChiralType.CHI_TETRAHEDRAL_CW, Chem.ChiralType.CHI_TETRAHEDRAL_CCW


def assign_from_coordinates(mol: Chem.Mol, conformer: int = -1) -> None:
    """Give a sanitized molecule the stereo of its coordinates, in place of the one that it has."""
    Chem.AssignStereochemistryFrom3D(mol, conformer)
    phosphines = [atom for (atom,) in mol.GetSubstructMatches(_PHOSPHINE)]
    if not phosphines:
        return
    Chem.AssignAtomChiralTagsFromStructure(mol, conformer)  # of all atoms; those that are no centres lose it below
    xyz = mol.GetConformer(conformer).GetPositions()
    for atom in phosphines:
        ends = [bond.GetOtherAtomIdx(atom) for bond in mol.GetAtomWithIdx(atom).GetBonds()]
        rows = xyz[ends] - xyz[atom]
        volume = np.linalg.det(rows) / np.prod(np.linalg.norm(rows, axis=1))
        if abs(volume) > _FLAT:
            mol.GetAtomWithIdx(atom).SetChiralTag(_TAGS[int(volume > 0)])
    Chem.DetectBondStereochemistry(mol, conformer)
    Chem.AssignStereochemistry(mol, cleanIt=True, force=True)
