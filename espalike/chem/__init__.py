"""SMILES, SDF, MOL, MOL2, PDB, mmCIF, RDKit and OpenFF molecules → `Molecule`, with errors that name the molecule.

The order of atoms is that of the input and is never changed. Nothing is repaired silently: input that cannot be used as
it is raises a `ChemistryError`, and remarks on input that was accepted are in `Entry.notes`.
"""

from espalike.chem.charges import read_charges
from espalike.chem.embedding import embed
from espalike.chem.errors import ChemistryError
from espalike.chem.files import Entry, SafeNames, Source, read_any, read_molecules, safe_names, several
from espalike.chem.molecule import connectivity_key, from_file, from_openff, from_rdkit, from_smiles, to_rdkit

__all__ = [
    "ChemistryError",
    "Entry",
    "SafeNames",
    "Source",
    "connectivity_key",
    "embed",
    "from_file",
    "from_openff",
    "from_rdkit",
    "from_smiles",
    "read_any",
    "read_charges",
    "read_molecules",
    "safe_names",
    "several",
    "to_rdkit",
]
