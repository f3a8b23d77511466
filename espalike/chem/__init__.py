"""SMILES, SDF, MOL, MOL2, PDB, RDKit and OpenFF molecules → `Molecule`, with errors that name the molecule.

Atom order is the input's and is never changed. Nothing is silently repaired: what cannot be taken as it stands is a
`ChemistryError`, what was taken with a remark is an `Entry.notes`.
"""

from espalike.chem.charges import read_charges
from espalike.chem.errors import ChemistryError
from espalike.chem.files import Entry, from_file, read_molecules, safe_names
from espalike.chem.molecule import connectivity_key, embed, from_openff, from_rdkit, from_smiles, stereo_notes, to_rdkit

__all__ = [
    "ChemistryError",
    "Entry",
    "connectivity_key",
    "embed",
    "from_file",
    "from_openff",
    "from_rdkit",
    "from_smiles",
    "read_charges",
    "read_molecules",
    "safe_names",
    "stereo_notes",
    "to_rdkit",
]
