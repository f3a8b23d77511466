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
