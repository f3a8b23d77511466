"""Bond orders, charges and stereo of residues of a PDB or mmCIF that are not standard ones, from a SMILES."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from rdkit import Chem

from espalike.chem import sanitize as rd
from espalike.chem.errors import ChemistryError
from espalike.chem.graphs import ends_of, formula, numbers_of, skeleton
from espalike.chem.structures import Residue

_RELATIVE = {Chem.BondStereo.STEREOE: Chem.BondStereo.STEREOTRANS, Chem.BondStereo.STEREOZ: Chem.BondStereo.STEREOCIS}
"""The stereo of a double bond by the priorities of its neighbours, and relative to two of them."""


def assign(
    mol: Chem.RWMol, atoms: Sequence[int], residues: Sequence[Residue], smiles: str, name: str, kind: str
) -> None:
    """Give atoms of a molecule the bond orders, charges and isotopes of a SMILES.

    Parts that are bonded to one another have one of its molecules together, or one per residue.

    Args:
        mol: the molecule.
        atoms: the atoms.
        residues: the residue of each atom of the molecule.
        smiles: the SMILES; `*` is an atom of another residue.
        name: name for messages.
        kind: kind of the file for messages.
    """
    templates = [template_of(part, name) for part in smiles.split(".")]
    orders: dict[int, Chem.BondType] = {}
    for part in _parts(mol, atoms):
        pieces, matches = [part], [_match(mol, part, templates)]
        if matches == [None] and len({residues[n] for n in part}) > 1:
            of_residues = _by_residue(mol, part, residues)
            found = [_match(mol, piece, templates) for piece in of_residues]
            pieces, matches = (of_residues, found) if any(found) else (pieces, matches)
        for piece, match in zip(pieces, matches, strict=True):
            if match is None:
                where = ", ".join(map(str, dict.fromkeys(residues[n] for n in piece)))
                other = "a standard residue" if piece is part else "another residue"
                raise ChemistryError(f"{name}: {where}: {_difference(mol, piece, templates, kind, other)}")
            for bond, order in _set(mol, piece, *match).items():
                if orders.setdefault(bond, order) != order:
                    ends = mol.GetBondWithIdx(bond)
                    first, second = residues[ends.GetBeginAtomIdx()], residues[ends.GetEndAtomIdx()]
                    raise ChemistryError(
                        f"{name}: the SMILES of {first} and {second} have bonds of different orders between them"
                    )


def _parts(mol: Chem.Mol, atoms: Sequence[int]) -> list[list[int]]:
    """Atoms by the parts in which they are connected, in the order of their first atoms."""
    left, parts = dict.fromkeys(atoms), list[list[int]]()
    while left:
        part = [left.popitem()[0]]
        for n in part:
            for other in mol.GetAtomWithIdx(n).GetNeighbors():
                if other.GetIdx() in left:
                    del left[other.GetIdx()]
                    part.append(other.GetIdx())
        parts.append(sorted(part))
    return sorted(parts)


def _by_residue(mol: Chem.Mol, atoms: Sequence[int], residues: Sequence[Residue]) -> list[list[int]]:
    """The connected parts of each residue."""
    of: dict[Residue, list[int]] = {}
    for n in atoms:
        of.setdefault(residues[n], []).append(n)
    return [part for inside in of.values() for part in _parts(mol, inside)]


def _outside(mol: Chem.Mol, inside: Sequence[int]) -> list[int]:
    """Atoms that a part is bonded to."""
    chosen = set(inside)
    near = (other.GetIdx() for n in inside for other in mol.GetAtomWithIdx(n).GetNeighbors())
    return list(dict.fromkeys(n for n in near if n not in chosen))


def template_of(smiles: str, name: str) -> Chem.Mol:
    """The molecule of a SMILES with hydrogens and Kekulé bonds; it may have open ends, written `*`."""
    if "*" not in smiles:
        mol = rd.from_smiles(smiles, f"{name} (--smiles)")
        Chem.Kekulize(mol, clearAromaticFlags=True)
        rd.restore_isotopes(mol)
        return mol
    mol = Chem.MolFromSmiles(smiles)
    if mol is None:
        raise ChemistryError(f"{name} (--smiles): {rd.shorten(smiles)!r} is not a valid SMILES")
    mol = Chem.AddHs(mol)
    Chem.Kekulize(mol, clearAromaticFlags=True)
    return mol


def _numbers(mol: Chem.Mol, inside: list[int], outside: list[int]) -> np.ndarray:
    """Atomic numbers of a part and, as 0, of the atoms that it is bonded to."""
    return np.array([*(mol.GetAtomWithIdx(n).GetAtomicNum() for n in inside), *[0] * len(outside)])


def _alike(numbers: np.ndarray, templates: list[Chem.Mol]) -> list[Chem.Mol]:
    """The templates with these atoms."""
    return [t for t in templates if np.array_equal(np.sort(numbers_of(t)), np.sort(numbers))]


def _match(mol: Chem.Mol, inside: list[int], templates: list[Chem.Mol]) -> tuple[Chem.Mol, list[int]] | None:
    """The template that a connected part is, and the atom of the molecule for each of its atoms; None if none is."""
    outside = _outside(mol, inside)
    back = [*inside, *outside]
    where, numbers = {n: row for row, n in enumerate(back)}, _numbers(mol, inside, outside)
    bonds = (bond for n in inside for bond in mol.GetAtomWithIdx(n).GetBonds())
    pairs = {tuple(sorted((where[bond.GetBeginAtomIdx()], where[bond.GetEndAtomIdx()]))) for bond in bonds}
    for template in _alike(numbers, templates):
        match = skeleton(numbers, pairs).GetSubstructMatch(skeleton(numbers_of(template), ends_of(template)))
        if match and len(pairs) == template.GetNumBonds():
            return template, [back[row] for row in match]
    return None


def _difference(mol: Chem.Mol, inside: list[int], templates: list[Chem.Mol], kind: str, other: str) -> str:
    """Why a part is none of the templates; `other` is what its neighbours are atoms of."""
    outside = _outside(mol, inside)
    numbers = _numbers(mol, inside, outside)
    if odd := formula(z for z in set(numbers.tolist()) - rd.COVALENT if z):
        return f"bonds of {odd} have no parameters; leave the atom out of the {kind}, or the records of its bonds"
    if _alike(numbers, templates):
        return f"the bonds of the {kind} and of the SMILES are not those of the same molecule"
    ends = f" and {len(outside)} bonds to other residues" if len(outside) > 1 else f" and a bond to {other}"
    offered = ", ".join(formula(z for z in numbers_of(t) if z) for t in templates)
    return (
        f"the {kind} has {formula(z for z in numbers if z)}{ends if outside else ''}, the SMILES with its hydrogens "
        f"{offered}; they must be the same molecule, hydrogens included"
        + (", with * for each such bond" if outside else "")
    )


def _set(mol: Chem.RWMol, inside: list[int], template: Chem.Mol, place: list[int]) -> dict[int, Chem.BondType]:
    """Give a part the bond orders, charges and isotopes of its template; orders of its bonds to other atoms."""
    chosen, across = set(inside), {}
    for bond in template.GetBonds():
        ends = place[bond.GetBeginAtomIdx()], place[bond.GetEndAtomIdx()]
        ours = mol.GetBondBetweenAtoms(*ends)
        ours.SetBondType(bond.GetBondType())
        if not chosen.issuperset(ends):
            across[ours.GetIdx()] = bond.GetBondType()
    for atom, n in zip(template.GetAtoms(), place, strict=True):
        if atom.GetAtomicNum():
            mol.GetAtomWithIdx(n).SetFormalCharge(atom.GetFormalCharge())
        if atom.GetIsotope():
            mol.GetAtomWithIdx(n).SetIsotope(atom.GetIsotope())
    _take_stereo(mol, template, place)
    return across


def _take_stereo(mol: Chem.RWMol, template: Chem.Mol, place: Sequence[int]) -> None:
    """Give atoms the stereo of a SMILES, for coordinates that show none; those of a geometry replace it.

    Args:
        mol: the molecule.
        template: the molecule of the SMILES.
        place: atoms of the molecule that are the template's.
    """
    for atom in template.GetAtoms():
        if atom.GetChiralTag() == Chem.ChiralType.CHI_UNSPECIFIED:
            continue
        ours = mol.GetAtomWithIdx(place[atom.GetIdx()])
        order = [place[bond.GetOtherAtomIdx(atom.GetIdx())] for bond in atom.GetBonds()]
        turned = [order.index(bond.GetOtherAtomIdx(ours.GetIdx())) for bond in ours.GetBonds()]
        ours.SetChiralTag(atom.GetChiralTag())
        if sum(a > b for a, b in itertools.combinations(turned, 2)) % 2:
            ours.InvertChirality()
    for bond in template.GetBonds():
        if ends := [place[atom] for atom in bond.GetStereoAtoms()]:
            ours = mol.GetBondBetweenAtoms(place[bond.GetBeginAtomIdx()], place[bond.GetEndAtomIdx()])
            if ours.GetBeginAtomIdx() != place[bond.GetBeginAtomIdx()]:
                ends = ends[::-1]
            ours.SetStereoAtoms(*ends)
            ours.SetStereo(_RELATIVE.get(bond.GetStereo(), bond.GetStereo()))
    Chem.SetDoubleBondNeighborDirections(mol)  # from these, sanitization finds the stereo anew
