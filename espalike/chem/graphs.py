"""Elements and bonds alone: skeletons to be matched without bond orders and charges, and sum formulas."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import numpy as np
from rdkit import Chem

RADII = np.array([0.0, *(Chem.GetPeriodicTable().GetRcovalent(z) for z in range(1, 104))])
"""Covalent radii [Å] by atomic number, RDKit's table: Cordero et al., Dalton Trans. 2008, 2832."""


def numbers_of(mol: Chem.Mol) -> np.ndarray:
    """Atomic numbers, shape `(A,)`."""
    return np.array([mol.GetAtomWithIdx(i).GetAtomicNum() for i in range(mol.GetNumAtoms())])


def ends_of(mol: Chem.Mol) -> list[list[int]]:
    """Pairs of bonded atoms, each sorted."""
    bonds = [mol.GetBondWithIdx(i) for i in range(mol.GetNumBonds())]  # RDKit's own iterator is slow
    return [sorted((bond.GetBeginAtomIdx(), bond.GetEndAtomIdx())) for bond in bonds]


def skeleton(numbers: Iterable[int], bonds: Iterable[Iterable[int]]) -> Chem.Mol:
    """Elements and connectivity alone, to be matched without bond orders and charges."""
    mol = Chem.RWMol()
    for number in numbers:
        atom = Chem.Atom(int(number))
        atom.SetNoImplicit(True)
        mol.AddAtom(atom)
    for i, j in bonds:
        mol.AddBond(int(i), int(j), Chem.BondType.SINGLE)
    return mol.GetMol()


def formula(numbers: Iterable[int]) -> str:
    """Sum formula in Hill's order: carbon, hydrogen, the others by symbol; without carbon, all by symbol."""
    table = Chem.GetPeriodicTable()
    counts = Counter(table.GetElementSymbol(int(z)) for z in numbers)
    first = ("C", "H") if "C" in counts else ()
    symbols = sorted(counts, key=lambda symbol: (symbol not in first, symbol))
    return "".join(symbol + (str(counts[symbol]) if counts[symbol] > 1 else "") for symbol in symbols)
