"""Checks of the minimum: bonds, stereochemistry, planarity of aromatic rings and amides, tetrahedral S and P."""

from __future__ import annotations

import numpy as np
from rdkit import Chem
from rdkit.Chem import rdMolTransforms

from espalike.check.case import Case, Fault, NotApplicable
from espalike.chem.bonds import FAULTS, bond_faults
from espalike.chem.molecule import to_rdkit
from espalike.chem.stereo import assign_from_coordinates

_AMIDE = Chem.MolFromSmarts("[#1,#6:1][NX3;!$(N[#7,#8,#16,#15]);!$(N=*):2][CX3;!$(C=[!O]):3]=[OX1:4]")
_TETRAHEDRAL = Chem.MolFromSmarts("[$([#16X4](=O)(=O)),$([#15X4])]")
_RING, _TWIST, _ANGLE = 0.1, 30.0, (90.0, 130.0)
"""Largest distance from the plane of an aromatic ring [Å] and twist of an amide, and smallest and largest angle at
tetrahedral atoms [degree]. Where MMFF94's minimum is beyond these, the molecule is strained, and is not judged."""


def bonds(case: Case) -> None:
    """The minimum has the bonds of the graph, and no others."""
    if fault := int(bond_faults(case.molecule, case.relaxed[None])[0]):
        ratio = case.lengths(case.relaxed) / case.lengths(case.start)
        worst = case.molecule.bonds[np.argmax(np.abs(ratio - 1))]
        raise Fault(f"minimisation: {FAULTS[fault - 1]}", worst)


def stereochemistry(case: Case) -> None:
    """Minimisation keeps the configuration of stereocentres and double bonds."""
    before, after = (_configuration(to_rdkit(case.molecule, xyz)) for xyz in (case.start, case.relaxed))
    if not before:
        raise NotApplicable("no stereocentres or stereogenic double bonds")
    for atoms, label in before.items():
        if after.get(atoms) != label:
            raise Fault(f"minimisation turns {label} into {after.get(atoms, 'no configuration')}", atoms)


def aromatic_rings(case: Case) -> float:
    """Aromatic rings are planar. Value: largest distance of an atom from the plane [Å]."""
    mol = to_rdkit(case.molecule)
    aromatic = [
        ring for ring in mol.GetRingInfo().AtomRings() if all(mol.GetAtomWithIdx(i).GetIsAromatic() for i in ring)
    ]
    rings = [ring for ring in aromatic if _off_plane(case.start[list(ring)]) < _RING]
    if not rings:
        raise NotApplicable("no planar aromatic ring")
    off = [_off_plane(case.relaxed[list(ring)]) for ring in rings]
    if (largest := max(off)) > _RING:
        raise Fault(f"an atom of an aromatic ring is {largest:.2f} Å off its plane", rings[int(np.argmax(off))])
    return largest


def amides(case: Case) -> float:
    """Amides are planar. Value: largest twist [degree]."""
    matches = to_rdkit(case.molecule).GetSubstructMatches(_AMIDE)
    flat = [match for match in matches if _twist(case.molecule, case.start, match) < _TWIST]
    if not flat:
        raise NotApplicable("no planar amide")
    twists = [_twist(case.molecule, case.relaxed, match) for match in flat]
    if (largest := max(twists)) > _TWIST:
        raise Fault(f"an amide is twisted by {largest:.0f}°", flat[int(np.argmax(twists))])
    return largest


def tetrahedral(case: Case) -> None:
    """Sulfur of sulfones and sulfonamides and phosphorus with four neighbours stay tetrahedral."""
    mol = to_rdkit(case.molecule)
    found = 0
    for (centre,) in mol.GetSubstructMatches(_TETRAHEDRAL):
        around = [a.GetIdx() for a in mol.GetAtomWithIdx(centre).GetNeighbors()]
        for n, i in enumerate(around):
            for j in around[n + 1 :]:
                before, after = (_angle(xyz, i, centre, j) for xyz in (case.start, case.relaxed))
                if not _ANGLE[0] < before < _ANGLE[1]:
                    continue
                found += 1
                if not _ANGLE[0] < after < _ANGLE[1]:
                    raise Fault(f"an angle at {mol.GetAtomWithIdx(centre).GetSymbol()} is {after:.0f}°", (i, centre, j))
    if not found:
        raise NotApplicable("no sulfone, sulfonamide or phosphorus with four neighbours")


def _configuration(mol: Chem.Mol) -> dict[tuple[int, ...], str]:
    """Labels (R, S, E, Z) of stereocentres and double bonds by their atoms, as the coordinates have them."""
    assign_from_coordinates(mol)
    found: dict[tuple[int, ...], str] = {}
    for atom, label in Chem.FindMolChiralCenters(mol, useLegacyImplementation=True):
        found[(atom,)] = label
    for bond in mol.GetBonds():
        if bond.GetStereo() in (Chem.BondStereo.STEREOE, Chem.BondStereo.STEREOZ):
            found[bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()] = bond.GetStereo().name[-1]
    return found


def _off_plane(points: np.ndarray) -> float:
    """Largest distance of points from their best plane [Å]."""
    centred = points - points.mean(0)
    return float(np.abs(centred @ np.linalg.svd(centred)[2][2]).max())


def _twist(molecule, xyz: np.ndarray, match: tuple[int, ...]) -> float:
    """How far a torsion is from 0 or 180° [degree]."""
    angle = abs(rdMolTransforms.GetDihedralDeg(to_rdkit(molecule, xyz).GetConformer(), *match))
    return min(angle, 180.0 - angle)


def _angle(xyz: np.ndarray, i: int, centre: int, j: int) -> float:
    u, v = xyz[i] - xyz[centre], xyz[j] - xyz[centre]
    return float(np.degrees(np.arccos(np.clip(u @ v / np.linalg.norm(u) / np.linalg.norm(v), -1, 1))))
