"""A molecule as a graph, made from SMILES, files, RDKit and OpenFF molecules, and turned back into them."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from rdkit import Chem, rdBase
from rdkit.Chem.inchi import MolToInchiKey

from espalike.bounds import made_by
from espalike.chem import records
from espalike.chem import sanitize as rd
from espalike.chem.errors import ChemistryError
from espalike.chem.graphs import formula
from espalike.chem.names import RESIDUE, Label, is_misnamed, names_of, unique
from espalike.tables import html_table
from espalike.units import magnitude

MAKERS = "Molecule.from_smiles, Molecule.from_file, espalike.chem.from_rdkit and from_openff make molecules"
"""What to do instead of giving something that is not a molecule."""
_ISOTOPE = re.compile(r"\[(\d+)[^\]]*:(\d+)\]")
"""Mass number and map number of an atom of a mapped SMILES."""


@made_by('Molecule.from_smiles("CCO") and Molecule.from_file("ligand.sdf") make molecules')
@dataclass(frozen=True, eq=False)
class Molecule:
    """A molecular graph, without coordinates and parameters. The order of atoms is the user's and is never changed.

    Attributes:
        name: its name in messages and files.
        smiles: mapped SMILES with explicit hydrogens and isotopes; map number i+1 is atom i.
        numbers: atomic numbers, shape `(A,)`, int64.
        charges: formal charges [e], shape `(A,)`, int64.
        bonds: atom index pairs, each row sorted `i<j`, rows sorted, shape `(B, 2)`, int64.
        orders: Kekulé bond orders (1, 2, 3), shape `(B,)`, int64.
        atom_names: unique names of the atoms from the input; empty if it has none.
        residue: name of the residue in the input; empty if it has none.
        labels: residue and name of each atom in an input of several residues; else empty.

    Examples:
        >>> ligand = Molecule.from_smiles("CC(=O)[O-]", "acetate")
        >>> ligand
        Molecule 'acetate': C2H3O2, 7 atoms, 6 bonds, charge -1
        >>> ligand.numbers
        array([6, 6, 8, 8, 1, 1, 1])
    """

    name: str
    smiles: str
    numbers: np.ndarray
    charges: np.ndarray
    bonds: np.ndarray
    orders: np.ndarray
    atom_names: tuple[str, ...] = ()
    residue: str = ""
    labels: tuple[Label, ...] = ()

    @property
    def n_atoms(self) -> int:
        """Number of atoms, hydrogens included."""
        return len(self.numbers)

    @property
    def isotopes(self) -> np.ndarray:
        """Mass numbers, 0 for an element's natural isotopes, shape `(A,)`, int64. Parameters do not depend on them."""
        numbers = np.zeros(self.n_atoms, dtype=np.int64)
        for mass_number, atom in _ISOTOPE.findall(self.smiles):
            numbers[int(atom) - 1] = int(mass_number)
        return numbers

    def masses(self, natural: Callable[[int], float] | None = None) -> list[float]:
        """Masses of the atoms [dalton].

        Args:
            natural: gives an element's standard atomic weight, by atomic number; None: RDKit's.
        """
        table = Chem.GetPeriodicTable()
        natural = natural or table.GetAtomicWeight
        rows = zip(self.numbers.tolist(), self.isotopes.tolist(), strict=True)
        return [table.GetMassForIsotope(z, isotope) if isotope else natural(z) for z, isotope in rows]

    @property
    def net_charge(self) -> int:
        """Sum of formal charges [e]."""
        return int(self.charges.sum())

    def _row(self) -> dict[str, object]:
        """The molecule in a line, by column."""
        charge = f"{self.net_charge:+d}" if self.net_charge else "0"
        sizes = {"atoms": self.n_atoms, "bonds": len(self.bonds), "charge": charge}
        return {"molecule": self.name, "formula": formula(self.numbers), **sizes}

    def __repr__(self) -> str:
        row = "{formula}, {atoms} atoms, {bonds} bonds, charge {charge}".format(**self._row())
        return f"Molecule {self.name!r}: {row}"

    def _repr_html_(self) -> str:
        """The same as a table, for notebooks."""
        return html_table([self._row()])

    @staticmethod
    def from_smiles(smiles: str, name: str | None = None) -> Molecule:
        """Molecule of a SMILES, mapped or not; see `espalike.chem.from_smiles`."""
        return from_smiles(smiles, name)

    @staticmethod
    def from_file(path: str | os.PathLike, smiles: str | None = None) -> Molecule:
        """The one molecule of an SDF, MOL, MOL2, PDB, mmCIF or SMI file; see `espalike.chem.from_file`."""
        return from_file(path, smiles)


