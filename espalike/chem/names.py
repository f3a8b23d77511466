"""Names of atoms and residues: those of the input where they can be used, else made from the elements."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from rdkit import Chem

ALIASES = ("_TriposAtomName", "molFileAlias")
"""Properties of RDKit's atoms that hold their names in MOL2 and MOL files."""
_ATOM = re.compile(r"[A-Za-z0-9'*+_.-]{1,8}")
RESIDUE = re.compile(r"[A-Za-z0-9]{1,4}")
"""Residue names that every format has room for."""
_WATER = {"DOD", "H2O", "HOH", "SOL", "SPC", "T4P", "TIP", "TP3", "TP4", "WAT"}
"""Residue names of water; a PDB has three letters of TIP3 and SOLV."""


class Label(NamedTuple):
    """What a PDB or mmCIF of several residues says of an atom.

    Attributes:
        chain: letter of its chain.
        number: number of its residue.
        insertion: insertion code of its residue.
        residue: name of its residue.
        name: its name, unique in the residue.
        hetero: whether its residue is not a standard one.
    """

    chain: str
    number: int
    insertion: str
    residue: str
    name: str
    hetero: bool


def names_of(mol: Chem.Mol) -> tuple[tuple[str, ...], str, tuple[Label, ...]]:
    """Names of the atoms and residues of RDKit's molecule.

    Returns:
        Unique names, one per atom: those of the input that occur once there, the others made from the elements; none
        if the input has no usable ones. The name of the residue; empty if there is none or more than one. Labels of
        the atoms if there are several residues, else none.
    """
    found, residues, labels = [], set(), list[Label]()
    atoms = [mol.GetAtomWithIdx(i) for i in range(mol.GetNumAtoms())]
    for atom in atoms:
        info = atom.GetPDBResidueInfo()
        name = next((atom.GetProp(key) for key in ALIASES if atom.HasProp(key)), "") if info is None else info.GetName()
        found.append(name.strip())
        if info is not None:
            chain, number, code = info.GetChainId().strip(), info.GetResidueNumber(), info.GetInsertionCode().strip()
            label = Label(chain, number, code, info.GetResidueName().strip(), found[-1], info.GetIsHeteroAtom())
            residues.add((info.GetSegmentNumber(), *label[:4]))
            labels.append(label)
    names = unique(found, [atom.GetSymbol() for atom in atoms])
    if len(residues) > 1:
        return names, "", tuple(labels) if len(labels) == len(atoms) else ()
    residue = residues.pop()[4] if residues else ""
    usable = RESIDUE.fullmatch(residue) and not is_misnamed(residue, [atom.GetAtomicNum() for atom in atoms])
    return names, residue if usable else "", ()


def is_misnamed(residue: str, numbers: Iterable[int]) -> bool:
    """Whether a residue of these atomic numbers has a name of water and is none: OpenMM would make it rigid."""
    return residue.upper()[:3] in _WATER and sorted(numbers) != [1, 1, 8]


def residue_notes(mol: Chem.Mol) -> tuple[str, ...]:
    """A note if RDKit's molecule is one residue with a name of water and is none: the name is not kept."""
    info = mol.GetAtomWithIdx(0).GetPDBResidueInfo()
    name = "" if info is None else info.GetResidueName().strip()
    if not name or not is_misnamed(name, (atom.GetAtomicNum() for atom in mol.GetAtoms())):
        return ()
    if len({atom.GetPDBResidueInfo().GetResidueNumber() for atom in mol.GetAtoms()}) > 1:
        return ()
    return (f"residue {name!r} is not kept: it is a name of water, whose bonds OpenMM makes rigid",)


def unique(names: Sequence[str], symbols: Sequence[str]) -> tuple[str, ...]:
    """The names that are usable and occur once, the others made from the elements; none if none is usable."""
    counts = Counter(names)
    kept = [name if counts[name] == 1 and _ATOM.fullmatch(name) else "" for name in names]
    return made(symbols, kept) if any(kept) else ()


def made(symbols: Sequence[str], kept: Sequence[str] = ()) -> tuple[str, ...]:
    """Element symbol and a count, in atom order (C1, H1, H2, …), in the places without a kept name."""
    taken, counts, names = set(kept), Counter[str](), []
    for symbol, name in zip(symbols, kept or [""] * len(symbols), strict=True):
        while not name:
            counts[symbol] += 1
            name = f"{symbol}{counts[symbol]}"
            name = "" if name in taken else name
        names.append(name)
    return tuple(names)


def fitted(names: Sequence[str], symbols: Sequence[str], width: int) -> tuple[str, ...]:
    """The names, with those longer than a format's field replaced by short ones; unique while the field has room."""
    kept = [name if len(name) <= width else "" for name in names]
    if all(kept):
        return tuple(names)
    short = made(symbols, kept)
    if max(map(len, short)) <= width:
        return short
    taken, number, result = set(kept), 0, []
    for symbol, name in zip(symbols, kept, strict=True):
        while not name:
            name = symbol[:1] + _base36(number).rjust(width - 1, "0")
            number += 1
            name = "" if name in taken else name
        result.append(name[:width])
    return tuple(result)


def _base36(number: int) -> str:
    digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    text = digits[number % 36]
    while number := number // 36:
        text = digits[number % 36] + text
    return text
