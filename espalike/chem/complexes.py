"""Complexes of several molecules: a `Molecule` whose graph has one connected component for each of them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import chain

import numpy as np

from espalike.chem.errors import ChemistryError
from espalike.chem.molecule import Molecule, from_smiles
from espalike.chem.sanitize import shorten
from espalike.topology import components

_MAP = re.compile(r":(\d+)\]")


def _renumbered(smiles: str, numbers: dict[int, int]) -> str:
    """A mapped SMILES with other map numbers, given by the old ones."""
    return _MAP.sub(lambda match: f":{numbers[int(match[1])]}]", smiles)


def is_complex(molecule: Molecule) -> bool:
    """Whether the graph has two or more connected components."""
    return "." in molecule.smiles


def joined(monomers: Sequence[Molecule], atoms: Sequence[np.ndarray] | None = None, name: str = "") -> Molecule:
    """The complex of some molecules.

    Args:
        monomers: the molecules.
        atoms: place in the complex of each atom of each molecule; None = one molecule after the other.
        name: name of the complex; empty = the SMILES of its molecules.
    """
    stops = np.cumsum([monomer.n_atoms for monomer in monomers])
    if atoms is None:
        atoms = [np.arange(stop - m.n_atoms, stop) for m, stop in zip(monomers, stops, strict=True)]
    place = np.concatenate(atoms)
    order = np.argsort(place)
    bonds = np.sort(np.concatenate([own[m.bonds] for own, m in zip(atoms, monomers, strict=True)]), axis=1)
    rows = np.lexsort(bonds.T[::-1])
    smiles = [
        _renumbered(m.smiles, {i + 1: int(a) + 1 for i, a in enumerate(own)})
        for own, m in zip(atoms, monomers, strict=True)
    ]
    return Molecule(
        name=name or shorten(".".join(m.name for m in monomers)),
        smiles=".".join(smiles),
        numbers=np.concatenate([m.numbers for m in monomers])[order],
        charges=np.concatenate([m.charges for m in monomers])[order],
        bonds=bonds[rows],
        orders=np.concatenate([m.orders for m in monomers])[rows],
    )


def monomers(molecule: Molecule) -> list[tuple[Molecule, np.ndarray]]:
    """The molecules of a complex, and the place in it of each of their atoms, which ascend; by first atom."""
    parts = []
    label = components(molecule.n_atoms, molecule.bonds)
    smiles = {int(_MAP.search(part)[1]): part for part in molecule.smiles.split(".")}  # type: ignore[index]
    by_component = {int(label[number - 1]): part for number, part in smiles.items()}
    for i in range(int(label.max()) + 1):
        atoms = np.flatnonzero(label == i)
        inside = label[molecule.bonds[:, 0]] == i
        monomer = Molecule(
            name=f"{molecule.name}, molecule {i + 1}",
            smiles=_renumbered(by_component[i], {int(a) + 1: n + 1 for n, a in enumerate(atoms)}),
            numbers=molecule.numbers[atoms],
            charges=molecule.charges[atoms],
            bonds=np.searchsorted(atoms, molecule.bonds[inside]),
            orders=molecule.orders[inside],
        )
        parts.append((monomer, atoms))
    return parts


def complex_from_smiles(smiles: str, name: str | None = None) -> Molecule:
    """The complex of a SMILES whose molecules are separated by dots.

    A mapped SMILES keeps its map order: map number i + 1 is atom i. Otherwise the atoms of the first molecule come
    first, each molecule's as in `from_smiles`.

    Raises:
        ChemistryError: for fewer than two molecules, map numbers that are not 1…N once, or a molecule that cannot be
            read or is not supported; it names the complex and the molecule.
    """
    name = name or shorten(smiles)
    parts = smiles.strip().split(".")
    if len(parts) < 2:
        raise ChemistryError(f"{name}: {shorten(smiles)!r} is one molecule; expected two or more, separated by dots")
    numbers = [[int(number) for number in _MAP.findall(part)] for part in parts]
    every = sorted(chain.from_iterable(numbers))
    mapped = bool(every)
    if every != list(range(1, len(every) + 1)):
        raise ChemistryError(
            f"{name}: a mapped SMILES must number all atoms of all molecules, hydrogens included, "
            f"1…{len(every)} once; got {every}"
        )
    read, atoms = [], []
    for i, (part, own) in enumerate(zip(parts, numbers, strict=True), start=1):
        if mapped and not own:
            raise ChemistryError(
                f"{name}: molecule {i} ({shorten(part)}) has no map numbers, others have; complete them"
            )
        own.sort()
        read.append(from_smiles(_renumbered(part, {n: k for k, n in enumerate(own, start=1)}), f"{name}, molecule {i}"))
        atoms.append(np.array(own, dtype=np.int64) - 1)
    return joined(read, atoms if mapped else None, name)
