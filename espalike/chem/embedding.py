"""Geometries of a molecule from its graph: distance geometry, with fallbacks for strained rings."""

from __future__ import annotations

import numpy as np
from rdkit import Chem, rdBase
from rdkit.Chem import rdDistGeom
from rdkit.Chem import rdForceFieldHelpers as force_fields

from espalike.chem.errors import ChemistryError
from espalike.chem.graphs import RADII, numbers_of
from espalike.chem.molecule import Molecule, check_molecule, to_rdkit
from espalike.chem.stereo import assign_from_coordinates

_PLAIN = {"useRandomCoords": True, "useExpTorsionAnglePrefs": False, "useBasicKnowledge": False}
_ATTEMPTS: tuple[tuple[int, dict[str, bool]], ...] = (
    (1, {}),
    (1, {"useRandomCoords": True}),
    (1, {**_PLAIN, "ignoreSmoothingFailures": True}),
    (10, {**_PLAIN, "ignoreSmoothingFailures": True, "onlyInitialEmbedding": True}),
)
"""Settings of RDKit's distance geometry, in this order, and the number of geometries to choose each from.

The last two leave out what RDKit knows of usual rings and angles; a force field corrects their geometries.
"""
_ITERATIONS = 50
_LONGEST, _SHORTEST = 1.35, 0.6
"""Limits of a possible bond, relative to the sum of the covalent radii; two atoms that are not bonded may be as near as
the shortest bond."""


def embed(molecule: Molecule, n: int = 1, seed: int = 0) -> np.ndarray:
    """Geometries by distance geometry (ETKDGv3) [Å], shape `(n, A, 3)`, float64.

    Where RDKit finds none (cages, bridged rings, bent alkynes), it is asked again without its knowledge of usual
    geometries, and MMFF94 or UFF corrects what it finds.

    Raises:
        ChemistryError: if no geometry with the molecule's bonds and stereochemistry is found.
        TypeError: for what is not a molecule.
    """
    check_molecule(molecule)
    if molecule.n_atoms == 1:
        return np.zeros((n, 1, 3))
    with rdBase.BlockLogs():
        for number, (choices, settings) in enumerate(_ATTEMPTS):
            mol = to_rdkit(molecule)
            params = rdDistGeom.ETKDGv3()
            params.randomSeed, params.maxIterations = seed, _ITERATIONS  # type: ignore[assignment]
            # otherwise RDKit's seeds are multiples of `seed`: all of them 0, and all geometries alike
            params.enableSequentialRandomSeeds = seed == 0  # type: ignore[assignment]
            for name, value in settings.items():
                setattr(params, name, value)
            ids = list(rdDistGeom.EmbedMultipleConfs(mol, n * choices, params))
            if number > 1 and ids:
                ids = _corrected(mol, ids, molecule.bonds)
            if len(ids) >= n:
                return np.stack([mol.GetConformer(i).GetPositions() for i in ids[:n]])
    raise ChemistryError(f"{molecule.name}: distance geometry gives no geometry; is its stereochemistry possible?")


def _corrected(mol: Chem.Mol, ids: list[int], bonds: np.ndarray) -> list[int]:
    """The geometries that have the molecule's bonds and stereochemistry after a minimisation."""
    if force_fields.MMFFHasAllMoleculeParams(mol):
        force_fields.MMFFOptimizeMoleculeConfs(mol, maxIters=2000)
    elif force_fields.UFFHasAllMoleculeParams(mol):
        force_fields.UFFOptimizeMoleculeConfs(mol, maxIters=2000)
    radius = RADII[numbers_of(mol)]
    sums, low = radius[:, None] + radius, np.full((len(radius), len(radius)), _SHORTEST)
    np.fill_diagonal(low, 0.0)
    good = []
    for number in ids:
        xyz = mol.GetConformer(number).GetPositions()
        ratio = np.linalg.norm(xyz[:, None] - xyz[None], axis=-1) / sums
        if (ratio >= low).all() and (ratio[bonds[:, 0], bonds[:, 1]] <= _LONGEST).all():
            actual = Chem.Mol(mol, confId=number)
            assign_from_coordinates(actual, number)
            if actual.HasSubstructMatch(mol, useChirality=True):
                good.append(number)
    return good
