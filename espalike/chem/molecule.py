"""A molecule as a graph, made from SMILES, RDKit and OpenFF molecules, and turned back into them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from rdkit import Chem, rdBase
from rdkit.Chem import rdDistGeom, rdqueries
from rdkit.Chem.inchi import MolToInchiKey

from espalike.chem.errors import ChemistryError

_COVALENT = {1, 5, 6, 7, 8, 9, 14, 15, 16, 17, 35, 53}
_METAL_IONS = {3: 1, 11: 1, 19: 1, 12: 2, 20: 2, 30: 2}
BOND_TYPES = {1: Chem.BondType.SINGLE, 2: Chem.BondType.DOUBLE, 3: Chem.BondType.TRIPLE}

# Queries are answered in one call, where a loop asks each atom in several: most molecules have none of these
_ODD_ATOM = Chem.MolFromSmarts(f"[{''.join(f'!#{number}' for number in sorted(_COVALENT))}]")
_ODD_BOND = Chem.MolFromSmarts("*!-;!=;!#;!:*")
_ISOTOPE = Chem.MolFromSmarts("[!0*]")
_RADICAL = rdqueries.NumRadicalElectronsGreaterQueryAtom(0)

_AS_WRITTEN = Chem.SmilesParserParams()
_AS_WRITTEN.removeHs = False  # type: ignore[assignment]  # RDKit's stubs take the parameter for the property's type
_AS_WRITTEN.sanitize = False  # type: ignore[assignment]


@dataclass(frozen=True, eq=False)
class Molecule:
    """A molecular graph: no coordinates, nothing learned. Atom order is the user's and is never changed.

    Attributes:
        name: what messages and files call it.
        smiles: mapped SMILES with explicit hydrogens; map number i+1 is atom i.
        numbers: atomic numbers, shape `(A,)`, int64.
        charges: formal charges [e], shape `(A,)`, int64.
        bonds: atom index pairs, each row sorted `i<j`, rows sorted, shape `(B, 2)`, int64.
        orders: Kekulé bond orders (1, 2, 3), shape `(B,)`, int64.
    """

    name: str
    smiles: str
    numbers: np.ndarray
    charges: np.ndarray
    bonds: np.ndarray
    orders: np.ndarray

    @property
    def n_atoms(self) -> int:
        """Number of atoms, hydrogens included."""
        return len(self.numbers)

    @property
    def net_charge(self) -> int:
        """Sum of formal charges [e]."""
        return int(self.charges.sum())

    @staticmethod
    def from_smiles(smiles: str, name: str | None = None) -> Molecule:
        """Molecule of a SMILES, mapped or not; see `espalike.chem.from_smiles`."""
        return from_smiles(smiles, name)

    @staticmethod
    def from_file(path, smiles: str | None = None) -> Molecule:
        """The one molecule of an SDF, MOL, MOL2, PDB or SMI file; see `espalike.chem.from_file`."""
        from espalike.chem.files import from_file

        return from_file(path, smiles=smiles)


def from_smiles(smiles: str, name: str | None = None) -> Molecule:
    """The molecule of a SMILES.

    A mapped SMILES keeps its map order: map number i + 1 is atom i, and every atom, hydrogens included, carries one.
    An unmapped SMILES keeps the order of its heavy atoms; implicit hydrogens follow after them.

    Raises:
        ChemistryError: for what cannot be read or is not supported, naming the molecule.
    """
    name = name or shorten(smiles)
    with rdBase.BlockLogs():
        mol = _parse(smiles.strip()) if smiles.strip() else None
        if mol is None:
            raise ChemistryError(f"{name}: {shorten(smiles)!r} is not a valid SMILES")
        atoms = _atoms(mol)
        maps = [atom.GetAtomMapNum() for atom in atoms]
        _forget_labels(mol, atoms)
        sanitize(mol, name)
        if not any(maps):
            return from_rdkit(Chem.AddHs(mol), name)
        implicit = _lacks_hydrogens(mol)
        if implicit or sorted(maps) != list(range(1, len(maps) + 1)):
            raise ChemistryError(
                f"{name}: a mapped SMILES must number every atom, hydrogens included, 1…{len(maps)} once; "
                f"got {sorted(maps)}{' and implicit hydrogens' if implicit else ''}. Remove or complete them"
            )
        order = sorted(range(len(maps)), key=maps.__getitem__)
        return _from_sanitized(Chem.RenumberAtoms(mol, order), name)


def shorten(text: str, length: int = 80) -> str:
    """The beginning of a text, for names and messages."""
    return text if len(text) <= length else f"{text[: length - 1]}…"


def _atoms(mol: Chem.Mol) -> list[Chem.Atom]:
    """The atoms; RDKit's own iterator asks for the number of atoms at each step."""
    return [mol.GetAtomWithIdx(i) for i in range(mol.GetNumAtoms())]