def check_molecule(value: Any) -> None:
    """Check that a value is a molecule.

    Raises:
        TypeError: for anything else, with what makes molecules.
    """
    if not isinstance(value, Molecule):
        raise TypeError(f"expected an espalike.Molecule, got {type(value).__name__}; {MAKERS}")


def listed(molecules: Molecule | Iterable[Molecule]) -> list[Molecule]:
    """One molecule or several as a list.

    Raises:
        TypeError: for anything else.
    """
    several = [molecules] if isinstance(molecules, Molecule) or not isinstance(molecules, Iterable) else list(molecules)
    odd = [type(one).__name__ for one in several if not isinstance(one, Molecule)]
    if odd:
        raise TypeError(f"expected an espalike.Molecule or several, got {odd[0]}; {MAKERS}")
    return several


def from_smiles(smiles: str, name: str | None = None) -> Molecule:
    """The molecule of a SMILES.

    A mapped SMILES keeps its map order: map number i + 1 is atom i, and every atom, hydrogens included, carries one.
    An unmapped SMILES keeps the order of its heavy atoms; implicit hydrogens follow after them.

    Raises:
        ChemistryError: for what cannot be read or is not supported, naming the molecule.
        TypeError: for what is not a text.
    """
    if not isinstance(smiles, str):
        raise TypeError(f"expected a SMILES, got {type(smiles).__name__}")
    name = name or rd.shorten(smiles)
    return graph_of(rd.from_smiles(smiles, name), name)


def from_file(path: str | os.PathLike, smiles: str | None = None) -> Molecule:
    """The one molecule of a file.

    Args:
        path: SDF, MOL, MOL2, PDB, mmCIF or SMI file.
        smiles: for a PDB or mmCIF, bond orders and charges of what is not a standard residue; see `read_molecules`.

    Raises:
        ChemistryError: if the file is unreadable, broken, or holds another number of molecules.
    """
    name, mol = records.read_one(path, smiles)
    return graph_of(mol, name)


def from_rdkit(mol: Chem.Mol, name: str | None = None) -> Molecule:
    """The molecule of an RDKit molecule with explicit hydrogens, in its atom order. The argument is not changed.

    Raises:
        ChemistryError: for radicals, unsupported elements, several fragments, missing hydrogens, odd bonds.
        TypeError: for another object, such as the None that RDKit returns for a molecule that it cannot read.
    """
    if not isinstance(mol, Chem.Mol):
        reason = "; RDKit returns None for a molecule that it cannot read" if mol is None else ""
        raise TypeError(f"expected an RDKit molecule, got {type(mol).__name__}{reason}")
    if name is None:
        name = mol.GetProp("_Name").strip() if mol.HasProp("_Name") else ""
    if not mol.GetNumAtoms():
        raise ChemistryError(f"{name or 'molecule'}: no atoms")
    label = name or f"molecule of {mol.GetNumAtoms()} atoms"
    mol = Chem.Mol(mol)
    with rdBase.BlockLogs():
        rd.sanitize(mol, label)
        rd.check_structure(mol, label)
        return graph_of(mol, name or rd.plain_name(mol))


def graph_of(mol: Chem.Mol, name: str) -> Molecule:
    """The molecule of an RDKit molecule that is sanitized and checked, which is used up."""
    Chem.Kekulize(mol, clearAromaticFlags=True)
    bonds = [mol.GetBondWithIdx(n) for n in range(mol.GetNumBonds())]
    listed = sorted((*sorted((b.GetBeginAtomIdx(), b.GetEndAtomIdx())), int(b.GetBondTypeAsDouble())) for b in bonds)
    rows = np.array(listed, dtype=np.int64).reshape(-1, 3)
    atoms = rd.atoms_of(mol)
    atom_names, residue, labels = names_of(mol)
    for number, atom in enumerate(atoms, start=1):
        atom.SetAtomMapNum(number)
    rd.restore_isotopes(mol)
    return Molecule(
        name=name,
        smiles=Chem.MolToSmiles(mol, kekuleSmiles=True),
        numbers=np.array([atom.GetAtomicNum() for atom in atoms], dtype=np.int64),
        charges=np.array([atom.GetFormalCharge() for atom in atoms], dtype=np.int64),
        bonds=rows[:, :2].copy(),
        orders=rows[:, 2].copy(),
        atom_names=atom_names,
        residue=residue,
        labels=labels,
    )


