"""What the tests of the bridge share."""

import numpy as np
from rdkit import Chem
from rdkit.Chem import rdForceFieldHelpers

from espalike.chem import embed, from_smiles, to_rdkit

NMA = from_smiles("CC(=O)NC", "N-methylacetamide")
ETHANOL = from_smiles("CCO", "ethanol")


def perturbed(molecule, count=1, seed=0):
    """Geometries [Å] `(count, A, 3)` around a conformer."""
    return embed(molecule, 1)[0] + np.random.default_rng(seed).normal(0, 0.05, (count, molecule.n_atoms, 3))


def mmff94(molecule, xyz):
    """Energy [kcal/mol] and forces [kcal/mol/Å] by RDKit itself."""
    mol = to_rdkit(molecule, xyz)
    Chem.SanitizeMol(mol)
    field = rdForceFieldHelpers.MMFFGetMoleculeForceField(mol, rdForceFieldHelpers.MMFFGetMoleculeProperties(mol))
    energy = field.CalcEnergy()
    return energy, -np.reshape(field.CalcGrad(), (-1, 3))