def _forget_labels(mol: Chem.Mol, atoms: list[Chem.Atom]) -> None:
    """Take away map numbers and isotopes: like atoms are alike then, for stereochemistry too."""
    for atom in atoms:
        atom.SetAtomMapNum(0)
    if mol.HasSubstructMatch(_ISOTOPE):
        for atom in atoms:
            atom.SetIsotope(0)


def _lacks_hydrogens(mol: Chem.Mol) -> bool:
    return mol.GetNumAtoms(onlyExplicit=False) > mol.GetNumAtoms()


def _parse(smiles: str) -> Chem.Mol | None:
    return Chem.MolFromSmiles(smiles, _AS_WRITTEN)


def sanitize(mol: Chem.Mol, name: str) -> None:
    """RDKit's sanitization in place, its complaints turned into a `ChemistryError` with 1-based atom numbers."""
    _check_input(mol, name)
    try:
        Chem.SanitizeMol(mol)
        Chem.AssignStereochemistry(mol, cleanIt=True, force=True)
    except Chem.AtomValenceException as error:
        atom = mol.GetAtomWithIdx(error.cause.GetAtomIdx())  # type: ignore[attr-defined]
        charge = f" of charge {atom.GetFormalCharge():+d}" if atom.GetFormalCharge() else ""
        raise ChemistryError(
            f"{name}: atom {atom.GetIdx() + 1} ({atom.GetSymbol()}{charge}) has more bonds than its valence allows; "
            "check bond orders and formal charges"
        ) from error
    except (Chem.MolSanitizeException, ValueError, RuntimeError) as error:
        raise ChemistryError(f"{name}: not a valid structure ({str(error).strip()})") from error


def from_rdkit(mol: Chem.Mol, name: str | None = None) -> Molecule:
    """The molecule of an RDKit molecule with explicit hydrogens, in its atom order. The argument is not changed.

    Raises:
        ChemistryError: for radicals, unsupported elements, several fragments, missing hydrogens, odd bonds.
    """
    if name is None:
        name = mol.GetProp("_Name").strip() if mol.HasProp("_Name") else ""
    with rdBase.BlockLogs():
        mol = Chem.Mol(mol)
        if not mol.GetNumAtoms():
            raise ChemistryError(f"{name or 'molecule'}: no atoms")
        label = name or f"molecule of {mol.GetNumAtoms()} atoms"
        _forget_labels(mol, _atoms(mol))
        sanitize(mol, label)
        return _from_sanitized(mol, name, label)