def from_openff(molecule, name: str | None = None) -> Molecule:
    """The molecule of an OpenFF toolkit `Molecule`, in its atom order; the toolkit itself is not imported.

    Raises:
        ChemistryError: as `from_smiles`.
        TypeError: for an object without OpenFF's `to_smiles(mapped=True)`.
    """
    if not hasattr(molecule, "to_smiles") or not hasattr(molecule, "n_atoms"):
        raise TypeError(f"expected an OpenFF Molecule, got {type(molecule).__name__}")
    smiles = molecule.to_smiles(isomeric=True, explicit_hydrogens=True, mapped=True)
    made = from_smiles(smiles, name or getattr(molecule, "name", "") or smiles)
    if made.name == smiles:
        made = dataclasses.replace(made, name=rd.plain_name(sanitized(made)))
    atoms = getattr(molecule, "atoms", ())
    residues = {getattr(atom, "metadata", {}).get("residue_name", "") for atom in atoms}
    residue = residues.pop() if len(residues) == 1 else ""
    symbols = [Chem.GetPeriodicTable().GetElementSymbol(z) for z in made.numbers.tolist()]
    names = unique([getattr(atom, "name", "") for atom in atoms], symbols) if len(atoms) == made.n_atoms else ()
    usable = RESIDUE.fullmatch(residue) and not is_misnamed(residue, made.numbers.tolist())
    return dataclasses.replace(made, atom_names=names, residue=residue if usable else "")


def to_rdkit(molecule: Molecule, xyz: np.ndarray | None = None, isotopes: bool = True) -> Chem.Mol:
    """The sanitized RDKit molecule, explicit hydrogens, same atom order; `xyz (A, 3)` [Å] becomes its conformer.

    Stereochemistry is that of the molecule's SMILES. With `isotopes=False` all atoms are natural,
    and centres that only isotopes make have no stereo.

    Raises:
        ChemistryError: if `xyz` has another shape.
        TypeError: for what is not a molecule.
    """
    check_molecule(molecule)
    mol = Chem.Mol(sanitized(molecule))
    with rdBase.BlockLogs():
        if isotopes:
            rd.restore_isotopes(mol)
        elif molecule.isotopes.any():
            Chem.AssignStereochemistry(mol, cleanIt=True, force=True)
        mol.SetProp("_Name", molecule.name.encode("utf-8", "replace").decode())  # RDKit takes no halves of pairs
        if xyz is not None:
            xyz = np.asarray(magnitude(xyz, "angstrom"), dtype=np.float64)
            if xyz.shape != (molecule.n_atoms, 3):
                raise ChemistryError(
                    f"{molecule.name}: expected coordinates of shape ({molecule.n_atoms}, 3), got {xyz.shape}"
                )
            conformer = Chem.Conformer(molecule.n_atoms)
            conformer.SetPositions(np.ascontiguousarray(xyz))
            mol.AddConformer(conformer, assignId=True)
    return mol


@lru_cache(maxsize=2)  # a molecule is checked, embedded and written one after the other
def sanitized(molecule: Molecule) -> Chem.Mol:
    """The sanitized RDKit molecule, its isotopes noted and not set; it is kept, so it must not be changed."""
    with rdBase.BlockLogs():
        mol = rd.parse_smiles(molecule.smiles)
        assert mol is not None  # it was written by `graph_of`
        places = []
        for atom in rd.atoms_of(mol):
            places.append(atom.GetAtomMapNum())
            atom.SetAtomMapNum(0)
        mol = Chem.RenumberAtoms(mol, np.argsort(places).tolist())
        rd.sanitize(mol, molecule.name)
    return mol


def connectivity_key(molecule: Molecule) -> str:
    """First block of the InChIKey: equal for stereoisomers, and for most tautomers and protonation states.

    Where InChI gives none, a hash of the canonical non-isomeric SMILES is used. The key of a complex is the sorted
    keys of its molecules, joined by `+`.
    """
    check_molecule(molecule)
    with rdBase.BlockLogs():
        mol = rd.parse_smiles(molecule.smiles)  # InChI needs no perception of rings, aromaticity and stereochemistry
        assert mol is not None
        mol.UpdatePropertyCache(strict=False)
        parts = Chem.GetMolFrags(mol, asMols=True, sanitizeFrags=False) if "." in molecule.smiles else [mol]
        return "+".join(sorted(_key_of(part) for part in parts))


def _key_of(mol: Chem.Mol) -> str:
    """Connectivity key of one molecule."""
    key = MolToInchiKey(mol, options="/SNon /AuxNone")
    if key:
        return key.split("-")[0]
    rd.sanitize(mol, "")
    smiles = Chem.MolToSmiles(Chem.RemoveHs(mol), isomericSmiles=False)
    return "X" + hashlib.sha256(smiles.encode()).hexdigest()[:13].upper()
