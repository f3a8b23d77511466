"""The molecule as it was parametrized: an SDF and a PDB with its coordinates, names and order of atoms."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from espalike.chem.molecule import Molecule, to_rdkit
from espalike.chem.sanitize import atoms_of
from espalike.export.parts import atom_names, one_line, residue_name, symbols

ENDINGS = (".sdf", ".pdb")
"""Endings of the files."""
_PROGRAM = "espalike"
_WRAPPED = re.compile(r"(\S.{,189})(?: |$)")
"""Lines of at most 190 characters, broken at spaces."""
_REMARK = f"REMARK     the molecule as {_PROGRAM} parametrized it"


def texts(molecule: Molecule, xyz: np.ndarray, charges: np.ndarray | None = None) -> dict[str, str]:
    """The two files, by ending.

    Args:
        molecule: the molecule.
        xyz: coordinates [Å] `(A, 3)`.
        charges: partial charges [e] `(A,)`, as `atom.dprop.PartialCharge` in the SDF; None: left out.
    """
    from rdkit import Chem

    mol = to_rdkit(molecule, xyz)
    mol.SetProp("_Name", one_line(molecule.name)[:80])
    lines = Chem.MolToMolBlock(mol).split("\n")
    lines[1] = f"  {_PROGRAM:8}          3D"  # no clock: equal input, equal file
    fields = {"atom.prop.AtomName": atom_names(molecule)}
    if charges is not None:
        fields["atom.dprop.PartialCharge"] = tuple(map(repr, charges.tolist()))
    for name, values in fields.items():
        lines[-1:] = [f">  <{name}>", *_WRAPPED.findall(" ".join(values)), "", ""]
    lines[-1:] = ["$$$$", ""]
    return {".sdf": "\n".join(lines), ".pdb": _pdb(mol, molecule)}


def _pdb(mol, molecule: Molecule) -> str:
    from rdkit import Chem

    mol.SetProp("_Name", mol.GetProp("_Name")[:70])
    for atom, name, symbol in zip(atoms_of(mol), atom_names(molecule, 4), symbols(molecule), strict=True):
        column = name if len(name) == 4 or len(symbol) == 2 else f" {name}"
        info = Chem.AtomPDBResidueInfo(f"{column:4}", residueName=residue_name(molecule), residueNumber=1)
        info.SetIsHeteroAtom(True)
        atom.SetMonomerInfo(info)
    return f"{_REMARK}\n{Chem.MolToPDBBlock(mol)}"


def is_foreign(path: Path) -> bool:
    """Whether a file exists that this module did not write: a user's own structure, which is kept."""
    if not path.exists():
        return False
    if not path.is_file():
        return True
    with path.open("rb") as file:
        lines = file.read(1000).split(b"\n")
    return not (lines[1:2] == [f"  {_PROGRAM:8}          3D".encode()] or lines[0] == _REMARK.encode())
