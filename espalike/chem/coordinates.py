"""Whether the coordinates of a record are those of a geometry of its molecule.

Zeros, drawings, bohr or nanometres that were written as Å, and hydrogens at the origin are none.
"""

from __future__ import annotations

import numpy as np
from rdkit import Chem

from espalike.chem.graphs import RADII, ends_of, numbers_of

_SHORTEST, _LONGEST = 0.5, 2.0
"""Limits of the length of one bond, relative to the sum of the covalent radii."""
_SHORT, _LONG = 0.65, 1.5
"""Limits of the median bond, relative to the same sum: it is 0.8 in dinitrogen, 1.2 in dihydrogen, and about 1 else."""
_SHORTEST_FLAT, _LONGEST_FLAT = 0.7, 1.35
"""Limits of one bond of a planar molecule: 0.77 in dinitrogen, 1.2 in dihydrogen, 1.4 in a drawing with 1.5 Å."""
_ON_ONE_POINT = 0.01
"""Distance of two atoms below which they are on one point [Å]; files before minimisation have some 0.1 Å apart."""
_THICKNESS = 1e-3
"""Largest distance of an atom from the plane of a drawing [Å]."""
_SMALL = 500
"""Number of atoms up to which all distances are computed."""
_AXES = {Chem.BondStereo.STEREOATROPCW, Chem.BondStereo.STEREOATROPCCW}
_FOUR_NEIGHBOURS = Chem.MolFromSmarts("[D4,D5,D6]")


def fault(mol: Chem.Mol, xyz: np.ndarray) -> str:
    """What is wrong with the coordinates `(A, 3)` [Å] of a molecule; empty if nothing is."""
    if not np.isfinite(xyz).all():
        return "they hold values that are not finite"
    return _bonds(mol, xyz) or _drawing(mol, xyz) or _points(xyz)


def of_atropisomer(mol: Chem.Mol) -> np.ndarray | None:
    """Coordinates `(A, 3)` [Å] of a drawing that shows the isomer of an axis, which a SMILES cannot say; else None."""
    if _AXES.isdisjoint([bond.GetStereo() for bond in mol.GetBonds()]):
        return None
    from rdkit.Chem import rdDistGeom  # seldom needed

    mol, params = Chem.Mol(mol), rdDistGeom.ETKDGv3()
    params.randomSeed = 0  # type: ignore[assignment]
    return mol.GetConformer().GetPositions() if rdDistGeom.EmbedMolecule(mol, params) >= 0 else None


def _bonds(mol: Chem.Mol, xyz: np.ndarray) -> str:
    if not mol.GetNumBonds():
        return ""
    radius = RADII[numbers_of(mol)]
    i, j = np.array(ends_of(mol), dtype=np.int64).reshape(-1, 2).T
    length, usual = np.linalg.norm(xyz[i] - xyz[j], axis=1), radius[i] + radius[j]
    odd = np.flatnonzero(~((_SHORTEST * usual < length) & (length < _LONGEST * usual)))
    if len(odd):
        bond = odd[0]
        return (
            f"{len(odd)} of {len(i)} bonds are of no possible length, first {i[bond] + 1}-{j[bond] + 1} of "
            f"{length[bond]:.3g} Å; expected about {usual[bond]:.1f} Å"
        )
    median = float(np.median(length / usual))
    if _SHORT < median < _LONG:
        return ""
    return f"bonds are {median:.2f} times as long as usual; expected Å, write bohr as Å (1 bohr is 0.529177 Å)"


def _drawing(mol: Chem.Mol, xyz: np.ndarray) -> str:
    if np.ptp(xyz, axis=0).min() > _THICKNESS or not mol.GetNumBonds():
        return ""
    if mol.HasSubstructMatch(_FOUR_NEIGHBOURS):
        (atom,) = mol.GetSubstructMatch(_FOUR_NEIGHBOURS)
        return f"they are a drawing in a plane, but atom {atom + 1} has four neighbours or more"
    radius, (i, j) = RADII[numbers_of(mol)], np.array(ends_of(mol), dtype=np.int64).T
    length, usual = np.linalg.norm(xyz[i] - xyz[j], axis=1), radius[i] + radius[j]
    bond = int(np.abs(np.log(length / usual)).argmax())
    if _SHORTEST_FLAT * usual[bond] < length[bond] < _LONGEST_FLAT * usual[bond]:
        return ""
    return (
        f"they are a drawing in a plane, whose bond {i[bond] + 1}-{j[bond] + 1} has {length[bond]:.3g} Å; expected "
        f"about {usual[bond]:.1f} Å"
    )


def _points(xyz: np.ndarray) -> str:
    if len(xyz) <= _SMALL:
        square = (xyz * xyz).sum(axis=1)
        distance = square[:, None] + square - 2.0 * xyz @ xyz.T
        pairs = np.argwhere(np.triu(distance < 4.0 * _ON_ONE_POINT**2, 1))
    else:
        from scipy.spatial import cKDTree  # slow to import

        pairs = cKDTree(xyz).query_pairs(_ON_ONE_POINT, output_type="ndarray")
    for i, j in pairs.tolist():
        length = float(np.linalg.norm(xyz[i] - xyz[j]))
        if length < _ON_ONE_POINT:
            return f"atoms {i + 1} and {j + 1} are {length:.2g} Å apart"
    return ""
