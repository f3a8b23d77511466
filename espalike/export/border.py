"""A residue that is bonded to others, cut out of a molecule that has their nearest atoms as caps.

The residue has its own parameters; those of bonds, angles and torsions across its border are the molecule's too, with
the caps' atoms in place of the neighbours'. They go into the script of an OpenMM file, which finds the neighbours.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from rdkit import Chem

from espalike.chem.molecule import Molecule, to_rdkit
from espalike.export.parts import bonded_parts, select
from espalike.export.recipes import Recipe, bonded
from espalike.system import Bound, MMSystem
from espalike.terms.base import PairTerm
from espalike.tuples import Tuples

A = TypeVar("A")
REACH = 3
"""Number of bonds from a residue to the farthest atom that shares a torsion with it."""


@dataclass(frozen=True)
class Border:
    """What a residue has in common with its neighbours. Atoms are numbered: those of the residue, then those outside.

    Attributes:
        ends: atoms of the residue, one for each bond across the border.
        outside: atomic number of each atom outside, the atoms before it that it is bonded to, and its number of
            neighbours.
        forces: bonds, angles and torsions across the border.
        excess: charge of the caps that was added to the residue [e].
    """

    ends: tuple[int, ...]
    outside: tuple[tuple[int, list[int], int], ...]
    forces: tuple[Recipe, ...]
    excess: float


def distances_from(inside: Sequence[A], near: Callable[[A], Iterable[A]], reach: int) -> dict[A, int]:
    """Atoms outside a set that are at most some bonds away, with the number of bonds, the nearest first."""
    far = dict.fromkeys(inside, 0)
    queue = list(inside)
    for atom in queue:
        for other in near(atom) if far[atom] < reach else ():
            if other not in far:
                far[other] = far[atom] + 1
                queue.append(other)
    return {atom: distance for atom, distance in far.items() if distance}


def neighbours(molecule: Molecule) -> list[list[int]]:
    """Atoms bonded to each atom."""
    near: list[list[int]] = [[] for _ in range(molecule.n_atoms)]
    for i, j in molecule.bonds.tolist():
        near[i].append(j)
        near[j].append(i)
    return near


def cut(system: MMSystem, kept: Sequence[int]) -> tuple[MMSystem, Border]:
    """The residue that some atoms of a molecule are, and its border. Charges are shifted evenly to whole numbers."""
    system = select(system)
    (molecule,) = system.molecules
    near = neighbours(molecule)
    outside = distances_from(kept, near.__getitem__, REACH)
    place = {atom: row for row, atom in enumerate([*kept, *outside])}
    residue = _fragment(molecule, kept)
    inner, across = [], []
    excess = 0.0
    rows = torch.tensor(list(kept))
    for bound in system.terms:
        within = torch.isin(bound.tuples.idx, rows)
        if isinstance(bound.term, PairTerm):
            values = bound.values[rows].clone()
            for column, param in enumerate(bound.term.params):
                if param.link == "charge":
                    excess = residue.net_charge - float(values[:, column].sum())
                    values[:, column] += excess / len(kept)
            inner.append(_rows(bound, within.all(dim=1), values, place))
        else:
            inner.append(_rows(bound, within.all(dim=1), None, place))
            across.append(_rows(bound, within.any(dim=1) & ~within.all(dim=1), None, place))
    numbers = torch.from_numpy(residue.numbers)
    forces = tuple(recipe for _, recipe in bonded(bonded_parts(across)) if recipe["rows"])
    border = Border(
        tuple(place[atom] for atom in kept for other in near[atom] if place[other] >= len(kept)),
        tuple(
            (
                int(molecule.numbers[atom]),
                sorted(place[other] for other in near[atom] if place.get(other, len(place)) < place[atom]),
                len(near[atom]),
            )
            for atom in outside
        ),
        forces,
        excess,
    )
    return MMSystem(tuple(inner), numbers, torch.zeros_like(numbers), (residue,)), border


def _rows(bound: Bound, chosen: torch.Tensor, values: torch.Tensor | None, place: dict[int, int]) -> Bound:
    """Some tuples of a term, with other numbers of the atoms."""
    idx = torch.tensor([[place[atom] for atom in row] for row in bound.tuples.idx[chosen].tolist()], dtype=torch.int64)
    idx = idx.reshape(-1, bound.tuples.idx.shape[1])
    is14 = None if bound.tuples.is14 is None else bound.tuples.is14[chosen]
    tuples = Tuples(idx, torch.zeros(len(idx), dtype=torch.int64), is14)
    return Bound(bound.term, tuples, bound.values[chosen] if values is None else values)


def _fragment(molecule: Molecule, kept: Sequence[int]) -> Molecule:
    """The graph of some atoms of a molecule."""
    mol = to_rdkit(molecule)
    Chem.Kekulize(mol, clearAromaticFlags=True)
    place = {atom: row for row, atom in enumerate(kept)}
    for atom, row in place.items():
        mol.GetAtomWithIdx(atom).SetAtomMapNum(row + 1)
    inside = np.isin(molecule.bonds, list(kept)).all(axis=1)
    bonds = np.array([sorted((place[i], place[j])) for i, j in molecule.bonds[inside].tolist()]).reshape(-1, 2)
    order = np.lexsort(bonds.T[::-1])
    return dataclasses.replace(
        molecule,
        smiles=Chem.MolFragmentToSmiles(mol, list(kept), kekuleSmiles=True, allHsExplicit=True),
        numbers=molecule.numbers[list(kept)],
        charges=molecule.charges[list(kept)],
        bonds=bonds[order],
        orders=molecule.orders[inside][order],
        atom_names=tuple(molecule.atom_names[atom] for atom in kept) if molecule.atom_names else (),
    )
