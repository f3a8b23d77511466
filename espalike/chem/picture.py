"""Molecules to be read by people: short SMILES, drawings."""

from __future__ import annotations

from rdkit import Chem
from rdkit.Chem.Draw import rdMolDraw2D

from espalike.chem.convert import to_rdkit
from espalike.types import Molecule


def _plain(molecule: Molecule) -> Chem.Mol:
    """Without map numbers and hydrogens."""
    mol = Chem.RemoveHs(to_rdkit(molecule))
    for atom in mol.GetAtoms():
        atom.SetAtomMapNum(0)
    return mol


def plain_smiles(molecule: Molecule) -> str:
    """SMILES without map numbers and hydrogens."""
    return Chem.MolToSmiles(_plain(molecule))


def drawing(molecule: Molecule, width: int = 220, height: int = 160) -> str:
    """Structural formula as SVG."""
    drawer = rdMolDraw2D.MolDraw2DSVG(width, height)
    rdMolDraw2D.PrepareAndDrawMolecule(drawer, _plain(molecule))
    drawer.FinishDrawing()
    return drawer.GetDrawingText()
