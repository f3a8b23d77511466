"""Geometries of strained molecules: bonds, stereochemistry, and an error where there is none."""

import numpy as np
import pytest
from rdkit import Chem

from espalike import chem

STRAINED = {
    "[1.1.1]propellane": "C1C23CC1(C2)C3",
    "[5]paracyclophane": "C1CCCCc2ccc1cc2",
    "cycloheptyne": "C1CCC#CCC1",
    "cyclopropyne": "C1C#C1",
    "a hydrogen inside a cage": "[H][C@]12CCC[C@@]([H])(CCC1)CCC2",
    "trans-cycloheptene": "C1CCC/C=C/CC1",
    "C60": "c12c3c4c5c1c1c6c7c2c2c8c3c3c9c4c4c%10c5c5c1c1c6c6c%11c7c2c2c7c8c3c3c8c9c4c4c9c%10c5c5c1c1c6c6c%11c2c2c7c3c3"
    "c8c4c4c9c5c1c1c6c2c3c41",
}


@pytest.mark.parametrize("name", STRAINED)
def test_strained_molecules_have_geometries_with_their_bonds_and_stereochemistry(name):
    molecule = chem.from_smiles(STRAINED[name], name)
    size = 1 if name == "C60" else 2
    geometries = chem.embed(molecule, size, seed=5)
    assert geometries.shape == (size, molecule.n_atoms, 3)
    for xyz in geometries:
        distance = np.linalg.norm(xyz[:, None] - xyz[None], axis=-1) + 9.0 * np.eye(molecule.n_atoms)
        bonded = distance[molecule.bonds[:, 0], molecule.bonds[:, 1]]
        assert bonded.min() > 0.9
        assert bonded.max() < 1.8
        assert distance.min() == bonded.min()
        mol = chem.to_rdkit(molecule, xyz)
        Chem.AssignStereochemistryFrom3D(mol)
        assert mol.HasSubstructMatch(chem.to_rdkit(molecule), useChirality=True)


def test_impossible_stereochemistry_is_refused_in_time():
    with pytest.raises(chem.ChemistryError, match="distance geometry gives no geometry; is its stereochemistry"):
        chem.embed(chem.from_smiles("C1C[C@@H]2C[C@@H]1C2"))  # trans-bicyclo[2.1.1]hexane


@pytest.mark.parametrize("seed", [0, 1])
def test_geometries_differ_and_the_first_is_that_of_one_alone(seed):
    molecule = chem.from_smiles("CCCC")
    geometries = chem.embed(molecule, 3, seed)
    for i, j in ((0, 1), (0, 2), (1, 2)):
        assert np.abs(geometries[i] - geometries[j]).max() > 0.1
    assert np.array_equal(geometries[0], chem.embed(molecule, 1, seed)[0])
