"""Drawings of charges that are next to each other, as in ylides: with a double bond, or with the charges apart."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import chain

from rdkit import Chem

_YLIDE = Chem.MolFromSmarts("[P,S,As,Se;+1,+2;X3,X4]-[O,S;-1;X1]")
_IMIDATE = Chem.MolFromSmarts("[N;+0;X2]=[P,S;+0;X4]-[O;-1;X1]")


def without_ylides(mol: Chem.Mol) -> Chem.Mol:
    """Phosphates, sulfones and sulfoxides drawn with double bonds, where they are drawn as P⁺–O⁻ or S⁺–O⁻.

    Anions of their amides are drawn with the charge on nitrogen, as N⁻–S=O, also where they are drawn as N=S–O⁻.
    """
    while match := mol.GetSubstructMatch(_YLIDE):
        edit = Chem.RWMol(mol)
        edit.GetBondBetweenAtoms(*match).SetBondType(Chem.BondType.DOUBLE)
        centre, end = (edit.GetAtomWithIdx(index) for index in match)
        centre.SetFormalCharge(centre.GetFormalCharge() - 1)
        end.SetFormalCharge(0)
        mol = edit.GetMol()
        Chem.SanitizeMol(mol)
    while match := mol.GetSubstructMatch(_IMIDATE):
        edit, (nitrogen, centre, oxygen) = Chem.RWMol(mol), match
        edit.GetBondBetweenAtoms(nitrogen, centre).SetBondType(Chem.BondType.SINGLE)
        edit.GetBondBetweenAtoms(centre, oxygen).SetBondType(Chem.BondType.DOUBLE)
        edit.GetAtomWithIdx(nitrogen).SetFormalCharge(-1)
        edit.GetAtomWithIdx(oxygen).SetFormalCharge(0)
        mol = edit.GetMol()
        Chem.SanitizeMol(mol)
    return mol


_APART = Chem.MolFromSmarts("[P,S,Se,I;+1,+2,+3]-[#6,#7,#8,#16;-1]")
_TOGETHER = {
    element: Chem.MolFromSmarts(f"[$([P;v5]),$([S;v4,v6]),$([Se;v4,v6]),$([I;v3,v5]);+0]=[{element};+0]")
    for element in ("#6", "#7")
}
_BORON = Chem.MolFromSmarts("[#5;-1]=[#7,#8,#16;+1]")
_HALOGEN = Chem.MolFromSmarts("[Cl,Br;+1,+2]=[O;+0]")


def is_ylide(mol: Chem.Mol) -> bool:
    """Whether a molecule is drawn with a double bond of an ylide to carbon or nitrogen: `CS(C)=N`, `CP(C)(C)=C`."""
    return any(mol.HasSubstructMatch(pattern) for pattern in _TOGETHER.values())


def drawings(mol: Chem.Mol) -> Iterator[Chem.Mol]:
    """The drawings of ylides: with double bonds, then with charges apart at carbon, then also at nitrogen.

    They do not depend on which of them the argument is. Charges of boron and halogens have one drawing.
    """
    mol = _changed(mol, _APART, Chem.BondType.DOUBLE)
    mol = _changed(_changed(mol, _BORON, Chem.BondType.SINGLE), _HALOGEN, Chem.BondType.SINGLE)
    yield without_ylides(mol)
    for pattern in _TOGETHER.values():
        if mol.HasSubstructMatch(pattern):
            mol = _changed(mol, pattern, Chem.BondType.SINGLE)
            yield without_ylides(mol)


def _changed(mol: Chem.Mol, pattern: Chem.Mol, order: Chem.BondType) -> Chem.Mol:
    """The molecule with another order of all bonds of a pattern; its first atom gains charge if the order is single."""
    edit = Chem.RWMol(mol)
    Chem.Kekulize(edit, clearAromaticFlags=True)
    if not edit.HasSubstructMatch(pattern):
        return mol
    change = 1 if order == Chem.BondType.SINGLE else -1
    while matches := edit.GetSubstructMatches(pattern):
        count = Counter(chain(*matches))
        match = min(matches, key=lambda ends: min(count[end] for end in ends))  # first those that have no other partner
        edit.GetBondBetweenAtoms(*match).SetBondType(order)
        for index, charge in zip(match, (change, -change), strict=True):
            atom = edit.GetAtomWithIdx(index)
            atom.SetFormalCharge(atom.GetFormalCharge() + charge)
        edit.UpdatePropertyCache(strict=False)
    return mol if Chem.SanitizeMol(edit, catchErrors=True) else edit.GetMol()
