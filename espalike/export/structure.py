"""The molecule as it was parametrized: an SDF and a PDB with its coordinates, names and order of atoms."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence

import numpy as np

from espalike.chem.molecule import Molecule, to_rdkit
from espalike.chem.names import Label
from espalike.export.text import (
    PDB_REMARK,
    SDF_PROGRAM,
    atom_names,
    labels_of,
    one_line,
    require_room,
    rows_text,
    symbols,
)

ENDINGS = (".sdf", ".pdb")
"""Endings of the files."""
_WRAPPED = re.compile(r"(\S.{,189})(?: |$)")
"""Lines of at most 190 characters, broken at spaces."""
_LARGEST = 99_999
"""Serial numbers have five digits."""


def texts(
    molecule: Molecule, xyz: np.ndarray, charges: np.ndarray | None = None, whole: bool = False
) -> dict[str, str]:
    """The two files, by ending; see `text`."""
    return {ending: text(ending, molecule, xyz, charges, whole) for ending in ENDINGS}


def text(
    ending: str, molecule: Molecule, xyz: np.ndarray, charges: np.ndarray | None = None, whole: bool = False
) -> str:
    """One of the two files.

    Args:
        ending: one of `ENDINGS`.
        molecule: the molecule.
        xyz: coordinates [Å] `(A, 3)`.
        charges: partial charges [e] `(A,)`, as `atom.dprop.PartialCharge` in the SDF; None: left out.
        whole: whether a molecule of several residues is one residue in the PDB.

    Raises:
        ValueError: for coordinates that do not fit the columns of the file.
    """
    if ending == ".sdf":
        return _sdf(molecule, xyz, charges)
    return _pdb(molecule, xyz, labels_of(dataclasses.replace(molecule, labels=()) if whole else molecule, 4))


def is_same(first: str, second: str) -> bool:
    """Whether two of these SDF have the same atoms, bonds and coordinates."""
    return first.partition("M  END")[0].partition("\n")[2] == second.partition("M  END")[0].partition("\n")[2]


def _sdf(molecule: Molecule, xyz: np.ndarray, charges: np.ndarray | None) -> str:
    """A V2000 record, or V3000 for a large molecule."""
    from rdkit import Chem

    require_room(xyz, 10, 4, f"{molecule.name}: coordinates [Å] of the SDF")
    mol = to_rdkit(molecule, xyz)
    mol.SetProp("_Name", one_line(molecule.name)[:80])
    lines = Chem.MolToMolBlock(mol).split("\n")
    lines[1] = SDF_PROGRAM
    fields = {"atom.prop.AtomName": atom_names(molecule)}
    if charges is not None:
        fields["atom.dprop.PartialCharge"] = tuple(map(repr, charges.tolist()))
    for name, values in fields.items():
        lines[-1:] = [f">  <{name}>", *_WRAPPED.findall(" ".join(values)), "", ""]
    return "\n".join([*lines[:-1], "$$$$", ""])


def _pdb(molecule: Molecule, xyz: np.ndarray, labels: Sequence[Label]) -> str:
    """Atoms, and bonds with their Kekulé orders; the format has room for serial numbers up to 99,999."""
    require_room(xyz, 8, 3, f"{molecule.name}: coordinates [Å] of the PDB")
    elements = symbols(molecule)
    charges = [f"{abs(q)}{'+' if q > 0 else '-'}" if q else "" for q in molecule.charges.tolist()]
    named = [
        (
            "HETATM" if label.hetero else "ATOM",
            number % 100000,
            label.name if len(label.name) > 3 or len(symbol) == 2 else f" {label.name}",
            label.residue[:3],
            label.chain if len(label.chain) == 1 else "",
            label.number if -1000 < label.number < 10000 else label.number % 10000,  # four columns
            label.insertion[:1],
        )
        for number, (label, symbol) in enumerate(zip(labels, elements, strict=True), 1)
    ]
    row = "%-6s%5s %-4s %3s %1s%4s%1s   %8.3f%8.3f%8.3f  1.00  0.00          %2s%-2s"
    atoms = rows_text(
        row, *zip(*named, strict=True), *np.asarray(xyz).T, [symbol.upper() for symbol in elements], charges
    )
    return f"{PDB_REMARK}\nCOMPND    {one_line(molecule.name)[:70]}\n{atoms}{_bonds(molecule)}END\n"


def _bonds(molecule: Molecule) -> str:
    """A record for each atom and up to four of those after it that it is bonded to, once per order of the bond."""
    if molecule.n_atoms > _LARGEST:
        return ""
    near: dict[int, list[int]] = {}
    for (i, j), order in zip((molecule.bonds + 1).tolist(), molecule.orders.tolist(), strict=True):
        near.setdefault(i, []).extend([j] * order)
    rows = [(i, *ends[n : n + 4]) for i, ends in sorted(near.items()) for n in range(0, len(ends), 4)]
    return "".join("CONECT" + "%5s" * len(ends) % ends + "\n" for ends in rows)