def _from_sanitized(mol: Chem.Mol, name: str, label: str = "") -> Molecule:
    """The molecule of a sanitized RDKit molecule without map numbers and isotopes, which is used up."""
    _check_structure(mol, label or name)
    name = name or shorten(Chem.MolToSmiles(Chem.RemoveHs(mol)))
    Chem.Kekulize(mol, clearAromaticFlags=True)
    orders = Chem.GetAdjacencyMatrix(mol, useBO=True, force=True)
    i, j = np.nonzero(orders)
    i, j = i[i < j], j[i < j]
    atoms = _atoms(mol)
    for number, atom in enumerate(atoms, start=1):
        atom.SetAtomMapNum(number)
    return Molecule(
        name=name,
        smiles=Chem.MolToSmiles(mol, kekuleSmiles=True),
        numbers=np.array([atom.GetAtomicNum() for atom in atoms], dtype=np.int64),
        charges=np.array([atom.GetFormalCharge() for atom in atoms], dtype=np.int64),
        bonds=np.array([i, j]).T.copy(),
        orders=orders[i, j].astype(np.int64),
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
    return from_smiles(smiles, name or getattr(molecule, "name", "") or smiles)


def _check_input(mol: Chem.Mol, name: str) -> None:
    if mol.HasSubstructMatch(_ODD_BOND):
        odd = next(b for b in mol.GetBonds() if b.GetBondType() not in (*BOND_TYPES.values(), Chem.BondType.AROMATIC))
        ends = odd.GetBeginAtomIdx() + 1, odd.GetEndAtomIdx() + 1
        raise ChemistryError(
            f"{name}: bond {ends[0]}-{ends[1]} is of type {odd.GetBondType().name.lower()}; supported are single, "
            "double, triple and aromatic bonds. Draw a dative bond as a single one between formal charges"
        )
    for i in sorted(i for (i,) in mol.GetSubstructMatches(_ODD_ATOM)):
        atom = mol.GetAtomWithIdx(i)
        number, charge, label = atom.GetAtomicNum(), atom.GetFormalCharge(), f"atom {i + 1}"
        if number not in _METAL_IONS:
            what = atom.GetSymbol() if number else "no element (a query or dummy atom)"
            raise ChemistryError(
                f"{name}: {label} is {what}; supported are H B C N O F Si P S Cl Br I "
                "and the ions Li+ Na+ K+ Mg2+ Ca2+ Zn2+"
            )
        if atom.GetDegree() or charge != _METAL_IONS[number]:
            raise ChemistryError(
                f"{name}: {label} is {atom.GetSymbol()} with charge {charge:+d} and {atom.GetDegree()} bonds; "
                f"it is supported as a free ion of charge {_METAL_IONS[number]:+d} only"
            )


def _check_structure(mol: Chem.Mol, name: str) -> None:
    if _lacks_hydrogens(mol):
        missing = [atom.GetIdx() for atom in _atoms(mol) if atom.GetTotalNumHs()]
        count = sum(mol.GetAtomWithIdx(i).GetTotalNumHs() for i in missing)
        raise ChemistryError(
            f"{name}: hydrogens are missing ({count} of them, first on atom {missing[0] + 1}); give all atoms "
            "explicitly, for example with RDKit's `Chem.AddHs(mol, addCoords=True)`, or give a SMILES"
        )
    for atom in mol.GetAtomsMatchingQuery(_RADICAL):
        raise ChemistryError(
            f"{name}: atom {atom.GetIdx() + 1} ({atom.GetSymbol()}) has {atom.GetNumRadicalElectrons()} unpaired "
            "electron(s); radicals are not supported. Check formal charges and missing hydrogens"
        )
    fragments = Chem.GetMolFrags(mol)
    if len(fragments) > 1:
        raise ChemistryError(
            f"{name}: {len(fragments)} disconnected fragments of {', '.join(str(len(f)) for f in fragments)} atoms; "
            "expected one molecule. Give each its own record"
        )


def to_rdkit(molecule: Molecule, xyz: np.ndarray | None = None) -> Chem.Mol:
    """The sanitized RDKit molecule, explicit hydrogens, same atom order; `xyz (A, 3)` [Å] becomes its conformer.

    Stereochemistry is that of the molecule's SMILES.

    Raises:
        ChemistryError: if `xyz` has another shape.
    """
    with rdBase.BlockLogs():
        mol = _parse(molecule.smiles)
        assert mol is not None  # it was written by `from_rdkit`
        mol = Chem.RenumberAtoms(mol, np.argsort([atom.GetAtomMapNum() for atom in mol.GetAtoms()]).tolist())
        for atom in mol.GetAtoms():
            atom.SetAtomMapNum(0)
        sanitize(mol, molecule.name)
        mol.SetProp("_Name", molecule.name)
        if xyz is not None:
            xyz = np.asarray(xyz, dtype=np.float64)
            if xyz.shape != (molecule.n_atoms, 3):
                raise ChemistryError(
                    f"{molecule.name}: expected coordinates of shape ({molecule.n_atoms}, 3), got {xyz.shape}"
                )
            conformer = Chem.Conformer(molecule.n_atoms)
            conformer.SetPositions(np.ascontiguousarray(xyz))
            mol.AddConformer(conformer, assignId=True)
    return mol


def embed(molecule: Molecule, n: int = 1, seed: int = 0) -> np.ndarray:
    """Geometries by distance geometry (ETKDGv3) [Å], shape `(n, A, 3)`, float64.

    Raises:
        ChemistryError: if RDKit finds no geometry.
    """
    if molecule.n_atoms == 1:
        return np.zeros((n, 1, 3))
    mol = to_rdkit(molecule)
    params = rdDistGeom.ETKDGv3()
    params.randomSeed = seed  # type: ignore[assignment]
    with rdBase.BlockLogs():
        for random_coordinates in (False, True):
            params.useRandomCoords = random_coordinates  # type: ignore[assignment]
            ids = list(rdDistGeom.EmbedMultipleConfs(mol, n, params))
            if len(ids) == n:
                return np.stack([mol.GetConformer(i).GetPositions() for i in ids])
    raise ChemistryError(f"{molecule.name}: no geometry found by distance geometry; is its stereochemistry possible?")


def connectivity_key(molecule: Molecule) -> str:
    """First block of the InChIKey: equal for stereoisomers, and for most tautomers and protonation states.

    Where InChI gives none, a hash of the canonical non-isomeric SMILES stands in. Of a complex it is the sorted keys of
    its molecules, joined by `+`.
    """
    with rdBase.BlockLogs():
        mol = _parse(molecule.smiles)  # InChI needs no perception of rings, aromaticity and stereochemistry
        assert mol is not None
        mol.UpdatePropertyCache(strict=False)
        parts = Chem.GetMolFrags(mol, asMols=True, sanitizeFrags=False) if "." in molecule.smiles else [mol]
        return "+".join(sorted(_key_of(part) for part in parts))


def _key_of(mol: Chem.Mol) -> str:
    """Connectivity key of one molecule."""
    key = MolToInchiKey(mol, options="/SNon /AuxNone")
    if key:
        return key.split("-")[0]
    _forget_labels(mol, _atoms(mol))
    Chem.SanitizeMol(mol)
    smiles = Chem.MolToSmiles(Chem.RemoveHs(mol), isomericSmiles=False)
    return "X" + hashlib.sha256(smiles.encode()).hexdigest()[:13].upper()


def stereo_notes(molecule: Molecule) -> tuple[str, ...]:
    """A note if stereocentres or stereo bonds are undefined, which is accepted: parameters do not depend on them."""
    with rdBase.BlockLogs():
        found = Chem.FindPotentialStereo(to_rdkit(molecule))
    open_ends = [info for info in found if info.specified == Chem.StereoSpecified.Unspecified]
    if not open_ends:
        return ()
    kinds = [info.type == Chem.StereoType.Bond_Double for info in open_ends]
    return (
        f"undefined stereo: {len(kinds) - sum(kinds)} atoms, {sum(kinds)} double bonds; parameters do not depend on it",
    )
