"""Short SMILES and drawings of molecules, for reports."""

from __future__ import annotations

from rdkit import Chem
from rdkit.Chem.Draw import rdMolDraw2D

from espalike.chem.molecule import Molecule, to_rdkit


def plain_smiles(molecule: Molecule) -> str:
    """SMILES without map numbers and hydrogens."""
    mol = Chem.RemoveHs(to_rdkit(molecule))
    for atom in mol.GetAtoms():
        atom.SetAtomMapNum(0)
    return Chem.MolToSmiles(mol)


def drawing(smiles: str, width: int = 220, height: int = 160) -> str:
    """Structural formula of a SMILES as SVG."""
    drawer = rdMolDraw2D.MolDraw2DSVG(width, height)
    rdMolDraw2D.PrepareAndDrawMolecule(drawer, Chem.MolFromSmiles(smiles))
    drawer.FinishDrawing()
    return drawer.GetDrawingText()


def numbered(molecule: Molecule, bond: tuple[int, int] | None = None, width: int = 320, height: int = 240) -> str:
    """Structural formula as SVG: with the numbers of its heavy atoms, counted from 0, or with one bond marked."""
    mol = to_rdkit(molecule)
    for atom in mol.GetAtoms():
        atom.SetIntProp("number", atom.GetIdx())
        atom.SetAtomMapNum(0)
    mol = Chem.RemoveHs(mol)
    now = {atom.GetIntProp("number"): atom.GetIdx() for atom in mol.GetAtoms()}
    marked = [now[i] for i in bond or () if i in now]
    bonds = [mol.GetBondBetweenAtoms(*marked).GetIdx()] if len(marked) == 2 else []
    if bond is None:
        for atom in mol.GetAtoms():
            atom.SetProp("atomNote", str(atom.GetIntProp("number")))
    drawer = rdMolDraw2D.MolDraw2DSVG(width, height)
    rdMolDraw2D.PrepareAndDrawMolecule(drawer, mol, highlightAtoms=marked, highlightBonds=bonds)
    drawer.FinishDrawing()
    return drawer.GetDrawingText()
