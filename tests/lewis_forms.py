"""Every resonance form of a small molecule, found by trying all bond orders: the reference for what must not matter."""

import dataclasses
from collections.abc import Iterator

import numpy as np
from rdkit import Chem

from espalike.chem.molecule import Molecule
from espalike.chem.sanitize import BOND_TYPES

STATES = {
    1: {1: 0},
    6: {4: 0, 3: -1},
    7: {3: 0, 4: 1, 2: -1, 1: -2},
    8: {2: 0, 1: -1, 3: 1},
    9: {1: 0},
    14: {4: 0},
    15: {3: 0, 4: 1, 5: 0, 2: -1},
    16: {2: 0, 3: 1, 1: -1, 4: 0, 6: 0, 5: 1},
    17: {1: 0},
}
"""Formal charges [e] of each element by its sum of bond orders; octets, and expanded ones of P and S."""


def lewis_forms(molecule: Molecule) -> Iterator[Molecule]:
    """The molecule with each set of bond orders that gives every atom one of its states and keeps the net charge.

    Their SMILES is that of the argument and does not show the form.
    """
    numbers, bonds = molecule.numbers.tolist(), molecule.bonds.tolist()
    last = {atom: n for n, pair in enumerate(bonds) for atom in pair}

    def extend(orders: list[int], valence: list[int]) -> Iterator[tuple[list[int], list[int]]]:
        if len(orders) == len(bonds):
            yield orders, valence
            return
        n = len(orders)
        for order in (1, 2, 3):
            raised = list(valence)
            for atom in bonds[n]:
                raised[atom] += order
            if all(
                raised[a] <= max(STATES[numbers[a]]) and (last[a] > n or raised[a] in STATES[numbers[a]])
                for a in bonds[n]
            ):
                yield from extend([*orders, order], raised)

    for orders, valence in extend([], [0] * len(numbers)):
        charges = [STATES[z][v] for z, v in zip(numbers, valence, strict=True)]
        if sum(charges) == molecule.net_charge:
            yield dataclasses.replace(molecule, charges=np.array(charges), orders=np.array(orders))


def smiles_of(form: Molecule, order: np.ndarray) -> str:
    """Mapped SMILES of a form as it is drawn; its atom i is atom `order[i]` of the form."""
    mol = Chem.RWMol()
    for number, charge, place in zip(form.numbers.tolist(), form.charges.tolist(), np.argsort(order), strict=True):
        atom = Chem.Atom(number)
        atom.SetFormalCharge(charge)
        atom.SetNoImplicit(True)
        atom.SetAtomMapNum(int(place) + 1)
        mol.AddAtom(atom)
    for (i, j), bond in zip(form.bonds.tolist(), form.orders.tolist(), strict=True):
        mol.AddBond(i, j, BOND_TYPES[bond])
    return Chem.MolToSmiles(mol)
