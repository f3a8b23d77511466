"""The molecule as it was parametrized: an SDF and a PDB with its coordinates, names and order of atoms."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from espalike.chem.molecule import Molecule, to_rdkit
from espalike.chem.names import Label
from espalike.export.text import atom_names, one_line, residue_name, rows_text, symbols

ENDINGS = (".sdf", ".pdb")
"""Endings of the files."""
_PROGRAM = "espalike"
_WRAPPED = re.compile(r"(\S.{,189})(?: |$)")
"""Lines of at most 190 characters, broken at spaces."""
_LARGEST = 99_999
"""Serial numbers have five digits."""
_REMARK = f"REMARK     the molecule as {_PROGRAM} parametrized it"


def texts(
    molecule: Molecule, xyz: np.ndarray, charges: np.ndarray | None = None, whole: bool = False
) -> dict[str, str]:
    """The two files, by ending.

    Args:
        molecule: the molecule.
        xyz: coordinates [Å] `(A, 3)`.
        charges: partial charges [e] `(A,)`, as `atom.dprop.PartialCharge` in the SDF; None: left out.
        whole: whether a molecule of several residues is one residue in the PDB.
    """
    from rdkit import Chem

    mol = to_rdkit(molecule, xyz)
    title = one_line(molecule.name)
    mol.SetProp("_Name", title[:80])
    lines = Chem.MolToMolBlock(mol).split("\n")
    lines[1] = f"  {_PROGRAM:8}          3D"  # no clock: equal input, equal file
    fields = {"atom.prop.AtomName": atom_names(molecule)}
    if charges is not None:
        fields["atom.dprop.PartialCharge"] = tuple(map(repr, charges.tolist()))
    for name, values in fields.items():
        lines[-1:] = [f">  <{name}>", *_WRAPPED.findall(" ".join(values)), "", ""]
    lines[-1:] = ["$$$$", ""]
    labels = molecule.labels if molecule.labels and not whole else _one_residue(molecule)
    return {".sdf": "\n".join(lines), ".pdb": _pdb(molecule, xyz, labels, title)}


def _one_residue(molecule: Molecule) -> list[Label]:
    residue = residue_name(molecule)
    return [Label("", 1, "", residue, name, True) for name in atom_names(molecule, 4)]


def _pdb(molecule: Molecule, xyz: np.ndarray, labels: Sequence[Label], title: str) -> str:
    """Atoms, and bonds with their Kekulé orders; the format has room for serial numbers up to 99,999."""
    charges = [f"{abs(q)}{'+' if q > 0 else '-'}" if q else "" for q in molecule.charges.tolist()]
    named = [
        (
            "HETATM" if label.hetero else "ATOM",
            number % 100000,
            label.name[:4] if len(label.name) > 3 or len(symbol) == 2 else f" {label.name}",
            label.residue[:3],
            label.chain if len(label.chain) == 1 else "",
            label.number % 10000 if label.number > 0 else label.number,
            label.insertion[:1],
        )
        for number, (label, symbol) in enumerate(zip(labels, symbols(molecule), strict=True), 1)
    ]
    row = "%-6s%5d %-4s %3s %1s%4d%1s   %8.3f%8.3f%8.3f  1.00  0.00          %2s%-2s"
    upper = [symbol.upper() for symbol in symbols(molecule)]
    atoms = rows_text(row, *zip(*named, strict=True), *np.asarray(xyz).T, upper, charges)
    return f"{_REMARK}\nCOMPND    {title[:70]}\n{atoms}{_bonds(molecule)}END\n"


def _bonds(molecule: Molecule) -> str:
    """A record for each atom and up to four of those after it that it is bonded to, once per order of the bond."""
    if molecule.n_atoms > _LARGEST:
        return ""
    near: dict[int, list[int]] = {}
    for (i, j), order in zip((molecule.bonds + 1).tolist(), molecule.orders.tolist(), strict=True):
        near.setdefault(i, []).extend([j] * order)
    rows = [(i, *ends[n : n + 4]) for i, ends in sorted(near.items()) for n in range(0, len(ends), 4)]
    return "".join("CONECT" + "%5d" * len(ends) % ends + "\n" for ends in rows)


def is_foreign(path: Path) -> bool:
    """Whether a file exists that this module did not write: a user's own structure, which is kept."""
    if not path.exists():
        return False
    if not path.is_file():
        return True
    with path.open("rb") as file:
        lines = file.read(1000).split(b"\n")
    return not (lines[1:2] == [f"  {_PROGRAM:8}          3D".encode()] or lines[0] == _REMARK.encode())
